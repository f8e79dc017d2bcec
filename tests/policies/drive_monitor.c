/* What test_guarantees.py drives. Lines of stdin:
 *   F FORMULA                             a guarantee; says "ok" or "refused SENTENCE"
 *   S TIME_NS STATE {SENSOR VALUE}...     what holds after a decision; says the status
 *   E                                     the end: says the status
 * A status: verdict, decided (0, 1), time of the decision in ns, lower, upper, restarts. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policies/policies.h"

static struct pol_policy policy;
static struct pol_state state;
static struct pol_monitor *monitor;

static int begin(const char *formula)
{
    char text[2 * POL_FORMULA];
    struct pol_file *file;
    struct ert_error err = {0};
    snprintf(text, sizeof text,
             "edgert: 1\nladders: {l: [w8a8, w4a16]}\npolicies:\n  p:\n    ladder: l\n"
             "    guarantees:\n      - \"%s\"\n",
             formula);
    int rc = pol_file_parse(&file, "g", text, strlen(text), &err);
    if (!rc) {
        rc = pol_compile(file, "p", NULL, 0, &policy, &err);
        pol_file_free(file);
    }
    pol_monitor_free(monitor);
    monitor = NULL;
    if (!rc)
        rc = pol_monitor_create(&monitor, &policy, &err);
    if (!rc)
        pol_state_init(&state, &policy);
    printf("%s%s\n", rc ? "refused " : "ok", rc ? err.text : "");
    return rc;
}

static void say_status(void)
{
    const struct pol_guarantee_status *s = pol_monitor_status(monitor, 0);
    printf("%s %d %" PRIu64 " %.17g %.17g %u\n", pol_verdict_name(s->verdict), s->decided,
           s->decided ? s->decided_ns : 0, s->lower, s->upper, s->restarts);
}

static void sample(char *rest)
{
    char *word = strtok_r(NULL, " ", &rest);
    state.now_ns = strtoull(word, NULL, 10);
    state.state = (unsigned)strtoul(strtok_r(NULL, " ", &rest), NULL, 10);
    while ((word = strtok_r(NULL, " ", &rest))) {
        double value = strtod(strtok_r(NULL, " ", &rest), NULL);
        for (size_t i = 0; i < policy.n_sensors; i++)
            if (!strcmp(policy.sensors[i].name, word)) {
                state.sensors[i].has_last = true;
                state.sensors[i].last.value = value;
            }
    }
    pol_monitor_step(monitor, &state);
    say_status();
}

int main(void)
{
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) > 0) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0] == 'F') {
            begin(line + 2);
        } else if (monitor && line[0] == 'S') {
            sample(line + 2);
        } else if (monitor) {
            pol_monitor_finish(monitor);
            say_status();
        }
    }
    pol_monitor_free(monitor);
    free(line);
    return 0;
}
