/* Inside governor/: what is spent. The gauge reads the battery on the governor's thread, where a
 * slow driver holds up no token; the meter counts on the thread that answers. */
#ifndef GOV_ENERGY_H
#define GOV_ENERGY_H

#include "governor/powercap.h"
#include "governor/sensors.h"
#include "governor/timekeeping.h"

/* ---- the gauge ------------------------------------------------------------------------------ */

/* battery.power, and beside it whether the battery is drawn from and how much fits in. */
struct gov_gauge {
    struct pol_policy *policy; /* that names the three; NULL = nothing is read */
    unsigned power, discharging, full;
    struct gov_sensors sensors;
};

/* sensor: a policy of battery.power alone (pol_compile_sensor), copied; NULL = nothing is read. The
 * services that it needs are started; changed is called on their threads. */
int gov_gauge_open(struct gov_gauge *gauge, const struct pol_policy *sensor,
                   struct gov_machine *machine, const char *bus, void (*changed)(void *ctx),
                   void *ctx, struct ert_error *err);
void gov_gauge_close(struct gov_gauge *gauge);
/* Looks again for sources that did not answer. */
void gov_gauge_probe_again(struct gov_gauge *gauge, const struct gov_machine *machine);
/* now_ns is the decision clock's. */
struct gov_battery gov_gauge_read(struct gov_gauge *gauge, const struct gov_machine *machine,
                                  uint64_t now_ns);

/* ---- the meter ------------------------------------------------------------------------------ */

/* gov_meter_begin and gov_meter_take at a time of the caller's. */
void gov_meter_begin_at(struct gov_meter *m, struct gov_clocks now);
void gov_meter_take_at(struct gov_meter *m, struct gov_clocks now,
                       const struct gov_battery *battery, double model_w, struct gov_energy *sum);

#endif
