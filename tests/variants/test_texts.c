/* Calibration text: what the model writes follows its own distribution, whatever runs beside it;
 * what a user gives is cut up as it is. */
#include "tests/runtime/random_pack.h"

#include <math.h>
#include <string.h>

#include "variants/texts.h"

enum { BOS = 1, EOS = 2 }; /* of tools/packtool's random packs */

static struct rt_pack *pack;
static struct rt_team *team;

static int begin(void **state)
{
    (void)state;
    pack = random_pack("nested");
    return rt_team_create(&team, 2, NULL);
}

static int end(void **state)
{
    (void)state;
    rt_team_free(team);
    rt_pack_free(pack);
    return 0;
}

static struct var_texts write_texts(uint32_t n_measured, uint32_t n_held, uint32_t n_weighed,
                                    uint32_t length, uint64_t seed)
{
    struct ert_error err = {0};
    struct var_texts t;
    const struct var_texts_config config = {.measured = n_measured * length,
                                            .held_back = n_held * length,
                                            .weighed = n_weighed * length,
                                            .length = length,
                                            .weighed_length = length,
                                            .temperature = 1.2f,
                                            .seed = seed};
    if (var_texts_write(&t, pack, team, &config, &err))
        fail_msg("%s", err.text);
    return t;
}

/* Probabilities of the token behind BOS at a temperature, from a session of its own. */
static void first_probabilities(double temperature, double *p)
{
    struct rt_session *session;
    uint32_t n = pack->model.n_vocab;
    const int32_t bos = BOS;
    double sum = 0;
    assert_int_equal(rt_session_create(&session, pack, team, &(struct rt_session_config){0}, NULL),
                     0);
    assert_int_equal(rt_session_feed(session, &bos, 1, NULL, NULL, NULL, NULL), 0);
    for (uint32_t i = 0; i < n; i++)
        sum += p[i] = exp((double)rt_session_logits(session)[i] / temperature);
    for (uint32_t i = 0; i < n; i++)
        p[i] /= sum;
    rt_session_free(session);
}

/* How far the frequencies of the second tokens of n texts of two are from the model's probabilities
 * at a temperature, over how far n fair draws are on average (the mean absolute deviation of a
 * binomial is near sqrt(2 p (1 - p) / (pi n))). */
static double distance_of_draws(const int32_t *ids, uint32_t n_texts, double temperature)
{
    uint32_t n = pack->model.n_vocab;
    double *p = calloc(n, sizeof *p), *count = calloc(n, sizeof *count);
    double distance = 0, expected = 0;
    first_probabilities(temperature, p);
    for (size_t i = 0; i < n_texts; i++) {
        assert_int_equal(ids[2 * i], BOS);
        count[ids[2 * i + 1]]++;
    }
    for (uint32_t i = 0; i < n; i++) {
        distance += fabs(count[i] / n_texts - p[i]);
        expected += sqrt(2 * p[i] * (1 - p[i]) / (M_PI * n_texts));
    }
    print_message("# %u texts, temperature %.1f: distance %.3f, of fair draws %.3f\n", n_texts,
                  temperature, distance, expected);
    free(count);
    free(p);
    return distance / expected;
}

/* The measured texts are written at 1.2, those held back at 1, of the weighed ones every other at
 * each. */
static void second_tokens_follow_the_model(void **state)
{
    enum { N = 6000 };
    (void)state;
    struct var_texts t = write_texts(N, N, 2 * N, 2, 3), weighed = var_texts_weighed(&t);
    int32_t *cool = malloc((size_t)2 * N * sizeof *cool),
            *warm = malloc((size_t)2 * N * sizeof *warm);
    const int32_t *at_one[] = {t.ids + (size_t)2 * N, cool}, *at_other[] = {t.ids, warm};
    assert_int_equal(t.n, 2 * N);
    assert_int_equal(weighed.n, 2 * N);
    assert_int_equal(weighed.length, 2);
    assert_ptr_equal(weighed.ids, t.ids + (size_t)2 * 2 * N);
    for (size_t i = 0; i < N; i++) {
        memcpy(cool + 2 * i, weighed.ids + 4 * i, 2 * sizeof *cool);
        memcpy(warm + 2 * i, weighed.ids + 4 * i + 2, 2 * sizeof *warm);
    }
    for (unsigned i = 0; i < 2; i++) {
        double one = distance_of_draws(at_one[i], N, 1),
               other = distance_of_draws(at_other[i], N, 1.2);
        assert_true(one < 1.2 && one > 0.8 && other < 1.2 && other > 0.8);
        assert_true(distance_of_draws(at_one[i], N, 1.2) > 1.2);
        assert_true(distance_of_draws(at_other[i], N, 1) > 1.2);
    }
    free(cool);
    free(warm);
    free(t.ids);
}

