/* draw: random numbers that depend on what they are for, not on when they are drawn. */
#ifndef VAR_DRAW_H
#define VAR_DRAW_H

#include <stdint.h>

/* SplitMix64's output function (Steele, Lea, Flood 2014) of counters: uniform in [0, 1). */
static inline double var_draw(uint64_t seed, uint64_t first, uint64_t second)
{
    uint64_t z = seed;
    const uint64_t counters[] = {first, second};
    for (int i = 0; i < 2; i++) {
        z += (counters[i] + 1) * 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        z ^= z >> 31;
    }
    return (double)(z >> 11) * 0x1p-53;
}

#endif
