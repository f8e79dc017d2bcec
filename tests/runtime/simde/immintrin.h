/* The x86 kernels' intrinsics in plain C, by SIMDe: found before the compiler's own header where a
 * CPU's kernels are checked on one that lacks them. Below is what SIMDe 0.7.4 has not of them,
 * and multiply-adds, which it does not fuse. */
#ifndef ERT_TEST_IMMINTRIN_H
#define ERT_TEST_IMMINTRIN_H

#define SIMDE_NO_NATIVE
#define SIMDE_NO_INLINE /* unrolled kernels would become huge */
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>

#include <math.h>
#include <string.h>

#undef _MM_FROUND_NO_EXC
#define _MM_FROUND_NO_EXC SIMDE_MM_FROUND_NO_EXC

typedef simde__mmask16 __mmask16;

typedef uint8_t emulated_u8x16 __attribute__((vector_size(16)));
typedef int8_t emulated_s8x16 __attribute__((vector_size(16)));
typedef uint16_t emulated_u16x16 __attribute__((vector_size(32)));
typedef int32_t emulated_s32x16 __attribute__((vector_size(64)));
typedef float emulated_f32x8 __attribute__((vector_size(32)));
typedef float emulated_f32x16 __attribute__((vector_size(64)));
typedef double emulated_f64x8 __attribute__((vector_size(64)));

#define CONVERT(name, from, from_lanes, to, to_lanes)                                              \
    static inline to name(from v)                                                                  \
    {                                                                                              \
        return (to) __builtin_convertvector((from_lanes)v, to_lanes);                              \
    }
#undef _mm512_cvtepi8_epi32
#undef _mm512_cvtepu8_epi32
#undef _mm512_cvtepu16_epi32
#undef _mm512_cvtepi32_ps
#undef _mm512_cvtps_pd
CONVERT(_mm512_cvtepi8_epi32, __m128i, emulated_s8x16, __m512i, emulated_s32x16)
CONVERT(_mm512_cvtepu8_epi32, __m128i, emulated_u8x16, __m512i, emulated_s32x16)
CONVERT(_mm512_cvtepu16_epi32, __m256i, emulated_u16x16, __m512i, emulated_s32x16)
CONVERT(_mm512_cvtepi32_ps, __m512i, emulated_s32x16, __m512, emulated_f32x16)
CONVERT(_mm512_cvtps_pd, __m256, emulated_f32x8, __m512d, emulated_f64x8)
#undef CONVERT

#undef _mm512_cvtph_ps
static inline __m512 _mm512_cvtph_ps(__m256i f16)
{
    __m256 halves[2] = {_mm256_cvtph_ps(_mm256_extracti128_si256(f16, 0)),
                        _mm256_cvtph_ps(_mm256_extracti128_si256(f16, 1))};
    __m512 v;
    memcpy(&v, halves, sizeof v);
    return v;
}

#define FUSED(name, vector, lanes, n, sign)                                                        \
    static inline vector name(vector a, vector b, vector c)                                        \
    {                                                                                              \
        lanes x = (lanes)a, y = (lanes)b, z = (lanes)c;                                            \
        for (unsigned i = 0; i < n; i++)                                                           \
            z[i] = fmaf(sign x[i], y[i], z[i]);                                                    \
        return (vector)z;                                                                          \
    }
#undef _mm256_fmadd_ps
#undef _mm256_fnmadd_ps
#undef _mm512_fmadd_ps
#undef _mm512_fnmadd_ps
FUSED(_mm256_fmadd_ps, __m256, emulated_f32x8, 8, +)
FUSED(_mm256_fnmadd_ps, __m256, emulated_f32x8, 8, -)
FUSED(_mm512_fmadd_ps, __m512, emulated_f32x16, 16, +)
FUSED(_mm512_fnmadd_ps, __m512, emulated_f32x16, 16, -)
#undef FUSED

/* To nearest even; what no integer holds becomes the least one. */
#undef _mm512_cvtps_epi32
static inline __m512i _mm512_cvtps_epi32(__m512 v)
{
    emulated_f32x16 x = (emulated_f32x16)v;
    emulated_s32x16 z;
    for (unsigned i = 0; i < 16; i++)
        z[i] = x[i] >= -0x1p31F && x[i] < 0x1p31F ? (int32_t)rintf(x[i]) : INT32_MIN;
    return (__m512i)z;
}

#undef _mm512_reduce_add_epi32
static inline int32_t _mm512_reduce_add_epi32(__m512i v)
{
    emulated_s32x16 lanes = (emulated_s32x16)v;
    int32_t sum = 0;
    for (unsigned i = 0; i < 16; i++)
        sum += lanes[i];
    return sum;
}

#undef _mm512_mask_loadu_ps
static inline __m512 _mm512_mask_loadu_ps(__m512 other, __mmask16 mask, const void *p)
{
    for (unsigned i = 0; i < 16; i++)
        if (mask >> i & 1)
            memcpy((char *)&other + 4 * i, (const char *)p + 4 * i, 4);
    return other;
}

#undef _mm512_mask_storeu_ps
static inline void _mm512_mask_storeu_ps(void *p, __mmask16 mask, __m512 v)
{
    for (unsigned i = 0; i < 16; i++)
        if (mask >> i & 1)
            memcpy((char *)p + 4 * i, (const char *)&v + 4 * i, 4);
}

#undef _mm512_reduce_add_ps
static inline float _mm512_reduce_add_ps(__m512 v)
{
    emulated_f32x16 lanes = (emulated_f32x16)v;
    for (unsigned n = 8; n > 0; n /= 2)
        for (unsigned i = 0; i < n; i++)
            lanes[i] += lanes[i + n];
    return lanes[0];
}

#undef _mm512_reduce_max_ps
static inline float _mm512_reduce_max_ps(__m512 v)
{
    emulated_f32x16 lanes = (emulated_f32x16)v;
    for (unsigned i = 1; i < 16; i++)
        lanes[0] = lanes[i] > lanes[0] ? lanes[i] : lanes[0];
    return lanes[0];
}

#undef _mm512_reduce_add_pd
static inline double _mm512_reduce_add_pd(__m512d v)
{
    emulated_f64x8 lanes = (emulated_f64x8)v;
    for (unsigned n = 4; n > 0; n /= 2)
        for (unsigned i = 0; i < n; i++)
            lanes[i] += lanes[i + n];
    return lanes[0];
}

#endif
