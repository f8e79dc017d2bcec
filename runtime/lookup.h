/* lookup: guesses the next tokens of a conversation from what it has said before. Prompt lookup
 * decoding (Saxena 2023, github.com/apoorvumang/prompt-lookup-decoding): where the last tokens have
 * stood before, in that order, what followed them then may follow now. Adding a token takes a
 * bounded number of steps, however long the conversation, and nothing is allocated after creation.
 */
#ifndef RT_LOOKUP_H
#define RT_LOOKUP_H

#include "base/base.h"

struct rt_lookup;

enum {
    RT_LOOKUP_LONGEST = 3, /* tokens that are looked for together, then one less, down to 1 */
    RT_LOOKUP_MATCH = 8,   /* a longer match counts as so long */
};

/* For conversations of at most n_ctx tokens. */
int rt_lookup_create(struct rt_lookup **l, uint32_t n_ctx, struct ert_error *err);
void rt_lookup_free(struct rt_lookup *l); /* NULL is fine */
/* Bytes that one of n_ctx tokens takes: 28 to 52 for each. */
size_t rt_lookup_need(uint32_t n_ctx);

/* The conversation goes on with id; past n_ctx nothing happens. */
void rt_lookup_add(struct rt_lookup *l, int32_t id);
/* Forgets all tokens from n on (at most as many as there are). */
void rt_lookup_cut(struct rt_lookup *l, uint32_t n);

/* How many of the last tokens stood together before, 0 (nothing to guess by) to RT_LOOKUP_MATCH. Of
 * several places the latest one with the longest match counts, as far as the index knows: of the
 * tokens that share a slot it has the latest. */
uint32_t rt_lookup_match(const struct rt_lookup *l);
/* The n tokens that would follow, if there is a match. Past the conversation's end they go on with
 * themselves: after "a b a b" comes "a b a b". */
void rt_lookup_guess(const struct rt_lookup *l, int32_t *ids, uint32_t n);

#endif
