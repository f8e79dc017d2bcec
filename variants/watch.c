#include "variants/watch.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/pack_format.h"
#include "variants/describe.h"
#include "variants/progress.h"
#include "variants/stream.h"
#include "variants/write.h"

enum { LENGTH = 256, WEIGHED_LENGTH = 128, NAME_ROOM = 32 };

/* Rarer words make better averages; but not where a source's own grid keeps whole groups of
 * channels together: docs/quality.md. */
static const float WARM = 1.2f;

#define DRAFT  "draft.edgert"
#define STATES "states"

/* ---- the draft ----------------------------------------------------------------------------- */

static int write_draft(const struct var_watch *w, const char *path, const char *part,
                       const struct ert_progress *progress, struct ert_error *err)
{
    const struct var_build_options plain = {
        .source = w->options->source, .n_tiers = 1, .rank_percent = {100}};
    struct var_arrangement *order = NULL;
    struct var_plan plan = {0};
    json_t *meta = NULL;
    FILE *file = fopen(part, "w+be");
    int rc =
        file ? var_arrange(&order, w->src, &plain, NULL, err) : var_work_fail_write(w->work, err);
    if (!rc)
        rc = var_plan_make(&plan, w->src, order, &plain, NULL, err);
    struct var_writer writer = {.file = file,
                                .path = part,
                                .file_path = part,
                                .src = w->src,
                                .order = order,
                                .plan = &plan,
                                .team = w->team};
    if (!rc)
        rc = var_describe(&meta, w->src, order, &plain, err);
    if (!rc)
        rc = var_write_all(&writer, meta, progress, err);
    if (file && fclose(file) && !rc)
        rc = var_work_fail_write(w->work, err);
    if (!rc && rename(part, path))
        rc = var_work_fail_write(w->work, err);
    json_decref(meta);
    var_plan_release(&plan);
    var_arrangement_free(order);
    return rc;
}

/* Opens the draft, from an earlier build where its checksums hold. */
static int open_draft(const struct var_watch *w, struct rt_pack **draft,
                      const struct ert_progress *progress, struct ert_error *err)
{
    char *path = var_work_path(w->work, DRAFT), *part = var_work_path(w->work, DRAFT ".part");
    const struct ert_progress silent = {0};
    int rc = 0;
    *draft = NULL;
    if (!path || !part) {
        rc = ert_fail(err, ERT_E_NOMEM, "%s: no memory", w->src->path);
        goto out;
    }
    if (access(path, R_OK) == 0 && rt_pack_open(draft, path, NULL) == 0 &&
        rt_pack_verify(*draft, &silent, NULL) == 0)
        goto out;
    rt_pack_free(*draft);
    *draft = NULL;
    rc = write_draft(w, path, part, progress, err);
    if (!rc)
        rc = rt_pack_open(draft, path, err);
out:
    free(path);
    free(part);
    return rc;
}

/* ---- texts --------------------------------------------------------------------------------- */

static int make_texts(const struct var_watch *w, struct var_texts *texts,
                      const struct var_texts_config *config, const struct ert_progress *drafting,
                      struct ert_error *err)
{
    struct rt_pack *draft;
    if (w->options->calib)
        return var_texts_read(texts, w->options->calib, &w->src->vocab, &w->src->model, config,
                              err);
    int rc = open_draft(w, &draft, drafting, err);
    if (!rc)
        rc = var_texts_write(texts, draft, w->team, config, err);
    rt_pack_free(draft);
    return rc;
}

int var_watch_texts(const struct var_watch *w, struct var_texts *texts,
                    const struct ert_progress *drafting, const struct ert_progress *writing,
                    struct ert_error *err)
{
    uint32_t tokens = w->options->calib_tokens ? w->options->calib_tokens : VAR_CALIB_TOKENS;
    const struct var_texts_config config = {.measured = tokens,
                                            .held_back = tokens / 4,
                                            .weighed = tokens / 16,
                                            .length = LENGTH,
                                            .weighed_length = WEIGHED_LENGTH,
                                            .temperature = w->src->grid ? 1 : WARM,
                                            .seed = w->options->seed,
                                            .progress = writing};
    if (var_texts_load(texts, w->work))
        return 0;
    int rc = make_texts(w, texts, &config, drafting, err);
    if (!rc)
        rc = var_texts_save(texts, w->work, err);
    if (!rc)
        var_work_drop(w->work, DRAFT); /* of no use once there is text */
    return rc;
}

/* ---- layers -------------------------------------------------------------------------------- */

