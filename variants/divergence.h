/* divergence: how far states are from a reference's, as the source's head reads both: KL(reference
 * || state) over the whole vocabulary, without a row of logits in memory. */
#ifndef VAR_DIVERGENCE_H
#define VAR_DIVERGENCE_H

#include "runtime/team.h"
#include "variants/source.h"

/* For a reference p over the vocabulary and a state h, whose logits are W h:
 *     KL = sum p (log p - log q) = (e h_ref - lse(W h_ref)) - (e h - lse(W h)),  e = p W.
 * So of the reference e is kept, and of a state only the sum of its exponentials is wanted. */
struct var_divergence {
    const struct var_source *src;
    struct rt_team *team;
    uint32_t n;
    float *expected; /* [n][n_embd_pad]: e */
    double *level;   /* [n]: e h_ref - lse(W h_ref) */
    float *scratch;  /* of each worker */
};

/* reference: [n][n_embd_pad], as the head reads it: normed. It need not outlive the call; src and
 * team must. The caller releases d. ERT_E_NOMEM, ERT_E_IO (variants/blas.h). */
int var_divergence_open(struct var_divergence *d, const struct var_source *src,
                        struct rt_team *team, const float *reference, uint32_t n,
                        struct ert_error *err);
void var_divergence_release(struct var_divergence *d); /* harmless on {0} */

/* kld[i]: the mean over the n states of sets[i], normed, [n][n_embd_pad] each. No bit of it depends
 * on the team. ERT_E_NOMEM. */
int var_divergence_measure(const struct var_divergence *d, const float *const *sets,
                           uint32_t n_sets, double *kld, struct ert_error *err);

#endif
