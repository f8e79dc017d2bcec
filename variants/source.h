/* source: a model file being read, whatever its format: hyperparameters, vocabulary and weights
 * that come out as float rows. The inner side of the room; variants.h is the door. */
#ifndef VAR_SOURCE_H
#define VAR_SOURCE_H

#include "runtime/pack.h"

/* How the numbers of a tensor are stored (GGUF's types; tensor_types.def). A row is cols / block
 * blocks of `bytes` bytes. */
struct var_type {
    const char *name;
    uint32_t id;           /* GGUF's number */
    uint32_t block, bytes; /* weights and bytes per block */
    uint32_t bits;         /* of a weight's own code */
    bool grid;             /* 16 levels per group of 32: a quantizer can find them again */
    void (*dequantize)(const uint8_t *in, size_t n_blocks, float *out);
};

enum { VAR_TYPE_NUMBERS = 42 }; /* GGUF's numbers are below */

/* The type of GGUF's number, NULL if unknown here. */
const struct var_type *var_type_of(uint32_t id);
/* Name of any type GGUF defines or once defined, read here or not; NULL if it has none. */
const char *var_type_name(uint32_t id);
/* The names of all types read here, "F32, F16, ...", into text[room]. */
void var_type_list(char *text, size_t room);

/* A matrix [rows][cols] or, with rows 1, a vector of the source; data points into the mapping. One
 * that the model has not is all zero: no type, no data, no rows. */
struct var_tensor {
    const char *name; /* the source's word for it, for errors */
    const struct var_type *type;
    const uint8_t *data;
    uint32_t rows, cols;
    /* 0: the rows (of a vector: the values) lie in order. Else the width of a head whose RoPE pairs
     * (2p, 2p + 1) the file holds as halves, at p and p + halves / 2. A vector of halves has a type
     * of one value per block. */
    uint32_t halves;
};

/* Row `row` as cols floats, exactly what the file says (bit-equal to gguf-py's dequantize), pairs
 * side by side whatever the file's order. */
void var_tensor_row(const struct var_tensor *t, uint32_t row, float *out);

/* Takes a tensor's pages out of this process's memory; reading it again brings them back. What is
 * mapped counts as memory in use, and a model may be larger than that. */
void var_tensor_forget(const struct var_tensor *t);

/* The tensors of a layer (parts.def). Biases and norms of heads are there in some models only. */
enum var_part {
#define P(id, gguf, hf, rows, cols, turned, need) VAR_##id,
#include "variants/parts.def"
#undef P
    VAR_N_PARTS
};

struct var_source_layer {
    struct var_tensor part[VAR_N_PARTS];
};

/* The vocabulary's memory; struct rt_vocab in var_source points at it. */
struct var_vocab_store {
    uint32_t *offset;
    char *text;
    float *score;
    uint8_t *type;
    uint32_t (*merge)[2];
};

struct var_source {
    char *path;
    struct ert_map *maps; /* [n_maps] the files that hold the weights */
    uint32_t n_maps;
    struct rt_model model; /* pads included */
    struct rt_vocab vocab;
    struct var_vocab_store store;
    char *chat_template;  /* "" if none */
    char type[16];        /* the type most weights of the layers have */
    bool grid;            /* that type has 16 levels per group of 32 */
    uint32_t n_ctx_whole; /* the context before a sliding window limited model.n_ctx to itself; 0 =
                             none did */
    struct var_tensor embed, head, norm_final; /* head is embed when tied */
    float *rope_factors; /* [head_dim / 2] what RoPE's frequencies are divided by; NULL: all 1 */
    struct var_source_layer *layers; /* [model.n_layers] */
    char *names;                     /* storage of tensor names that the file does not hold */
};

/* Opens a GGUF file, a Hugging Face folder, or a llama2.c model if tokenizer is given. Rows of Q
 * and K, and the values of their biases and norms, come as RoPE pairs (2p, 2p + 1). Errors name
 * file, key or tensor, offset, what was expected and what to do; nothing is left allocated then. */
int var_source_open(struct var_source **source, const char *path, const char *tokenizer,
                    struct ert_error *err);
void var_source_free(struct var_source *source); /* NULL is fine */

/* XXH64 of the files of its weights. */
uint64_t var_source_hash(const struct var_source *source);
/* XXH64 of everything else that a pack takes from it: sizes, RoPE factors, vocabulary, template. */
uint64_t var_source_settings_hash(const struct var_source *source);

/* The formats of one file; src->path and src->maps are filled by the caller, who frees src on
 * failure. */
int var_source_read_gguf(struct var_source *src, struct ert_error *err);
int var_source_read_llama2c(struct var_source *src, const char *tokenizer, struct ert_error *err);
/* A Hugging Face folder; opens its files into src->maps. */
int var_source_read_hf(struct var_source *src, struct ert_error *err);

/* Checks the hyperparameters against each other and the limits of a pack; fills the pads. */
int var_source_check_model(struct var_source *src, struct ert_error *err);
/* Within a sliding window of attention, the model is one without; beyond, it is not supported. So
 * the context ends with the window (0 = none). */
void var_source_limit_context(struct var_source *src, uint32_t window);
/* Says that a tensor holds a weight that is no number of at most `most`, and which is the first, in
 * the file's order. */
int var_source_fail_weight(const struct var_source *src, const struct var_tensor *t, float most,
                           struct ert_error *err);
/* Fills src->type and src->grid from the layers. */
void var_source_describe_type(struct var_source *src);

#endif
