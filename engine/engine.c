#include "engine/engine.h"

#include <stdlib.h>
#include <string.h>

#include "engine/ladder.h"
#include "engine/powers.h"

enum { MAX_THREADS = 256 };

static unsigned usable_cpus(const struct cpus *cpus)
{
    return cpus->n > 0 && cpus->n <= MAX_THREADS ? cpus->n : 1;
}

/* ---- the governor's side ------------------------------------------------------------------- */

/* The rung that a state of the ladder in hand runs at. */
static uint32_t runs_as(const struct ert_engine *e, uint32_t state)
{
    return e->ladders[e->ladder]->runs_as[state];
}

static struct planes_rung rung_of(const struct ert_engine *e, uint32_t state,
                                  uint32_t prefill_state)
{
    uint32_t code = rungs_code(e->ladder, runs_as(e, state), runs_as(e, prefill_state));
    bool needs_l = rt_point_needs_l(engine_point(e, code)) ||
                   rt_point_needs_l(engine_point(e, rungs_at_work(code, true)));
    return (struct planes_rung){code, needs_l};
}

static void apply(void *ctx, const struct pol_decision *decision)
{
    struct ert_engine *e = ctx;
    atomic_store(&e->meant[runs_as(e, decision->state)], decision->state);
    planes_want(e->planes, rung_of(e, decision->state, decision->prefill_state),
                decision->release_memory);
}

static void beat(void *ctx, uint64_t deadline_ns)
{
    struct ert_engine *e = ctx;
    uint32_t failsafe = runs_as(e, e->ladders[e->ladder]->policy->failsafe);
    rt_switch_beat(e->sw, deadline_ns, rungs_code(e->ladder, failsafe, failsafe));
}

static int read_policy(struct ert_engine *e, struct rungs **rungs, struct ert_error *err);

static int reload(void *ctx, struct pol_policy *policy, struct ert_error *err)
{
    struct ert_engine *e = ctx;
    struct rungs *fresh = NULL;
    if (e->ladder + 1 == RUNGS_LADDERS)
        return ert_fail(err, ERT_E_FULL, "it was read again %d times: start the program anew",
                        RUNGS_LADDERS - 1);
    int rc = read_policy(e, &fresh, err);
    if (!rc && (rc = use_add_rungs(e, fresh, err)))
        rungs_free(fresh);
    if (rc || !fresh)
        return rc;
    rungs_free(e->pending);
    e->pending = fresh;
    memcpy(policy, fresh->policy, sizeof *policy);
    return 0;
}

static void adopt(void *ctx)
{
    struct ert_engine *e = ctx;
    e->ladders[++e->ladder] = e->pending;
    e->pending = NULL;
}

void engine_tell(struct ert_engine *e, const char *text)
{
    pthread_mutex_lock(&e->lock);
    snprintf(e->notice, sizeof e->notice, "%s", text);
    pthread_mutex_unlock(&e->lock);
    atomic_fetch_add(&e->notices, 1);
}

