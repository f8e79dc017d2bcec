/* A weight's way from source to pack: the model is watched (watch.c), its channels are ordered, its
 * weights quantized layer by layer, what became of it is measured. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/kernels/kernels.h"
#include "variants/blas.h"
#include "variants/catalog.h"
#include "variants/compensate.h"
#include "variants/describe.h"
#include "variants/states.h"
#include "variants/tiers.h"
#include "variants/watch.h"
#include "variants/write.h"

/* Another number for another meaning of what lies in a work folder. */
enum { WORK_VERSION = 8 };

#define PACK_PART "pack.part"

/* The stages of a build that watches its model; their shares of the time are estimates. */
enum stage { DRAFTING, WRITING_TEXT, WATCHING, WEIGHING, QUANTIZING, MEASURING, N_STAGES };

/* Everything a build holds; released in one place. */
struct build {
    const struct var_build_options *options;
    struct var_source *source;
    struct rt_team *team;
    struct var_arrangement *order;
    struct var_plan plan;
    struct var_work work;
    struct var_watch watch;
    struct var_texts texts;
    struct var_writer writer;
    char *part_path; /* of the unfinished pack in the work folder */
    struct var_part_progress parts[N_STAGES];
    struct ert_progress progress[N_STAGES];
    struct ert_error *err;
};

static bool same_file(const char *a, const char *b)
{
    struct stat sa, sb;
    return stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
           sa.st_ino == sb.st_ino;
}

static int check_options(const struct var_build_options *o, struct ert_error *err)
{
    if (!o->source || !o->output || !*o->output)
        return ert_fail(err, ERT_E_USAGE, "a build needs a source file and an output");
    if (same_file(o->source, o->output))
        return ert_fail(err, ERT_E_USAGE,
                        "%s: the pack would replace its own source; give it "
                        "another name",
                        o->output);
    if (o->f32 && (o->h_only || o->outliers || o->comp_rank || o->truncate_attention ||
                   o->nearest || o->calib))
        return ert_fail(err, ERT_E_USAGE,
                        "an f32 pack has no planes, outliers or tiers to choose, and nothing to "
                        "calibrate");
    if (o->n_tiers > VAR_MAX_TIERS)
        return ert_fail(err, ERT_E_RANGE, "%u tiers, at most %d are possible", o->n_tiers,
                        VAR_MAX_TIERS);
    for (unsigned i = 0; i < o->n_tiers; i++)
        if (o->rank_percent[i] < 1 ||
            (i == 0 ? o->rank_percent[0] != 100 : o->rank_percent[i] >= o->rank_percent[i - 1]))
            return ert_fail(err, ERT_E_RANGE,
                            "tier %u keeps %u %%; tiers begin at 100 and fall, such as 100, 90, 80",
                            i, o->rank_percent[i]);
    return 0;
}

static unsigned thread_count(const struct var_build_options *o)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned n = o->threads ? o->threads : cores > 0 ? (unsigned)cores : 1;
    return n > 256 ? 256 : n;
}

/* ---- tier widths --------------------------------------------------------------------------- */

static bool weighs_layers(const struct build *b)
{
    return b->options->n_tiers != 1 && !b->options->truncate_attention;
}

static int measure_widths(struct build *b, const struct var_moments_store *moments, uint32_t tier)
{
    struct var_sensitivity s;
    double share = 1.0 / (b->order->n_tiers - 1);
    struct var_part_progress part = {&b->progress[WEIGHING], (tier - 1) * share, share, NULL};
    const struct ert_progress mine = var_part_progress(&part);
    const struct var_texts texts = var_texts_weighed(&b->texts);
    int rc = var_sensitivity_measure(&s, b->source, b->order, tier - 1,
                                     var_depth_of_tier(b->order, &b->source->model, tier), moments,
                                     &texts, b->team, &mine, b->err);
    if (rc)
        return rc;
    var_allocate_widths(b->order, &b->source->model, tier, &s, b->options->comp_rank);
    var_sensitivity_release(&s);
    return 0;
}

/* The widths of a tier, from an earlier build where it left them. */
static int choose_widths(struct build *b, const struct var_moments_store *moments, uint32_t tier)
{
    struct rt_dims *dims = b->order->dims[tier];
    size_t n = b->order->n_layers * sizeof *dims;
    struct var_work_data d;
    char name[32];
    snprintf(name, sizeof name, "widths-%u", tier);
    if (var_work_load(&d, &b->work, name)) {
        memcpy(dims, d.data, n);
        var_work_release(&d);
        return 0;
    }
    int rc = measure_widths(b, moments, tier);
    return rc ? rc : var_work_save(&b->work, name, dims, n, b->err);
}

static int choose_all_widths(struct build *b, const struct var_moments_store *moments)
{
    int rc = 0;
    for (uint32_t t = 1; t < b->order->n_tiers && !rc; t++)
        rc = choose_widths(b, moments, t);
    return rc;
}

