/* What test_power_allocator.py drives: the controller and the split alone. Lines of stdin:
 *   G K_PO K_PU K_I K_D CUTOFF SUSTAINABLE DELAY    gains; the controller begins anew
 *   E ERROR_MC MAX_MW                               a step; says p, i, d, integral, output
 *   A POWER WANTS MAX [WANTS MAX]...                a split; says what is granted to each */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "policies/pid.h"

static int64_t next(char **rest)
{
    return strtoll(*rest, rest, 10);
}

static void split(char *rest)
{
    struct pol_actor actors[8];
    int64_t power_mw = next(&rest);
    int n = 0;
    for (; n < 8 && *rest == ' '; n++) {
        actors[n].wants_mw = next(&rest);
        actors[n].max_mw = next(&rest);
    }
    pol_grant(actors, n, power_mw);
    for (int i = 0; i < n; i++)
        printf("%" PRId64 "%s", actors[i].granted_mw, i + 1 < n ? " " : "\n");
}

int main(void)
{
    struct pol_pid_gains gains = {0};
    struct pol_pid pid = {0};
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) > 0) {
        char *rest = line + 1;
        if (line[0] == 'G') {
            pid = (struct pol_pid){0};
            int64_t *fields[] = {&gains.k_po,    &gains.k_pu,      &gains.k_i,
                                 &gains.k_d,     &gains.cutoff_mc, &gains.sustainable_mw,
                                 &gains.delay_ms};
            for (int i = 0; i < 7; i++)
                *fields[i] = next(&rest);
        } else if (line[0] == 'E') {
            int64_t error_mc = next(&rest), max_mw = next(&rest);
            struct pol_pid_terms t = pol_pid_step(&gains, &pid, error_mc, max_mw);
            printf("%" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 "\n", t.p, t.i, t.d,
                   pid.integral, t.output_mw);
        } else {
            split(rest);
        }
    }
    free(line);
    return 0;
}
