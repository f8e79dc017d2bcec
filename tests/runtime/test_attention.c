/* Attention over the cache against softmax(q K^T / sqrt(D)) V in double, on every ISA of this CPU;
 * and the same bits for any columns that come together and any number of threads. */
#include "runtime/attention.h"

#include <math.h>
#include <string.h>

#include "tests/random.h"
#include "tests/test.h"

enum { LAYERS = 2, LAYER = 1, COLS = 11, SEQUENCES = 3, THREADS = 3 }; /* 11: more than few */

static const double u = 0x1p-23;

struct shape {
    uint32_t n_heads, n_kv_heads, head_dim, head_pad, qk, vo;
    uint32_t cache_bits;
};

static const struct shape shapes[] = {
    {9, 3, 64, 64, 64, 64, 16}, {9, 3, 64, 64, 64, 64, 8},  {9, 3, 64, 64, 64, 64, 6},
    {7, 1, 40, 64, 64, 32, 16}, {5, 5, 96, 96, 32, 96, 16}, {7, 1, 40, 64, 64, 32, 8},
    {5, 5, 96, 96, 32, 96, 8},  {7, 1, 40, 64, 64, 32, 6},  {5, 5, 96, 96, 32, 96, 6},
    {1, 1, 32, 32, 32, 32, 32}, {6, 2, 72, 96, 64, 64, 32},
};
enum { N_SHAPES = sizeof shapes / sizeof shapes[0] };

/* Positions around the edges of tiles and blocks, and many blocks. */
static const uint32_t lengths[] = {1, 15, 17, 127, 128, 129, 140, 256, 700};
enum { N_LENGTHS = sizeof lengths / sizeof lengths[0], LONGEST = 700 };

/* A model of nothing but attention, its cache full of random keys and values. */
struct stage {
    struct shape shape;
    struct rt_pack pack;
    struct rt_tier tier;
    struct rt_dims dims[LAYERS];
    struct rt_extras extras[LAYERS];
    struct rt_layer layers[LAYERS];
    uint16_t *pairs;
    struct rt_team *team;
    struct rt_forward f;
    float *keys, *values; /* [sequence][position][G P], as the cache rounds them */
    float *queries;       /* [sequence][position][H P], by head */
    float *angles;        /* [position][head_dim / 2] */
    float *turn;          /* [COLS][head_dim / 2][2] */
    unsigned workers;
};

static float *new_floats(size_t n)
{
    float *memory = malloc(n * sizeof *memory);
    assert_non_null(memory);
    return memory;
}

static size_t row_at(uint32_t sequence, uint32_t position, uint32_t width)
{
    return ((size_t)sequence * LONGEST + position) * width;
}

static void open_model(struct stage *s, const struct shape *shape, uint32_t n_sequences)
{
    s->pack = (struct rt_pack){.n_tiers = 1, .tiers = &s->tier};
    s->pack.model = (struct rt_model){.n_layers = LAYERS,
                                      .n_embd = 32,
                                      .n_heads = shape->n_heads,
                                      .n_kv_heads = shape->n_kv_heads,
                                      .head_dim = shape->head_dim,
                                      .n_ctx = LONGEST,
                                      .n_embd_pad = 32,
                                      .head_pad = shape->head_pad,
                                      .n_vocab_pad = 16,
                                      .rope_theta = 1e4F};
    s->pack.layers = s->layers;
    s->tier = (struct rt_tier){.dims = s->dims, .extras = s->extras};
    s->pairs = calloc((size_t)shape->n_kv_heads * shape->head_pad / 2, sizeof *s->pairs);
    assert_non_null(s->pairs);
    for (uint32_t i = 0; i < shape->n_kv_heads * shape->head_pad / 2; i++)
        s->pairs[i] = (uint16_t)(i * 7 % (shape->head_dim / 2));
    for (int i = 0; i < LAYERS; i++) {
        s->dims[i] = (struct rt_dims){32, shape->qk, shape->vo, 0};
        s->layers[i].pairs = s->pairs;
    }
    assert_int_equal(rt_team_create(&s->team, THREADS, NULL), 0);
    s->f = (struct rt_forward){.pack = &s->pack,
                               .team = s->team,
                               .cache = {.n_sequences = n_sequences, .n_ctx = LONGEST},
                               .chunk = COLS};
    bool floats = shape->cache_bits == 32;
    assert_int_equal(rt_cache_choose(&s->f.cache, floats ? 16 : shape->cache_bits,
                                     floats ? RT_PACK_F32 : RT_PACK_NESTED, NULL),
                     0);
    assert_int_equal(rt_forward_init(&s->f, NULL), 0);
    s->f.step = (struct rt_step){.variant = &rt_variants[RT_F32], .tier = &s->tier};
}

