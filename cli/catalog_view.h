/* catalog_view: a pack's catalog for people, as a table and as a chart. */
#ifndef ERT_CATALOG_VIEW_H
#define ERT_CATALOG_VIEW_H

#include "runtime/runtime.h"

/* On stdout: every point with all its columns, and KL against bytes per token. ERT_E_NOMEM. */
int catalog_print(const struct rt_pack *pack, struct ert_error *err);
/* The chart alone, as an SVG file. ERT_E_MISSING without a catalog. */
int catalog_plot(const struct rt_pack *pack, const char *path, struct ert_error *err);

#endif
