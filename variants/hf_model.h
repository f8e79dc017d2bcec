/* hf_model: a Hugging Face folder: config.json, safetensors, tokenizer.json. Inner parts of
 * var_source_read_hf. */
#ifndef VAR_HF_MODEL_H
#define VAR_HF_MODEL_H

#include <jansson.h>

#include "variants/architecture.h"
#include "variants/safetensors.h"

/* What the functions pass along. */
struct hf_reader {
    struct var_source *src; /* path is the folder */
    struct ert_error *err;
    const struct var_architecture *architecture; /* known after hf_read_config */
    json_t *config;                              /* config.json */
    json_t *generation;                          /* generation_config.json, or NULL */
    struct st_table tensors;
    char **shards; /* [src->n_maps] paths */
};

/* The path of a file of the folder, for the caller to free; NULL where there is no memory. */
char *hf_path(const struct hf_reader *r, const char *name);
bool hf_has_file(const char *path);
/* Reads a JSON object; *out is the caller's to json_decref. A file that is not there leaves NULL,
 * which is an error where it is needed. */
int hf_read_json(const struct hf_reader *r, const char *name, bool needed, json_t **out);

/* hf_config.c: config.json to src->model and src->rope_factors. */
int hf_read_config(struct hf_reader *r);
int hf_read_rope(struct hf_reader *r); /* after var_source_check_model */

/* hf_tokenizer.c: tokenizer.json, tokenizer_config.json, chat_template.jinja and the special ids to
 * src->vocab, src->store and src->chat_template. */
int hf_read_tokenizer(struct hf_reader *r);

#endif
