/* stories260K, true FP32 weights: 256 greedy steps against an independent FP64 forward pass. */
#include "tests/test.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#include "variants/variants.h"

#define MODEL "models/stories260K/"

struct story {
    struct rt_pack *pack;
    struct rt_team *team;
    struct rt_session *session;
    json_t *golden;
};

/* Opened by the first test: a setup of the group could fail, but not skip. */
static int no_story_yet(void **state)
{
    static struct story s;
    *state = &s;
    return 0;
}

static int open_story(void **state)
{
    struct story *s = *state;
    struct ert_error err = {0};
    char source[4096], tokenizer[4096], golden[4096], pack[4096];
    snprintf(source, sizeof source, "%s", test_data(MODEL "stories260K.bin"));
    snprintf(tokenizer, sizeof tokenizer, "%s", test_data(MODEL "tok512.bin"));
    snprintf(golden, sizeof golden, "%s", test_data(MODEL "golden_greedy_256.json"));
    if (s->golden)
        return 0;
    snprintf(pack, sizeof pack, "%s", test_build("stories260K.f32.edgert"));
    struct var_build_options options = {
        .source = source, .tokenizer = tokenizer, .output = pack, .f32 = true, .threads = 2};
    if (var_build(&options, &err) || rt_pack_open(&s->pack, pack, &err) ||
        rt_team_create(&s->team, 2, &err) ||
        rt_session_create(&s->session, s->pack, s->team, &(struct rt_session_config){0}, &err)) {
        print_error("%s\n", err.text);
        return -1;
    }
    struct rt_point point;
    if (rt_point_parse("f32", s->pack, &point, &err))
        return -1;
    rt_session_set_point(s->session, &point);
    s->golden = json_load_file(golden, 0, NULL);
    return s->golden ? 0 : -1;
}

static int close_story(void **state)
{
    struct story *s = *state;
    rt_session_free(s->session);
    rt_team_free(s->team);
    rt_pack_free(s->pack);
    json_decref(s->golden);
    return 0;
}

static int32_t argmax(const float *x, uint32_t n)
{
    uint32_t top = 0;
    for (uint32_t i = 1; i < n; i++)
        top = x[i] > x[top] ? i : top;
    return (int32_t)top;
}

/* Every id, and the five largest logits of every step within 1e-3. */
static void test_greedy_text_and_logits(void **state)
{
    assert_int_equal(open_story(state), 0);
    struct story *s = *state;
    json_t *ids = json_object_get(s->golden, "ids"), *steps, *pair;
    steps = json_object_get(s->golden, "top5_logits_per_step");
    int32_t token = (int32_t)json_integer_value(json_object_get(s->golden, "start_token"));
    double worst = 0;
    assert_int_equal(json_array_size(ids), 256);
    assert_int_equal(json_array_size(steps), 256);
    for (size_t step = 0, k; step < 256; step++) {
        assert_int_equal(rt_session_feed(s->session, &token, 1, NULL, NULL, NULL, NULL), 0);
        const float *logits = rt_session_logits(s->session);
        json_array_foreach(json_array_get(steps, step), k, pair)
        {
            size_t id = (size_t)json_integer_value(json_array_get(pair, 0));
            double expected = json_number_value(json_array_get(pair, 1));
            worst = fmax(worst, fabs((double)logits[id] - expected));
        }
        token = argmax(logits, s->pack->model.n_vocab);
        assert_int_equal(token, json_integer_value(json_array_get(ids, step)));
    }
    print_message("# largest difference of a logit: %.2e\n", worst);
    assert_true(worst < 1e-3);
}

/* The golden text comes back from the golden ids, through the vocabulary that the pack carries. */
static void test_text_of_the_ids(void **state)
{
    assert_int_equal(open_story(state), 0);
    struct story *s = *state;
    json_t *ids = json_object_get(s->golden, "ids"), *id;
    const char *expected = json_string_value(json_object_get(s->golden, "text"));
    struct rt_tokenizer *t;
    char text[8192];
    size_t n = 0, i;
    assert_int_equal(rt_tokenizer_create(&t, &s->pack->vocab, NULL), 0);
    json_array_foreach(ids, i, id) n +=
        rt_decode_token(t, (int32_t)json_integer_value(id), false, text + n, sizeof text - n);
    text[n] = '\0';
    assert_string_equal(text, expected);
    rt_tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy_text_and_logits),
        cmocka_unit_test(test_text_of_the_ids),
    };
    return cmocka_run_group_tests(tests, no_story_yet, close_story);
}
