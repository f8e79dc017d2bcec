/* catalog: what each point of a pack costs, in bytes and in quality, for its META. */
#ifndef VAR_CATALOG_H
#define VAR_CATALOG_H

#include "variants/measure.h"

/* Measures every point of a pack (each variant at each tier) against the source. *catalog is the
 * array that docs/pack-format.md describes, the caller's to decref; NULL on failure. ERT_E_CHECK
 * names a point without a finite perplexity. */
int var_catalog_measure(json_t **catalog, const struct rt_pack *pack,
                        const struct var_windows *windows, const struct var_reference *reference,
                        struct rt_team *team, const struct ert_progress *progress,
                        struct ert_error *err);

#endif
