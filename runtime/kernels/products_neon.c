/* Matrix products for NEON that have no integers: the float steps of scalar.c in the same order. */
#include "runtime/kernels/products_neon.h"

enum { STEP_F32 = 4 /* columns whose sums the registers hold */ };

/* n_cols, a constant, is STEP_F32 or 1. */
INLINE void dot_f32_columns(const float *w, uint32_t n_groups, const float *x, uint32_t stride,
                            uint32_t n_cols, float *acc)
{
    enum { QUARTERS = TILE / LANES };
    float32x4_t sum[STEP_F32 * QUARTERS];
#pragma GCC unroll 16
    for (unsigned i = 0; i < n_cols * QUARTERS; i++)
        sum[i] = vld1q_f32(acc + (size_t)i * LANES);
    for (size_t i = 0; i < (size_t)n_groups * GROUP; i++, w += TILE) {
#pragma GCC unroll 4
        for (unsigned k = 0; k < QUARTERS; k++) {
            float32x4_t weights = vld1q_f32(w + (size_t)k * LANES);
#pragma GCC unroll 4
            for (uint32_t c = 0; c < n_cols; c++)
                sum[c * QUARTERS + k] =
                    vaddq_f32(sum[c * QUARTERS + k], vmulq_n_f32(weights, x[c * stride + i]));
        }
    }
#pragma GCC unroll 16
    for (unsigned i = 0; i < n_cols * QUARTERS; i++)
        vst1q_f32(acc + (size_t)i * LANES, sum[i]);
}

void rt_dot_f32_neon(const float *w, uint32_t n_groups, const float *x, uint32_t stride,
                     uint32_t n_cols, float *acc)
{
    for (; n_cols >= STEP_F32; n_cols -= STEP_F32, acc += STEP_F32 * TILE) {
        dot_f32_columns(w, n_groups, x, stride, STEP_F32, acc);
        x += (size_t)STEP_F32 * stride;
    }
    for (; n_cols > 0; n_cols--, x += stride, acc += TILE)
        dot_f32_columns(w, n_groups, x, stride, 1, acc);
}