/* Random numbers that a cache of codes holds exactly: one scale, a bf16, in each 32 of them, codes
 * above -limit and below, and among them one that decides the scale: 127 of 8 bits, -8 of 4. */
static float *new_codes(uint64_t *seed, size_t n, float size, int32_t limit, int32_t most)
{
    float *x = new_floats(n), scale = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t code = (int32_t)(random_u64(seed) % (2 * (uint32_t)limit - 1)) - limit + 1;
        if (i % 32 == 0)
            scale = ldexpf(size / (float)limit, -(int)(random_u64(seed) % 3));
        x[i] = scale * (float)(i % 32 == i / 32 % 32 ? most : code);
    }
    return x;
}

/* Random numbers that an f16 holds exactly. */
static float *new_values(uint64_t *seed, size_t n, float size)
{
    float *x = new_floats(n);
    for (size_t i = 0; i < n; i++)
        x[i] = ert_f16_to_f32(ert_f32_to_f16(random_float(seed) * size));
    return x;
}

/* What a cache of so many bits holds exactly. */
static float *new_cached(uint64_t *seed, size_t n, float size, uint32_t bits)
{
    if (bits == 8)
        return new_codes(seed, n, size, 128, 127);
    return bits == 4 ? new_codes(seed, n, size, 8, -8) : new_values(seed, n, size);
}

static uint32_t bits_of_values(const struct shape *shape)
{
    return shape->cache_bits == 6 ? 4 : shape->cache_bits;
}

static void open_stage(struct stage *s, const struct shape *shape, uint32_t n_sequences)
{
    uint64_t seed = shape->n_heads;
    uint32_t kv = shape->n_kv_heads * shape->head_pad, half = shape->head_dim / 2;
    size_t rows = (size_t)n_sequences * LONGEST;
    *s = (struct stage){.shape = *shape, .workers = 1};
    open_model(s, shape, n_sequences);
    s->keys = new_cached(&seed, rows * kv, 2, shape->cache_bits == 6 ? 8 : shape->cache_bits);
    s->values = new_cached(&seed, rows * kv, 3, bits_of_values(shape));
    s->queries = new_values(&seed, rows * shape->n_heads * shape->head_pad, 2);
    s->angles = new_values(&seed, (size_t)LONGEST * half, 3);
    s->turn = new_floats((size_t)COLS * half * 2);
}

static void close_stage(struct stage *s)
{
    rt_forward_release(&s->f);
    rt_team_free(s->team);
    free(s->pairs);
    free(s->keys);
    free(s->values);
    free(s->queries);
    free(s->angles);
    free(s->turn);
}

/* Both layers get keys and values; those of the other layer are not what is asked for. */
static void fill_cache(struct stage *s)
{
    struct rt_forward *f = &s->f;
    uint32_t kv = s->shape.n_kv_heads * s->shape.head_pad, n = f->cache.n_sequences;
    f->step.side_by_side = true;
    f->step.n_cols = n;
    for (uint32_t p = 0; p < LONGEST; p++)
        for (uint32_t i = 0; i < n; i++) {
            size_t at = row_at(i, p, kv), other = row_at(i, LONGEST - 1 - p, kv);
            f->step.position = p;
            rt_cache_keys(f, LAYER, i, s->keys + at, 0, kv);
            rt_cache_values(f, LAYER, i, s->values + at, 0, kv / 2 / 32 * 32); /* in two parts */
            rt_cache_values(f, LAYER, i, s->values + at, kv / 2 / 32 * 32, kv - kv / 2 / 32 * 32);
            rt_cache_keys(f, !LAYER, i, s->keys + other, 0, kv);
            rt_cache_values(f, !LAYER, i, s->values + other, 0, kv);
        }
}

/* ---- running ------------------------------------------------------------------------------- */

static void work(void *ctx, unsigned worker, unsigned n)
{
    struct stage *s = ctx;
    uint32_t first, end;
    (void)n;
    rt_team_stage(s->team, worker, rt_attention_units(&s->f, s->f.step.n_cols));
    while (rt_team_take(s->team, worker, &first, &end))
        rt_attend(&s->f, LAYER, s->f.step.n_cols, first, end, worker, s->turn);
}

