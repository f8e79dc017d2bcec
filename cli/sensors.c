/* edgert sensors: what can be read on this machine, and why the rest cannot. */
#include <stdlib.h>

#include "cli/options.h"
#include "engine/layers.h"
#include "governor/governor.h"

static int print_json(const char *device, const struct gov_sensor_line *lines, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        const struct gov_sensor_line *l = &lines[i];
        bool present = l->reading.why == DEV_PRESENT && !l->why[0];
        const struct dev_signal *signal = dev_signal_find(l->signal);
        const char *why = l->why[0] ? l->why : dev_absence_text(l->reading.why);
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:o, s:o}", "sensor", l->signal,
                                              "source", l->source, "unit",
                                              signal ? ert_unit_name(signal->unit) : "", "value",
                                              present ? json_real(l->reading.value) : json_null(),
                                              "why", present ? json_null() : json_string(why)));
    }
    return cli_print_json(json_pack("{s:o, s:o}", "device",
                                    *device ? json_string(device) : json_null(), "sensors", list),
                          JSON_COMPACT);
}

static int print_table(const char *device, const struct gov_sensor_line *lines, size_t n, bool all)
{
    size_t absent = 0;
    if (*device)
        printf("%s (devices.d)\n", device);
    printf("%-20s %-36s %s\n", "sensor", "source", "reading");
    for (size_t i = 0; i < n; i++) {
        const struct gov_sensor_line *l = &lines[i];
        const struct dev_signal *signal = dev_signal_find(l->signal);
        if (l->reading.why == DEV_PRESENT && !l->why[0])
            printf("%-20s %-36s %.6g%s\n", l->signal, l->source, l->reading.value,
                   signal ? ert_unit_name(signal->unit) : "");
        else if (all)
            printf("%-20s %-36s - (%s)\n", l->signal, l->source,
                   l->why[0] ? l->why : dev_absence_text(l->reading.why));
        else
            absent++;
    }
    if (absent)
        fprintf(stderr, "%zu sources are absent here; --all says why\n", absent);
    return cli_finish_output();
}

/* Reads by what the policies declare; mistakes in them are no reason to read nothing. */
static int report(const struct gov_sources *sources, bool json, bool all)
{
    struct gov_sensor_line *lines;
    struct pol_file *file = NULL;
    struct ert_error err;
    size_t n;
    int status;
    if (layers_load_policies(sources->root, NULL, &file, &err))
        fprintf(stderr, "edgert: only the usual sources are read: %s\n", err.text);
    if (gov_sensor_report(sources, file, &lines, &n, &err)) {
        status = cli_fail_error(&err);
    } else {
        const char *device = file ? pol_file_device(file) : "";
        status = json ? print_json(device, lines, n) : print_table(device, lines, n, all);
        free(lines);
    }
    if (file)
        pol_file_free(file);
    return status;
}

int command_sensors(int argc, char **argv)
{
    bool json = false, all = false;
    struct gov_sources sources = {.root = "", .replay_speed = 1};
    const struct option_row rows[] = {
        {"all", 'a', NULL, "absent sources too, with the reason", OPTION_FLAG, &all, 0, 0},
        {"root", 0, "DIR", "prefix of /sys and /proc", OPTION_TEXT, &sources.root, 0, 0},
        {"json", 0, NULL, "as JSON (docs/json.md)", OPTION_FLAG, &json, 0, 0},
        OPTION_HELP,
    };
    struct command_line line = {
        .usage = "edgert sensors [OPTION]...",
        .about = "Reads every sensor that this machine has, once.",
        .rows = rows,
        .n_rows = sizeof rows / sizeof *rows,
    };
    int status = options_parse(&line, argc, argv);
    if (status >= 0)
        return status;
    return report(&sources, json, all);
}
