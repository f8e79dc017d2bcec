#include "engine/powers.h"

#include <ctype.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "engine/layers.h"

enum { MOST_BYTES = 1 << 22 };

/* ---- the machine ---------------------------------------------------------------------------- */

/* First line of a file whose key (NULL = none) comes first, without blanks around the value. */
static bool first_line(const char *path, const char *key, char *out, size_t room)
{
    char line[512];
    FILE *file = fopen(path, "re");
    bool found = false;
    while (file && !found && fgets(line, sizeof line, file)) {
        const char *value = line;
        if (key && (strncmp(line, key, strlen(key)) != 0 || !(value = strchr(line, ':'))))
            continue;
        value += strspn(value, ": \t");
        snprintf(out, room, "%.*s", (int)strcspn(value, "\n"), value);
        found = out[0] != '\0';
    }
    if (file)
        fclose(file);
    return found;
}

void powers_machine_name(char *out, size_t room)
{
    if (!first_line("/proc/device-tree/model", NULL, out, room) &&
        !first_line("/sys/class/dmi/id/product_name", NULL, out, room) &&
        !first_line("/proc/cpuinfo", "model name", out, room))
        snprintf(out, room, "unknown");
}

int powers_path(const char *machine, char **path, struct ert_error *err)
{
    char name[256], file[288];
    snprintf(name, sizeof name, "%s", machine);
    for (char *c = name; *c; c++)
        if (!isalnum((unsigned char)*c))
            *c = '-';
    snprintf(file, sizeof file, "devices/%s.json", name);
    return layers_data_path(file, path, err);
}

/* ---- what was measured ---------------------------------------------------------------------- */

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static bool is_word(const json_t *object, const char *key, const char *word)
{
    const char *said = json_string_value(json_object_get(object, key));
    return said && !strcmp(said, word);
}

/* Watts of a state while generating or reading prompts, 0 = not measured. A pace that is slower
 * than what was measured draws less, but how much less was not. */
static double measured_w(const json_t *results, const struct pol_point *state, const char *test,
                         unsigned n_threads)
{
    unsigned threads = state->threads && state->threads < n_threads ? state->threads : n_threads;
    bool paced = state->tokens_per_second > 0 && !strcmp(test, "decode");
    size_t i;
    const json_t *row;
    json_array_foreach(results, i, row)
    {
        bool meant = is_word(row, "point", state->point) && is_word(row, "test", test) &&
                     number(row, "threads") == threads;
        if (meant && !(paced && state->tokens_per_second < number(row, "tok_s")))
            return number(row, "power_w");
    }
    return 0;
}

void powers_apply_file(struct pol_policy *policy, const char *path, const char *model,
                       unsigned n_threads)
{
    double decode_w[POL_MAX_STATES], prefill_w[POL_MAX_STATES];
    char *text = NULL;
    size_t size;
    json_t *all = ert_read_text(path, MOST_BYTES, &text, &size, NULL) == 0
                      ? json_loadb(text, size, 0, NULL)
                      : NULL;
    free(text);
    const json_t *results = json_object_get(all, "results");
    for (size_t i = 0; i < policy->n_states; i++) {
        decode_w[i] = measured_w(results, &policy->states[i], "decode", n_threads);
        prefill_w[i] = measured_w(results, &policy->states[i], "prefill", n_threads);
    }
    if (is_word(all, "model", model))
        pol_set_powers(policy, decode_w, prefill_w);
    json_decref(all);
}

void powers_apply(struct pol_policy *policy, const char *model, unsigned n_threads)
{
    char machine[256], *path;
    powers_machine_name(machine, sizeof machine);
    if (powers_path(machine, &path, NULL))
        return;
    powers_apply_file(policy, path, model, n_threads);
    free(path);
}

/* ---- the battery ---------------------------------------------------------------------------- */

struct pol_policy *powers_battery_sensor(const struct pol_file *file)
{
    static const char bare[] = "edgert: 1\n";
    struct pol_file *usual = NULL;
    struct pol_policy *sensor = malloc(sizeof *sensor);
    if (!file && !pol_file_parse(&usual, "the usual sensors", bare, sizeof bare - 1, NULL))
        file = usual;
    int rc = sensor && file ? pol_compile_sensor(file, "battery.power", sensor, NULL) : -1;
    if (usual)
        pol_file_free(usual);
    if (!rc)
        return sensor;
    free(sensor);
    return NULL;
}

struct gov_governor *powers_watch_battery(const struct pol_policy *sensor, const char *root)
{
    const struct gov_config config = {
        .policy = sensor, .battery = sensor, .sources = {.root = root}};
    struct gov_governor *g = NULL;
    return sensor && gov_start(&g, &config, NULL) == 0 ? g : NULL;
}
