/* planes: from a decision to the switch. The L planes are brought in before a point that reads them
 * is published, and given back after the last such token, by a thread of its own: neither the
 * decision nor the token waits for the disk. */
#ifndef ERT_PLANES_H
#define ERT_PLANES_H

#include "runtime/runtime.h"

struct planes;

/* A rung, as the switch carries it, and whether it reads the L planes. */
struct planes_rung {
    uint32_t code;
    bool needs_l;
};

/* sw's current rung is first. pack and sw must outlive it. */
int planes_create(struct planes **out, const struct rt_pack *pack, struct rt_switch *sw,
                  struct planes_rung first, struct ert_error *err);
/* Cancels what is under way and joins the thread. NULL is fine. */
void planes_free(struct planes *r);

/* Wants that rung: published at once, or as soon as its planes are in memory. A later call
 * overrides an earlier one. release: the L planes may be dropped once no token reads them. Does not
 * block. */
void planes_want(struct planes *r, struct planes_rung wanted, bool release);

#endif
