/* Which column of kernels.def this CPU runs. */
#include "runtime/kernels/versions.h"

#include <stdlib.h>
#include <string.h>
#ifdef __x86_64__
#include <cpuid.h>
#endif
#ifdef __aarch64__
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

static bool cpu_has_scalar(void)
{
    return true;
}

#ifdef __x86_64__
/* F16C by cpuid itself: not every compiler's __builtin_cpu_supports knows the name. */
static bool cpu_has_avx2(void)
{
    unsigned eax, ebx, ecx, edx;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}

/* The AVX2 kernels fill what these ISAs have no version of. */
static bool cpu_has_avxvnni(void)
{
    enum { IN_EAX_OF_7_1 = 1 << 4 };
    unsigned eax, ebx, ecx, edx;
    return cpu_has_avx2() && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) &&
           (eax & IN_EAX_OF_7_1);
}

static bool cpu_has_avx512vnni(void)
{
    return cpu_has_avx2() && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}
#endif

#ifdef __aarch64__
static bool cpu_has_neondot(void)
{
    return getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
}

/* The dot kernels fill what this ISA has no version of. */
static bool cpu_has_neoni8mm(void)
{
    return cpu_has_neondot() && (getauxval(AT_HWCAP2) & HWCAP2_I8MM);
}
#endif

/* In order of rising capability: an ISA is a column of kernels.def and a row here. */
static const struct {
    bool (*cpu_has)(void);
    struct rt_kernels kernels;
} isas[] = {
    {cpu_has_scalar,
     {
         .isa = "scalar",
#define K(op, type, scalar, ...) .op = rt_##op##_##scalar,
#include "runtime/kernels/kernels.def"
#undef K
     }},
#ifdef __x86_64__
    {cpu_has_avx2,
     {
         .isa = "avx2",
#define K(op, type, scalar, avx2, ...) .op = rt_##op##_##avx2,
#include "runtime/kernels/kernels.def"
#undef K
     }},
    {cpu_has_avxvnni,
     {
         .isa = "avxvnni",
#define K(op, type, scalar, avx2, avxvnni, ...) .op = rt_##op##_##avxvnni,
#include "runtime/kernels/kernels.def"
#undef K
     }},
    {cpu_has_avx512vnni,
     {
         .isa = "avx512vnni",
#define K(op, type, scalar, avx2, avxvnni, avx512vnni, ...) .op = rt_##op##_##avx512vnni,
#include "runtime/kernels/kernels.def"
#undef K
     }},
#endif
#ifdef __aarch64__
    {cpu_has_neondot,
     {
         .isa = "neondot",
#define K(op, type, scalar, avx2, avxvnni, avx512vnni, neondot, ...) .op = rt_##op##_##neondot,
#include "runtime/kernels/kernels.def"
#undef K
     }},
    {cpu_has_neoni8mm,
     {
         .isa = "neoni8mm",
#define K(op, type, scalar, avx2, avxvnni, avx512vnni, neondot, neoni8mm)                          \
    .op = rt_##op##_##neoni8mm,
#include "runtime/kernels/kernels.def"
#undef K
     }},
#endif
};

enum { N_ISAS = sizeof isas / sizeof isas[0] };

const struct rt_kernels *rt_kernels_isa(unsigned i)
{
    for (unsigned k = 0; k < N_ISAS; k++)
        if (isas[k].cpu_has() && i-- == 0)
            return &isas[k].kernels;
    return NULL;
}

const struct rt_kernels *rt_kernels_best(void)
{
    const char *most = getenv("EDGERT_ISA");
    const struct rt_kernels *best = &isas[0].kernels;
    for (unsigned i = 0; i < N_ISAS; i++) {
        if (isas[i].cpu_has())
            best = &isas[i].kernels;
        if (most && strcmp(most, isas[i].kernels.isa) == 0)
            break;
    }
    return best;
}
