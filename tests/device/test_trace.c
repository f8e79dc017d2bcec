#include "tests/test.h"

#include <glob.h>
#include <math.h>
#include <string.h>

#include "device/device.h"

/* Writes text to a file of its own and reads it as a trace. */
static int read_text(const char *text, size_t n, struct dev_trace **trace, struct ert_error *err)
{
    char path[] = "/tmp/trace-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, n), n);
    close(fd);
    *err = (struct ert_error){0};
    int rc = dev_trace_read(trace, path, err);
    unlink(path);
    return rc;
}

static void refused(const char *text, int code, const char *sentence)
{
    struct dev_trace *trace;
    struct ert_error err;
    int rc = read_text(text, strlen(text), &trace, &err);
    if (rc != -code || !strstr(err.text, sentence))
        fail_msg("'%s': got %d '%s', expected %d '%s'", text, rc, err.text, -code, sentence);
    assert_null(trace);
}

static void test_signals_by_name_and_family(void **state)
{
    (void)state;
    assert_string_equal(dev_signal_find("battery.charge")->name, "battery.charge");
    assert_int_equal(dev_signal_find("temp.nvme0")->unit, ERT_UNIT_CELSIUS);
    assert_int_equal(dev_signal_find("power.package")->unit, ERT_UNIT_WATT);
    assert_null(dev_signal_find("temp."));
    assert_null(dev_signal_find("temp.a b"));
    assert_null(dev_signal_find("temperature"));
    assert_null(dev_signal_find("battery.charge.x"));
    assert_string_equal(dev_signal_nearest("batery.charge"), "battery.charge");
    assert_null(dev_signal_nearest("power."));
    for (size_t i = 0; dev_signal_at(i); i++) {
        const struct dev_signal *s = dev_signal_at(i);
        assert_true(s->min < s->max && s->stale_s > 0 && s->rate >= 0);
    }
}

/* What broken sensors are known to say lies outside the range, what devices record inside. */
static void test_ranges_know_broken_sensors(void **state)
{
    (void)state;
    const struct dev_signal *cpu = dev_signal_find("temp.cpu"), *any = dev_signal_find("temp.nvme");
    assert_true(0 < cpu->min && -273 < cpu->min && -273.1 < any->min && 65261.8 > any->max);
    assert_true(cpu->min < 20 && cpu->max > 105);
    assert_true(dev_signal_find("temp.battery")->min < 0);
}

static void test_absences_by_id(void **state)
{
    (void)state;
    enum dev_absence why;
    for (int i = 0; i < DEV_N_ABSENCES; i++) {
        assert_true(dev_absence_find(dev_absence_id((enum dev_absence)i), &why));
        assert_int_equal(why, i);
        assert_true(strlen(dev_absence_text(why)) > 3);
    }
    assert_string_equal(dev_absence_id(DEV_STALE), "STALE");
    assert_false(dev_absence_find("stale", &why));
}

static const char small[] = "\xef\xbb\xbf# device: Test phone\r\n# source: here\n# licence: MIT\n"
                            "# note: anything\n\n"
                            "time_s, temp.cpu_C,battery.charge_%,battery.discharging\r\n"
                            "0,40.5,,1\r\n"
                            "1.5,,99,1\n"
                            "3,42,98.5,0";

static void test_reads_what_a_trace_may_hold(void **state)
{
    (void)state;
    struct dev_trace *t;
    struct ert_error err;
    assert_int_equal(read_text(small, sizeof small - 1, &t, &err), 0);
    assert_string_equal(t->device, "Test phone");
    assert_string_equal(t->licence, "MIT");
    assert_int_equal(t->n_columns, 3);
    assert_int_equal(t->n_rows, 3);
    assert_int_equal(dev_trace_column(t, "battery.discharging"), 2);
    assert_int_equal(dev_trace_column(t, "battery.power"), -1);
    assert_true(isnan(t->values[1]) && t->values[0] == 40.5 && t->values[7] == 98.5);
    assert_true(dev_trace_duration_s(t) == 3);
    dev_trace_free(t);
}

static void test_holds_the_last_value(void **state)
{
    (void)state;
    static const struct {
        int column;
        double t_s, value;
        uint64_t time_ns;
        enum dev_absence why;
    } cases[] = {
        {0, 0, 40.5, 1000, DEV_PRESENT},
        {0, 2.9, 40.5, 1000, DEV_PRESENT}, /* the cell at 1.5 s is empty */
        {0, 3, 42, 3000001000, DEV_PRESENT},
        {0, 1e6, 42, 3000001000, DEV_PRESENT},
        {1, 1.4, 0, 0, DEV_NO_SAMPLE},
        {1, 1.5, 99, 1500001000, DEV_PRESENT},
        {-1, 1, 0, 0, DEV_NO_SOURCE},
        {0, -1, 0, 0, DEV_NO_SAMPLE},
    };
    struct dev_trace *t;
    struct ert_error err;
    assert_int_equal(read_text(small, sizeof small - 1, &t, &err), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dev_reading r = dev_trace_at(t, cases[i].column, cases[i].t_s, 1000);
        assert_int_equal(r.why, cases[i].why);
        assert_true(r.why != DEV_PRESENT || r.value == cases[i].value);
        assert_true(r.why != DEV_PRESENT || r.time_ns == cases[i].time_ns);
    }
    dev_trace_free(t);
}

