/* tokenizer: text to ids and back. Byte-level BPE (GPT-2 family) and SentencePiece-style BPE. */
#ifndef RT_TOKENIZER_H
#define RT_TOKENIZER_H

#include <jansson.h>

#include "base/base.h"

enum rt_token_type {
    RT_TOKEN_NORMAL = 1,
    RT_TOKEN_UNKNOWN,
    RT_TOKEN_CONTROL,
    RT_TOKEN_USER,
    RT_TOKEN_UNUSED,
    RT_TOKEN_BYTE,
};

/* A vocabulary as a GGUF file or a pack holds it. The pointers stay the owner's; the tokenizer
 * reads them for as long as it lives. Texts are not NUL-terminated: token i is
 * text[offset[i]..offset[i+1]). */
struct rt_vocab {
    uint32_t n_tokens, n_merges;
    const uint32_t *offset; /* [n_tokens + 1], checked rising by the reader */
    const char *text;
    const float *score;  /* [n_tokens] or NULL */
    const uint8_t *type; /* [n_tokens], enum rt_token_type, or NULL = bos and eos control, unk
                          * unknown, "<0x0A>" a byte if the model is "llama", others normal */
    const uint32_t (*merge)[2]; /* [n_merges] ids of left and right part, by rank; a "llama" model
                                 * without any merges by score */
    char model[16];             /* "gpt2" or "llama" (GGUF's tokenizer.ggml.model) */
    char pre[32];               /* GGUF's tokenizer.ggml.pre; "" = default */
    int32_t bos, unk;           /* -1 = none */
    int32_t eos[8];             /* ids that end an answer */
    uint32_t n_eos;
    bool add_bos;
    bool nfc; /* text is normalized to Unicode's form C first ("gpt2" models) */
    /* "llama" models: a space goes before each stretch of text between special tokens; _if_needed:
     * unless it begins with one; _once: only where the text begins. */
    bool add_space_prefix, prefix_if_needed, prefix_once;
};

/* Reads the VOCAB section of a pack and the "tokenizer" object of its META (docs/pack-format.md).
 * All counts, offsets, ids, types and scores are checked; v points into section, which must be
 * 4-byte aligned and outlive it. ERT_E_FORMAT says what is wrong and where; v is then not to be
 * used. */
int rt_vocab_parse(struct rt_vocab *v, const void *section, size_t size,
                   const json_t *tokenizer_meta, struct ert_error *err);

struct rt_tokenizer;

/* Builds the tables; vocab itself is copied, what it points to must outlive *t. Immutable
 * afterwards: threads may share it. ERT_E_UNSUPPORTED names an unknown model or pre-tokenizer and
 * lists the known ones. */
int rt_tokenizer_create(struct rt_tokenizer **t, const struct rt_vocab *vocab,
                        struct ert_error *err);
void rt_tokenizer_free(struct rt_tokenizer *t);

enum { RT_MAX_TEXT = 1 << 28 }; /* bytes that one call encodes at most */

enum {
    RT_ENCODE_SPECIAL =
        1,             /* texts of control tokens become those tokens; else they are plain text */
    RT_ENCODE_BOS = 2, /* put BOS first if the vocabulary asks for it */
};

/* Text of n bytes (any bytes: each one that is not part of valid UTF-8 counts as U+FFFD for the
 * byte-level models, as llama.cpp does, and is a byte token in the others). User-defined tokens are
 * always found. A byte that the vocabulary has no token for is the unknown token in "llama" models
 * and is left out in "gpt2" ones, as Hugging Face's tokenizers do. *ids is allocated and the caller
 * frees it. ERT_E_RANGE: more than RT_MAX_TEXT bytes, or a text beyond the regex engine's limits.
 */
int rt_encode(const struct rt_tokenizer *t, const char *text, size_t n, unsigned flags,
              int32_t **ids, size_t *n_ids, struct ert_error *err);

/* The bytes a token stands for (may be half a character); control and unknown tokens, and ids
 * outside the vocabulary, give "" (the first two their text if special). Returns their number, of
 * which at most room are written. */
size_t rt_decode_token(const struct rt_tokenizer *t, int32_t id, bool special, char *out,
                       size_t room);

bool rt_is_eos(const struct rt_tokenizer *t, int32_t id);
/* The id of a token by its exact text, -1 if there is none. */
int32_t rt_find_token(const struct rt_tokenizer *t, const char *text, size_t n);

/* Streaming: holds bytes back until they complete a character. init to zero. */
struct rt_utf8_stream {
    char held[4];
    unsigned n_held;
};
/* Adds n bytes; writes what is complete to out (room >= 3 * n + 12), invalid bytes as U+FFFD;
 * returns the length. flush writes U+FFFD for an unfinished rest. */
size_t rt_utf8_push(struct rt_utf8_stream *s, const char *bytes, size_t n, char *out);
size_t rt_utf8_flush(struct rt_utf8_stream *s, char *out);

/* ---- chat ---------------------------------------------------------------------------------- */

struct rt_message {
    const char *role; /* "system", "user", "assistant" */
    const char *text;
};

/* The known chat formats: recognised from the GGUF's Jinja template by its markers (a table in
 * chat.c; no Jinja interpreter). Returns NULL if none fits: the caller then feeds the plain prompt.
 */
struct rt_chat_format;
const struct rt_chat_format *rt_chat_recognise(const char *jinja_template);
const char *rt_chat_name(const struct rt_chat_format *f);

/* Renders messages (with the opening of the assistant's turn at the end if open_answer) as the
 * template would, its default system message included; *text is the caller's to free. The result is
 * to be encoded with RT_ENCODE_SPECIAL; message texts must not smuggle control tokens in, so spans
 * holds *n_spans (offset, length) pairs of text that came from messages (to be encoded as plain).
 */
struct rt_span {
    size_t offset, length;
};
int rt_chat_render(const struct rt_chat_format *f, const struct rt_message *messages, size_t n,
                   bool open_answer, char **text, struct rt_span **spans, size_t *n_spans,
                   struct ert_error *err);
/* Renders and encodes: control tokens of the format, plain text of the messages. */
int rt_chat_encode(const struct rt_tokenizer *t, const struct rt_chat_format *f,
                   const struct rt_message *messages, size_t n, bool open_answer, int32_t **ids,
                   size_t *n_ids, struct ert_error *err);

#endif
