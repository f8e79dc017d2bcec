#include "cli/bench.h"

#include <math.h>

int bench_memory(const struct rt_pack *pack, const struct rt_point *point, json_t *memory,
                 struct ert_error *err)
{
    const struct rt_catalog_row *row = rt_pack_catalog_row(pack, point->variant, point->tier);
    double catalog = row ? row->resident_bytes : NAN;
    uint64_t with = 0, without = 0;
    int rc = ert_resident_bytes(&with, err);
    if (!rc)
        rc = rt_pack_unmap(pack, err);
    if (!rc)
        rc = ert_resident_bytes(&without, err);
    if (rc)
        return rc;
    uint64_t weights = with > without ? with - without : 0;
    json_array_append_new(
        memory, json_pack("{s:s, s:I, s:I, s:o}", "point", point->name, "resident_bytes",
                          (json_int_t)with, "weights_bytes", (json_int_t)weights, "catalog_bytes",
                          isnan(catalog) ? json_null() : json_integer((json_int_t)catalog)));
    return 0;
}
