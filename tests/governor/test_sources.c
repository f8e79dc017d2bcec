/* Sources on files made up here, read at times made up here. Expected values are worked out by hand
 * from the files. */
#include "tests/tree.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "governor/events.h"
#include "governor/powercap.h"
#include "governor/source.h"
#include "governor/timekeeping.h"
#include "governor/work.h"

#define SECOND   1000000000ULL
#define START_NS (3600 * SECOND)

struct fixture {
    char root[64];
    struct gov_machine machine;
    struct gov_source source;
};

#define put(f, path, ...) tree_put((f)->root, path, __VA_ARGS__)

static int make(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    if (!f)
        return -1;
    strcpy(f->root, "/tmp/edgert-sources-XXXXXX");
    if (!mkdtemp(f->root)) {
        free(f);
        return -1;
    }
    f->machine.root = f->root;
    *state = f;
    return 0;
}

static int drop(void **state)
{
    struct fixture *f = *state;
    char command[128];
    gov_source_close(&f->source);
    snprintf(command, sizeof command, "rm -r '%s'", f->root);
    int rc = system(command);
    free(f);
    return rc;
}

static void open_source(struct fixture *f, const char *name)
{
    gov_source_close(&f->source);
    gov_source_open(&f->source, name, &f->machine);
}

static struct dev_reading read_at(struct fixture *f, double seconds)
{
    return gov_source_read(&f->source, &f->machine, START_NS + (uint64_t)(seconds * 1e9));
}

static void expect(struct fixture *f, double seconds, double value)
{
    struct dev_reading r = read_at(f, seconds);
    if (r.why != DEV_PRESENT || r.value < value - 1e-6 || r.value > value + 1e-6)
        fail_msg("%s at %g s: %g (%s), expected %g", f->source.name, seconds, r.value,
                 r.why ? f->source.why : "present", value);
}

static void expect_none(struct fixture *f, double seconds, enum dev_absence why, const char *words)
{
    struct dev_reading r = read_at(f, seconds);
    assert_int_equal(r.why, why);
    if (!strstr(f->source.why, words))
        fail_msg("%s says '%s', expected '%s' in it", f->source.name, f->source.why, words);
}

static void expect_absent(struct fixture *f, const char *name, const char *words)
{
    open_source(f, name);
    assert_false(f->source.serves);
    if (!strstr(f->source.why, words))
        fail_msg("%s says '%s', expected '%s' in it", name, f->source.why, words);
}

/* ---- powercap ------------------------------------------------------------------------------- */

#define RAPL "sys/class/powercap/intel-rapl:"

static void put_zone(const struct fixture *f, const char *zone, const char *name,
                     long long range_uj)
{
    char path[128];
    snprintf(path, sizeof path, "sys/class/powercap/%s/name", zone);
    put(f, path, "%s\n", name);
    snprintf(path, sizeof path, "sys/class/powercap/%s/max_energy_range_uj", zone);
    put(f, path, "%lld\n", range_uj);
    snprintf(path, sizeof path, "sys/class/powercap/%s/energy_uj", zone);
    put(f, path, "0\n");
}

static void energy_counter_gives_the_mean_power(void **state)
{
    struct fixture *f = *state;
    put_zone(f, "intel-rapl:0", "package-0", 262143328850);
    put(f, RAPL "0/energy_uj", "240422366267\n");
    open_source(f, "powercap:package");
    expect_none(f, 0, DEV_NO_SAMPLE, "two samples");
    put(f, RAPL "0/energy_uj", "%lld\n", 240422366267LL + 7500000);
    expect(f, 0.5, 15);
    /* 3 J more in the next 10 ms are not yet a power, and the last one holds. */
    put(f, RAPL "0/energy_uj", "%lld\n", 240422366267LL + 10500000);
    expect(f, 0.51, 15);
    expect(f, 1, 6);
}

