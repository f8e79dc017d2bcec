/* GB/s and GMAC/s of every matrix kernel, and ns per value of the others, on every ISA of this CPU.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/base.h"
#include "runtime/kernels/kernels.h"

enum {
    GROUPS = 48, /* of a row: the widest matrix of a 135M model, 1536 columns */
    CACHED_BYTES = 256 * 1024,
    MEMORY_BYTES = 128 * 1024 * 1024, /* beyond the last-level caches of small machines */
    SAMPLE_NS = 1000 * 1000,
    BUDGET_NS = 100 * 1000 * 1000,
    MEMORY_COLS = 4, /* beyond, what is read from memory no longer counts */
    N_VALUES = 2048,
    HEAD_DIM = 64,
    QUERIES = 3, /* heads that share keys and values */
};

/* What the kernels read and write, large enough for all of them. */
struct arena {
    uint8_t *weights; /* MEMORY_BYTES */
    struct rt_acts acts;
    float *x, *out;
    uint16_t *pairs; /* N_VALUES / 2, of HEAD_DIM / 2 frequencies */
};

typedef void pass_fn(const struct rt_kernels *k, struct arena *a, size_t bytes, uint32_t n_cols);

/* Time this thread has had a CPU: other processes of a busy machine do not count. */
static double cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Shortest time of one pass in ns: samples of SAMPLE_NS or one pass, until BUDGET_NS are spent. */
static double best_ns(pass_fn *pass, const struct rt_kernels *k, struct arena *a, size_t bytes,
                      uint32_t n_cols)
{
    double best = 1e300, spent = 0;
    while (spent < BUDGET_NS) {
        unsigned passes = 0;
        double begin = cpu_ns(), ns = 0;
        while (ns < SAMPLE_NS) {
            pass(k, a, bytes, n_cols);
            passes++;
            ns = cpu_ns() - begin;
        }
        spent += ns;
        best = ns / passes < best ? ns / passes : best;
    }
    return best;
}

/* ---- one pass of each type ----------------------------------------------------------------- */

/* Four sums: one would wait for its own additions. */
static void pass_read(const struct rt_kernels *k, struct arena *a, size_t bytes, uint32_t n_cols)
{
    typedef uint64_t words __attribute__((vector_size(16)));
    words s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
    (void)k, (void)n_cols;
    for (size_t i = 0; i < bytes; i += 4 * sizeof s0) {
        const words *from = (const void *)(a->weights + i);
        s0 += from[0], s1 += from[1], s2 += from[2], s3 += from[3];
    }
    s0 += s1 + s2 + s3;
    memcpy(a->out, &s0, sizeof s0);
}

/* Tiles of GROUPS blocks one after another, as many together as a kernel takes; the L planes follow
 * all H planes. */
static void pass_dot(rt_dot_fn *dot, struct arena *a, size_t bytes, uint32_t n_cols, bool w8)
{
    size_t tile_h = (size_t)GROUPS * PACK_H_BLOCK, tile_l = w8 ? (size_t)GROUPS * PACK_L_BLOCK : 0;
    size_t n_tiles = bytes / (tile_h + tile_l);
    const uint8_t *l = a->weights + n_tiles * tile_h;
    for (size_t t = 0; t + RT_TILES <= n_tiles; t += RT_TILES) {
        const struct rt_tiles w = {a->weights + t * tile_h,
                                   w8 ? l + t * tile_l : NULL,
                                   a->weights,
                                   GROUPS,
                                   RT_TILES,
                                   GROUPS,
                                   RT_TILES * PACK_TILE};
        dot(&w, &a->acts, 0, n_cols, 0, a->out);
    }
}

static void softmax_part(const struct rt_kernels *k, float *x)
{
    float max;
    for (uint32_t i = 0; i < N_VALUES; i += RT_CACHE_BLOCK)
        k->softmax_part(x + i, RT_CACHE_BLOCK, &max);
}

/* QUERIES queries and N_VALUES positions, a block at a time. */
static struct rt_cached block_of_cache(const struct arena *a, uint32_t position,
                                       enum rt_cache_type type)
{
    size_t of_position = HEAD_DIM / PACK_GROUP * rt_cache_group(type);
    return (struct rt_cached){a->weights + position * of_position, HEAD_DIM, HEAD_DIM,
                              RT_CACHE_BLOCK};
}

