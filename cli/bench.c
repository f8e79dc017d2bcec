/* edgert bench: speed of points on this machine, cost of a switch. */
#include "cli/bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/powers.h"
#include "runtime/kernels/kernels.h"

struct benching {
    struct workbench bench;
    struct point_list points;
    struct bench_config config;
    bool swaps, save, json;
};

static json_t *measure_all(struct benching *b, struct ert_error *err)
{
    char machine[256];
    json_t *results = json_array(), *memory = json_array();
    json_t *pairs = json_array(), *total = json_object();
    int rc = bench_points(&b->bench, &b->points, &b->config, results, memory, err);
    if (!rc && b->swaps)
        rc = bench_switches(&b->bench, &b->points, &b->config, pairs, total, err);
    if (rc) {
        json_decref(results);
        json_decref(memory);
        json_decref(pairs);
        json_decref(total);
        return NULL;
    }
    powers_machine_name(machine, sizeof machine);
    return json_pack("{s:s, s:s, s:s, s:i, s:o, s:o, s:o, s:o, s:f}", "machine", machine, "isa",
                     rt_kernels_best()->isa, "model", b->bench.pack->model.name, "cache_bits",
                     (int)b->config.cache_bits, "results", results, "memory", memory, "switch",
                     pairs, "switch_all", total, "bandwidth_gb_s",
                     bench_bandwidth_gb_s(b->bench.team));
}

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

/* One token's share of its point's median. */
static void print_token(const json_t *total, const char *words, const char *name)
{
    static const char *const quantiles[] = {"p50", "p99", "max"};
    char key[48];
    printf("%s", words);
    for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++) {
        snprintf(key, sizeof key, "%s_%s", name, quantiles[i]);
        printf("%s %s %.2f", i ? "," : "", quantiles[i], number(total, key));
    }
}

static void print_swaps(const json_t *total)
{
    printf("\n%.0f swaps: cost p50 %.2f us, p99 %.2f us, max %.2f us; %.0f major faults, heap "
           "grown by %.0f bytes\n",
           number(total, "swaps"), number(total, "p50_us"), number(total, "p99_us"),
           number(total, "max_us"), number(total, "major_faults"),
           number(total, "heap_grown_bytes"));
    print_token(total, "of its point's median, the first token after a swap takes", "first_token");
    print_token(total, "; the second", "second_token");
    printf(
        "\nlate, that is beyond 1.5 medians: %.0f first tokens and %.0f second ones; of %.0f times "
        "that a swap with a late one was made, each time: %.0f and %.0f",
        number(total, "first_token_late"), number(total, "second_token_late"),
        number(total, "rounds"), number(total, "first_token_late_always"),
        number(total, "second_token_late_always"));
    printf("\n");
}

/* "3.21 W", "-" where it is not known. */
static void print_known(char text[32], const json_t *row, const char *key, const char *unit)
{
    if (json_is_number(json_object_get(row, key)))
        snprintf(text, 32, "%.3g %s", number(row, key), unit);
    else
        snprintf(text, 32, "-");
}

static void print_memory(const json_t *memory)
{
    size_t i;
    const json_t *row;
    if (json_array_size(memory))
        printf("\n%-16s %14s %14s %14s\n", "point", "process MB", "weights MB", "catalog MB");
    json_array_foreach(memory, i, row)
    {
        char catalog[32] = "-";
        if (json_is_number(json_object_get(row, "catalog_bytes")))
            snprintf(catalog, sizeof catalog, "%.1f", number(row, "catalog_bytes") / 1e6);
        printf("%-16s %14.1f %14.1f %14s\n", json_string_value(json_object_get(row, "point")),
               number(row, "resident_bytes") / 1e6, number(row, "weights_bytes") / 1e6, catalog);
    }
}

static int print_text(json_t *all)
{
    size_t i;
    json_t *row, *total = json_object_get(all, "switch_all");
    printf("%s, %s kernels, %.1f GB/s\n\n%-16s %-8s %6s %6s %8s %10s %8s %10s %10s\n",
           json_string_value(json_object_get(all, "machine")),
           json_string_value(json_object_get(all, "isa")), number(all, "bandwidth_gb_s"), "point",
           "test", "n", "depth", "threads", "tok/s", "sd", "power", "a token");
    json_array_foreach(json_object_get(all, "results"), i, row)
    {
        char power[32], each[32];
        print_known(power, row, "power_w", "W");
        print_known(each, row, "j_per_token", "J");
        printf("%-16s %-8s %6.0f %6.0f %8.0f %10.2f %8.2f %10s %10s\n",
               json_string_value(json_object_get(row, "point")),
               json_string_value(json_object_get(row, "test")), number(row, "n"),
               number(row, "depth"), number(row, "threads"), number(row, "tok_s"),
               number(row, "sd"), power, each);
    }
    print_memory(json_object_get(all, "memory"));
    if (json_object_size(total))
        print_swaps(total);
    return cli_finish_output();
}

