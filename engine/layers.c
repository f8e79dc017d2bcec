#include "engine/layers.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
    if (keep_readable(path) && list->n < MAX_LAYERS)
        list->paths[list->n++] = *path;
    else
        free(*path);
    *path = NULL;
}

/* The policies that came with the program: beside the folder of the executable (a checkout), in its
 * prefix, or the system's. */
static void add_shipped(struct layer_list *list)
{
    static const char *const beside[] = {"policies.yaml", "share/edgert/policies.yaml"};
    char exe[PATH_MAX], *path = NULL;
    ssize_t length = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[length > 0 ? length : 0] = '\0';
    char *slash = strrchr(exe, '/');
    for (size_t i = 0; slash && i < 2 && list->n == 0; i++) {
        *slash = '\0';
        if (format_path(&path, NULL, "%s/../%s", exe, beside[i]) == 0)
            add_layer(list, &path);
    }
    if (list->n == 0 && format_path(&path, NULL, SYSTEM_DATA "/policies.yaml") == 0)
        add_layer(list, &path);
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

int layers_load_policies(const char *extra, struct pol_file **file, struct ert_error *err)
{
    struct layer_list list = {.n = 0};
    char *path = NULL;
    add_shipped(&list);
    if (format_path(&path, NULL, SYSTEM_CONFIG "/policies.yaml") == 0)
        add_layer(&list, &path);
    add_folder(&list, SYSTEM_CONFIG "/policies.d");
    if (user_path("XDG_CONFIG_HOME", ".config", "policies.yaml", &path, NULL) == 0)
        add_layer(&list, &path);
    const char *paths[MAX_LAYERS + 1];
    size_t n = 0;
    while (n < list.n) {
        paths[n] = list.paths[n];
        n++;
    }
    if (extra)
        paths[n++] = extra;
    int rc = n ? pol_file_load(file, paths, n, err)
               : ert_fail(err, ERT_E_MISSING,
                          "no policies.yaml in " SYSTEM_DATA ", " SYSTEM_CONFIG
                          " or $XDG_CONFIG_HOME/edgert; give one with --policy-file");
    for (size_t i = 0; i < list.n; i++)
        free(list.paths[i]);
    return rc;
}
