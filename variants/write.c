#include "variants/write.h"

#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "variants/quantize.h"

/* A weight beyond this is no trained model's, and an f16 scale could not hold it. */
#define MAX_WEIGHT 6e4f

static int fail_write(const struct var_writer *w, struct ert_error *err)
{
    return ert_fail(err, errno == ENOSPC ? ERT_E_FULL : ERT_E_IO,
                    "%s: cannot write: %s; make room or choose another place", w->out.path,
                    strerror(errno));
}

static int write_at(struct var_writer *w, uint64_t offset, const void *data, uint64_t size,
                    struct ert_error *err)
{
    if (size == 0)
        return 0;
    if (fseeko(w->out.file, (off_t)offset, SEEK_SET) || fwrite(data, 1, size, w->out.file) != size)
        return fail_write(w, err);
    return 0;
}

/* A file system caches a large file in folios of up to 2 MiB and gives up whole ones only. */
#define FOLIO      (2u << 20)
#define FOLIOS_PAY (32u << 20) /* the size of L planes from which the padding is no matter */

/* Opens the next section, on the page after the last one. Large L planes start on a folio of their
 * own: in one that they shared with the H planes they could never be dropped. */
static struct pack_section *add_section(struct var_writer *w, uint32_t kind, uint64_t size)
{
    uint64_t at = PACK_PAGE;
    if (w->n_sections > 0) {
        const struct pack_section *last = &w->sections[w->n_sections - 1];
        uint64_t unit = kind == PACK_PLANES_L && size >= FOLIOS_PAY ? FOLIO : PACK_PAGE;
        at = (last->offset + last->size + unit - 1) / unit * unit;
    }
    struct pack_section *s = &w->sections[w->n_sections++];
    *s = (struct pack_section){.kind = kind, .offset = at, .size = size};
    return s;
}

/* ---- small sections ------------------------------------------------------------------------ */

static int write_vocab(struct var_writer *w, const struct rt_vocab *v, struct ert_error *err)
{
    uint32_t text_bytes = v->offset[v->n_tokens];
    uint32_t head[4] = {v->n_tokens, v->n_merges, text_bytes, 0};
    const struct {
        const void *data;
        uint64_t size;
    } parts[] = {
        {head, sizeof head},
        {v->offset, ((uint64_t)v->n_tokens + 1) * sizeof *v->offset},
        {v->score, (uint64_t)v->n_tokens * sizeof *v->score},
        {v->merge, (uint64_t)v->n_merges * sizeof *v->merge},
        {v->type, v->n_tokens},
        {v->text, text_bytes},
    };
    struct pack_section *s = add_section(w, PACK_VOCAB, 0);
    int rc = 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0] && !rc; i++) {
        rc = write_at(w, s->offset + s->size, parts[i].data, parts[i].size, err);
        s->size += parts[i].size;
    }
    return rc;
}

static int write_records(struct var_writer *w, const struct var_plan *plan, struct ert_error *err)
{
    struct pack_section *s =
        add_section(w, PACK_TENSORS, (uint64_t)plan->n * sizeof(struct pack_tensor));
    int rc = 0;
    for (uint32_t i = 0; i < plan->n && !rc; i++)
        rc = write_at(w, s->offset + i * sizeof(struct pack_tensor), &plan->tensors[i].record,
                      sizeof(struct pack_tensor), err);
    return rc;
}

/* ---- planes -------------------------------------------------------------------------------- */

/* A matrix on its way: all parts in memory, filled tile by tile by the team. */
struct matrix_job {
    const struct var_planned *planned;
    uint8_t *data, *l, *pairs, *outlier;
    float *scratch; /* per worker */
    size_t scratch_floats;
    float *quantizing; /* per worker, var_quantize_scratch(cols) */
    _Atomic(uint32_t)
        bad_row; /* the lowest row with a weight that is no number; UINT32_MAX = none */
};

static void note_bad_row(struct matrix_job *job, uint32_t row)
{
    uint32_t seen = job->bad_row;
    while (row < seen && !atomic_compare_exchange_weak(&job->bad_row, &seen, row))
        continue;
}

static void fill_tile(struct matrix_job *job, uint32_t tile, float *scratch, float *quantizing)
{
    const struct pack_tensor *r = &job->planned->record;
    float *w = scratch;
    float *row_scratch = scratch + (size_t)PACK_TILE * r->cols;
    for (uint32_t i = 0; i < PACK_TILE; i++) {
        float *row = w + (size_t)i * r->cols;
        var_planned_row(job->planned, tile * PACK_TILE + i, row_scratch, row);
        for (uint32_t c = 0; c < r->cols; c++)
            if (!(fabsf(row[c]) <= MAX_WEIGHT)) {
                note_bad_row(job, tile * PACK_TILE + i);
                row[c] = 0;
            }
    }
    uint32_t groups = r->cols / PACK_GROUP;
    struct var_tile t = {
        .pairs = job->pairs ? job->pairs + (size_t)tile * PACK_PAIRS : NULL,
        .outlier = job->outlier ? job->outlier + (size_t)tile * PACK_OUTLIER : NULL,
        .h = job->data,
        .l = job->l,
        .panel_groups = r->panel_groups ? r->panel_groups : groups,
        .n_tiles = r->rows / PACK_TILE,
        .tile = tile,
        .n_groups = groups - r->outlier_groups,
        .eight_bits = r->flags & PACK_FLAG_L_RESIDENT,
        .scratch = quantizing,
    };
    if (r->kind == PACK_NESTED)
        var_quantize_tile(&t, w, r->cols, NULL);
    else
        var_store_f32_tile(&t, w, r->cols);
}

