/* Multiple-choice questions by the log-likelihood of each choice after the prompt. */
#include <math.h>
#include <stdlib.h>

#include "variants/lane.h"
#include "variants/measure.h"
#include "variants/questions.h"

enum { CHUNK = 64 };

/* 97.5 % quantile of the normal distribution. */
#define Z 1.959963984540054

/* A lane and the text whose beginning its cache holds, NULL at first. */
struct reader {
    struct var_lane lane;
    const struct var_answer_tokens *text;
};

struct exam {
    const struct var_questions *set;
    struct var_answer_tokens (*tokens)[VAR_MAX_CHOICES]; /* [questions] */
    uint32_t n_ctx, n_vocab;
    struct rt_team *team;
    struct reader *readers; /* [n] */
    size_t n;
    float *logits; /* [CHUNK][n_vocab] */
};

/* ---- one choice ---------------------------------------------------------------------------- */

/* How many tokens of a text the reader's cache holds. */
static uint32_t count_held(const struct reader *r, const struct var_answer_tokens *t)
{
    uint32_t n = 0, most = r->text ? rt_session_position(r->lane.session) : 0;
    while (n < most && n < t->n && r->text->ids[n] == t->ids[n])
        n++;
    return n;
}

/* log p(choice | prompt) in nats. What the cache holds of the text is not read again. */
static int log_likelihood(const struct exam *x, struct reader *r, const struct var_answer_tokens *t,
                          double *sum, struct ert_error *err)
{
    uint32_t first = t->n_prompt - 1, held = count_held(r, t);
    int rc = 0;
    *sum = 0;
    r->text = t;
    if (held < first)
        rc = var_lane_read(&r->lane, t->ids, held, first, NULL, err);
    for (uint32_t from = first, to; from < t->n - 1 && !rc; from = to) {
        struct var_score scores[CHUNK];
        to = t->n - 1 - from < CHUNK ? t->n - 1 : from + CHUNK;
        rc = var_lane_read(&r->lane, t->ids, from, to, x->logits, err);
        if (rc)
            break;
        var_score_rows(x->team, x->logits, NULL, x->n_vocab, t->ids + from + 1, to - from, scores);
        for (uint32_t i = 0; i < to - from; i++)
            *sum -= (double)scores[i].nll;
    }
    return rc;
}

static int answer(const struct exam *x, struct reader *r, uint32_t question, struct var_answer *out,
                  struct ert_error *err)
{
    const struct var_question *q = &x->set->questions[question];
    double best = -INFINITY, best_norm = -INFINITY;
    *out = (struct var_answer){0};
    for (uint32_t c = 0; c < q->n_choices; c++) {
        double sum;
        int rc = log_likelihood(x, r, &x->tokens[question][c], &sum, err);
        if (rc)
            return rc;
        double norm = sum / (double)q->choices[c].characters;
        if (sum > best) {
            best = sum;
            out->choice = c;
        }
        if (norm > best_norm) {
            best_norm = norm;
            out->choice_norm = c;
        }
    }
    out->right = out->choice == q->gold;
    out->right_norm = out->choice_norm == q->gold;
    return 0;
}

/* ---- all of them --------------------------------------------------------------------------- */

/* Wilson's score interval for k of n (J. Am. Stat. Assoc. 22, 1927). */
static struct var_share share_of(uint32_t k, uint32_t n)
{
    double p = (double)k / n, centre = p + Z * Z / (2.0 * n);
    double half = Z * sqrt(p * (1 - p) / n + Z * Z / (4.0 * n * n)), scale = 1 + Z * Z / n;
    return (struct var_share){p, fmax((centre - half) / scale, 0),
                              fmin((centre + half) / scale, 1)};
}

static void summarise(const struct exam *x, struct var_exam_result *result)
{
    uint32_t right = 0, right_norm = 0;
    for (uint32_t i = 0; i < x->set->n; i++) {
        right += result->answers[i].right;
        right_norm += result->answers[i].right_norm;
    }
    result->questions = x->set->n;
    result->acc = share_of(right, x->set->n);
    result->acc_norm = share_of(right_norm, x->set->n);
}

