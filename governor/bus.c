/* Services on the system bus: the thread, the connection, and what a reading sees of it. */
#include "governor/bus.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* A service is asked this often whether it still answers; between two answers its properties are
 * taken as fresh. */
enum { ASK_S = 10, ANSWER_WITHIN_MS = 5000, RECONNECT_S = 5 };

struct gov_bus {
    const struct gov_bus_service *service;
    pthread_t thread;
    GMainContext *context;
    GMainLoop *loop;
    GCancellable *cancel;
    void (*changed)(void *ctx);
    void *ctx;

    /* Of the thread alone. */
    GDBusConnection *connection;
    guint watches[GOV_BUS_NAMES];
    bool owned[GOV_BUS_NAMES], heard[GOV_BUS_NAMES]; /* the name has an owner; was heard of */
    int attached;                                    /* index of the name that serves, -1 = none */
    bool asking;
    void *data;

    pthread_mutex_t lock;
    pthread_cond_t tried;
    /* Under lock. */
    bool has_tried, alive, gone; /* alive: the service answers; gone: it did once */
    char why[GOV_WHY];
    struct gov_bus_values told;
    uint64_t answered_ns; /* CLOCK_MONOTONIC */
};

GDBusConnection *gov_bus_connection(struct gov_bus *bus)
{
    return bus->connection;
}

GCancellable *gov_bus_cancel(struct gov_bus *bus)
{
    return bus->cancel;
}

GMainContext *gov_bus_context(struct gov_bus *bus)
{
    return bus->context;
}

void **gov_bus_data(struct gov_bus *bus)
{
    return &bus->data;
}

const struct gov_bus_service *gov_bus_of(const struct gov_bus *bus)
{
    return bus->service;
}

/* ---- what a reading sees -------------------------------------------------------------------- */

static struct gov_bus *find_bus(const struct gov_machine *machine,
                                const struct gov_bus_service *service)
{
    for (size_t i = 0; i < machine->n_buses; i++)
        if (machine->buses[i]->service == service)
            return machine->buses[i];
    return NULL;
}

static bool unknown_item(struct gov_source *s, const struct gov_bus_service *service)
{
    char known[96] = "";
    size_t n = 0;
    for (unsigned i = 0; i < service->n_items && n < sizeof known; i++)
        n +=
            (size_t)snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", service->items[i]);
    return gov_not_here(s, "'%.40s': expected one of %s", s->address, known);
}

/* Why the item has no value. Called with the lock held. */
static const char *why_none(const struct gov_bus *bus, const struct gov_source *s, char *text,
                            size_t size)
{
    if (!bus->alive)
        snprintf(text, size, bus->why[0] ? "%s" : "%s has not answered yet",
                 bus->why[0] ? bus->why : bus->service->label);
    else if (bus->told.lacks)
        snprintf(text, size, "%s", bus->told.lacks);
    else
        snprintf(text, size, "%s does not tell %.40s", bus->service->label, s->address);
    return text;
}

bool gov_bus_probe(struct gov_source *s, const struct gov_machine *machine)
{
    const struct gov_bus_service *service = s->kind->service;
    struct gov_bus *bus = find_bus(machine, service);
    char why[GOV_WHY];
    s->u.bus.bus = bus;
    s->u.bus.item = gov_item(s->address, service->items, service->n_items);
    if (s->u.bus.item == service->n_items)
        return unknown_item(s, service);
    if (!bus)
        return gov_not_here(s, "%s was not asked", service->label);
    pthread_mutex_lock(&bus->lock);
    bool serves = bus->alive && bus->told.has[s->u.bus.item];
    if (!serves)
        gov_not_here(s, "%s", why_none(bus, s, why, sizeof why));
    pthread_mutex_unlock(&bus->lock);
    return serves;
}