/* ---- an f32 pack, or one that needs no watching --------------------------------------------- */

static int make_plan(struct build *b, const struct var_moments_store *moments)
{
    int rc = var_arrange(&b->order, b->source, b->options, moments, b->err);
    if (!rc && moments && weighs_layers(b))
        rc = choose_all_widths(b, moments);
    if (!rc)
        var_rank_compensators(b->order, &b->source->model, b->options->comp_rank);
    if (!rc && moments && !b->options->nearest && var_spread_channels(b->order, b->source))
        rc = ert_fail(b->err, ERT_E_NOMEM, "%s: no memory to order its channels", b->source->path);
    if (!rc)
        rc = var_plan_make(&b->plan, b->source, b->order, b->options, moments, b->err);
    b->writer.src = b->source;
    b->writer.order = b->order;
    b->writer.plan = &b->plan;
    b->writer.team = b->team;
    b->writer.path = b->options->output;
    return rc;
}

static int build_at_once(struct build *b)
{
    struct ert_output out;
    json_t *meta = NULL;
    int rc = ert_output_open(&out, b->options->output, b->err);
    if (rc)
        return rc;
    b->writer.file = out.file;
    b->writer.file_path = out.temp_path;
    rc = make_plan(b, NULL);
    if (!rc)
        rc = var_describe(&meta, b->source, b->order, b->options, b->err);
    if (!rc)
        rc = var_write_all(&b->writer, meta, &b->options->progress, b->err);
    if (!rc)
        rc = ert_output_commit(&out, b->err);
    ert_output_abort(&out);
    b->writer.file = NULL;
    json_decref(meta);
    return rc;
}

/* ---- the work folder ----------------------------------------------------------------------- */

static json_t *list_tiers(const struct var_build_options *o)
{
    json_t *tiers = json_array();
    for (unsigned i = 0; i < o->n_tiers; i++)
        json_array_append_new(tiers, json_integer(o->rank_percent[i]));
    return tiers;
}

static int hash_file(const char *path, char text[17], struct ert_error *err)
{
    struct ert_map map;
    int rc = path ? ert_map_open(&map, path, err) : 0;
    snprintf(text, 17, "%016" PRIx64, path && !rc ? ert_hash64(map.data, map.size) : 0);
    if (path && !rc)
        ert_map_close(&map);
    return rc;
}

/* All that shows in the pack: a folder made for anything else is of no use. What the kernels of
 * another CPU computed differs in its last bits. */
static int describe_key(const struct build *b, char **key)
{
    const struct var_build_options *o = b->options;
    char calib[17], tokenizer[17], source[17], model[17];
    snprintf(source, sizeof source, "%016" PRIx64, var_source_hash(b->source));
    snprintf(model, sizeof model, "%016" PRIx64, var_source_settings_hash(b->source));
    int rc = hash_file(o->calib, calib, b->err);
    if (!rc)
        rc = hash_file(o->tokenizer, tokenizer, b->err);
    if (rc)
        return rc;
    json_t *j = json_pack(
        "{s:i, s:s, s:s, s:s, s:i, s:s, s:s, s:i, s:I, s:o, s:i, s:b, s:b, s:b, s:b, s:b, s:f}",
        "work", WORK_VERSION, "isa", rt_kernels_best()->isa, "source", source, "model", model,
        "bos", b->source->vocab.bos, "tokenizer", tokenizer, "calib", calib, "calib_tokens",
        (int)o->calib_tokens, "seed", (json_int_t)o->seed, "tiers", list_tiers(o), "comp_rank",
        (int)o->comp_rank, "h_only", o->h_only, "no_catalog", o->no_catalog, "nearest", o->nearest,
        "truncate_attention", o->truncate_attention, "outliers", o->outliers, "bits_per_weight",
        (double)o->bits_per_weight);
    *key = j ? json_dumps(j, JSON_INDENT(1)) : NULL;
    json_decref(j);
    return *key ? 0 : ert_fail(b->err, ERT_E_NOMEM, "%s: no memory", o->output);
}

/* Whether the pack can be put there is found out now, not after minutes of work. */
static int probe_output(const struct build *b)
{
    struct ert_output probe;
    int rc = ert_output_open(&probe, b->options->output, b->err);
    if (!rc)
        ert_output_abort(&probe);
    return rc;
}

static int open_work(struct build *b)
{
    char *key = NULL;
    int rc = probe_output(b);
    if (!rc)
        rc = describe_key(b, &key);
    if (!rc)
        rc = var_work_open(&b->work, b->options->output, key, &b->options->notice, b->err);
    free(key);
    b->watch = (struct var_watch){b->source, b->options, b->team, &b->work};
    return rc;
}

