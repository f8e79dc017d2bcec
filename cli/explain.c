#include "cli/explain.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/policy_source.h"
#include "cli/what_if.h"
#include "engine/ladder.h"
#include "engine/layers.h"
#include "governor/governor.h"

#define MB 1e6

struct explanation {
    struct pol_policy *policy;
    struct rt_pack *pack;          /* NULL = none at hand */
    struct pol_what_if *what_if;   /* NULL = nobody asks */
    bool by_kernel[POL_MAX_TRIPS]; /* the threshold is this machine's kernel's */
};

/* What the catalog says of a state's point; NULL for a pause or without a row. */
static const struct rt_catalog_row *cost_of(const struct explanation *x, size_t state)
{
    const struct pol_point *rung = &x->policy->states[state];
    struct rt_point point;
    if (!x->pack || rung->pause || rt_point_parse(rung->point, x->pack, &point, NULL))
        return NULL;
    return rt_pack_catalog_row(x->pack, point.variant, point.tier);
}

static bool asks_for(const struct pol_trip *trip, size_t state)
{
    return state >= trip->lowest && state <= trip->highest;
}

/* ---- JSON ---------------------------------------------------------------------------------- */

static json_t *number_or_null(double value)
{
    return isnan(value) ? json_null() : json_real(value);
}

static json_t *describe_cost(const struct rt_catalog_row *row)
{
    if (!row)
        return json_null();
    return json_pack("{s:I, s:f, s:o, s:b}", "bytes_per_token", (json_int_t)row->bytes_per_token,
                     "kld", row->kld, "ppl_ratio", number_or_null(row->ppl_ratio), "dominated",
                     row->dominated);
}

static json_t *describe_state(const struct explanation *x, size_t i)
{
    const struct pol_policy *p = x->policy;
    const struct pol_point *rung = &p->states[i];
    json_t *trips = json_array();
    for (size_t t = 0; t < p->n_trips; t++)
        if (asks_for(&p->trips[t], i))
            json_array_append_new(trips, json_string(p->trips[t].name));
    return json_pack("{s:s, s:s, s:i, s:f, s:o, s:o}", "name", rung->name, "point", rung->point,
                     "threads", (int)rung->threads, "tokens_per_second", rung->tokens_per_second,
                     "cost", describe_cost(cost_of(x, i)), "trips", trips);
}

static int print_json(const struct explanation *x)
{
    json_t *states = json_array();
    for (size_t i = 0; i < x->policy->n_states; i++)
        json_array_append_new(states, describe_state(x, i));
    json_t *pack = x->pack ? json_string(x->pack->path) : json_null();
    json_t *what_if = x->what_if ? what_if_json(x->policy, x->what_if) : json_null();
    return cli_print_json(json_pack("{s:s, s:o, s:o, s:i, s:o}", "policy", x->policy->name, "pack",
                                    pack, "states", states, "failsafe", (int)x->policy->failsafe,
                                    "what_if", what_if),
                          JSON_COMPACT);
}

/* ---- words --------------------------------------------------------------------------------- */

static void print_cost(const struct rt_catalog_row *row)
{
    char ratio[16] = "-";
    if (!row) {
        printf(" %9s %8s %9s", "-", "-", "-");
        return;
    }
    if (!isnan(row->ppl_ratio))
        snprintf(ratio, sizeof ratio, "x%.3f", row->ppl_ratio);
    printf(" %9.1f %8.4f %9s", row->bytes_per_token / MB, row->kld, ratio);
}

static void print_state(const struct explanation *x, size_t i)
{
    const struct pol_policy *p = x->policy;
    const char *comma = "  ";
    printf("%2zu  %-22s", i, p->states[i].name);
    print_cost(cost_of(x, i));
    for (size_t t = 0; t < p->n_trips; t++)
        if (asks_for(&p->trips[t], i)) {
            printf("%s%s", comma, p->trips[t].name);
            comma = ", ";
        }
    putchar('\n');
}

static void print_trip(const struct explanation *x, size_t i)
{
    const struct pol_policy *p = x->policy;
    const struct pol_trip *trip = &p->trips[i];
    const struct pol_sensor *sensor = &p->sensors[trip->sensor];
    const char *unit = ert_unit_name(sensor->signal->unit);
    double clear = trip->threshold + (trip->above ? -trip->hysteresis : trip->hysteresis);
    printf("%s: %s %s %g%s", trip->name, sensor->name, trip->above ? "above" : "below",
           trip->threshold, unit);
    if (x->by_kernel[i])
        printf(" (the kernel's trip: %s)", pol_kernel_trip_name(trip->kernel));
    if (trip->for_s > 0)
        printf(" for %gs", trip->for_s);
    if (trip->when_discharging)
        fputs(" while discharging", stdout);
    if (trip->lowest == trip->highest)
        printf(" asks for state %u", trip->lowest);
    else if (trip->governor == POL_BANG_BANG)
        printf(" asks for state %u at once", trip->highest);
    else
        printf(" asks for state %u, and one worse a poll up to %u", trip->lowest, trip->highest);
    printf("; it is over at %g%s\n", clear, unit);
}

