/* Inside policies/: a formula evaluated online, for the time at which the run begins.
 *
 * Signals hold their last value (RTAMT's dense-time semantics). Each node of the formula tells its
 * parent its value as soon as it is known, in the order of time: a window [a:b] into the future
 * lags b behind. What nothing to come can change is known before: the first violation settles an
 * `always` window. */
#ifndef POL_STL_RUN_H
#define POL_STL_RUN_H

#include "policies/stl_formula.h"
#include "policies/stl_window.h"

/* What the formula's robustness can still become; both the same once it is known. */
struct stl_bounds {
    double lower, upper;
};

struct stl_run;

/* Decisions a poll for which there is room: events bring some before their time. */
enum { STL_SAMPLES_PER_POLL = 8 };

/* Bytes that a run of the formula takes, given the time between decisions. ERT_E_RANGE if it is
 * more than a guarantee may take. */
int stl_run_size(const struct stl_formula *formula, double poll_s, size_t *bytes,
                 struct ert_error *err);

/* truth: comparisons count as +inf or -inf, so that the sign of the robustness is the formula's
 * truth, the strictness of comparisons included, and is known as early as can be. formula must
 * outlive the run, which the caller frees. */
int stl_run_create(struct stl_run **run, const struct stl_formula *formula, double poll_s,
                   bool truth, struct ert_error *err);
void stl_run_free(struct stl_run *run);
/* Forgets everything: the next sample begins anew. */
void stl_run_reset(struct stl_run *run);
/* values[i] is the formula's signal i from time_ns on; times rise and are no less than 0. Allocates
 * nothing. False if there is no room, with more decisions a poll than it was made for: reset it. */
bool stl_run_sample(struct stl_run *run, int64_t time_ns, const double *values);
/* The last values hold forever: the robustness is known then. No more samples before a reset. */
bool stl_run_finish(struct stl_run *run);
/* Before the first sample anything is possible. */
struct stl_bounds stl_run_bounds(const struct stl_run *run);

#endif
