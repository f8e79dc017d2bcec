#include "base/base.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct suffix {
    const char *text;
    enum ert_unit unit;
    double factor; /* into the unit's base */
} suffixes[] = {
    {"C", ERT_UNIT_CELSIUS, 1},       {"%", ERT_UNIT_PERCENT, 1},
    {"s", ERT_UNIT_SECOND, 1},        {"ms", ERT_UNIT_SECOND, 1e-3},
    {"min", ERT_UNIT_SECOND, 60},     {"h", ERT_UNIT_SECOND, 3600},
    {"MB", ERT_UNIT_BYTE, 1},         {"kB", ERT_UNIT_BYTE, 1e-3},
    {"GB", ERT_UNIT_BYTE, 1e3},       {"KiB", ERT_UNIT_BYTE, 1.024e-3},
    {"MiB", ERT_UNIT_BYTE, 1.048576}, {"GiB", ERT_UNIT_BYTE, 1073.741824},
    {"W", ERT_UNIT_WATT, 1},          {"mW", ERT_UNIT_WATT, 1e-3},
    {"MHz", ERT_UNIT_HERTZ, 1},       {"GHz", ERT_UNIT_HERTZ, 1e3},
    {"V", ERT_UNIT_VOLT, 1},          {"mV", ERT_UNIT_VOLT, 1e-3},
    {"C/W", ERT_UNIT_C_PER_W, 1},     {"J/C", ERT_UNIT_J_PER_C, 1},
};

static const struct {
    const char *name, *expected;
} units[ERT_N_UNITS] = {
    [ERT_UNIT_NONE] = {"", "a plain number, for example 6"},
    [ERT_UNIT_CELSIUS] = {"C", "a temperature such as 70C"},
    [ERT_UNIT_PERCENT] = {"%", "a percentage such as 20%"},
    [ERT_UNIT_SECOND] = {"s", "a time such as 500ms, 2s or 5min"},
    [ERT_UNIT_BYTE] = {"MB", "a size such as 400MB, 1GB or 512MiB"},
    [ERT_UNIT_WATT] = {"W", "a power such as 9W or 4500mW"},
    [ERT_UNIT_HERTZ] = {"MHz", "a frequency such as 1800MHz"},
    [ERT_UNIT_VOLT] = {"V", "a voltage such as 3.7V or 3700mV"},
    [ERT_UNIT_C_PER_W] = {"C/W", "a thermal resistance such as 4.5C/W"},
    [ERT_UNIT_J_PER_C] = {"J/C", "a heat capacity such as 90J/C"},
};

const char *ert_unit_name(enum ert_unit unit)
{
    return units[unit].name;
}

/* The factor of a suffix, or 0 when this unit has none of that name. */
static double suffix_factor(const char *suffix, enum ert_unit unit)
{
    if (unit == ERT_UNIT_NONE)
        return *suffix ? 0 : 1;
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++)
        if (suffixes[i].unit == unit && !strcmp(suffixes[i].text, suffix))
            return suffixes[i].factor;
    return 0;
}

/* Decimal only, independent of the locale: no hexadecimal, no "inf", no "nan". Returns the end of
 * the number or NULL. */
static const char *scan_decimal(const char *text, double *value)
{
    size_t sign = text[0] == '-' || text[0] == '+', digits = strspn(text + sign, "0123456789");
    const char *p = text + sign + digits;
    if (*p == '.') {
        size_t fraction = strspn(p + 1, "0123456789");
        digits += fraction;
        p += 1 + fraction;
    }
    if (digits == 0)
        return NULL;
    if (*p == 'e' || *p == 'E') {
        const char *q = p + 1 + (p[1] == '-' || p[1] == '+');
        size_t exponent = strspn(q, "0123456789");
        if (exponent)
            p = q + exponent;
    }
    char copy[64];
    size_t n = (size_t)(p - text);
    if (n >= sizeof copy)
        return NULL;
    memcpy(copy, text, n);
    copy[n] = '\0';
    locale_t c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!c_locale)
        return NULL;
    *value = strtod_l(copy, NULL, c_locale);
    freelocale(c_locale);
    return isfinite(*value) ? p : NULL;
}

int ert_parse_quantity(const char *text, enum ert_unit unit, double *value, struct ert_error *err)
{
    double number;
    const char *end = scan_decimal(text, &number);
    if (!end)
        return ert_fail(err, ERT_E_FORMAT, "'%.40s' is not %s", text, units[unit].expected);
    while (*end == ' ')
        end++;
    double factor = suffix_factor(end, unit);
    if (factor == 0)
        return ert_fail(err, ERT_E_FORMAT,
                        *end ? "'%.40s' has the wrong unit, expected %s"
                             : "'%.40s' has no unit, expected %s",
                        text, units[unit].expected);
    *value = number * factor;
    return 0;
}

int ert_parse_double(const char *text, double *value, struct ert_error *err)
{
    return ert_parse_quantity(text, ERT_UNIT_NONE, value, err);
}

int ert_parse_int(const char *text, long min, long max, long *value, struct ert_error *err)
{
    char *end;
    errno = 0;
    long v = strtol(text, &end, 10);
    if (errno || end == text || *end || v < min || v > max)
        return ert_fail(err, ERT_E_FORMAT, "'%.40s' is not a whole number from %ld to %ld", text,
                        min, max);
    *value = v;
    return 0;
}