struct dev_reading gov_bus_read(struct gov_source *s, const struct gov_machine *machine,
                                uint64_t now_ns)
{
    (void)machine;
    struct gov_bus *bus = s->u.bus.bus;
    struct dev_reading reading;
    char why[GOV_WHY];
    pthread_mutex_lock(&bus->lock);
    if (bus->alive && bus->told.has[s->u.bus.item]) {
        uint64_t interval_ns = ASK_S * 1000000000ULL, age_ns = ert_now_ns() - bus->answered_ns;
        bool late = bus->service->property && age_ns > interval_ns;
        reading = gov_present(bus->told.values[s->u.bus.item],
                              late ? now_ns - (age_ns - interval_ns) : now_ns);
    } else {
        reading = gov_absent(s, !bus->alive && bus->gone ? DEV_SOURCE_GONE : DEV_NO_SAMPLE, now_ns,
                             "%s", why_none(bus, s, why, sizeof why));
    }
    pthread_mutex_unlock(&bus->lock);
    return reading;
}

bool gov_bus_value(struct gov_bus *bus, const char *item, double *value)
{
    unsigned i = gov_item(item, bus->service->items, bus->service->n_items);
    pthread_mutex_lock(&bus->lock);
    bool known = i < bus->service->n_items && bus->alive && bus->told.has[i];
    if (known)
        *value = bus->told.values[i];
    pthread_mutex_unlock(&bus->lock);
    return known;
}

/* ---- the thread ----------------------------------------------------------------------------- */

static void say_gone(struct gov_bus *bus, const char *why)
{
    pthread_mutex_lock(&bus->lock);
    bool news = bus->alive;
    bus->gone = bus->gone || bus->alive;
    bus->alive = false;
    bus->has_tried = true;
    snprintf(bus->why, sizeof bus->why, "%s", why);
    pthread_cond_broadcast(&bus->tried);
    pthread_mutex_unlock(&bus->lock);
    if (news)
        bus->changed(bus->ctx);
}

static bool same_values(const struct gov_bus_values *a, const struct gov_bus_values *b)
{
    bool same = a->lacks == b->lacks;
    for (unsigned i = 0; i < GOV_BUS_ITEMS; i++)
        same = same && a->has[i] == b->has[i] && (!a->has[i] || a->values[i] == b->values[i]);
    return same;
}

void gov_bus_tell(struct gov_bus *bus, const struct gov_bus_values *values)
{
    pthread_mutex_lock(&bus->lock);
    bool news = !bus->alive || !same_values(&bus->told, values);
    bus->told = *values;
    bus->alive = true;
    bus->has_tried = true;
    bus->why[0] = '\0';
    bus->answered_ns = ert_now_ns();
    pthread_cond_broadcast(&bus->tried);
    pthread_mutex_unlock(&bus->lock);
    if (news)
        bus->changed(bus->ctx);
}

GDBusProxy *gov_bus_follow(struct gov_bus *bus, const char *name, const char *path,
                           const char *interface, GCallback properties_changed, GCallback signalled,
                           char why[GOV_WHY])
{
    GError *error = NULL;
    GDBusProxy *proxy = g_dbus_proxy_new_sync(bus->connection, G_DBUS_PROXY_FLAGS_DO_NOT_AUTO_START,
                                              NULL, name, path, interface, bus->cancel, &error);
    if (!proxy) {
        snprintf(why, GOV_WHY, "%s does not answer: %.100s", bus->service->label, error->message);
        g_error_free(error);
        return NULL;
    }
    if (properties_changed)
        g_signal_connect(proxy, "g-properties-changed", properties_changed, bus);
    if (signalled)
        g_signal_connect(proxy, "g-signal", signalled, bus);
    return proxy;
}

static void detach(struct gov_bus *bus)
{
    bus->service->detach(bus);
    bus->attached = -1;
}

/* Attaches to the best name that has an owner. */
static void attach(struct gov_bus *bus)
{
    char why[GOV_WHY] = "";
    for (int i = 0; i < GOV_BUS_NAMES && bus->attached < 0; i++) {
        if (!bus->owned[i])
            continue;
        if (bus->service->attach(bus, bus->service->names[i], why)) {
            bus->attached = i;
            return;
        }
        bus->service->detach(bus);
    }
    if (why[0])
        say_gone(bus, why);
}

static int name_index(const struct gov_bus *bus, const char *name)
{
    int i = 0;
    while (i < GOV_BUS_NAMES - 1 && strcmp(bus->service->names[i], name) != 0)
        i++;
    return i;
}

