/* sim: a policy against recorded traces, on a virtual clock, through the very decision code that
 * the live governor calls. Deterministic. */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include <jansson.h>

#include "policies/policies.h"

struct sim_result {
    char trace[128], policy[POL_NAME];
    double duration_s;
    uint64_t decisions, total_trans;
    bool truncated; /* the journal's last line was cut off, as by a killed run */
    size_t n_states;
    char states[POL_MAX_STATES][POL_NAME];
    uint64_t time_in_state_ms[POL_MAX_STATES];
    uint64_t trans_table[POL_MAX_STATES][POL_MAX_STATES]; /* [from][to] */
    size_t n_sensors;
    struct sim_peak {
        char sensor[DEV_NAME];
        double min, max;      /* of valid readings; NaN if there were none */
        uint64_t missing;     /* decisions without a value */
        enum dev_absence why; /* the last reason */
    } sensors[POL_MAX_SENSORS];
    size_t n_guarantees;
    struct sim_guarantee {
        char text[POL_FORMULA];
        enum pol_verdict verdict;
        bool decided;             /* by what was read; else by the last values going on */
        double decided_s;         /* when, from the first decision on */
        double robustness;        /* NaN if the guarantee never started, for want of a reading */
        char waits_for[DEV_NAME]; /* of which sensor; else "" */
        unsigned restarts;        /* as in struct pol_guarantee_status */
    } guarantees[POL_MAX_GUARANTEES];
    struct sim_change { /* every change of state, in order; the caller frees */
        double time_s;
        unsigned from, to;
        char reason[POL_REASON];
    } * changes;
};

/* Open loop: one decision every poll from time 0 to the end of the trace. */
int sim_replay(const struct dev_trace *trace, const struct pol_policy *policy,
               struct sim_result *result, struct ert_error *err);
/* Replays the journaled inputs of a live run: the same decisions at the same times. Compares with
 * the journaled decisions; the first difference is ERT_E_CHECK with line, expected and got. A last
 * line that is cut off is left out and noted in result->truncated. */
int sim_replay_journal(const char *journal_path, struct sim_result *result, struct ert_error *err);
void sim_result_release(struct sim_result *result);

/* A journal that is still being written, line after line. */
struct sim_journal;

/* name is what errors call it; it must outlive *out, which sim_journal_free frees. */
int sim_journal_follow(struct sim_journal **out, const char *name, struct ert_error *err);
/* Takes one line, parsed. Errors as of sim_replay_journal, after which nothing more can be taken.
 */
int sim_journal_take(struct sim_journal *r, const json_t *line, struct ert_error *err);
void sim_journal_free(struct sim_journal *r); /* NULL is fine */
/* Where the policy stands: its policy, its memory, and the last decision (NULL before the first).
 * Valid until the next line. */
const struct pol_policy *
sim_journal_policy(const struct sim_journal *r); /* NULL before its start */
const struct pol_state *sim_journal_state(const struct sim_journal *r);
const struct pol_decision *sim_journal_decision(const struct sim_journal *r);

/* The text summary (also the golden format): stable, a diff a person can read. Caller frees. */
int sim_summary_text(const struct sim_result *result, char **text, struct ert_error *err);
json_t *sim_summary_json(const struct sim_result *result); /* NULL if out of memory */
/* ERT_E_CHECK, with the first of them, if a guarantee is false. */
int sim_check_guarantees(const struct sim_result *result, struct ert_error *err);
/* ERT_E_CHECK with the first differing line if the summary is not byte for byte the golden file's.
 */
int sim_check_golden(const struct sim_result *result, const char *golden_path,
                     struct ert_error *err);

#endif
