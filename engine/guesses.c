#include "engine/guesses.h"

int guesses_init(struct guesses *g, const char *when, uint32_t n_ctx, struct ert_error *err)
{
    *g = (struct guesses){.is_said = when != NULL};
    rt_speculation_init(&g->speculation);
    int rc = when ? pol_speculation_parse(when, &g->when, err) : 0;
    return rc ? rc : rt_lookup_create(&g->lookup, n_ctx, err);
}

void guesses_release(struct guesses *g)
{
    rt_lookup_free(g->lookup);
    g->lookup = NULL;
}

void guesses_read(struct guesses *g, uint32_t position, const int32_t *ids, uint32_t n)
{
    rt_lookup_cut(g->lookup, position);
    for (uint32_t i = 0; i < n; i++)
        rt_lookup_add(g->lookup, ids[i]);
}

void guesses_draw(struct guesses *g, int32_t id)
{
    int32_t guess;
    uint32_t match = rt_lookup_match(g->lookup);
    if (match) {
        rt_lookup_guess(g->lookup, &guess, 1);
        rt_speculation_drew(&g->speculation, match, guess == id);
    }
    rt_lookup_add(g->lookup, id);
}

uint32_t guesses_make(const struct guesses *g, enum pol_speculation of_rung, uint32_t most,
                      int32_t ids[RT_MAX_GUESSES])
{
    enum pol_speculation when = g->is_said ? g->when : of_rung;
    uint32_t match = rt_lookup_match(g->lookup), n = most < RT_MAX_GUESSES ? most : RT_MAX_GUESSES;
    if (match == 0 || when == POL_SPECULATION_OFF)
        return 0;
    if (when == POL_SPECULATION_AUTO)
        n = rt_speculation_length(&g->speculation, match, n);
    rt_lookup_guess(g->lookup, ids, n);
    return n;
}