static void fill_tiles(void *ctx, unsigned worker, unsigned n)
{
    struct matrix_job *job = ctx;
    uint32_t n_tiles = job->planned->record.rows / PACK_TILE;
    for (uint32_t tile = worker; tile < n_tiles; tile += n)
        fill_tile(job, tile, job->scratch + worker * job->scratch_floats,
                  job->quantizing + worker * var_quantize_scratch(job->planned->record.cols));
}

static int allocate_matrix(struct matrix_job *job, unsigned workers)
{
    const struct var_planned *p = job->planned;
    const struct pack_tensor *r = &p->record;
    size_t tiles = r->rows / PACK_TILE;
    bool nested = r->kind == PACK_NESTED;
    job->scratch_floats = (size_t)PACK_TILE * r->cols + (p->tensor ? p->tensor->cols : 0);
    job->data = calloc(1, r->data_size + 1);
    job->scratch = malloc(workers * job->scratch_floats * sizeof *job->scratch);
    job->quantizing = malloc(workers * var_quantize_scratch(r->cols) * sizeof *job->quantizing);
    bool ok = job->data && job->scratch && job->quantizing;
    if (nested && ok)
        ok = (job->pairs = calloc(tiles, PACK_PAIRS)) != NULL;
    if (r->outlier_groups && ok)
        ok = (job->outlier = calloc(tiles, PACK_OUTLIER)) != NULL;
    if (r->l_size && ok)
        ok = (job->l = calloc(1, r->l_size)) != NULL;
    return ok ? 0 : -1;
}

static void release_matrix(struct matrix_job *job)
{
    free(job->data);
    free(job->l);
    free(job->pairs);
    free(job->outlier);
    free(job->scratch);
    free(job->quantizing);
}

/* Where the planes begin in the file. */
struct plane_offsets {
    uint64_t h, l;
};

static int write_matrix_parts(struct var_writer *w, const struct matrix_job *job,
                              struct plane_offsets at, struct ert_error *err)
{
    const struct pack_tensor *r = &job->planned->record;
    uint64_t tiles = r->rows / PACK_TILE;
    int rc = write_at(w, at.h + r->data_off, job->data, r->data_size, err);
    if (!rc && job->pairs)
        rc = write_at(w, at.h + r->pair_off, job->pairs, tiles * PACK_PAIRS, err);
    if (!rc && job->outlier)
        rc = write_at(w, at.h + r->outlier_off, job->outlier, tiles * PACK_OUTLIER, err);
    uint64_t l = r->flags & PACK_FLAG_L_RESIDENT ? at.h : at.l;
    return rc ? rc : write_at(w, l + r->l_off, job->l, r->l_size, err);
}

static int write_matrix(struct var_writer *w, const struct var_source *src,
                        const struct var_planned *p, struct plane_offsets at, struct rt_team *team,
                        struct ert_error *err)
{
    struct matrix_job job = {.planned = p, .bad_row = UINT32_MAX};
    const char *name = p->tensor ? p->tensor->name : "a compensator";
    int rc;
    if (allocate_matrix(&job, rt_team_size(team))) {
        rc = ert_fail(err, ERT_E_NOMEM, "%s: no memory to convert tensor '%s'", src->path, name);
        goto out;
    }
    rt_team_run(team, rt_team_size(team), fill_tiles, &job);
    if (job.bad_row != UINT32_MAX) {
        rc = ert_fail(
            err, ERT_E_FORMAT,
            "%s: tensor '%s' holds a weight that is no number below %g (stored row %u); the "
            "file is damaged or the model broken",
            src->path, name, (double)MAX_WEIGHT, job.bad_row);
        goto out;
    }
    rc = write_matrix_parts(w, &job, at, err);
out:
    release_matrix(&job);
    return rc;
}

static int write_vector(struct var_writer *w, const struct var_source *src,
                        const struct var_planned *p, uint64_t offset, struct ert_error *err)
{
    uint32_t n = p->record.cols, wide = p->tensor ? p->tensor->cols : 0;
    float *x = malloc(((size_t)n + wide) * sizeof *x);
    if (!x)
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory for a vector of %u", src->path, n);
    var_planned_row(p, 0, x + n, x);
    int rc = 0;
    for (uint32_t i = 0; i < n && !rc; i++)
        if (!(fabsf(x[i]) <= MAX_WEIGHT))
            rc = ert_fail(err, ERT_E_FORMAT,
                          "%s: tensor '%s' holds a weight that is no number below %g; the file is "
                          "damaged or the model broken",
                          src->path, p->tensor ? p->tensor->name : "a bias", (double)MAX_WEIGHT);
    if (!rc)
        rc = write_at(w, offset, x, p->record.data_size, err);
    free(x);
    return rc;
}

