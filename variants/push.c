#include "variants/push.h"

#ifdef __x86_64__
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

/* Lines of the matrix that are neighbours are one vector's loads: known to the compiler. */
#define BY_DIRECTION(push)                                                                         \
    if (f.across == 1)                                                                             \
        push(y, f, 1, n, e);                                                                       \
    else                                                                                           \
        push(y, f, f.across, n, e)

/* ---- any CPU ------------------------------------------------------------------------------- */

/* Four rows; a vector type, because compilers keep a loop's arrays in memory and its vectors not.
 */
typedef float quad __attribute__((vector_size(4 * sizeof(float)), aligned(4), may_alias));

/* Two columns at once. */
INLINE void push_plain_by(struct var_lanes *y, struct var_factor f, size_t across, uint32_t n,
                          const struct var_errors *e)
{
    for (uint32_t i = 0; i < n; i += 2) {
        quad *to = (quad *)(y + i);
        quad a0 = to[0], a1 = to[1], a2 = to[2], a3 = to[3];
        quad b0 = to[4], b1 = to[5], b2 = to[6], b3 = to[7];
        const quad *error = (const quad *)e->error;
        for (uint32_t k = 0; k < e->n; k++, error += 4) {
            const float *at = f.at + i * across + e->column[k] * f.down;
            float x = at[0], z = at[across];
            a0 += error[0] * x;
            a1 += error[1] * x;
            a2 += error[2] * x;
            a3 += error[3] * x;
            b0 += error[0] * z;
            b1 += error[1] * z;
            b2 += error[2] * z;
            b3 += error[3] * z;
        }
        to[0] = a0, to[1] = a1, to[2] = a2, to[3] = a3;
        to[4] = b0, to[5] = b1, to[6] = b2, to[7] = b3;
    }
}

static void push_plain(struct var_lanes *y, struct var_factor f, uint32_t n,
                       const struct var_errors *e)
{
    BY_DIRECTION(push_plain_by);
}

#ifdef __x86_64__

/* ---- AVX2 ---------------------------------------------------------------------------------- */

enum { COLUMNS_AVX2 = 4, HALVES = 2, COLUMNS_AVX512 = 8 };

__attribute__((target("avx2,fma"))) INLINE void push_avx2_by(struct var_lanes *y,
                                                             struct var_factor f, size_t across,
                                                             uint32_t n, const struct var_errors *e)
{
    for (uint32_t i = 0; i < n; i += COLUMNS_AVX2) {
        __m256 sum[COLUMNS_AVX2][HALVES];
#pragma GCC unroll 4
        for (unsigned c = 0; c < COLUMNS_AVX2; c++) {
            sum[c][0] = _mm256_loadu_ps(y[i + c].v);
            sum[c][1] = _mm256_loadu_ps(y[i + c].v + VAR_LANES / HALVES);
        }
        for (uint32_t k = 0; k < e->n; k++) {
            const float *at = f.at + i * across + e->column[k] * f.down;
            __m256 top = _mm256_loadu_ps(e->error[k].v);
            __m256 bottom = _mm256_loadu_ps(e->error[k].v + VAR_LANES / HALVES);
#pragma GCC unroll 4
            for (unsigned c = 0; c < COLUMNS_AVX2; c++) {
                __m256 x = _mm256_broadcast_ss(at + c * across);
                sum[c][0] = _mm256_fmadd_ps(top, x, sum[c][0]);
                sum[c][1] = _mm256_fmadd_ps(bottom, x, sum[c][1]);
            }
        }
#pragma GCC unroll 4
        for (unsigned c = 0; c < COLUMNS_AVX2; c++) {
            _mm256_storeu_ps(y[i + c].v, sum[c][0]);
            _mm256_storeu_ps(y[i + c].v + VAR_LANES / HALVES, sum[c][1]);
        }
    }
}

__attribute__((target("avx2,fma"))) static void push_avx2(struct var_lanes *y, struct var_factor f,
                                                          uint32_t n, const struct var_errors *e)
{
    BY_DIRECTION(push_avx2_by);
}

/* ---- AVX-512 ------------------------------------------------------------------------------- */

__attribute__((target("avx512f"))) INLINE void push_avx512_by(struct var_lanes *y,
                                                              struct var_factor f, size_t across,
                                                              uint32_t n,
                                                              const struct var_errors *e)
{
    for (uint32_t i = 0; i < n; i += COLUMNS_AVX512) {
        __m512 sum[COLUMNS_AVX512];
#pragma GCC unroll 8
        for (unsigned c = 0; c < COLUMNS_AVX512; c++)
            sum[c] = _mm512_loadu_ps(y[i + c].v);
        for (uint32_t k = 0; k < e->n; k++) {
            const float *at = f.at + i * across + e->column[k] * f.down;
            __m512 error = _mm512_loadu_ps(e->error[k].v);
#pragma GCC unroll 8
            for (unsigned c = 0; c < COLUMNS_AVX512; c++)
                sum[c] = _mm512_fmadd_ps(error, _mm512_set1_ps(at[c * across]), sum[c]);
        }
#pragma GCC unroll 8
        for (unsigned c = 0; c < COLUMNS_AVX512; c++)
            _mm512_storeu_ps(y[i + c].v, sum[c]);
    }
}

__attribute__((target("avx512f"))) static void push_avx512(struct var_lanes *y, struct var_factor f,
                                                           uint32_t n, const struct var_errors *e)
{
    BY_DIRECTION(push_avx512_by);
}

#endif

/* ---- the best of them ---------------------------------------------------------------------- */

var_push_fn *var_push_version(unsigned i)
{
    var_push_fn *const versions[] = {
        push_plain,
#ifdef __x86_64__
        __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? push_avx2 : NULL,
        __builtin_cpu_supports("avx512f") ? push_avx512 : NULL,
#endif
    };
    return i < sizeof versions / sizeof *versions ? versions[i] : NULL;
}

var_push_fn *var_push_best(void)
{
    unsigned i = 0;
    while (var_push_version(i + 1))
        i++;
    return var_push_version(i);
}
