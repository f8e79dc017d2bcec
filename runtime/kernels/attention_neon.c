/* Attention over a cache for NEON: what its registers do in attention_loops.inc. */
#include "runtime/kernels/versions.h"

#include <arm_neon.h>
#include <string.h>

typedef float32x4_t vector;
enum { LANES = 4, QUERIES = 3, STRIP = 8, LOADED = 1 };

#define INLINE static inline __attribute__((always_inline))

INLINE float32x4_t zero(void)
{
    return vdupq_n_f32(0);
}

/* Values i .. i + 3. */
INLINE float32x4_t load(enum rt_cache_type type, const uint8_t *from, size_t i)
{
    if (type == RT_CACHE_F32)
        return vld1q_f32((const float *)(const void *)from + i);
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16((const uint16_t *)(const void *)from + i)));
}

INLINE float32x4_t add_product(float32x4_t sum, const float *x, float32x4_t v)
{
    return vfmaq_n_f32(sum, v, *x);
}

INLINE void store(float *to, float32x4_t v)
{
    vst1q_f32(to, v);
}

/* ---- codes ----------------------------------------------------------------------------------- */

typedef int32x4_t ints;
typedef struct {
    int16x4_t first, second;
} pairs;

INLINE float32x4_t load_floats(const float *x)
{
    return vld1q_f32(x);
}

INLINE float32x4_t load_scales(const uint8_t *bf16)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(bf16)), 16));
}

INLINE float32x4_t multiply(float32x4_t a, float32x4_t b)
{
    return vmulq_f32(a, b);
}

INLINE float32x4_t spread(float x)
{
    return vdupq_n_f32(x);
}

INLINE float32x4_t larger(float32x4_t most, float32x4_t x)
{
    return vmaxq_f32(most, vabsq_f32(x));
}

INLINE float largest(float32x4_t most)
{
    return vmaxvq_f32(most);
}

INLINE void store_rounded(int16_t *to, float32x4_t a, float32x4_t b)
{
    int16x4_t first = vqmovn_s32(vcvtnq_s32_f32(a));
    vst1q_s16(to, vcombine_s16(first, vqmovn_s32(vcvtnq_s32_f32(b))));
}

INLINE pairs load_pairs(const uint8_t *codes)
{
    int16x4_t both = vreinterpret_s16_u8(vld1_u8(codes));
    return (pairs){vshr_n_s16(vshl_n_s16(both, 8), 8), vshr_n_s16(both, 8)};
}

INLINE pairs load_halves(const uint8_t *codes, bool high)
{
    int16x4_t both = vreinterpret_s16_u8(vld1_u8(codes));
    if (high)
        return (pairs){vshr_n_s16(vshl_n_s16(both, 8), 12), vshr_n_s16(both, 12)};
    return (pairs){vshr_n_s16(vshl_n_s16(both, 12), 12), vshr_n_s16(vshl_n_s16(both, 4), 12)};
}

INLINE int32x4_t add_pairs(int32x4_t dot, pairs codes, const int16_t *x)
{
    return vmlal_n_s16(vmlal_n_s16(dot, codes.first, x[0]), codes.second, x[1]);
}

INLINE float32x4_t add_scaled(float32x4_t sum, int32x4_t dot, float32x4_t scale)
{
    return vfmaq_f32(sum, vcvtq_f32_s32(dot), scale);
}

#include "runtime/kernels/attention_loops.inc"

ATTENTION(neon)
