#include "cli/point_list.h"

#include <stdlib.h>

static int all_points(struct point_list *list, const struct rt_pack *pack, struct ert_error *err)
{
    list->points = calloc((size_t)RT_N_VARIANTS * pack->n_tiers, sizeof *list->points);
    if (!list->points)
        return ert_fail(err, ERT_E_NOMEM, "out of memory");
    while (rt_point_to_measure(pack, (uint32_t)list->n, &list->points[list->n]))
        list->n++;
    return 0;
}

int point_list_make(struct point_list *list, const struct rt_pack *pack,
                    const struct option_list *names, struct ert_error *err)
{
    *list = (struct point_list){0};
    if (names->n == 0)
        return all_points(list, pack, err);
    list->points = calloc(names->n, sizeof *list->points);
    if (!list->points)
        return ert_fail(err, ERT_E_NOMEM, "out of memory");
    for (; list->n < names->n; list->n++) {
        struct rt_point *point = &list->points[list->n];
        int rc = rt_point_parse(names->items[list->n], pack, point, err);
        if (!rc && point->pause)
            rc = ert_fail(err, ERT_E_USAGE, "pause computes nothing");
        if (rc)
            return rc;
    }
    return 0;
}
