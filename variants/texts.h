/* texts: what the model is watched on. By default it writes them itself, started from its own BOS:
 * measured against documentation text, that calibrates a quantizer better, and needs no data set.
 */
#ifndef VAR_TEXTS_H
#define VAR_TEXTS_H

#include "runtime/runtime.h"
#include "variants/work.h"

/* Texts of equal length, each from an empty context, and shorter ones which tiers are weighed on
 * (variants/sensitivity.h): what a tier loses differs more from text to text than along one. */
struct var_texts {
    int32_t *ids; /* [n][length], then [n_weighed][weighed_length] */
    uint32_t n, length;
    uint32_t n_measured; /* the first so many go into the moments; the rest is held back */
    uint32_t n_weighed, weighed_length; /* n_weighed = 0: the first measured one serves */
};

/* Asked for; a model of a short context gets more texts of less length. */
struct var_texts_config {
    uint32_t measured, held_back, weighed; /* tokens */
    uint32_t length, weighed_length;       /* of each text, at most the model's context */
    float temperature;                     /* at which the model writes the measured texts */
    uint64_t seed;
    const struct ert_progress *progress;
};

/* The pack's w8a8 writes the texts, side by side, from its whole distribution: at temperature 1
 * those held back, at config's the measured, and of the weighed every other one at each. After an
 * end-of-text token a new one begins in the same context. texts->ids is the caller's to free. The
 * draws depend on seed, text and position alone. ERT_E_CHECK where the model's logits are no
 * numbers. */
int var_texts_write(struct var_texts *texts, const struct rt_pack *pack, struct rt_team *team,
                    const struct var_texts_config *config, struct ert_error *err);

/* The texts are pieces of a file of the user's, taken at even distances, each begun with BOS where
 * the vocabulary asks for one; the last are weighed, those before them held back. Where the file is
 * too short for all, one in five is held back, and of a very short one (fewer than 21 of the usual
 * texts) the first measured one is weighed too.
 * ERT_E_RANGE where it is too short for two. n_vocab bounds the ids, n_ctx the length. */
int var_texts_read(struct var_texts *texts, const char *path, const struct rt_vocab *vocab,
                   const struct rt_model *model, const struct var_texts_config *config,
                   struct ert_error *err);

/* The weighed texts, as texts of their own; the ids are those of t. */
struct var_texts var_texts_weighed(const struct var_texts *t);

/* Keep texts in a build's folder and bring them back; load returns false where there are none. */
int var_texts_save(const struct var_texts *texts, const struct var_work *w, struct ert_error *err);
bool var_texts_load(struct var_texts *texts, const struct var_work *w);

#endif
