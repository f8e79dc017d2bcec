/* point_list: the points that --point names, or those of a pack that are measured. */
#ifndef ERT_POINT_LIST_H
#define ERT_POINT_LIST_H

#include "cli/options.h"
#include "runtime/runtime.h"

struct point_list {
    struct rt_point *points; /* released by free() */
    size_t n;
};

/* Points of names; if there are none, those of rt_point_to_measure. */
int point_list_make(struct point_list *list, const struct rt_pack *pack,
                    const struct option_list *names, struct ert_error *err);

#endif
