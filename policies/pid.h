/* Inside policies/: the arithmetic of the kernel's power allocator (drivers/thermal; its manual is
 * Documentation/driver-api/thermal/power_allocator.rst), in its integers: temperatures in mC,
 * powers in mW, gains in 1/1024 mW per mC. */
#ifndef POL_PID_H
#define POL_PID_H

#include <stdint.h>

enum { POL_FRACTION_BITS = 10 };

struct pol_pid_gains {
    int64_t k_po, k_pu; /* while above / below the target ("over", "under") */
    int64_t k_i, k_d;
    int64_t cutoff_mc; /* errors below it are integrated */
    int64_t sustainable_mw;
    int64_t delay_ms; /* between two steps */
};

/* What the controller remembers: errors in 1/1024 mC. Zero it to begin. */
struct pol_pid {
    int64_t integral, previous;
};

/* The terms of a step, as the kernel traces them. */
struct pol_pid_terms {
    int64_t p, i, d; /* in 1/1024 mW */
    int64_t output_mw;
};

/* One step: the power that may be spent, 0 to max_mw. error_mc is target less temperature. The
 * integral stands still where it would exceed max_mw: anti-windup. */
struct pol_pid_terms pol_pid_step(const struct pol_pid_gains *gains, struct pol_pid *pid,
                                  int64_t error_mc, int64_t max_mw);

/* One that wants power. */
struct pol_actor {
    int64_t wants_mw; /* what it would use, times its weight */
    int64_t max_mw;
    int64_t granted_mw; /* out */
};

/* Splits power_mw among n actors in proportion to what they want; what exceeds the most of one goes
 * to those that are below theirs. Rounded as the kernels of the time of its log of a Juno board did
 * (up, and what is handed on down), so that the grants may exceed power_mw by less than n mW. */
void pol_grant(struct pol_actor *actors, int n, int64_t power_mw);

#endif
