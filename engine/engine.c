#include "engine/engine.h"

#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "engine/ladder.h"

enum { MAX_THREADS = 256 };

static unsigned usable_cpus(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set))
        return 1;
    int n = CPU_COUNT(&set);
    return n > 0 && n <= MAX_THREADS ? (unsigned)n : 1;
}

/* ---- the governor's side ------------------------------------------------------------------- */

static void apply(void *ctx, const struct pol_decision *decision)
{
    struct ert_engine *e = ctx;
    planes_want(e->planes, decision->state, decision->release_memory);
}

static void beat(void *ctx, uint64_t deadline_ns)
{
    struct ert_engine *e = ctx;
    rt_switch_beat(e->sw, deadline_ns, e->policy->failsafe);
}

/* "replay:FILE[@SPEED]" or "live". *file is the caller's to free. */
static int parse_sensors(const char *text, char **file, double *speed, struct ert_error *err)
{
    static const char prefix[] = "replay:";
    *file = NULL;
    *speed = 1;
    if (!text || !strcmp(text, "live"))
        return 0;
    if (strncmp(text, prefix, sizeof prefix - 1) != 0 || !text[sizeof prefix - 1])
        return ert_fail(err, ERT_E_USAGE,
                        "sensors '%s': expected live, replay:FILE or replay:FILE@SPEED", text);
    *file = strdup(text + sizeof prefix - 1);
    if (!*file)
        return ert_fail(err, ERT_E_NOMEM, "out of memory for a path");
    char *at = strrchr(*file, '@');
    if (!at || ert_parse_double(at + 1, speed, NULL))
        return 0;
    *at = '\0';
    if (*speed > 0)
        return 0;
    free(*file);
    *file = NULL;
    return ert_fail(err, ERT_E_RANGE, "sensors '%s': the speed must be above 0", text);
}

static int start_governor(struct ert_engine *e, const struct ert_engine_options *options,
                          struct ert_error *err)
{
    char *replay;
    double speed;
    int rc = parse_sensors(options->sensors, &replay, &speed, err);
    if (rc)
        return rc;
    struct gov_config config = {
        .policy = e->policy,
        .sources = {.root = options->sensor_root ? options->sensor_root : "",
                    .replay = replay,
                    .replay_speed = speed},
        .journal = options->journal,
        .journal_bytes = (uint64_t)options->journal_mib << 20,
        .actuator = {.ctx = e, .apply = apply, .beat = beat},
    };
    rc = gov_start(&e->governor, &config, err);
    free(replay);
    return rc;
}

/* ---- opening ------------------------------------------------------------------------------- */

static int compile_policy(struct ert_engine *e, const struct ert_engine_options *options,
                          struct ert_error *err)
{
    struct pol_file *file;
    int rc = layers_load_policies(options->sensor_root, options->policy_file, &file, err);
    if (rc)
        return rc;
    struct pol_point *rungs = calloc(POL_MAX_STATES, sizeof *rungs);
    e->policy = calloc(1, sizeof *e->policy);
    if (rungs && e->policy)
        rc = pol_compile(file, options->policy ? options->policy : "balanced", rungs,
                         ladder_from_catalog(e->model->pack, rungs), e->policy, err);
    else
        rc = ert_fail(err, ERT_E_NOMEM, "out of memory for a policy");
    free(rungs);
    pol_file_free(file);
    return rc;
}

static int fixed_point(struct ert_engine *e, const struct ert_engine_options *options,
                       struct ert_error *err)
{
    if (options->policy || options->policy_file || options->sensors || options->journal)
        return ert_fail(err, ERT_E_USAGE,
                        "a fixed point excludes a policy, its sensors and its journal");
    struct pol_point rung = {0};
    if (!strcmp(options->point, "pause"))
        return ert_fail(err, ERT_E_USAGE, "a fixed point 'pause' would never say a word");
    snprintf(rung.name, sizeof rung.name, "%s", options->point);
    snprintf(rung.point, sizeof rung.point, "%s", options->point);
    return ladder_resolve(e->model->pack, &rung, 1, rt_team_size(e->team), &e->table, err);
}

/* The best rung that can run at once: one that waits for no plane to come in, if there is one. */
static uint32_t first_point(const struct ert_engine *e)
{
    uint32_t n = rt_point_table_size(e->table);
    if (rt_pack_resident_l(e->model->pack) > 0.99)
        return 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct rt_point *point = rt_point_at(e->table, i);
        if (!point->pause && !rt_point_needs_l(point))
            return i;
    }
    return 0;
}

static int create_use(struct ert_engine *e, struct ert_error *err)
{
    uint32_t n = rt_point_table_size(e->table);
    e->use = calloc(n, sizeof *e->use);
    if (!e->use || pthread_mutex_init(&e->lock, NULL))
        return ert_fail(err, ERT_E_NOMEM, "out of memory for the engine");
    e->has_lock = true;
    for (uint32_t i = 0; i < n; i++)
        snprintf(e->use[i].point, sizeof e->use[i].point, "%s", rt_point_at(e->table, i)->name);
    return 0;
}

/* The switch, and with a policy what moves it. */
static int start(struct ert_engine *e, const struct ert_engine_options *options,
                 struct ert_error *err)
{
    int rc = create_use(e, err);
    e->index = e->policy ? first_point(e) : 0;
    if (!rc)
        rc = rt_switch_create(&e->sw, e->table, e->index, err);
    if (rc)
        return rc;
    rt_switch_idle(e->sw, true);
    if (!e->policy)
        return 0;
    rc = planes_create(&e->planes, e->model->pack, e->sw, e->index, err);
    if (rc)
        return rc;
    if (e->index != 0)
        planes_want(e->planes, 0, false);
    return start_governor(e, options, err);
}

int ert_engine_open(struct ert_engine **out, struct ert_model *model,
                    const struct ert_engine_options *options, struct ert_failure *why)
{
    struct ert_error err = {0};
    struct ert_engine *e = calloc(1, sizeof *e);
    *out = NULL;
    if (!e) {
        ert_fail(&err, ERT_E_NOMEM, "out of memory for an engine");
        return engine_failed(why, &err);
    }
    e->model = model;
    e->power_w = NAN;
    e->opened_ns = ert_now_ns();
    int rc =
        options->threads > MAX_THREADS
            ? ert_fail(&err, ERT_E_RANGE, "%u threads, expected at most %d", options->threads,
                       MAX_THREADS)
            : rt_team_create(&e->team, options->threads ? options->threads : usable_cpus(), &err);
    if (!rc && options->point)
        rc = fixed_point(e, options, &err);
    else if (!rc)
        rc = compile_policy(e, options, &err);
    if (!rc && e->policy)
        rc = ladder_resolve(model->pack, e->policy->states, e->policy->n_states,
                            rt_team_size(e->team), &e->table, &err);
    if (!rc)
        rc = start(e, options, &err);
    if (rc) {
        ert_engine_close(e, NULL);
        return engine_failed(why, &err);
    }
    *out = e;
    return 0;
}

int ert_engine_close(struct ert_engine *e, struct ert_failure *why)
{
    struct ert_error err = {0};
    if (!e)
        return 0;
    int rc = e->governor ? gov_stop(e->governor, &err) : 0;
    planes_free(e->planes);
    if (e->sw)
        rt_switch_free(e->sw);
    if (e->table)
        rt_point_table_unref(e->table);
    rt_team_free(e->team);
    if (e->has_lock)
        pthread_mutex_destroy(&e->lock);
    free(e->use);
    free(e->policy);
    free(e);
    return rc ? engine_failed(why, &err) : 0;
}
