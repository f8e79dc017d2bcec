/* The compiled policy as YAML, line by line, each with the place that the merged file keeps of it.
 */
#include "policies/file.h"
#include "policies/yaml_tree.h"

#include <stdlib.h>
#include <string.h>

struct show {
    const struct pol_policy *policy;
    const struct pol_file *file;      /* NULL = nobody asks for places */
    const struct pol_entry *entry;    /* the policy's in file; NULL = as file */
    const struct pol_places *places;  /* of the mapping that is being shown; NULL = as file */
    FILE *f;                          /* all lines, into text */
    char *text;                       /* where the lines lie after a flush */
    size_t size, start;               /* start: of the line that is being shown */
    char defaults[POL_MAX_KEYS * 24]; /* keys of that line that no file has */
    void (*tell)(void *ctx, const struct pol_line *line);
    void *ctx;
};

/* ---- lines and their places ----------------------------------------------------------------- */

static const struct pol_where *place_of(const struct pol_places *places, const char *key)
{
    for (size_t i = 0; places && i < places->n; i++)
        if (!strcmp(places->keys[i].key, key))
            return &places->keys[i].where;
    return NULL;
}

static void note_default(struct show *s, const char *key)
{
    size_t n = strlen(s->defaults);
    snprintf(s->defaults + n, sizeof s->defaults - n, "%s%s", n ? ", " : "", key);
}

/* "BEFOREkey: ", of the mapping that is being shown. */
static void put_key(struct show *s, const char *before, const char *key)
{
    fprintf(s->f, "%s%s: ", before, key);
    if (s->places && !place_of(s->places, key))
        note_default(s, key);
}

/* where: what is on the line was written there; NULL = nowhere. */
static void end_line(struct show *s, const struct pol_where *where)
{
    if (fflush(s->f) == 0) {
        struct pol_line line = {s->text + s->start, NULL, 0, s->defaults};
        if (where && where->file) {
            line.file = where->file;
            line.line = where->line;
        }
        s->tell(s->ctx, &line);
        s->start = s->size;
    }
    s->defaults[0] = '\0';
}

/* "BEFOREkey:", over lines of its own, written where the mapping that is being shown has the key.
 */
static void show_heading(struct show *s, const char *before, const char *key)
{
    fprintf(s->f, "%s%s:", before, key);
    end_line(s, place_of(s->places, key));
}

/* ---- values --------------------------------------------------------------------------------- */

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

/* ---- sensors -------------------------------------------------------------------------------- */

/* "max: [temp.battery, temp.cpu]" */
static void show_blend(struct show *s, const char *before, const struct pol_sensor *sensor)
{
    static const char *const names[] = {[POL_MAX] = "max", [POL_MEAN] = "mean", [POL_SUM] = "sum"};
    bool weighted = sensor->blend == POL_SUM;
    put_key(s, before, names[sensor->blend]);
    fputc(weighted ? '{' : '[', s->f);
    for (size_t i = 0; i < sensor->n_parts; i++) {
        fputs(i ? ", " : "", s->f);
        show_text(s->f, sensor->parts[i].name);
        if (weighted) {
            fputs(": ", s->f);
            show_quantity(s->f, sensor->parts[i].weight, ERT_UNIT_NONE);
        }
    }
    fputc(weighted ? '}' : ']', s->f);
    if (sensor->offset != 0) {
        put_key(s, ", ", "offset");
        show_quantity(s->f, sensor->offset, sensor->signal->unit);
    }
}

static void show_sources(struct show *s, const struct pol_sensor *sensor)
{
    put_key(s, "", "sources");
    fputc('[', s->f);
    for (size_t i = 0; i < sensor->n_sources; i++) {
        fputs(i ? ", " : "", s->f);
        show_text(s->f, sensor->sources[i]);
    }
    fputc(']', s->f);
}

