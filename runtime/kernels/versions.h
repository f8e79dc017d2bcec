/* Every version of every kernel, as kernels.def names them. Inner header of this folder. */
#ifndef RT_KERNEL_VERSIONS_H
#define RT_KERNEL_VERSIONS_H

#include <math.h>

#include "base/base.h"
#include "runtime/kernels/kernels.h"

enum { RT_Q16 = 32767, RT_Q8 = 127 }; /* largest |q| of a16 and a8 */

/* Groups with a largest magnitude below this are zero groups, so that Q / amax stays finite. */
#define RT_AMAX_MIN 1e-30F

/* The scale (bf16) of a cached group of 8 bits with this largest magnitude. It is rounded before
 * the codes are made of it, so that it costs them nothing; by 2^-8 at most, so that the largest
 * code is 127 still. */
static inline uint16_t rt_q8_scale(float amax)
{
    return amax < RT_AMAX_MIN || isinf(amax) ? 0 : ert_f32_to_bf16(amax / RT_Q8);
}

/* The scale (bf16) of a cached group of 4 bits: `most` is its value of the largest magnitude, of
 * two the negative one, and becomes -8. Others may round to 8 then, which is 7. */
static inline uint16_t rt_q4_scale(float most)
{
    return fabsf(most) < RT_AMAX_MIN || isinf(most) ? 0 : ert_f32_to_bf16(most / -8);
}

/* What a cached group's values are multiplied by: 0 makes a zero group. */
static inline float rt_cache_inverse(uint16_t scale)
{
    return scale ? 1 / ert_bf16_to_f32(scale) : 0;
}

#define K(op, type, scalar, avx2, avxvnni, avx512vnni, neondot, neoni8mm)                          \
    extern rt_##type##_fn rt_##op##_##scalar, rt_##op##_##avx2, rt_##op##_##avxvnni,               \
        rt_##op##_##avx512vnni, rt_##op##_##neondot, rt_##op##_##neoni8mm;
#include "runtime/kernels/kernels.def"
#undef K

#endif
