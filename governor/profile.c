/* The desktop's power profile: power-profiles-daemon, or tuned-ppd in its place, under its present
 * name org.freedesktop.UPower.PowerProfiles or the one it had before 0.20. */
#include "governor/bus.h"

#include <string.h>

enum { ACTIVE, DEGRADED, N_ITEMS };
static const char *const items[N_ITEMS] = {"active", "degraded"};

/* The names on the bus are the interfaces' too. */
static const char NAME[] = "org.freedesktop.UPower.PowerProfiles";
static const char OLD_NAME[] = "net.hadess.PowerProfiles";

/* In the order of what they allow: the value of "active". */
static const char *const profiles[] = {"power-saver", "balanced", "performance"};
enum { N_PROFILES = sizeof profiles / sizeof *profiles };

/* Copies a property that is text; false if there is none. */
static bool text_of(GDBusProxy *proxy, const char *property, char *text, size_t size)
{
    GVariant *value = g_dbus_proxy_get_cached_property(proxy, property);
    bool is_text = value && g_variant_is_of_type(value, G_VARIANT_TYPE_STRING);
    snprintf(text, size, "%s", is_text ? g_variant_get_string(value, NULL) : "");
    g_clear_pointer(&value, g_variant_unref);
    return is_text;
}

static void tell_values(struct gov_bus *bus, GDBusProxy *proxy)
{
    char active[64], degraded[64];
    struct gov_bus_values now = {0};
    text_of(proxy, "ActiveProfile", active, sizeof active);
    unsigned profile = gov_item(active, profiles, N_PROFILES);
    now.has[ACTIVE] = profile < N_PROFILES;
    now.values[ACTIVE] = profile;
    now.has[DEGRADED] = text_of(proxy, "PerformanceDegraded", degraded, sizeof degraded);
    now.values[DEGRADED] = degraded[0] != '\0';
    gov_bus_tell(bus, &now);
}

static void on_change(GDBusProxy *proxy, GVariant *changed, GStrv invalidated, gpointer data)
{
    (void)changed;
    (void)invalidated;
    tell_values(data, proxy);
}

static bool profile_attach(struct gov_bus *bus, const char *name, char why[GOV_WHY])
{
    const char *path =
        !strcmp(name, NAME) ? "/org/freedesktop/UPower/PowerProfiles" : "/net/hadess/PowerProfiles";
    GDBusProxy *proxy = gov_bus_follow(bus, name, path, name, G_CALLBACK(on_change), NULL, why);
    *gov_bus_data(bus) = proxy;
    if (proxy)
        tell_values(bus, proxy);
    return proxy != NULL;
}

static void profile_detach(struct gov_bus *bus)
{
    GDBusProxy *proxy = *gov_bus_data(bus);
    if (proxy)
        g_signal_handlers_disconnect_by_data(proxy, bus);
    g_clear_object(&proxy);
    *gov_bus_data(bus) = NULL;
}

const struct gov_bus_service gov_service_profile = {
    .label = "the power profiles daemon",
    .daemon = "power-profiles-daemon",
    .names = {NAME, OLD_NAME},
    .items = items,
    .n_items = N_ITEMS,
    .attach = profile_attach,
    .detach = profile_detach,
};

const struct gov_source_kind gov_source_profile = {
    .probe = gov_bus_probe, .read = gov_bus_read, .service = &gov_service_profile};
