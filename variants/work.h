/* work: the folder beside a pack that is being built, PACK.build. What each stage made lies there,
 * so that a build that was stopped, killed or cut off goes on where it was. Every file appears by a
 * rename, with a checksum of what it holds; what fails it counts as missing. */
#ifndef VAR_WORK_H
#define VAR_WORK_H

#include "variants/variants.h"

struct var_work {
    char *folder;
    int lock;     /* held as long as the folder is open: one build at a time */
    bool resumed; /* an earlier build of the same key left something */
};

/* Opens PACK.build, or makes it. key names all that the pack depends on: a folder of another key is
 * emptied, and notice told. ERT_E_USAGE where another build holds it, or where the folder is no
 * build's. */
int var_work_open(struct var_work *w, const char *output, const char *key,
                  const struct var_notice *notice, struct ert_error *err);
/* Leaves everything for the next build. Harmless on {.lock = -1} and after var_work_remove. */
void var_work_close(struct var_work *w);
/* The build is done: the folder goes. What cannot be removed stays. */
void var_work_remove(struct var_work *w);

/* The path of a file in the folder, the caller's to free; NULL without memory. */
char *var_work_path(const struct var_work *w, const char *name);

/* A file on its way. */
struct var_work_file {
    const struct var_work *work;
    char *path, *part; /* its name, and the name it has until then */
    FILE *file;        /* stands behind the header */
};

/* Begins a file; what the caller writes to f->file appears under `name` by commit, or never. Both
 * calls leave nothing open or allocated on failure; abort is harmless after commit. */
int var_work_begin(struct var_work_file *f, const struct var_work *w, const char *name,
                   struct ert_error *err);
int var_work_commit(struct var_work_file *f, struct ert_error *err);
void var_work_abort(struct var_work_file *f);
/* The sentence for a write to the folder that failed: ERT_E_FULL or ERT_E_IO. */
int var_work_fail_write(const struct var_work *w, struct ert_error *err);

/* What a file holds: map is the whole file, data and size without the header. */
struct var_work_data {
    struct ert_map map;
    const uint8_t *data;
    size_t size;
};

/* Opens a file and checks it; false where it is missing or damaged, *d is empty then. */
bool var_work_load(struct var_work_data *d, const struct var_work *w, const char *name);
void var_work_release(struct var_work_data *d);

/* Removes a file, if it is there. */
void var_work_drop(const struct var_work *w, const char *name);

/* Both in one: a file that holds n bytes. */
int var_work_save(const struct var_work *w, const char *name, const void *data, size_t n,
                  struct ert_error *err);

#endif
