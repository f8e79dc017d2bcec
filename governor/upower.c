/* UPower's display device through libupower-glib, on a thread with its own GMainContext: D-Bus
 * waits here and a reading only copies values under a lock. upowerd may come and go. */
#include "governor/source.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <upower.h>

enum { PERCENTAGE, ENERGY_RATE, STATE, VOLTAGE, TEMPERATURE, N_ITEMS };
static const char *const items[N_ITEMS] = {"percentage", "energy-rate", "state", "voltage",
                                           "temperature"};

static const char UPOWER[] = "org.freedesktop.UPower";
static const char DISPLAY_DEVICE[] = "/org/freedesktop/UPower/devices/DisplayDevice";

/* upowerd is asked this often whether it still answers; between two answers its properties are
 * taken as fresh. */
enum { ASK_S = 10, ANSWER_WITHIN_MS = 5000, RECONNECT_S = 5 };

struct battery {
    bool there, has[N_ITEMS];
    double values[N_ITEMS];
};

struct gov_upower {
    pthread_t thread;
    GMainContext *context;
    GMainLoop *loop;
    GCancellable *cancel;
    void (*changed)(void *ctx);
    void *ctx;

    /* Of the thread alone. */
    GDBusConnection *bus;
    UpDevice *device;
    guint name_watch;
    bool asking;

    pthread_mutex_t lock;
    pthread_cond_t tried;
    /* Under lock. */
    bool has_tried, alive, gone; /* alive: upowerd answers; gone: it did once */
    char why[GOV_WHY];
    struct battery battery;
    uint64_t answered_ns; /* CLOCK_MONOTONIC */
};

/* ---- what a reading sees -------------------------------------------------------------------- */

static bool upower_probe(struct gov_source *s, const struct gov_machine *machine)
{
    struct gov_upower *u = machine->upower;
    s->u.upower.item = gov_item(s->address, items, N_ITEMS);
    if (s->u.upower.item == N_ITEMS)
        return gov_not_here(
            s, "'%.40s': expected percentage, energy-rate, state, voltage or temperature",
            s->address);
    if (!u)
        return gov_not_here(s, "UPower was not asked");
    pthread_mutex_lock(&u->lock);
    bool serves = u->alive && u->battery.there && u->battery.has[s->u.upower.item];
    if (!u->alive)
        gov_not_here(s, "%s", u->why[0] ? u->why : "UPower has not answered yet");
    else if (!u->battery.there)
        gov_not_here(s, "UPower knows no battery");
    else if (!serves)
        gov_not_here(s, "UPower does not tell the battery's %.40s", s->address);
    pthread_mutex_unlock(&u->lock);
    return serves;
}

static struct dev_reading upower_read(struct gov_source *s, const struct gov_machine *machine,
                                      uint64_t now_ns)
{
    struct gov_upower *u = machine->upower;
    unsigned item = s->u.upower.item;
    struct dev_reading reading;
    pthread_mutex_lock(&u->lock);
    if (!u->alive) {
        reading = gov_absent(s, u->gone ? DEV_SOURCE_GONE : DEV_NO_SAMPLE, now_ns, "%s",
                             u->why[0] ? u->why : "UPower has not answered yet");
    } else if (!u->battery.there || !u->battery.has[item]) {
        reading = gov_absent(s, DEV_NO_SAMPLE, now_ns,
                             "UPower does not tell the battery's %.40s now", s->address);
    } else {
        uint64_t age_ns = ert_now_ns() - u->answered_ns, interval_ns = ASK_S * 1000000000ULL;
        reading = gov_present(u->battery.values[item],
                              age_ns > interval_ns ? now_ns - (age_ns - interval_ns) : now_ns);
    }
    pthread_mutex_unlock(&u->lock);
    return reading;
}

const struct gov_source_kind gov_source_upower = {.probe = upower_probe, .read = upower_read};

/* ---- the thread ----------------------------------------------------------------------------- */

static void say_gone(struct gov_upower *u, const char *why)
{
    pthread_mutex_lock(&u->lock);
    u->gone = u->gone || u->alive;
    u->alive = false;
    u->has_tried = true;
    snprintf(u->why, sizeof u->why, "%s", why);
    pthread_cond_broadcast(&u->tried);
    pthread_mutex_unlock(&u->lock);
    u->changed(u->ctx);
}

static bool same_battery(const struct battery *a, const struct battery *b)
{
    bool same = a->there == b->there;
    for (unsigned i = 0; i < N_ITEMS; i++)
        same = same && a->has[i] == b->has[i] && a->values[i] == b->values[i];
    return same;
}