static void energy_counter_wraps(void **state)
{
    struct fixture *f = *state;
    char why[GOV_WHY];
    struct gov_powercap counters;
    double joules;
    put_zone(f, "intel-rapl:0", "package-0", 1000000000);
    put(f, RAPL "0/energy_uj", "999000000\n");
    assert_true(gov_powercap_open(&counters, &f->machine, "package-0", why));
    assert_true(gov_powercap_count(&counters, &joules, why) && joules == 0);
    put(f, RAPL "0/energy_uj", "2000000\n");
    assert_true(gov_powercap_count(&counters, &joules, why) && joules == 3);
    /* Without a range a counter that fell was set back: nothing is known of the time between. */
    put(f, RAPL "0/max_energy_range_uj", "0\n");
    assert_true(gov_powercap_open(&counters, &f->machine, "package-0", why));
    assert_true(gov_powercap_count(&counters, &joules, why));
    put(f, RAPL "0/energy_uj", "500000\n");
    assert_true(gov_powercap_count(&counters, &joules, why) && joules == 0);
    put(f, RAPL "0/energy_uj", "1500000\n");
    assert_true(gov_powercap_count(&counters, &joules, why) && joules == 1);
}

static void packages_add_up_and_count_once(void **state)
{
    struct fixture *f = *state;
    put_zone(f, "intel-rapl:0", "package-0", 1000000000);
    put_zone(f, "intel-rapl:1", "package-1", 1000000000);
    put_zone(f, "intel-rapl:0:0", "core", 1000000000);
    put_zone(f, "intel-rapl-mmio:0", "package-0", 1000000000);
    put(f, "sys/class/powercap/intel-rapl/enabled", "1\n");
    open_source(f, "powercap:package");
    assert_int_equal(f->source.u.powercap.counters.n, 2);
    read_at(f, 0);
    put(f, RAPL "0/energy_uj", "2000000\n");
    put(f, RAPL "1/energy_uj", "1000000\n");
    put(f, RAPL "0:0/energy_uj", "900000\n");
    put(f, "sys/class/powercap/intel-rapl-mmio:0/energy_uj", "2000000\n");
    expect(f, 1, 3);
    open_source(f, "powercap:core");
    read_at(f, 0);
    expect(f, 1, 0); /* cores may be gated */
    expect_absent(f, "powercap:dram", "no energy counter 'dram'");
}

static void energy_counters_that_tell_nothing(void **state)
{
    struct fixture *f = *state;
    expect_absent(f, "powercap:package", "counts no energy");
    put_zone(f, "intel-rapl:0", "package-0", 1000000000);
    open_source(f, "powercap:package");
    read_at(f, 0);
    expect_none(f, 1, DEV_STUCK, "stands still");
    put(f, RAPL "0/energy_uj", "N/A\n");
    expect_none(f, 2, DEV_READ_FAILED, "Invalid argument");
    expect_absent(f, "powercap:package", "Invalid argument");
    if (geteuid() == 0)
        return; /* root may read anything */
    put(f, RAPL "0/energy_uj", "5\n");
    char path[128];
    snprintf(path, sizeof path, "%s/" RAPL "0/energy_uj", f->root);
    chmod(path, 0);
    expect_absent(f, "powercap:package", "Permission denied");
}

/* ---- cpufreq -------------------------------------------------------------------------------- */

#define CPUFREQ "sys/devices/system/cpu/cpufreq/policy"

static void put_clock(const struct fixture *f, unsigned policy, int now, int cap, int max)
{
    char path[128];
    snprintf(path, sizeof path, CPUFREQ "%u/scaling_cur_freq", policy);
    put(f, path, "%d\n", now);
    snprintf(path, sizeof path, CPUFREQ "%u/scaling_max_freq", policy);
    put(f, path, "%d\n", cap);
    snprintf(path, sizeof path, CPUFREQ "%u/cpuinfo_max_freq", policy);
    put(f, path, "%d\n", max);
}

