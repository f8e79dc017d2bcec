/* Batteries straight from ROOT/sys/class/power_supply
 * (Documentation/ABI/testing/sysfs-class-power): where no UPower runs. Several batteries count as
 * one; those of mice and pens do not count. Drivers leave out what they please, hence the ways
 * around. */
#include "governor/source.h"

#include <dirent.h>
#include <math.h>
#include <string.h>

enum { CAPACITY, POWER, STATUS, VOLTAGE, TEMPERATURE, LEVEL, ONLINE, FULL, N_ITEMS };
static const char *const items[N_ITEMS] = {"capacity", "power_now",      "status", "voltage_now",
                                           "temp",     "capacity_level", "online", "energy_full"};

static bool file_says(const char *folder, const char *name, const char *word)
{
    char text[32];
    return gov_file_text(folder, name, text, sizeof text) == 0 && !strcmp(text, word);
}

static bool powers_the_machine(const char *folder)
{
    return file_says(folder, "type", "Battery") && !file_says(folder, "scope", "Device") &&
           !file_says(folder, "present", "0");
}

/* Mains, USB and the like: whatever is no battery and says whether it gives power. */
static bool feeds_the_machine(const char *folder)
{
    long long online;
    return !file_says(folder, "type", "Battery") && !file_says(folder, "scope", "Device") &&
           gov_file_number(folder, "online", &online) == 0;
}

static bool counts(const struct gov_source *s, const char *folder)
{
    return s->u.power_supply.item == ONLINE ? feeds_the_machine(folder)
                                            : powers_the_machine(folder);
}

static bool positive(const char *folder, const char *name, double *value)
{
    long long number;
    if (gov_file_number(folder, name, &number) != 0 || number <= 0)
        return false;
    *value = (double)number;
    return true;
}

/* How full, in percent, and how much fits in, in the driver's own unit (1 if unknown). */
static bool battery_capacity(const char *folder, double *percent, double *size)
{
    static const struct {
        const char *now, *full;
    } gauges[] = {{"energy_now", "energy_full"},
                  {"charge_now", "charge_full"},
                  {"charge_counter", "charge_full"},
                  {"charge_counter", "charge_full_design"}};
    long long number;
    bool known = gov_file_number(folder, "capacity", &number) == 0;
    if (known)
        *percent = (double)number;
    *size = 1;
    for (size_t i = 0; i < sizeof gauges / sizeof *gauges; i++) {
        if (!positive(folder, gauges[i].full, size) ||
            gov_file_number(folder, gauges[i].now, &number) != 0 || number < 0)
            continue;
        if (!known)
            *percent = 100 * (double)number / *size;
        return true;
    }
    return known;
}

/* Watts out of the battery; drivers disagree on the sign of a current, so the status gives it. */
static bool battery_power(const char *folder, double *watts)
{
    long long power_uw, current_ua, voltage_uv;
    bool charging = file_says(folder, "status", "Charging");
    bool discharging = file_says(folder, "status", "Discharging");
    if (gov_file_number(folder, "power_now", &power_uw) == 0)
        *watts = fabs((double)power_uw / 1e6);
    else if (gov_file_number(folder, "current_now", &current_ua) == 0 &&
             gov_file_number(folder, "voltage_now", &voltage_uv) == 0)
        *watts = fabs((double)current_ua / 1e6 * ((double)voltage_uv / 1e6));
    else
        return false;
    if (charging)
        *watts = -*watts;
    /* A battery that discharges at 0 W has a driver that does not know. */
    return !(discharging && *watts == 0);
}

/* Watt-hours that fit in; a charge in Ah becomes that at the voltage that the battery is made for,
 * near which it spends most of its time. */
static bool battery_full(const char *folder, double *wh)
{
    double charge_uah, voltage_uv;
    if (positive(folder, "energy_full", wh)) {
        *wh /= 1e6;
        return true;
    }
    if (!positive(folder, "charge_full", &charge_uah) ||
        (!positive(folder, "voltage_min_design", &voltage_uv) &&
         !positive(folder, "voltage_now", &voltage_uv)))
        return false;
    *wh = charge_uah / 1e6 * (voltage_uv / 1e6);
    return true;
}

static bool battery_scaled(const char *folder, const char *name, double per_unit, double *value)
{
    long long number;
    if (gov_file_number(folder, name, &number) != 0)
        return false;
    *value = (double)number / per_unit;
    return true;
}

