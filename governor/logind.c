/* logind's word that the machine is about to sleep, and has woken (org.freedesktop.login1(5)):
 * PrepareForSleep. A delay lock holds the sleep up until a decision has been made of it. */
#include "governor/bus.h"

#include <gio/gunixfdlist.h>
#include <stdlib.h>
#include <unistd.h>

enum { SLEEPING, N_ITEMS };
static const char *const items[N_ITEMS] = {"sleeping"};

static const char MANAGER[] = "org.freedesktop.login1.Manager";

/* Longer than a decision and most tokens, far below logind's InhibitDelayMaxSec of 5 s. */
enum { HOLD_SLEEP_MS = 500, LOCK_WITHIN_MS = 2000 };

struct following {
    GDBusProxy *manager;
    GSource *release; /* runs out when the sleep was held up for long enough; NULL = none */
    int lock;         /* -1 = none */
};

static void drop_lock(struct following *f)
{
    if (f->lock >= 0)
        close(f->lock);
    f->lock = -1;
}

static void drop_timer(struct following *f)
{
    if (f->release)
        g_source_destroy(f->release);
    g_clear_pointer(&f->release, g_source_unref);
}

/* Not getting one is no failure: the decision is then made after the sleep. */
static void take_lock(struct gov_bus *bus, struct following *f)
{
    GUnixFDList *fds = NULL;
    gint32 index = -1;
    drop_lock(f);
    GVariant *answer = g_dbus_proxy_call_with_unix_fd_list_sync(
        f->manager, "Inhibit",
        g_variant_new("(ssss)", "sleep", "edgert", "pauses the model before sleep", "delay"),
        G_DBUS_CALL_FLAGS_NO_AUTO_START, LOCK_WITHIN_MS, NULL, &fds, gov_bus_cancel(bus), NULL);
    if (answer) {
        g_variant_get(answer, "(h)", &index);
        f->lock = fds ? g_unix_fd_list_get(fds, index, NULL) : -1;
        g_variant_unref(answer);
    }
    g_clear_object(&fds);
}

static void tell_sleeping(struct gov_bus *bus, bool sleeping)
{
    const struct gov_bus_values now = {.has = {[SLEEPING] = true},
                                       .values = {[SLEEPING] = sleeping}};
    gov_bus_tell(bus, &now);
}

static gboolean let_sleep(gpointer data)
{
    struct following *f = data;
    drop_lock(f);
    drop_timer(f);
    return G_SOURCE_REMOVE;
}

static void on_signal(GDBusProxy *manager, const gchar *sender, const gchar *signal,
                      GVariant *parameters, gpointer data)
{
    (void)manager;
    (void)sender;
    struct gov_bus *bus = data;
    struct following *f = *gov_bus_data(bus);
    gboolean sleeping = FALSE;
    if (g_strcmp0(signal, "PrepareForSleep") != 0 ||
        !g_variant_is_of_type(parameters, G_VARIANT_TYPE("(b)")))
        return;
    g_variant_get(parameters, "(b)", &sleeping);
    tell_sleeping(bus, sleeping);
    drop_timer(f);
    if (!sleeping) {
        take_lock(bus, f);
        return;
    }
    f->release = g_timeout_source_new(HOLD_SLEEP_MS);
    g_source_set_callback(f->release, let_sleep, f, NULL);
    g_source_attach(f->release, gov_bus_context(bus));
}

static bool logind_attach(struct gov_bus *bus, const char *name, char why[GOV_WHY])
{
    struct following *f = calloc(1, sizeof *f);
    if (!f) {
        snprintf(why, GOV_WHY, "no memory to follow logind");
        return false;
    }
    *gov_bus_data(bus) = f;
    f->lock = -1;
    f->manager = gov_bus_follow(bus, name, "/org/freedesktop/login1", MANAGER, NULL,
                                G_CALLBACK(on_signal), why);
    if (!f->manager)
        return false;
    GVariant *preparing = g_dbus_proxy_get_cached_property(f->manager, "PreparingForSleep");
    bool sleeping = preparing && g_variant_is_of_type(preparing, G_VARIANT_TYPE_BOOLEAN) &&
                    g_variant_get_boolean(preparing);
    g_clear_pointer(&preparing, g_variant_unref);
    tell_sleeping(bus, sleeping);
    if (!sleeping)
        take_lock(bus, f);
    return true;
}

static void logind_detach(struct gov_bus *bus)
{
    struct following *f = *gov_bus_data(bus);
    if (!f)
        return;
    drop_timer(f);
    drop_lock(f);
    if (f->manager)
        g_signal_handlers_disconnect_by_data(f->manager, bus);
    g_clear_object(&f->manager);
    free(f);
    *gov_bus_data(bus) = NULL;
}

const struct gov_bus_service gov_service_logind = {
    .label = "logind",
    .daemon = "logind",
    .names = {"org.freedesktop.login1", NULL},
    .items = items,
    .n_items = N_ITEMS,
    .attach = logind_attach,
    .detach = logind_detach,
};

const struct gov_source_kind gov_source_logind = {
    .probe = gov_bus_probe, .read = gov_bus_read, .service = &gov_service_logind};
