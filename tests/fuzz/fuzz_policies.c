/* A policy file: parse, look for what is likely wrong, compile every policy, show it, read what is
 * shown, decide a few times, watch its guarantees, ask what other readings would come to. */
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "policies/policies.h"

static void decide(const struct pol_policy *policy)
{
    struct pol_state state;
    struct pol_decision decision;
    struct pol_monitor *monitor;
    struct ert_error err;
    struct dev_reading raw[POL_MAX_SENSORS];
    if (pol_monitor_create(&monitor, policy, &err))
        abort();
    pol_state_init(&state, policy);
    for (uint64_t step = 0; step < 20; step++) {
        uint64_t now_ns = 3600000000000 + step * 700000000;
        for (size_t i = 0; i < policy->n_sensors; i++)
            raw[i] = (struct dev_reading){(double)(step * 13 % 100), now_ns, DEV_PRESENT};
        pol_decide(policy, &state, now_ns, raw, &decision);
        if (decision.state >= policy->n_states)
            abort();
        pol_monitor_step(monitor, &state);
    }
    pol_monitor_finish(monitor);
    pol_monitor_free(monitor);
}

/* What is shown is read as the same policy. */
static void show(const struct pol_policy *policy, const struct pol_file *file)
{
    static struct pol_policy again;
    struct pol_file *shown;
    struct ert_error err;
    char *text, *twice;
    if (pol_show(policy, file, &text, &err))
        abort();
    free(text);
    if (pol_show(policy, NULL, &text, &err) ||
        pol_file_parse(&shown, "shown.yaml", text, strlen(text), &err))
        abort();
    if (pol_compile(shown, policy->name, NULL, 0, &again, &err) ||
        pol_show(&again, NULL, &twice, &err) || strcmp(text, twice))
        abort();
    pol_file_free(shown);
    free(text);
    free(twice);
}

/* A search over every sensor takes long where there are many. */
static void ask(const struct pol_policy *policy)
{
    static struct pol_what_if what_if;
    struct dev_reading readings[POL_MAX_SENSORS];
    struct ert_error err;
    if (policy->n_sensors > 2)
        return;
    for (size_t i = 0; i < policy->n_sensors; i++)
        readings[i] = (struct dev_reading){.value = 50};
    if (pol_what_if(policy, readings, &what_if, &err) || what_if.state >= policy->n_states)
        abort();
}

static void check_place(void *ctx, const struct pol_finding *finding)
{
    (void)ctx;
    if (!finding->file || !finding->line || !finding->column || !*finding->text)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct pol_policy policy;
    struct pol_file *file;
    struct ert_error err;
    if (pol_file_parse(&file, "fuzz.yaml", (const char *)data, size, &err))
        return 0;
    for (size_t i = 0; i < pol_file_count(file); i++) {
        if (pol_lint(file, i, check_place, NULL, &err)) /* what was parsed compiles */
            abort();
        if (pol_compile(file, pol_file_name(file, i), NULL, 0, &policy, &err))
            continue;
        decide(&policy);
        show(&policy, file);
        ask(&policy);
    }
    pol_file_free(file);
    return 0;
}