static void pass_score(rt_score_fn *score, enum rt_cache_type type, struct arena *a)
{
    for (uint32_t i = 0; i < N_VALUES; i += RT_CACHE_BLOCK) {
        const struct rt_cached keys = block_of_cache(a, i, type);
        score(&keys, a->x, QUERIES, a->out);
    }
}

static void pass_mix(rt_mix_fn *mix, enum rt_cache_type type, struct arena *a)
{
    for (uint32_t i = 0; i < N_VALUES; i += RT_CACHE_BLOCK) {
        const struct rt_cached values = block_of_cache(a, i, type);
        mix(&values, a->x, QUERIES, a->out, HEAD_DIM);
    }
}

#define PASS(op, call)                                                                             \
    static void pass_##op(const struct rt_kernels *k, struct arena *a, size_t bytes,               \
                          uint32_t n_cols)                                                         \
    {                                                                                              \
        (void)bytes, (void)n_cols;                                                                 \
        call;                                                                                      \
    }

PASS(dot_w4a16, pass_dot(k->dot_w4a16, a, bytes, n_cols, false))
PASS(dot_w8a16, pass_dot(k->dot_w8a16, a, bytes, n_cols, true))
PASS(dot_w4a8, pass_dot(k->dot_w4a8, a, bytes, n_cols, false))
PASS(dot_w8a8, pass_dot(k->dot_w8a8, a, bytes, n_cols, true))
PASS(outlier, for (size_t i = 0; i + PACK_OUTLIER <= bytes; i += PACK_OUTLIER)
                  k->outlier(a->weights + i, &a->acts, 0, n_cols, a->out, PACK_TILE))
PASS(dot_f32, for (size_t i = 0; i + (size_t)GROUPS * PACK_F32_BLOCK <= bytes;
                   i += (size_t)GROUPS * PACK_F32_BLOCK)
                  k->dot_f32((const float *)(const void *)(a->weights + i), GROUPS, a->x,
                             GROUPS *PACK_GROUP, n_cols, a->out))
PASS(quantize_a16, k->quantize_a16(a->x, N_VALUES / 32, &a->acts, 0))
PASS(quantize_a8, k->quantize_a8(a->x, N_VALUES / 32, &a->acts, 0))
PASS(rmsnorm, k->rmsnorm(a->x, a->x, N_VALUES, N_VALUES, 1e-5F, a->out))
PASS(swiglu, k->swiglu(a->out, a->x, N_VALUES))
PASS(softmax, k->softmax(a->out, N_VALUES))
PASS(softmax_part, softmax_part(k, a->out))
PASS(score_f16, pass_score(k->score_f16, RT_CACHE_F16, a))
PASS(score_q8, pass_score(k->score_q8, RT_CACHE_Q8, a))
PASS(score_f32, pass_score(k->score_f32, RT_CACHE_F32, a))
PASS(mix_f16, pass_mix(k->mix_f16, RT_CACHE_F16, a))
PASS(mix_q8, pass_mix(k->mix_q8, RT_CACHE_Q8, a))
PASS(mix_q4, pass_mix(k->mix_q4, RT_CACHE_Q4, a))
PASS(mix_f32, pass_mix(k->mix_f32, RT_CACHE_F32, a))
PASS(to_f16, k->to_f16(a->x, N_VALUES, (uint16_t *)(void *)a->out))
PASS(to_q8, k->to_q8(a->x, N_VALUES, (uint8_t *)a->out))
PASS(to_q4, k->to_q4(a->x, N_VALUES, (uint8_t *)a->out))
PASS(rotate, k->rotate(a->x, a->out, N_VALUES, a->pairs))

/* ---- reports ------------------------------------------------------------------------------- */