/* Estimates of each stage's work, in weights times tokens of the FP32 pass. */
static void share_progress(struct build *b)
{
    const struct rt_model *m = &b->source->model;
    const struct var_build_options *o = b->options;
    double layer = (double)m->n_embd *
                   ((double)m->head_dim * 2 * (m->n_heads + m->n_kv_heads) + 3.0 * m->n_ff);
    double head = (double)m->n_embd * m->n_vocab, all = layer * m->n_layers + head;
    double tokens = o->calib_tokens ? o->calib_tokens : VAR_CALIB_TOKENS, points = 8;
    double tiers = o->n_tiers ? o->n_tiers - 1 : 3; /* that are cut */
    const double work[N_STAGES] = {
        [DRAFTING] = o->calib ? 0 : all * 4000,
        [WRITING_TEXT] = o->calib ? 0 : all * tokens * 1.25,
        [WATCHING] = layer * m->n_layers * tokens * 2,
        [WEIGHING] = weighs_layers(b) ? all * m->n_layers * tiers * tokens / 11 : 0,
        [QUANTIZING] = all * 20000,
        [MEASURING] = o->no_catalog ? 0 : all * points * tokens / 4,
    };
    double sum = 0, begin = 0;
    for (int i = 0; i < N_STAGES; i++)
        sum += work[i];
    for (int i = 0; i < N_STAGES; begin += work[i++] / sum) {
        b->parts[i] = (struct var_part_progress){&o->progress, begin, work[i] / sum, NULL};
        b->progress[i] = var_part_progress(&b->parts[i]);
    }
    b->parts[DRAFTING].stage = "writing a draft";
}

/* ---- planes -------------------------------------------------------------------------------- */

static void name_layer(uint32_t layer, char name[32])
{
    if (layer == (uint32_t)PACK_NO_LAYER)
        snprintf(name, 32, "written");
    else
        snprintf(name, 32, "written-%04u", layer);
}

/* Whether an earlier build wrote a layer, and the file still holds it. */
static int is_written(const struct build *b, uint32_t layer, bool *written)
{
    char name[32];
    struct var_work_data d;
    uint64_t then, now;
    name_layer(layer, name);
    *written = false;
    if (!var_work_load(&d, &b->work, name))
        return 0;
    memcpy(&then, d.data, sizeof then);
    var_work_release(&d);
    int rc = var_write_checksum(&b->writer, layer, &now, b->err);
    *written = !rc && then == now;
    return rc;
}

static int note_written(const struct build *b, uint32_t layer)
{
    char name[32];
    uint64_t checksum;
    name_layer(layer, name);
    int rc = var_write_checksum(&b->writer, layer, &checksum, b->err);
    return rc ? rc : var_work_save(&b->work, name, &checksum, sizeof checksum, b->err);
}

static int quantize_layer(struct build *b, uint32_t layer)
{
    const struct var_build_options *o = b->options;
    struct var_part_progress part = var_write_part(&b->plan, layer, &b->progress[QUANTIZING]);
    const struct ert_progress progress = var_part_progress(&part);
    struct var_moments m;
    bool of_model = layer == (uint32_t)PACK_NO_LAYER;
    int rc = var_watch_load(&b->watch, layer, &m, b->err);
    if (!rc && !of_model)
        rc = var_plan_fill_extras(&b->plan, b->source, b->order, layer, &m, b->err);
    if (!rc)
        rc = var_write_layer(&b->writer, layer, o->nearest ? NULL : &m, &progress, b->err);
    var_plan_drop_extras(&b->plan, layer);
    var_moments_release(&m);
    for (int p = 0; p < VAR_N_PARTS && !of_model; p++)
        var_tensor_forget(&b->source->layers[layer].part[p]);
    return rc ? rc : note_written(b, layer);
}

