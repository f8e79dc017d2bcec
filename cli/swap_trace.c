#include "cli/swap_trace.h"

#include <stdio.h>

void swap_trace_note(struct swap_trace *trace, const struct ert_swap *swap)
{
    size_t i = trace->n++ % SWAP_TRACE_LINES;
    trace->lines[i].token = swap->token;
    snprintf(trace->lines[i].from, sizeof trace->lines[i].from, "%s", swap->from);
    snprintf(trace->lines[i].to, sizeof trace->lines[i].to, "%s", swap->to);
    snprintf(trace->lines[i].reason, sizeof trace->lines[i].reason, "%s", swap->reason);
}

void swap_trace_print(const struct swap_trace *trace)
{
    size_t first = trace->n > SWAP_TRACE_LINES ? trace->n - SWAP_TRACE_LINES : 0;
    if (trace->n)
        fputc('\n', stderr);
    if (first)
        fprintf(stderr, "%zu swaps, then\n", first);
    for (size_t i = first; i < trace->n; i++)
        swap_print(trace->lines[i % SWAP_TRACE_LINES].token,
                   trace->lines[i % SWAP_TRACE_LINES].from, trace->lines[i % SWAP_TRACE_LINES].to,
                   trace->lines[i % SWAP_TRACE_LINES].reason);
}

void swap_print(uint64_t token, const char *from, const char *to, const char *reason)
{
    fprintf(stderr, "[token %llu] %s -> %s: %s\n", (unsigned long long)token, from, to, reason);
}