/* Copies the device's properties for the readers. */
static void copy_values(struct gov_upower *u)
{
    gboolean present = FALSE;
    gdouble percentage = 0, rate = 0, voltage = 0, temperature = 0;
    guint state = UP_DEVICE_STATE_UNKNOWN;
    g_object_get(u->device, "is-present", &present, "percentage", &percentage, "energy-rate", &rate,
                 "state", &state, "voltage", &voltage, "temperature", &temperature, NULL);
    bool discharging =
        state == UP_DEVICE_STATE_DISCHARGING || state == UP_DEVICE_STATE_PENDING_DISCHARGE;
    const struct battery now = {
        .there = present,
        .values = {percentage, state == UP_DEVICE_STATE_CHARGING ? -rate : rate, discharging,
                   voltage, temperature},
        /* 0 is UPower's word for "unknown"; only a full battery at rest really gives 0 W. */
        .has = {true, rate != 0 || state == UP_DEVICE_STATE_FULLY_CHARGED,
                state != UP_DEVICE_STATE_UNKNOWN, voltage != 0, temperature != 0}};
    pthread_mutex_lock(&u->lock);
    bool news = !u->alive || !same_battery(&u->battery, &now);
    u->battery = now;
    u->alive = true;
    u->has_tried = true;
    u->why[0] = '\0';
    u->answered_ns = ert_now_ns();
    pthread_cond_broadcast(&u->tried);
    pthread_mutex_unlock(&u->lock);
    if (news)
        u->changed(u->ctx);
}

static void on_notify(GObject *device, GParamSpec *property, gpointer data)
{
    (void)device;
    (void)property;
    copy_values(data);
}

static void drop_device(struct gov_upower *u)
{
    if (u->device)
        g_signal_handlers_disconnect_by_data(u->device, u);
    g_clear_object(&u->device);
}

static void on_name_appeared(GDBusConnection *bus, const gchar *name, const gchar *owner,
                             gpointer data)
{
    (void)bus;
    (void)name;
    (void)owner;
    struct gov_upower *u = data;
    GError *error = NULL;
    char why[GOV_WHY];
    drop_device(u);
    u->device = up_device_new();
    if (up_device_set_object_path_sync(u->device, DISPLAY_DEVICE, u->cancel, &error)) {
        g_signal_connect(u->device, "notify", G_CALLBACK(on_notify), u);
        copy_values(u);
        return;
    }
    snprintf(why, sizeof why, "UPower does not answer: %.100s", error->message);
    g_error_free(error);
    drop_device(u);
    say_gone(u, why);
}

static void on_name_vanished(GDBusConnection *bus, const gchar *name, gpointer data)
{
    (void)bus;
    (void)name;
    struct gov_upower *u = data;
    drop_device(u);
    pthread_mutex_lock(&u->lock);
    bool was_alive = u->alive || u->gone;
    pthread_mutex_unlock(&u->lock);
    say_gone(u, was_alive ? "upowerd went away" : "no upowerd on the system bus");
}

/* The answer to "do you still live". */
static void on_answer(GObject *bus, GAsyncResult *result, gpointer data)
{
    struct gov_upower *u = data;
    GError *error = NULL;
    u->asking = false;
    GVariant *answer = g_dbus_connection_call_finish(G_DBUS_CONNECTION(bus), result, &error);
    if (answer) {
        pthread_mutex_lock(&u->lock);
        u->answered_ns = ert_now_ns();
        pthread_mutex_unlock(&u->lock);
        g_variant_unref(answer);
    }
    g_clear_error(&error);
}

static gboolean ask(gpointer data)
{
    struct gov_upower *u = data;
    if (!u->device || u->asking)
        return G_SOURCE_CONTINUE;
    u->asking = true;
    g_dbus_connection_call(
        u->bus, UPOWER, "/org/freedesktop/UPower", "org.freedesktop.DBus.Properties", "Get",
        g_variant_new("(ss)", UPOWER, "DaemonVersion"), NULL, G_DBUS_CALL_FLAGS_NO_AUTO_START,
        ANSWER_WITHIN_MS, u->cancel, on_answer, u);
    return G_SOURCE_CONTINUE;
}

static bool connect_bus(struct gov_upower *u)
{
    GError *error = NULL;
    char why[GOV_WHY];
    u->bus = g_bus_get_sync(G_BUS_TYPE_SYSTEM, u->cancel, &error);
    if (!u->bus) {
        snprintf(why, sizeof why, "no system bus: %.120s", error->message);
        g_error_free(error);
        say_gone(u, why);
        return false;
    }
    /* Or GLib would end the process when the bus ends. */
    g_dbus_connection_set_exit_on_close(u->bus, FALSE);
    u->name_watch =
        g_bus_watch_name_on_connection(u->bus, UPOWER, G_BUS_NAME_WATCHER_FLAGS_AUTO_START,
                                       on_name_appeared, on_name_vanished, u, NULL);
    return true;
}

