#include "device/plant.h"

#include <math.h>

/* dT/dt = A (T - T_settled): A of the two nodes, in 1/s. */
struct rates {
    double chip_chip, chip_case, case_chip, case_case;
};

static struct rates rates_of(const struct dev_thermal *t)
{
    double flow = 1 / t->r_chip;
    return (struct rates){-flow / t->c_chip, flow / t->c_chip, flow / t->c_case,
                          -(flow + 1 / t->r_case) / t->c_case};
}

/* Eigenvalues of A: real, distinct and below 0, since the off-diagonal product is above 0 and the
 * determinant 1 / (r_chip c_chip r_case c_case). */
static void eigenvalues(const struct rates *a, double *fast, double *slow)
{
    double mean = (a->chip_chip + a->case_case) / 2;
    double half = (a->chip_chip - a->case_case) / 2;
    double root = sqrt(half * half + a->chip_case * a->case_chip);
    double determinant = a->chip_chip * a->case_case - a->chip_case * a->case_chip;
    *fast = mean - root;
    *slow = determinant / *fast; /* not mean + root, which cancels */
}

double dev_thermal_slowest_s(const struct dev_thermal *thermal)
{
    struct rates a = rates_of(thermal);
    double fast, slow;
    eigenvalues(&a, &fast, &slow);
    return -1 / slow;
}

struct dev_heat dev_thermal_settled(const struct dev_thermal *thermal, double power_w,
                                    double ambient_c)
{
    double case_c = ambient_c + power_w * thermal->r_case;
    return (struct dev_heat){case_c + power_w * thermal->r_chip, case_c};
}

struct dev_thermal_step dev_thermal_discretize(const struct dev_thermal *thermal, double dt_s)
{
    struct rates a = rates_of(thermal);
    double fast, slow;
    eigenvalues(&a, &fast, &slow);
    /* Sylvester's formula: exp(A t) = (e^st (A - f I) - e^ft (A - s I)) / (s - f). */
    double es = exp(slow * dt_s) / (slow - fast), ef = exp(fast * dt_s) / (slow - fast);
    double chip_chip = es * (a.chip_chip - fast) - ef * (a.chip_chip - slow);
    double case_case = es * (a.case_case - fast) - ef * (a.case_case - slow);
    double chip_case = (es - ef) * a.chip_case, case_chip = (es - ef) * a.case_chip;
    double chip_rest = 1 - chip_chip - chip_case, case_rest = 1 - case_chip - case_case;
    double r_both = thermal->r_chip + thermal->r_case;
    return (struct dev_thermal_step){
        .from_chip = {chip_chip, case_chip},
        .from_case = {chip_case, case_case},
        .from_power = {r_both - chip_chip * r_both - chip_case * thermal->r_case,
                       thermal->r_case - case_chip * r_both - case_case * thermal->r_case},
        .from_ambient = {chip_rest, case_rest},
    };
}

struct dev_heat dev_thermal_step(const struct dev_thermal_step *step, struct dev_heat heat,
                                 double power_w, double ambient_c)
{
    double next[2];
    for (int i = 0; i < 2; i++)
        next[i] = step->from_chip[i] * heat.chip_c + step->from_case[i] * heat.case_c +
                  step->from_power[i] * power_w + step->from_ambient[i] * ambient_c;
    return (struct dev_heat){next[0], next[1]};
}

double dev_battery_ocv(const struct dev_battery *battery, double charge)
{
    const double *at = battery->charge, *v = battery->voltage;
    size_t n = battery->n_ocv, i = 1;
    if (charge <= at[0])
        return v[0];
    if (charge >= at[n - 1])
        return v[n - 1];
    while (charge > at[i])
        i++;
    return v[i - 1] + (v[i] - v[i - 1]) * (charge - at[i - 1]) / (at[i] - at[i - 1]);
}

void dev_battery_step(const struct dev_battery *battery, struct dev_battery_state *state,
                      double power_w, double dt_s)
{
    double ocv = dev_battery_ocv(battery, state->charge), r = battery->resistance_ohm;
    double most_w = r > 0 ? ocv * ocv / (4 * r) : INFINITY;
    double power = fmin(power_w, most_w);
    /* The smaller root of r i^2 - ocv i + p = 0, in the form that does not cancel. */
    double current = 2 * power / (ocv + sqrt(fmax(ocv * ocv - 4 * r * power, 0)));
    double charge = state->charge - current * dt_s / 3600 / battery->capacity_ah;
    state->current_a = current;
    state->voltage_v = ocv - r * current;
    state->charge = fmin(fmax(charge, 0), 1);
}
