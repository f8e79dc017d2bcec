/* gguf_model: what a GGUF file's keys and tensors mean. Inner parts of var_source_read_gguf. */
#ifndef VAR_GGUF_MODEL_H
#define VAR_GGUF_MODEL_H

#include "variants/architecture.h"
#include "variants/gguf.h"

/* What the functions pass along. */
struct gguf_reader {
    struct gguf_file *f;
    struct var_source *src;
    struct ert_error *err;
    const struct var_architecture *architecture; /* known after general.architecture was read */
};

/* A key that begins with the architecture's name: "llama.block_count". */
struct gguf_key {
    char text[80];
};
struct gguf_key gguf_own_key(const struct gguf_reader *r, const char *name);

/* Values of keys; each fails with a sentence that names the key, its offset and what was expected.
 */

/* A number of at most 32 bits; NULL fallback: the key must be there. */
int gguf_get_u32(const struct gguf_reader *r, const char *key, const uint32_t *fallback,
                 uint32_t *out);
/* NAN as fallback: the key must be there. */
int gguf_get_f32(const struct gguf_reader *r, const char *key, float fallback, float *out);
int gguf_get_bool(const struct gguf_reader *r, const char *key, bool fallback, bool *out);
/* A string of at most max bytes, none of them 0; {NULL, 0} where the key is missing. */
int gguf_get_text(const struct gguf_reader *r, const char *key, size_t max, struct gguf_text *out);
/* v: NULL if the key is missing. */
int gguf_fail_key(const struct gguf_reader *r, const char *key, const struct gguf_value *v,
                  const char *expected);

bool gguf_value_u64(const struct gguf_value *v, uint64_t *out); /* false: no number, or negative */
bool gguf_text_is(struct gguf_text t, const char *word);

/* Fills src->vocab, src->store and src->chat_template. */
int gguf_read_vocab(const struct gguf_reader *r);

#endif
