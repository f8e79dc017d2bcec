/* Inside governor/: a policy's sensors at their sources. */
#ifndef GOV_SENSORS_H
#define GOV_SENSORS_H

#include "governor/source.h"

struct gov_sensors {
    const struct pol_policy *policy;
    struct gov_sensor {
        size_t n_sources;
        struct gov_source *sources; /* [n_sources], in order of preference */
        int active;                 /* the one that served last, -1 = none */
    } sensors[POL_MAX_SENSORS];
};

/* Starts the services that the policy's sensors need; changed is called on their threads. */
int gov_sensors_ask(const struct pol_policy *policy, struct gov_machine *machine, const char *bus,
                    void (*changed)(void *ctx), void *ctx, struct ert_error *err);
/* Probes all sources; a replayed trace stands for all of a sensor's. The policy must outlive it. On
 * failure nothing is held. */
int gov_sensors_open(struct gov_sensors *sensors, const struct pol_policy *policy,
                     const struct gov_machine *machine, struct ert_error *err);
void gov_sensors_close(struct gov_sensors *sensors);

/* Has events end the wait when a value may have come past one of the policy's trips. */
void gov_sensors_arm(struct gov_sensors *sensors, const struct gov_machine *machine,
                     struct gov_events *events);
/* Looks again for sources that did not answer. */
void gov_sensors_probe_again(struct gov_sensors *sensors, const struct gov_machine *machine);

/* The reading of sensor i: of the first source with a believable value, which becomes the active
 * one; without one the first answer there was. */
struct dev_reading gov_sensors_read(struct gov_sensors *sensors, size_t i,
                                    const struct gov_machine *machine, uint64_t now_ns);
/* The active source's name, "" if there is none. */
const char *gov_sensors_source(const struct gov_sensors *sensors, size_t i);
/* Why the source that comes first is not the active one. */
const char *gov_sensors_why(const struct gov_sensors *sensors, size_t i);
/* "max of temp.cpu, temp.battery", "" for a sensor that is made of no others. */
void gov_sensors_blend(const struct pol_sensor *sensor, char *text, size_t size);

#endif
