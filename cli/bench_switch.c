/* The cost of a swap in the token path, and the time of the token after it. */
#include <malloc.h>
#include <math.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "cli/bench.h"

/* Tokens are decoded at DEPTH .. DEPTH + SPAN. */
enum { DEPTH = 32, SPAN = 32, WARM_TOKENS = 8 };

/* A token that takes longer than so many medians of its point is late. */
static const double LATE = 1.5;

struct swap {
    uint32_t from, to;
    double cost_us;   /* from reading the switch to having acknowledged it */
    double first_us;  /* that and the token after it */
    double second_us; /* the token after that one: what the machine does without a swap */
    double least_first_us, least_second_us; /* of all times that this swap was made */
};

struct switching {
    const struct point_list *points;
    struct rt_session *session;
    struct rt_point_table *table;
    struct rt_switch *sw;
    struct swap *swaps; /* [n] */
    double *sorted;     /* [n], scratch */
    double *median_us;  /* [points], of the second tokens */
    uint32_t n, rounds;
    uint64_t random;
};

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(const double *sorted, size_t n, double q)
{
    return n ? sorted[(size_t)(q * (double)(n - 1) + 0.5)] : 0;
}

/* xorshift64 (Marsaglia 2003): any seeded sequence will do. */
static uint32_t next_random(struct switching *s)
{
    s->random ^= s->random << 13;
    s->random ^= s->random >> 7;
    s->random ^= s->random << 17;
    return (uint32_t)(s->random >> 32);
}

/* One token within the span of depths; microseconds. */
static int time_token(struct switching *s, double *us, struct ert_error *err)
{
    if (rt_session_position(s->session) >= DEPTH + SPAN)
        rt_session_rewind(s->session, DEPTH);
    int32_t id = (int32_t)(rt_session_position(s->session) + 1);
    uint64_t begin = ert_now_ns();
    int rc = rt_session_feed(s->session, &id, 1, NULL, NULL, NULL, err);
    *us = (double)(ert_now_ns() - begin) * 1e-3;
    return rc;
}

/* Fills the cache to DEPTH and runs each point for a while, so that nothing is new to it. */
static int warm_up(struct switching *s, struct ert_error *err)
{
    int32_t id = 1;
    double us;
    int rc = 0;
    for (uint32_t i = 0; !rc && i < DEPTH; i++)
        rc = rt_session_feed(s->session, &id, 1, NULL, NULL, NULL, err);
    for (size_t p = 0; !rc && p < s->points->n; p++) {
        rt_session_set_point(s->session, &s->points->points[p]);
        for (size_t i = 0; !rc && i < WARM_TOKENS; i++)
            rc = time_token(s, &us, err);
    }
    return rc;
}

/* The random sequence of swaps, the same in every round. */
static void choose_swaps(struct switching *s)
{
    uint32_t current = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        uint32_t step = 1 + next_random(s) % (uint32_t)(s->points->n - 1);
        s->swaps[i].from = current;
        s->swaps[i].to = current = (current + step) % (uint32_t)s->points->n;
    }
}

/* Goes the way of the engine's take_point: take, set the point, acknowledge. */
static double swap_to(struct switching *s, uint32_t to)
{
    rt_switch_publish(s->sw, to);
    uint64_t begin = ert_now_ns();
    struct rt_switch_take take = rt_switch_take(s->sw, begin);
    rt_session_set_point(s->session, rt_point_at(s->table, take.index));
    rt_switch_ack(s->sw, take.epoch);
    return (double)(ert_now_ns() - begin) * 1e-3;
}

/* A swap and two tokens after it. */
static int make_swap(struct switching *s, struct swap *swap, struct ert_error *err)
{
    swap->cost_us = swap_to(s, swap->to);
    int rc = time_token(s, &swap->first_us, err);
    swap->first_us += swap->cost_us;
    return rc ? rc : time_token(s, &swap->second_us, err);
}

