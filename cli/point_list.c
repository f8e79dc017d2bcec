#include "cli/point_list.h"

#include <stdlib.h>

static int all_points(struct point_list *list, const struct rt_pack *pack, struct ert_error *err)
{
    list->points = calloc((size_t)RT_N_VARIANTS * pack->n_tiers, sizeof *list->points);
    if (!list->points)
        return ert_fail(err, ERT_E_NOMEM, "out of memory");
    for (unsigned v = 0; v < RT_N_VARIANTS; v++)
        for (unsigned tier = 0; tier < pack->n_tiers; tier++) {
            char name[48];
            if (tier)
                snprintf(name, sizeof name, "%s-r%u", rt_variants[v].name,
                         pack->tiers[tier].rank_percent);
            else
                snprintf(name, sizeof name, "%s", rt_variants[v].name);
            if (rt_point_parse(name, pack, &list->points[list->n], NULL) == 0)
                list->n++;
        }
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
