#include "cli/what_if.h"

#include <string.h>

/* ---- readings ------------------------------------------------------------------------------ */

static int no_sensor(const struct pol_policy *policy, const char *text, int length,
                     struct ert_error *err)
{
    const char *names[POL_MAX_SENSORS];
    char name[DEV_NAME], known[300] = "";
    size_t n = 0;
    snprintf(name, sizeof name, "%.*s", length, text);
    for (size_t i = 0; i < policy->n_sensors; i++) {
        names[i] = policy->sensors[i].name;
        if (n < sizeof known)
            n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", names[i]);
    }
    const char *near = ert_nearest_name(name, names, policy->n_sensors);
    return ert_fail(err, ERT_E_USAGE,
                    "--reading %.60s: policy '%s' does not read %s%s%s%s; it reads %s", text,
                    policy->name, name, near ? ", did you mean " : "", near ? near : "",
                    near ? "?" : "", *known ? known : "nothing");
}

static int read_one(const struct pol_policy *policy, const char *text, struct dev_reading *readings,
                    struct ert_error *err)
{
    const char *value = strchr(text, '=');
    if (!value)
        return ert_fail(err, ERT_E_USAGE,
                        "--reading %.60s: expected SENSOR=VALUE, such as "
                        "temp.cpu=80C",
                        text);
    size_t length = (size_t)(value - text), i = 0;
    while (i < policy->n_sensors && (strlen(policy->sensors[i].name) != length ||
                                     strncmp(policy->sensors[i].name, text, length) != 0))
        i++;
    if (i == policy->n_sensors)
        return no_sensor(policy, text, (int)length, err);
    readings[i].why = DEV_PRESENT;
    struct ert_error why;
    if (ert_parse_quantity(value + 1, policy->sensors[i].signal->unit, &readings[i].value, &why))
        return ert_fail(err, ERT_E_USAGE, "--reading %.60s: %.300s", text, why.text);
    return 0;
}

int what_if_read(const struct pol_policy *policy, const struct option_list *texts,
                 struct dev_reading *readings, struct ert_error *err)
{
    int rc = 0;
    for (size_t i = 0; i < policy->n_sensors; i++)
        readings[i] = (struct dev_reading){.why = DEV_NO_SOURCE};
    for (size_t i = 0; !rc && i < texts->n; i++)
        rc = read_one(policy, texts->items[i], readings, err);
    return rc;
}

/* ---- words --------------------------------------------------------------------------------- */

static void print_readings(const struct pol_policy *policy, const struct pol_what_if *what_if)
{
    for (size_t i = 0; i < policy->n_sensors; i++) {
        const struct dev_reading *reading = &what_if->sensors[i].reading;
        if (reading->why == DEV_PRESENT)
            printf("  %s %.10g%s\n", policy->sensors[i].name, reading->value,
                   ert_unit_name(policy->sensors[i].signal->unit));
        else
            printf("  %s: %s\n", policy->sensors[i].name,
                   reading->why == DEV_NO_SOURCE ? "no reading" : dev_absence_text(reading->why));
    }
}

static void print_state(const struct pol_policy *policy, unsigned state, const char *reason,
                        bool settled)
{
    printf("state %u, %s: %s%s\n", state, policy->states[state].name, reason,
           settled ? "" : "; it goes on to change");
}

static bool print_turn(const struct pol_policy *policy, size_t sensor, const struct pol_turn *turn,
                       bool above)
{
    const char *unit = ert_unit_name(policy->sensors[sensor].signal->unit);
    const char *side = above ? "above" : "below";
    char bound[64];
    if (!turn->there)
        return false;
    if (turn->included)
        snprintf(bound, sizeof bound, "%.10g%s or %s", turn->value, unit, side);
    else
        snprintf(bound, sizeof bound, "%s %.10g%s", side, turn->value, unit);
    printf("  %-20s %-20s ", policy->sensors[sensor].name, bound);
    print_state(policy, turn->state, turn->reason, turn->settled);
    return true;
}

static void print_turns(const struct pol_policy *policy, const struct pol_what_if *what_if)
{
    const char *without[POL_MAX_SENSORS];
    size_t n = 0;
    puts("Another reading of one of them, the others staying as they are, would change that\n"
         "from here on:");
    for (size_t i = 0; i < policy->n_sensors; i++) {
        const struct pol_what_if_sensor *sensor = &what_if->sensors[i];
        bool below = print_turn(policy, i, &sensor->below, false);
        if (!print_turn(policy, i, &sensor->above, true) && !below)
            without[n++] = policy->sensors[i].name;
    }
    for (size_t i = 0; i < n; i++)
        printf("%s%s%s", i ? ", " : "  at no value: ", without[i], i + 1 < n ? "" : "\n");
}

void what_if_print(const struct pol_policy *policy, const struct pol_what_if *what_if)
{
    puts("\nWith these readings");
    print_readings(policy, what_if);
    fputs("the first decision takes ", stdout);
    print_state(policy, what_if->first, what_if->first_reason, true);
    if (what_if->state == what_if->first && what_if->after_s == 0) {
        puts("and so it stays.");
    } else {
        printf("and after %gs of them it is ", what_if->after_s);
        print_state(policy, what_if->state, what_if->reason, what_if->settled);
    }
    if (what_if->settled)
        print_turns(policy, what_if);
}

/* ---- JSON ---------------------------------------------------------------------------------- */

static json_t *describe_state(const struct pol_policy *policy, unsigned state, const char *reason)
{
    return json_pack("{s:i, s:s, s:s}", "state", (int)state, "name", policy->states[state].name,
                     "reason", reason);
}

static json_t *describe_turn(const struct pol_policy *policy, const struct pol_turn *turn)
{
    if (!turn->there)
        return json_null();
    json_t *object = describe_state(policy, turn->state, turn->reason);
    json_object_set_new(object, "value", json_real(turn->value));
    json_object_set_new(object, "included", json_boolean(turn->included));
    json_object_set_new(object, "settled", json_boolean(turn->settled));
    return object;
}

static json_t *describe_sensor(const struct pol_policy *policy, size_t i,
                               const struct pol_what_if_sensor *sensor)
{
    bool present = sensor->reading.why == DEV_PRESENT;
    return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o}", "sensor", policy->sensors[i].name, "unit",
                     ert_unit_name(policy->sensors[i].signal->unit), "value",
                     present ? json_real(sensor->reading.value) : json_null(), "why",
                     present ? json_null() : json_string(dev_absence_text(sensor->reading.why)),
                     "below", describe_turn(policy, &sensor->below), "above",
                     describe_turn(policy, &sensor->above));
}

json_t *what_if_json(const struct pol_policy *policy, const struct pol_what_if *what_if)
{
    json_t *sensors = json_array();
    for (size_t i = 0; i < policy->n_sensors; i++)
        json_array_append_new(sensors, describe_sensor(policy, i, &what_if->sensors[i]));
    return json_pack("{s:o, s:o, s:f, s:b, s:o}", "first",
                     describe_state(policy, what_if->first, what_if->first_reason), "then",
                     describe_state(policy, what_if->state, what_if->reason), "after_s",
                     what_if->after_s, "settled", what_if->settled, "sensors", sensors);
}