/* A ROCK Pi 4A that throttles: its fast cluster may use 408 of 1800 MHz, its slow one 1008 of 1416.
 */
static void a_throttling_kernel_is_a_reading(void **state)
{
    struct fixture *f = *state;
    put_clock(f, 0, 1008000, 1008000, 1416000);
    put_clock(f, 4, 408000, 408000, 1800000);
    open_source(f, "cpufreq:cap");
    expect(f, 0, 100 * 408.0 / 1800);
    open_source(f, "cpufreq:current");
    expect(f, 0, 1008);
    open_source(f, "cpufreq:share");
    expect(f, 0, 100 * 1008.0 / 1416);
    put_clock(f, 4, 1800000, 1800000, 1800000);
    expect(f, 1, 100);
    put(f, CPUFREQ "0/scaling_cur_freq", "<unknown>\n");
    put(f, CPUFREQ "4/scaling_cur_freq", "<unknown>\n");
    expect_none(f, 2, DEV_READ_FAILED, "does not tell");
}

/* A CPU that is taken offline takes its files along; with it comes a new one of the old name. */
static void a_cpu_that_comes_back_has_a_clock_again(void **state)
{
    struct fixture *f = *state;
    char path[160];
    put_clock(f, 0, 1000000, 1000000, 1000000);
    put_clock(f, 4, 450000, 1800000, 1800000);
    open_source(f, "cpufreq:current");
    expect(f, 0, 1000);
    put(f, CPUFREQ "4/scaling_cur_freq", "<unknown>\n"); /* as good as a file that is dead */
    expect(f, 1, 1000);
    snprintf(path, sizeof path, "%s/%s", f->root, CPUFREQ "4/scaling_cur_freq");
    assert_int_equal(unlink(path), 0);
    expect(f, 2, 1000);
    put_clock(f, 4, 1800000, 1800000, 1800000);
    expect(f, 3, 1800);
}

static void older_kernels_have_clocks_in_each_cpu(void **state)
{
    struct fixture *f = *state;
    expect_absent(f, "cpufreq:share", "no cpufreq");
    expect_absent(f, "cpufreq:speed", "expected current, share or cap");
    put(f, "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", "1219917\n");
    put(f, "sys/devices/system/cpu/cpu1/cpufreq/cpuinfo_max_freq", "2400000\n");
    open_source(f, "cpufreq:current");
    expect(f, 0, 1219.917);
}

/* ---- pressure ------------------------------------------------------------------------------- */

static void put_stall(const struct fixture *f, const char *resource, long long total_us)
{
    char path[64];
    snprintf(path, sizeof path, "proc/pressure/%s", resource);
    put(f, path,
        "some avg10=1.50 avg60=1.00 avg300=0.10 total=%lld\n"
        "full avg10=0.25 avg60=0.00 avg300=0.00 total=0\n",
        total_us);
}

static void a_windows_stall_is_that_of_the_window(void **state)
{
    struct fixture *f = *state;
    put_stall(f, "memory", 5000000);
    open_source(f, "psi:memory/some/2s");
    expect_none(f, 0, DEV_NO_SAMPLE, "first 2 s");
    expect_none(f, 1, DEV_NO_SAMPLE, "first 2 s");
    expect(f, 2, 0);
    /* 300 ms of stall between 2 s and 2.5 s: in the window of 2 s until 4.5 s. */
    put_stall(f, "memory", 5300000);
    expect(f, 2.5, 15);
    expect(f, 3, 15);
    expect(f, 4, 15);
    /* A quarter of the half second between both samples has left the window. */
    expect(f, 4.125, 15 * 0.75);
    expect(f, 4.5, 0);
    /* Counted anew: nothing is known until the next 2 s are over. */
    put_stall(f, "memory", 100);
    expect_none(f, 5, DEV_NO_SAMPLE, "first 2 s");
    put_stall(f, "memory", 4000100);
    expect(f, 7, 100);
    expect_absent(f, "psi:memory/some/60s", "does not tell some 60s");
    open_source(f, "psi:memory/full/avg10");
    expect(f, 0, 0.25);
}

