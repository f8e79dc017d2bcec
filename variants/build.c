/* A weight's way from source to pack: read, order, quantize, write, measure. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "variants/calibrate.h"
#include "variants/catalog.h"
#include "variants/describe.h"
#include "variants/write.h"

enum { N_SEQUENCES = 20, HELD_BACK = 4, LENGTH = 128 };

/* Everything a build holds; released in one place. */
struct build {
    const struct var_build_options *options;
    struct var_source *source;
    struct rt_team *team;
    struct var_arrangement *order;
    struct var_plan plan;
    struct var_stats *stats;
    struct var_writer writer, reference_writer;
    struct rt_pack *reference; /* f32, in source order; its file never gets a name */
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
    if (o->f32 && (o->h_only || o->outliers || o->comp_rank || o->truncate_attention))
        return ert_fail(err, ERT_E_USAGE, "an f32 pack has no planes, outliers or tiers to choose");
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

/* Both the moments for the tiers and the reference for the catalog come from the source itself, as
 * an f32 pack in the source's order. */
static int open_reference(struct build *b)
{
    struct var_build_options plain = {.source = b->options->source,
                                      .output = b->options->output,
                                      .f32 = true,
                                      .progress = b->options->progress};
    struct var_arrangement *order;
    struct var_plan plan = {0};
    json_t *meta = NULL;
    int rc = var_arrange(&order, b->source, &plain, NULL, b->team, b->err);
    if (!rc)
        rc = var_plan_make(&plan, b->source, order, &plain, NULL, b->err);
    if (!rc)
        rc = var_write_planes(&b->reference_writer, plain.output, b->source, &plan, b->team,
                              &plain.progress, b->err);
    if (!rc)
        rc = var_describe(&meta, b->source, order, &plain, b->err);
    if (!rc)
        rc = var_write_meta(&b->reference_writer, meta, b->err);
    if (!rc)
        rc = rt_pack_open(&b->reference, b->reference_writer.out.temp_path, b->err);
    if (b->reference) /* mapped: the name is not needed any more, and a crash leaves nothing */
        unlink(b->reference_writer.out.temp_path);
    json_decref(meta);
    var_plan_release(&plan);
    var_arrangement_free(order);
    return rc;
}

static int calibrate(struct build *b)
{
    struct var_calibration config = {.n_sequences = N_SEQUENCES,
                                     .length = LENGTH,
                                     .held_back = HELD_BACK,
                                     .products = b->options->comp_rank > 0,
                                     .seed = b->options->seed,
                                     .progress = &b->options->progress};
    if (config.length > b->source->model.n_ctx)
        config.length = b->source->model.n_ctx;
    int rc = open_reference(b);
    return rc ? rc : var_calibrate(&b->stats, b->reference, b->team, &config, b->err);
}

static int write_planes(struct build *b)
{
    const struct var_build_options *o = b->options;
    int rc = var_arrange(&b->order, b->source, o, b->stats, b->team, b->err);
    if (!rc)
        rc = var_plan_make(&b->plan, b->source, b->order, o, b->stats, b->err);
    if (!rc)
        rc = var_write_planes(&b->writer, o->output, b->source, &b->plan, b->team, &o->progress,
                              b->err);
    return rc;
}

/* ---- catalog ------------------------------------------------------------------------------- */

/* Measures the written, still nameless pack on the held-back text. */
static int measure_points(const struct build *b, const struct rt_pack *pack, json_t **catalog)
{
    const struct var_windows windows = {b->stats->ids, b->stats->n_windows, b->stats->window,
                                        b->stats->window / 2};
    struct var_reference reference;
    int rc = var_reference_open(&reference, b->reference, &windows, b->team, b->err);
    if (!rc)
        rc = var_catalog_measure(catalog, pack, &windows, &reference, b->team,
                                 &b->options->progress, b->err);
    var_reference_close(&reference);
    return rc ? ert_fail_in(b->err, "%s", b->options->source) : 0;
}

static int write_catalog(struct build *b, json_t *meta)
{
    struct rt_pack *pack;
    json_t *catalog = NULL;
    int rc = rt_pack_open(&pack, b->writer.out.temp_path, b->err);
    if (rc)
        return rc;
    rc = measure_points(b, pack, &catalog);
    rt_pack_free(pack);
    if (!rc && json_object_set_new(meta, "catalog", catalog))
        rc = ert_fail(b->err, ERT_E_NOMEM, "%s: no memory for the catalog", b->options->output);
    return rc ? rc : var_write_meta(&b->writer, meta, b->err);
}

static int describe_and_measure(struct build *b)
{
    json_t *meta;
    int rc = var_describe(&meta, b->source, b->order, b->options, b->err);
    if (!rc)
        rc = var_write_meta(&b->writer, meta, b->err);
    if (!rc && b->stats && !b->options->no_catalog)
        rc = write_catalog(b, meta);
    json_decref(meta);
    return rc;
}

/* ---- all of it ----------------------------------------------------------------------------- */

static void release(struct build *b)
{
    rt_pack_free(b->reference);
    var_write_abort(&b->reference_writer);
    var_write_abort(&b->writer);
    var_plan_release(&b->plan);
    var_arrangement_free(b->order);
    var_stats_free(b->stats);
    rt_team_free(b->team);
    var_source_free(b->source);
}

static int build_pack(struct build *b)
{
    const struct var_build_options *o = b->options;
    int rc = var_source_open(&b->source, o->source, o->tokenizer, b->err);
    if (!rc)
        rc = rt_team_create(&b->team, thread_count(o), b->err);
    /* Tiers need the moments, the catalog a reference and text. */
    if (!rc && !o->f32 && (o->n_tiers != 1 || !o->no_catalog))
        rc = calibrate(b);
    if (!rc)
        rc = write_planes(b);
    if (!rc)
        rc = describe_and_measure(b);
    if (!rc && !ert_progress_report(&o->progress, "done", 1, 1))
        rc =
            ert_fail(b->err, ERT_E_CANCELLED, "%s: stopped on request, nothing is left", o->output);
    return rc ? rc : var_write_commit(&b->writer, b->err);
}

int var_build(const struct var_build_options *options, struct ert_error *err)
{
    int rc = check_options(options, err);
    if (rc)
        return rc;
    struct build b = {.options = options, .err = err};
    rc = build_pack(&b);
    release(&b);
    return rc;
}
