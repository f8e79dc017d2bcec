/* Attention over a cache for NEON: what its registers do in attention_loops.inc. */
#include "runtime/kernels/versions.h"

#include <arm_neon.h>

typedef float32x4_t vector;
enum { LANES = 4, QUERIES = 3, STRIP = 8, LOADED = 1 };

#define INLINE static inline __attribute__((always_inline))

INLINE float32x4_t zero(void)
{
    return vdupq_n_f32(0);
}

/* Scales of four positions, if they have any. */
INLINE float32x4_t load_scales(enum rt_cache_type type, const uint8_t *scales)
{
    if (type != RT_CACHE_Q8)
        return vdupq_n_f32(0);
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(scales)), 16));
}

/* One position's scale, if it has one. */
INLINE float32x4_t load_scale(enum rt_cache_type type, const uint8_t *scale)
{
    if (type != RT_CACHE_Q8)
        return vdupq_n_f32(0);
    uint32_t bf16 = (uint32_t)scale[0] << 16 | (uint32_t)scale[1] << 24;
    return vreinterpretq_f32_u32(vdupq_n_u32(bf16));
}

/* Values i .. i + 3, i a constant: neighbours share one load of eight codes. */
INLINE float32x4_t load(enum rt_cache_type type, const uint8_t *from, size_t i, float32x4_t scale)
{
    if (type == RT_CACHE_F32)
        return vld1q_f32((const float *)(const void *)from + i);
    if (type == RT_CACHE_F16)
        return vcvt_f32_f16(
            vreinterpret_f16_u16(vld1_u16((const uint16_t *)(const void *)from + i)));
    int16x8_t eight = vmovl_s8(vld1_s8((const int8_t *)from + i / 8 * 8));
    int16x4_t codes = i % 8 ? vget_high_s16(eight) : vget_low_s16(eight);
    return vmulq_f32(scale, vcvtq_f32_s32(vmovl_s16(codes)));
}

INLINE float32x4_t add_product(float32x4_t sum, const float *x, float32x4_t v)
{
    return vfmaq_n_f32(sum, v, *x);
}

INLINE void store(float *to, float32x4_t v)
{
    vst1q_f32(to, v);
}

#include "runtime/kernels/attention_loops.inc"

ATTENTION(neon)