/* 300 ms of stall in the minute since the last look are 0.5 % of 2 s if they came evenly; a trigger
 * of 11 % says that they did not. It says so of its own window, once, and where looks are not
 * closer than that: the kernel's own estimate of its window lags behind. */
static void a_trigger_knows_more_than_two_looks(void **state)
{
    struct fixture *f = *state;
    put_stall(f, "memory", 0);
    open_source(f, "psi:memory/some/2s");
    expect_none(f, 0, DEV_NO_SAMPLE, "first 2 s");
    f->source.u.psi.told = 11;
    expect(f, 1, 11);
    put_stall(f, "memory", 300000);
    f->source.u.psi.told = 11;
    expect(f, 61, 11);
    put_stall(f, "memory", 700000);
    f->source.u.psi.told = 11;
    expect(f, 63, 20);
    expect(f, 65, 0);
    for (unsigned i = 0; i < 4; i++)
        expect(f, 65.5 + 0.5 * i, 0);
    f->source.u.psi.told = 11;
    expect(f, 67.5, 0);
    open_source(f, "psi:memory/some/avg10");
    f->source.u.psi.told = 11;
    expect(f, 68, 1.5);
    open_source(f, "psi:memory/some/1s");
    expect_none(f, 68, DEV_NO_SAMPLE, "first 1 s");
    f->source.u.psi.told = 11;
    expect(f, 70, 0);
}

/* Faster polls than the ring has room for in a window keep samples far enough apart. */
static void a_window_outlives_many_samples(void **state)
{
    struct fixture *f = *state;
    put_stall(f, "io", 0);
    open_source(f, "psi:io/some/10s");
    for (unsigned i = 0; i <= 20000; i++) {
        if (i % 100 == 0)
            put_stall(f, "io", (long long)i * 250);
        read_at(f, i * 1e-3);
    }
    struct dev_reading r = read_at(f, 20);
    assert_int_equal(r.why, DEV_PRESENT);
    assert_true(r.value > 24 && r.value < 26);
}

/* ---- control group -------------------------------------------------------------------------- */

#define GROUP "sys/fs/cgroup/user.slice/app.service"

static void put_group(const struct fixture *f)
{
    put(f, "proc/self/cgroup", "4:memory:/old\n0::/user.slice/app.service\n");
    put(f, GROUP "/memory.max", "max\n");
    put(f, GROUP "/memory.current", "300000000\n");
    put(f, "sys/fs/cgroup/user.slice/memory.max", "2000000000\n");
    put(f, "sys/fs/cgroup/user.slice/memory.current", "1400000000\n");
    put(f, "sys/fs/cgroup/user.slice/memory.stat",
        "anon 900000000\nfile 500000000\n"
        "inactive_file 100000000\n");
}

static void room_is_what_the_nearest_limit_leaves(void **state)
{
    struct fixture *f = *state;
    put_group(f);
    open_source(f, "cgroup:memory.room");
    expect(f, 0, 700); /* 2000 less 1400 of which 100 can be had back */
    put(f, GROUP "/memory.high", "512000000\n");
    expect(f, 1, 212);
    put(f, GROUP "/memory.current", "600000000\n");
    expect(f, 2, 0);
    open_source(f, "cgroup:memory.current");
    expect(f, 0, 600);
}

/* A model's planes are mapped, and inactive as long as nothing looks for pages to take: they are no
 * room. 2000 less 1400, of which 100 are inactive, 60 of these mapped. */
