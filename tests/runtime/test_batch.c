/* Texts side by side: bit for bit what a session of each alone gives, at every step. */
#include "tests/runtime/random_pack.h"

#include <string.h>

enum { TEXTS = 11, LENGTH = 9, THREADS = 3 }; /* more texts than columns of a head product */

struct stage {
    struct rt_pack *pack;
    struct rt_team *team;
    struct rt_batch *batch;
    float *logits; /* [TEXTS][n_vocab] */
    int32_t ids[LENGTH][TEXTS];
};

static void open_stage(struct stage *s, const char *kind, const char *point, uint32_t cache_bits)
{
    struct ert_error err = {0};
    *s = (struct stage){.pack = random_pack(kind)};
    struct rt_batch_config config = {
        .n_sequences = TEXTS, .n_ctx = LENGTH, .cache_bits = cache_bits};
    assert_int_equal(rt_team_create(&s->team, THREADS, &err), 0);
    assert_int_equal(rt_point_parse(point, s->pack, &config.point, &err), 0);
    assert_int_equal(rt_batch_create(&s->batch, s->pack, s->team, &config, &err), 0);
    s->logits = calloc((size_t)TEXTS * s->pack->model.n_vocab, sizeof *s->logits);
    assert_non_null(s->logits);
    for (int32_t t = 0; t < LENGTH; t++)
        for (int32_t i = 0; i < TEXTS; i++)
            s->ids[t][i] = (37 * t + 17 * i * i + 5) % (int32_t)s->pack->model.n_vocab;
}

static void close_stage(struct stage *s)
{
    free(s->logits);
    rt_batch_free(s->batch);
    rt_team_free(s->team);
    rt_pack_free(s->pack);
}

/* A text alone, one token after the other: its logits at every step, [LENGTH][n_vocab]. */
static float *logits_alone(const struct stage *s, const char *point, uint32_t cache_bits,
                           uint32_t text)
{
    const struct rt_session_config config = {.cache_bits = cache_bits};
    struct rt_session *session;
    struct rt_point p;
    size_t v = s->pack->model.n_vocab;
    float *all = calloc(LENGTH * v, sizeof *all);
    assert_non_null(all);
    assert_int_equal(rt_point_parse(point, s->pack, &p, NULL), 0);
    assert_int_equal(rt_session_create(&session, s->pack, s->team, &config, NULL), 0);
    rt_session_set_point(session, &p);
    for (size_t t = 0; t < LENGTH; t++) {
        assert_int_equal(rt_session_feed(session, &s->ids[t][text], 1, NULL, NULL, NULL, NULL), 0);
        memcpy(all + t * v, rt_session_logits(session), v * sizeof *all);
    }
    rt_session_free(session);
    return all;
}

static void compare(const char *kind, const char *point, uint32_t cache_bits)
{
    struct stage s;
    float *alone[TEXTS];
    open_stage(&s, kind, point, cache_bits);
    size_t v = s.pack->model.n_vocab;
    for (uint32_t i = 0; i < TEXTS; i++)
        alone[i] = logits_alone(&s, point, cache_bits, i);
    for (int round = 0; round < 2; round++, rt_batch_restart(s.batch))
        for (size_t t = 0; t < LENGTH; t++) {
            assert_int_equal(rt_batch_step(s.batch, s.ids[t], s.logits, NULL), 0);
            for (size_t i = 0; i < TEXTS; i++)
                assert_memory_equal(s.logits + i * v, alone[i] + t * v, v * sizeof *s.logits);
        }
    for (uint32_t i = 0; i < TEXTS; i++)
        free(alone[i]);
    close_stage(&s);
}

static void each_text_is_as_it_is_alone(void **state)
{
    (void)state;
    compare("nested", "w8a8", 16);
    compare("nested", "w4a16-r70", 16);
    compare("nested", "w4a16-r70", 8);
    compare("nested", "w8a8", 6);
    compare("f32", "f32", 16);
}

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    struct stage s;
    struct ert_error err = {0};
    struct rt_batch *b;
    open_stage(&s, "nested", "w8a8", 16);
    const struct rt_batch_config too_many = {.n_sequences = RT_MAX_SEQUENCES + 1, .n_ctx = 1};
    const struct rt_batch_config too_long = {.n_sequences = 1, .n_ctx = 1 << 20};
    assert_int_equal(rt_batch_create(&b, s.pack, s.team, &too_many, &err), -ERT_E_RANGE);
    assert_null(b);
    assert_int_equal(rt_batch_create(&b, s.pack, s.team, &too_long, &err), -ERT_E_RANGE);
    s.ids[0][TEXTS - 1] = (int32_t)s.pack->model.n_vocab;
    assert_int_equal(rt_batch_step(s.batch, s.ids[0], s.logits, &err), -ERT_E_RANGE);
    assert_non_null(strstr(err.text, "text 10"));
    for (size_t t = 1; t < LENGTH; t++)
        assert_int_equal(rt_batch_step(s.batch, s.ids[t], s.logits, &err), 0);
    assert_int_equal(rt_batch_step(s.batch, s.ids[1], s.logits, &err), 0);
    assert_int_equal(rt_batch_step(s.batch, s.ids[1], s.logits, &err), -ERT_E_FULL);
    close_stage(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_text_is_as_it_is_alone),
        cmocka_unit_test(what_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
