/* What a switch does to the text after it: loss by position against either point all along. */
#include <math.h>
#include <stdlib.h>

#include "variants/text_windows.h"

/* The three courses of one switch. */
enum course { FROM, TO, SWITCHED, N_COURSES };

struct study {
    struct var_windows windows;
    uint32_t at;
    bool compared;
    struct var_schedule_entry (*entries)[N_COURSES][2]; /* [n switches] */
    struct var_measured *measured;                      /* [n switches][N_COURSES] */
};

typedef struct var_mean (*mean_function)(const struct var_windows *windows,
                                         const struct var_stretch *stretch);

static struct var_switch_measure measure_stretch(const struct study *study,
                                                 const struct var_measured *courses,
                                                 mean_function mean_of, uint32_t first,
                                                 uint32_t last)
{
    const struct var_score *from = courses[FROM].scores, *to = courses[TO].scores,
                           *switched = courses[SWITCHED].scores;
    const struct var_windows *w = &study->windows;
    return (struct var_switch_measure){
        .from = mean_of(w, &(struct var_stretch){from, NULL, first, last}),
        .to = mean_of(w, &(struct var_stretch){to, NULL, first, last}),
        .switched = mean_of(w, &(struct var_stretch){switched, NULL, first, last}),
        .over_to = mean_of(w, &(struct var_stretch){switched, to, first, last}),
        .over_from = mean_of(w, &(struct var_stretch){switched, from, first, last}),
    };
}

static struct var_switch_stretch summarise_stretch(const struct study *study,
                                                   const struct var_measured *courses,
                                                   uint32_t first, uint32_t last)
{
    const struct var_mean none = {NAN, NAN};
    struct var_switch_stretch s = {.first = first, .last = last};
    s.nll = measure_stretch(study, courses, var_mean_nll, first, last);
    s.kld = study->compared ? measure_stretch(study, courses, var_mean_kld, first, last)
                            : (struct var_switch_measure){none, none, none, none, none};
    return s;
}

static void summarise(const struct study *study, size_t i, struct var_switch_result *result)
{
    const struct var_measured *courses = &study->measured[i * N_COURSES];
    uint32_t n = var_windows_scored(&study->windows);
    *result = (struct var_switch_result){.windows = study->windows.n};
    for (uint32_t first = 0; first < n && result->n_stretches < VAR_SWITCH_STRETCHES;) {
        uint32_t after = first ? 2 * first : 1;
        after = after < n ? after : n;
        result->stretches[result->n_stretches++] =
            summarise_stretch(study, courses, first, after - 1);
        first = after;
    }
    result->all = summarise_stretch(study, courses, 0, n - 1);
}

/* ---- the courses --------------------------------------------------------------------------- */

static void lay_courses(struct study *study, const struct rt_pack *pack, uint32_t cache_bits,
                        const struct var_switch *switches, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct var_schedule_entry(*e)[2] = study->entries[i];
        e[FROM][0].point = e[SWITCHED][0].point = switches[i].from;
        e[TO][0].point = e[SWITCHED][1].point = switches[i].to;
        e[SWITCHED][1].token = study->at;
        for (enum course c = 0; c < N_COURSES; c++)
            study->measured[i * N_COURSES + c] =
                (struct var_measured){pack, {e[c], c == SWITCHED ? 2 : 1}, cache_bits, NULL};
    }
}

static int run(struct study *study, struct rt_team *team, const struct var_eval_config *config,
               size_t n, struct ert_error *err)
{
    struct var_windows *w = &study->windows;
    for (size_t i = 0; i < n * N_COURSES; i++) {
        int rc = var_check_schedule(&study->measured[i].schedule, err);
        if (rc)
            return rc;
    }
    if (study->at >= w->length - 1)
        return ert_fail(err, ERT_E_RANGE,
                        "a switch at token %u of a window of %u leaves nothing to score; 1 to %u "
                        "do",
                        study->at, w->length, w->length - 2);
    w->first = study->at;
    return var_measure_windows(config, w, study->measured, n * N_COURSES, team, err);
}

static void release(struct study *study, size_t n)
{
    for (size_t i = 0; i < n * N_COURSES && study->measured; i++)
        free(study->measured[i].scores);
    free(study->measured);
    free(study->entries);
}

int var_eval_switches(const struct rt_pack *pack, struct rt_team *team,
                      const struct var_eval_config *config, uint32_t at,
                      const struct var_switch *switches, size_t n,
                      struct var_switch_result *results, struct ert_error *err)
{
    struct study study = {.at = at, .compared = config->reference != NULL};
    int32_t *ids = NULL;
    study.entries = calloc(n, sizeof *study.entries);
    study.measured = calloc(n * N_COURSES, sizeof *study.measured);
    if (!study.entries || !study.measured) {
        release(&study, n);
        return ert_fail(err, ERT_E_NOMEM, "no memory to measure %zu switches", n);
    }
    lay_courses(&study, pack, config->cache_bits, switches, n);
    int rc = var_text_windows(pack, config, &study.windows, &ids, err);
    if (!rc)
        rc = run(&study, team, config, n, err);
    for (size_t i = 0; i < n && !rc; i++)
        summarise(&study, i, &results[i]);
    release(&study, n);
    free(ids);
    return rc;
}
