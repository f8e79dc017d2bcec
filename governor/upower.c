/* UPower through libupower-glib: the display device, which is all batteries as one, weighted by
 * their energy, and whether the machine runs from mains. */
#include "governor/bus.h"

#include <stdlib.h>
#include <upower.h>

enum {
    PERCENTAGE,
    ENERGY_RATE,
    STATE,
    VOLTAGE,
    TEMPERATURE,
    WARNING,
    ONLINE,
    ENERGY_FULL,
    N_ITEMS
};
static const char *const items[N_ITEMS] = {"percentage",  "energy-rate",   "state",  "voltage",
                                           "temperature", "warning-level", "online", "energy-full"};

static const char DISPLAY_DEVICE[] = "/org/freedesktop/UPower/devices/DisplayDevice";

struct following {
    UpDevice *device;
    UpClient *client;
};

/* 0 none, 1 low, 2 critical, 3 about to be shut down. */
static double warning_of(UpDeviceLevel level)
{
    return level == UP_DEVICE_LEVEL_LOW        ? 1
           : level == UP_DEVICE_LEVEL_CRITICAL ? 2
           : level == UP_DEVICE_LEVEL_ACTION   ? 3
                                               : 0;
}

/* Copies the properties for the readers. */
static void tell_values(struct gov_bus *bus)
{
    struct following *f = *gov_bus_data(bus);
    gboolean present = FALSE;
    gdouble percentage = 0, rate = 0, voltage = 0, temperature = 0, full = 0;
    guint state = UP_DEVICE_STATE_UNKNOWN, warning = UP_DEVICE_LEVEL_UNKNOWN;
    g_object_get(f->device, "is-present", &present, "percentage", &percentage, "energy-rate", &rate,
                 "state", &state, "voltage", &voltage, "temperature", &temperature, "warning-level",
                 &warning, "energy-full", &full, NULL);
    /* 0 is UPower's word for "unknown": of the power, but for a full battery at rest, and of the
     * charge, from which it then warns as of an empty one. sysfs knows of a real 0. */
    bool charge_known = present && percentage > 0;
    bool discharging =
        state == UP_DEVICE_STATE_DISCHARGING || state == UP_DEVICE_STATE_PENDING_DISCHARGE;
    struct gov_bus_values now = {
        .values = {[PERCENTAGE] = percentage,
                   [ENERGY_RATE] = state == UP_DEVICE_STATE_CHARGING ? -rate : rate,
                   [STATE] = discharging,
                   [VOLTAGE] = voltage,
                   [TEMPERATURE] = temperature,
                   [WARNING] = warning_of(warning),
                   [ENERGY_FULL] = full},
        .has = {[PERCENTAGE] = charge_known,
                [ENERGY_RATE] = present && (rate != 0 || state == UP_DEVICE_STATE_FULLY_CHARGED),
                [STATE] = present && state != UP_DEVICE_STATE_UNKNOWN,
                [VOLTAGE] = present && voltage != 0,
                [TEMPERATURE] = present && temperature != 0,
                [WARNING] = charge_known && warning != UP_DEVICE_LEVEL_UNKNOWN,
                [ENERGY_FULL] = present && full > 0},
        .lacks = present ? NULL : "UPower knows no battery"};
    now.has[ONLINE] = f->client != NULL;
    now.values[ONLINE] = f->client && !up_client_get_on_battery(f->client);
    gov_bus_tell(bus, &now);
}

static void on_notify(GObject *object, GParamSpec *property, gpointer data)
{
    (void)object;
    (void)property;
    tell_values(data);
}

static bool upower_attach(struct gov_bus *bus, const char *name, char why[GOV_WHY])
{
    (void)name;
    GError *error = NULL;
    struct following *f = calloc(1, sizeof *f);
    if (!f) {
        snprintf(why, GOV_WHY, "no memory to follow UPower");
        return false;
    }
    *gov_bus_data(bus) = f;
    f->device = up_device_new();
    if (up_device_set_object_path_sync(f->device, DISPLAY_DEVICE, gov_bus_cancel(bus), &error))
        f->client = up_client_new_full(gov_bus_cancel(bus), &error);
    if (error) {
        snprintf(why, GOV_WHY, "UPower does not answer: %.100s", error->message);
        g_error_free(error);
        return false;
    }
    g_signal_connect(f->device, "notify", G_CALLBACK(on_notify), bus);
    g_signal_connect(f->client, "notify::on-battery", G_CALLBACK(on_notify), bus);
    tell_values(bus);
    return true;
}

static void upower_detach(struct gov_bus *bus)
{
    struct following *f = *gov_bus_data(bus);
    if (!f)
        return;
    if (f->device)
        g_signal_handlers_disconnect_by_data(f->device, bus);
    if (f->client)
        g_signal_handlers_disconnect_by_data(f->client, bus);
    g_clear_object(&f->device);
    g_clear_object(&f->client);
    free(f);
    *gov_bus_data(bus) = NULL;
}

const struct gov_bus_service gov_service_upower = {
    .label = "UPower",
    .daemon = "upowerd",
    .names = {"org.freedesktop.UPower", NULL},
    .items = items,
    .n_items = N_ITEMS,
    .attach = upower_attach,
    .detach = upower_detach,
    .path = "/org/freedesktop/UPower",
    .interface = "org.freedesktop.UPower",
    .property = "DaemonVersion",
};

const struct gov_source_kind gov_source_upower = {
    .probe = gov_bus_probe, .read = gov_bus_read, .service = &gov_service_upower};