static void mapped_files_are_no_room(void **state)
{
    struct fixture *f = *state;
    put_group(f);
    put(f, "sys/fs/cgroup/user.slice/memory.stat",
        "anon 900000000\nfile 500000000\nfile_mapped 60000000\ninactive_file 100000000\n");
    open_source(f, "cgroup:memory.room");
    expect(f, 0, 640);
    put(f, "sys/fs/cgroup/user.slice/memory.stat",
        "anon 900000000\nfile 500000000\nfile_mapped 400000000\ninactive_file 100000000\n");
    expect(f, 1, 600);
}

/* The same of the hierarchy that older systems have for memory alone, which goes before the unified
 * one where both are there. A limit that nobody set has exabytes; a soft one is none. */
static void a_hierarchy_for_memory_alone(void **state)
{
    struct fixture *f = *state;
    put(f, "proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/apps/mine\n0::/\n");
    put(f, "sys/fs/cgroup/memory/apps/mine/memory.usage_in_bytes", "300000000\n");
    put(f, "sys/fs/cgroup/memory/apps/mine/memory.limit_in_bytes", "9223372036854771712\n");
    expect_absent(f, "cgroup:memory.room", "no memory limit");
    put(f, "sys/fs/cgroup/memory/apps/memory.usage_in_bytes", "450000000\n");
    put(f, "sys/fs/cgroup/memory/apps/memory.limit_in_bytes", "500000000\n");
    put(f, "sys/fs/cgroup/memory/apps/memory.soft_limit_in_bytes", "100000000\n");
    put(f, "sys/fs/cgroup/memory/apps/memory.stat",
        "inactive_file 1\nmapped_file 2\ntotal_mapped_file 50000000\n"
        "total_inactive_file 80000000\n");
    open_source(f, "cgroup:memory.room");
    expect(f, 0, 80);
    open_source(f, "cgroup:memory.current");
    expect(f, 0, 300);
    expect_absent(f, "cgroup:memory.events", "cannot be read");
}

static void a_group_without_limits_or_none_at_all(void **state)
{
    struct fixture *f = *state;
    expect_absent(f, "cgroup:memory.room", "no control group of memory");
    put(f, "proc/self/cgroup", "0::/\n");
    expect_absent(f, "cgroup:memory.room", "no memory limit");
    put(f, "sys/fs/cgroup/memory.max", "1000000000\n");
    put(f, "sys/fs/cgroup/memory.current", "250000000\n");
    open_source(f, "cgroup:memory.room");
    expect(f, 0, 750);
    expect_absent(f, "cgroup:memory.swap", "expected memory.room");
    expect_absent(f, "cgroup:memory.room/x", "expected memory.room");
    expect_absent(f, "cgroup:memory.pressure", "expected memory.room");
}

static void events_are_a_rate(void **state)
{
    struct fixture *f = *state;
    put_group(f);
    expect_absent(f, "cgroup:memory.events", "cannot be read");
    put(f, GROUP "/memory.events", "low 9\nhigh 3\nmax 4\noom 0\noom_kill 0\n");
    open_source(f, "cgroup:memory.events");
    expect(f, 1, 0);
    put(f, GROUP "/memory.events", "low 9\nhigh 5\nmax 4\noom 0\noom_kill 0\n");
    expect(f, 1.5, 2); /* at once */
    expect(f, 2, 2);
    expect(f, 2.5, 0);
    put(f, GROUP "/memory.events", "low 9\nhigh 5\nmax 12\noom 0\noom_kill 0\n");
    expect(f, 4.5, 4);
    put(f, GROUP "/memory.pressure", "some avg10=7.00 avg60=0.00 avg300=0.00 total=1\n");
    open_source(f, "cgroup:memory.pressure/some/avg10");
    expect(f, 0, 7);
}