/* Weights in a byte of what the kernel reads, by type; 0 where it does not read weights. */
static double weights_per_byte(const char *op)
{
    static const struct {
        const char *op;
        double weights_per_byte;
    } table[] = {
        {"dot_w4a16", 512. / PACK_H_BLOCK}, {"dot_w8a16", 512. / (PACK_H_BLOCK + PACK_L_BLOCK)},
        {"dot_w4a8", 512. / PACK_H_BLOCK},  {"dot_w8a8", 512. / (PACK_H_BLOCK + PACK_L_BLOCK)},
        {"outlier", 512. / PACK_OUTLIER},   {"dot_f32", 1. / sizeof(float)},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (strcmp(table[i].op, op) == 0)
            return table[i].weights_per_byte;
    return 0;
}

static void report_matrix(const char *op, double per_byte, pass_fn *pass,
                          const struct rt_kernels *k, struct arena *a)
{
    static const size_t sizes[] = {CACHED_BYTES, MEMORY_BYTES};
    static const uint32_t columns[] = {1, 2, 4, 16, RT_COLS};
    for (unsigned s = 0; s < 2; s++)
        for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
            uint32_t n_cols = columns[i];
            if (s && n_cols > MEMORY_COLS)
                break;
            double bytes = (double)sizes[s], ns = best_ns(pass, k, a, sizes[s], n_cols);
            printf("%-13s %-10s %-7s %2u columns %8.2f GB/s %8.2f GMAC/s\n", op, k->isa,
                   s ? "memory" : "cache", n_cols, bytes / ns, bytes * per_byte * n_cols / ns);
        }
}

static void report(const char *op, pass_fn *pass, const struct rt_kernels *k, struct arena *a)
{
    double per_byte = weights_per_byte(op);
    if (per_byte > 0)
        report_matrix(op, per_byte, pass, k, a);
    else
        printf("%-13s %-10s %8.3f ns per value\n", op, k->isa,
               best_ns(pass, k, a, CACHED_BYTES, 1) / N_VALUES);
}

static bool arena_init(struct arena *a)
{
    size_t values = (size_t)RT_COLS * GROUPS * PACK_GROUP;
    *a = (struct arena){.weights = aligned_alloc(PACK_PAGE, MEMORY_BYTES),
                        .acts = {calloc(values, sizeof(int16_t)),
                                 calloc(values / PACK_GROUP, sizeof(struct rt_group)), GROUPS},
                        .x = aligned_alloc(64, values * sizeof(float)),
                        .out = aligned_alloc(64, values * sizeof(float)),
                        .pairs = calloc(N_VALUES / 2, sizeof(uint16_t))};
    if (!a->weights || !a->acts.q || !a->acts.group || !a->x || !a->out || !a->pairs)
        return false;
    memset(a->weights, 0x11, MEMORY_BYTES);
    memset(a->out, 0, values * sizeof *a->out);
    for (size_t i = 0; i < values; i++)
        a->x[i] = (float)(i % 17) - 8;
    for (size_t i = 0; i < N_VALUES / 2; i++)
        a->pairs[i] = (uint16_t)(i * 5 % (HEAD_DIM / 2)); /* sorted by importance: any order */
    return true;
}

static void arena_release(struct arena *a)
{
    free(a->weights);
    free(a->acts.q);
    free(a->acts.group);
    free(a->x);
    free(a->out);
    free(a->pairs);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *op;
        pass_fn *pass;
    } rows[] = {
#define K(op, ...) {#op, pass_##op},
#include "runtime/kernels/kernels.def"
#undef K
    };
    struct arena a;
    bool ready = arena_init(&a);
    if (!ready)
        fprintf(stderr, "kernels: no memory for %d MB of weights\n", MEMORY_BYTES >> 20);
    for (unsigned s = 0; ready && s < 2; s++) {
        size_t bytes = s ? MEMORY_BYTES : CACHED_BYTES;
        printf("%-13s %-10s %-7s %20.2f GB/s\n", "read", "", s ? "memory" : "cache",
               (double)bytes / best_ns(pass_read, NULL, &a, bytes, 0));
    }
    for (size_t row = 0; ready && row < sizeof rows / sizeof rows[0]; row++)
        for (unsigned i = 0; rt_kernels_isa(i); i++)
            if (argc < 2 || strcmp(argv[1], rows[row].op) == 0)
                report(rows[row].op, rows[row].pass, rt_kernels_isa(i), &a);
    arena_release(&a);
    return !ready;
}
