/* what_if: what given readings come to under a policy, and which others would change it. */
#ifndef ERT_WHAT_IF_H
#define ERT_WHAT_IF_H

#include "cli/options.h"
#include "policies/policies.h"

/* Reads texts such as "temp.cpu=80C", with the sensor's unit, into readings[n_sensors] of the
 * policy; sensors without a text have no reading. ERT_E_USAGE for one that the policy does not
 * read. */
int what_if_read(const struct pol_policy *policy, const struct option_list *texts,
                 struct dev_reading *readings, struct ert_error *err);
void what_if_print(const struct pol_policy *policy, const struct pol_what_if *what_if);
/* The caller's; NULL when out of memory. */
json_t *what_if_json(const struct pol_policy *policy, const struct pol_what_if *what_if);

#endif
