/* base against values worked out by hand, by the IEEE 754 rules and by the Unicode tables. */
#include "tests/test.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/base.h"

/* The kernel's own word on it; one that is older than 6.12 says 0. Niceness is part of the same
 * call. */
static void turns_become_short_and_nothing_else(void **state)
{
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } now = {0};
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        setpriority(PRIO_PROCESS, 0, 7);
        ert_take_short_turns();
        bool told = syscall(SYS_sched_getattr, 0, &now, sizeof now, 0) == 0;
        _exit(told && now.policy == 0 && now.nice == 7 &&
                      (now.runtime == 0 || now.runtime == 100000)
                  ? 0
                  : 1);
    }
    int status;
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void quantities_carry_units(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum ert_unit unit;
        double value;
    } good[] = {
        {"70C", ERT_UNIT_CELSIUS, 70},
        {"-12.5 C", ERT_UNIT_CELSIUS, -12.5},
        {"20%", ERT_UNIT_PERCENT, 20},
        {"500ms", ERT_UNIT_SECOND, 0.5},
        {"5min", ERT_UNIT_SECOND, 300},
        {"400MB", ERT_UNIT_BYTE, 400},
        {"1GiB", ERT_UNIT_BYTE, 1073.741824},
        {"4500mW", ERT_UNIT_WATT, 4.5},
        {"9W", ERT_UNIT_WATT, 9},
        {"1e2MB", ERT_UNIT_BYTE, 100},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        double value = NAN;
        struct ert_error err;
        assert_int_equal(ert_parse_quantity(good[i].text, good[i].unit, &value, &err), 0);
        assert_true(fabs(value - good[i].value) < 1e-12 * fabs(good[i].value));
    }
}

/* A page counts once it is touched, and no longer when it is given back. */
static void resident_memory_is_what_was_touched(void **state)
{
    (void)state;
    enum { BYTES = 32 << 20 };
    uint64_t before, untouched, touched, gone;
    uint8_t *at = mmap(NULL, BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(at != MAP_FAILED);
    madvise(at, BYTES, MADV_NOHUGEPAGE);
    assert_int_equal(ert_resident_bytes(&before, NULL), 0);
    assert_int_equal(ert_resident_bytes(&untouched, NULL), 0);
    if (madvise(at, BYTES, MADV_POPULATE_WRITE)) { /* no sanitizer's shadow of it is touched */
        munmap(at, BYTES);
        print_message("# needs Linux 5.14\n");
        skip();
    }
    assert_int_equal(ert_resident_bytes(&touched, NULL), 0);
    munmap(at, BYTES);
    assert_int_equal(ert_resident_bytes(&gone, NULL), 0);
    enum { SLACK = 1 << 20 };
    assert_true(untouched < before + SLACK);
    assert_true(touched >= untouched + BYTES && touched < untouched + BYTES + SLACK);
    assert_true(gone < before + SLACK);
}

static void bad_quantities_say_what_was_expected(void **state)
{
    (void)state;
    static const char *const bad[] = {"",      "C",    "70",   "70F",  "70W",    "nanC", "infC",
                                      "0x10C", "70CC", "--3C", "7 0C", "1e999C", "70C\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        double value;
        struct ert_error err = {0};
        assert_int_equal(ert_parse_quantity(bad[i], ERT_UNIT_CELSIUS, &value, &err), -ERT_E_FORMAT);
        assert_non_null(strstr(err.text, "a temperature such as 70C"));
    }
    long n;
    assert_int_equal(ert_parse_int("12", 1, 16, &n, NULL), 0);
    assert_int_equal(n, 12);
    assert_int_not_equal(ert_parse_int("17", 1, 16, &n, NULL), 0);
    assert_int_not_equal(ert_parse_int("1x", 1, 16, &n, NULL), 0);
    assert_int_not_equal(ert_parse_int("", 0, 16, &n, NULL), 0);
}

/* The value of every f16 by its definition: sign, 2^(e - 15), 1.m (or 2^-14, 0.m). */
static double f16_value(uint16_t h)
{
    int sign = h >> 15 ? -1 : 1, e = h >> 10 & 31, m = h & 1023;
    if (e == 31)
        return m ? NAN : sign * INFINITY;
    return sign * (e ? ldexp(1024 + m, e - 25) : ldexp(m, -24));
}

static void halves_round_trip(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = ert_f16_to_f32((uint16_t)h);
        double want = f16_value((uint16_t)h);
        if (isnan(want)) {
            assert_true(isnan(f));
            assert_true(isnan(ert_f16_to_f32(ert_f32_to_f16(f))));
        } else {
            assert_true((double)f == want);
            assert_int_equal(ert_f32_to_f16(f), h);
        }
    }
}

