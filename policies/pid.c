#include "policies/pid.h"

#include <stdlib.h>

/* Shifts of negative numbers round down here as they do in the kernel. */
static int64_t to_fraction(int64_t x)
{
    return x * (1 << POL_FRACTION_BITS);
}

static int64_t multiply(int64_t x, int64_t y)
{
    return (x * y) >> POL_FRACTION_BITS;
}

static int64_t clamp(int64_t x, int64_t low, int64_t high)
{
    return x < low ? low : x > high ? high : x;
}

struct pol_pid_terms pol_pid_step(const struct pol_pid_gains *gains, struct pol_pid *pid,
                                  int64_t error_mc, int64_t max_mw)
{
    struct pol_pid_terms t;
    int64_t error = to_fraction(error_mc), most = to_fraction(max_mw);
    t.p = multiply(error < 0 ? gains->k_po : gains->k_pu, error);
    t.i = multiply(gains->k_i, pid->integral);
    if (error < to_fraction(gains->cutoff_mc)) {
        int64_t next = t.i + multiply(gains->k_i, error);
        if (llabs(next) < most) {
            t.i = next;
            pid->integral += error;
        }
    }
    /* The kernel divides by milliseconds without a fraction: k_d is per 1024 ms. */
    t.d = to_fraction(multiply(gains->k_d, error - pid->previous)) / gains->delay_ms;
    pid->previous = error;
    int64_t more_mw = (t.p + t.i + t.d) >> POL_FRACTION_BITS;
    t.output_mw = clamp(gains->sustainable_mw + more_mw, 0, max_mw);
    return t;
}

void pol_grant(struct pol_actor *actors, int n, int64_t power_mw)
{
    int64_t wanted_mw = 0, spare_mw = 0, room_mw = 0;
    for (int i = 0; i < n; i++)
        wanted_mw += actors[i].wants_mw;
    for (int i = 0; i < n; i++) {
        struct pol_actor *a = &actors[i];
        if (wanted_mw)
            a->granted_mw = (a->wants_mw * power_mw + wanted_mw - 1) / wanted_mw;
        else
            a->granted_mw = 0;
        if (a->granted_mw > a->max_mw) {
            spare_mw += a->granted_mw - a->max_mw;
            a->granted_mw = a->max_mw;
        }
        room_mw += a->max_mw - a->granted_mw;
    }
    spare_mw = spare_mw < room_mw ? spare_mw : room_mw;
    for (int i = 0; spare_mw > 0 && room_mw > 0 && i < n; i++)
        actors[i].granted_mw += (actors[i].max_mw - actors[i].granted_mw) * spare_mw / room_mw;
}
