#include "policies/policies.h"

#include <stdlib.h>
#include <string.h>

/* A double-quoted YAML scalar. */
static void show_text(FILE *f, const char *text)
{
    fputc('"', f);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', f);
        fputc(*text, f);
    }
    fputc('"', f);
}

/* The fewest digits that read back as the same double, and the unit. */
static void show_quantity(FILE *f, double value, enum ert_unit unit)
{
    char text[32];
    double back = value + 1;
    for (int digits = 6; digits <= 17 && back != value; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (ert_parse_double(text, &back, NULL))
            back = value + 1;
    }
    fprintf(f, "%s%s", text, ert_unit_name(unit));
}

/* ", max: [temp.battery, temp.cpu]" */
static void show_blend(FILE *f, const struct pol_sensor *sensor)
{
    static const char *const names[] = {[POL_MAX] = "max", [POL_MEAN] = "mean", [POL_SUM] = "sum"};
    bool weighted = sensor->blend == POL_SUM;
    fprintf(f, "%s: %c", names[sensor->blend], weighted ? '{' : '[');
    for (size_t i = 0; i < sensor->n_parts; i++) {
        fputs(i ? ", " : "", f);
        show_text(f, sensor->parts[i].name);
        if (weighted) {
            fputs(": ", f);
            show_quantity(f, sensor->parts[i].weight, ERT_UNIT_NONE);
        }
    }
    fputc(weighted ? '}' : ']', f);
    if (sensor->offset != 0) {
        fputs(", offset: ", f);
        show_quantity(f, sensor->offset, sensor->signal->unit);
    }
}

static void show_sources(FILE *f, const struct pol_sensor *sensor)
{
    fputs("sources: [", f);
    for (size_t i = 0; i < sensor->n_sources; i++) {
        fputs(i ? ", " : "", f);
        show_text(f, sensor->sources[i]);
    }
    fputc(']', f);
}

static void show_sensor(FILE *f, const struct pol_sensor *sensor)
{
    fputs("  ", f);
    show_text(f, sensor->name);
    fputs(": {", f);
    if (sensor->n_sources)
        show_sources(f, sensor);
    if (sensor->n_sources && sensor->blend != POL_NO_BLEND)
        fputs(", ", f);
    if (sensor->blend != POL_NO_BLEND)
        show_blend(f, sensor);
    fputs(", stale: ", f);
    show_quantity(f, sensor->stale_s, ERT_UNIT_SECOND);
    if (sensor->stuck_s > 0) {
        fputs(", stuck: ", f);
        show_quantity(f, sensor->stuck_s, ERT_UNIT_SECOND);
    }
    fputs(sensor->median ? ", median: 3}\n" : "}\n", f);
}

/* Signals without a built-in source have none to show: `sensors:` lists those that have. */
static void show_sensors(FILE *f, const struct pol_policy *policy)
{
    bool any = false;
    for (size_t i = 0; i < policy->n_sensors; i++) {
        if (policy->sensors[i].n_sources == 0 && policy->sensors[i].blend == POL_NO_BLEND)
            continue;
        fputs(any ? "" : "sensors:\n", f);
        any = true;
        show_sensor(f, &policy->sensors[i]);
    }
}

static void show_point(FILE *f, const struct pol_point *p)
{
    fputs("    - {point: ", f);
    show_text(f, p->point);
    if (p->threads)
        fprintf(f, ", threads: %u", p->threads);
    if (p->tokens_per_second > 0) {
        fputs(", tokens-per-second: ", f);
        show_quantity(f, p->tokens_per_second, ERT_UNIT_NONE);
    }
    if (*p->prefill) {
        fputs(", prefill: ", f);
        show_text(f, p->prefill);
    }
    if (p->power_w > 0) {
        fputs(", power: ", f);
        show_quantity(f, p->power_w, ERT_UNIT_WATT);
    }
    if (p->prefill_power_w > 0) {
        fputs(", prefill-power: ", f);
        show_quantity(f, p->prefill_power_w, ERT_UNIT_WATT);
    }
    fputs(", name: ", f);
    show_text(f, p->name);
    fputs("}\n", f);
}

static void show_trip(FILE *f, const struct pol_policy *policy, const struct pol_trip *trip)
{
    const struct pol_sensor *sensor = &policy->sensors[trip->sensor];
    fputs("      - {name: ", f);
    show_text(f, trip->name);
    fputs(", sensor: ", f);
    show_text(f, sensor->name);
    fprintf(f, ", %s: ", trip->above ? "above" : "below");
    show_quantity(f, trip->threshold, sensor->signal->unit);
    fputs(", hysteresis: ", f);
    show_quantity(f, trip->hysteresis, sensor->signal->unit);
    if (trip->for_s > 0) {
        fputs(", for: ", f);
        show_quantity(f, trip->for_s, ERT_UNIT_SECOND);
    }
    fprintf(f, "%s, governor: %s, states: %u..%u}\n",
            trip->when_discharging ? ", when: discharging" : "", pol_governor_name(trip->governor),
            trip->lowest, trip->highest);
}

static void show_key(FILE *f, const char *key, double value, enum ert_unit unit)
{
    fprintf(f, "      %s: ", key);
    show_quantity(f, value, unit);
    fputc('\n', f);
}

static void show_sensor_key(FILE *f, const struct pol_policy *policy, const char *key, int sensor)
{
    if (sensor < 0)
        return;
    fprintf(f, "      %s: ", key);
    show_text(f, policy->sensors[sensor].name);
    fputc('\n', f);
}

