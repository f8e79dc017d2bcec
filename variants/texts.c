#include "variants/texts.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { CACHE_BYTES = 256 << 20, LEAST_LANES = 8, MOST_LANES = 64, MAX_TEXT_BYTES = 1 << 28 };

/* ---- how many ------------------------------------------------------------------------------ */

static uint32_t all_texts(const struct var_texts *t)
{
    return t->n + t->n_weighed;
}

static size_t all_tokens(const struct var_texts *t)
{
    return (size_t)t->n * t->length + (size_t)t->n_weighed * t->weighed_length;
}

static uint32_t length_of(const struct var_texts *t, uint32_t text)
{
    return text < t->n ? t->length : t->weighed_length;
}

/* Text t->n is the first weighed one. */
static int32_t *ids_of(const struct var_texts *t, uint32_t text)
{
    size_t weighed = text > t->n ? text - t->n : 0;
    return t->ids + (text - weighed) * t->length + weighed * t->weighed_length;
}

static int allocate_texts(struct var_texts *t, const char *path, struct ert_error *err)
{
    t->ids = calloc(all_tokens(t) + 1, sizeof *t->ids);
    return t->ids ? 0
                  : ert_fail(err, ERT_E_NOMEM, "%s: no memory for %u texts of %u tokens", path,
                             all_texts(t), t->length);
}

static void choose_sizes(struct var_texts *t, const struct rt_model *m,
                         const struct var_texts_config *c)
{
    uint32_t length = c->length < m->n_ctx ? c->length : m->n_ctx;
    uint32_t weighed = c->weighed_length < length ? c->weighed_length : length;
    *t = (struct var_texts){.length = length,
                            .weighed_length = weighed,
                            .n_measured = (c->measured + length - 1) / length,
                            .n_weighed = (c->weighed + weighed - 1) / weighed};
    t->n = t->n_measured + (c->held_back + length - 1) / length;
}

/* ---- the model's own ----------------------------------------------------------------------- */

/* Texts on their way, `lanes` at a time. */
struct writing {
    const struct rt_pack *pack;
    struct var_texts *texts;
    uint64_t seed;
    float temperature;     /* of the measured texts and half of the weighed */
    uint32_t lanes, first; /* of the texts that are being written */
    uint32_t position;
    float *logits; /* [lanes][n_vocab] */
    int32_t *next; /* [lanes] */
    _Atomic(bool) broken;
};

static int32_t first_token(const struct rt_vocab *v)
{
    return v->bos >= 0 ? v->bos : v->n_eos > 0 ? v->eos[0] : 0;
}

static bool ends_text(const struct rt_vocab *v, int32_t id)
{
    for (uint32_t i = 0; i < v->n_eos; i++)
        if (v->eos[i] == id)
            return true;
    return false;
}

/* SplitMix64's output function (Steele, Lea, Flood 2014) of a counter: uniform in [0, 1). */
static double draw(uint64_t seed, uint64_t text, uint64_t position)
{
    uint64_t z = seed;
    const uint64_t counters[] = {text, position};
    for (int i = 0; i < 2; i++) {
        z += (counters[i] + 1) * 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        z ^= z >> 31;
    }
    return (double)(z >> 11) * 0x1p-53;
}

static float temperature_of(const struct writing *w, uint32_t text)
{
    const struct var_texts *t = w->texts;
    bool other = text >= t->n && (text - t->n) % 2 == 1;
    return text < t->n_measured || other ? w->temperature : 1;
}

/* A token by its probability at a temperature, in the order of ids; the logits are used up.
 * Negative where they are no numbers. (The runtime's sampler sorts candidates, which the whole
 * distribution needs not.) */
static int32_t choose(float *logits, uint32_t n, float temperature, double uniform)
{
    float top = logits[0];
    double total = 0;
    for (uint32_t i = 1; i < n; i++)
        top = fmaxf(top, logits[i]);
    for (uint32_t i = 0; i < n; i++) {
        logits[i] = expf((logits[i] - top) / temperature);
        total += (double)logits[i];
    }
    if (!isfinite(total) || total < 1)
        return -1;
    double left = uniform * total;
    uint32_t last = 0;
    for (uint32_t i = 0; i < n && left >= 0; i++) {
        if (logits[i] > 0)
            last = i;
        left -= (double)logits[i];
    }
    return (int32_t)last;
}

