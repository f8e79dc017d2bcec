/* Matrix products for NEON that have no integers: the float steps of scalar.c in the same order. */
#include "runtime/kernels/products_neon.h"

enum { STEP_F32 = 4 /* columns whose sums the registers hold */ };

/* Four bf16 as floats. */
INLINE float32x4_t brains_to_float(const uint8_t *bf16)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(bf16)), 16));
}

void rt_scale_rows_neon(const uint8_t *pairs, float fraction, const float *acc, uint32_t acc_stride,
                        uint32_t n_cols, float *y, uint32_t y_stride)
{
    for (unsigned first = 0; first < TILE; first += LANES) {
        float32x4_t d = vmulq_n_f32(brains_to_float(pairs + 2 * first), fraction);
        float32x4_t m = brains_to_float(pairs + 2 * TILE + 2 * first);
        for (size_t c = 0; c < n_cols; c++) {
            const float *of_column = acc + c * acc_stride + first;
            float32x4_t scaled_d = vmulq_f32(d, vld1q_f32(of_column));
            float32x4_t scaled_m = vmulq_f32(m, vld1q_f32(of_column + TILE));
            vst1q_f32(y + c * y_stride + first, vsubq_f32(scaled_d, scaled_m));
        }
    }
}

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
