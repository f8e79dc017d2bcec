#include "cli/use_table.h"

#include <stdio.h>
#include <string.h>

static void print_row(const struct ert_point_use *use)
{
    char energy[32] = "-", rate[32] = "-";
    if (use->measured_s > 0)
        snprintf(energy, sizeof energy, "%.1f J", use->energy_j);
    if (use->decode_s > 0 && use->tokens)
        snprintf(rate, sizeof rate, "%.1f", (double)use->tokens / use->decode_s);
    fprintf(stderr, "%-24s %8llu %8s %8.1f s %10s %6llu\n", use->point,
            (unsigned long long)use->tokens, rate, use->decode_s, energy,
            (unsigned long long)use->entered);
}

static void add(struct ert_point_use *total, const struct ert_point_use *use)
{
    total->tokens += use->tokens;
    total->prompt_tokens += use->prompt_tokens;
    total->entered += use->entered;
    total->decode_s += use->decode_s;
    total->prefill_s += use->prefill_s;
    total->energy_j += use->energy_j;
    total->measured_s += use->measured_s;
}

/* Why a column has no figures. */
static void print_energy_note(struct ert_engine *engine)
{
    struct ert_status status;
    const char *why = "this policy does not read battery.power";
    ert_get_status(engine, &status);
    if (!status.policy[0])
        why = "a fixed point reads no sensors";
    for (size_t i = 0; i < status.n_sensors; i++)
        if (!strcmp(status.sensors[i].name, "battery.power"))
            why = status.sensors[i].present ? "charging" : status.sensors[i].why;
    fprintf(stderr, "energy unknown: %s\n", why);
}

/* Sensors without a value, one line for each reason: their trips did not act. */
static void print_missing(struct ert_engine *engine)
{
    struct ert_status status;
    ert_get_status(engine, &status);
    bool said[ERT_STATUS_SENSORS] = {false}, any = false;
    for (size_t i = 0; i < status.n_sensors; i++) {
        if (status.sensors[i].present || said[i])
            continue;
        fprintf(stderr, "no reading of %s", status.sensors[i].name);
        for (size_t k = i + 1; k < status.n_sensors; k++) {
            if (status.sensors[k].present || status.sensors[k].why != status.sensors[i].why)
                continue;
            fprintf(stderr, ", %s", status.sensors[k].name);
            said[k] = true;
        }
        fprintf(stderr, ": %s\n", status.sensors[i].why);
        any = true;
    }
    if (any)
        fputs("trips on them did not act; `edgert sensors --all` tells what was looked for\n",
              stderr);
}

void use_table_print(struct ert_engine *engine, const struct ert_answer *answer)
{
    struct ert_point_use use[ERT_MAX_POINTS], total = {.point = "total"};
    size_t n = ert_get_use(engine, use, ERT_MAX_POINTS), shown = 0;
    fprintf(stderr, "\n%-24s %8s %8s %10s %10s %6s\n", "point", "tokens", "tok/s", "time", "energy",
            "swaps");
    for (size_t i = 0; i < n && i < ERT_MAX_POINTS; i++) {
        add(&total, &use[i]);
        if (use[i].tokens == 0 && use[i].entered == 0 && use[i].decode_s <= 0)
            continue;
        print_row(&use[i]);
        shown++;
    }
    if (shown > 1)
        print_row(&total);
    fprintf(stderr, "prompt: %llu tokens in %.2f s", (unsigned long long)total.prompt_tokens,
            total.prefill_s);
    fprintf(stderr, answer ? "; ended: %s\n" : "\n", answer ? answer->reason : "");
    if (total.measured_s <= 0)
        print_energy_note(engine);
    print_missing(engine);
}