static int encode_all(struct exam *x, const struct rt_pack *pack, struct ert_error *err)
{
    struct rt_tokenizer *tokenizer;
    int rc = rt_tokenizer_create(&tokenizer, &pack->vocab, err);
    if (rc)
        return rc;
    for (uint32_t i = 0; i < x->set->n && !rc; i++)
        for (uint32_t c = 0; c < x->set->questions[i].n_choices && !rc; c++) {
            struct var_answer_tokens *t = &x->tokens[i][c];
            rc = var_question_encode(t, tokenizer, &x->set->questions[i], c, err);
            if (!rc && t->n > pack->model.n_ctx)
                rc = ert_fail(err, ERT_E_FULL,
                              "question %s: %u tokens, the model's context holds %u",
                              x->set->questions[i].id, t->n, pack->model.n_ctx);
            x->n_ctx = t->n > x->n_ctx ? t->n : x->n_ctx;
        }
    rt_tokenizer_free(tokenizer);
    return rc;
}

static int open_readers(struct exam *x, const struct rt_pack *pack, uint32_t cache_bits,
                        const struct var_schedule *schedules, struct ert_error *err)
{
    const struct rt_session_config config = {.n_ctx = x->n_ctx, .cache_bits = cache_bits};
    int rc = 0;
    if (x->n == 0 || x->n_ctx == 0)
        return ert_fail(err, ERT_E_USAGE, "there is no point or no question to ask");
    x->readers = calloc(x->n, sizeof *x->readers);
    x->logits = malloc((size_t)CHUNK * x->n_vocab * sizeof *x->logits);
    if (!x->readers || !x->logits)
        return ert_fail(err, ERT_E_NOMEM, "no memory to ask at %zu points", x->n);
    for (size_t i = 0; i < x->n && !rc; i++)
        rc = var_lane_open(&x->readers[i].lane, pack, &schedules[i], &config, x->team, err);
    return rc;
}

static int ask_all(const struct exam *x, struct var_exam_result *results,
                   const struct ert_progress *progress, struct ert_error *err)
{
    int rc = 0;
    for (uint32_t q = 0; q < x->set->n && !rc; q++)
        for (size_t i = 0; i < x->n && !rc; i++) {
            if (!ert_progress_report(progress, "answering", q + (double)i / (double)x->n,
                                     x->set->n))
                return ert_fail(err, ERT_E_CANCELLED, "stopped on request");
            rc = answer(x, &x->readers[i], q, &results[i].answers[q], err);
        }
    return rc;
}

static void release(struct exam *x)
{
    for (uint32_t i = 0; i < x->set->n && x->tokens; i++)
        for (uint32_t c = 0; c < x->set->questions[i].n_choices; c++)
            free(x->tokens[i][c].ids);
    for (size_t i = 0; i < x->n && x->readers; i++)
        var_lane_close(&x->readers[i].lane);
    free(x->tokens);
    free(x->readers);
    free(x->logits);
}

/* Everything but reading the file. */
static int sit_exam(struct exam *x, const struct rt_pack *pack, const struct var_exam *config,
                    const struct var_schedule *schedules, struct var_exam_result *results,
                    struct ert_error *err)
{
    x->tokens = calloc(x->set->n, sizeof *x->tokens);
    if (!x->tokens)
        return ert_fail(err, ERT_E_NOMEM, "no memory for %u questions", x->set->n);
    for (size_t i = 0; i < x->n; i++) {
        results[i].answers = calloc(x->set->n, sizeof *results[i].answers);
        if (!results[i].answers)
            return ert_fail(err, ERT_E_NOMEM, "no memory for %u answers", x->set->n);
    }
    int rc = encode_all(x, pack, err);
    if (!rc)
        rc = open_readers(x, pack, config->cache_bits, schedules, err);
    if (!rc)
        rc = ask_all(x, results, &config->progress, err);
    for (size_t i = 0; i < x->n && !rc; i++)
        summarise(x, &results[i]);
    return rc;
}

int var_eval_questions(const struct rt_pack *pack, struct rt_team *team,
                       const struct var_exam *config, const struct var_schedule *schedules,
                       size_t n, struct var_exam_result *results, struct ert_error *err)
{
    struct var_questions set;
    struct exam x = {.set = &set, .n_vocab = pack->model.n_vocab, .team = team, .n = n};
    int rc = var_questions_read(&set, config->path, config->max_questions, err);
    for (size_t i = 0; i < n; i++)
        results[i] = (struct var_exam_result){0};
    for (size_t i = 0; i < n && !rc; i++)
        rc = var_check_schedule(&schedules[i], err);
    if (!rc)
        rc = sit_exam(&x, pack, config, schedules, results, err);
    release(&x);
    var_questions_release(&set);
    return rc;
}

void var_exam_result_release(struct var_exam_result *result)
{
    free(result->answers);
    *result = (struct var_exam_result){0};
}