/* The pack as far as an earlier build came, or a new one. */
static int open_part(struct build *b)
{
    b->part_path = var_work_path(&b->work, PACK_PART);
    if (!b->part_path)
        return ert_fail(b->err, ERT_E_NOMEM, "%s: no memory", b->options->output);
    int fd = open(b->part_path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    b->writer.file = fd < 0 ? NULL : fdopen(fd, "r+b");
    b->writer.file_path = b->part_path;
    if (b->writer.file)
        return 0;
    int rc = var_work_fail_write(&b->work, b->err);
    if (fd >= 0)
        close(fd);
    return rc;
}

static int quantize(struct build *b)
{
    const struct var_moments_store moments = var_watch_store(&b->watch);
    int rc = make_plan(b, &moments);
    if (!rc)
        rc = open_part(b);
    if (!rc)
        rc = var_write_begin(&b->writer, b->err);
    for (uint32_t i = 0; i <= b->source->model.n_layers && !rc; i++) {
        uint32_t layer = i > 0 ? i - 1 : (uint32_t)PACK_NO_LAYER;
        bool written;
        rc = is_written(b, layer, &written);
        if (!rc && !written)
            rc = quantize_layer(b, layer);
    }
    return rc ? rc : var_write_end(&b->writer, b->err);
}

/* ---- catalog ------------------------------------------------------------------------------- */

/* Measures the written, still unfinished pack on the held-back texts; the first quarter of each is
 * only context. */
static int measure_points(struct build *b, const struct rt_pack *pack, const float *x,
                          json_t **catalog)
{
    const struct var_texts *t = &b->texts;
    const struct var_windows windows = {t->ids + (size_t)t->n_measured * t->length,
                                        t->n - t->n_measured, t->length, t->length / 4};
    struct var_states states;
    struct var_reference reference;
    int rc = var_states_open(&states, b->source, b->team, x, t->length, &reference, b->err);
    if (!rc)
        rc = var_catalog_measure(catalog, pack, &windows, &reference, b->team,
                                 &b->progress[MEASURING], b->err);
    var_states_release(&states);
    return rc ? ert_fail_in(b->err, "%s", b->options->source) : 0;
}

static int make_catalog(struct build *b, json_t **catalog)
{
    struct rt_pack *pack = NULL;
    struct var_work_data states;
    *catalog = NULL;
    int rc = var_watch_states(&b->watch, &states, b->err);
    if (rc)
        return rc;
    rc = rt_pack_open(&pack, b->part_path, b->err);
    if (!rc)
        rc = measure_points(b, pack, (const float *)(const void *)states.data, catalog);
    rt_pack_free(pack);
    var_work_release(&states);
    return rc;
}

static int describe_and_measure(struct build *b)
{
    json_t *meta, *catalog;
    int rc = var_describe(&meta, b->source, b->order, b->options, b->err);
    if (!rc)
        rc = var_write_meta(&b->writer, meta, b->err);
    if (!rc && !b->options->no_catalog) {
        rc = make_catalog(b, &catalog);
        if (!rc && json_object_set_new(meta, "catalog", catalog))
            rc = ert_fail(b->err, ERT_E_NOMEM, "%s: no memory for the catalog", b->options->output);
        if (!rc)
            rc = var_write_meta(&b->writer, meta, b->err);
    }
    json_decref(meta);
    return rc;
}

/* ---- all of it ----------------------------------------------------------------------------- */

static int put_in_place(struct build *b)
{
    FILE *file = b->writer.file;
    b->writer.file = NULL;
    bool ok = fflush(file) == 0 && fsync(fileno(file)) == 0;
    ok = fclose(file) == 0 && ok && rename(b->part_path, b->options->output) == 0;
    if (!ok)
        return ert_fail(b->err, errno == ENOSPC ? ERT_E_FULL : ERT_E_IO,
                        "%s: cannot put the pack in place: %s; the same command tries it again",
                        b->options->output, strerror(errno));
    var_work_remove(&b->work);
    return 0;
}

static int build_in_stages(struct build *b)
{
    int rc = open_work(b);
    share_progress(b);
    if (!rc)
        rc = var_watch_texts(&b->watch, &b->texts, &b->progress[DRAFTING],
                             &b->progress[WRITING_TEXT], b->err);
    if (!rc)
        rc = var_watch_layers(&b->watch, &b->texts, &b->progress[WATCHING], b->err);
    if (!rc)
        rc = quantize(b);
    if (!rc)
        rc = describe_and_measure(b);
    if (!rc && !ert_progress_report(&b->options->progress, "done", 1, 1))
        rc = ert_fail(b->err, ERT_E_CANCELLED, "%s: stopped on request", b->options->output);
    return rc ? rc : put_in_place(b);
}

static void release(struct build *b)
{
    if (b->writer.file)
        fclose(b->writer.file);
    free(b->part_path);
    free(b->texts.ids);
    var_work_close(&b->work);
    var_plan_release(&b->plan);
    var_arrangement_free(b->order);
    rt_team_free(b->team);
    var_source_free(b->source);
}

/* Tiers and calibrated rounding need the moments, the catalog a reference and text. */
bool var_build_resumes(const struct var_build_options *o)
{
    return !o->f32 && (!o->nearest || o->n_tiers != 1 || !o->no_catalog);
}

int var_build(const struct var_build_options *options, struct ert_error *err)
{
    struct build b = {.options = options, .work = {.lock = -1}, .err = err};
    int rc = check_options(options, err);
    if (!rc)
        rc = var_source_open(&b.source, options->source, options->tokenizer, err);
    if (!rc && !options->f32)
        rc = var_blas_open(err);
    if (!rc)
        rc = rt_team_create(&b.team, thread_count(options), err);
    if (!rc)
        rc = var_build_resumes(options) ? build_in_stages(&b) : build_at_once(&b);
    release(&b);
    return rc;
}
