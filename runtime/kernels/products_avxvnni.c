/* Matrix products for AVX2 with VNNI in registers of 256 bits (AVX-VNNI): the dots of one
 * instruction, which adds up in 32 bits and never saturates. */
#include "runtime/kernels/products_many_avx2.h"

INLINE __m256i multiply(__m256i acc, __m256i weights, __m256i q)
{
    return _mm256_dpwssd_epi32(acc, weights, q);
}

INLINE void half_w4a16(const uint8_t *h, const uint8_t *l, const uint8_t *const *q, uint32_t n_cols,
                       __m256i *dot)
{
    (void)l;
    half_w4a16_by(multiply, h, q, n_cols, dot);
}

INLINE void half_w8a16(const uint8_t *h, const uint8_t *l, const uint8_t *const *q, uint32_t n_cols,
                       __m256i *dot)
{
    half_w8a16_by(multiply, h, l, q, n_cols, dot);
}

INLINE __m256i multiply_bytes(__m256i acc, __m256i weights, __m256i q)
{
    return _mm256_dpbusd_epi32(acc, weights, q);
}

/* Unsigned bytes, h or 16 h + l, times signed ones. */
INLINE void half_a8(bool w8, const uint8_t *h, const uint8_t *l, const uint8_t *const *q,
                    uint32_t n_cols, __m256i *dot)
{
#pragma GCC unroll 4
    for (uint32_t c = 0; c < n_cols; c++)
        dot[c] = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (unsigned p = 0; p < QUADS; p++) {
        __m256i first, second;
        if (w8)
            join(load(h + p * LINE), load(l + p * LINE), &first, &second);
        else
            split(load(h + p * LINE), &first, &second);
#pragma GCC unroll 4
        for (uint32_t c = 0; c < n_cols; c++) {
            dot[c] = multiply_bytes(dot[c], first, broadcast(q[c], p));
            dot[c] = multiply_bytes(dot[c], second, broadcast(q[c], p + 4));
        }
    }
}

INLINE void half_w4a8(const uint8_t *h, const uint8_t *l, const uint8_t *const *q, uint32_t n_cols,
                      __m256i *dot)
{
    half_a8(false, h, l, q, n_cols, dot);
}

INLINE void half_w8a8(const uint8_t *h, const uint8_t *l, const uint8_t *const *q, uint32_t n_cols,
                      __m256i *dot)
{
    half_a8(true, h, l, q, n_cols, dot);
}

#define W4A16 ((struct kind){half_w4a16, expand_w4_to_16, multiply, NULL, WORDS_A16, 2, false})
#define W8A16 ((struct kind){half_w8a16, expand_w8_to_16, multiply, NULL, WORDS_A16, 2, true})
#define W4A8  ((struct kind){half_w4a8, expand_w4_to_8, multiply_bytes, NULL, WORDS_A8, 1, false})
#define W8A8  ((struct kind){half_w8a8, expand_w8_to_8, multiply_bytes, NULL, WORDS_A8, 1, true})

DOTS(avxvnni)
