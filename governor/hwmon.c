/* Monitoring chips through libsensors. It keeps the chips it found in one place per process and
 * knows no other root than the real /sys, so a lock and a count stand before it; that place is the
 * library's, and these guard it. When a chip came, went or was numbered anew the library looks
 * again, which makes a new generation of its list, and each source finds its chip in that one. */
#include "governor/source.h"

#include <dirent.h>
#include <pthread.h>
#include <sensors/error.h>
#include <sensors/sensors.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static pthread_mutex_t library_lock = PTHREAD_MUTEX_INITIALIZER;
/* Under library_lock. */
static unsigned library_users, library_generation;
static uint64_t library_signature; /* of the chips that were there when it looked */

static void stay_silent(const char *err, int line)
{
    (void)err;
    (void)line;
}

static void stay_silent_in_file(const char *err, const char *file, int line)
{
    (void)err;
    (void)file;
    (void)line;
}

/* Which chips the kernel has: changes when one comes, goes or gets another number. */
static uint64_t chips_signature(void)
{
    uint64_t sum = 0;
    DIR *dir = opendir("/sys/class/hwmon");
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        struct stat here;
        if (entry->d_name[0] != '.' && fstatat(dirfd(dir), entry->d_name, &here, 0) == 0)
            sum += ert_hash64(entry->d_name, strlen(entry->d_name)) ^
                   ert_hash64(&here.st_ino, sizeof here.st_ino);
    }
    if (dir)
        closedir(dir);
    return sum;
}

/* 0 or libsensors' error. Called with the lock held. */
static int look(void)
{
    library_signature = chips_signature();
    library_generation++;
    return sensors_init(NULL);
}

static int library_open(void)
{
    int rc = 0;
    pthread_mutex_lock(&library_lock);
    sensors_parse_error = stay_silent;
    sensors_parse_error_wfn = stay_silent_in_file;
    if (library_users == 0)
        rc = look();
    if (rc == 0)
        library_users++;
    pthread_mutex_unlock(&library_lock);
    return rc;
}

/* Has the library look again if the chips are others than when it did. */
static void look_again(void)
{
    if (chips_signature() == library_signature)
        return;
    sensors_cleanup();
    look(); /* a failure leaves an empty list, and the chips are absent */
}

static void library_close(void)
{
    pthread_mutex_lock(&library_lock);
    if (--library_users == 0)
        sensors_cleanup();
    pthread_mutex_unlock(&library_lock);
}

static const struct {
    sensors_feature_type feature;
    sensors_subfeature_type inputs[2];
} measured[] = {
    {SENSORS_FEATURE_TEMP, {SENSORS_SUBFEATURE_TEMP_INPUT, SENSORS_SUBFEATURE_TEMP_INPUT}},
    {SENSORS_FEATURE_POWER, {SENSORS_SUBFEATURE_POWER_INPUT, SENSORS_SUBFEATURE_POWER_AVERAGE}},
    {SENSORS_FEATURE_IN, {SENSORS_SUBFEATURE_IN_INPUT, SENSORS_SUBFEATURE_IN_INPUT}},
    {SENSORS_FEATURE_FAN, {SENSORS_SUBFEATURE_FAN_INPUT, SENSORS_SUBFEATURE_FAN_INPUT}},
};

static const sensors_subfeature *input_of(const sensors_chip_name *chip, const sensors_feature *f)
{
    for (size_t i = 0; i < sizeof measured / sizeof *measured; i++)
        for (unsigned k = 0; k < 2 && measured[i].feature == f->type; k++) {
            const sensors_subfeature *sub = sensors_get_subfeature(chip, f, measured[i].inputs[k]);
            if (sub)
                return sub;
        }
    return NULL;
}

static bool feature_is_called(const sensors_chip_name *chip, const sensors_feature *f,
                              const char *label)
{
    char *own = sensors_get_label(chip, f);
    bool same = !strcmp(label, f->name) || (own && !strcmp(label, own));
    free(own);
    return same;
}

/* The first feature of the chip of that label that can be read; without a label the first
 * temperature. */