static void show_gains(FILE *f, const struct pol_power *power)
{
    const struct {
        const char *name;
        double gain;
    } gains[] = {
        {"k_po", power->k_po}, {"k_pu", power->k_pu}, {"k_i", power->k_i}, {"k_d", power->k_d}};
    for (size_t i = 0; i < sizeof gains / sizeof *gains; i++)
        if (gains[i].gain >= 0)
            show_key(f, gains[i].name, gains[i].gain, ERT_UNIT_WATT);
    show_key(f, "integral_cutoff", power->integral_cutoff_c, ERT_UNIT_CELSIUS);
}

static void show_plant(FILE *f, const struct pol_policy *policy)
{
    const struct pol_power *power = &policy->power;
    const struct dev_thermal *plant = &power->plant;
    const double nodes[2][2] = {{plant->r_chip, plant->c_chip}, {plant->r_case, plant->c_case}};
    fputs("      plant:\n", f);
    for (int i = 0; i < 2; i++) {
        fprintf(f, "        %s: [", i ? "case" : "chip");
        show_quantity(f, nodes[i][0], ERT_UNIT_C_PER_W);
        fputs(", ", f);
        show_quantity(f, nodes[i][1], ERT_UNIT_J_PER_C);
        fputs("]\n", f);
    }
    fprintf(f, "        sensor-at: %s\n", power->at_case ? "case" : "chip");
    fputs("  ", f);
    show_key(f, "ambient", power->ambient_c, ERT_UNIT_CELSIUS);
    if (power->ambient_sensor >= 0) {
        fputs("  ", f);
        show_sensor_key(f, policy, "ambient-sensor", power->ambient_sensor);
    }
}

/* What the file said and the defaults; what follows from the ladder follows again. */
static void show_power(FILE *f, const struct pol_policy *policy)
{
    const struct pol_power *power = &policy->power;
    if (!power->on)
        return;
    fprintf(f, "    power:\n      governor: %s\n", pol_governor_name(power->governor));
    show_sensor_key(f, policy, "sensor", (int)power->sensor);
    show_key(f, "target", power->target_c, ERT_UNIT_CELSIUS);
    show_key(f, "switch-on", power->switch_on_c, ERT_UNIT_CELSIUS);
    if (power->sustainable_w > 0)
        show_key(f, "sustainable", power->sustainable_w, ERT_UNIT_WATT);
    if (power->burst_w > 0) {
        fputs("      burst: ", f);
        show_quantity(f, power->burst_w, ERT_UNIT_WATT);
        fputs(" for ", f);
        show_quantity(f, power->burst_s, ERT_UNIT_SECOND);
        fputc('\n', f);
    }
    show_sensor_key(f, policy, "draw", power->draw_sensor);
    fprintf(f, "      states: %u..%u\n", power->lowest, power->highest);
    show_gains(f, power);
    if (power->shared)
        fprintf(f, "      share: {decode: %.17g, prefill: %.17g}\n", power->weight[POL_DECODE],
                power->weight[POL_PREFILL]);
    show_key(f, "horizon", power->horizon_s, ERT_UNIT_SECOND);
    if (power->plant.r_chip > 0)
        show_plant(f, policy);
}

static void show_missing(FILE *f, const struct pol_policy *policy)
{
    bool any = false;
    for (size_t i = 0; i < policy->n_sensors; i++) {
        const struct pol_sensor *sensor = &policy->sensors[i];
        if (sensor->missing_state < 0)
            continue;
        fputs(any ? "" : "    on-missing:\n", f);
        any = true;
        fputs("      ", f);
        show_text(f, sensor->name);
        fprintf(f, ": state %d\n", sensor->missing_state);
    }
}

static void show_guarantees(FILE *f, const struct pol_policy *policy)
{
    fputs(policy->n_guarantees ? "    guarantees:\n" : "", f);
    for (size_t i = 0; i < policy->n_guarantees; i++) {
        fputs("      - ", f);
        show_text(f, policy->guarantees[i]);
        fputc('\n', f);
    }
}

static void show_policy(FILE *f, const struct pol_policy *policy)
{
    fputs("policies:\n  ", f);
    show_text(f, policy->name);
    fputs(":\n    ladder: \"states\"\n    poll: ", f);
    show_quantity(f, policy->poll_s, ERT_UNIT_SECOND);
    if (policy->n_trips)
        fputs("\n    trips:", f);
    fputc('\n', f);
    for (size_t i = 0; i < policy->n_trips; i++)
        show_trip(f, policy, &policy->trips[i]);
    show_power(f, policy);
    fputs("    dwell: {down: ", f);
    show_quantity(f, policy->dwell_down_s, ERT_UNIT_SECOND);
    fputs(", up: ", f);
    show_quantity(f, policy->dwell_up_s, ERT_UNIT_SECOND);
    fputs("}\n", f);
    show_missing(f, policy);
    show_guarantees(f, policy);
    fputs("    failsafe: ", f);
    show_text(f, policy->states[policy->failsafe].name);
    fputc('\n', f);
}

int pol_show(const struct pol_policy *policy, char **text, struct ert_error *err)
{
    size_t size;
    *text = NULL;
    FILE *f = open_memstream(text, &size);
    if (!f)
        return ert_fail(err, ERT_E_NOMEM, "out of memory to show policy '%s'", policy->name);
    fputs("edgert: 1\n", f);
    show_sensors(f, policy);
    fputs("ladders:\n  \"states\":\n", f);
    for (size_t i = 0; i < policy->n_states; i++)
        show_point(f, &policy->states[i]);
    show_policy(f, policy);
    bool failed = ferror(f) != 0;
    if (fclose(f) == 0 && !failed)
        return 0;
    free(*text);
    *text = NULL;
    return ert_fail(err, ERT_E_NOMEM, "out of memory to show policy '%s'", policy->name);
}