static void a_groups_event_ends_the_wait(void **state)
{
    struct fixture *f = *state;
    struct gov_events events;
    struct ert_error err;
    put_group(f);
    put(f, GROUP "/memory.events", "high 3\nmax 4\noom 0\n");
    open_source(f, "cgroup:memory.events");
    assert_int_equal(gov_events_open(&events, false, &err), 0);
    f->source.kind->arm(&f->source, &f->machine, &events, 0);
    assert_int_equal(gov_events_wait(&events, ert_now_ns()), 0);
    put(f, GROUP "/memory.events", "high 4\nmax 4\noom 0\n");
    assert_int_equal(gov_events_wait(&events, UINT64_MAX / 2), GOV_EVENT_PRESSURE);
    assert_non_null(strstr(events.what, "control group"));
    while (gov_events_wait(&events, ert_now_ns()))
        ;
    gov_events_disarm(&events, GOV_EVENT_PRESSURE);
    put(f, GROUP "/memory.events", "high 5\nmax 4\noom 0\n");
    assert_int_equal(gov_events_wait(&events, ert_now_ns()), 0);
    gov_events_poke(&events);
    assert_int_equal(gov_events_wait(&events, UINT64_MAX / 2), GOV_EVENT_POKE);
    gov_events_close(&events);
}

/* ---- supplies ------------------------------------------------------------------------------- */

static void mains_and_warning_level(void **state)
{
    struct fixture *f = *state;
    put(f, "sys/class/power_supply/BAT0/type", "Battery\n");
    put(f, "sys/class/power_supply/BAT0/capacity_level", "Low\n");
    put(f, "sys/class/power_supply/mouse/type", "Battery\n");
    put(f, "sys/class/power_supply/mouse/scope", "Device\n");
    put(f, "sys/class/power_supply/mouse/online", "1\n");
    put(f, "sys/class/power_supply/mouse/capacity_level", "Critical\n");
    expect_absent(f, "power_supply:online", "nothing tells of mains");
    put(f, "sys/class/power_supply/AC/type", "Mains\n");
    put(f, "sys/class/power_supply/AC/online", "0\n");
    put(f, "sys/class/power_supply/ucsi/type", "USB\n");
    put(f, "sys/class/power_supply/ucsi/online", "1\n");
    open_source(f, "power_supply:online");
    expect(f, 0, 1);
    put(f, "sys/class/power_supply/ucsi/online", "0\n");
    expect(f, 1, 0);
    put(f, "sys/class/power_supply/ucsi/online", "N/A\n");
    expect_none(f, 2, DEV_SOURCE_GONE, "went away");
    open_source(f, "power_supply:capacity_level");
    expect(f, 0, 1);
    put(f, "sys/class/power_supply/BAT0/capacity_level", "Critical\n");
    expect(f, 1, 2);
    put(f, "sys/class/power_supply/BAT0/capacity_level", "Unknown\n");
    expect_none(f, 2, DEV_READ_FAILED, "does not tell");
}

/* ---- clocks --------------------------------------------------------------------------------- */

static struct gov_clocks clocks(double monotonic_s, double boottime_s, double realtime_s)
{
    return (struct gov_clocks){(uint64_t)(monotonic_s * 1e9), (uint64_t)(boottime_s * 1e9),
                               (uint64_t)(realtime_s * 1e9)};
}

static void clocks_tell_of_sleep_delay_and_setting(void **state)
{
    (void)state;
    struct gov_timekeeping t;
    char words[128] = "";
    const uint64_t poll_ns = SECOND / 2;
    gov_timekeeping_init(&t, clocks(100, 150, 1.7e9));
    assert_false(gov_timekeeping_note(&t, clocks(100.5, 150.5, 1.7e9 + 0.5), 100.5 * 1e9, poll_ns,
                                      words, sizeof words));
    assert_true(gov_timekeeping_note(&t, clocks(101, 4751, 1.7e9 + 4601), 101 * 1e9, poll_ns, words,
                                     sizeof words));
    assert_non_null(strstr(words, "slept for 4600.0 s"));
    assert_true(gov_timekeeping_note(&t, clocks(104, 4754, 1.7e9 + 4604), 101.5 * 1e9, poll_ns,
                                     words, sizeof words));
    assert_non_null(strstr(words, "2.5 s late"));
    assert_true(gov_timekeeping_note(&t, clocks(104.5, 4754.5, 1.7e9 - 3600), 104.5 * 1e9, poll_ns,
                                     words, sizeof words));
    assert_non_null(strstr(words, "set by -82"));
    assert_false(gov_timekeeping_note(&t, clocks(105, 4755, 1.7e9 - 3599.5), 105 * 1e9, poll_ns,
                                      words, sizeof words));
}

