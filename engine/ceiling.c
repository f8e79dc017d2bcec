#include "engine/ceiling.h"

#include <math.h>

#define MB 1e6

/* What comes after the measurement, at most: the governor's thread with the bus, a policy that is
 * read again, a prompt's text and tokens, pages of libraries that were not yet run; and the stack
 * and heap of each thread. docs/architecture.md has what was measured. */
#define LATER_BYTES        (8ULL << 20)
#define LATER_THREAD_BYTES (256ULL << 10)

/* Of a size that is asked for, rounded up: what is said is enough. */
static double whole_mb(uint64_t bytes)
{
    return ceil((double)bytes / MB);
}

/* What a conversation takes, its sampler and its index of guesses included. */
static int need(uint64_t *bytes, struct rt_session_config config, uint32_t n_ctx,
                const struct rt_pack *pack, struct rt_team *team, struct ert_error *err)
{
    const struct rt_sampler_config sampler = RT_SAMPLER_DEFAULT;
    size_t session = 0;
    config.n_ctx = n_ctx;
    int rc = rt_session_need(&session, pack, team, &config, err);
    *bytes = session + rt_sampler_need(&sampler, pack->model.n_vocab) + rt_lookup_need(n_ctx);
    return rc;
}

static int too_small(const struct ceiling *c, uint32_t n_ctx, uint64_t talk, struct ert_error *err)
{
    return ert_fail(err, ERT_E_RANGE,
                    "%.0f MB of memory are not enough: the program takes %.0f MB, %s %.0f MB, a "
                    "conversation of %u tokens %.0f MB: give at least %.0f MB",
                    (double)c->bytes / MB, whole_mb(c->program + c->talks),
                    c->without_l ? "the weights at 4 bits" : "the weights", whole_mb(c->weights),
                    n_ctx, whole_mb(talk),
                    whole_mb(c->program) + whole_mb(c->weights) + whole_mb(c->talks + talk));
}

int ceiling_set(struct ceiling *c, uint64_t bytes, const struct rt_session_config *talk,
                const struct rt_pack *pack, struct rt_team *team, struct ert_error *err)
{
    uint32_t n_ctx = talk->n_ctx;
    *c = (struct ceiling){.bytes = bytes};
    if (!bytes)
        return 0;
    int rc = rt_pack_unmap(pack, err);
    if (!rc)
        rc = ert_resident_bytes(&c->program, err);
    c->program += LATER_BYTES + rt_team_size(team) * LATER_THREAD_BYTES;
    c->least_n_ctx = n_ctx                                       ? n_ctx
                     : pack->model.n_ctx < CEILING_LEAST_CONTEXT ? pack->model.n_ctx
                                                                 : CEILING_LEAST_CONTEXT;
    if (!rc)
        rc = need(&c->talk_least, *talk, c->least_n_ctx, pack, team, err);
    if (rc)
        return rc;
    uint64_t all = rt_pack_mapped_bytes(pack, true), some = rt_pack_mapped_bytes(pack, false);
    c->with_l = all > some ? c->program + all + c->talk_least : 0;
    c->without_l = c->with_l > bytes;
    c->weights = c->without_l ? some : all;
    return c->program + c->weights + c->talk_least > bytes
               ? too_small(c, c->least_n_ctx, c->talk_least, err)
               : 0;
}

/* ---- points ---------------------------------------------------------------------------------- */

static bool fits(const struct ceiling *c, const struct rt_point *point)
{
    return !c->without_l || !rt_point_needs_l(point);
}

/* The nearest rung below, or if there is none above, that computes and fits; n if there is none. */
static uint32_t stand_in(const struct ceiling *c, const struct rt_point_table *table,
                         uint32_t state)
{
    uint32_t n = rt_point_table_size(table);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = i < n - state ? state + i : n - 1 - i;
        const struct rt_point *point = rt_point_at(table, at);
        if (fits(c, point) && !point->pause)
            return at;
    }
    return n;
}

int ceiling_fit(const struct ceiling *c, struct rungs *rungs, struct ert_error *err)
{
    uint32_t n = rt_point_table_size(rungs->table);
    for (uint32_t i = 0; i < n; i++) {
        const struct rt_point *point = rt_point_at(rungs->table, i);
        rungs->runs_as[i] = fits(c, point) ? i : stand_in(c, rungs->table, i);
        if (rungs->runs_as[i] == n)
            return ert_fail(err, ERT_E_RANGE,
                            "%s reads the L planes, which do not fit into %.0f MB: give at least "
                            "%.0f MB, or a point of 4 bits such as w4a16",
                            point->name, (double)c->bytes / MB, whole_mb(c->with_l));
    }
    return 0;
}

/* ---- conversations --------------------------------------------------------------------------- */

/* The most positions from least to most whose conversation takes at most room bytes. */
static int longest(uint32_t *n_ctx, const struct rt_session_config *config, uint32_t least,
                   uint32_t most, uint64_t room, const struct rt_pack *pack, struct rt_team *team,
                   struct ert_error *err)
{
    int rc = 0;
    while (!rc && least < most) {
        uint32_t middle = least + (most - least + 1) / 2;
        uint64_t bytes = 0;
        rc = need(&bytes, *config, middle, pack, team, err);
        if (bytes <= room)
            least = middle;
        else
            most = middle - 1;
    }
    *n_ctx = least;
    return rc;
}

int ceiling_take(struct ceiling *c, struct rt_session_config *config, uint32_t most,
                 const struct rt_pack *pack, struct rt_team *team, uint64_t *bytes,
                 struct ert_error *err)
{
    uint64_t room = c->bytes - c->program - c->weights;
    uint32_t least = config->n_ctx ? config->n_ctx : c->least_n_ctx < most ? c->least_n_ctx : most;
    int rc = need(bytes, *config, least, pack, team, err);
    room = room > c->talks ? room - c->talks : 0;
    if (!rc && *bytes > room)
        rc = too_small(c, least, *bytes, err);
    if (!rc && config->n_ctx == 0)
        rc = longest(&config->n_ctx, config, least, most, room, pack, team, err);
    if (!rc)
        rc = need(bytes, *config, config->n_ctx, pack, team, err);
    if (rc)
        *bytes = 0;
    c->talks += *bytes;
    return rc;
}

void ceiling_words(const struct ceiling *c, uint32_t n_ctx, uint32_t most, char *text, size_t room)
{
    bool shorter = n_ctx < most;
    size_t n = 0;
    text[0] = '\0';
    if (!c->bytes || (!shorter && !c->without_l))
        return;
    n = (size_t)snprintf(text, room, "within %.0f MB: ", (double)c->bytes / MB);
    if (c->without_l && n < room)
        n += (size_t)snprintf(text + n, room - n,
                              "no point that reads the L planes (from %.0f MB)%s",
                              whole_mb(c->with_l), shorter ? "; " : "");
    if (shorter && n < room)
        snprintf(text + n, room - n, "a context of %u tokens instead of %u", n_ctx, most);
}