static void choose_next(void *ctx, unsigned worker, unsigned n)
{
    struct writing *w = ctx;
    const struct rt_vocab *v = &w->pack->vocab;
    uint32_t n_vocab = w->pack->model.n_vocab;
    for (uint32_t i = worker; i < w->lanes; i += n) {
        double uniform = draw(w->seed, w->first + i, w->position);
        float temperature = temperature_of(w, w->first + i);
        int32_t id = ends_text(v, w->next[i])
                         ? first_token(v)
                         : choose(w->logits + (size_t)i * n_vocab, n_vocab, temperature, uniform);
        if (id < 0)
            w->broken = true;
        w->next[i] = id < 0 ? 0 : id;
    }
}

static void keep_tokens(const struct writing *w)
{
    for (uint32_t i = 0; i < w->lanes && w->first + i < all_texts(w->texts); i++)
        if (w->position < length_of(w->texts, w->first + i))
            ids_of(w->texts, w->first + i)[w->position] = w->next[i];
}

static bool go_on(const struct writing *w, const struct ert_progress *progress)
{
    double done = (double)w->first * w->texts->length + (double)w->lanes * w->position;
    return ert_progress_report(progress, "writing sample text", done,
                               (double)all_texts(w->texts) * w->texts->length);
}

static int write_lanes(struct writing *w, struct rt_batch *batch, struct rt_team *team,
                       const struct ert_progress *progress, struct ert_error *err)
{
    for (uint32_t i = 0; i < w->lanes; i++)
        w->next[i] = first_token(&w->pack->vocab);
    rt_batch_restart(batch);
    for (w->position = 0; w->position < w->texts->length; w->position++) {
        if (!go_on(w, progress))
            return ert_fail(err, ERT_E_CANCELLED, "%s: stopped on request", w->pack->path);
        keep_tokens(w);
        int rc =
            w->position + 1 < w->texts->length ? rt_batch_step(batch, w->next, w->logits, err) : 0;
        if (rc)
            return rc;
        rt_team_run(team, rt_team_size(team), choose_next, w);
        if (w->broken)
            return ert_fail(err, ERT_E_CHECK,
                            "%s: the model's logits are no numbers; the source is damaged or not "
                            "supported",
                            w->pack->path);
    }
    return 0;
}

/* As many texts at a time as a bounded cache holds, in rounds of equal size. */
static uint32_t choose_lanes(const struct rt_model *m, const struct var_texts *t)
{
    size_t text_bytes = (size_t)4 * m->n_layers * m->n_kv_heads * m->head_pad * t->length;
    size_t most = CACHE_BYTES / text_bytes;
    most = most < LEAST_LANES ? LEAST_LANES : most > MOST_LANES ? MOST_LANES : most;
    uint32_t n = all_texts(t), rounds = (uint32_t)((n + most - 1) / most);
    return (n + rounds - 1) / rounds;
}

int var_texts_write(struct var_texts *texts, const struct rt_pack *pack, struct rt_team *team,
                    const struct var_texts_config *config, struct ert_error *err)
{
    struct rt_batch *batch = NULL;
    choose_sizes(texts, &pack->model, config);
    struct writing w = {.pack = pack,
                        .texts = texts,
                        .seed = config->seed,
                        .temperature = config->temperature,
                        .lanes = choose_lanes(&pack->model, texts)};
    struct rt_batch_config lanes = {.n_sequences = w.lanes, .n_ctx = texts->length};
    int rc = allocate_texts(texts, pack->path, err);
    w.logits = calloc((size_t)w.lanes * pack->model.n_vocab, sizeof *w.logits);
    w.next = calloc(w.lanes, sizeof *w.next);
    if (!rc && (!w.logits || !w.next))
        rc = ert_fail(err, ERT_E_NOMEM, "%s: no memory to write %u texts", pack->path, w.lanes);
    if (!rc)
        rc = rt_point_parse("w8a8", pack, &lanes.point, err);
    if (!rc)
        rc = rt_batch_create(&batch, pack, team, &lanes, err);
    for (; w.first < all_texts(texts) && !rc; w.first += w.lanes)
        rc = write_lanes(&w, batch, team, config->progress, err);
    rt_batch_free(batch);
    free(w.logits);
    free(w.next);
    if (rc) {
        free(texts->ids);
        *texts = (struct var_texts){0};
    }
    return rc;
}

/* ---- the user's ---------------------------------------------------------------------------- */

static int encode_file(const char *path, const struct rt_vocab *vocab, int32_t **ids, size_t *n,
                       struct ert_error *err)
{
    struct rt_tokenizer *tokenizer = NULL;
    char *text;
    size_t size;
    int rc = ert_read_text(path, MAX_TEXT_BYTES, &text, &size, err);
    if (!rc)
        rc = rt_tokenizer_create(&tokenizer, vocab, err);
    if (!rc)
        rc = rt_encode(tokenizer, text, size, 0, ids, n, err);
    rt_tokenizer_free(tokenizer);
    free(text);
    return rc;
}

