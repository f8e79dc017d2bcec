/* layers: where files are found. Models, and policies with their layers. */
#ifndef ERT_LAYERS_H
#define ERT_LAYERS_H

#include "governor/governor.h"

/* $XDG_DATA_HOME/edgert/NAME (default ~/.local/share). *path is the caller's to free. */
int layers_data_path(const char *name, char **path, struct ert_error *err);

/* The pack that ert_model_open means by `name` (NULL = "default"). ERT_E_MISSING says where it
 * looked. *path is the caller's to free. */
int layers_find_model(const char *name, char **path, struct ert_error *err);

/* The policies of all layers, extra (may be NULL) on top, over what devices.d has of the machine
 * under root ("" or NULL = this one). */
int layers_load_policies(const char *root, const char *extra, struct pol_file **file,
                         struct ert_error *err);

/* Where a change of the policies would be seen; extra as above. watched is released in any case. */
enum { LAYERS_WATCHES = 10 };
struct layers_watch {
    size_t n;
    struct gov_watch watches[LAYERS_WATCHES]; /* folders and patterns are owned */
};
int layers_watch_policies(const char *extra, struct layers_watch *watched, struct ert_error *err);
void layers_watch_release(struct layers_watch *watched);

#endif
