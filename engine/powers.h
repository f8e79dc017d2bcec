/* powers: what the points of a model draw on this machine, as `edgert bench --save` measured it,
 * and the battery for whoever measures. */
#ifndef ERT_POWERS_H
#define ERT_POWERS_H

#include "governor/governor.h"

/* The machine as its maker or its processor calls it; out gets at most room bytes. */
void powers_machine_name(char *out, size_t room);
/* Where the figures of a machine of that name are kept. *path is the caller's to free. */
int powers_path(const char *machine, char **path, struct ert_error *err);

/* Gives the states of a policy the powers that were measured for their points with as many threads;
 * states that are paced keep theirs unless the pace is faster than what was measured. n_threads:
 * the team's. Nothing was saved, or for another model, or nothing can be read of it: nothing
 * changes. */
void powers_apply(struct pol_policy *policy, const char *model, unsigned n_threads);
/* The same from a file. */
void powers_apply_file(struct pol_policy *policy, const char *path, const char *model,
                       unsigned n_threads);

/* battery.power as file declares it, or where there is no file (NULL) as it usually is: what the
 * energy meter goes by. NULL = no memory. The caller frees it. */
struct pol_policy *powers_battery_sensor(const struct pol_file *file);
/* A governor that decides nothing but reads the battery; NULL = it cannot be started, and the
 * battery is not read. gov_stop ends it. */
struct gov_governor *powers_watch_battery(const struct pol_policy *sensor, const char *root);

#endif
