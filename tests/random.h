/* Seeded values for tests. */
#ifndef ERT_TEST_RANDOM_H
#define ERT_TEST_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* splitmix64 (Steele, Lea, Flood, OOPSLA 2014). */
static inline uint64_t random_u64(uint64_t *seed)
{
    uint64_t z = *seed += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* In [0, n). */
static inline uint32_t random_below(uint64_t *seed, uint32_t n)
{
    return (uint32_t)(random_u64(seed) >> 32) % n;
}

/* In [-1, 1). */
static inline float random_float(uint64_t *seed)
{
    return (float)((double)(int64_t)random_u64(seed) * 0x1p-63);
}

static inline void random_bytes(uint64_t *seed, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)random_u64(seed);
}

static inline void random_floats(uint64_t *seed, float *out, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++)
        out[i] = random_float(seed) * scale;
}

#endif