static bool find_feature(struct gov_source *s, const sensors_chip_name *chip, const char *label)
{
    const sensors_feature *f;
    int at = 0;
    while ((f = sensors_get_features(chip, &at))) {
        const sensors_subfeature *input = input_of(chip, f);
        if (!input ||
            (*label ? !feature_is_called(chip, f, label) : f->type != SENSORS_FEATURE_TEMP))
            continue;
        s->u.hwmon.chip = chip;
        s->u.hwmon.subfeature = input->number;
        return true;
    }
    return false;
}

static bool find_chip(struct gov_source *s, const char *name, const char *label)
{
    const sensors_chip_name *chip;
    bool chip_there = false;
    int at = 0;
    while ((chip = sensors_get_detected_chips(NULL, &at))) {
        if (!chip->prefix || strcmp(chip->prefix, name) != 0)
            continue;
        if (find_feature(s, chip, label))
            return true;
        chip_there = true;
    }
    return chip_there ? gov_not_here(s, "the chip '%.40s' has nothing called '%.40s'", name, label)
                      : gov_not_here(s, "no monitoring chip '%.40s'", name);
}

/* Finds what the address names in the library's present list. Called with the lock held. */
static bool find(struct gov_source *s)
{
    char name[GOV_SOURCE_NAME];
    size_t n = strcspn(s->address, "/");
    snprintf(name, sizeof name, "%.*s", (int)n, s->address);
    s->u.hwmon.generation = library_generation;
    return find_chip(s, name, s->address[n] ? s->address + n + 1 : "");
}

static bool hwmon_probe(struct gov_source *s, const struct gov_machine *machine)
{
    if (machine->root[0])
        return gov_not_here(s, "libsensors reads the real /sys only, not one under %.60s",
                            machine->root);
    if (!s->u.hwmon.library_open) {
        int rc = library_open();
        if (rc)
            return gov_not_here(s, "libsensors: %.100s", sensors_strerror(rc));
        s->u.hwmon.library_open = true;
    }
    pthread_mutex_lock(&library_lock);
    look_again();
    bool found = find(s);
    pthread_mutex_unlock(&library_lock);
    return found;
}

static struct dev_reading hwmon_read(struct gov_source *s, const struct gov_machine *machine,
                                     uint64_t now_ns)
{
    (void)machine;
    double value = 0;
    int rc = 0;
    pthread_mutex_lock(&library_lock);
    bool there = s->u.hwmon.generation == library_generation || find(s);
    if (there)
        rc = sensors_get_value(s->u.hwmon.chip, s->u.hwmon.subfeature, &value);
    else
        s->u.hwmon.generation = 0; /* that of no list */
    pthread_mutex_unlock(&library_lock);
    if (!there)
        return (struct dev_reading){.time_ns = now_ns, .why = DEV_SOURCE_GONE};
    if (rc)
        return gov_absent(s, DEV_READ_FAILED, now_ns, "%.60s: %.80s", s->name,
                          sensors_strerror(rc));
    return gov_present(value, now_ns);
}

static void hwmon_close(struct gov_source *s)
{
    if (s->u.hwmon.library_open)
        library_close();
    s->u.hwmon.library_open = false;
}

static void list_chip(const sensors_chip_name *chip, gov_found *found, void *ctx)
{
    const sensors_feature *f;
    int at = 0;
    while ((f = sensors_get_features(chip, &at))) {
        char *label = sensors_get_label(chip, f), name[GOV_SOURCE_NAME];
        snprintf(name, sizeof name, "hwmon:%s/%s", chip->prefix, label ? label : f->name);
        free(label);
        if (f->type == SENSORS_FEATURE_TEMP && input_of(chip, f))
            found(ctx, name);
    }
}

void gov_hwmon_list(const struct gov_machine *machine, gov_found *found, void *ctx)
{
    if (machine->root[0] || library_open() != 0)
        return;
    const sensors_chip_name *chip;
    int at = 0;
    pthread_mutex_lock(&library_lock);
    while ((chip = sensors_get_detected_chips(NULL, &at)))
        list_chip(chip, found, ctx);
    pthread_mutex_unlock(&library_lock);
    library_close();
}

const struct gov_source_kind gov_source_hwmon = {
    .probe = hwmon_probe, .read = hwmon_read, .close = hwmon_close};
