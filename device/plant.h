/* The device as a physical thing: heat and battery, one step at a time. Pure and deterministic.
 *
 * Heat is a Cauer ladder of two nodes, chip and case (JESD51-14 has the form):
 *
 *     power -> chip --r_chip-- case --r_case-- ambient        C dT/dt = heat in - heat out
 *              c_chip          c_case
 *
 * The battery is an open-circuit voltage over charge, behind a resistance. */
#ifndef DEV_PLANT_H
#define DEV_PLANT_H

#include "base/base.h"

/* Resistances in C/W, capacities in J/C; all above 0. */
struct dev_thermal {
    double r_chip, c_chip, r_case, c_case;
};

struct dev_heat {
    double chip_c, case_c; /* temperatures */
};

/* A time step of a plant: what the temperatures become, linear in them, the power and the ambient
 * temperature, which are constant during the step. Exact for any step (matrix exponential). */
struct dev_thermal_step {
    double from_chip[2], from_case[2], from_power[2], from_ambient[2]; /* [0] chip, [1] case */
};

/* dt_s at least 0. */
struct dev_thermal_step dev_thermal_discretize(const struct dev_thermal *thermal, double dt_s);
struct dev_heat dev_thermal_step(const struct dev_thermal_step *step, struct dev_heat heat,
                                 double power_w, double ambient_c);
/* Where the temperatures end up at constant power. */
struct dev_heat dev_thermal_settled(const struct dev_thermal *thermal, double power_w,
                                    double ambient_c);
/* The slower of the two time constants, in seconds. */
double dev_thermal_slowest_s(const struct dev_thermal *thermal);

enum { DEV_OCV_POINTS = 16 };

struct dev_battery {
    double capacity_ah, resistance_ohm;
    size_t n_ocv;                   /* at least 2 */
    double charge[DEV_OCV_POINTS];  /* 0 to 1, rising */
    double voltage[DEV_OCV_POINTS]; /* open-circuit, at that charge */
};

struct dev_battery_state {
    double charge;    /* 0 to 1 */
    double current_a; /* of the last step; positive while discharging */
    double voltage_v; /* at the terminals */
};

/* Linear between the points, constant beyond them. */
double dev_battery_ocv(const struct dev_battery *battery, double charge);
/* Draws power_w (negative: charges) for dt_s: v = ocv - r i, p = v i. Where the battery cannot give
 * that much, it gives its most (ocv^2 / 4r). Charge stays within 0 and 1. */
void dev_battery_step(const struct dev_battery *battery, struct dev_battery_state *state,
                      double power_w, double dt_s);

#endif