/* 0 none, 1 low, 2 critical; the kernel has no word for about to shut down. */
static bool battery_level(const char *folder, double *warning)
{
    static const char *const levels[] = {"Normal", "Low", "Critical", "High", "Full"};
    char text[32];
    if (gov_file_text(folder, "capacity_level", text, sizeof text) != 0)
        return false;
    unsigned level = gov_item(text, levels, 5);
    *warning = level < 3 ? level : 0;
    return level < 5;
}

/* One value of one battery, and its weight in a mean. */
static bool battery_item(const char *folder, unsigned item, double *value, double *weight)
{
    char status[32];
    *weight = 1;
    switch (item) {
    case CAPACITY:
        return battery_capacity(folder, value, weight);
    case POWER:
        return battery_power(folder, value);
    case FULL:
        return battery_full(folder, value);
    case VOLTAGE:
        return battery_scaled(folder, "voltage_now", 1e6, value);
    case TEMPERATURE:
        return battery_scaled(folder, "temp", 10, value);
    case LEVEL:
        return battery_level(folder, value);
    case ONLINE:
        return battery_scaled(folder, "online", 1, value);
    default:
        if (gov_file_text(folder, "status", status, sizeof status) != 0 ||
            !strcmp(status, "Unknown"))
            return false;
        *value = !strcmp(status, "Discharging");
        return true;
    }
}

/* Powers and sizes add up, one discharging battery means discharging and one supply that is online
 * mains, the fullest battery has the warning's say, the rest is a mean by size. A battery that does
 * not answer makes the whole unknown: a part would look like a low value. */
static struct dev_reading power_supply_read(struct gov_source *s, const struct gov_machine *machine,
                                            uint64_t now_ns)
{
    (void)machine;
    unsigned item = s->u.power_supply.item;
    bool adds_up = item == POWER || item == FULL;
    double sum = 0, weights = 0, largest = 0, least = HUGE_VAL;
    for (unsigned i = 0; i < s->u.power_supply.n_folders; i++) {
        const char *folder = s->u.power_supply.folders[i];
        double value = 0, weight = 1;
        if (!battery_item(folder, item, &value, &weight)) {
            bool here = counts(s, folder);
            return gov_absent(s, here ? DEV_READ_FAILED : DEV_SOURCE_GONE, now_ns,
                              here ? "%.100s does not tell its %s" : "%.100s went away (%s)",
                              folder, s->address);
        }
        sum += adds_up ? value : value * weight;
        weights += weight;
        largest = value > largest ? value : largest;
        least = value < least ? value : least;
    }
    if (item == STATUS || item == ONLINE)
        return gov_present(largest, now_ns);
    if (item == LEVEL)
        return gov_present(least, now_ns);
    return gov_present(adds_up ? sum : sum / weights, now_ns);
}

static void collect_folders(struct gov_source *s, DIR *dir, const char *parent)
{
    struct dirent *entry;
    s->u.power_supply.n_folders = 0;
    while ((entry = readdir(dir)) && s->u.power_supply.n_folders < GOV_MAX_BATTERIES) {
        char *path = s->u.power_supply.folders[s->u.power_supply.n_folders];
        int n = snprintf(path, GOV_PATH, "%s/%.60s", parent, entry->d_name);
        if (entry->d_name[0] != '.' && n > 0 && n < GOV_PATH && counts(s, path))
            s->u.power_supply.n_folders++;
    }
}

static bool power_supply_probe(struct gov_source *s, const struct gov_machine *machine)
{
    char folder[GOV_PATH];
    s->u.power_supply.item = gov_item(s->address, items, N_ITEMS);
    if (s->u.power_supply.item == N_ITEMS)
        return gov_not_here(s,
                            "'%.40s': expected capacity, capacity_level, power_now, energy_full, "
                            "status, voltage_now, temp or online",
                            s->address);
    snprintf(folder, sizeof folder, "%.200s/sys/class/power_supply", machine->root);
    DIR *dir = opendir(folder);
    if (!dir)
        return gov_not_here(s, "the kernel has no power supplies (no %.80s)", folder);
    collect_folders(s, dir, folder);
    closedir(dir);
    if (!s->u.power_supply.n_folders)
        return gov_not_here(s, s->u.power_supply.item == ONLINE ? "nothing tells of mains"
                                                                : "no battery powers this machine");
    return power_supply_read(s, machine, 0).why == DEV_PRESENT;
}

const struct gov_source_kind gov_source_power_supply = {.probe = power_supply_probe,
                                                        .read = power_supply_read};
