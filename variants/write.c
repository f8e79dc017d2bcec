#include "variants/write.h"

#include <errno.h>
#include <fcntl.h>
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
    bool full = errno == ENOSPC || errno == EDQUOT || errno == EFBIG;
    return ert_fail(err, full ? ERT_E_FULL : ERT_E_IO,
                    "%s: cannot write: %s; make room or choose another place", w->path,
                    strerror(errno));
}

static int write_at(const struct var_writer *w, uint64_t offset, const void *data, uint64_t size,
                    struct ert_error *err)
{
    if (size == 0)
        return 0;
    if (fseeko(w->file, (off_t)offset, SEEK_SET) || fwrite(data, 1, size, w->file) != size)
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

/* ---- matrices ------------------------------------------------------------------------------ */

enum { TILES_AT_ONCE = 256 }; /* between two looks at whether to stop */

/* A matrix on its way: all parts in memory, filled tile by tile by the team. */
struct matrix_job {
    const struct var_planned *planned;
    const struct var_hessian *hessian; /* or NULL */
    uint8_t *data, *l, *pairs, *outlier;
    float *scratch; /* per worker */
    size_t scratch_floats;
    float *quantizing; /* per worker, var_quantize_scratch(cols) */
    _Atomic(uint32_t) next_tile;
    uint32_t end_tile;
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
        var_quantize_tile(&t, w, r->cols, job->hessian);
    else
        var_store_f32_tile(&t, w, r->cols);
}

static void fill_tiles(void *ctx, unsigned worker, unsigned n)
{
    struct matrix_job *job = ctx;
    (void)n;
    for (uint32_t tile; (tile = atomic_fetch_add(&job->next_tile, 1)) < job->end_tile;)
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

/* A part of a tensor in the file. */
struct region {
    uint64_t at, size;
};

enum { MOST_REGIONS = 4 };

/* Where the parts of a tensor lie: blocks, pairs, outlier blocks, L blocks; those it has not are
 * empty. */
static void list_regions(const struct var_writer *w, const struct pack_tensor *r,
                         struct region regions[MOST_REGIONS])
{
    uint64_t tiles = r->rows / PACK_TILE;
    bool nested = r->kind == PACK_NESTED;
    regions[0] = (struct region){w->h_at + r->data_off, r->data_size};
    regions[1] = (struct region){w->h_at + r->pair_off, nested ? tiles * PACK_PAIRS : 0};
    regions[2] =
        (struct region){w->h_at + r->outlier_off, r->outlier_groups ? tiles * PACK_OUTLIER : 0};
    regions[3] = (struct region){(r->flags & PACK_FLAG_L_RESIDENT ? w->h_at : w->l_at) + r->l_off,
                                 r->l_size};
}

static int write_matrix_parts(const struct var_writer *w, const struct matrix_job *job,
                              struct ert_error *err)
{
    const uint8_t *parts[MOST_REGIONS] = {job->data, job->pairs, job->outlier, job->l};
    struct region regions[MOST_REGIONS];
    int rc = 0;
    list_regions(w, &job->planned->record, regions);
    for (int i = 0; i < MOST_REGIONS && !rc; i++)
        rc = write_at(w, regions[i].at, parts[i], regions[i].size, err);
    return rc;
}

/* How far the writing of a layer is. */
struct pace {
    const struct ert_progress *progress;
    double done, total; /* weights */
};

static int look_up(const struct var_writer *w, const struct pace *pace, double more,
                   struct ert_error *err)
{
    if (ert_progress_report(pace->progress, "writing weights", pace->done + more, pace->total))
        return 0;
    return ert_fail(err, ERT_E_CANCELLED, "%s: stopped on request", w->path);
}

static int fill_matrix(const struct var_writer *w, struct matrix_job *job, const struct pace *pace,
                       struct ert_error *err)
{
    const struct pack_tensor *r = &job->planned->record;
    uint32_t n_tiles = r->rows / PACK_TILE;
    int rc = 0;
    for (uint32_t tile = 0; tile < n_tiles && !rc; tile = job->end_tile) {
        rc = look_up(w, pace, (double)tile * PACK_TILE * r->cols, err);
        job->next_tile = tile;
        job->end_tile = n_tiles - tile < TILES_AT_ONCE ? n_tiles : tile + TILES_AT_ONCE;
        if (!rc)
            rt_team_run(w->team, rt_team_size(w->team), fill_tiles, job);
    }
    return rc;
}

static int fail_weight(const struct var_source *src, const struct var_planned *p,
                       struct ert_error *err)
{
    if (p->tensor)
        return var_source_fail_weight(src, p->tensor, MAX_WEIGHT, err);
    return ert_fail(err, ERT_E_CHECK,
                    "%s: a tier's bias or compensator is no number below %g; build without",
                    src->path, (double)MAX_WEIGHT);
}

static int write_matrix(const struct var_writer *w, const struct var_planned *p,
                        const struct var_hessian *hessian, const struct pace *pace,
                        struct ert_error *err)
{
    struct matrix_job job = {.planned = p, .hessian = hessian, .bad_row = UINT32_MAX};
    const char *name = p->tensor ? p->tensor->name : "a compensator";
    int rc =
        allocate_matrix(&job, rt_team_size(w->team))
            ? ert_fail(err, ERT_E_NOMEM, "%s: no memory to convert tensor '%s'", w->src->path, name)
            : fill_matrix(w, &job, pace, err);
    if (!rc && job.bad_row != UINT32_MAX)
        rc = fail_weight(w->src, p, err);
    if (!rc)
        rc = write_matrix_parts(w, &job, err);
    release_matrix(&job);
    return rc;
}

/* ---- a layer's tensors --------------------------------------------------------------------- */

static int write_vector(const struct var_writer *w, const struct var_planned *p,
                        struct ert_error *err)
{
    uint32_t n = p->record.cols, wide = p->tensor ? p->tensor->cols : 0;
    float *x = malloc(((size_t)n + wide) * sizeof *x);
    if (!x)
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory for a vector of %u", w->src->path, n);
    var_planned_row(p, 0, x + n, x);
    int rc = 0;
    for (uint32_t i = 0; i < n && !rc; i++)
        if (!(fabsf(x[i]) <= MAX_WEIGHT))
            rc = fail_weight(w->src, p, err);
    if (!rc)
        rc = write_at(w, w->h_at + p->record.data_off, x, p->record.data_size, err);
    free(x);
    return rc;
}

/* The hessian of what some matrices in a row read. */
struct shared_hessian {
    struct var_hessian *hessian;
    enum var_input input;
};

/* Columns before which the narrower tiers of a layer end, rising. */
static uint32_t list_ends(const struct var_writer *w, const struct pack_tensor *r,
                          uint32_t ends[VAR_MAX_TIERS])
{
    uint32_t n = 0;
    if (r->role != PACK_ROLE_O && r->role != PACK_ROLE_DOWN)
        return 0;
    for (uint32_t t = w->order->n_tiers; t-- > 1;) {
        const struct rt_dims *d = &w->order->dims[t][r->layer];
        ends[n++] = r->role == PACK_ROLE_O ? w->src->model.n_heads * d->vo : d->mlp;
    }
    return n;
}

/* Q, K and V read the same, and so do GATE and UP: one hessian is made for all of them. */
static int share_hessian(const struct var_writer *w, const struct var_planned *p,
                         const struct var_moments *m, struct shared_hessian *shared,
                         struct ert_error *err)
{
    uint32_t ends[VAR_MAX_TIERS];
    enum var_input input =
        p->record.kind == PACK_NESTED && m && p->reads < VAR_N_INPUTS && m->gram[p->reads]
            ? p->reads
            : VAR_N_INPUTS;
    if (shared->hessian && shared->input == input)
        return 0;
    var_hessian_free(shared->hessian);
    *shared = (struct shared_hessian){.input = input};
    if (input == VAR_N_INPUTS)
        return 0;
    const struct var_hessian_config config = {.gram = m->gram[input],
                                              .width = m->width[input],
                                              .cols = p->cols,
                                              .n = p->record.cols,
                                              .ends = ends,
                                              .n_ends = list_ends(w, &p->record, ends),
                                              .outlier = p->record.outlier_groups};
    int rc = var_hessian_make(&shared->hessian, &config, err);
    return rc ? ert_fail_in(err, "%s: tensor '%s'", w->src->path, p->tensor->name) : 0;
}

static int write_tensor(const struct var_writer *w, const struct var_planned *p,
                        const struct var_hessian *hessian, const struct pace *pace,
                        struct ert_error *err)
{
    if (p->record.kind == PACK_U16_TABLE)
        return write_at(w, w->h_at + p->record.data_off, p->table, p->record.data_size, err);
    if (p->record.kind == PACK_F32_VECTOR)
        return write_vector(w, p, err);
    return write_matrix(w, p, hessian, pace, err);
}

static uint64_t weights_of(const struct pack_tensor *r)
{
    bool matrix = r->kind == PACK_NESTED || r->kind == PACK_F32_MATRIX;
    return matrix ? (uint64_t)r->rows * r->cols : 0;
}

static double weights_in(const struct var_plan *plan, uint32_t layer)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < plan->n; i++)
        if (plan->tensors[i].record.layer == layer)
            n += weights_of(&plan->tensors[i].record);
    return (double)n;
}

