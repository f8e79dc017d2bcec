/* bench: what `edgert bench` measures, by part. */
#ifndef ERT_BENCH_H
#define ERT_BENCH_H

#include "cli/point_list.h"
#include "cli/workbench.h"

struct bench_config {
    uint32_t n_prompt, n_decode; /* tokens; 0 = not measured */
    uint32_t depth;              /* tokens in the cache before them */
    uint32_t cache_bits;         /* of its keys and values */
    uint32_t repeats, n_swaps;
};

/* Mean and sample standard deviation of n values. */
struct bench_rate {
    double tok_s, sd;
};
struct bench_rate bench_rate_of(const double *values, size_t n);

/* Tokens per second of prefill and decoding of each point, appended to results as JSON objects, and
 * what each had in memory to memory. */
int bench_points(const struct workbench *bench, const struct point_list *points,
                 const struct bench_config *config, json_t *results, json_t *memory,
                 struct ert_error *err);

/* After a run at a point that began with no page of the pack mapped: appends what the process has
 * in memory, how much of it is pages of the pack, and what the catalog says. Unmaps them. */
int bench_memory(const struct rt_pack *pack, const struct rt_point *point, json_t *memory,
                 struct ert_error *err);

/* Random swaps between the points, two tokens each: appends one object for each pair to pairs and
 * sets the sums in total. */
int bench_switches(const struct workbench *bench, const struct point_list *points,
                   const struct bench_config *config, json_t *pairs, json_t *total,
                   struct ert_error *err);

/* Best of a few readings of a large buffer by the whole team, GB/s; 0 if there is no memory for it.
 */
double bench_bandwidth_gb_s(struct rt_team *team);

#endif