static int write_tensor(struct var_writer *w, const struct var_source *src,
                        const struct var_planned *p, struct plane_offsets at, struct rt_team *team,
                        struct ert_error *err)
{
    uint64_t offset = at.h + p->record.data_off;
    if (p->record.kind == PACK_U16_TABLE)
        return write_at(w, offset, p->table, p->record.data_size, err);
    if (p->record.kind == PACK_F32_VECTOR)
        return write_vector(w, src, p, offset, err);
    return write_matrix(w, src, p, at, team, err);
}

static int write_tensors(struct var_writer *w, const struct var_source *src,
                         const struct var_plan *plan, struct rt_team *team,
                         const struct ert_progress *progress, struct ert_error *err)
{
    struct plane_offsets at;
    at.h = add_section(w, PACK_PLANES_H, plan->h_size)->offset;
    at.l = plan->l_size ? add_section(w, PACK_PLANES_L, plan->l_size)->offset : 0;
    double done = 0;
    int rc = 0;
    for (uint32_t i = 0; i < plan->n && !rc; i++) {
        const struct pack_tensor *r = &plan->tensors[i].record;
        if (!ert_progress_report(progress, "writing weights", done, (double)plan->weights))
            return ert_fail(err, ERT_E_CANCELLED, "%s: stopped on request, nothing is left",
                            w->out.path);
        rc = write_tensor(w, src, &plan->tensors[i], at, team, err);
        if (r->kind == PACK_NESTED || r->kind == PACK_F32_MATRIX)
            done += (double)r->rows * r->cols;
    }
    return rc;
}

/* The checksums are of what the file holds, read back through a mapping. */
static int hash_sections(struct var_writer *w, struct ert_error *err)
{
    const struct pack_section *last = &w->sections[w->n_sections - 1];
    if (fflush(w->out.file) || ftruncate(fileno(w->out.file), (off_t)(last->offset + last->size)))
        return fail_write(w, err);
    struct ert_map map;
    int rc = ert_map_open(&map, w->out.temp_path, err);
    for (uint32_t i = 0; i < w->n_sections && !rc; i++)
        w->sections[i].checksum = ert_hash64(map.data + w->sections[i].offset, w->sections[i].size);
    ert_map_close(&map);
    return rc;
}

int var_write_planes(struct var_writer *w, const char *path, const struct var_source *src,
                     const struct var_plan *plan, struct rt_team *team,
                     const struct ert_progress *progress, struct ert_error *err)
{
    *w = (struct var_writer){0};
    int rc = ert_output_open(&w->out, path, err);
    if (rc)
        return rc;
    rc = write_vocab(w, &src->vocab, err);
    if (!rc)
        rc = write_records(w, plan, err);
    if (!rc)
        rc = write_tensors(w, src, plan, team, progress, err);
    if (!rc)
        rc = hash_sections(w, err);
    if (rc)
        var_write_abort(w);
    return rc;
}

static int write_header(struct var_writer *w, struct ert_error *err)
{
    const struct pack_section *last = &w->sections[w->n_sections - 1];
    uint8_t head[sizeof(struct pack_header) + sizeof w->sections] = {0};
    size_t size = sizeof(struct pack_header) + w->n_sections * sizeof w->sections[0];
    struct pack_header h = {.magic = PACK_MAGIC,
                            .version = PACK_VERSION,
                            .n_sections = w->n_sections,
                            .file_size = last->offset + last->size};
    memcpy(head, &h, sizeof h);
    memcpy(head + sizeof h, w->sections, size - sizeof h);
    h.checksum = ert_hash64(head, size);
    memcpy(head, &h, sizeof h);
    int rc = write_at(w, 0, head, size, err);
    if (!rc && (fflush(w->out.file) || ftruncate(fileno(w->out.file), (off_t)h.file_size)))
        rc = fail_write(w, err);
    return rc;
}

int var_write_meta(struct var_writer *w, const json_t *meta, struct ert_error *err)
{
    if (w->sections[w->n_sections - 1].kind == PACK_META)
        w->n_sections--;
    char *text = json_dumps(meta, JSON_COMPACT | JSON_PRESERVE_ORDER);
    if (!text)
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory for its description", w->out.path);
    size_t n = strlen(text);
    struct pack_section *s = add_section(w, PACK_META, n);
    s->checksum = ert_hash64(text, n);
    int rc = write_at(w, s->offset, text, n, err);
    free(text);
    return rc ? rc : write_header(w, err);
}

int var_write_commit(struct var_writer *w, struct ert_error *err)
{
    return ert_output_commit(&w->out, err);
}

void var_write_abort(struct var_writer *w)
{
    ert_output_abort(&w->out);
}