struct var_part_progress var_write_part(const struct var_plan *plan, uint32_t layer,
                                        const struct ert_progress *whole)
{
    double before = 0, own = weights_in(plan, layer);
    for (uint32_t i = 0; i < plan->n && layer != (uint32_t)PACK_NO_LAYER; i++) {
        const struct pack_tensor *r = &plan->tensors[i].record;
        if (r->layer < layer || r->layer == (uint32_t)PACK_NO_LAYER)
            before += (double)weights_of(r);
    }
    return (struct var_part_progress){whole, before / (double)plan->weights,
                                      own / (double)plan->weights, NULL};
}

int var_write_layer(const struct var_writer *w, uint32_t layer, const struct var_moments *moments,
                    const struct ert_progress *progress, struct ert_error *err)
{
    struct pace pace = {progress, 0, weights_in(w->plan, layer)};
    struct shared_hessian shared = {0};
    int rc = 0;
    for (uint32_t i = 0; i < w->plan->n && !rc; i++) {
        const struct var_planned *p = &w->plan->tensors[i];
        if (p->record.layer != layer)
            continue;
        rc = share_hessian(w, p, moments, &shared, err);
        if (!rc)
            rc = write_tensor(w, p, shared.hessian, &pace, err);
        pace.done += (double)weights_of(&p->record);
    }
    var_hessian_free(shared.hessian);
    return rc;
}

