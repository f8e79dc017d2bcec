/* Turns and ladders: what is worked out before a token is fed. */
#include <stdlib.h>

#include "engine/ladder.h"
#include "tests/engine/stage.h"

/* SmolLM2's markers are not in the random vocabulary, so that they are encoded as plain letters:
 * what counts is that a dialogue fed turn by turn is the dialogue rendered whole. */
static const char chatml[] =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' "
    "}}{% endif %}";

static void a_later_turn_continues_the_dialogue(void **state)
{
    struct ert_failure why;
    struct ert_error err;
    struct ert_model *model = stage_model("nested");
    struct ert_engine *engine;
    const struct ert_engine_options options = {.point = "w4a16", .threads = 1};
    assert_int_equal(ert_engine_open(&engine, model, &options, &why), 0);
    model->chat = rt_chat_recognise(chatml);
    assert_non_null(model->chat);
    struct ert_conversation *talk = stage_talk(engine);
    talk->raw = false;

    int32_t *first, *answer, *second, *whole;
    size_t n_first, n_answer, n_second, n_whole;
    assert_int_equal(turn_encode(talk, "abc", &first, &n_first, &err), 0);
    assert_int_equal(rt_encode(model->tokenizer, "kl", 2, 0, &answer, &n_answer, &err), 0);
    assert_int_equal(rt_session_feed(talk->session, first, 1, NULL, NULL, NULL, &err), 0);
    talk->pending = answer[n_answer - 1];
    assert_int_equal(turn_encode(talk, "xyz", &second, &n_second, &err), 0);

    const struct rt_message dialogue[] = {{"user", "abc"}, {"assistant", "kl"}, {"user", "xyz"}};
    assert_int_equal(
        rt_chat_encode(model->tokenizer, model->chat, dialogue, 3, true, &whole, &n_whole, &err),
        0);
    /* The token that was pending stands before the second turn. */
    assert_int_equal(n_whole, n_first + n_answer - 1 + n_second);
    assert_memory_equal(whole, first, n_first * sizeof *whole);
    assert_memory_equal(whole + n_first, answer, n_answer * sizeof *whole);
    assert_memory_equal(whole + n_first + n_answer, second + 1, (n_second - 1) * sizeof *whole);
    free(first);
    free(answer);
    free(second);
    free(whole);
    ert_conversation_free(talk);
    ert_engine_close(engine, NULL);
    ert_model_free(model);
    stage_clear();
    (void)state;
}

static struct rt_catalog_row row_of(const char *name, double bytes, double kld)
{
    struct rt_catalog_row row = {.bytes_per_token = bytes, .kld = kld};
    assert_int_equal(rt_point_parse(name, NULL, &row.point, NULL), 0);
    row.point.tier = strstr(name, "-r") != NULL;
    return row;
}

/* Worked out by hand: w4a16-r80 beats w4a16-r90 in both, and w8a8-r90, which only its tier makes
 * worse than w4a16, is behind w4a16 in bytes. Of the tiers only w4a16-r95 costs next to nothing. */
static void the_auto_ladder_is_the_frontier_and_deep_tiers_come_late(void **state)
{
    struct rt_catalog_row rows[] = {
        row_of("w4a16", 60, 0.055),    row_of("w8a8", 100, 0.01),
        row_of("w4a16-r90", 55, 0.5),  row_of("w4a16-r80", 50, 0.4),
        row_of("w8a8-r90", 90, 0.061), row_of("w4a16-r95", 58, 0.0601),
        row_of("w4a16-r60", 40, 0.9),  row_of("w8a8-r95", 95, 0.0601),
    };
    static const char *const expected[] = {"w8a8",
                                           "w4a16",
                                           "w4a16@1t",
                                           "w4a16@1t,8tok/s",
                                           "w4a16@1t,5tok/s",
                                           "w4a16-r95@1t,3tok/s",
                                           "w4a16-r80@1t,3tok/s",
                                           "w4a16-r60@1t,3tok/s",
                                           "pause"};
    const size_t n = sizeof expected / sizeof *expected;
    struct rt_pack pack = {.catalog = rows, .n_catalog = sizeof rows / sizeof *rows};
    struct pol_point rungs[POL_MAX_STATES];
    assert_int_equal(ladder_from_catalog(&pack, rungs), n);
    for (size_t i = 0; i < n; i++)
        assert_string_equal(rungs[i].name, expected[i]);
    assert_string_equal(rungs[6].point, "w4a16-r80");
    assert_int_equal(rungs[6].threads, 1);
    assert_true(rungs[6].tokens_per_second == 3 && rungs[8].pause);
    rows[5].kld = 0.0599; /* a tier that costs nothing comes before the pace */
    assert_int_equal(ladder_from_catalog(&pack, rungs), n);
    assert_string_equal(rungs[2].name, "w4a16-r95");
    assert_string_equal(rungs[3].name, "w4a16-r95@1t");
    pack.n_catalog = 0;
    assert_int_equal(ladder_from_catalog(&pack, rungs), 0);
    (void)state;
}