/* Third tokens: they follow what came before, and draws of one text do not follow each other. All
 * these texts are held back. */
static void later_tokens_follow_what_came_before(void **state)
{
    enum { TEXTS = 64, LENGTH = 16 };
    struct rt_session *session;
    size_t v = pack->model.n_vocab;
    float *logits = calloc(LENGTH * v, sizeof *logits);
    double nll = 0, entropy = 0;
    (void)state;
    struct var_texts t = write_texts(0, TEXTS, 0, LENGTH, 4);
    assert_int_equal(rt_session_create(&session, pack, team, &(struct rt_session_config){0}, NULL),
                     0);
    for (size_t i = 0; i < TEXTS; i++) {
        rt_session_rewind(session, 0);
        assert_int_equal(
            rt_session_feed(session, t.ids + i * LENGTH, LENGTH, NULL, NULL, logits, NULL), 0);
        for (size_t k = 0; k + 1 < LENGTH; k++) {
            double sum = 0, mean = 0;
            if (t.ids[i * LENGTH + k] == EOS)
                continue;
            for (size_t id = 0; id < v; id++) {
                sum += exp((double)logits[k * v + id]);
                mean += exp((double)logits[k * v + id]) * (double)logits[k * v + id];
            }
            nll += log(sum) - (double)logits[k * v + (size_t)t.ids[i * LENGTH + k + 1]];
            entropy += log(sum) - mean / sum;
        }
    }
    print_message("# surprise over entropy %.4f\n", nll / entropy);
    assert_true(fabs(nll / entropy - 1) < 0.02);
    rt_session_free(session);
    free(logits);
    free(t.ids);
}

static void a_new_text_begins_after_an_end(void **state)
{
    unsigned ends = 0;
    (void)state;
    struct var_texts t = write_texts(60, 20, 0, 64, 5);
    for (size_t i = 0; i < t.n; i++)
        for (size_t k = 0; k + 1 < t.length; k++)
            if (t.ids[i * t.length + k] == EOS) {
                assert_int_equal(t.ids[i * t.length + k + 1], BOS);
                ends++;
            }
    assert_true(ends > 5);
    free(t.ids);
}

/* 64 texts are one round of 64, 65 are two of 33. */
static void a_text_does_not_depend_on_those_beside_it(void **state)
{
    (void)state;
    struct var_texts one = write_texts(50, 14, 0, 30, 6), two = write_texts(50, 14, 1, 30, 6);
    struct var_texts other = write_texts(50, 14, 0, 30, 7);
    assert_int_equal(one.n, 64);
    assert_int_equal(two.n + two.n_weighed, 65);
    assert_int_equal(one.n_measured, 50);
    assert_memory_equal(one.ids, two.ids, 64 * 30 * sizeof *one.ids);
    assert_memory_not_equal(one.ids, other.ids, 64 * 30 * sizeof *one.ids);
    free(one.ids);
    free(two.ids);
    free(other.ids);
}

static void a_short_context_gets_more_texts(void **state)
{
    (void)state;
    uint32_t n_ctx = pack->model.n_ctx;
    struct var_texts t = write_texts(3, 1, 1, 2 * n_ctx, 8);
    assert_int_equal(t.length, n_ctx);
    assert_int_equal(t.n_measured, 6);
    assert_int_equal(t.n, 8);
    assert_int_equal(t.n_weighed, 2);
    free(t.ids);
}

/* ---- a file -------------------------------------------------------------------------------- */

