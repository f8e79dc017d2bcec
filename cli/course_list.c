#include "cli/course_list.h"

#include <stdlib.h>

static int from_points(struct course_list *list, const struct rt_pack *pack,
                       const struct option_list *points, struct ert_error *err)
{
    int rc = point_list_make(&list->points, pack, points, err);
    if (rc)
        return rc;
    list->entries = calloc(list->points.n, sizeof *list->entries);
    list->schedules = calloc(list->points.n, sizeof *list->schedules);
    if (!list->entries || !list->schedules)
        return ert_fail(err, ERT_E_NOMEM, "out of memory");
    for (; list->n < list->points.n; list->n++) {
        list->entries[list->n].point = list->points.points[list->n];
        list->schedules[list->n] = (struct var_schedule){&list->entries[list->n], 1};
    }
    return 0;
}

int course_list_make(struct course_list *list, const struct rt_pack *pack,
                     const struct option_list *points, const char *schedule, struct ert_error *err)
{
    *list = (struct course_list){0};
    if (!schedule)
        return from_points(list, pack, points, err);
    if (points->n)
        return ert_fail(err, ERT_E_USAGE, "--schedule says the points itself, without --point");
    int rc = var_schedule_read(schedule, pack, &list->from_file, err);
    if (rc)
        return rc;
    list->schedules = malloc(sizeof *list->schedules);
    if (!list->schedules)
        return ert_fail(err, ERT_E_NOMEM, "out of memory");
    list->schedules[0] = list->from_file;
    list->n = 1;
    return 0;
}

void course_list_release(struct course_list *list)
{
    var_schedule_release(&list->from_file);
    free(list->schedules);
    free(list->entries);
    free(list->points.points);
    *list = (struct course_list){0};
}

const struct rt_point *course_point(const struct course_list *list, size_t i)
{
    return list->points.n ? &list->points.points[i] : NULL;
}

const char *course_name(const struct course_list *list, size_t i)
{
    return list->points.n ? list->points.points[i].name : "schedule";
}
