/* The plant against fine steps of its differential equations, and against its conservation laws. */
#include "tests/test.h"

#include <math.h>

#include "device/plant.h"

static const struct dev_thermal handheld = {4.0, 6.0, 7.0, 90.0}, board = {0.6, 2.5, 11.0, 40.0};

/* Explicit Euler: only as good as its step is small. */
static struct dev_heat euler(const struct dev_thermal *t, struct dev_heat heat, double power_w,
                             double ambient_c, double dt_s)
{
    enum { STEPS = 200000 };
    double h = dt_s / STEPS;
    for (int i = 0; i < STEPS; i++) {
        double across = (heat.chip_c - heat.case_c) / t->r_chip;
        double out = (heat.case_c - ambient_c) / t->r_case;
        heat.chip_c += h * (power_w - across) / t->c_chip;
        heat.case_c += h * (across - out) / t->c_case;
    }
    return heat;
}

static void test_a_step_solves_the_differential_equations(void **state)
{
    (void)state;
    const struct dev_thermal *plants[] = {&handheld, &board};
    for (int p = 0; p < 2; p++)
        for (int i = 0; i < 12; i++) {
            double dt_s = 0.05 * pow(3, i % 6), power_w = i * 0.9, ambient_c = 20 + i;
            struct dev_heat from = {30 + 5 * (i % 4), 50 - 4 * (i % 3)};
            struct dev_thermal_step step = dev_thermal_discretize(plants[p], dt_s);
            struct dev_heat got = dev_thermal_step(&step, from, power_w, ambient_c);
            struct dev_heat fine = euler(plants[p], from, power_w, ambient_c, dt_s);
            assert_true(fabs(got.chip_c - fine.chip_c) < 1e-3);
            assert_true(fabs(got.case_c - fine.case_c) < 1e-3);
        }
}

/* Ten short steps are one long one, and no step stays where it is. */
static void test_steps_compose(void **state)
{
    (void)state;
    struct dev_thermal_step ten = dev_thermal_discretize(&handheld, 10);
    struct dev_thermal_step one = dev_thermal_discretize(&handheld, 1);
    struct dev_thermal_step none = dev_thermal_discretize(&handheld, 0);
    struct dev_heat start = {61, 33}, a = dev_thermal_step(&ten, start, 5, 21), b = start;
    for (int i = 0; i < 10; i++)
        b = dev_thermal_step(&one, b, 5, 21);
    assert_true(fabs(a.chip_c - b.chip_c) < 1e-10 && fabs(a.case_c - b.case_c) < 1e-10);
    b = dev_thermal_step(&none, start, 5, 21);
    assert_true(fabs(b.chip_c - 61) < 1e-12 && fabs(b.case_c - 33) < 1e-12);
}

static void test_it_settles_where_heat_in_is_heat_out(void **state)
{
    (void)state;
    struct dev_heat settled = dev_thermal_settled(&handheld, 3, 25);
    assert_true(fabs(settled.case_c - (25 + 3 * 7)) < 1e-12);
    assert_true(fabs(settled.chip_c - (25 + 3 * 11)) < 1e-12);
    struct dev_thermal_step step = dev_thermal_discretize(&handheld, 3600 * 24);
    struct dev_heat late = dev_thermal_step(&step, (struct dev_heat){90, -10}, 3, 25);
    assert_true(fabs(late.chip_c - settled.chip_c) < 1e-9);
    step = dev_thermal_discretize(&handheld, 17);
    late = dev_thermal_step(&step, settled, 3, 25);
    assert_true(fabs(late.chip_c - settled.chip_c) < 1e-10);
}

/* After its slowest time constant a plant has done 63 % of the rest of the way, the fast mode being
 * over. */
static void test_the_slowest_time_constant(void **state)
{
    (void)state;
    double tau_s = dev_thermal_slowest_s(&handheld);
    struct dev_thermal_step step = dev_thermal_discretize(&handheld, tau_s);
    struct dev_heat settled = dev_thermal_settled(&handheld, 3, 25);
    struct dev_heat first = dev_thermal_step(&step, (struct dev_heat){25, 25}, 3, 25);
    struct dev_heat then = dev_thermal_step(&step, first, 3, 25);
    double ratio = (settled.case_c - then.case_c) / (settled.case_c - first.case_c);
    assert_true(fabs(ratio - exp(-1)) < 1e-4);
}

static const struct dev_battery cell = {
    .capacity_ah = 4,
    .resistance_ohm = 0.1,
    .n_ocv = 3,
    .charge = {0, 0.2, 1},
    .voltage = {3.0, 3.6, 4.2},
};

static void test_open_circuit_voltage_between_its_points(void **state)
{
    (void)state;
    assert_true(dev_battery_ocv(&cell, -1) == 3.0 && dev_battery_ocv(&cell, 2) == 4.2);
    assert_true(fabs(dev_battery_ocv(&cell, 0.1) - 3.3) < 1e-12);
    assert_true(fabs(dev_battery_ocv(&cell, 0.6) - 3.9) < 1e-12);
}

/* The terminals give the power asked for; the charge taken is the current's integral; both energies
 * add up: what the cell gave is what came out and what its resistance took. */
static void test_a_battery_keeps_energy_and_charge(void **state)
{
    (void)state;
    static const double powers[] = {0, 0.5, 5, 20, -8};
    for (size_t i = 0; i < sizeof powers / sizeof *powers; i++) {
        struct dev_battery_state s = {.charge = 0.6};
        dev_battery_step(&cell, &s, powers[i], 60);
        assert_true(fabs(s.voltage_v * s.current_a - powers[i]) < 1e-9);
        assert_true(fabs((0.6 - s.charge) * 4 * 3600 - s.current_a * 60) < 1e-9);
        double chemical_w = 3.9 * s.current_a, lost_w = 0.1 * s.current_a * s.current_a;
        assert_true(fabs(chemical_w - lost_w - powers[i]) < 1e-9);
    }
}

static void test_a_battery_gives_no_more_than_it_can(void **state)
{
    (void)state;
    struct dev_battery_state s = {.charge = 0.6};
    dev_battery_step(&cell, &s, 1000, 1);
    assert_true(fabs(s.voltage_v * s.current_a - 3.9 * 3.9 / 0.4) < 1e-6);
    s.charge = 0.001;
    dev_battery_step(&cell, &s, 20, 3600);
    assert_true(s.charge == 0);
    dev_battery_step(&cell, &s, -20, 36000);
    assert_true(s.charge == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_step_solves_the_differential_equations),
        cmocka_unit_test(test_steps_compose),
        cmocka_unit_test(test_it_settles_where_heat_in_is_heat_out),
        cmocka_unit_test(test_the_slowest_time_constant),
        cmocka_unit_test(test_open_circuit_voltage_between_its_points),
        cmocka_unit_test(test_a_battery_keeps_energy_and_charge),
        cmocka_unit_test(test_a_battery_gives_no_more_than_it_can),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
