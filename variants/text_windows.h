/* text_windows: a text cut into windows, as llama.cpp's perplexity tool cuts it. */
#ifndef VAR_TEXT_WINDOWS_H
#define VAR_TEXT_WINDOWS_H

#include "variants/measure.h"

/* Checks the configuration against the pack, and fills windows but for `first`: one after the other
 * without overlap, the first token of each replaced by BOS where the vocabulary asks for one. *ids
 * holds them and is the caller's to free, on failure too. */
int var_text_windows(const struct rt_pack *pack, const struct var_eval_config *config,
                     struct var_windows *windows, int32_t **ids, struct ert_error *err);

/* var_measure against the configuration's reference, if it has one. */
int var_measure_windows(const struct var_eval_config *config, const struct var_windows *windows,
                        struct var_measured *points, size_t n, struct rt_team *team,
                        struct ert_error *err);

#endif
