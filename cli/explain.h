/* explain: a policy in words: its states, what each costs by a pack's catalog, what asks for it. */
#ifndef ERT_EXPLAIN_H
#define ERT_EXPLAIN_H

#include "cli/options.h"

/* name NULL = "balanced", policy_file NULL = none; model as for ert_model_open: NULL takes the
 * default pack if there is one and goes without costs if not. readings: texts as what_if_read has
 * them; if there are any, it also says what they come to. Exit status. */
int explain_policy(const char *name, const char *policy_file, const char *model,
                   const struct option_list *readings, bool json);

#endif
