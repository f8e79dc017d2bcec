/* Inside governor/: services on the system bus. Each that is asked for has a thread with a
 * GMainContext of its own, where D-Bus may wait; a reading only copies a value under a lock. A
 * service may be absent, die, hang and come back, and so may the bus: each is a sentence. */
#ifndef GOV_BUS_H
#define GOV_BUS_H

#include <gio/gio.h>

#include "governor/source.h"

enum { GOV_BUS_ITEMS = 10, GOV_BUS_NAMES = 2 };

/* What a service told last. */
struct gov_bus_values {
    bool has[GOV_BUS_ITEMS];
    double values[GOV_BUS_ITEMS];
    const char *lacks; /* why an item has no value, NULL = nothing special; static */
};

/* A service as its file describes it; const. */
struct gov_bus_service {
    const char *label, *daemon;       /* in sentences: "UPower", "upowerd" */
    const char *names[GOV_BUS_NAMES]; /* the first that is there serves; NULL = no second */
    const char *const *items;         /* addresses of a source */
    unsigned n_items;
    /* On the service's thread. attach follows the service and tells its values by gov_bus_tell;
     * false: it does not answer, and why says so. detach undoes it, also a half-done one. */
    bool (*attach)(struct gov_bus *bus, const char *name, char why[GOV_WHY]);
    void (*detach)(struct gov_bus *bus);
    /* A property asked for now and then, to know that the service still answers. NULL = its being
     * on the bus is enough. */
    const char *path, *interface, *property;
};

/* What a service's functions may use; the rest of the struct is in bus.c. */
GDBusConnection *gov_bus_connection(struct gov_bus *bus);
GCancellable *gov_bus_cancel(struct gov_bus *bus);
GMainContext *gov_bus_context(struct gov_bus *bus);
/* Where the service keeps what attach made; one pointer each. */
void **gov_bus_data(struct gov_bus *bus);
/* Copies what the service says for the readers; if it is news, the governor is woken. */
void gov_bus_tell(struct gov_bus *bus, const struct gov_bus_values *values);
/* Follows the properties of an object: changed is called with bus as its data at each change of one
 * and each signal of the interface (GDBusProxy's g-properties-changed and g-signal). NULL: why. */
GDBusProxy *gov_bus_follow(struct gov_bus *bus, const char *name, const char *path,
                           const char *interface, GCallback properties_changed, GCallback signalled,
                           char why[GOV_WHY]);

/* Starts a service's thread. It connects on its own; gov_bus_wait waits until the first attempt has
 * ended, at most a second. changed is called on that thread when a value changed. address: NULL, or
 * what DBUS_SYSTEM_BUS_ADDRESS says. */
int gov_bus_start(struct gov_bus **out, const struct gov_bus_service *service, const char *address,
                  void (*changed)(void *ctx), void *ctx, struct ert_error *err);
void gov_bus_wait(struct gov_bus *bus);
void gov_bus_stop(struct gov_bus *bus); /* NULL is fine */
const struct gov_bus_service *gov_bus_of(const struct gov_bus *bus);

/* The item's value now, as the battery's size is wanted by the energy meter; false if unknown. */
bool gov_bus_value(struct gov_bus *bus, const char *item, double *value);

/* probe and read of every source whose kind has a service. */
bool gov_bus_probe(struct gov_source *s, const struct gov_machine *machine);
struct dev_reading gov_bus_read(struct gov_source *s, const struct gov_machine *machine,
                                uint64_t now_ns);

#endif
