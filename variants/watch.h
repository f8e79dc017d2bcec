/* watch: the stages of a build that look at the model before anything is decided: a draft pack,
 * the texts that it writes, the moments of every layer on them. Each leaves its result in the work
 * folder and is not done again where that is there. */
#ifndef VAR_WATCH_H
#define VAR_WATCH_H

#include "variants/moments.h"
#include "variants/texts.h"
#include "variants/variants.h"

struct var_watch {
    const struct var_source *src;
    const struct var_build_options *options;
    struct rt_team *team;
    const struct var_work *work;
};

/* The texts: the user's, or those that a draft of the model writes, which this writes first: w8a8,
 * each weight to the nearest level, in the source's order. texts->ids is the caller's to free.
 * draft and writing report progress each by itself. */
int var_watch_texts(const struct var_watch *w, struct var_texts *texts,
                    const struct ert_progress *drafting, const struct ert_progress *writing,
                    struct ert_error *err);

/* Takes the texts through the source in FP32, layer by layer (variants/stream.h): from then on the
 * moments of every layer, of the model, and the states of the held-back texts can be loaded. */
int var_watch_layers(const struct var_watch *w, const struct var_texts *texts,
                     const struct ert_progress *progress, struct ert_error *err);

/* The moments of one layer, or the model's (PACK_NO_LAYER), for the caller to release. */
int var_watch_load(const struct var_watch *w, uint32_t layer, struct var_moments *m,
                   struct ert_error *err);
/* The same as a store; *w must live as long. */
struct var_moments_store var_watch_store(struct var_watch *w);
/* What the head read of each held-back text: [text][length][n_embd_pad] floats at d->data, for the
 * caller to release. */
int var_watch_states(const struct var_watch *w, struct var_work_data *d, struct ert_error *err);

#endif