static void on_name_appeared(GDBusConnection *connection, const gchar *name, const gchar *owner,
                             gpointer data)
{
    (void)connection;
    (void)owner;
    struct gov_bus *bus = data;
    int i = name_index(bus, name);
    bus->owned[i] = bus->heard[i] = true;
    if (bus->attached == i)
        detach(bus);
    if (bus->attached < 0)
        attach(bus);
}

static bool heard_of_all(const struct gov_bus *bus)
{
    bool all = true;
    for (int i = 0; i < GOV_BUS_NAMES; i++)
        all = all && (bus->heard[i] || !bus->service->names[i]);
    return all;
}

static void on_name_vanished(GDBusConnection *connection, const gchar *name, gpointer data)
{
    (void)connection;
    struct gov_bus *bus = data;
    char why[GOV_WHY];
    int i = name_index(bus, name);
    bus->owned[i] = false;
    bus->heard[i] = true;
    if (bus->attached == i)
        detach(bus);
    if (bus->attached < 0)
        attach(bus);
    if (bus->attached >= 0 || !heard_of_all(bus))
        return;
    pthread_mutex_lock(&bus->lock);
    bool was_alive = bus->alive || bus->gone;
    pthread_mutex_unlock(&bus->lock);
    snprintf(why, sizeof why, was_alive ? "%s went away" : "no %s on the system bus",
             bus->service->daemon);
    say_gone(bus, why);
}

/* The answer to "do you still live". */
static void on_answer(GObject *connection, GAsyncResult *result, gpointer data)
{
    struct gov_bus *bus = data;
    GError *error = NULL;
    bus->asking = false;
    GVariant *answer = g_dbus_connection_call_finish(G_DBUS_CONNECTION(connection), result, &error);
    if (answer) {
        pthread_mutex_lock(&bus->lock);
        bus->answered_ns = ert_now_ns();
        pthread_mutex_unlock(&bus->lock);
        g_variant_unref(answer);
    }
    g_clear_error(&error);
}

static gboolean ask(gpointer data)
{
    struct gov_bus *bus = data;
    const struct gov_bus_service *service = bus->service;
    if (bus->attached < 0 || bus->asking)
        return G_SOURCE_CONTINUE;
    bus->asking = true;
    g_dbus_connection_call(bus->connection, service->names[bus->attached], service->path,
                           "org.freedesktop.DBus.Properties", "Get",
                           g_variant_new("(ss)", service->interface, service->property), NULL,
                           G_DBUS_CALL_FLAGS_NO_AUTO_START, ANSWER_WITHIN_MS, bus->cancel,
                           on_answer, bus);
    return G_SOURCE_CONTINUE;
}

static void connect_bus(struct gov_bus *bus)
{
    GError *error = NULL;
    char why[GOV_WHY];
    bus->connection = g_bus_get_sync(G_BUS_TYPE_SYSTEM, bus->cancel, &error);
    if (!bus->connection) {
        snprintf(why, sizeof why, "no system bus: %.120s", error->message);
        g_error_free(error);
        say_gone(bus, why);
        return;
    }
    /* Or GLib would end the process when the bus ends. */
    g_dbus_connection_set_exit_on_close(bus->connection, FALSE);
    for (int i = 0; i < GOV_BUS_NAMES && bus->service->names[i]; i++) {
        bus->heard[i] = bus->owned[i] = false;
        bus->watches[i] = g_bus_watch_name_on_connection(
            bus->connection, bus->service->names[i], G_BUS_NAME_WATCHER_FLAGS_AUTO_START,
            on_name_appeared, on_name_vanished, bus, NULL);
    }
}

static void disconnect_bus(struct gov_bus *bus)
{
    for (int i = 0; i < GOV_BUS_NAMES; i++) {
        if (bus->watches[i])
            g_bus_unwatch_name(bus->watches[i]);
        bus->watches[i] = 0;
    }
    detach(bus);
    g_clear_object(&bus->connection);
}

