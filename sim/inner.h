/* Inside sim/: one run of a policy on a virtual clock, whatever its readings come from. */
#ifndef SIM_INNER_H
#define SIM_INNER_H

#include "sim/sim.h"

struct sim_run {
    const struct pol_policy *policy;
    struct pol_state state;
    struct pol_monitor *monitor;
    struct sim_result *result;
    uint64_t begin_ns, last_ns, in_state_ns[POL_MAX_STATES];
    size_t capacity; /* of result->changes */
};

/* Describes the run in *result, which sim_result_release releases; so does sim_run_finish the run.
 */
int sim_run_init(struct sim_run *run, const char *trace, const struct pol_policy *policy,
                 struct sim_result *result, struct ert_error *err);
/* Another policy takes over: the books begin anew, but for the number of decisions and the
 * duration. On failure the old one stays. */
int sim_run_reload(struct sim_run *run, const struct pol_policy *policy, struct ert_error *err);
/* One decision, counted. */
int sim_run_decide(struct sim_run *run, uint64_t now_ns, const struct dev_reading *raw,
                   struct pol_decision *decision, struct ert_error *err);
/* Closes the books at end_ns, where the last values go on holding. Harmless after a failed init. */
void sim_run_finish(struct sim_run *run, uint64_t end_ns);

#endif