static void show_sensor(struct show *s, const struct pol_sensor *sensor)
{
    static const struct pol_places nowhere = {.n = 0};
    const struct pol_sensor_entry *given =
        s->entry ? pol_named(s->file->sensors, s->file->n_sensors, sensor->name) : NULL;
    s->places = given ? &given->places : s->entry ? &nowhere : NULL;
    fputs("  ", s->f);
    show_text(s->f, sensor->name);
    fputs(": {", s->f);
    if (sensor->n_sources)
        show_sources(s, sensor);
    if (sensor->blend != POL_NO_BLEND)
        show_blend(s, sensor->n_sources ? ", " : "", sensor);
    put_key(s, ", ", "stale");
    show_quantity(s->f, sensor->stale_s, ERT_UNIT_SECOND);
    if (sensor->stuck_s > 0) {
        put_key(s, ", ", "stuck");
        show_quantity(s->f, sensor->stuck_s, ERT_UNIT_SECOND);
    }
    if (sensor->median) {
        put_key(s, ", ", "median");
        fputc('3', s->f);
    }
    fputc('}', s->f);
    end_line(s, s->places ? &s->places->where : NULL);
}

/* Signals without a built-in source have none to show: `sensors:` lists those that have. */
static void show_sensors(struct show *s)
{
    bool any = false;
    for (size_t i = 0; i < s->policy->n_sensors; i++) {
        const struct pol_sensor *sensor = &s->policy->sensors[i];
        if (sensor->n_sources == 0 && sensor->blend == POL_NO_BLEND)
            continue;
        s->places = NULL;
        if (!any)
            show_heading(s, "", "sensors");
        any = true;
        show_sensor(s, sensor);
    }
}

/* ---- the ladder ----------------------------------------------------------------------------- */

static void show_point_power(struct show *s, const char *key, double watts)
{
    if (watts <= 0)
        return;
    put_key(s, ", ", key);
    show_quantity(s->f, watts, ERT_UNIT_WATT);
}

static void show_point(struct show *s, const struct pol_point *p, const struct pol_where *where)
{
    put_key(s, "    - {", "point");
    show_text(s->f, p->point);
    if (p->threads) {
        put_key(s, ", ", "threads");
        fprintf(s->f, "%u", p->threads);
    }
    if (p->efficient) {
        put_key(s, ", ", "cores");
        fputs("efficient", s->f);
    }
    if (p->tokens_per_second > 0) {
        put_key(s, ", ", "tokens-per-second");
        show_quantity(s->f, p->tokens_per_second, ERT_UNIT_NONE);
    }
    if (*p->prefill) {
        put_key(s, ", ", "prefill");
        show_text(s->f, p->prefill);
    }
    if (p->prefill_chunk) {
        put_key(s, ", ", "prefill-chunk");
        fprintf(s->f, "%u", p->prefill_chunk);
    }
    if (p->speculation != POL_SPECULATION_AUTO) {
        put_key(s, ", ", "speculation");
        show_text(s->f, pol_speculation_name(p->speculation));
    }
    show_point_power(s, "power", p->power_w);
    show_point_power(s, "prefill-power", p->prefill_power_w);
    put_key(s, ", ", "name");
    show_text(s->f, p->name);
    fputc('}', s->f);
    end_line(s, where);
}

/* The points of `ladder: auto` are written nowhere but there. */
static void show_ladder(struct show *s)
{
    const struct pol_ladder *ladder =
        s->entry ? pol_named(s->file->ladders, s->file->n_ladders, s->entry->ladder) : NULL;
    const struct pol_where *named =
        s->entry && !ladder ? place_of(&s->entry->places, "ladder") : NULL;
    s->places = NULL;
    show_heading(s, "", "ladders");
    fputs("  \"states\":", s->f);
    end_line(s, ladder ? &ladder->where : named);
    for (size_t i = 0; i < s->policy->n_states; i++) {
        s->places = ladder ? &ladder->places[i] : NULL;
        show_point(s, &s->policy->states[i], ladder ? &ladder->places[i].where : named);
    }
}

/* ---- trips ---------------------------------------------------------------------------------- */

