/* Element by element, or over one vector: norm, gate, softmax, rotation. */
#include "tests/runtime/kernels/check.h"

void check_rmsnorm(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    static const struct {
        uint32_t n, n_true;
        float size;
    } cases[] = {{32, 8, 1}, {64, 64, 1e-20F}, {192, 172, 1e18F}, {576, 576, 3}, {2048, 2048, 0}};
    for (unsigned t = 0; t < sizeof cases / sizeof cases[0]; t++) {
        uint64_t seed = t;
        uint32_t n = cases[t].n, n_true = cases[t].n_true;
        float *x = new_floats(n), *w = new_floats(n), *out = new_floats(n),
              *expected = new_floats(n);
        double squares = 0, eps = (double)1e-5F;
        random_floats(&seed, x, n, cases[t].size);
        random_floats(&seed, w, n, 2);
        memset(x + n_true, 0, (n - n_true) * sizeof *x);
        for (uint32_t i = 0; i < n; i++)
            squares += (double)x[i] * x[i];
        k->rmsnorm(x, w, n, n_true, 1e-5F, out);
        scalar->rmsnorm(x, w, n, n_true, 1e-5F, expected);
        for (uint32_t i = 0; i < n; i++) {
            double y = x[i] / sqrt(squares / n_true + eps) * w[i];
            assert_within(out[i], expected[i], 2 * u * fabs(y));
            assert_within(out[i], y, 2 * u * fabs(y) + 1e-44);
        }
        free_floats(x);
        free_floats(w);
        free_floats(out);
        free_floats(expected);
    }
}

/* Gates from -200 to 200 in steps finer than the reduction of exp, and the far ends. */
void check_swiglu(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    enum { N = 16 * 1024 };
    static const float far[16] = {0,     -0.0F, 87.3F, -87.3F, 88.3F,  -88.3F, 88.7F,   -88.7F,
                                  1e30F, -1e30, 3e38F, -3e38F, 1e-40F, 1e-30F, -1e-30F, 709};
    float *g = new_floats(N), *up = new_floats(N), *out = new_floats(N), *expected = new_floats(N);
    uint64_t seed = 7;
    random_floats(&seed, up, N, 4);
    for (unsigned i = 0; i < N; i++)
        g[i] = i < 16 ? far[i] : ((float)i - N / 2.F) * (i % 3 ? 0.0245F : 0.001F);
    memcpy(out, g, N * sizeof *g);
    memcpy(expected, g, N * sizeof *g);
    k->swiglu(out, up, N);
    scalar->swiglu(expected, up, N);
    for (unsigned i = 0; i < N; i++) {
        double y = g[i] / (1 + exp(-(double)g[i])) * up[i];
        assert_within(out[i], expected[i], 8 * u * fabs(y) + 1e-36 * fabs(up[i]));
        assert_within(out[i], y, 8 * u * fabs(y) + 1e-36 * fabs(up[i]) + 1e-44);
    }
    free_floats(g);
    free_floats(up);
    free_floats(out);
    free_floats(expected);
}

static void check_softmax_case(const struct rt_kernels *k, const struct rt_kernels *scalar,
                               uint32_t n, float size)
{
    uint64_t seed = n;
    float *x = new_floats(n), *out = new_floats(n), *expected = new_floats(n);
    double max = -INFINITY, sum = 0;
    random_floats(&seed, x, n, size);
    memcpy(out, x, n * sizeof *x);
    memcpy(expected, x, n * sizeof *x);
    k->softmax(out, n);
    scalar->softmax(expected, n);
    for (uint32_t i = 0; i < n; i++)
        max = fmax(max, x[i]);
    for (uint32_t i = 0; i < n; i++)
        sum += exp((double)(x[i] - (float)max));
    for (uint32_t i = 0; i < n; i++) {
        double y = exp((double)(x[i] - (float)max)) / sum;
        assert_within(out[i], expected[i], 8 * u * y + 1e-36);
        assert_within(out[i], y, 8 * u * y + 1e-36);
    }
    free_floats(x);
    free_floats(out);
    free_floats(expected);
}

void check_softmax(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    for (uint32_t n = 1; n < 40; n++)
        check_softmax_case(k, scalar, n, 10);
    check_softmax_case(k, scalar, 2048, 1);
    check_softmax_case(k, scalar, 2047, 1e4F);
    check_softmax_case(k, scalar, 1000, 0);
}

static void check_rotate_case(const struct rt_kernels *k, const struct rt_kernels *scalar,
                              uint32_t dims, uint32_t n_angles)
{
    uint64_t seed = dims + n_angles;
    float *turn = new_floats((size_t)2 * n_angles), *head = new_floats(dims);
    float *out = new_floats(dims), *expected = new_floats(dims);
    uint16_t *pairs = malloc((dims / 2 + 1) * sizeof *pairs) /* off every vector boundary */;
    assert_non_null(pairs);
    random_floats(&seed, head, dims, 100);
    for (uint32_t i = 0; i < n_angles; i++) {
        double angle = 4 * (double)random_float(&seed);
        turn[2 * i] = (float)cos(angle);
        turn[2 * i + 1] = (float)sin(angle);
    }
    for (uint32_t p = 0; p < dims / 2; p++)
        pairs[1 + p] = (uint16_t)(random_u64(&seed) % n_angles);
    pairs[dims / 2] = (uint16_t)(n_angles - 1);
    memcpy(out, head, dims * sizeof *head);
    memcpy(expected, head, dims * sizeof *head);
    k->rotate(turn, out, dims, pairs + 1);
    scalar->rotate(turn, expected, dims, pairs + 1);
    assert_same_bits(out, expected, dims * sizeof *out);
    for (uint32_t p = 0; p < dims / 2; p++) { /* (a + b i) times (cos + i sin) */
        double c = turn[2 * pairs[1 + p]], s = turn[2 * pairs[1 + p] + 1];
        double a = head[2 * p], b = head[2 * p + 1], size = 2 * u * (fabs(a) + fabs(b));
        assert_within(out[2 * p], a * c - b * s, size);
        assert_within(out[2 * p + 1], a * s + b * c, size);
    }
    free_floats(turn);
    free_floats(head);
    free_floats(out);
    free_floats(expected);
    free(pairs);
}

void check_rotate(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    for (uint32_t dims = 16; dims <= MAX_DIMS; dims += 16)
        for (uint32_t n_angles = 1; n_angles < 100; n_angles += 33)
            check_rotate_case(k, scalar, dims, n_angles);
}
