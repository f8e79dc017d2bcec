/* architecture: which models are read, and which tensors they have: runtime/architectures.def and
 * parts.def, for the readers of formats. */
#ifndef VAR_ARCHITECTURE_H
#define VAR_ARCHITECTURE_H

#include "variants/source.h"

enum var_need { VAR_NOT, VAR_MAY, VAR_MUST };

struct var_architecture {
    const char *name;     /* GGUF's word, and the pack's */
    const char *hf;       /* "model_type" of a Hugging Face config.json */
    bool gguf_halves;     /* a GGUF file stores Q and K as halves */
    enum var_need biases; /* of Q, K and V */
    enum var_need norms;  /* of the heads of Q and K */
};

enum var_naming { VAR_NAMES_GGUF, VAR_NAMES_HF };

/* The architecture that a format calls so; NULL if it is not one that is read. */
const struct var_architecture *var_architecture_of(enum var_naming naming, const char *name);
/* What a format calls those that are read, "llama, qwen2, ...", into text[room]. */
void var_architecture_list(enum var_naming naming, char *text, size_t room);

/* How a format hands out its tensors by name. */
struct var_tensors {
    void *ctx;
    bool (*has)(void *ctx, const char *name);
    /* Fills type, data, rows and cols of *out; out->name outlives the source. A tensor that is
     * missing, of another shape or a type not read is an error that names it. */
    int (*take)(void *ctx, const char *name, uint32_t rows, uint32_t cols, struct var_tensor *out);
};

/* Takes every tensor of the model: src->embed, head (where src->model.tied is false), norm_final
 * and layers. halves: Q and K are stored as halves. */
int var_take_tensors(struct var_source *src, const struct var_architecture *a,
                     enum var_naming naming, bool halves, const struct var_tensors *from,
                     struct ert_error *err);

/* The names of the tensors beside the layers. */
struct var_model_names {
    const char *embed, *head, *norm_final;
};
extern const struct var_model_names var_model_names[2]; /* by enum var_naming */

#endif