/* mkdir -p of the folders before the last part of path. */
static int make_folders(char *path, struct ert_error *err)
{
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        int failed = mkdir(path, 0777) && errno != EEXIST;
        if (failed)
            ert_fail(err, ERT_E_IO, "making %s: %s", path, strerror(errno));
        *slash = '/';
        if (failed)
            return -ERT_E_IO;
    }
    return 0;
}

/* devices/MACHINE.json among the user's data: speed belongs to the device, not to the pack. */
static int save(const json_t *all, struct ert_error *err)
{
    char *path = NULL;
    int rc = powers_path(json_string_value(json_object_get(all, "machine")), &path, err);
    if (!rc)
        rc = make_folders(path, err);
    struct ert_output out;
    if (!rc)
        rc = ert_output_open(&out, path, err);
    if (!rc && json_dumpf(all, out.file, JSON_INDENT(1) | CLI_JSON_DIGITS)) {
        ert_output_abort(&out);
        rc = ert_fail(err, ERT_E_IO, "%s: writing failed", path);
    } else if (!rc) {
        rc = ert_output_commit(&out, err);
    }
    if (!rc)
        fprintf(stderr, "saved as %s\n", path);
    free(path);
    return rc;
}

static int bench_and_print(struct benching *b)
{
    struct ert_error err;
    json_t *all = measure_all(b, &err);
    if (!all || (b->save && save(all, &err))) {
        json_decref(all);
        return cli_fail_error(&err);
    }
    if (b->json)
        return cli_print_json(all, JSON_COMPACT);
    int status = print_text(all);
    json_decref(all);
    return status;
}

int command_bench(int argc, char **argv)
{
    struct benching b = {
        .config = {
            .n_prompt = 512, .n_decode = 128, .cache_bits = 16, .repeats = 3, .n_swaps = 10000}};
    struct option_list names = {0};
    uint32_t threads = 0;
    const struct option_row rows[] = {
        {"point", 0, "POINT", "a point; may be repeated (all of the pack)", OPTION_LIST, &names, 0,
         0},
        {"threads", 't', "N", "threads (all CPUs)", OPTION_COUNT, &threads, 1, 256},
        {"prompt", 'p', "N", "tokens to prefill (512; 0 = none)", OPTION_COUNT, &b.config.n_prompt,
         0, 1e6},
        {"tokens", 'n', "N", "tokens to decode (128; 0 = none)", OPTION_COUNT, &b.config.n_decode,
         0, 1e6},
        {"depth", 'd', "N", "tokens in the cache before those (0)", OPTION_COUNT, &b.config.depth,
         0, 1e6},
        {"cache-bits", 0, "N", "of a cached key or value: 16, 8 or 6 (16)", OPTION_COUNT,
         &b.config.cache_bits, 6, 16},
        {"repeats", 'r', "N", "times each is measured (3)", OPTION_COUNT, &b.config.repeats, 1,
         1000},
        {"switch", 0, NULL, "random swaps between the points too", OPTION_FLAG, &b.swaps, 0, 0},
        {"swaps", 0, "N", "how many (10000)", OPTION_COUNT, &b.config.n_swaps, 1, 1e7},
        {"save", 0, NULL, "keep the figures as this machine's", OPTION_FLAG, &b.save, 0, 0},
        {"json", 0, NULL, "as JSON (docs/json.md)", OPTION_FLAG, &b.json, 0, 0},
        OPTION_HELP,
    };
    struct command_line line = {
        .usage = "edgert bench [OPTION]... [PACK]",
        .about = "Measures prefill and decoding of points on this machine.",
        .rows = rows,
        .n_rows = sizeof rows / sizeof *rows,
        .max_arguments = 1,
    };
    struct ert_error err;
    int status = options_parse(&line, argc, argv);
    if (status < 0) {
        bool open =
            !workbench_open(&b.bench, line.n_arguments ? line.arguments[0] : NULL, threads, &err) &&
            !point_list_make(&b.points, b.bench.pack, &names, &err);
        status = open ? bench_and_print(&b) : cli_fail_error(&err);
        free(b.points.points);
        workbench_close(&b.bench);
    }
    options_release(&line);
    return status;
}
