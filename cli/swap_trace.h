/* swap_trace: the last swaps of an answer or a chat, told when it is over. */
#ifndef ERT_SWAP_TRACE_H
#define ERT_SWAP_TRACE_H

#include "engine/edgert.h"

enum { SWAP_TRACE_LINES = 20 };

/* {0} = none yet. */
struct swap_trace {
    size_t n; /* noted; the last SWAP_TRACE_LINES are kept */
    struct {
        uint64_t token;
        char from[48], to[48], reason[160];
    } lines[SWAP_TRACE_LINES]; /* a ring */
};

void swap_trace_note(struct swap_trace *trace, const struct ert_swap *swap);
/* Prints them on stderr, oldest first, and how many came before; nothing if there was no swap. */
void swap_trace_print(const struct swap_trace *trace);
/* The line of one swap, on stderr. */
void swap_print(uint64_t token, const char *from, const char *to, const char *reason);

#endif
