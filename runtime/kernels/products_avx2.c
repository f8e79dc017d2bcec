/* Matrix products for AVX2. */
#include "runtime/kernels/products_many_avx2.h"

/* Products are added one by one: GCC would add those of a group up as a tree, and spill what waits.
 */
INLINE __m256i one_by_one(__m256i sum)
{
#ifdef __AVX2__ /* SIMDe has no such registers */
    __asm__("" : "+x"(sum));
#endif
    return sum;
}

INLINE __m256i multiply(__m256i acc, __m256i weights, __m256i q)
{
    return one_by_one(_mm256_add_epi32(acc, _mm256_madd_epi16(weights, q)));
}

INLINE __m256i multiply_bytes(__m256i acc, __m256i weights, __m256i q)
{
    return one_by_one(_mm256_add_epi16(acc, _mm256_maddubs_epi16(weights, q)));
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

INLINE __m256i add_pairs(__m256i sums)
{
    return _mm256_madd_epi16(sums, _mm256_set1_epi16(1));
}

/* vpmaddubsw saturates at 32767: a 16-bit lane takes 8 pairs of a plane's nibbles, at most
 * 8 * 2 * 15 * 127 = 30480. */
INLINE void half_w4a8(const uint8_t *h, const uint8_t *l, const uint8_t *const *q, uint32_t n_cols,
                      __m256i *dot)
{
    (void)l;
#pragma GCC unroll 4
    for (uint32_t c = 0; c < n_cols; c++)
        dot[c] = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (unsigned p = 0; p < QUADS; p++) {
        __m256i first, second;
        split(load(h + p * LINE), &first, &second);
#pragma GCC unroll 4
        for (uint32_t c = 0; c < n_cols; c++) {
            dot[c] = multiply_bytes(dot[c], first, broadcast(q[c], p));
            dot[c] = multiply_bytes(dot[c], second, broadcast(q[c], p + 4));
        }
    }
#pragma GCC unroll 4
    for (uint32_t c = 0; c < n_cols; c++)
        dot[c] = add_pairs(dot[c]);
}

/* Whole bytes would saturate (2 * 255 * 127), so the planes are summed apart. */
INLINE void half_w8a8(const uint8_t *h, const uint8_t *l, const uint8_t *const *q, uint32_t n_cols,
                      __m256i *dot)
{
    __m256i sum_h[STEP], sum_l[STEP];
#pragma GCC unroll 4
    for (uint32_t c = 0; c < n_cols; c++)
        sum_h[c] = sum_l[c] = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (unsigned p = 0; p < QUADS; p++) {
        __m256i h_low, h_high, l_low, l_high;
        split(load(h + p * LINE), &h_low, &h_high);
        split(load(l + p * LINE), &l_low, &l_high);
#pragma GCC unroll 4
        for (uint32_t c = 0; c < n_cols; c++) {
            sum_h[c] = multiply_bytes(sum_h[c], h_low, broadcast(q[c], p));
            sum_l[c] = multiply_bytes(sum_l[c], l_low, broadcast(q[c], p));
            sum_h[c] = multiply_bytes(sum_h[c], h_high, broadcast(q[c], p + 4));
            sum_l[c] = multiply_bytes(sum_l[c], l_high, broadcast(q[c], p + 4));
        }
    }
#pragma GCC unroll 4
    for (uint32_t c = 0; c < n_cols; c++)
        dot[c] = _mm256_add_epi32(_mm256_madd_epi16(sum_h[c], _mm256_set1_epi16(16)),
                                  add_pairs(sum_l[c]));
}

/* Many columns meet the weights of W8A8 in 16 bits: as many multiplications as of planes apart, and
 * the sums need nothing more. */
#define W4A16 ((struct kind){half_w4a16, expand_w4_to_16, multiply, NULL, WORDS_A16, 2, false})
#define W8A16 ((struct kind){half_w8a16, expand_w8_to_16, multiply, NULL, WORDS_A16, 2, true})
#define W4A8                                                                                       \
    ((struct kind){half_w4a8, expand_w4_to_8, multiply_bytes, add_pairs, WORDS_A8, 1, false})
#define W8A8 ((struct kind){half_w8a8, expand_w8_to_16, multiply, NULL, WORDS_A16, 1, true})

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
            add_minus_8_sum(&dot, &b, 1);
            __m256 d = _mm256_mul_ps(halves_to_float(block + 2 * first), _mm256_set1_ps(0.0625F));
            __m256 m = halves_to_float(block + 2 * TILE + 2 * first);
            __m256 scaled = _mm256_mul_ps(d, _mm256_set1_ps(b.group[0]->scale));
            __m256 o = _mm256_sub_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(dot), scaled),
                                     _mm256_mul_ps(m, _mm256_set1_ps(b.group[0]->t)));
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