#define ON_FILES(test) cmocka_unit_test_setup_teardown(test, make, drop)

/* ---- work ----------------------------------------------------------------------------------- */

static void at_work(struct gov_worklog *log, enum gov_work work, double seconds)
{
    gov_worklog_set(log, work, START_NS + (uint64_t)(seconds * 1e9));
}

/* Reading from 0.2 to 0.3 s, generating from there to 0.7 s and from 1.4 s on. */
static void work_is_a_share_of_time(void **state)
{
    struct fixture *f = *state;
    struct gov_worklog log;
    gov_worklog_init(&log);
    expect_absent(f, "work:decode", "no model is at work");
    f->machine.work = &log;
    expect_absent(f, "work:decod", "expected decode");
    open_source(f, "work:decode");
    expect_none(f, 0, DEV_NO_SAMPLE, "two looks");
    expect_none(f, 0.05, DEV_NO_SAMPLE, "two looks"); /* too soon for another */
    at_work(&log, GOV_PREFILL, 0.2);
    at_work(&log, GOV_DECODE, 0.3);
    expect(f, 0.5, 40); /* 0.2 of 0.5 s, and it goes on */
    expect(f, 0.55, 40);
    at_work(&log, GOV_IDLE, 0.7);
    expect(f, 1, 40); /* another 0.2 of 0.5 s */
    at_work(&log, GOV_DECODE, 1.4);
    expect(f, 1.5, 20);
    expect(f, 2, 100);
    open_source(f, "work:prefill");
    expect_none(f, 2, DEV_NO_SAMPLE, "two looks");
    at_work(&log, GOV_PREFILL, 2.25);
    expect(f, 3, 75);
    gov_worklog_release(&log);
}

/* ---- the kernel's own trips ----------------------------------------------------------------- */

static void put_trip(struct fixture *f, unsigned zone, unsigned n, const char *type, int temp_mc,
                     int hyst_mc)
{
    char path[96];
    static const char folder[] = "sys/class/thermal/thermal_zone";
    snprintf(path, sizeof path, "%s%u/trip_point_%u_type", folder, zone, n);
    put(f, path, "%s\n", type);
    snprintf(path, sizeof path, "%s%u/trip_point_%u_temp", folder, zone, n);
    put(f, path, "%d\n", temp_mc);
    snprintf(path, sizeof path, "%s%u/trip_point_%u_hyst", folder, zone, n);
    put(f, path, "%d\n", hyst_mc);
}

static void compile(struct pol_policy *policy, const char *text)
{
    struct pol_file *file;
    struct ert_error err;
    if (pol_file_parse(&file, "t.yaml", text, strlen(text), &err) ||
        pol_compile(file, "p", NULL, 0, policy, &err))
        fail_msg("%s", err.text);
    pol_file_free(file);
}

static void expect_trip(const struct pol_policy *policy, size_t i, double above, double hysteresis)
{
    const struct pol_trip *trip = &policy->trips[i];
    if (fabs(trip->threshold - above) > 1e-9 || fabs(trip->hysteresis - hysteresis) > 1e-9)
        fail_msg("trip %s: above %g, hysteresis %g, expected %g, %g", trip->name, trip->threshold,
                 trip->hysteresis, above, hysteresis);
}

/* The zone of an RK3399: passive at 70 and 75, critical at 95 C; the other one has a passive trip
 * that nobody set. */
