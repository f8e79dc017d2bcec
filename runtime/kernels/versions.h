/* Every version of every kernel, as kernels.def names them. Inner header of this folder. */
#ifndef RT_KERNEL_VERSIONS_H
#define RT_KERNEL_VERSIONS_H

#include "runtime/kernels/kernels.h"

enum { RT_Q16 = 32767, RT_Q8 = 127 }; /* largest |q| of a16 and a8 */

/* Groups with a largest magnitude below this are zero groups, so that Q / amax stays finite. */
#define RT_AMAX_MIN 1e-30F

#define K(op, type, scalar, avx2, avxvnni, avx512vnni, neondot, neoni8mm)                          \
    extern rt_##type##_fn rt_##op##_##scalar, rt_##op##_##avx2, rt_##op##_##avxvnni,               \
        rt_##op##_##avx512vnni, rt_##op##_##neondot, rt_##op##_##neoni8mm;
#include "runtime/kernels/kernels.def"
#undef K

#endif
