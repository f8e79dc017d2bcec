#include "variants/moments.h"

#include <stdlib.h>
#include <string.h>

static uint32_t width_of(const struct rt_model *model, enum var_input input)
{
    switch (input) {
    case VAR_IN_MIXED:
        return model->n_heads * model->head_dim;
    case VAR_IN_GATED:
        return model->n_ff;
    default:
        return model->n_embd;
    }
}

static bool allocate_cross(struct var_moments *m, const struct rt_model *model)
{
    size_t e = model->n_embd;
    m->level_mlp = calloc(e, sizeof *m->level_mlp);
    m->level_gram = calloc(e * e, sizeof *m->level_gram);
    m->cross = calloc(model->n_ff * e, sizeof *m->cross);
    return m->level_mlp && m->level_gram && m->cross;
}

int var_moments_init(struct var_moments *m, const struct rt_model *model, unsigned wanted,
                     struct ert_error *err)
{
    bool ok = true;
    *m = (struct var_moments){0};
    for (unsigned i = 0; i < VAR_N_INPUTS && ok; i++) {
        if (!(wanted & 1u << i))
            continue;
        size_t n = m->width[i] = width_of(model, i);
        ok = (m->mean[i] = calloc(n, sizeof *m->mean[i])) != NULL &&
             (m->gram[i] = calloc(n * n, sizeof *m->gram[i])) != NULL;
    }
    if (ok && m->width[VAR_IN_GATED])
        ok = (m->level_mean = calloc(model->n_ff, sizeof *m->level_mean)) != NULL &&
             (m->level_square = calloc(model->n_ff, sizeof *m->level_square)) != NULL;
    if (ok && wanted & VAR_CROSS)
        ok = allocate_cross(m, model);
    if (ok)
        return 0;
    var_moments_release(m);
    return ert_fail(err, ERT_E_NOMEM, "no memory for the moments of a layer of %u and %u channels",
                    model->n_embd, model->n_ff);
}

void var_moments_release(struct var_moments *m)
{
    for (unsigned i = 0; i < VAR_N_INPUTS; i++) {
        free(m->mean[i]);
        free(m->gram[i]);
    }
    free(m->cross);
    free(m->level_mean);
    free(m->level_square);
    free(m->level_mlp);
    free(m->level_gram);
    *m = (struct var_moments){0};
}

/* ---- in the build's folder ----------------------------------------------------------------- */

/* Before the numbers: of each input the mean and the lower triangle of the gram, row by row; then
 * the level moments and the cross moments. */
struct moments_head {
    uint64_t tokens;
    uint32_t wanted, zero;
};

static unsigned wanted_of(const struct var_moments *m)
{
    unsigned wanted = m->cross ? VAR_CROSS : 0;
    for (unsigned i = 0; i < VAR_N_INPUTS; i++)
        wanted |= m->width[i] ? 1u << i : 0;
    return wanted;
}

/* Width of what comes with cross, 0 where that was not asked for. */
static size_t cross_width(const struct var_moments *m)
{
    return m->cross ? m->width[VAR_IN_MLP] : 0;
}

static bool put(FILE *file, const float *x, size_t n)
{
    return n == 0 || fwrite(x, sizeof *x, n, file) == n;
}

static bool put_moments(FILE *file, const struct var_moments *m)
{
    const struct moments_head head = {.tokens = m->tokens, .wanted = wanted_of(m)};
    bool ok = fwrite(&head, sizeof head, 1, file) == 1;
    for (unsigned i = 0; i < VAR_N_INPUTS && ok; i++) {
        ok = put(file, m->mean[i], m->width[i]);
        for (size_t row = 0; row < m->width[i] && ok; row++)
            ok = put(file, m->gram[i] + row * m->width[i], row + 1);
    }
    ok = ok && put(file, m->level_mean, m->width[VAR_IN_GATED]) &&
         put(file, m->level_square, m->width[VAR_IN_GATED]);
    size_t e = cross_width(m);
    return ok && put(file, m->level_mlp, e) && put(file, m->level_gram, e * e) &&
           put(file, m->cross, m->width[VAR_IN_GATED] * e);
}

int var_moments_save(const struct var_moments *m, const struct var_work *w, const char *name,
                     struct ert_error *err)
{
    struct var_work_file f;
    int rc = var_work_begin(&f, w, name, err);
    if (rc)
        return rc;
    if (put_moments(f.file, m))
        return var_work_commit(&f, err);
    rc = var_work_fail_write(w, err);
    var_work_abort(&f);
    return rc;
}

static const float *take(const float *from, float *x, size_t n)
{
    if (n > 0)
        memcpy(x, from, n * sizeof *x);
    return from + n;
}

static void take_moments(struct var_moments *m, const float *from)
{
    for (unsigned i = 0; i < VAR_N_INPUTS; i++) {
        size_t n = m->width[i];
        float *gram = m->gram[i];
        from = take(from, m->mean[i], n);
        for (size_t row = 0; row < n; row++) {
            from = take(from, gram + row * n, row + 1);
            for (size_t col = 0; col < row; col++)
                gram[col * n + row] = gram[row * n + col];
        }
    }
    from = take(from, m->level_mean, m->width[VAR_IN_GATED]);
    from = take(from, m->level_square, m->width[VAR_IN_GATED]);
    size_t e = cross_width(m);
    from = take(from, m->level_mlp, e);
    from = take(from, m->level_gram, e * e);
    take(from, m->cross, m->width[VAR_IN_GATED] * e);
}

int var_moments_load(struct var_moments *m, const struct rt_model *model, const struct var_work *w,
                     const char *name, struct ert_error *err)
{
    struct moments_head head;
    struct var_work_data d;
    *m = (struct var_moments){0};
    if (!var_work_load(&d, w, name))
        return ert_fail(err, ERT_E_MISSING,
                        "%s/%s: missing or damaged; remove the folder and build again", w->folder,
                        name);
    memcpy(&head, d.data, sizeof head);
    int rc = var_moments_init(m, model, head.wanted, err);
    if (!rc) {
        m->tokens = head.tokens;
        take_moments(m, (const float *)(const void *)(d.data + sizeof head));
    }
    var_work_release(&d);
    return rc;
}
