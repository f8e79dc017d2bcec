#include "cli/use_table.h"

#include <stdio.h>
#include <string.h>

#define J_PER_MWH 3.6

/* Enough digits for millijoules and for kilojoules; "-" if it is not known. */
static void print_joules(char text[32], double joules, bool known)
{
    if (known)
        snprintf(text, 32, joules < 10 ? "%.3f J" : "%.1f J", joules);
    else
        snprintf(text, 32, "-");
}

static void print_row(const struct ert_point_use *use)
{
    char energy[32], each[32], rate[32] = "-";
    double each_j = ert_energy_each(&use->decode_energy, use->tokens);
    print_joules(energy, ert_energy_joules(&use->decode_energy),
                 ert_energy_known(&use->decode_energy) > 0);
    print_joules(each, each_j, each_j > 0);
    if (use->decode_s > 0 && use->tokens)
        snprintf(rate, sizeof rate, "%.1f", (double)use->tokens / use->decode_s);
    fprintf(stderr, "%-24s %8llu %8s %8.1f s %10s %10s %6llu\n", use->point,
            (unsigned long long)use->tokens, rate, use->decode_s, energy, each,
            (unsigned long long)use->entered);
}

static void add(struct ert_point_use *total, const struct ert_point_use *use)
{
    total->tokens += use->tokens;
    total->prompt_tokens += use->prompt_tokens;
    total->drafted += use->drafted;
    total->accepted += use->accepted;
    total->entered += use->entered;
    total->decode_s += use->decode_s;
    total->prefill_s += use->prefill_s;
    ert_energy_add(&total->prefill_energy, &use->prefill_energy);
    ert_energy_add(&total->decode_energy, &use->decode_energy);
}

/* " by rapl" or " by battery (80 %), model (20 %)" of what is known. */
static void print_sources(const struct ert_energy *energy)
{
    double seconds = 0;
    int n = 0;
    for (int i = 0; i < ERT_ENERGY_SOURCES; i++) {
        seconds += energy->seconds[i];
        n += energy->seconds[i] > 0;
    }
    const char *before = " by";
    for (enum ert_energy_source i = 0; i < ERT_ENERGY_SOURCES; i++) {
        if (energy->seconds[i] <= 0)
            continue;
        fprintf(stderr, "%s %s", before, ert_energy_source_name(i));
        if (n > 1)
            fprintf(stderr, " (%.0f %%)", 100 * energy->seconds[i] / seconds);
        before = ",";
    }
}

/* What all of it took, what a token takes, and how far a battery goes by that. */
static void print_energy(const struct ert_point_use *total, const struct ert_status *status)
{
    struct ert_energy all = total->prefill_energy;
    double each_j = ert_energy_each(&total->decode_energy, total->tokens);
    double per_percent = ert_energy_per_percent(status->battery_wh, each_j);
    ert_energy_add(&all, &total->decode_energy);
    double known = ert_energy_known(&all), joules = ert_energy_joules(&all);
    if (known > 0) {
        fprintf(stderr, "energy: %.1f J (%.2f mWh)", joules, joules / J_PER_MWH);
        print_sources(&all);
        if (each_j > 0)
            fprintf(stderr, "; a token %.3f J (%.4f mWh)", each_j, each_j / J_PER_MWH);
        if (per_percent > 0)
            fprintf(stderr, "; 1 %% of the battery is %.0f tokens", per_percent);
        fputc('\n', stderr);
    }
    if (known <= 0)
        fprintf(stderr, "energy unknown: %s\n", status->energy_why);
    else if (known < 1)
        fprintf(stderr, "energy of %.0f %% of the time unknown: %s\n", 100 * (1 - known),
                status->energy_why);
}

/* Sensors without a value, one line for each reason: their trips did not act. */
static void print_missing(const struct ert_status *status)
{
    bool said[ERT_STATUS_SENSORS] = {false}, any = false;
    for (size_t i = 0; i < status->n_sensors; i++) {
        if (status->sensors[i].present || said[i])
            continue;
        fprintf(stderr, "no reading of %s", status->sensors[i].name);
        for (size_t k = i + 1; k < status->n_sensors; k++) {
            if (status->sensors[k].present || status->sensors[k].why != status->sensors[i].why)
                continue;
            fprintf(stderr, ", %s", status->sensors[k].name);
            said[k] = true;
        }
        fprintf(stderr, ": %s\n", status->sensors[i].why);
        any = true;
    }
    if (any)
        fputs("trips on them did not act; `edgert sensors --all` tells what was looked for\n",
              stderr);
}

void use_table_print(struct ert_engine *engine, const struct ert_answer *answer)
{
    struct ert_point_use use[ERT_MAX_POINTS], total = {.point = "total"};
    struct ert_status status;
    size_t n = ert_get_use(engine, use, ERT_MAX_POINTS), shown = 0;
    fprintf(stderr, "\n%-24s %8s %8s %10s %10s %10s %6s\n", "point", "tokens", "tok/s", "time",
            "energy", "a token", "swaps");
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
    if (ert_energy_known(&total.prefill_energy) > 0)
        fprintf(stderr, ", %.2f J", ert_energy_joules(&total.prefill_energy));
    fprintf(stderr, answer ? "; ended: %s\n" : "\n", answer ? answer->reason : "");
    if (total.drafted)
        fprintf(stderr, "speculation: %llu tokens drafted, %llu accepted\n",
                (unsigned long long)total.drafted, (unsigned long long)total.accepted);
    ert_get_status(engine, &status);
    print_energy(&total, &status);
    print_missing(&status);
}
