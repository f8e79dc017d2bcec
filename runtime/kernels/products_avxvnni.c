/* Matrix products for AVX2 with VNNI in registers of 256 bits (AVX-VNNI): the dots of one
 * instruction, which adds up in 32 bits and never saturates. */
#include "runtime/kernels/products_avx2.h"

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

INLINE void expand_w4(__m256i h, __m256i *first, __m256i *second)
{
    const __m256i low = _mm256_set1_epi8(0x0f);
    *first = _mm256_and_si256(h, low);
    *second = _mm256_and_si256(_mm256_srli_epi32(h, 4), low);
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
            expand_w4(load(h + p * LINE), &first, &second);
#pragma GCC unroll 4
        for (uint32_t c = 0; c < n_cols; c++) {
            dot[c] = _mm256_dpbusd_epi32(dot[c], first, broadcast(q[c], p));
            dot[c] = _mm256_dpbusd_epi32(dot[c], second, broadcast(q[c], p + 4));
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

DOTS(avxvnni)
