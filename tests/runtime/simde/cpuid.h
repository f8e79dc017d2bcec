/* A CPU that has whatever dispatch.c asks for: its kernels are emulated (immintrin.h beside this).
 */
#ifndef ERT_TEST_CPUID_H
#define ERT_TEST_CPUID_H

#define __builtin_cpu_supports(name) 1
#define bit_F16C                     (1U << 29)

static inline int __get_cpuid(unsigned leaf, unsigned *a, unsigned *b, unsigned *c, unsigned *d)
{
    (void)leaf;
    *a = *b = *c = *d = ~0U;
    return 1;
}

static inline int __get_cpuid_count(unsigned leaf, unsigned subleaf, unsigned *a, unsigned *b,
                                    unsigned *c, unsigned *d)
{
    (void)subleaf;
    return __get_cpuid(leaf, a, b, c, d);
}

#endif