static void name_moments(uint32_t layer, char name[NAME_ROOM])
{
    if (layer == (uint32_t)PACK_NO_LAYER)
        snprintf(name, NAME_ROOM, "moments");
    else
        snprintf(name, NAME_ROOM, "moments-%04u", layer);
}

static bool has_file(const struct var_watch *w, const char *name)
{
    struct var_work_data d;
    bool whole = var_work_load(&d, w->work, name);
    var_work_release(&d);
    return whole;
}

static bool has_moments(const struct var_watch *w, uint32_t n_layers)
{
    char name[NAME_ROOM];
    bool all = true;
    for (uint32_t l = 0; l < n_layers && all; l++) {
        name_moments(l, name);
        all = has_file(w, name);
    }
    return all;
}

static int save_moments(const struct var_watch *w, uint32_t layer, const struct var_moments *m,
                        struct ert_error *err)
{
    char name[NAME_ROOM];
    name_moments(layer, name);
    return var_moments_save(m, w->work, name, err);
}

static void forget_layer(const struct var_source *src, uint32_t layer)
{
    for (int p = 0; p < VAR_N_PARTS; p++)
        var_tensor_forget(&src->layers[layer].part[p]);
}

static int watch_layer(const struct var_watch *w, struct var_stream *stream,
                       const struct ert_progress *progress, struct ert_error *err)
{
    uint32_t layer = var_stream_position(stream), n = w->src->model.n_layers;
    unsigned wanted = VAR_OF_LAYER | (w->options->n_tiers != 1 ? VAR_CROSS : 0);
    struct var_part_progress part = {progress, (double)layer / n, 1.0 / n, NULL};
    const struct ert_progress mine = var_part_progress(&part);
    struct var_moments m;
    int rc = var_moments_init(&m, &w->src->model, wanted, err);
    if (!rc)
        rc = var_stream_layer(stream, &m, &mine, err);
    if (!rc)
        rc = save_moments(w, layer, &m, err);
    if (!rc)
        rc = var_stream_save(stream, w->work, err);
    var_moments_release(&m);
    forget_layer(w->src, layer);
    return rc;
}

static int finish_stream(const struct var_watch *w, struct var_stream *stream,
                         const struct var_texts *texts, struct ert_error *err)
{
    struct var_moments m;
    size_t text = (size_t)texts->length * w->src->model.n_embd_pad;
    int rc = var_moments_init(&m, &w->src->model, VAR_OF_MODEL, err);
    if (rc)
        return rc;
    var_stream_finish(stream, &m);
    rc = save_moments(w, (uint32_t)PACK_NO_LAYER, &m, err);
    var_moments_release(&m);
    if (rc)
        return rc;
    return var_work_save(w->work, STATES, var_stream_state(stream) + texts->n_measured * text,
                         (texts->n - texts->n_measured) * text * sizeof(float), err);
}

int var_watch_layers(const struct var_watch *w, const struct var_texts *texts,
                     const struct ert_progress *progress, struct ert_error *err)
{
    struct var_stream *stream;
    uint32_t n = w->src->model.n_layers;
    if (has_file(w, STATES) && has_file(w, "moments") && has_moments(w, n))
        return 0;
    int rc = var_stream_open(&stream, w->src, w->team, texts, err);
    if (rc)
        return rc;
    if (var_stream_load(stream, w->work) && !has_moments(w, var_stream_position(stream))) {
        var_stream_close(stream); /* moments were lost: from the beginning */
        rc = var_stream_open(&stream, w->src, w->team, texts, err);
    }
    while (!rc && var_stream_position(stream) < n)
        rc = watch_layer(w, stream, progress, err);
    if (!rc)
        rc = finish_stream(w, stream, texts, err);
    if (!rc)
        var_stream_drop(w->work);
    var_stream_close(stream);
    return rc;
}

/* ---- what was seen ------------------------------------------------------------------------- */

int var_watch_load(const struct var_watch *w, uint32_t layer, struct var_moments *m,
                   struct ert_error *err)
{
    char name[NAME_ROOM];
    name_moments(layer, name);
    return var_moments_load(m, &w->src->model, w->work, name, err);
}

static int load_layer(void *ctx, uint32_t layer, struct var_moments *m, struct ert_error *err)
{
    return var_watch_load(ctx, layer, m, err);
}

struct var_moments_store var_watch_store(struct var_watch *w)
{
    return (struct var_moments_store){load_layer, w};
}

int var_watch_states(const struct var_watch *w, struct var_work_data *d, struct ert_error *err)
{
    if (var_work_load(d, w->work, STATES))
        return 0;
    return ert_fail(err, ERT_E_MISSING,
                    "%s/" STATES ": missing or damaged; remove the folder and build again",
                    w->work->folder);
}