static void a_rung_that_the_pack_lacks_is_named(void **state)
{
    struct ert_model *model = stage_model("h-only");
    struct rt_point_table *table;
    struct ert_error err;
    const struct pol_point rungs[] = {{.name = "w4a16@9t", .point = "w4a16", .threads = 9},
                                      {.name = "w8a8", .point = "w8a8"}};
    assert_int_equal(ladder_resolve(model->pack, rungs, 2, 4, &table, &err), -ERT_E_MISSING);
    assert_non_null(strstr(err.text, "rung 1"));
    assert_non_null(strstr(err.text, "w4a16-r80"));
    assert_int_equal(ladder_resolve(model->pack, rungs, 1, 4, &table, &err), 0);
    assert_int_equal(rt_point_at(table, 0)->threads, 4); /* no more than the team has */
    assert_string_equal(rt_point_at(table, 0)->name, "w4a16@9t");
    rt_point_table_unref(table);
    ert_model_free(model);
    stage_clear();
    (void)state;
}

/* A user's policy goes over the shipped one, and the extra file over both. */
static void policies_are_layered(void **state)
{
    char folder[] = "/tmp/edgert-layers-XXXXXX", path[200], extra[200], command[300];
    static const char form[] = "edgert: 1\nladders:\n  one: [w8a8, w4a16]\n"
                               "policies:\n  mine: {ladder: one, poll: %dms}\n";
    char text[300];
    struct pol_file *file;
    struct ert_error err;
    struct pol_policy *policy = malloc(sizeof *policy);
    assert_non_null(policy);
    assert_non_null(mkdtemp(folder));
    snprintf(command, sizeof command, "mkdir -p %s/edgert", folder);
    assert_int_equal(system(command), 0);
    snprintf(path, sizeof path, "%s/edgert/policies.yaml", folder);
    snprintf(extra, sizeof extra, "%s/extra.yaml", folder);
    snprintf(text, sizeof text, form, 100);
    stage_write(path, text);
    snprintf(text, sizeof text, form, 200);
    stage_write(extra, text);
    setenv("XDG_CONFIG_HOME", folder, 1);
    for (int with = 0; with < 2; with++) {
        assert_int_equal(layers_load_policies(NULL, with ? extra : NULL, &file, &err), 0);
        assert_int_equal(pol_compile(file, "mine", NULL, 0, policy, &err), 0);
        assert_true(policy->poll_s == (with ? 0.2 : 0.1));
        pol_file_free(file);
    }
    unsetenv("XDG_CONFIG_HOME");
    unlink(path);
    unlink(extra);
    snprintf(command, sizeof command, "rmdir %s/edgert %s", folder, folder);
    assert_int_equal(system(command), 0);
    free(policy);
    (void)state;
}

static void wrong_options_are_refused(void **state)
{
    struct ert_failure why;
    struct ert_engine *engine;
    struct ert_conversation *talk;
    struct ert_model *model = stage_model("nested");
    static const struct {
        struct ert_engine_options options;
        int code;
    } wrong[] = {
        {{.point = "w4a16", .policy = "balanced"}, ERT_FAILED_USAGE},
        {{.point = "pause"}, ERT_FAILED_USAGE},
        {{.point = "w2a2"}, ERT_FAILED_MISSING},
        {{.point = "w4a16", .threads = 1000}, ERT_FAILED_RANGE},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(ert_engine_open(&engine, model, &wrong[i].options, &why), -wrong[i].code);
        assert_null(engine);
        assert_int_equal(why.code, wrong[i].code);
        assert_true(why.text[0] != '\0');
    }
    const struct ert_engine_options right = {.point = "w4a16", .threads = 1};
    assert_int_equal(ert_engine_open(&engine, model, &right, &why), 0);
    struct ert_conversation_options options;
    ert_conversation_defaults(&options);
    options.temperature = -1;
    assert_int_equal(ert_conversation_open(&talk, engine, &options, &why), -ERT_FAILED_RANGE);
    ert_engine_close(engine, NULL);
    ert_model_free(model);
    stage_clear();
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_later_turn_continues_the_dialogue),
        cmocka_unit_test(the_auto_ladder_is_the_frontier_and_deep_tiers_come_late),
        cmocka_unit_test(a_rung_that_the_pack_lacks_is_named),
        cmocka_unit_test(policies_are_layered),
        cmocka_unit_test(wrong_options_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
