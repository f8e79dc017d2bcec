#include "runtime/lookup.h"

#include <stdlib.h>

struct rt_lookup {
    uint32_t n, n_ctx;
    uint32_t match, source;           /* the last `match` tokens also end before ids[source] */
    uint32_t shift;                   /* of a hash, 64 - log2 slots */
    int32_t *ids;                     /* [n_ctx] */
    uint32_t *end[RT_LOOKUP_LONGEST]; /* [slots] of n-grams of length i + 1: the position after the
                                         latest one */
};

/* Log2 of the slots for n-grams of one length: half of them are free, or more. */
static uint32_t slot_bits(uint32_t n_ctx)
{
    uint32_t bits = 1;
    while (bits < 31 && 1u << bits < n_ctx)
        bits++;
    return bits + 1;
}

size_t rt_lookup_need(uint32_t n_ctx)
{
    const size_t slots = (size_t)1 << slot_bits(n_ctx);
    return sizeof(struct rt_lookup) + ((size_t)n_ctx + 1) * sizeof(int32_t) +
           RT_LOOKUP_LONGEST * slots * sizeof(uint32_t);
}

int rt_lookup_create(struct rt_lookup **l, uint32_t n_ctx, struct ert_error *err)
{
    const size_t slots = (size_t)1 << slot_bits(n_ctx);
    struct rt_lookup *made = calloc(1, sizeof *made);
    *l = NULL;
    if (!made)
        return ert_fail(err, ERT_E_NOMEM, "no memory for an index of the conversation");
    *made = (struct rt_lookup){.n_ctx = n_ctx, .shift = 64 - slot_bits(n_ctx)};
    made->ids = calloc((size_t)n_ctx + 1, sizeof *made->ids);
    made->end[0] = calloc(RT_LOOKUP_LONGEST * slots, sizeof *made->end[0]);
    if (!made->ids || !made->end[0]) {
        rt_lookup_free(made);
        return ert_fail(err, ERT_E_NOMEM, "no memory for an index of %u tokens", n_ctx);
    }
    for (size_t i = 1; i < RT_LOOKUP_LONGEST; i++)
        made->end[i] = made->end[0] + i * slots;
    *l = made;
    return 0;
}

void rt_lookup_free(struct rt_lookup *l)
{
    if (!l)
        return;
    free(l->ids);
    free(l->end[0]);
    free(l);
}

/* The slot of the last `length` tokens: multiplicative hashing (Knuth, TAOCP 3, 6.4). */
static uint32_t *slot(const struct rt_lookup *l, uint32_t length)
{
    uint64_t hash = 0;
    for (uint32_t i = 1; i <= length; i++)
        hash = (hash + (uint32_t)l->ids[l->n - i] + 1) * 0x9e3779b97f4a7c15u;
    return &l->end[length - 1][hash >> l->shift];
}

/* How many tokens before `end` are the last ones. A slot may tell of other tokens, or of some that
 * were forgotten. */
static uint32_t match_at(const struct rt_lookup *l, uint32_t end)
{
    uint32_t n = 0;
    while (n < RT_LOOKUP_MATCH && n < end && l->ids[end - 1 - n] == l->ids[l->n - 1 - n])
        n++;
    return n;
}

static void find(struct rt_lookup *l)
{
    l->match = 0;
    for (uint32_t length = RT_LOOKUP_LONGEST; length > 0 && l->match == 0; length--) {
        uint32_t end = length <= l->n ? *slot(l, length) : 0;
        uint32_t match = end < l->n ? match_at(l, end) : 0;
        if (match < length)
            continue;
        l->match = match;
        l->source = end;
    }
}

void rt_lookup_add(struct rt_lookup *l, int32_t id)
{
    if (l->n == l->n_ctx)
        return;
    bool goes_on = l->match > 0 && l->ids[l->source] == id;
    l->ids[l->n++] = id;
    if (goes_on) {
        l->source++;
        l->match += l->match < RT_LOOKUP_MATCH;
    } else {
        find(l);
    }
    for (uint32_t length = 1; length <= RT_LOOKUP_LONGEST && length <= l->n; length++)
        *slot(l, length) = l->n;
}

void rt_lookup_cut(struct rt_lookup *l, uint32_t n)
{
    if (n >= l->n)
        return;
    l->n = n;
    l->match = 0;
}

uint32_t rt_lookup_match(const struct rt_lookup *l)
{
    return l->match;
}

void rt_lookup_guess(const struct rt_lookup *l, int32_t *ids, uint32_t n)
{
    const uint32_t there = l->n - l->source;
    for (uint32_t i = 0; i < n; i++)
        ids[i] = i < there ? l->ids[l->source + i] : ids[i - there];
}
