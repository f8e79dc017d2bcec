/* speculation: how many guesses a pass should carry. Pure: no clock, nothing allocated.
 *
 * Of k guesses after a match of length m, all of the first i come true with the probability
 * p(m) p(m + 1) ... p(m + i - 1), since each that does makes the match longer by one. So a pass
 * says 1 + p(m) + p(m) p(m + 1) + ... tokens, and takes as long as 1 + k c passes without guesses
 * (after Leviathan et al. 2023, arXiv 2211.17192, theorem 3.8; their c is what a guess costs to
 * make, here guesses are free and c is what it costs to look at one more). The k whose tokens per
 * time are the most is taken, and none unless it gains 5 %.
 *
 * p is learned from every token that is drawn while there is a guess, whether that was in a pass or
 * not: where nothing pays, watching goes on and costs nothing. c is learned from the passes' times;
 * an estimate that was spoilt by other work on the machine goes back, pass by pass, to where it
 * began, so that guesses are tried again sooner or later. None of it can change what is said. */
#ifndef RT_SPECULATION_H
#define RT_SPECULATION_H

#include "runtime/lookup.h"

struct rt_speculation {
    double right[RT_LOOKUP_MATCH + 1]; /* p, by length of the match; 0 is not used */
    double alone_ns;                   /* a pass without guesses at this point, 0 = not known */
    double cost;                       /* c, in passes without guesses */
};

void rt_speculation_init(struct rt_speculation *s);
/* From now on passes are those of another point: guesses wait until one was timed without. */
void rt_speculation_moved(struct rt_speculation *s);
/* There was a match of this length (at least 1), and the token that it promised came or did not. */
void rt_speculation_drew(struct rt_speculation *s, uint32_t match, bool right);
/* A pass with so many guesses took so long. */
void rt_speculation_timed(struct rt_speculation *s, uint32_t n_guesses, uint64_t ns);
/* How many guesses, 0 to most, after a match of this length. */
uint32_t rt_speculation_length(const struct rt_speculation *s, uint32_t match, uint32_t most);

#endif
