/* ceiling: the most memory that the process may keep, and what fits below it. What the program has
 * is measured when the engine is opened; mapped weights, caches and work memory are added up,
 * whole, so that what fits then fits whatever is read later. */
#ifndef ERT_CEILING_H
#define ERT_CEILING_H

#include "engine/rungs.h"

/* Least positions of a conversation that is shortened to fit. */
enum { CEILING_LEAST_CONTEXT = 512 };

/* All in bytes. */
struct ceiling {
    uint64_t bytes;       /* 0 = none, and nothing of the rest counts */
    uint64_t program;     /* what is in memory without the pack's pages, and what comes later */
    uint64_t weights;     /* most of the pack's pages that may be mapped */
    uint64_t with_l;      /* what it would take to have the L planes too, and one conversation */
    uint64_t talks;       /* of the conversations that are open */
    uint64_t talk_least;  /* of the least conversation */
    uint32_t least_n_ctx; /* its positions */
    bool without_l;       /* points that read the L planes do not fit */
};

/* Measures and plans for a conversation of talk->n_ctx positions (0 = CEILING_LEAST_CONTEXT, or the
 * model's if it has fewer). The pack's pages are unmapped once for it. ERT_E_RANGE tells what each
 * part takes and what would fit. */
int ceiling_set(struct ceiling *c, uint64_t bytes, const struct rt_session_config *talk,
                const struct rt_pack *pack, struct rt_team *team, struct ert_error *err);

/* Has a rung that does not fit run as the next one below that does; above, if none below computes.
 * ERT_E_RANGE where there is none. Nothing to do without a ceiling. */
int ceiling_fit(const struct ceiling *c, struct rungs *rungs, struct ert_error *err);

/* Sets config->n_ctx, if it is 0, to as many positions as fit, at most `most`. *bytes is what the
 * conversation takes; the caller gives it back to c->talks. ERT_E_RANGE as above. */
int ceiling_take(struct ceiling *c, struct rt_session_config *config, uint32_t most,
                 const struct rt_pack *pack, struct rt_team *team, uint64_t *bytes,
                 struct ert_error *err);

/* What was given up for a conversation of n_ctx positions instead of `most`, in one line; "" if
 * nothing was. */
void ceiling_words(const struct ceiling *c, uint32_t n_ctx, uint32_t most, char *text, size_t room);

#endif