static void halves_round_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7bff; h++) { /* positive finite neighbours h, h + 1 */
        double low = f16_value((uint16_t)h), high = f16_value((uint16_t)(h + 1));
        float middle = (float)((low + high) / 2); /* exact */
        assert_int_equal(ert_f32_to_f16(middle), h + (h & 1));
        assert_int_equal(ert_f32_to_f16(nextafterf(middle, 0)), h);
        assert_int_equal(ert_f32_to_f16(nextafterf(middle, INFINITY)), h + 1);
    }
    assert_int_equal(ert_f32_to_f16(65519.996f), 0x7bff);
    assert_int_equal(ert_f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(ert_f32_to_f16(-1e30f), 0xfc00);
    assert_int_equal(ert_f32_to_bf16(1.0f), 0x3f80);
    assert_int_equal(ert_f32_to_bf16(1.00390625f), 0x3f80); /* tie to even */
    assert_int_equal(ert_f32_to_bf16(1.01171875f), 0x3f82); /* tie to even, upwards */
    assert_true(isnan(ert_bf16_to_f32(ert_f32_to_bf16(NAN))));
}

static void utf8_follows_unicode(void **state)
{
    (void)state;
    for (uint32_t c = 0; c < 0x110000; c++) {
        char text[4];
        if (c >= 0xd800 && c < 0xe000)
            continue;
        size_t n = ert_utf8_encode(c, text);
        assert_int_equal(ert_utf8_length(text, n), n);
        assert_int_equal(ert_utf8_decode(text, n), c);
        assert_int_equal(ert_utf8_length(text, n - 1), 0);
    }
    static const char *const invalid[] = {
        "\xc0\x80",         "\xc1\xbf",         "\xe0\x80\x80", "\xed\xa0\x80", "\xf0\x80\x80\x80",
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\x80",         "\xff",         "\xe2\x28\xa1"};
    for (size_t i = 0; i < sizeof invalid / sizeof *invalid; i++)
        assert_int_equal(ert_utf8_length(invalid[i], strlen(invalid[i])), 0);
}

static void nearest_name_suggests(void **state)
{
    (void)state;
    static const char *const names[] = {"hysteresis", "threshold", "governor", "states"};
    assert_string_equal(ert_nearest_name("hysterisis", names, 4), "hysteresis");
    assert_string_equal(ert_nearest_name("govenor", names, 4), "governor");
    assert_null(ert_nearest_name("xyz", names, 4));
}

static void hash_is_xxh64(void **state)
{
    (void)state; /* known answers of XXH64 with seed 0 */
    assert_true(ert_hash64("", 0) == 0xEF46DB3751D8E999ULL);
    assert_true(ert_hash64("abc", 3) == 0x44BC2CF5AD770999ULL);
}

static void an_output_appears_only_when_complete(void **state)
{
    (void)state;
    char path[64], *text;
    struct ert_output out;
    struct ert_error err;
    size_t n;
    snprintf(path, sizeof path, "/tmp/ert-test-%ld", (long)getpid());
    assert_int_equal(ert_output_open(&out, path, &err), 0);
    fputs("half", out.file);
    ert_output_abort(&out);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(ert_output_open(&out, path, &err), 0);
    fputs("whole", out.file);
    assert_int_equal(ert_output_commit(&out, &err), 0);
    assert_int_equal(ert_read_text(path, 100, &text, &n, &err), 0);
    assert_string_equal(text, "whole");
    free(text);
    assert_int_equal(ert_read_text(path, 4, &text, &n, &err), -ERT_E_RANGE);
    struct ert_map map;
    assert_int_equal(ert_map_open(&map, path, &err), 0);
    assert_memory_equal(map.data, "whole", 5);
    ert_map_close(&map);
    unlink(path);
    assert_int_equal(ert_map_open(&map, path, &err), -ERT_E_MISSING);
    assert_int_equal(ert_map_open(&map, "/", &err), -ERT_E_IO);
    assert_non_null(strstr(err.text, "not a regular file"));
    assert_int_equal(ert_output_open(&out, "/nowhere/file", &err), -ERT_E_MISSING);
}

/* How many files of the folder there are. */
static int count_files(const char *folder)
{
    int n = 0;
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (const struct dirent *e = readdir(d); e; e = readdir(d))
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void a_killed_process_leaves_no_part_of_its_output(void **state)
{
    (void)state;
    char folder[] = "/tmp/ert-test-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/output", folder);
    int probe = open(folder, O_TMPFILE | O_RDWR, 0600);
    if (probe < 0)
        skip(); /* this file system knows no nameless files */
    close(probe);
    pid_t child = fork();
    if (child == 0) {
        struct ert_output out;
        if (ert_output_open(&out, path, NULL) == 0 && fputs("half", out.file) >= 0)
            fflush(out.file);
        raise(SIGKILL);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(count_files(folder), 0);
    assert_int_equal(rmdir(folder), 0);
}

static void an_output_replaces_regular_files_only(void **state)
{
    (void)state;
    char folder[] = "/tmp/ert-test-XXXXXX", path[64];
    struct ert_output out;
    struct ert_error err;
    assert_int_equal(ert_output_open(&out, "/dev/null", &err), -ERT_E_USAGE);
    assert_non_null(strstr(err.text, "/dev/null: not a regular file"));
    assert_non_null(mkdtemp(folder));
    assert_int_equal(ert_output_open(&out, folder, &err), -ERT_E_USAGE);
    snprintf(path, sizeof path, "%s/output", folder);
    for (int i = 0; i < 2; i++) { /* new, then anew; meanwhile it can be read */
        struct ert_map map;
        assert_int_equal(ert_output_open(&out, path, &err), 0);
        fputs("text", out.file);
        fflush(out.file);
        assert_int_equal(ert_map_open(&map, out.temp_path, &err), 0);
        assert_memory_equal(map.data, "text", 4);
        ert_map_close(&map);
        assert_int_equal(ert_output_commit(&out, &err), 0);
        assert_int_equal(count_files(folder), 1);
    }
    unlink(path);
    rmdir(folder);
}

static void errors_are_harmless_to_terminals(void **state)
{
    (void)state;
    struct ert_error err;
    ert_fail(&err, ERT_E_FORMAT, "tensor '%s' is odd", "a\x1b[2J\nb\x7f\xc2\x9b\xc3\xa9");
    assert_string_equal(err.text, "tensor 'a?[2J?b???\xc3\xa9' is odd");
    ert_fail_in(&err, "%s", "x\ty");
    assert_string_equal(err.text, "x?y: tensor 'a?[2J?b???\xc3\xa9' is odd");
}

static void errors_nest(void **state)
{
    (void)state;
    struct ert_error err;
    assert_int_equal(ert_fail(&err, ERT_E_FORMAT, "expected %d", 3), -ERT_E_FORMAT);
    assert_int_equal(ert_fail_in(&err, "file.gguf: tensor %s", "q"), -ERT_E_FORMAT);
    assert_string_equal(err.text, "file.gguf: tensor q: expected 3");
    assert_string_equal(ert_code_text(-ERT_E_FORMAT), "damaged or malformed data");
    char long_text[2000];
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    ert_fail(&err, ERT_E_IO, "%s", long_text);
    ert_fail_in(&err, "%s", long_text);
    assert_true(strlen(err.text) < sizeof err.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantities_carry_units),
        cmocka_unit_test(resident_memory_is_what_was_touched),
        cmocka_unit_test(bad_quantities_say_what_was_expected),
        cmocka_unit_test(halves_round_trip),
        cmocka_unit_test(halves_round_to_nearest_even),
        cmocka_unit_test(utf8_follows_unicode),
        cmocka_unit_test(nearest_name_suggests),
        cmocka_unit_test(hash_is_xxh64),
        cmocka_unit_test(an_output_appears_only_when_complete),
        cmocka_unit_test(a_killed_process_leaves_no_part_of_its_output),
        cmocka_unit_test(an_output_replaces_regular_files_only),
        cmocka_unit_test(turns_become_short_and_nothing_else),
        cmocka_unit_test(errors_nest),
        cmocka_unit_test(errors_are_harmless_to_terminals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
