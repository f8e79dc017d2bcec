/* The layer-by-layer FP32 pass over stories260K's golden text: the logits of an independent FP64
 * forward pass come out at every token. */
#include "tests/test.h"

#include <jansson.h>
#include <math.h>

#include "variants/stream.h"

#define MODEL "models/stories260K/"
enum { STEPS = 256 };

/* The start token and all golden ids but the last: what the 256 steps read. */
static void golden_ids(const json_t *golden, int32_t *ids)
{
    ids[0] = (int32_t)json_integer_value(json_object_get(golden, "start_token"));
    for (size_t i = 1; i < STEPS; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(json_object_get(golden, "ids"), i - 1));
}

static double logit(const struct var_source *src, const float *x, uint32_t id)
{
    float row[1024];
    double sum = 0;
    assert_true(src->model.n_embd <= 1024);
    var_tensor_row(&src->head, id, row);
    for (uint32_t i = 0; i < src->model.n_embd; i++)
        sum += (double)row[i] * (double)x[i];
    return sum;
}

static double worst_logit(const struct var_source *src, const float *state, const json_t *golden)
{
    json_t *steps = json_object_get(golden, "top5_logits_per_step"), *pair;
    double worst = 0;
    size_t k;
    for (size_t step = 0; step < STEPS; step++)
        json_array_foreach(json_array_get(steps, step), k, pair)
        {
            uint32_t id = (uint32_t)json_integer_value(json_array_get(pair, 0));
            double expected = json_number_value(json_array_get(pair, 1));
            double got = logit(src, state + step * src->model.n_embd_pad, id);
            worst = fmax(worst, fabs(got - expected));
        }
    return worst;
}

static void test_logits_of_the_golden_text(void **state)
{
    char source[4096], tokenizer[4096];
    struct ert_error err = {0};
    struct var_source *src;
    struct rt_team *team;
    struct var_stream *stream;
    int32_t ids[STEPS];
    (void)state;
    snprintf(source, sizeof source, "%s", test_data(MODEL "stories260K.bin"));
    snprintf(tokenizer, sizeof tokenizer, "%s", test_data(MODEL "tok512.bin"));
    json_t *golden = json_load_file(test_data(MODEL "golden_greedy_256.json"), 0, NULL);
    assert_non_null(golden);
    golden_ids(golden, ids);
    const struct var_texts texts = {.ids = ids, .n = 1, .length = STEPS};
    assert_int_equal(var_source_open(&src, source, tokenizer, &err), 0);
    assert_int_equal(rt_team_create(&team, 2, &err), 0);
    assert_int_equal(var_stream_open(&stream, src, team, &texts, &err), 0);
    while (var_stream_position(stream) < src->model.n_layers)
        assert_int_equal(var_stream_layer(stream, NULL, NULL, &err), 0);
    var_stream_finish(stream, NULL);
    double worst = worst_logit(src, var_stream_state(stream), golden);
    print_message("# largest difference of a logit: %.2e\n", worst);
    assert_true(worst < 1e-3);
    var_stream_close(stream);
    rt_team_free(team);
    var_source_free(src);
    json_decref(golden);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_logits_of_the_golden_text)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
