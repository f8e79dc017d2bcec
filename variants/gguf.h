/* gguf: the container, version 3: typed key-values and a table of tensors, all of it checked
 * against the file's size before it is used. What the keys mean is gguf_model.c's business. */
#ifndef VAR_GGUF_H
#define VAR_GGUF_H

#include "base/base.h"

enum gguf_kind {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_N_KINDS
};

/* Bytes of the file, not NUL-terminated. */
struct gguf_text {
    const char *text;
    size_t n;
};

struct gguf_value {
    struct gguf_text key;
    enum gguf_kind kind; /* of the value, or of an array's elements */
    bool array;
    uint64_t count;      /* elements of an array, else 1 */
    const uint8_t *data; /* elements; of strings: u64 length and bytes, one after the other */
    uint64_t offset;     /* of data in the file, for errors */
};

enum { GGUF_MAX_DIMS = 4 };

struct gguf_tensor {
    struct gguf_text name;
    uint32_t n_dims;
    uint64_t dims[GGUF_MAX_DIMS]; /* dims[0] is the row length */
    uint32_t type;                /* GGUF's number */
    uint64_t offset;              /* in the tensor data */
    bool used;                    /* the model took it */
};

struct gguf_file {
    const char *path;
    const uint8_t *data;
    size_t size;
    struct gguf_value *values; /* [n_values], sorted by key */
    uint64_t n_values;
    struct gguf_tensor *tensors; /* [n_tensors], sorted by name */
    uint64_t n_tensors;
    uint64_t data_offset; /* where tensor data starts */
    uint32_t alignment;
};

/* Reads the tables of a mapped file; path and data must outlive f. On failure nothing is left. */
int gguf_open(struct gguf_file *f, const char *path, const void *data, size_t size,
              struct ert_error *err);
void gguf_close(struct gguf_file *f);

const struct gguf_value *gguf_find(const struct gguf_file *f, const char *key); /* or NULL */
struct gguf_tensor *gguf_find_tensor(const struct gguf_file *f, const char *name);

/* The next string of an array of strings, from *cursor (start with value->data); the reader has
 * checked all of them. */
struct gguf_text gguf_next_text(const uint8_t **cursor);

#endif