static void show_trip(struct show *s, const struct pol_trip *trip, const struct pol_where *where)
{
    const struct pol_sensor *sensor = &s->policy->sensors[trip->sensor];
    put_key(s, "      - {", "name");
    show_text(s->f, trip->name);
    put_key(s, ", ", "sensor");
    show_text(s->f, sensor->name);
    put_key(s, ", ", trip->above ? "above" : "below");
    show_quantity(s->f, trip->threshold, sensor->signal->unit);
    if (trip->kernel != POL_NO_KERNEL_TRIP) {
        put_key(s, ", ", "kernel");
        fputs(pol_kernel_trip_name(trip->kernel), s->f);
        put_key(s, ", ", "margin");
        show_quantity(s->f, trip->kernel_margin, ERT_UNIT_CELSIUS);
    }
    put_key(s, ", ", "hysteresis");
    show_quantity(s->f, trip->hysteresis, sensor->signal->unit);
    if (trip->for_s > 0) {
        put_key(s, ", ", "for");
        show_quantity(s->f, trip->for_s, ERT_UNIT_SECOND);
    }
    if (trip->when_discharging) {
        put_key(s, ", ", "when");
        fputs("discharging", s->f);
    }
    put_key(s, ", ", "governor");
    fputs(pol_governor_name(trip->governor), s->f);
    put_key(s, ", ", "states");
    fprintf(s->f, "%u..%u}", trip->lowest, trip->highest);
    end_line(s, where);
}

static void show_trips(struct show *s)
{
    if (s->policy->n_trips)
        show_heading(s, "    ", "trips");
    for (size_t i = 0; i < s->policy->n_trips; i++) {
        const struct pol_trip_entry *given = s->entry ? &s->entry->trips[i] : NULL;
        s->places = given ? &given->places : NULL;
        show_trip(s, &s->policy->trips[i], given ? &given->where : NULL);
    }
}

/* ---- power ---------------------------------------------------------------------------------- */

static void show_key(struct show *s, const char *before, const char *key, double value,
                     enum ert_unit unit)
{
    put_key(s, before, key);
    show_quantity(s->f, value, unit);
    end_line(s, place_of(s->places, key));
}

static void show_word(struct show *s, const char *before, const char *key, const char *word)
{
    put_key(s, before, key);
    fputs(word, s->f);
    end_line(s, place_of(s->places, key));
}

static void show_sensor_key(struct show *s, const char *before, const char *key, int sensor)
{
    if (sensor < 0)
        return;
    put_key(s, before, key);
    show_text(s->f, s->policy->sensors[sensor].name);
    end_line(s, place_of(s->places, key));
}

static const char power_indent[] = "      ", plant_indent[] = "        ";

static void show_gains(struct show *s)
{
    const struct pol_power *power = &s->policy->power;
    const struct {
        const char *name;
        double gain;
    } gains[] = {
        {"k_po", power->k_po}, {"k_pu", power->k_pu}, {"k_i", power->k_i}, {"k_d", power->k_d}};
    for (size_t i = 0; i < sizeof gains / sizeof *gains; i++)
        if (gains[i].gain >= 0)
            show_key(s, power_indent, gains[i].name, gains[i].gain, ERT_UNIT_WATT);
    show_key(s, power_indent, "integral_cutoff", power->integral_cutoff_c, ERT_UNIT_CELSIUS);
}

static void show_node(struct show *s, const char *key, double resistance, double capacity)
{
    put_key(s, plant_indent, key);
    fputc('[', s->f);
    show_quantity(s->f, resistance, ERT_UNIT_C_PER_W);
    fputs(", ", s->f);
    show_quantity(s->f, capacity, ERT_UNIT_J_PER_C);
    fputc(']', s->f);
    end_line(s, place_of(s->places, key));
}

static void show_plant(struct show *s)
{
    const struct pol_power *power = &s->policy->power;
    const struct dev_thermal *plant = &power->plant;
    show_heading(s, power_indent, "plant");
    s->places = s->entry ? &s->entry->power.plant_places : NULL;
    show_node(s, "chip", plant->r_chip, plant->c_chip);
    show_node(s, "case", plant->r_case, plant->c_case);
    show_word(s, plant_indent, "sensor-at", power->at_case ? "case" : "chip");
    show_key(s, plant_indent, "ambient", power->ambient_c, ERT_UNIT_CELSIUS);
    show_sensor_key(s, plant_indent, "ambient-sensor", power->ambient_sensor);
}

