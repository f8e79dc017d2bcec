#include "engine/layers.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "governor/governor.h"

#define SYSTEM_DATA   "/usr/share/edgert"
#define SYSTEM_CONFIG "/etc/edgert"

static int format_path(char **path, struct ert_error *err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int format_path(char **path, struct ert_error *err, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vasprintf(path, fmt, args);
    va_end(args);
    if (n >= 0)
        return 0;
    *path = NULL;
    return ert_fail(err, ERT_E_NOMEM, "out of memory for a path");
}

/* XDG Base Directory Specification: a relative or empty value is as good as none. */
static int user_path(const char *variable, const char *fallback, const char *name, char **path,
                     struct ert_error *err)
{
    const char *base = getenv(variable), *home = getenv("HOME");
    if (base && base[0] == '/')
        return format_path(path, err, "%s/edgert/%s", base, name);
    if (!home || !*home)
        return ert_fail(err, ERT_E_MISSING, "neither %s nor HOME is set; set one of them",
                        variable);
    return format_path(path, err, "%s/%s/edgert/%s", home, fallback, name);
}

int layers_data_path(const char *name, char **path, struct ert_error *err)
{
    return user_path("XDG_DATA_HOME", ".local/share", name, path, err);
}

/* Keeps path if it can be read, frees it otherwise. */
static bool keep_readable(char **path)
{
    if (*path && access(*path, R_OK) == 0)
        return true;
    free(*path);
    *path = NULL;
    return false;
}

int layers_find_model(const char *name, char **path, struct ert_error *err)
{
    static const char *const endings[] = {"", ".edgert"};
    char file[NAME_MAX + 32];
    if (!name)
        name = "default";
    if (strchr(name, '/') || access(name, R_OK) == 0)
        return format_path(path, err, "%s", name);
    for (size_t i = 0; i < 2; i++) {
        int n = snprintf(file, sizeof file, "models/%s%s", name, endings[i]);
        if (n < 0 || (size_t)n >= sizeof file)
            return ert_fail(err, ERT_E_RANGE, "the model's name is too long");
        if (layers_data_path(file, path, NULL) == 0 && keep_readable(path))
            return 0;
        if (format_path(path, NULL, SYSTEM_DATA "/%s", file) == 0 && keep_readable(path))
            return 0;
    }
    return ert_fail(err, ERT_E_MISSING,
                    "no model '%s' here, in $XDG_DATA_HOME/edgert/models (~/.local/share/edgert/"
                    "models) or in " SYSTEM_DATA "/models; make one with `edgert build`",
                    name);
}

/* ---- policies ------------------------------------------------------------------------------ */

enum { MAX_LAYERS = 64 };

struct layer_list {
    char *paths[MAX_LAYERS];
    size_t n;
};

/* Takes *path over, whether it is kept or not. */
static void add_layer(struct layer_list *list, char **path)
{
    if (*path && keep_readable(path) && list->n < MAX_LAYERS)
        list->paths[list->n++] = *path;
    else
        free(*path);
    *path = NULL;
}

/* Cuts a path's last part off, and the slash before it; false if there is none. */
static bool cut_last(char *path)
{
    char *slash = strrchr(path, '/');
    if (slash)
        *slash = '\0';
    return slash != NULL;
}

/* What came with the program: beside the folder of the executable (a checkout), in its prefix, or
 * the system's. *path is the caller's to free, NULL where there is none. */
static void find_shipped(const char *name, char **path)
{
    char prefix[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", prefix, sizeof prefix - 1);
    prefix[length > 0 ? length : 0] = '\0';
    *path = NULL;
    bool known = cut_last(prefix);
    known = known && cut_last(prefix);
    if (known && format_path(path, NULL, "%s/%s", prefix, name) == 0 && keep_readable(path))
        return;
    if (known && format_path(path, NULL, "%s/share/edgert/%s", prefix, name) == 0 &&
        keep_readable(path))
        return;
    if (format_path(path, NULL, SYSTEM_DATA "/%s", name) == 0)
        keep_readable(path);
}

static int is_yaml(const struct dirent *entry)
{
    const char *dot = strrchr(entry->d_name, '.');
    return entry->d_name[0] != '.' && dot && !strcmp(dot, ".yaml");
}

/* *.yaml of a folder, in the order of their names. */
static void add_folder(struct layer_list *list, const char *folder)
{
    struct dirent **entries = NULL;
    int n = scandir(folder, &entries, is_yaml, alphasort);
    for (int i = 0; i < n; i++) {
        char *path = NULL;
        if (format_path(&path, NULL, "%s/%s", folder, entries[i]->d_name) == 0)
            add_layer(list, &path);
        free(entries[i]);
    }
    free(entries);
}

/* Those files of a folder that are for the machine. */
static int add_devices(struct layer_list *list, const char *folder,
                       const struct pol_identity *machine, struct ert_error *err)
{
    struct dirent **entries = NULL;
    int n = scandir(folder, &entries, is_yaml, alphasort), rc = 0;
    for (int i = 0; i < n; i++) {
        char *path = NULL;
        bool matches = false;
        if (!rc)
            rc = format_path(&path, err, "%s/%s", folder, entries[i]->d_name);
        if (!rc)
            rc = pol_file_matches(path, machine, &matches, err);
        if (!rc && matches)
            add_layer(list, &path);
        free(path);
        free(entries[i]);
    }
    free(entries);
    return rc;
}

/* Folders of what known machines are like: the shipped one, the system's, the person's. */
static int add_device_layers(struct layer_list *list, const char *root, struct ert_error *err)
{
    struct pol_identity *machine = malloc(sizeof *machine);
    char *folders[3] = {NULL};
    if (!machine)
        return ert_fail(err, ERT_E_NOMEM, "out of memory for the machine's names");
    gov_identify(root, machine);
    find_shipped("devices.d", &folders[0]);
    format_path(&folders[1], NULL, SYSTEM_CONFIG "/devices.d");
    user_path("XDG_CONFIG_HOME", ".config", "devices.d", &folders[2], NULL);
    int rc = 0;
    for (size_t i = 0; i < 3; i++) {
        if (!rc && folders[i])
            rc = add_devices(list, folders[i], machine, err);
        free(folders[i]);
    }
    free(machine);
    return rc;
}

static int load_layers(const struct layer_list *list, const char *extra, struct pol_file **file,
                       struct ert_error *err)
{
    const char *paths[MAX_LAYERS + 1];
    size_t n = 0;
    while (n < list->n) {
        paths[n] = list->paths[n];
        n++;
    }
    if (extra)
        paths[n++] = extra;
    return n ? pol_file_load(file, paths, n, err)
             : ert_fail(err, ERT_E_MISSING,
                        "no policies.yaml in " SYSTEM_DATA ", " SYSTEM_CONFIG
                        " or $XDG_CONFIG_HOME/edgert; give one with --policy-file");
}

int layers_load_policies(const char *root, const char *extra, struct pol_file **file,
                         struct ert_error *err)
{
    struct layer_list list = {.n = 0};
    char *path = NULL;
    int rc = add_device_layers(&list, root, err);
    find_shipped("policies.yaml", &path);
    add_layer(&list, &path);
    if (format_path(&path, NULL, SYSTEM_CONFIG "/policies.yaml") == 0)
        add_layer(&list, &path);
    add_folder(&list, SYSTEM_CONFIG "/policies.d");
    if (user_path("XDG_CONFIG_HOME", ".config", "policies.yaml", &path, NULL) == 0)
        add_layer(&list, &path);
    if (!rc)
        rc = load_layers(&list, extra, file, err);
    for (size_t i = 0; i < list.n; i++)
        free(list.paths[i]);
    return rc;
}

/* ---- watching ------------------------------------------------------------------------------ */

/* Takes path over: a file in its folder, or with a pattern all such files of the folder. */
static int watch(struct layers_watch *watched, char *path, const char *pattern,
                 struct ert_error *err)
{
    if (!path)
        return 0;
    char *slash = pattern ? NULL : strrchr(path, '/');
    struct gov_watch *w = &watched->watches[watched->n];
    w->pattern = strdup(pattern ? pattern : slash ? slash + 1 : path);
    if (slash)
        *(slash == path ? slash + 1 : slash) = '\0';
    w->folder = pattern || slash ? path : strdup(".");
    if (w->folder != path)
        free(path);
    watched->n++;
    return w->pattern && w->folder ? 0 : ert_fail(err, ERT_E_NOMEM, "out of memory for a path");
}

int layers_watch_policies(const char *extra, struct layers_watch *watched, struct ert_error *err)
{
    static const char yaml[] = "*.yaml";
    char *paths[8] = {NULL};
    int rc = 0;
    *watched = (struct layers_watch){.n = 0};
    find_shipped("policies.yaml", &paths[0]);
    find_shipped("devices.d", &paths[1]);
    format_path(&paths[2], NULL, SYSTEM_CONFIG "/policies.yaml");
    format_path(&paths[3], NULL, SYSTEM_CONFIG "/policies.d");
    format_path(&paths[4], NULL, SYSTEM_CONFIG "/devices.d");
    user_path("XDG_CONFIG_HOME", ".config", "policies.yaml", &paths[5], NULL);
    user_path("XDG_CONFIG_HOME", ".config", "devices.d", &paths[6], NULL);
    if (extra)
        format_path(&paths[7], NULL, "%s", extra);
    static const bool is_folder[8] = {[1] = true, [3] = true, [4] = true, [6] = true};
    for (size_t i = 0; i < 8; i++) {
        if (rc)
            free(paths[i]);
        else
            rc = watch(watched, paths[i], is_folder[i] ? yaml : NULL, err);
    }
    return rc;
}

void layers_watch_release(struct layers_watch *watched)
{
    for (size_t i = 0; i < watched->n; i++) {
        free(watched->watches[i].folder);
        free(watched->watches[i].pattern);
    }
    watched->n = 0;
}