static void print_words(const struct explanation *x)
{
    const struct pol_policy *p = x->policy;
    printf("%s: a decision every %gs; %gs pass before a worse state, %gs before a better one; when "
           "no decision comes, %s\n\n",
           p->name, p->poll_s, p->dwell_down_s, p->dwell_up_s, p->states[p->failsafe].name);
    printf("    %-22s %9s %8s %9s  asked for by\n", "state", "MB/token", "KL", "ppl");
    for (size_t i = 0; i < p->n_states; i++)
        print_state(x, i);
    if (x->pack)
        printf("costs by the catalog of %s; ppl is over the source's\n", x->pack->path);
    putchar('\n');
    for (size_t t = 0; t < p->n_trips; t++)
        print_trip(x, t);
    if (x->what_if)
        what_if_print(p, x->what_if);
}

/* ---- all of it ----------------------------------------------------------------------------- */

static int open_pack(struct explanation *x, const char *model, struct ert_error *err)
{
    char *path;
    int rc = layers_find_model(model, &path, err);
    if (rc == -ERT_E_MISSING && !model)
        return 0;
    if (!rc) {
        rc = rt_pack_open(&x->pack, path, err);
        free(path);
    }
    return rc;
}

/* As a run on this machine would. */
static void take_kernel_trips(struct explanation *x)
{
    struct pol_policy *p = x->policy;
    double told[POL_MAX_TRIPS] = {0};
    for (size_t i = 0; i < p->n_trips; i++)
        told[i] = p->trips[i].threshold;
    gov_take_kernel_trips("", p);
    for (size_t i = 0; i < p->n_trips; i++)
        x->by_kernel[i] = p->trips[i].threshold < told[i];
}

static int compile(struct explanation *x, const char *name, const char *policy_file,
                   struct ert_error *err)
{
    struct pol_file *file = NULL;
    struct pol_point rungs[POL_MAX_STATES];
    size_t n = x->pack ? ladder_from_catalog(x->pack, rungs) : 0;
    int rc = layers_load_policies(NULL, policy_file, &file, err);
    if (!rc)
        rc = n ? pol_compile(file, name, rungs, n, x->policy, err)
               : policy_source_compile(file, name, x->policy, err);
    if (file)
        pol_file_free(file);
    if (!rc)
        take_kernel_trips(x);
    return rc;
}

static int imagine(struct explanation *x, const struct option_list *readings, struct ert_error *err)
{
    struct dev_reading given[POL_MAX_SENSORS];
    if (readings->n == 0)
        return 0;
    int rc = what_if_read(x->policy, readings, given, err);
    if (rc)
        return rc;
    x->what_if = malloc(sizeof *x->what_if);
    if (!x->what_if)
        return ert_fail(err, ERT_E_NOMEM, "out of memory");
    return pol_what_if(x->policy, given, x->what_if, err);
}

static void say_what_is_unknown(const struct rt_pack *pack)
{
    if (!pack)
        fputs("no model is at hand, so what the states cost is not known; -m PACK names one\n",
              stderr);
    else if (!pack->n_catalog)
        fprintf(stderr, "%s has no catalog, so what the states cost is not known\n", pack->path);
}

int explain_policy(const char *name, const char *policy_file, const char *model,
                   const struct option_list *readings, bool json)
{
    struct explanation x = {.policy = malloc(sizeof *x.policy)};
    struct ert_error err;
    int status = CLI_OK;
    if (!x.policy)
        return cli_fail(ERT_E_NOMEM, "out of memory");
    if (open_pack(&x, model, &err) || compile(&x, name ? name : "balanced", policy_file, &err) ||
        imagine(&x, readings, &err))
        status = cli_fail_error(&err);
    else if (json)
        status = print_json(&x);
    else {
        print_words(&x);
        status = cli_finish_output();
    }
    if (status == CLI_OK)
        say_what_is_unknown(x.pack);
    rt_pack_free(x.pack);
    free(x.what_if);
    free(x.policy);
    return status;
}