/* ---- checksums ----------------------------------------------------------------------------- */

/* Checksums are of what the file holds, read back through a mapping. */
static int map_file(const struct var_writer *w, struct ert_map *map, struct ert_error *err)
{
    *map = (struct ert_map){.fd = -1};
    return fflush(w->file) ? fail_write(w, err) : ert_map_open(map, w->file_path, err);
}

int var_write_checksum(const struct var_writer *w, uint32_t layer, uint64_t *checksum,
                       struct ert_error *err)
{
    struct ert_map map;
    struct region regions[MOST_REGIONS];
    int rc = map_file(w, &map, err);
    *checksum = 0;
    for (uint32_t i = 0; i < w->plan->n && !rc; i++) {
        if (w->plan->tensors[i].record.layer != layer)
            continue;
        list_regions(w, &w->plan->tensors[i].record, regions);
        for (int k = 0; k < MOST_REGIONS; k++) {
            uint64_t both[2] = {*checksum, ert_hash64(map.data + regions[k].at, regions[k].size)};
            *checksum = ert_hash64(both, sizeof both);
        }
    }
    ert_map_close(&map);
    return rc;
}

/* ---- the whole file ------------------------------------------------------------------------ */

/* Takes the room on the disk where the file system can tell, else the size only. */
static int take_room(const struct var_writer *w, struct ert_error *err)
{
    const struct pack_section *last = &w->sections[w->n_sections - 1];
    off_t size = (off_t)(last->offset + last->size);
    if (fflush(w->file) || ftruncate(fileno(w->file), size))
        return fail_write(w, err);
    if (fallocate(fileno(w->file), 0, 0, size) && errno != EOPNOTSUPP && errno != ENOSYS)
        return fail_write(w, err);
    return 0;
}

int var_write_begin(struct var_writer *w, struct ert_error *err)
{
    int rc = write_vocab(w, &w->src->vocab, err);
    if (!rc)
        rc = write_records(w, w->plan, err);
    if (rc)
        return rc;
    w->h_at = add_section(w, PACK_PLANES_H, w->plan->h_size)->offset;
    w->l_at = w->plan->l_size ? add_section(w, PACK_PLANES_L, w->plan->l_size)->offset : 0;
    return take_room(w, err);
}

int var_write_end(struct var_writer *w, struct ert_error *err)
{
    struct ert_map map;
    int rc = map_file(w, &map, err);
    for (uint32_t i = 0; i < w->n_sections && !rc; i++)
        w->sections[i].checksum = ert_hash64(map.data + w->sections[i].offset, w->sections[i].size);
    ert_map_close(&map);
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
    if (!rc && (fflush(w->file) || ftruncate(fileno(w->file), (off_t)h.file_size)))
        rc = fail_write(w, err);
    return rc;
}

int var_write_meta(struct var_writer *w, const json_t *meta, struct ert_error *err)
{
    if (w->sections[w->n_sections - 1].kind == PACK_META)
        w->n_sections--;
    char *text = json_dumps(meta, JSON_COMPACT | JSON_PRESERVE_ORDER);
    if (!text)
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory for its description", w->path);
    size_t n = strlen(text);
    struct pack_section *s = add_section(w, PACK_META, n);
    s->checksum = ert_hash64(text, n);
    int rc = write_at(w, s->offset, text, n, err);
    free(text);
    return rc ? rc : write_header(w, err);
}

int var_write_all(struct var_writer *w, const json_t *meta, const struct ert_progress *progress,
                  struct ert_error *err)
{
    int rc = var_write_begin(w, err);
    for (uint32_t i = 0; i <= w->order->n_layers && !rc; i++) {
        uint32_t layer = i > 0 ? i - 1 : (uint32_t)PACK_NO_LAYER;
        struct var_part_progress part = var_write_part(w->plan, layer, progress);
        const struct ert_progress mine = var_part_progress(&part);
        rc = var_write_layer(w, layer, NULL, &mine, err);
    }
    if (!rc)
        rc = var_write_end(w, err);
    return rc ? rc : var_write_meta(w, meta, err);
}
