/* guesses: what a conversation may say next, as far as it said it before, and how many of these are
 * worth computing. */
#ifndef ERT_GUESSES_H
#define ERT_GUESSES_H

#include "policies/policies.h"
#include "runtime/runtime.h"

struct guesses {
    struct rt_lookup *lookup;
    struct rt_speculation speculation;
    bool is_said; /* `when` holds at every rung, else each rung says */
    enum pol_speculation when;
};

/* when: "auto", "on" or "off" at every rung; NULL = as each rung says. For n_ctx tokens.
 * ERT_E_USAGE lists the words. */
int guesses_init(struct guesses *g, const char *when, uint32_t n_ctx, struct ert_error *err);
void guesses_release(struct guesses *g);

/* ids now follow the first `position` tokens of the conversation. */
void guesses_read(struct guesses *g, uint32_t position, const int32_t *ids, uint32_t n);
/* id was drawn and is the next token. */
void guesses_draw(struct guesses *g, int32_t id);
/* At most `most` guesses of what follows, for a pass at this rung; returns how many. */
uint32_t guesses_make(const struct guesses *g, enum pol_speculation of_rung, uint32_t most,
                      int32_t ids[RT_MAX_GUESSES]);

#endif
