/* The battery as the energy meter wants it: how much power leaves it, if that is all the device
 * draws. */
#include "governor/energy.h"

#include <stdlib.h>
#include <string.h>

/* What the sensor itself needs for company. How much fits in has no signal: no policy asks for it.
 */
static const struct {
    const char *name, *sources[2];
} company[] = {{"battery.discharging", {"upower:state", "power_supply:status"}},
               {"battery.full", {"upower:energy-full", "power_supply:energy_full"}}};

/* Index of the company's i-th sensor, which is added to the policy. */
static unsigned accompany(struct pol_policy *policy, size_t i)
{
    struct pol_sensor *s = &policy->sensors[policy->n_sensors];
    *s = (struct pol_sensor){.missing_state = -1};
    snprintf(s->name, sizeof s->name, "%s", company[i].name);
    s->signal = dev_signal_find(s->name);
    for (size_t k = 0; k < 2; k++)
        snprintf(s->sources[s->n_sources++], sizeof s->sources[0], "%s", company[i].sources[k]);
    return (unsigned)policy->n_sensors++;
}

int gov_gauge_open(struct gov_gauge *gauge, const struct pol_policy *sensor,
                   struct gov_machine *machine, const char *bus, void (*changed)(void *ctx),
                   void *ctx, struct ert_error *err)
{
    *gauge = (struct gov_gauge){0};
    if (!sensor || sensor->n_sensors == 0 || sensor->n_sensors + 2 > POL_MAX_SENSORS)
        return 0;
    struct pol_policy *policy = malloc(sizeof *policy);
    if (!policy)
        return ert_fail(err, ERT_E_NOMEM, "no memory for the battery's sensors");
    memcpy(policy, sensor, sizeof *policy);
    gauge->power = (unsigned)policy->n_sensors - 1;
    gauge->discharging = accompany(policy, 0);
    gauge->full = accompany(policy, 1);
    int rc = machine->trace ? 0 : gov_sensors_ask(policy, machine, bus, changed, ctx, err);
    if (!rc)
        rc = gov_sensors_open(&gauge->sensors, policy, machine, err);
    if (rc)
        free(policy);
    else
        gauge->policy = policy;
    return rc;
}

void gov_gauge_close(struct gov_gauge *gauge)
{
    if (!gauge->policy)
        return;
    gov_sensors_close(&gauge->sensors);
    free(gauge->policy);
    gauge->policy = NULL;
}

void gov_gauge_probe_again(struct gov_gauge *gauge, const struct gov_machine *machine)
{
    if (gauge->policy)
        gov_sensors_probe_again(&gauge->sensors, machine);
}

/* Why a power says nothing about what is spent; NULL = it does. */
static const char *objection(const struct pol_sensor *sensor, const struct dev_reading *power,
                             const struct dev_reading *discharging, uint64_t now_ns)
{
    if (now_ns > power->time_ns && (double)(now_ns - power->time_ns) * 1e-9 > sensor->stale_s)
        return dev_absence_text(DEV_STALE);
    if (power->value < 0)
        return "it is charging";
    if (discharging->why == DEV_PRESENT && discharging->value == 0)
        return "it is not drawn from";
    if (power->value == 0)
        return "it is at rest";
    return NULL;
}

struct gov_battery gov_gauge_read(struct gov_gauge *gauge, const struct gov_machine *machine,
                                  uint64_t now_ns)
{
    struct gov_battery battery = {0};
    if (!gauge->policy) {
        snprintf(battery.why, sizeof battery.why, "nobody reads it");
        return battery;
    }
    struct dev_reading power = gov_sensors_read(&gauge->sensors, gauge->power, machine, now_ns);
    struct dev_reading drawn =
        gov_sensors_read(&gauge->sensors, gauge->discharging, machine, now_ns);
    struct dev_reading full = gov_sensors_read(&gauge->sensors, gauge->full, machine, now_ns);
    const char *why = power.why == DEV_PRESENT
                          ? objection(&gauge->policy->sensors[gauge->power], &power, &drawn, now_ns)
                          : gov_sensors_why(&gauge->sensors, gauge->power);
    battery.known = !why;
    battery.watts = why ? 0 : power.value;
    battery.full_wh = full.why == DEV_PRESENT && full.value > 0 ? full.value : 0;
    snprintf(battery.why, sizeof battery.why, "%s", why ? why : "");
    return battery;
}
