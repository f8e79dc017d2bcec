/* Perplexity of a text, and its KL to the source, at points or under schedules. */
#include <stdlib.h>

#include "variants/text_windows.h"

int var_eval(const struct rt_pack *pack, struct rt_team *team, const struct var_eval_config *config,
             const struct var_schedule *schedules, size_t n, struct var_eval_result *results,
             struct ert_error *err)
{
    struct var_windows windows = {0};
    int32_t *ids = NULL;
    int rc = 0;
    struct var_measured *points = calloc(n, sizeof *points);
    if (!points)
        return ert_fail(err, ERT_E_NOMEM, "no memory to measure %zu points", n);
    for (size_t i = 0; i < n && !rc; i++) {
        points[i] = (struct var_measured){pack, schedules[i], config->cache_bits, NULL};
        rc = var_check_schedule(&schedules[i], err);
    }
    if (!rc)
        rc = var_text_windows(pack, config, &windows, &ids, err);
    if (!rc) {
        windows.first = windows.length / 2;
        rc = var_measure_windows(config, &windows, points, n, team, err);
    }
    for (size_t i = 0; i < n; i++) {
        if (!rc)
            results[i] = var_summarise(points[i].scores, &windows, config->reference != NULL);
        free(points[i].scores);
    }
    free(points);
    free(ids);
    return rc;
}