static void disconnect_bus(struct gov_upower *u)
{
    if (u->name_watch)
        g_bus_unwatch_name(u->name_watch);
    u->name_watch = 0;
    drop_device(u);
    g_clear_object(&u->bus);
}

/* Connects, and connects anew after the bus went away. */
static gboolean keep_connected(gpointer data)
{
    struct gov_upower *u = data;
    if (g_cancellable_is_cancelled(u->cancel))
        return G_SOURCE_REMOVE;
    if (u->bus && g_dbus_connection_is_closed(u->bus))
        disconnect_bus(u);
    if (!u->bus)
        connect_bus(u);
    return G_SOURCE_CONTINUE;
}

static void every(struct gov_upower *u, guint seconds, GSourceFunc what)
{
    GSource *timer = g_timeout_source_new_seconds(seconds);
    g_source_set_callback(timer, what, u, NULL);
    g_source_attach(timer, u->context);
    g_source_unref(timer);
}

static void *upower_thread(void *data)
{
    struct gov_upower *u = data;
    g_main_context_push_thread_default(u->context);
    keep_connected(u);
    every(u, RECONNECT_S, keep_connected);
    every(u, ASK_S, ask);
    g_main_loop_run(u->loop);
    disconnect_bus(u);
    /* A cancelled call still reports back, to memory that is about to go, and what GDBus frees it
     * frees from here. */
    while (u->asking || g_main_context_pending(u->context))
        g_main_context_iteration(u->context, u->asking);
    g_main_context_pop_thread_default(u->context);
    return NULL;
}

/* ---- start and stop ------------------------------------------------------------------------- */

/* libupower-glib knows the system bus only, and where that is the environment says. */
static bool is_system_bus(const char *bus)
{
    const char *system_bus = getenv("DBUS_SYSTEM_BUS_ADDRESS");
    return !bus || (system_bus && !strcmp(bus, system_bus));
}

static void wait_for_first_try(struct gov_upower *u)
{
    struct timespec deadline;
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += 1;
    pthread_mutex_lock(&u->lock);
    while (!u->has_tried && pthread_cond_timedwait(&u->tried, &u->lock, &deadline) != ETIMEDOUT)
        ;
    pthread_mutex_unlock(&u->lock);
}

static void upower_free(struct gov_upower *u)
{
    g_clear_object(&u->cancel);
    g_main_loop_unref(u->loop);
    g_main_context_unref(u->context);
    pthread_cond_destroy(&u->tried);
    pthread_mutex_destroy(&u->lock);
    free(u);
}

int gov_upower_start(struct gov_upower **upower, const char *bus, void (*changed)(void *ctx),
                     void *ctx, struct ert_error *err)
{
    *upower = NULL;
    if (!is_system_bus(bus))
        return ert_fail(err, ERT_E_UNSUPPORTED,
                        "UPower's library talks to the system bus only: set "
                        "DBUS_SYSTEM_BUS_ADDRESS=%.200s in the environment as well",
                        bus);
    struct gov_upower *u = calloc(1, sizeof *u);
    if (!u)
        return ert_fail(err, ERT_E_NOMEM, "no memory for the connection to UPower");
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&u->tried, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&u->lock, NULL);
    u->context = g_main_context_new();
    u->loop = g_main_loop_new(u->context, FALSE);
    u->cancel = g_cancellable_new();
    u->changed = changed;
    u->ctx = ctx;
    int rc = pthread_create(&u->thread, NULL, upower_thread, u);
    if (rc) {
        upower_free(u);
        return ert_fail(err, ERT_E_NOMEM, "cannot start the thread for UPower: %s", strerror(rc));
    }
    wait_for_first_try(u);
    *upower = u;
    return 0;
}

static gboolean quit(gpointer data)
{
    g_main_loop_quit(data);
    return G_SOURCE_REMOVE;
}

void gov_upower_stop(struct gov_upower *u)
{
    if (!u)
        return;
    g_cancellable_cancel(u->cancel);
    /* Posted, not called: a quit before the loop runs would be lost. */
    GSource *last = g_idle_source_new();
    g_source_set_callback(last, quit, u->loop, NULL);
    g_source_attach(last, u->context);
    g_source_unref(last);
    pthread_join(u->thread, NULL);
    upower_free(u);
}
