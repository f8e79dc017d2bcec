/* Matrix products for AVX2. */
#include "runtime/kernels/products_avx2.h"

INLINE __m256i multiply(__m256i acc, __m256i weights, __m256i q)
{
    return _mm256_add_epi32(acc, _mm256_madd_epi16(weights, q));
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

INLINE __m256i add_maddubs(__m256i acc, __m256i weights, const uint8_t *q, unsigned word)
{
    return _mm256_add_epi16(acc, _mm256_maddubs_epi16(weights, broadcast(q, word)));
}

/* vpmaddubsw saturates at 32767: a 16-bit lane takes 8 pairs of a plane's nibbles, at most
 * 8 * 2 * 15 * 127 = 30480. */
INLINE void half_w4a8(const uint8_t *h, const uint8_t *l, const uint8_t *const *q, uint32_t n_cols,
                      __m256i *dot)
{
    const __m256i low = _mm256_set1_epi8(0x0f);
    (void)l;
#pragma GCC unroll 4
    for (uint32_t c = 0; c < n_cols; c++)
        dot[c] = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (unsigned p = 0; p < QUADS; p++) {
        __m256i wh = load(h + p * LINE), first = _mm256_and_si256(wh, low);
        __m256i second = _mm256_and_si256(_mm256_srli_epi32(wh, 4), low);
#pragma GCC unroll 4
        for (uint32_t c = 0; c < n_cols; c++) {
            dot[c] = add_maddubs(dot[c], first, q[c], p);
            dot[c] = add_maddubs(dot[c], second, q[c], p + 4);
        }
    }
#pragma GCC unroll 4
    for (uint32_t c = 0; c < n_cols; c++)
        dot[c] = _mm256_madd_epi16(dot[c], _mm256_set1_epi16(1));
}

/* Whole bytes would saturate (2 * 255 * 127), so the planes are summed apart. */
INLINE void half_w8a8(const uint8_t *h, const uint8_t *l, const uint8_t *const *q, uint32_t n_cols,
                      __m256i *dot)
{
    const __m256i low = _mm256_set1_epi8(0x0f);
    __m256i sum_h[STEP], sum_l[STEP];
#pragma GCC unroll 4
    for (uint32_t c = 0; c < n_cols; c++)
        sum_h[c] = sum_l[c] = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (unsigned p = 0; p < QUADS; p++) {
        __m256i wh = load(h + p * LINE), wl = load(l + p * LINE);
        __m256i h_low = _mm256_and_si256(wh, low), l_low = _mm256_and_si256(wl, low);
        __m256i h_high = _mm256_and_si256(_mm256_srli_epi32(wh, 4), low);
        __m256i l_high = _mm256_and_si256(_mm256_srli_epi32(wl, 4), low);
#pragma GCC unroll 4
        for (uint32_t c = 0; c < n_cols; c++) {
            sum_h[c] = add_maddubs(sum_h[c], h_low, q[c], p);
            sum_l[c] = add_maddubs(sum_l[c], l_low, q[c], p);
            sum_h[c] = add_maddubs(sum_h[c], h_high, q[c], p + 4);
            sum_l[c] = add_maddubs(sum_l[c], l_high, q[c], p + 4);
        }
    }
#pragma GCC unroll 4
    for (uint32_t c = 0; c < n_cols; c++)
        dot[c] = _mm256_add_epi32(_mm256_madd_epi16(sum_h[c], _mm256_set1_epi16(16)),
                                  _mm256_madd_epi16(sum_l[c], _mm256_set1_epi16(1)));
}

DOTS(avx2)

INLINE __m256 halves_to_float(const uint8_t *f16)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)f16));
}

void rt_outlier_avx2(const uint8_t *block, const struct rt_acts *x, uint32_t col, uint32_t n_cols,
                     float *y, uint32_t y_stride)
{
    const uint8_t *h = block + 4 * TILE, *l = h + PACK_NIBBLES;
    for (uint32_t c = 0; c < n_cols; c++, y += y_stride) {
        struct operand b;
        size_t group = (size_t)(col + c) * x->groups;
        operand_of_group(&b, x, group, 2, 1);
        for (unsigned first = 0; first < TILE; first += LANES) {
            __m256i dot;
            half_w8a16(h + 4 * first, l + 4 * first, b.q, 1, &dot);
            add_minus_8_sum(&dot, x, group, 1);
            __m256 d = _mm256_mul_ps(halves_to_float(block + 2 * first), _mm256_set1_ps(0.0625F));
            __m256 m = halves_to_float(block + 2 * TILE + 2 * first);
            __m256 scaled = _mm256_mul_ps(d, _mm256_set1_ps(b.scale[0]));
            __m256 o = _mm256_sub_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(dot), scaled),
                                     _mm256_mul_ps(m, _mm256_set1_ps(b.t[0])));
            _mm256_storeu_ps(y + first, _mm256_add_ps(_mm256_loadu_ps(y + first), o));
        }
    }
}

INLINE void dot_f32_columns(const float *w, uint32_t n_groups, const float *x, uint32_t stride,
                            uint32_t n_cols, float *acc)
{
    __m256 sum[2 * STEP];
#pragma GCC unroll 8
    for (unsigned i = 0; i < 2 * n_cols; i++)
        sum[i] = _mm256_loadu_ps(acc + (size_t)i * LANES);
    for (size_t i = 0; i < (size_t)n_groups * GROUP; i++, w += TILE) {
        __m256 top = _mm256_loadu_ps(w), bottom = _mm256_loadu_ps(w + LANES);
#pragma GCC unroll 4
        for (uint32_t c = 0; c < n_cols; c++) {
            __m256 value = _mm256_broadcast_ss(x + (size_t)c * stride + i);
            sum[2 * c] = _mm256_add_ps(sum[2 * c], _mm256_mul_ps(top, value));
            sum[2 * c + 1] = _mm256_add_ps(sum[2 * c + 1], _mm256_mul_ps(bottom, value));
        }
    }
#pragma GCC unroll 8
    for (unsigned i = 0; i < 2 * n_cols; i++)
        _mm256_storeu_ps(acc + (size_t)i * LANES, sum[i]);
}

void rt_dot_f32_avx2(const float *w, uint32_t n_groups, const float *x, uint32_t stride,
                     uint32_t n_cols, float *acc)
{
    for (; n_cols >= STEP; n_cols -= STEP, x += (size_t)STEP * stride, acc += STEP * TILE)
        dot_f32_columns(w, n_groups, x, stride, STEP, acc);
    if (n_cols == 1)
        dot_f32_columns(w, n_groups, x, stride, 1, acc);
    else if (n_cols == 2)
        dot_f32_columns(w, n_groups, x, stride, 2, acc);
    else if (n_cols == 3)
        dot_f32_columns(w, n_groups, x, stride, 3, acc);
}