/* The median token of each point, of those that followed no swap. */
static void find_medians(struct switching *s)
{
    for (uint32_t p = 0; p < s->points->n; p++) {
        size_t n = 0;
        for (uint32_t i = 0; i < s->n; i++)
            if (s->swaps[i].to == p)
                s->sorted[n++] = s->swaps[i].second_us;
        qsort(s->sorted, n, sizeof *s->sorted, by_value);
        s->median_us[p] = quantile(s->sorted, n, 0.5);
    }
}

static bool is_late(const struct switching *s, const struct swap *swap, double us)
{
    return us > LATE * s->median_us[swap->to];
}

/* Makes a swap another time, from the point it left; its least times alone take notice. */
static int make_again(struct switching *s, struct swap *swap, struct ert_error *err)
{
    struct swap again = *swap;
    double settling_us;
    swap_to(s, swap->from);
    int rc = time_token(s, &settling_us, err);
    if (!rc)
        rc = make_swap(s, &again, err);
    swap->least_first_us = fmin(swap->least_first_us, again.first_us);
    swap->least_second_us = fmin(swap->least_second_us, again.second_us);
    return rc;
}

/* What disturbs a token from outside differs from time to time, what a swap costs does not. So a
 * swap with a late token is made again, once per round, the others of the round in between. */
static int repeat_late(struct switching *s, struct ert_error *err)
{
    int rc = 0;
    for (uint32_t i = 0; !rc && i < s->n; i++) {
        struct swap *swap = &s->swaps[i];
        if (is_late(s, swap, swap->least_first_us) || is_late(s, swap, swap->least_second_us))
            rc = make_again(s, swap, err);
    }
    return rc;
}

static int measure_swaps(struct switching *s, struct ert_error *err)
{
    int rc = 0;
    choose_swaps(s);
    rt_session_rewind(s->session, DEPTH);
    for (uint32_t i = 0; !rc && i < s->n; i++) {
        struct swap *swap = &s->swaps[i];
        rc = make_swap(s, swap, err);
        swap->least_first_us = swap->first_us;
        swap->least_second_us = swap->second_us;
    }
    find_medians(s);
    for (uint32_t round = 1; !rc && round < s->rounds; round++)
        rc = repeat_late(s, err);
    return rc;
}

/* Quantiles of the swaps of one pair; all pairs if from == to. */
static void report_pair(struct switching *s, uint32_t from, uint32_t to, json_t *pairs)
{
    size_t n = 0;
    for (uint32_t i = 0; i < s->n; i++)
        if (s->swaps[i].from == from && s->swaps[i].to == to)
            s->sorted[n++] = s->swaps[i].cost_us;
    if (n == 0)
        return;
    qsort(s->sorted, n, sizeof *s->sorted, by_value);
    json_array_append_new(
        pairs, json_pack("{s:s, s:s, s:I, s:f, s:f}", "from", s->points->points[from].name, "to",
                         s->points->points[to].name, "n", (json_int_t)n, "p50_us",
                         quantile(s->sorted, n, 0.5), "p99_us", quantile(s->sorted, n, 0.99)));
}

static double cost_us(const struct switching *s, const struct swap *swap)
{
    (void)s;
    return swap->cost_us;
}

static double first_ratio(const struct switching *s, const struct swap *swap)
{
    return swap->first_us / s->median_us[swap->to];
}

static double second_ratio(const struct switching *s, const struct swap *swap)
{
    return swap->second_us / s->median_us[swap->to];
}

/* How many tokens were late when their swap was first made, and how many each time it was. */
static void report_late(const struct switching *s, json_t *total)
{
    json_int_t first = 0, second = 0, first_always = 0, second_always = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        const struct swap *swap = &s->swaps[i];
        first += is_late(s, swap, swap->first_us);
        second += is_late(s, swap, swap->second_us);
        first_always += is_late(s, swap, swap->least_first_us);
        second_always += is_late(s, swap, swap->least_second_us);
    }
    json_object_set_new(total, "first_token_late", json_integer(first));
    json_object_set_new(total, "second_token_late", json_integer(second));
    json_object_set_new(total, "first_token_late_always", json_integer(first_always));
    json_object_set_new(total, "second_token_late_always", json_integer(second_always));
}