static void show_burst(struct show *s)
{
    const struct pol_power *power = &s->policy->power;
    put_key(s, power_indent, "burst");
    show_quantity(s->f, power->burst_w, ERT_UNIT_WATT);
    fputs(" for ", s->f);
    show_quantity(s->f, power->burst_s, ERT_UNIT_SECOND);
    end_line(s, place_of(s->places, "burst"));
}

static void show_share(struct show *s)
{
    const double *weight = s->policy->power.weight;
    put_key(s, power_indent, "share");
    fprintf(s->f, "{decode: %.17g, prefill: %.17g}", weight[POL_DECODE], weight[POL_PREFILL]);
    end_line(s, place_of(s->places, "share"));
}

static void show_power_states(struct show *s)
{
    put_key(s, power_indent, "states");
    fprintf(s->f, "%u..%u", s->policy->power.lowest, s->policy->power.highest);
    end_line(s, place_of(s->places, "states"));
}

/* What the file said and the defaults; what follows from the ladder follows again. */
static void show_power(struct show *s)
{
    const struct pol_power *power = &s->policy->power;
    if (!power->on)
        return;
    show_heading(s, "    ", "power");
    s->places = s->entry ? &s->entry->power.places : NULL;
    show_word(s, power_indent, "governor", pol_governor_name(power->governor));
    show_sensor_key(s, power_indent, "sensor", (int)power->sensor);
    show_key(s, power_indent, "target", power->target_c, ERT_UNIT_CELSIUS);
    show_key(s, power_indent, "switch-on", power->switch_on_c, ERT_UNIT_CELSIUS);
    if (power->sustainable_w > 0)
        show_key(s, power_indent, "sustainable", power->sustainable_w, ERT_UNIT_WATT);
    if (power->burst_w > 0)
        show_burst(s);
    show_sensor_key(s, power_indent, "draw", power->draw_sensor);
    show_power_states(s);
    show_gains(s);
    if (power->shared)
        show_share(s);
    show_key(s, power_indent, "horizon", power->horizon_s, ERT_UNIT_SECOND);
    if (power->plant.r_chip > 0)
        show_plant(s);
}

/* ---- the policy ----------------------------------------------------------------------------- */

/* The sensor's own line of on-missing:, else its default:. */
static const struct pol_where *missing_where(const struct show *s, const char *sensor)
{
    for (size_t i = 0; s->entry && i < s->entry->n_missing; i++)
        if (!strcmp(s->entry->missing[i].sensor, sensor))
            return &s->entry->missing[i].where;
    return s->entry ? &s->entry->missing_default_where : NULL;
}

static void show_missing(struct show *s)
{
    bool any = false;
    for (size_t i = 0; i < s->policy->n_sensors; i++) {
        const struct pol_sensor *sensor = &s->policy->sensors[i];
        if (sensor->missing_state < 0)
            continue;
        if (!any)
            show_heading(s, "    ", "on-missing");
        any = true;
        fputs("      ", s->f);
        show_text(s->f, sensor->name);
        fprintf(s->f, ": state %d", sensor->missing_state);
        end_line(s, missing_where(s, sensor->name));
    }
}

static void show_guarantees(struct show *s)
{
    if (s->policy->n_guarantees)
        show_heading(s, "    ", "guarantees");
    for (size_t i = 0; i < s->policy->n_guarantees; i++) {
        fputs("      - ", s->f);
        show_text(s->f, s->policy->guarantees[i]);
        end_line(s, s->entry ? &s->entry->guarantees[i].where : NULL);
    }
}

