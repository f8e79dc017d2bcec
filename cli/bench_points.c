#include "cli/bench.h"

#include <math.h>
#include <stdlib.h>

#include "engine/layers.h"
#include "engine/powers.h"

#define NS_PER_S 1e9

struct bench_rate bench_rate_of(const double *values, size_t n)
{
    struct bench_rate rate = {0, 0};
    for (size_t i = 0; i < n; i++)
        rate.tok_s += values[i] / (double)n;
    for (size_t i = 0; i < n && n > 1; i++)
        rate.sd += (values[i] - rate.tok_s) * (values[i] - rate.tok_s) / (double)(n - 1);
    rate.sd = sqrt(rate.sd);
    return rate;
}

struct bench_meter;

struct subject {
    const struct bench_meter *meter;
    struct rt_session *session;
    const int32_t *ids;
    const struct rt_point *point;
    uint32_t depth; /* tokens in the cache before the first that counts */
    unsigned threads;
};

/* Feeds n tokens at the depth, all at once or one by one; tokens per second. */
static int time_tokens(const struct subject *it, uint32_t n, bool decode, double *tok_s,
                       struct ert_error *err)
{
    struct rt_session *s = it->session;
    const int32_t *ids = it->ids + it->depth;
    int rc = 0;
    rt_session_rewind(s, it->depth);
    uint64_t begin = ert_now_ns();
    if (!decode)
        rc = rt_session_feed(s, ids, n, NULL, NULL, NULL, err);
    for (uint32_t i = 0; decode && !rc && i < n; i++)
        rc = rt_session_feed(s, &ids[i], 1, NULL, NULL, NULL, err);
    *tok_s = (double)n * NS_PER_S / (double)(ert_now_ns() - begin);
    return rc;
}

/* The energy of what is timed. */
struct bench_meter {
    struct gov_meter *meter;
    struct gov_governor *battery; /* NULL = it cannot be read */
};

static int open_meter(struct bench_meter *m, struct ert_error *err)
{
    struct pol_file *file = NULL;
    if (layers_load_policies(NULL, NULL, &file, NULL))
        file = NULL;
    struct pol_policy *sensor = powers_battery_sensor(file);
    *m = (struct bench_meter){.battery = powers_watch_battery(sensor, "")};
    free(sensor);
    if (file)
        pol_file_free(file);
    return gov_meter_create(&m->meter, "", err);
}

static void close_meter(struct bench_meter *m)
{
    gov_meter_free(m->meter);
    gov_stop(m->battery, NULL);
}

/* Adds what was spent since gov_meter_begin or the last call. */
static void take_energy(const struct bench_meter *m, struct gov_energy *spent)
{
    struct gov_battery battery;
    if (m->battery)
        gov_get_battery(m->battery, &battery);
    gov_meter_take(m->meter, m->battery ? &battery : NULL, NAN, spent);
}

/* Sets what is known of the power: of one source, and of all the time. */
static void put_power(json_t *row, const struct gov_energy *spent, double tokens)
{
    for (enum gov_energy_source i = 0; i < GOV_ENERGY_SOURCES; i++) {
        bool all = spent->seconds[i] > 0 && spent->unknown_s == 0;
        for (enum gov_energy_source k = 0; k < GOV_ENERGY_SOURCES; k++)
            all = all && (k == i || spent->seconds[k] == 0);
        if (!all)
            continue;
        json_object_set_new(row, "power_w", json_real(spent->joules[i] / spent->seconds[i]));
        json_object_set_new(row, "j_per_token", json_real(spent->joules[i] / tokens));
        json_object_set_new(row, "energy_source", json_string(gov_energy_name(i)));
    }
}

static int measure(const struct subject *it, const char *test, uint32_t n, uint32_t repeats,
                   json_t *results, struct ert_error *err)
{
    bool decode = test[0] == 'd';
    double *rates = calloc(repeats, sizeof *rates), warm;
    if (!rates)
        return ert_fail(err, ERT_E_NOMEM, "out of memory");
    rt_session_set_point(it->session, it->point);
    int rc = time_tokens(it, n < 8 ? n : 8, decode, &warm, err);
    gov_meter_begin(it->meter->meter);
    struct gov_energy spent = {0};
    for (uint32_t i = 0; !rc && i < repeats; i++) {
        rc = time_tokens(it, n, decode, &rates[i], err);
        take_energy(it->meter, &spent);
    }
    struct bench_rate rate = bench_rate_of(rates, repeats);
    free(rates);
    if (rc)
        return rc;
    json_t *row =
        json_pack("{s:s, s:s, s:i, s:i, s:i, s:f, s:f, s:n, s:n, s:n}", "point", it->point->name,
                  "test", test, "n", (int)n, "depth", (int)it->depth, "threads", (int)it->threads,
                  "tok_s", rate.tok_s, "sd", rate.sd, "power_w", "j_per_token", "energy_source");
    put_power(row, &spent, (double)n * repeats);
    json_array_append_new(results, row);
    return 0;
}

/* Both tests at a point, and then what it has in memory: nothing that an earlier one read. */
static int measure_point(const struct subject *it, const struct rt_pack *pack,
                         const struct bench_config *config, json_t *results, json_t *memory,
                         struct ert_error *err)
{
    int rc = rt_pack_unmap(pack, err);
    if (!rc && config->n_prompt)
        rc = measure(it, "prefill", config->n_prompt, config->repeats, results, err);
    if (!rc && config->n_decode)
        rc = measure(it, "decode", config->n_decode, config->repeats, results, err);
    if (!rc && (config->n_prompt || config->n_decode))
        rc = bench_memory(pack, it->point, memory, err);
    return rc;
}

int bench_points(const struct workbench *bench, const struct point_list *points,
                 const struct bench_config *config, json_t *results, json_t *memory,
                 struct ert_error *err)
{
    uint32_t most = config->n_prompt > config->n_decode ? config->n_prompt : config->n_decode;
    uint32_t n_ids = config->depth + most;
    struct rt_session_config sizes = {.n_ctx = n_ids, .cache_bits = config->cache_bits};
    struct rt_session *session = NULL;
    struct bench_meter meter;
    int32_t *ids = calloc(n_ids, sizeof *ids);
    if (!ids)
        return ert_fail(err, ERT_E_NOMEM, "out of memory");
    int rc = open_meter(&meter, err);
    if (!rc)
        rc = rt_session_create(&session, bench->pack, bench->team, &sizes, err);
    for (uint32_t i = 0; !rc && i < n_ids; i++)
        ids[i] = (int32_t)(i * 2654435761u % bench->pack->model.n_vocab);
    if (!rc && config->depth)
        rc = rt_session_feed(session, ids, config->depth, NULL, NULL, NULL, err);
    for (size_t i = 0; !rc && i < points->n; i++) {
        struct subject it = {
            &meter, session, ids, &points->points[i], config->depth, rt_team_size(bench->team)};
        rc = measure_point(&it, bench->pack, config, results, memory, err);
    }
    if (session)
        rt_session_free(session);
    close_meter(&meter);
    free(ids);
    return rc;
}