/* n_cols columns from a position on, or of as many sequences; into f.mixed. */
static void attend(struct stage *s, uint32_t position, uint32_t n_cols, bool side_by_side)
{
    struct rt_forward *f = &s->f;
    uint32_t heads = s->shape.n_heads, pad = s->shape.head_pad, half = s->shape.head_dim / 2;
    f->step.position = position;
    f->step.n_cols = n_cols;
    f->step.side_by_side = side_by_side;
    for (uint32_t c = 0; c < n_cols; c++) {
        uint32_t p = side_by_side ? position : position + c;
        const float *q = s->queries + row_at(side_by_side ? c : 0, p, heads * pad);
        for (uint32_t h = 0; h < heads; h++)
            for (uint32_t d = 0; d < pad; d++)
                f->q[(size_t)c * heads * pad + ((size_t)(d / 32) * heads + h) * 32 + d % 32] =
                    q[h * pad + d];
        for (uint32_t i = 0; i < half; i++) {
            s->turn[((size_t)c * half + i) * 2] = cosf(s->angles[(size_t)p * half + i]);
            s->turn[((size_t)c * half + i) * 2 + 1] = sinf(s->angles[(size_t)p * half + i]);
        }
    }
    memset(f->mixed.f32, 0xff, (size_t)n_cols * f->mixed.width * sizeof(float)); /* NaN */
    rt_team_run(s->team, s->workers, work, s);
}

/* Where f.mixed has one head's dimension. */
static float mixed_at(const struct stage *s, uint32_t col, uint32_t head, uint32_t d)
{
    return s->f.mixed.f32[(size_t)col * s->f.mixed.width +
                          ((size_t)(d / 32) * s->shape.n_heads + head) * 32 + d % 32];
}

/* ---- the reference ------------------------------------------------------------------------- */

/* One head's query at a position, rotated. */
static void reference_query(const struct stage *s, uint32_t sequence, uint32_t position,
                            uint32_t head, double *q)
{
    const struct shape *t = &s->shape;
    const float *raw =
        s->queries + row_at(sequence, position, t->n_heads * t->head_pad) + head * t->head_pad;
    const uint16_t *pairs = s->pairs + head / (t->n_heads / t->n_kv_heads) * t->head_pad / 2;
    for (uint32_t i = 0; i < t->qk / 2; i++) {
        double angle = s->angles[(size_t)position * (t->head_dim / 2) + pairs[i]];
        q[2 * i] = raw[2 * i] * cos(angle) - raw[2 * i + 1] * sin(angle);
        q[2 * i + 1] = raw[2 * i] * sin(angle) + raw[2 * i + 1] * cos(angle);
    }
}

static double largest_of(const float *group)
{
    double largest = 0;
    for (uint32_t d = 0; d < 32; d++)
        largest = fmax(largest, fabsf(group[d]));
    return largest;
}

/* What rounding queries to 16 bits may change of a score: of each 32 dimensions, max |q| / 64000
 * times sum |k| (kernels.h). */
static double query_slack(const struct shape *t, const double *q, const float *key)
{
    double slack = 0;
    for (uint32_t g = 0; t->cache_bits <= 8 && g < t->qk; g += 32) {
        double largest = 0, size = 0;
        for (uint32_t d = g; d < g + 32; d++) {
            largest = fmax(largest, fabs(q[d]));
            size += fabsf(key[d]);
        }
        slack += largest / 64000 * size;
    }
    return slack;
}

/* The same of weights: of each block, max |weight scale| / 64000 times sum |code|. The largest code
 * of 32 dimensions is 127, or -8. */
static double weight_slack(const struct stage *s, const float *values, const double *weights,
                           uint32_t n, uint32_t d)
{
    uint32_t kv = s->shape.n_kv_heads * s->shape.head_pad;
    double slack = 0, largest_code = bits_of_values(&s->shape) == 4 ? 8 : 127;
    for (uint32_t begin = 0; s->shape.cache_bits <= 8 && begin < n; begin += RT_CACHE_BLOCK) {
        double largest = 0, size = 0;
        for (uint32_t p = begin; p < n && p < begin + RT_CACHE_BLOCK; p++) {
            const float *row = values + (size_t)p * kv;
            double scale = largest_of(row + d / 32 * 32) / largest_code;
            largest = fmax(largest, weights[p] * scale);
            size += fabs(row[d] / scale);
        }
        slack += largest / 64000 * size;
    }
    return slack;
}