static void test_refuses_with_line_and_remedy(void **state)
{
    (void)state;
    refused("", ERT_E_FORMAT, "no rows, expected a header");
    refused("time_s,temp.cpu_C\n", ERT_E_FORMAT, "no rows, expected at least one");
    refused("t,temp.cpu_C\n0,1\n", ERT_E_FORMAT, ":1: the first column is 't', expected 'time_s'");
    refused("time_s\n0\n", ERT_E_FORMAT, ":1: no column besides time_s");
    refused("time_s,temp.cpu_F\n", ERT_E_FORMAT,
            "'temp.cpu' has the unit 'F', expected 'temp.cpu_C'");
    refused("time_s,temp.cpu\n", ERT_E_FORMAT, "'temp.cpu' has the unit '', expected 'temp.cpu_C'");
    refused("time_s,batery.charge_%\n", ERT_E_FORMAT, "did you mean 'battery.charge'?");
    refused("time_s,temp.cpu_C,temp.cpu_C\n", ERT_E_FORMAT, ":1: column 'temp.cpu' appears twice");
    refused("# x\n\ntime_s,temp.cpu_C\n0,1\n0,2\n", ERT_E_FORMAT, ":5: time 0 s after 0 s");
    refused("time_s,temp.cpu_C\n1,1\n0,2\n", ERT_E_FORMAT, ":3: time 0 s after 1 s");
    refused("time_s,temp.cpu_C\n-1,1\n", ERT_E_RANGE, ":2: time -1 s");
    refused("time_s,temp.cpu_C\n,1\n", ERT_E_FORMAT, ":2: column 'time_s': '' is not a number");
    refused("time_s,temp.cpu_C\n0,hot\n", ERT_E_FORMAT,
            ":2: column 'temp.cpu': 'hot' is not a number");
    refused("time_s,temp.cpu_C\n0,nan\n", ERT_E_FORMAT,
            "'nan' is not a number; leave the cell empty");
    refused("time_s,temp.cpu_C\n0,1e999\n", ERT_E_FORMAT, "is not a number");
    refused("time_s,temp.cpu_C\n0\n", ERT_E_FORMAT, ":2: 1 cells, expected 2");
    refused("time_s,temp.cpu_C\n0,1,2\n", ERT_E_FORMAT, ":2: more than the 2 cells");
    refused("time_s,temp.cpu_C\n0,\x1b[31m\n", ERT_E_FORMAT, ":2: byte 3 is no UTF-8 text");
}

static void test_refuses_nul_bytes_and_absent_files(void **state)
{
    (void)state;
    struct dev_trace *trace;
    struct ert_error err = {0};
    assert_int_equal(read_text("time_s,temp.cpu_C\n0,\0001\n", 24, &trace, &err), -ERT_E_FORMAT);
    assert_non_null(strstr(err.text, "a NUL byte at offset 20"));
    assert_true(dev_trace_read(&trace, "/no/such/trace.csv", &err) < 0);
    assert_non_null(strstr(err.text, "/no/such/trace.csv"));
    assert_null(trace);
}

static void assert_same(const struct dev_trace *a, const struct dev_trace *b)
{
    assert_int_equal(a->n_rows, b->n_rows);
    assert_int_equal(a->n_columns, b->n_columns);
    assert_string_equal(a->device, b->device);
    assert_string_equal(a->source, b->source);
    assert_string_equal(a->licence, b->licence);
    assert_memory_equal(a->columns, b->columns, a->n_columns * sizeof *a->columns);
    assert_memory_equal(a->time_s, b->time_s, a->n_rows * sizeof *a->time_s);
    for (size_t i = 0; i < a->n_rows * a->n_columns; i++)
        assert_true(a->values[i] == b->values[i] || (isnan(a->values[i]) && isnan(b->values[i])));
}

static void test_what_is_written_reads_the_same(void **state)
{
    (void)state;
    char path[] = "/tmp/trace-XXXXXX";
    struct dev_trace *t, *back;
    struct ert_error err;
    assert_int_equal(read_text(small, sizeof small - 1, &t, &err), 0);
    t->values[0] = 1.0 / 3;
    t->time_s[2] = 2.1000000000000001e5;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(dev_trace_write(t, path, &err), 0);
    assert_int_equal(dev_trace_read(&back, path, &err), 0);
    assert_same(t, back);
    unlink(path);
    dev_trace_free(t);
    dev_trace_free(back);
}

/* Every value that a real device recorded must pass as plausible, and each trace says whose it is.
 */
static void test_bundled_traces_are_plausible(void **state)
{
    (void)state;
    glob_t found;
    assert_int_equal(glob("sim/traces/*.csv", 0, NULL, &found), 0);
    assert_true(found.gl_pathc >= 6);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        struct dev_trace *t;
        struct ert_error err = {0};
        if (dev_trace_read(&t, found.gl_pathv[i], &err))
            fail_msg("%s", err.text);
        assert_true(*t->device && *t->source && *t->licence && t->time_s[0] == 0);
        for (size_t k = 0; k < t->n_rows * t->n_columns; k++) {
            const struct dev_signal *s = dev_signal_find(t->columns[k % t->n_columns]);
            assert_false(t->values[k] < s->min || t->values[k] > s->max);
        }
        dev_trace_free(t);
    }
    globfree(&found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signals_by_name_and_family),
        cmocka_unit_test(test_ranges_know_broken_sensors),
        cmocka_unit_test(test_absences_by_id),
        cmocka_unit_test(test_reads_what_a_trace_may_hold),
        cmocka_unit_test(test_holds_the_last_value),
        cmocka_unit_test(test_refuses_with_line_and_remedy),
        cmocka_unit_test(test_refuses_nul_bytes_and_absent_files),
        cmocka_unit_test(test_what_is_written_reads_the_same),
        cmocka_unit_test(test_bundled_traces_are_plausible),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
