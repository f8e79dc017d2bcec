/* stream: the source's forward pass in FP32 over a whole text, one layer after the other: the
 * activations of all tokens are kept, the weights of one layer only. */
#ifndef VAR_STREAM_H
#define VAR_STREAM_H

#include "variants/moments.h"
#include "variants/texts.h"

struct var_stream;

/* The stream stands before the first layer. Source, team and ids must outlive it; the caller closes
 * it. ERT_E_RANGE for an id outside the vocabulary or a length beyond the model's context. OpenBLAS
 * is told to compute on the caller's thread from now on (variants/blas.h). */
int var_stream_open(struct var_stream **stream, const struct var_source *src, struct rt_team *team,
                    const struct var_texts *texts, struct ert_error *err);
void var_stream_close(struct var_stream *stream); /* NULL is fine */

/* Takes all texts through the next layer. m (NULL: none wanted) is what var_moments_init made, and
 * gets the averages of that layer. Progress counts the layer's tokens; ERT_E_CANCELLED leaves a
 * stream that can only be closed. */
int var_stream_layer(struct var_stream *stream, struct var_moments *m,
                     const struct ert_progress *progress, struct ert_error *err);
/* MLP channels that are left out of a layer; what they give becomes a constant. */
struct var_cut {
    const int32_t *channels; /* [n], the source's */
    uint32_t n;
    const float *constant; /* [n_ff] */
};

/* Takes another state of all texts, x in the shape of var_stream_state, through the next layer,
 * which the stream itself does not pass. cut may be NULL. */
void var_stream_branch(struct var_stream *stream, float *x, const struct var_cut *cut);

/* After the last layer: the final norm. m as before, for VAR_IN_HEAD. */
void var_stream_finish(struct var_stream *stream, struct var_moments *m);

/* Keeps what a stream is between two layers in a build's folder; load brings a stream that was just
 * opened on the same texts there, or returns false and leaves it at the beginning. */
int var_stream_save(struct var_stream *stream, const struct var_work *w, struct ert_error *err);
bool var_stream_load(struct var_stream *stream, const struct var_work *w);
void var_stream_drop(const struct var_work *w); /* what was kept */

/* Layers that all texts have passed. */
uint32_t var_stream_position(const struct var_stream *stream);
/* The residual stream of all tokens, after var_stream_finish what the head reads: text i's token t
 * is row i * length + t, [n_embd_pad] floats each, 0 in the padding. The stream's own. */
float *var_stream_state(struct var_stream *stream);

#endif
