#include "variants/states.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "variants/blas.h"

enum { ROWS = 256 }; /* of the head, that one worker has as floats */

/* Logits of n tokens: blocks of the head's rows, taken as workers come free. */
struct head_job {
    const struct var_states *states;
    const float *x; /* [n][n_embd_pad] */
    float *logits;  /* [n][n_vocab] */
    uint32_t n;
    _Atomic(uint32_t) next;
};

static void multiply_rows(struct head_job *job, uint32_t first, float *rows)
{
    const struct var_source *src = job->states->src;
    const struct rt_model *m = &src->model;
    uint32_t n = m->n_vocab - first < ROWS ? m->n_vocab - first : ROWS;
    for (uint32_t r = 0; r < n; r++)
        var_tensor_row(&src->head, first + r, rows + (size_t)r * m->n_embd);
    var_blas()->cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)job->n, (blasint)n,
                            (blasint)m->n_embd, 1, job->x, (blasint)m->n_embd_pad, rows,
                            (blasint)m->n_embd, 0, job->logits + first, (blasint)m->n_vocab);
}

static void multiply_all(void *ctx, unsigned worker, unsigned n)
{
    struct head_job *job = ctx;
    const struct rt_model *m = &job->states->src->model;
    float *rows = job->states->rows + (size_t)worker * ROWS * m->n_embd;
    (void)n;
    for (uint32_t first; (first = ROWS * atomic_fetch_add(&job->next, 1)) < m->n_vocab;)
        multiply_rows(job, first, rows);
}

static int state_logits(void *ctx, uint32_t window, uint32_t from, uint32_t n, float *out,
                        struct ert_error *err)
{
    const struct var_states *s = ctx;
    size_t first = (size_t)window * s->length + from;
    struct head_job job = {s, s->x + first * s->src->model.n_embd_pad, out, n, 0};
    (void)err;
    rt_team_run(s->team, var_blas_callers(s->team), multiply_all, &job);
    return 0;
}

int var_states_open(struct var_states *states, const struct var_source *src, struct rt_team *team,
                    const float *x, uint32_t length, struct var_reference *reference,
                    struct ert_error *err)
{
    int rc = var_blas_open(err);
    *states = (struct var_states){src, team, x, length, NULL};
    if (rc)
        return rc;
    states->rows =
        calloc((size_t)rt_team_size(team) * ROWS * src->model.n_embd, sizeof *states->rows);
    if (!states->rows)
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory for its logits", src->path);
    *reference = (struct var_reference){state_logits, states};
    return 0;
}

void var_states_release(struct var_states *states)
{
    free(states->rows);
    states->rows = NULL;
}
