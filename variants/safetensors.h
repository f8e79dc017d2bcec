/* safetensors: the container (github.com/huggingface/safetensors, README): a length, a JSON header,
 * the tensors' bytes. A model may be spread over several files. Everything is checked against the
 * files' sizes before it is used; what the tensors mean is hf_model.c's business. */
#ifndef VAR_SAFETENSORS_H
#define VAR_SAFETENSORS_H

#include "base/base.h"

enum { ST_MAX_DIMS = 4 };

struct st_tensor {
    char *name;
    const char *path; /* of its file, for errors */
    const struct st_type *type;
    uint32_t n_dims;
    uint64_t dims[ST_MAX_DIMS];
    uint64_t begin, end; /* in the file's data */
    const uint8_t *data;
    bool used; /* the model took it */
};

struct st_type {
    const char *name;
    uint32_t bits;
};

struct st_table {
    struct st_tensor *tensors; /* [n], sorted by name once all files are in */
    size_t n, room;
};

/* Adds the tensors of a mapped file; path and map must outlive the table. */
int st_add_file(struct st_table *t, const char *path, const struct ert_map *map,
                struct ert_error *err);
/* Sorts by name; a name in two files is an error. */
int st_sort(struct st_table *t, struct ert_error *err);
struct st_tensor *st_find(const struct st_table *t, const char *name); /* or NULL; sorted tables */
void st_release(struct st_table *t);

#endif
