#include "variants/blas.h"

#include <cblas.h>
#include <stdatomic.h>

enum { SHARE = 256 }; /* rows and columns of the result that one call computes */

/* c = a b (beta 0) or c += a b (beta 1), a and b transposed as told. */
struct product {
    const struct var_view *a, *b, *c;
    CBLAS_TRANSPOSE a_way, b_way;
    uint32_t depth;
    float beta;
    bool lower; /* shares that lie above the diagonal are left out */
    _Atomic(uint32_t) next;
};

void var_blas_use_callers_thread(void)
{
    openblas_set_num_threads(1);
}

/* Several threads may call the variant built on pthreads at once; the serial one has no locks, and
 * the one built on OpenMP would start a team of its own in each. */
unsigned var_blas_callers(const struct rt_team *team)
{
    return openblas_get_parallel() == OPENBLAS_THREAD ? rt_team_size(team) : 1;
}

static float *element(const struct var_view *v, CBLAS_TRANSPOSE way, uint32_t line)
{
    return v->data + (way == CblasTrans ? line : line * v->stride);
}

static uint32_t at_most(uint32_t n)
{
    return n < SHARE ? n : SHARE;
}

static void multiply_share(const struct product *p, uint32_t row, uint32_t col)
{
    uint32_t rows = at_most(p->c->rows - row), cols = at_most(p->c->cols - col);
    /* A column of b is a row of it where it comes transposed. */
    CBLAS_TRANSPOSE b_lines = p->b_way == CblasTrans ? CblasNoTrans : CblasTrans;
    cblas_sgemm(CblasRowMajor, p->a_way, p->b_way, (blasint)rows, (blasint)cols, (blasint)p->depth,
                1, element(p->a, p->a_way, row), (blasint)p->a->stride, element(p->b, b_lines, col),
                (blasint)p->b->stride, p->beta, p->c->data + row * p->c->stride + col,
                (blasint)p->c->stride);
}

/* Shares are taken as workers come free: which worker computes one does not show in it. */
static void multiply_shares(void *ctx, unsigned worker, unsigned n)
{
    struct product *p = ctx;
    uint32_t across = (p->c->cols + SHARE - 1) / SHARE, down = (p->c->rows + SHARE - 1) / SHARE;
    (void)worker;
    (void)n;
    for (uint32_t i; (i = atomic_fetch_add(&p->next, 1)) < across * down;)
        if (!p->lower || i % across <= i / across)
            multiply_share(p, i / across * SHARE, i % across * SHARE);
}

void var_blas_product(struct rt_team *team, const struct var_view *x, const struct var_view *w,
                      const struct var_view *y, bool add)
{
    struct product p = {x, w, y, CblasNoTrans, CblasTrans, x->cols, add ? 1 : 0, false, 0};
    rt_team_run(team, var_blas_callers(team), multiply_shares, &p);
}

void var_blas_correlate(struct rt_team *team, const struct var_view *a, const struct var_view *b,
                        const struct var_view *c)
{
    struct product p = {a, b, c, CblasTrans, CblasNoTrans, a->rows, 1, false, 0};
    rt_team_run(team, var_blas_callers(team), multiply_shares, &p);
}

void var_blas_gram(struct rt_team *team, const struct var_view *a, const struct var_view *c)
{
    struct product p = {a, a, c, CblasTrans, CblasNoTrans, a->rows, 1, true, 0};
    rt_team_run(team, var_blas_callers(team), multiply_shares, &p);
}