static void notice(void *ctx, const char *text)
{
    engine_tell(ctx, text);
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

/* The policies as their files have them now. */
static int load_policies(const struct ert_engine *e, struct pol_file **file, struct ert_error *err)
{
    return layers_load_policies(e->sensor_root, e->policy_file, file, err);
}

/* What the energy meter reads; NULL = no memory. The caller frees it. */
static struct pol_policy *battery_sensor(const struct ert_engine *e)
{
    struct pol_file *file = NULL;
    if (load_policies(e, &file, NULL))
        file = NULL;
    struct pol_policy *sensor = powers_battery_sensor(file);
    if (file)
        pol_file_free(file);
    return sensor;
}

/* At a fixed point nothing is decided, but the battery is read. Where it cannot be, its energy is
 * unknown, and that is all. */
static void start_watching(struct ert_engine *e)
{
    struct pol_policy *sensor = battery_sensor(e);
    e->governor = powers_watch_battery(sensor, e->sensor_root);
    free(sensor);
}

static int start_governor(struct ert_engine *e, const struct ert_engine_options *options,
                          struct ert_error *err)
{
    char *replay;
    double speed;
    int rc = parse_sensors(options->sensors, &replay, &speed, err);
    if (rc)
        return rc;
    struct layers_watch watched;
    struct pol_policy *battery = battery_sensor(e);
    struct gov_config config = {
        .policy = e->ladders[0]->policy,
        .battery = battery,
        .sources = {.root = options->sensor_root ? options->sensor_root : "",
                    .replay = replay,
                    .replay_speed = speed},
        .journal = options->journal,
        .journal_bytes = (uint64_t)options->journal_mib << 20,
        .actuator = {.ctx = e,
                     .apply = apply,
                     .beat = beat,
                     .reload = reload,
                     .adopt = adopt,
                     .notice = notice},
    };
    rc = layers_watch_policies(options->policy_file, &watched, err);
    config.watched = watched.watches;
    config.n_watched = watched.n;
    if (!rc)
        rc = gov_start(&e->governor, &config, err);
    layers_watch_release(&watched);
    if (!rc)
        rc = gov_meter_create(&e->spending.meter, replay ? NULL : e->sensor_root, err);
    free(battery);
    free(replay);
    return rc;
}

/* ---- opening ------------------------------------------------------------------------------- */

static int compile_policy(const struct ert_engine *e, struct pol_policy *policy,
                          struct ert_error *err)
{
    struct pol_file *file;
    int rc = load_policies(e, &file, err);
    if (rc)
        return rc;
    struct pol_point *points = calloc(POL_MAX_STATES, sizeof *points);
    rc = points ? pol_compile(file, e->policy_name, points,
                              ladder_from_catalog(e->model->pack, points), policy, err)
                : ert_fail(err, ERT_E_NOMEM, "out of memory for a policy");
    free(points);
    pol_file_free(file);
    if (!rc && !e->replayed)
        gov_take_kernel_trips(e->sensor_root, policy);
    return rc;
}

/* The policy as its files have it now, and its ladder. */
static int read_policy(struct ert_engine *e, struct rungs **rungs, struct ert_error *err)
{
    struct pol_policy *policy = calloc(1, sizeof *policy);
    *rungs = NULL;
    if (!policy)
        return ert_fail(err, ERT_E_NOMEM, "out of memory for a policy");
    int rc = compile_policy(e, policy, err);
    if (!rc)
        powers_apply(policy, e->model->pack->model.name, rt_team_size(e->team));
    if (rc)
        free(policy);
    else
        rc = rungs_of_policy(rungs, policy, e->model->pack, &e->cpus, rt_team_size(e->team), err);
    if (!rc && (rc = ceiling_fit(&e->ceiling, *rungs, err))) {
        rungs_free(*rungs);
        *rungs = NULL;
    }
    return rc;
}

/* What reading again needs. */
static int keep_options(struct ert_engine *e, const struct ert_engine_options *options,
                        struct ert_error *err)
{
    e->policy_name = strdup(options->policy ? options->policy : "balanced");
    e->policy_file = options->policy_file ? strdup(options->policy_file) : NULL;
    e->sensor_root = strdup(options->sensor_root ? options->sensor_root : "");
    e->replayed = options->sensors && strcmp(options->sensors, "live") != 0;
    bool all = e->policy_name && e->sensor_root && !options->policy_file == !e->policy_file;
    return all ? 0 : ert_fail(err, ERT_E_NOMEM, "out of memory for a policy's name");
}

static int fixed_point(struct ert_engine *e, const struct ert_engine_options *options,
                       struct ert_error *err)
{
    if (options->policy || options->policy_file || options->sensors || options->journal)
        return ert_fail(err, ERT_E_USAGE,
                        "a fixed point excludes a policy, its sensors and its journal");
    int rc =
        rungs_of_point(&e->ladders[0], options->point, e->model->pack, rt_team_size(e->team), err);
    return rc ? rc : ceiling_fit(&e->ceiling, e->ladders[0], err);
}

/* The best rung that can run at once: one that waits for no plane to come in, if there is one. */
static uint32_t first_point(const struct ert_engine *e)
{
    uint32_t n = rt_point_table_size(e->ladders[0]->table);
    if (e->ceiling.without_l || rt_pack_resident_l(e->model->pack) > 0.99)
        return runs_as(e, 0);
    for (uint32_t i = 0; i < n; i++) {
        const struct rt_point *point = engine_point(e, rungs_code(0, i, i));
        if (!point->pause && !rt_point_needs_l(point))
            return i;
    }
    return 0;
}

/* The switch, and with a policy what moves it. */
static int start(struct ert_engine *e, const struct ert_engine_options *options,
                 struct ert_error *err)
{
    if (pthread_mutex_init(&e->lock, NULL))
        return ert_fail(err, ERT_E_NOMEM, "out of memory for the engine");
    e->has_lock = true;
    int rc = use_add_rungs(e, e->ladders[0], err);
    uint32_t first = options->point ? 0 : first_point(e);
    e->code = rungs_code(0, first, first);
    for (uint32_t i = 0; i < POL_MAX_STATES; i++)
        atomic_init(&e->meant[i], i);
    if (!rc)
        rc = rt_switch_create(&e->sw, e->ladders[0]->table, e->code, err);
    if (rc)
        return rc;
    rt_switch_idle(e->sw, true);
    if (options->point) {
        start_watching(e);
        return gov_meter_create(&e->spending.meter, e->sensor_root, err);
    }
    rc = planes_create(&e->planes, e->model->pack, e->sw, rung_of(e, first, first), err);
    if (rc)
        return rc;
    if (first != runs_as(e, 0))
        planes_want(e->planes, rung_of(e, 0, 0), false);
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
    e->opened_ns = ert_now_ns();
    e->spending.progress.source = -1;
    cpus_look(&e->cpus, options->sensor_root ? options->sensor_root : "");
    e->where = &e->cpus.usable;
    int rc = options->threads > MAX_THREADS
                 ? ert_fail(&err, ERT_E_RANGE, "%u threads, expected at most %d", options->threads,
                            MAX_THREADS)
                 : rt_team_create(
                       &e->team, options->threads ? options->threads : usable_cpus(&e->cpus), &err);
    const struct rt_session_config talk = {.n_ctx = options->n_ctx,
                                           .cache_bits = options->cache_bits};
    if (!rc)
        rc = ceiling_set(&e->ceiling, options->memory, &talk, model->pack, e->team, &err);
    if (!rc)
        rc = keep_options(e, options, &err);
    if (!rc && options->point)
        rc = fixed_point(e, options, &err);
    if (!rc && !options->point)
        rc = read_policy(e, &e->ladders[0], &err);
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
    gov_meter_free(e->spending.meter);
    int rc = e->governor ? gov_stop(e->governor, &err) : 0;
    planes_free(e->planes);
    if (e->sw)
        rt_switch_free(e->sw);
    for (size_t i = 0; i < RUNGS_LADDERS; i++)
        rungs_free(e->ladders[i]);
    rungs_free(e->pending);
    rt_team_free(e->team);
    if (e->has_lock)
        pthread_mutex_destroy(&e->lock);
    free(e->use);
    free(e->policy_name);
    free(e->policy_file);
    free(e->sensor_root);
    free(e);
    return rc ? engine_failed(why, &err) : 0;
}

void ert_reload(struct ert_engine *e)
{
    if (e->governor)
        gov_reload(e->governor);
}