/* Cuts the texts out of ids[n], a piece of `own` tokens for each or as many of them as it takes,
 * behind BOS where that comes first. */
static void cut_texts(struct var_texts *t, const int32_t *ids, size_t n, size_t own,
                      const struct rt_vocab *vocab)
{
    uint32_t all = all_texts(t), bos = vocab->add_bos ? 1 : 0;
    size_t spare = n / own - all;
    for (uint32_t i = 0; i < all; i++) {
        int32_t *to = ids_of(t, i);
        size_t piece = i + spare * i / all;
        if (bos)
            *to = vocab->bos;
        memcpy(to + bos, ids + piece * own, (length_of(t, i) - bos) * sizeof *to);
    }
}

/* Too few pieces are shared out. */
static void share_pieces(struct var_texts *t, size_t pieces)
{
    size_t wanted = (size_t)t->n + t->n_weighed;
    if (pieces < wanted) {
        t->n_weighed = (uint32_t)(pieces * t->n_weighed / wanted);
        t->n = (uint32_t)pieces - t->n_weighed;
        t->n_measured = t->n - (t->n + 4) / 5;
    }
}

static int take_texts(struct var_texts *t, const char *path, const int32_t *ids, size_t n,
                      const struct rt_vocab *vocab, const struct rt_model *model,
                      struct ert_error *err)
{
    size_t own = t->length - (vocab->add_bos ? 1 : 0), pieces = own > 0 ? n / own : 0;
    if (pieces < 2)
        return ert_fail(err, ERT_E_RANGE,
                        "%s: %zu tokens of calibration text, at least %u are needed; give a longer "
                        "text, or none: the model then writes its own",
                        path, n, 2 * t->length);
    for (size_t i = 0; i < n; i++)
        if ((uint32_t)ids[i] >= model->n_vocab)
            return ert_fail(err, ERT_E_RANGE,
                            "%s: its token %zu has the id %d, the model's vocabulary has 0 to %u",
                            path, i, ids[i], model->n_vocab - 1);
    share_pieces(t, pieces);
    if (allocate_texts(t, path, err))
        return -ERT_E_NOMEM;
    cut_texts(t, ids, n, own, vocab);
    return 0;
}

int var_texts_read(struct var_texts *texts, const char *path, const struct rt_vocab *vocab,
                   const struct rt_model *model, const struct var_texts_config *config,
                   struct ert_error *err)
{
    int32_t *ids = NULL;
    size_t n = 0;
    choose_sizes(texts, model, config);
    int rc = encode_file(path, vocab, &ids, &n, err);
    if (!rc)
        rc = take_texts(texts, path, ids, n, vocab, model, err);
    free(ids);
    if (rc)
        *texts = (struct var_texts){0};
    return rc;
}

struct var_texts var_texts_weighed(const struct var_texts *t)
{
    return (struct var_texts){.ids = t->n_weighed ? ids_of(t, t->n) : t->ids,
                              .n = t->n_weighed ? t->n_weighed : 1,
                              .length = t->weighed_length};
}

/* ---- in the build's folder ----------------------------------------------------------------- */

#define NAME "texts"

int var_texts_save(const struct var_texts *texts, const struct var_work *w, struct ert_error *err)
{
    const uint32_t head[] = {texts->n, texts->length, texts->n_measured, texts->n_weighed,
                             texts->weighed_length};
    struct var_work_file f;
    size_t n = all_tokens(texts);
    int rc = var_work_begin(&f, w, NAME, err);
    if (rc)
        return rc;
    if (fwrite(head, sizeof head, 1, f.file) == 1 && fwrite(texts->ids, 4, n, f.file) == n)
        return var_work_commit(&f, err);
    rc = var_work_fail_write(w, err);
    var_work_abort(&f);
    return rc;
}

bool var_texts_load(struct var_texts *texts, const struct var_work *w)
{
    struct var_work_data d;
    uint32_t head[5];
    *texts = (struct var_texts){0};
    if (!var_work_load(&d, w, NAME))
        return false;
    memcpy(head, d.data, sizeof head); /* the checksum held: it is what save wrote */
    *texts = (struct var_texts){.n = head[0],
                                .length = head[1],
                                .n_measured = head[2],
                                .n_weighed = head[3],
                                .weighed_length = head[4]};
    texts->ids = malloc(d.size - sizeof head);
    if (texts->ids)
        memcpy(texts->ids, d.data + sizeof head, d.size - sizeof head);
    var_work_release(&d);
    return texts->ids != NULL;
}
