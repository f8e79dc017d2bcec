#include "variants/blas.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { SHARE = 512 }; /* rows and columns of the result that one call computes */

/* c = a b (beta 0) or c += a b (beta 1), a and b transposed as told. */
struct product {
    const struct var_view *a, *b, *c;
    CBLAS_TRANSPOSE a_way, b_way;
    uint32_t depth;
    float beta;
    bool lower; /* shares that lie above the diagonal are left out */
    _Atomic(uint32_t) next;
};

/* ---- the libraries ------------------------------------------------------------------------- */

#define OPENBLAS "libopenblas.so.0"
#define LAPACKE  "liblapacke.so.3"

static struct var_blas functions;
static struct ert_error load_error;

/* The best of OpenBLAS's sets of kernels that this CPU can run; NULL: its own choice. */
static const char *core_type(void)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        return "SkylakeX";
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return "Haswell";
#endif
    return NULL;
}

static void *load_function(const char *library, const char *name)
{
    /* LAPACKE finds the functions below it in what is global. The handle is kept for good. */
    void *handle = dlopen(library, RTLD_NOW | RTLD_GLOBAL);
    void *function = handle ? dlsym(handle, name) : NULL;
    if (!function && !load_error.text[0])
        ert_fail(&load_error, ERT_E_IO,
                 "making a pack needs OpenBLAS and LAPACKE (on Debian libopenblas0-pthread and "
                 "liblapacke): %s",
                 dlerror());
    return function;
}

static void load(void)
{
    const char *core = core_type();
    if (core)
        setenv("OPENBLAS_CORETYPE", core, false);
#define VAR_BLAS(library, name) functions.name = (__typeof__(name) *)load_function(library, #name);
#include "variants/blas_functions.def"
#undef VAR_BLAS
    if (!load_error.text[0])
        functions.openblas_set_num_threads(1);
}

int var_blas_open(struct ert_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load);
    return load_error.text[0] ? ert_fail(err, ERT_E_IO, "%s", load_error.text) : 0;
}

const struct var_blas *var_blas(void)
{
    return &functions;
}

/* ---- products ------------------------------------------------------------------------------ */

/* Several threads may call the variant built on pthreads at once; the serial one has no locks, and
 * the one built on OpenMP would start a team of its own in each. */
unsigned var_blas_callers(const struct rt_team *team)
{
    return functions.openblas_get_parallel() == OPENBLAS_THREAD ? rt_team_size(team) : 1;
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
    functions.cblas_sgemm(CblasRowMajor, p->a_way, p->b_way, (blasint)rows, (blasint)cols,
                          (blasint)p->depth, 1, element(p->a, p->a_way, row), (blasint)p->a->stride,
                          element(p->b, b_lines, col), (blasint)p->b->stride, p->beta,
                          p->c->data + row * p->c->stride + col, (blasint)p->c->stride);
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
