/* The kernel's thermal zones: ROOT/sys/class/thermal/thermal_zoneN/{type,temp}, millidegrees. */
#include "governor/source.h"

#include <dirent.h>
#include <string.h>

enum { MAX_TRIPS = 16 }; /* of a zone */

/* A Snapdragon's zones without a sensor read 0 or -273000. Where several zones share a type this
 * tells which one to take; whether a value may be believed is for policies/ to say. */
static bool wired(const char *zone)
{
    long long temp_mc;
    return gov_file_number(zone, "temp", &temp_mc) == 0 && temp_mc != 0 && temp_mc > -273000;
}

static bool zones_folder(const struct gov_machine *machine, char folder[GOV_PATH])
{
    int n = snprintf(folder, GOV_PATH, "%s/sys/class/thermal", machine->root);
    return n > 0 && n < GOV_PATH - 32;
}

/* The next zone's folder and type; false at the end. */
static bool next_zone(DIR *dir, const char *folder, char zone[GOV_PATH], char type[64])
{
    struct dirent *entry;
    while ((entry = readdir(dir))) {
        int n = snprintf(zone, GOV_PATH, "%s/%.40s", folder, entry->d_name);
        if (n > 0 && n < GOV_PATH && !strncmp(entry->d_name, "thermal_zone", 12) &&
            gov_file_text(zone, "type", type, 64) == 0)
            return true;
    }
    return false;
}

static bool thermal_probe(struct gov_source *s, const struct gov_machine *machine)
{
    char folder[GOV_PATH], zone[GOV_PATH], type[64];
    DIR *dir = zones_folder(machine, folder) ? opendir(folder) : NULL;
    if (!dir)
        return gov_not_here(s, "the kernel has no thermal zones (no %.80s)", folder);
    bool found = false, found_wired = false;
    while (!found_wired && next_zone(dir, folder, zone, type)) {
        if (strcmp(type, s->address) != 0)
            continue;
        found_wired = wired(zone);
        if (!found || found_wired)
            memcpy(s->u.thermal.path, zone, sizeof s->u.thermal.path);
        found = true;
    }
    closedir(dir);
    return found || gov_not_here(s, "no thermal zone is of type '%.40s'", s->address);
}

static struct dev_reading thermal_read(struct gov_source *s, const struct gov_machine *machine,
                                       uint64_t now_ns)
{
    (void)machine;
    long long temp_mc;
    int rc = gov_file_number(s->u.thermal.path, "temp", &temp_mc);
    if (rc)
        return gov_absent(s, DEV_READ_FAILED, now_ns, "%.100s/temp: %s", s->u.thermal.path,
                          strerror(-rc));
    return gov_present((double)temp_mc / 1000, now_ns);
}

void gov_thermal_list(const struct gov_machine *machine, gov_found *found, void *ctx)
{
    char folder[GOV_PATH], zone[GOV_PATH], type[64], name[GOV_SOURCE_NAME];
    DIR *dir = zones_folder(machine, folder) ? opendir(folder) : NULL;
    if (!dir)
        return;
    while (next_zone(dir, folder, zone, type)) {
        snprintf(name, sizeof name, "thermal:%s", type);
        found(ctx, name);
    }
    closedir(dir);
}

/* ---- the kernel's own trips ----------------------------------------------------------------- */

static bool trip_number(const char *zone, unsigned n, const char *what, double *degrees)
{
    char file[48];
    long long millidegrees;
    snprintf(file, sizeof file, "trip_point_%u_%s", n, what);
    if (gov_file_number(zone, file, &millidegrees) != 0)
        return false;
    *degrees = (double)millidegrees / 1000;
    return true;
}

/* The lowest trip of that type that the zone has: trip_point_N_{type,temp,hyst}. Unset ones read 0
 * or less. */
static bool lowest_trip(const char *zone, const char *type, double *at_c, double *hysteresis_c)
{
    char file[48], text[32];
    bool found = false;
    for (unsigned n = 0; n < MAX_TRIPS; n++) {
        double degrees;
        snprintf(file, sizeof file, "trip_point_%u_type", n);
        if (gov_file_text(zone, file, text, sizeof text) != 0)
            break;
        if (strcmp(text, type) != 0 || !trip_number(zone, n, "temp", &degrees) || degrees <= 0 ||
            (found && degrees >= *at_c))
            continue;
        found = true;
        *at_c = degrees;
        if (!trip_number(zone, n, "hyst", hysteresis_c))
            *hysteresis_c = 0;
    }
    return found;
}

void gov_take_kernel_trips(const char *root, struct pol_policy *policy)
{
    const struct gov_machine machine = {.root = root};
    for (size_t i = 0; i < policy->n_trips; i++) {
        const struct pol_trip *trip = &policy->trips[i];
        const struct pol_sensor *sensor = &policy->sensors[trip->sensor];
        bool found = trip->kernel == POL_NO_KERNEL_TRIP;
        for (size_t k = 0; !found && k < sensor->n_sources; k++) {
            struct gov_source zone;
            double at_c, hysteresis_c;
            if (strncmp(sensor->sources[k], "thermal:", 8) != 0)
                continue;
            gov_source_open(&zone, sensor->sources[k], &machine);
            found =
                zone.serves && lowest_trip(zone.u.thermal.path, pol_kernel_trip_name(trip->kernel),
                                           &at_c, &hysteresis_c);
            if (found)
                pol_take_kernel_trip(policy, i, at_c, hysteresis_c);
        }
    }
}

const struct gov_source_kind gov_source_thermal = {.probe = thermal_probe, .read = thermal_read};
