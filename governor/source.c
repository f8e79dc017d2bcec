#include "governor/bus.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
#define S(id) KIND_##id,
#include "governor/sources.def"
#undef S
    N_KINDS
};

static const struct {
    const char *name;
    const struct gov_source_kind *kind;
} kinds[N_KINDS] = {
#define S(id) {#id, &gov_source_##id},
#include "governor/sources.def"
#undef S
};

/* The kind before the colon, NULL if there is none of that name. */
static const struct gov_source_kind *kind_of(const char *name)
{
    size_t n = strcspn(name, ":");
    for (size_t i = 0; i < N_KINDS; i++)
        if (strlen(kinds[i].name) == n && !strncmp(kinds[i].name, name, n))
            return kinds[i].kind;
    return NULL;
}

const struct gov_bus_service *gov_source_service(const char *name)
{
    const struct gov_source_kind *kind = kind_of(name);
    return kind ? kind->service : NULL;
}

int gov_machine_ask(struct gov_machine *machine, const char *source_name, const char *bus_address,
                    void (*changed)(void *ctx), void *ctx, struct ert_error *err)
{
    const struct gov_bus_service *service = gov_source_service(source_name);
    for (size_t i = 0; service && i < machine->n_buses; i++)
        if (gov_bus_of(machine->buses[i]) == service)
            return 0;
    if (!service || machine->n_buses == GOV_MAX_BUSES)
        return 0;
    int rc =
        gov_bus_start(&machine->buses[machine->n_buses], service, bus_address, changed, ctx, err);
    machine->n_buses += !rc;
    return rc;
}

void gov_machine_wait(struct gov_machine *machine)
{
    for (size_t i = 0; i < machine->n_buses; i++)
        gov_bus_wait(machine->buses[i]);
}

void gov_machine_release(struct gov_machine *machine)
{
    while (machine->n_buses > 0)
        gov_bus_stop(machine->buses[--machine->n_buses]);
}

void gov_source_open(struct gov_source *source, const char *name, const struct gov_machine *machine)
{
    memset(source, 0, sizeof *source);
    snprintf(source->name, sizeof source->name, "%s", name);
    const char *colon = strchr(source->name, ':');
    source->address = colon ? colon + 1 : "";
    source->kind = kind_of(name);
    gov_source_probe(source, machine);
}

void gov_source_probe(struct gov_source *source, const struct gov_machine *machine)
{
    source->why[0] = '\0';
    source->serves =
        source->kind ? source->kind->probe(source, machine)
                     : gov_not_here(source, "no kind of source is called '%.60s'", source->name);
}

struct dev_reading gov_source_read(struct gov_source *source, const struct gov_machine *machine,
                                   uint64_t now_ns)
{
    if (!source->serves)
        return (struct dev_reading){.time_ns = now_ns, .why = DEV_NO_SOURCE};
    struct dev_reading reading = source->kind->read(source, machine, now_ns);
    if (reading.why == DEV_PRESENT)
        source->why[0] = '\0';
    return reading;
}

void gov_source_close(struct gov_source *source)
{
    if (source->kind && source->kind->close)
        source->kind->close(source);
    source->serves = false;
}

struct dev_reading gov_present(double value, uint64_t time_ns)
{
    return (struct dev_reading){.value = value, .time_ns = time_ns, .why = DEV_PRESENT};
}

struct dev_reading gov_absent(struct gov_source *source, enum dev_absence why, uint64_t time_ns,
                              const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(source->why, sizeof source->why, fmt, ap);
    va_end(ap);
    return (struct dev_reading){.time_ns = time_ns, .why = why};
}

bool gov_not_here(struct gov_source *source, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(source->why, sizeof source->why, fmt, ap);
    va_end(ap);
    return false;
}

unsigned gov_item(const char *word, const char *const *names, unsigned n)
{
    unsigned i = 0;
    while (i < n && strcmp(word, names[i]) != 0)
        i++;
    return i;
}

int gov_file_open(const char *dir, const char *name)
{
    char path[GOV_PATH + 64];
    int length = snprintf(path, sizeof path, "%s/%s", dir, name);
    if (length < 0 || (size_t)length >= sizeof path)
        return -ENAMETOOLONG;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

int gov_file_bytes(const char *dir, const char *name, char *bytes, size_t size, size_t *n)
{
    bytes[0] = '\0';
    *n = 0;
    int fd = gov_file_open(dir, name);
    if (fd < 0)
        return fd;
    ssize_t got = read(fd, bytes, size - 1);
    int rc = got < 0 ? -errno : 0;
    close(fd);
    if (rc)
        return rc;
    bytes[got] = '\0';
    *n = (size_t)got;
    return 0;
}

int gov_file_text(const char *dir, const char *name, char *text, size_t size)
{
    size_t n;
    int rc = gov_file_bytes(dir, name, text, size, &n);
    if (!rc && n > 0 && text[n - 1] == '\n')
        text[n - 1] = '\0';
    return rc;
}

static int parse_number(const char *text, long long *value)
{
    char *end;
    errno = 0;
    *value = strtoll(text, &end, 10);
    return errno || end == text || (*end && strcmp(end, "\n") != 0) ? -EINVAL : 0;
}

int gov_file_number(const char *dir, const char *name, long long *value)
{
    char text[48];
    int rc = gov_file_text(dir, name, text, sizeof text);
    return rc ? rc : parse_number(text, value);
}

int gov_file_number_again(int fd, long long *value)
{
    char text[48];
    ssize_t got = pread(fd, text, sizeof text - 1, 0);
    if (got < 0)
        return -errno;
    text[got] = '\0';
    return parse_number(text, value);
}