/* A score errs by its rounding, which its weight does relatively; the rest is a few more steps. */
static void check_head(const struct stage *s, uint32_t sequence, uint32_t position, uint32_t col,
                       uint32_t head)
{
    const struct shape *t = &s->shape;
    uint32_t kv = t->n_kv_heads * t->head_pad;
    uint32_t group = head / (t->n_heads / t->n_kv_heads) * t->head_pad, n = position + 1;
    double q[128] = {0}, weights[LONGEST], max = -INFINITY, sum = 0, score_error = 0;
    reference_query(s, sequence, position, head, q);
    for (uint32_t p = 0; p < n; p++) {
        const float *key = s->keys + row_at(sequence, p, kv) + group;
        double dot = 0, size = 0;
        for (uint32_t d = 0; d < t->qk; d++) {
            dot += q[d] * key[d];
            size += fabs(q[d] * key[d]);
        }
        weights[p] = dot / sqrt(t->head_dim);
        max = fmax(max, weights[p]);
        double error = (t->qk + 8) * u * size + query_slack(t, q, key);
        score_error = fmax(score_error, error / sqrt(t->head_dim));
    }
    for (uint32_t p = 0; p < n; p++)
        sum += weights[p] = exp(weights[p] - max);
    for (uint32_t d = 0; d < t->vo; d++) {
        const float *values = s->values + row_at(sequence, 0, kv) + group;
        double value = 0, size = 0, got = mixed_at(s, col, head, d);
        for (uint32_t p = 0; p < n; p++) {
            double term = weights[p] / sum * values[(size_t)p * kv + d];
            value += term;
            size += fabs(term);
        }
        double slack = weight_slack(s, values, weights, n, d) / sum;
        if (!(fabs(got - value) <= (2 * score_error + 64 * u) * size + slack))
            fail_msg("%s, %u heads, position %u, column %u, head %u, dimension %u: %.9g, expected "
                     "%.9g",
                     s->f.kernels->isa, t->n_heads, position, col, head, d, got, value);
    }
}

/* ---- tests --------------------------------------------------------------------------------- */

static void check_lengths(struct stage *s)
{
    for (unsigned i = 0; i < N_LENGTHS; i++) {
        uint32_t n = lengths[i], cols = n < COLS ? n : COLS;
        s->workers = 1 + i % THREADS;
        attend(s, n - cols, cols, false);
        for (uint32_t c = 0; c < cols; c++)
            for (uint32_t h = 0; h < s->shape.n_heads; h++)
                check_head(s, 0, n - cols + c, c, h);
    }
}

static void each_length_is_near_double(void **state)
{
    (void)state;
    for (unsigned i = 0; rt_kernels_isa(i); i++)
        for (unsigned t = 0; t < N_SHAPES; t++) {
            struct stage s;
            open_stage(&s, &shapes[t], 1);
            s.f.kernels = rt_kernels_isa(i);
            fill_cache(&s);
            check_lengths(&s);
            close_stage(&s);
        }
}

/* The columns up to a length alone on one thread, then in parts on several: few, then many. */
static void check_bits(struct stage *s, uint32_t n, float *alone)
{
    uint32_t cols = n < COLS ? n : COLS, first = n - cols;
    size_t width = s->f.mixed.width;
    s->workers = 1;
    for (uint32_t c = 0; c < cols; c++) {
        attend(s, first + c, 1, false);
        memcpy(alone + c * width, s->f.mixed.f32, width * sizeof *alone);
    }
    for (unsigned together = 1; together <= cols; together += 1 + together / 3)
        for (uint32_t c = 0; c < cols; c += together) {
            uint32_t count = cols - c < together ? cols - c : together;
            s->workers = 1 + (together + c) % THREADS;
            attend(s, first + c, count, false);
            for (uint32_t i = 0; i < count; i++)
                for (uint32_t h = 0; h < s->shape.n_heads; h++)
                    for (uint32_t b = 0; b < s->shape.vo / 32; b++) {
                        size_t at = ((size_t)b * s->shape.n_heads + h) * 32;
                        assert_memory_equal(s->f.mixed.f32 + i * width + at,
                                            alone + (c + i) * width + at, 32 * sizeof *alone);
                    }
        }
}

static void bits_do_not_depend_on_company_or_threads(void **state)
{
    (void)state;
    for (unsigned i = 0; rt_kernels_isa(i); i++)
        for (unsigned t = 0; t < N_SHAPES; t++) {
            struct stage s;
            open_stage(&s, &shapes[t], 1);
            s.f.kernels = rt_kernels_isa(i);
            fill_cache(&s);
            float *alone = new_floats((size_t)COLS * s.f.mixed.width);
            for (unsigned l = 0; l < N_LENGTHS; l++)
                check_bits(&s, lengths[l], alone);
            free(alone);
            close_stage(&s);
        }
}

static void sequences_side_by_side_have_their_own(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 6; i++) {
        uint32_t n = i % 2 ? COLS : SEQUENCES;
        struct stage s;
        open_stage(&s, &shapes[i / 2], n);
        s.f.kernels = rt_kernels_best();
        fill_cache(&s);
        for (unsigned l = 0; l < N_LENGTHS; l++) {
            s.workers = 1 + l % THREADS;
            attend(&s, lengths[l] - 1, n, true);
            for (uint32_t text = 0; text < n; text++)
                for (uint32_t h = 0; h < s.shape.n_heads; h++)
                    check_head(&s, text, lengths[l] - 1, text, h);
        }
        close_stage(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_length_is_near_double),
        cmocka_unit_test(bits_do_not_depend_on_company_or_threads),
        cmocka_unit_test(sequences_side_by_side_have_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