/* Connects, and connects anew after the bus went away; asks a service anew that did not answer. */
static gboolean keep_connected(gpointer data)
{
    struct gov_bus *bus = data;
    if (g_cancellable_is_cancelled(bus->cancel))
        return G_SOURCE_REMOVE;
    if (bus->connection && g_dbus_connection_is_closed(bus->connection))
        disconnect_bus(bus);
    if (!bus->connection)
        connect_bus(bus);
    else if (bus->attached < 0)
        attach(bus);
    return G_SOURCE_CONTINUE;
}

static void every(struct gov_bus *bus, guint seconds, GSourceFunc what)
{
    GSource *timer = g_timeout_source_new_seconds(seconds);
    g_source_set_callback(timer, what, bus, NULL);
    g_source_attach(timer, bus->context);
    g_source_unref(timer);
}

static void *bus_thread(void *data)
{
    struct gov_bus *bus = data;
    ert_take_short_turns();
    g_main_context_push_thread_default(bus->context);
    keep_connected(bus);
    every(bus, RECONNECT_S, keep_connected);
    if (bus->service->property)
        every(bus, ASK_S, ask);
    g_main_loop_run(bus->loop);
    disconnect_bus(bus);
    /* A cancelled call still reports back, to memory that is about to go, and what GDBus frees it
     * frees from here. */
    while (bus->asking || g_main_context_pending(bus->context))
        g_main_context_iteration(bus->context, bus->asking);
    g_main_context_pop_thread_default(bus->context);
    return NULL;
}

/* ---- start and stop ------------------------------------------------------------------------- */

/* The libraries know the system bus only, and where that is the environment says. */
static bool is_system_bus(const char *address)
{
    const char *system_bus = getenv("DBUS_SYSTEM_BUS_ADDRESS");
    return !address || (system_bus && !strcmp(address, system_bus));
}

void gov_bus_wait(struct gov_bus *bus)
{
    struct timespec deadline;
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += 1;
    pthread_mutex_lock(&bus->lock);
    while (!bus->has_tried &&
           pthread_cond_timedwait(&bus->tried, &bus->lock, &deadline) != ETIMEDOUT)
        ;
    pthread_mutex_unlock(&bus->lock);
}

static void bus_free(struct gov_bus *bus)
{
    g_clear_object(&bus->cancel);
    g_main_loop_unref(bus->loop);
    g_main_context_unref(bus->context);
    pthread_cond_destroy(&bus->tried);
    pthread_mutex_destroy(&bus->lock);
    free(bus);
}

int gov_bus_start(struct gov_bus **out, const struct gov_bus_service *service, const char *address,
                  void (*changed)(void *ctx), void *ctx, struct ert_error *err)
{
    *out = NULL;
    if (!is_system_bus(address))
        return ert_fail(err, ERT_E_UNSUPPORTED,
                        "%s is looked for on the system bus only: set "
                        "DBUS_SYSTEM_BUS_ADDRESS=%.200s in the environment as well",
                        service->label, address);
    struct gov_bus *bus = calloc(1, sizeof *bus);
    if (!bus)
        return ert_fail(err, ERT_E_NOMEM, "no memory for the connection to %s", service->label);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&bus->tried, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&bus->lock, NULL);
    bus->service = service;
    bus->attached = -1;
    bus->context = g_main_context_new();
    bus->loop = g_main_loop_new(bus->context, FALSE);
    bus->cancel = g_cancellable_new();
    bus->changed = changed;
    bus->ctx = ctx;
    int rc = pthread_create(&bus->thread, NULL, bus_thread, bus);
    if (rc) {
        bus_free(bus);
        return ert_fail(err, ERT_E_NOMEM, "cannot start the thread for %s: %s", service->label,
                        strerror(rc));
    }
    *out = bus;
    return 0;
}

static gboolean quit(gpointer data)
{
    g_main_loop_quit(data);
    return G_SOURCE_REMOVE;
}

void gov_bus_stop(struct gov_bus *bus)
{
    if (!bus)
        return;
    g_cancellable_cancel(bus->cancel);
    /* Posted, not called: a quit before the loop runs would be lost. */
    GSource *last = g_idle_source_new();
    g_source_set_callback(last, quit, bus->loop, NULL);
    g_source_attach(last, bus->context);
    g_source_unref(last);
    pthread_join(bus->thread, NULL);
    bus_free(bus);
}
