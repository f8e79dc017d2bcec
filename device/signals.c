#include "device/device.h"

#include <string.h>

static const struct dev_signal signals[] = {
#define S(name, unit, min, max, rate, stale, what)                                                 \
    {name, ERT_UNIT_##unit, min, max, rate, what, stale},
#include "device/signals.def"
#undef S
};

static bool matches(const struct dev_signal *signal, const char *name)
{
    size_t n = strlen(signal->name);
    if (signal->name[n - 1] != '.')
        return !strcmp(signal->name, name);
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    return !strncmp(signal->name, name, n) && name[n] != '\0' &&
           strspn(name + n, allowed) == strlen(name + n);
}

const struct dev_signal *dev_signal_find(const char *name)
{
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        if (matches(&signals[i], name))
            return &signals[i];
    return NULL;
}

const struct dev_signal *dev_signal_at(size_t i)
{
    return i < sizeof signals / sizeof *signals ? &signals[i] : NULL;
}

const char *dev_signal_nearest(const char *name)
{
    const char *names[sizeof signals / sizeof *signals];
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        names[i] = signals[i].name;
    const char *near = ert_nearest_name(name, names, sizeof signals / sizeof *signals);
    return near && strcmp(near, name) != 0 ? near : NULL; /* a family alone: "power." */
}

static const struct {
    const char *id, *text;
} absences[DEV_N_ABSENCES] = {
#define A(id, text) {#id, text},
#include "device/absences.def"
#undef A
};

const char *dev_absence_text(enum dev_absence why)
{
    return absences[why].text;
}

const char *dev_absence_id(enum dev_absence why)
{
    return absences[why].id;
}

bool dev_absence_find(const char *id, enum dev_absence *why)
{
    for (int i = 0; i < DEV_N_ABSENCES; i++)
        if (!strcmp(absences[i].id, id)) {
            *why = (enum dev_absence)i;
            return true;
        }
    return false;
}
