/* describe: the META section of a pack, without its catalog. */
#ifndef VAR_DESCRIBE_H
#define VAR_DESCRIBE_H

#include <jansson.h>

#include "variants/arrange.h"

/* *meta is the caller's to json_decref; NULL on failure. */
int var_describe(json_t **meta, const struct var_source *src, const struct var_arrangement *a,
                 const struct var_build_options *options, struct ert_error *err);

#endif