static void the_kernels_trips_are_defaults(void **state)
{
    struct fixture *f = *state;
    static struct pol_policy policy;
    static const char text[] =
        "edgert: 1\n"
        "sensors: {temp.cpu: ['hwmon:x/y', 'thermal:bare', 'thermal:soc', 'thermal:later']}\n"
        "ladders: {l: [w8a8, w4a16, pause]}\n"
        "policies: {p: {ladder: l, trips: [\n"
        "  {name: own, sensor: temp.cpu, above: 88C, states: 1},\n"
        "  {name: lower, sensor: temp.cpu, above: 60C, kernel: passive, states: 1},\n"
        "  {name: higher, sensor: temp.cpu, above: 88C, kernel: passive, margin: 5C, states: 1},\n"
        "  {name: alone, sensor: temp.cpu, hysteresis: 4C, kernel: passive, states: 1},\n"
        "  {name: off, sensor: temp.cpu, kernel: critical, margin: 10C, states: 2},\n"
        "  {name: none, sensor: temp.cpu, kernel: hot, states: 2}]}}\n";
    put(f, "sys/class/thermal/thermal_zone0/type", "bare\n");
    put(f, "sys/class/thermal/thermal_zone0/temp", "40000\n");
    put_trip(f, 0, 0, "passive", 0, 0);
    put_trip(f, 0, 1, "passive", -274000, 0);
    put(f, "sys/class/thermal/thermal_zone1/type", "soc\n");
    put(f, "sys/class/thermal/thermal_zone1/temp", "40000\n");
    put_trip(f, 1, 0, "passive", 75000, 3000);
    put_trip(f, 1, 1, "passive", 70000, 2000);
    put_trip(f, 1, 2, "critical", 95000, 2000);
    put(f, "sys/class/thermal/thermal_zone2/type", "later\n");
    put(f, "sys/class/thermal/thermal_zone2/temp", "40000\n");
    put_trip(f, 2, 0, "passive", 50000, 1000);
    compile(&policy, text);
    expect_trip(&policy, 3, 125, 4); /* without a machine no reading passes */
    gov_take_kernel_trips(f->root, &policy);
    expect_trip(&policy, 0, 88, 0);
    expect_trip(&policy, 1, 60, 0);
    expect_trip(&policy, 2, 65, 2);
    expect_trip(&policy, 3, 70, 4);
    expect_trip(&policy, 4, 85, 2);
    expect_trip(&policy, 5, 125, 0);
    static struct pol_policy elsewhere;
    compile(&elsewhere, text);
    gov_take_kernel_trips("/nonexistent", &elsewhere);
    expect_trip(&elsewhere, 2, 88, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_FILES(energy_counter_gives_the_mean_power),
        ON_FILES(energy_counter_wraps),
        ON_FILES(packages_add_up_and_count_once),
        ON_FILES(work_is_a_share_of_time),
        ON_FILES(energy_counters_that_tell_nothing),
        ON_FILES(a_throttling_kernel_is_a_reading),
        ON_FILES(a_cpu_that_comes_back_has_a_clock_again),
        ON_FILES(older_kernels_have_clocks_in_each_cpu),
        ON_FILES(a_windows_stall_is_that_of_the_window),
        ON_FILES(a_trigger_knows_more_than_two_looks),
        ON_FILES(a_window_outlives_many_samples),
        ON_FILES(room_is_what_the_nearest_limit_leaves),
        ON_FILES(mapped_files_are_no_room),
        ON_FILES(a_hierarchy_for_memory_alone),
        ON_FILES(a_group_without_limits_or_none_at_all),
        ON_FILES(events_are_a_rate),
        ON_FILES(a_groups_event_ends_the_wait),
        ON_FILES(mains_and_warning_level),
        ON_FILES(the_kernels_trips_are_defaults),
        cmocka_unit_test(clocks_tell_of_sleep_delay_and_setting),
    };
    return cmocka_run_group_tests_name("sources", tests, NULL, NULL);
}
