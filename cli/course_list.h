/* course_list: what eval runs: points, each all along, or the one schedule of a file. */
#ifndef ERT_COURSE_LIST_H
#define ERT_COURSE_LIST_H

#include "cli/point_list.h"
#include "variants/variants.h"

struct course_list {
    size_t n;
    struct var_schedule *schedules; /* [n] */
    struct point_list points;       /* of each course; empty for a file's schedule */
    struct var_schedule_entry *entries;
    struct var_schedule from_file;
};

/* schedule: a file, which excludes points, or NULL; without either it is all points of the pack.
 * Release in any case. */
int course_list_make(struct course_list *list, const struct rt_pack *pack,
                     const struct option_list *points, const char *schedule, struct ert_error *err);
void course_list_release(struct course_list *list);

/* The point of course i, NULL for a schedule; and its name, "schedule" for one. */
const struct rt_point *course_point(const struct course_list *list, size_t i);
const char *course_name(const struct course_list *list, size_t i);

#endif