/* Of a dwell that is written, the half that is not is a default. */
static void show_dwell(struct show *s, const struct pol_places *policy)
{
    const struct pol_where *where = place_of(policy, "dwell");
    s->places = s->entry ? &s->entry->dwell_places : NULL;
    fputs("    dwell: {", s->f);
    put_key(s, "", "down");
    show_quantity(s->f, s->policy->dwell_down_s, ERT_UNIT_SECOND);
    put_key(s, ", ", "up");
    show_quantity(s->f, s->policy->dwell_up_s, ERT_UNIT_SECOND);
    fputc('}', s->f);
    end_line(s, where);
}

static void show_policy(struct show *s)
{
    const struct pol_policy *policy = s->policy;
    const struct pol_places *places = s->entry ? &s->entry->places : NULL;
    s->places = NULL;
    show_heading(s, "", "policies");
    fputs("  ", s->f);
    show_text(s->f, policy->name);
    fputc(':', s->f);
    end_line(s, s->entry ? &s->entry->where : NULL);
    s->places = places;
    show_word(s, "    ", "ladder", "\"states\"");
    show_key(s, "    ", "poll", policy->poll_s, ERT_UNIT_SECOND);
    show_trips(s);
    s->places = places;
    show_power(s);
    show_dwell(s, places);
    s->places = places;
    show_missing(s);
    show_guarantees(s);
    put_key(s, "    ", "failsafe");
    show_text(s->f, policy->states[policy->failsafe].name);
    end_line(s, place_of(places, "failsafe"));
}

int pol_show_lines(const struct pol_policy *policy, const struct pol_file *file,
                   void (*tell)(void *ctx, const struct pol_line *line), void *ctx,
                   struct ert_error *err)
{
    struct show s = {.policy = policy, .file = file, .tell = tell, .ctx = ctx};
    s.entry = file ? pol_named(file->entries, file->n_entries, policy->name) : NULL;
    s.f = open_memstream(&s.text, &s.size);
    if (!s.f)
        return ert_fail(err, ERT_E_NOMEM, "out of memory to show policy '%s'", policy->name);
    fputs("edgert: 1", s.f);
    end_line(&s, NULL);
    show_sensors(&s);
    show_ladder(&s);
    show_policy(&s);
    bool failed = ferror(s.f) != 0;
    failed = fclose(s.f) != 0 || failed;
    free(s.text);
    return failed ? ert_fail(err, ERT_E_NOMEM, "out of memory to show policy '%s'", policy->name)
                  : 0;
}

/* ---- as one text ---------------------------------------------------------------------------- */

/* Of a file's name a comment has what YAML reads there. */
static void put_comment_text(FILE *f, const char *text)
{
    for (size_t n = strlen(text), i = 0, length; i < n; i += length) {
        length = ert_utf8_length(text + i, n - i);
        if (length && yaml_is_printable(text + i, length))
            fwrite(text + i, 1, length, f);
        else
            fputc('?', f);
        length += length == 0;
    }
}

static void put_line(void *ctx, const struct pol_line *line)
{
    FILE *f = ctx;
    fputs(line->text, f);
    if (line->file || *line->defaults)
        fputs("  # ", f);
    if (line->file) {
        put_comment_text(f, line->file);
        fprintf(f, ":%zu%s%s", line->line, *line->defaults ? ", default: " : "", line->defaults);
    } else if (*line->defaults) {
        fputs("default", f);
    }
    fputc('\n', f);
}

int pol_show(const struct pol_policy *policy, const struct pol_file *file, char **text,
             struct ert_error *err)
{
    size_t size;
    *text = NULL;
    FILE *f = open_memstream(text, &size);
    if (!f)
        return ert_fail(err, ERT_E_NOMEM, "out of memory to show policy '%s'", policy->name);
    int rc = pol_show_lines(policy, file, put_line, f, err);
    bool failed = ferror(f) != 0;
    failed = fclose(f) != 0 || failed;
    if (!rc && failed)
        rc = ert_fail(err, ERT_E_NOMEM, "out of memory to show policy '%s'", policy->name);
    if (rc) {
        free(*text);
        *text = NULL;
    }
    return rc;
}
