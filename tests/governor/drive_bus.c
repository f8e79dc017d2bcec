/* Stand-ins for services on the bus at DBUS_SYSTEM_BUS_ADDRESS, for a Python test to drive.
 *   drive_bus login1                    logind's manager
 *   drive_bus profile NAME              a power profiles daemon of that bus name
 * Reads commands from stdin, a line each, and answers each with one: `sleep 0|1` sends
 * PrepareForSleep; `locks` tells how many sleep locks are held; `active PROFILE` and `degraded
 * [REASON]` set properties. */
#include <gio/gio.h>
#include <gio/gunixfdlist.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MOST_LOCKS = 64 };

struct service {
    GDBusConnection *bus;
    GMainLoop *loop;
    const char *path, *interface;
    char active[32], degraded[64];
    int locks[MOST_LOCKS]; /* read ends: at their end when the lock was let go */
    int n_locks;
};

static const char LOGIND_XML[] =
    "<node><interface name='org.freedesktop.login1.Manager'>"
    "<method name='Inhibit'><arg type='s' direction='in'/><arg type='s' direction='in'/>"
    "<arg type='s' direction='in'/><arg type='s' direction='in'/><arg type='h' direction='out'/>"
    "</method><signal name='PrepareForSleep'><arg type='b'/></signal>"
    "<property name='PreparingForSleep' type='b' access='read'/></interface></node>";

static const char PROFILE_XML[] =
    "<node><interface name='%s'><property name='ActiveProfile' type='s' access='readwrite'/>"
    "<property name='PerformanceDegraded' type='s' access='read'/></interface></node>";

static void call(GDBusConnection *bus, const gchar *sender, const gchar *path,
                 const gchar *interface, const gchar *method, GVariant *parameters,
                 GDBusMethodInvocation *invocation, gpointer data)
{
    (void)bus, (void)sender, (void)path, (void)interface, (void)method;
    struct service *s = data;
    const char *what, *mode;
    int ends[2];
    g_variant_get(parameters, "(&s&s&s&s)", &what, NULL, NULL, &mode);
    if (strcmp(what, "sleep") != 0 || strcmp(mode, "delay") != 0 || s->n_locks == MOST_LOCKS ||
        pipe(ends) != 0) {
        g_dbus_method_invocation_return_dbus_error(invocation, "org.test.Refused", "refused");
        return;
    }
    s->locks[s->n_locks++] = ends[0];
    GUnixFDList *fds = g_unix_fd_list_new();
    g_unix_fd_list_append(fds, ends[1], NULL);
    close(ends[1]);
    g_dbus_method_invocation_return_value_with_unix_fd_list(invocation, g_variant_new("(h)", 0),
                                                            fds);
    g_object_unref(fds);
}

static GVariant *get(GDBusConnection *bus, const gchar *sender, const gchar *path,
                     const gchar *interface, const gchar *property, GError **error, gpointer data)
{
    (void)bus, (void)sender, (void)path, (void)interface, (void)error;
    const struct service *s = data;
    if (!strcmp(property, "PreparingForSleep"))
        return g_variant_new_boolean(FALSE);
    return g_variant_new_string(!strcmp(property, "ActiveProfile") ? s->active : s->degraded);
}

static void tell_property(struct service *s, const char *name, const char *value)
{
    GVariantBuilder changed;
    g_variant_builder_init(&changed, G_VARIANT_TYPE("a{sv}"));
    g_variant_builder_add(&changed, "{sv}", name, g_variant_new_string(value));
    g_dbus_connection_emit_signal(s->bus, NULL, s->path, "org.freedesktop.DBus.Properties",
                                  "PropertiesChanged",
                                  g_variant_new("(sa{sv}as)", s->interface, &changed, NULL), NULL);
}

static int held_locks(const struct service *s)
{
    int held = 0;
    for (int i = 0; i < s->n_locks; i++) {
        struct pollfd end = {s->locks[i], POLLIN, 0};
        held += poll(&end, 1, 0) == 0;
    }
    return held;
}

static gboolean command(GIOChannel *input, GIOCondition condition, gpointer data)
{
    (void)condition;
    struct service *s = data;
    gchar *line = NULL;
    if (g_io_channel_read_line(input, &line, NULL, NULL, NULL) != G_IO_STATUS_NORMAL) {
        g_main_loop_quit(s->loop);
        return FALSE;
    }
    g_strchomp(line);
    if (g_str_has_prefix(line, "sleep "))
        g_dbus_connection_emit_signal(s->bus, NULL, s->path, s->interface, "PrepareForSleep",
                                      g_variant_new("(b)", line[6] == '1'), NULL);
    if (g_str_has_prefix(line, "active ")) {
        g_strlcpy(s->active, line + 7, sizeof s->active);
        tell_property(s, "ActiveProfile", s->active);
    }
    if (g_str_has_prefix(line, "degraded")) {
        g_strlcpy(s->degraded, line[8] ? line + 9 : "", sizeof s->degraded);
        tell_property(s, "PerformanceDegraded", s->degraded);
    }
    g_dbus_connection_flush_sync(s->bus, NULL, NULL);
    printf("%d\n", held_locks(s));
    fflush(stdout);
    g_free(line);
    return TRUE;
}

static void owned(GDBusConnection *bus, const gchar *name, gpointer data)
{
    (void)bus, (void)data;
    printf("%s\n", name);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static const GDBusInterfaceVTable calls = {.method_call = call, .get_property = get};
    struct service s = {.active = "balanced"};
    char path[128], xml[1024];
    bool logind = argc == 2 && !strcmp(argv[1], "login1");
    if (!logind && (argc != 3 || strcmp(argv[1], "profile") != 0))
        return 2;
    const char *name = logind ? "org.freedesktop.login1" : argv[2];
    snprintf(path, sizeof path, "/%s", name);
    g_strdelimit(path, ".", '/');
    snprintf(xml, sizeof xml, PROFILE_XML, name);
    s.path = path;
    s.interface = logind ? "org.freedesktop.login1.Manager" : name;
    s.bus = g_bus_get_sync(G_BUS_TYPE_SYSTEM, NULL, NULL);
    s.loop = g_main_loop_new(NULL, FALSE);
    GDBusNodeInfo *node = g_dbus_node_info_new_for_xml(logind ? LOGIND_XML : xml, NULL);
    if (!s.bus || !node ||
        !g_dbus_connection_register_object(s.bus, path, node->interfaces[0], &calls, &s, NULL,
                                           NULL))
        return 1;
    g_bus_own_name_on_connection(s.bus, name, G_BUS_NAME_OWNER_FLAGS_NONE, owned, NULL, NULL, NULL);
    GIOChannel *input = g_io_channel_unix_new(STDIN_FILENO);
    g_io_add_watch(input, G_IO_IN | G_IO_HUP, command, &s);
    g_main_loop_run(s.loop);
    return 0;
}