static const char *write_file(size_t n)
{
    const char *path = test_build("calibration.txt");
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    for (size_t i = 0; i < n; i++)
        fputc((int)('a' + (i * i * 2654435761u >> 9) % 23), f);
    assert_int_equal(fclose(f), 0);
    return path;
}

static void a_file_is_cut_into_texts(void **state)
{
    struct ert_error err = {0};
    struct rt_vocab vocab = pack->vocab;
    struct rt_tokenizer *tokenizer;
    struct var_texts t;
    int32_t *ids;
    size_t n, text_bytes;
    char *text;
    (void)state;
    vocab.add_bos = true;
    const char *path = write_file(5000);
    const struct var_texts_config config = {
        .measured = 320, .held_back = 80, .weighed = 80, .length = 40, .weighed_length = 20};
    assert_int_equal(ert_read_text(path, 1 << 20, &text, &text_bytes, &err), 0);
    assert_int_equal(rt_tokenizer_create(&tokenizer, &vocab, &err), 0);
    assert_int_equal(rt_encode(tokenizer, text, text_bytes, 0, &ids, &n, &err), 0);
    assert_int_equal(var_texts_read(&t, path, &vocab, &pack->model, &config, &err), 0);
    assert_int_equal(t.n, 10);
    assert_int_equal(t.n_measured, 8);
    assert_int_equal(var_texts_weighed(&t).n, 4); /* none of the others */
    assert_ptr_equal(var_texts_weighed(&t).ids, t.ids + (size_t)10 * 40);
    size_t last = 0;
    const int32_t *piece = t.ids;
    for (size_t i = 0; i < 14; i++) { /* each is a piece of the file, behind the one before */
        size_t at = last, own = i < 10 ? 39 : 19;
        assert_int_equal(piece[0], BOS);
        while (at + own <= n && memcmp(ids + at, piece + 1, own * sizeof *ids) != 0)
            at++;
        assert_true(at + own <= n);
        last = at + own;
        piece += 1 + own;
    }
    assert_true(last > n * 3 / 4); /* the whole file is drawn from */
    free(t.ids);
    free(ids);
    free(text);
    rt_tokenizer_free(tokenizer);
}

static void a_short_file_is_shared_out_or_refused(void **state)
{
    struct ert_error err = {0};
    struct var_texts t;
    (void)state;
    const struct var_texts_config config = {
        .measured = 16384, .held_back = 4096, .weighed = 2048, .length = 64, .weighed_length = 32};
    assert_int_equal(
        var_texts_read(&t, write_file(2000), &pack->vocab, &pack->model, &config, &err), 0);
    assert_true(t.n > 5 && t.n < 40);
    assert_int_equal(t.n - t.n_measured, (t.n + 4) / 5);
    assert_int_equal(t.n_weighed, (t.n + t.n_weighed) / 6); /* as many as were asked for of all */
    assert_ptr_equal(var_texts_weighed(&t).ids, t.ids + (size_t)t.n * 64);
    free(t.ids);
    assert_int_equal(var_texts_read(&t, write_file(200), &pack->vocab, &pack->model, &config, &err),
                     0);
    assert_true(t.n < 6); /* too few to weigh on texts of their own */
    assert_int_equal(t.n_weighed, 0);
    assert_int_equal(var_texts_weighed(&t).n, 1);
    assert_ptr_equal(var_texts_weighed(&t).ids, t.ids);
    free(t.ids);
    assert_int_equal(var_texts_read(&t, write_file(20), &pack->vocab, &pack->model, &config, &err),
                     -ERT_E_RANGE);
    assert_non_null(strstr(err.text, "at least 128 are needed"));
    assert_null(t.ids);
    assert_int_equal(
        var_texts_read(&t, "/nonexistent/x", &pack->vocab, &pack->model, &config, &err),
        -ERT_E_MISSING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(second_tokens_follow_the_model),
        cmocka_unit_test(later_tokens_follow_what_came_before),
        cmocka_unit_test(a_new_text_begins_after_an_end),
        cmocka_unit_test(a_text_does_not_depend_on_those_beside_it),
        cmocka_unit_test(a_short_context_gets_more_texts),
        cmocka_unit_test(a_file_is_cut_into_texts),
        cmocka_unit_test(a_short_file_is_shared_out_or_refused),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