static void report(struct switching *s, json_t *pairs, json_t *total)
{
    static const struct {
        double (*of)(const struct switching *s, const struct swap *swap);
        const char *p50, *p99, *max;
    } figures[] = {
        {cost_us, "p50_us", "p99_us", "max_us"},
        {first_ratio, "first_token_p50", "first_token_p99", "first_token_max"},
        {second_ratio, "second_token_p50", "second_token_p99", "second_token_max"},
    };
    for (uint32_t from = 0; from < s->points->n; from++)
        for (uint32_t to = 0; to < s->points->n; to++)
            report_pair(s, from, to, pairs);
    json_object_set_new(total, "swaps", json_integer(s->n));
    json_object_set_new(total, "rounds", json_integer(s->rounds));
    for (size_t f = 0; f < sizeof figures / sizeof *figures; f++) {
        for (uint32_t i = 0; i < s->n; i++)
            s->sorted[i] = figures[f].of(s, &s->swaps[i]);
        qsort(s->sorted, s->n, sizeof *s->sorted, by_value);
        json_object_set_new(total, figures[f].p50, json_real(quantile(s->sorted, s->n, 0.5)));
        json_object_set_new(total, figures[f].p99, json_real(quantile(s->sorted, s->n, 0.99)));
        json_object_set_new(total, figures[f].max, json_real(quantile(s->sorted, s->n, 1)));
    }
    report_late(s, total);
}

static int prepare(struct switching *s, const struct workbench *bench, uint32_t cache_bits,
                   struct ert_error *err)
{
    struct rt_session_config sizes = {.n_ctx = DEPTH + SPAN, .cache_bits = cache_bits};
    s->swaps = calloc(s->n, sizeof *s->swaps);
    s->sorted = calloc(s->n, sizeof *s->sorted);
    s->median_us = calloc(s->points->n, sizeof *s->median_us);
    if (!s->swaps || !s->sorted || !s->median_us)
        return ert_fail(err, ERT_E_NOMEM, "out of memory for %u swaps", s->n);
    int rc = rt_point_table_create(&s->table, s->points->points, (uint32_t)s->points->n, err);
    if (!rc)
        rc = rt_switch_create(&s->sw, s->table, 0, err);
    if (!rc)
        rc = rt_session_create(&s->session, bench->pack, bench->team, &sizes, err);
    return rc;
}

int bench_switches(const struct workbench *bench, const struct point_list *points,
                   const struct bench_config *config, json_t *pairs, json_t *total,
                   struct ert_error *err)
{
    struct switching s = {.points = points,
                          .n = config->n_swaps,
                          .rounds = config->repeats,
                          .random = 88172645463325252ULL};
    struct rusage before, after;
    if (points->n < 2)
        return ert_fail(err, ERT_E_USAGE, "a swap needs two points, the list has %zu", points->n);
    int rc = prepare(&s, bench, config->cache_bits, err);
    if (!rc)
        rc = warm_up(&s, err);
    getrusage(RUSAGE_SELF, &before);
    size_t heap = mallinfo2().uordblks;
    if (!rc)
        rc = measure_swaps(&s, err);
    size_t grown = mallinfo2().uordblks - heap;
    getrusage(RUSAGE_SELF, &after);
    if (!rc) {
        report(&s, pairs, total);
        json_object_set_new(total, "major_faults",
                            json_integer(after.ru_majflt - before.ru_majflt));
        json_object_set_new(total, "heap_grown_bytes", json_integer((json_int_t)grown));
    }
    if (s.session)
        rt_session_free(s.session);
    rt_switch_free(s.sw);
    rt_point_table_unref(s.table);
    free(s.swaps);
    free(s.sorted);
    free(s.median_us);
    return rc;
}
