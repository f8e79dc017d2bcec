/* What fits below a ceiling of memory, and what stands in for what does not. That a process holds
 * it is in tests/cli/test_memory.py. */
#include "tests/engine/stage.h"

#include "engine/ceiling.h"

enum { THREADS = 2, MOST = 4096 };

static struct ert_model *model;
static struct rt_team *team;

static int begin(void **state)
{
    (void)state;
    model = stage_model("nested");
    return rt_team_create(&team, THREADS, NULL);
}

static int end(void **state)
{
    (void)state;
    rt_team_free(team);
    ert_model_free(model);
    stage_clear();
    return 0;
}

/* A ladder of these points, separated by spaces. */
static struct rungs *ladder(const char *names)
{
    struct rungs *rungs = calloc(1, sizeof *rungs);
    struct rt_point points[POL_MAX_STATES];
    char copy[256], *rest = copy;
    uint32_t n = 0;
    assert_non_null(rungs);
    snprintf(copy, sizeof copy, "%s", names);
    for (char *name; (name = strsep(&rest, " "));)
        assert_int_equal(rt_point_parse(name, model->pack, &points[n++], NULL), 0);
    assert_int_equal(rt_point_table_create(&rungs->table, points, n, NULL), 0);
    return rungs;
}

/* Which rung runs in place of each, "-" if the ladder is refused. */
static void expect_rungs(bool without_l, const char *names, const char *expected)
{
    const struct ceiling c = {.bytes = 100000000, .with_l = 150000000, .without_l = without_l};
    struct ert_error err = {0};
    struct rungs *rungs = ladder(names);
    char got[POL_MAX_STATES + 1] = "-";
    if (ceiling_fit(&c, rungs, &err))
        assert_non_null(strstr(err.text, "give at least 150 MB"));
    else
        for (uint32_t i = 0; i < rt_point_table_size(rungs->table); i++)
            got[i] = (char)('0' + rungs->runs_as[i]);
    assert_string_equal(got, expected);
    rungs_free(rungs);
}

static void the_next_rung_that_fits_runs(void **state)
{
    (void)state;
    expect_rungs(false, "w8a8 w4a16 pause", "012");
    expect_rungs(true, "w8a8 w4a16 pause", "112");
    expect_rungs(true, "w8a8 w8a8-r90 w4a16-r80 w8a8-r70 w4a8 pause", "222445");
    expect_rungs(true, "w4a16 w8a8-r70 pause", "002"); /* below it nothing computes */
    expect_rungs(true, "w4a16 w4a8 w8a8-r70", "011");  /* nearest above */
    expect_rungs(true, "w8a8 w8a8-r80 pause", "-");
    expect_rungs(true, "w8a8", "-");
    expect_rungs(true, "w4a16", "0");
}

/* A rung that only reads prompts at 8 bits needs the planes as well. */
static void prompts_at_8_bits_do_not_fit_either(void **state)
{
    (void)state;
    const struct ceiling c = {.bytes = 1, .without_l = true};
    struct rungs *rungs = calloc(1, sizeof *rungs);
    struct rt_point points[2];
    assert_non_null(rungs);
    assert_int_equal(rt_point_parse("w4a16", model->pack, &points[0], NULL), 0);
    points[1] = points[0];
    points[0].prefill_variant = RT_W8A8;
    assert_int_equal(rt_point_table_create(&rungs->table, points, 2, NULL), 0);
    assert_int_equal(ceiling_fit(&c, rungs, NULL), 0);
    assert_int_equal(rungs->runs_as[0], 1);
    rungs_free(rungs);
}

/* The bytes of a conversation, from one that is really made. */
static uint64_t real_bytes(uint32_t n_ctx)
{
    const struct rt_session_config config = {.n_ctx = n_ctx};
    const struct rt_sampler_config sampler = RT_SAMPLER_DEFAULT;
    struct rt_session *s;
    assert_int_equal(rt_session_create(&s, model->pack, team, &config, NULL), 0);
    size_t bytes = rt_session_bytes(s);
    rt_session_free(s);
    return bytes + rt_sampler_need(&sampler, model->pack->model.n_vocab) + rt_lookup_need(n_ctx);
}

/* The longest context is that of all lengths tried one after the other. */
static void a_conversation_takes_what_is_left(void **state)
{
    (void)state;
    uint32_t most = model->pack->model.n_ctx;
    for (uint32_t fits = 16; fits <= most; fits += 48) {
        uint64_t room = real_bytes(fits), taken = 0;
        uint32_t longest = fits;
        while (longest < most && real_bytes(longest + 1) <= room)
            longest++;
        struct ceiling c = {.bytes = 1000 + room, .program = 300, .weights = 700, .least_n_ctx = 8};
        struct rt_session_config config = {0};
        assert_int_equal(ceiling_take(&c, &config, most, model->pack, team, &taken, NULL), 0);
        assert_int_equal(config.n_ctx, longest);
        assert_true(taken == real_bytes(longest) && c.talks == taken);
        struct rt_session_config another = {0};
        struct ert_error err = {0};
        assert_int_equal(ceiling_take(&c, &another, most, model->pack, team, &taken, &err),
                         -ERT_E_RANGE);
        assert_non_null(strstr(err.text, "a conversation of 8 tokens"));
        assert_true(taken == 0 && c.talks <= room);
    }
}

static void a_context_that_was_asked_for_is_never_shortened(void **state)
{
    (void)state;
    uint64_t taken = 0;
    struct ceiling c = {.bytes = 1000 + real_bytes(64), .program = 1000, .least_n_ctx = 8};
    struct rt_session_config config = {.n_ctx = 64}, longer = {.n_ctx = 96};
    assert_int_equal(ceiling_take(&c, &longer, MOST, model->pack, team, &taken, NULL),
                     -ERT_E_RANGE);
    assert_int_equal(longer.n_ctx, 96);
    assert_int_equal(ceiling_take(&c, &config, MOST, model->pack, team, &taken, NULL), 0);
    assert_int_equal(config.n_ctx, 64);
}

/* Measured: the program is what the kernel says, the weights are pages of the file. */
static void the_parts_are_measured(void **state)
{
    (void)state;
    const struct rt_session_config any = {0}, shorter = {.n_ctx = 16};
    const struct rt_session_config small = {.cache_bits = 8};
    struct ceiling c;
    uint64_t resident;
    struct ert_error err = {0};
    assert_int_equal(ceiling_set(&c, 1ULL << 40, &any, model->pack, team, &err), 0);
    assert_int_equal(ert_resident_bytes(&resident, NULL), 0);
    assert_true(c.program > resident && c.program < resident + (16 << 20));
    assert_true(c.weights >= model->pack->map.size && c.weights < model->pack->map.size + 65536);
    assert_false(c.without_l);
    assert_int_equal(c.least_n_ctx, model->pack->model.n_ctx); /* fewer than 512 */
    uint64_t with_16_bits = c.talk_least;
    assert_int_equal(ceiling_set(&c, 1ULL << 40, &small, model->pack, team, &err), 0);
    assert_true(c.talk_least < with_16_bits); /* keys and values of 8 bits */

    assert_int_equal(ceiling_set(&c, c.with_l, &shorter, model->pack, team, &err), 0);
    assert_false(c.without_l);
    assert_int_equal(ceiling_set(&c, 1000000, &any, model->pack, team, &err), -ERT_E_RANGE);
    assert_non_null(strstr(err.text, "1 MB of memory are not enough"));
    assert_int_equal(ceiling_set(&c, 0, &any, model->pack, team, &err), 0);
    assert_true(c.bytes == 0 && !c.without_l);
}

static void what_was_given_up_is_one_line(void **state)
{
    (void)state;
    struct ceiling c = {.bytes = 150000000, .with_l = 187000001, .without_l = true};
    char words[256];
    ceiling_words(&c, 1024, 4096, words, sizeof words);
    assert_string_equal(words, "within 150 MB: no point that reads the L planes (from 188 MB); a "
                               "context of 1024 tokens instead of 4096");
    c.without_l = false;
    ceiling_words(&c, 4096, 4096, words, sizeof words);
    assert_string_equal(words, "");
    c.bytes = 0;
    ceiling_words(&c, 1, 4096, words, sizeof words);
    assert_string_equal(words, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_next_rung_that_fits_runs),
        cmocka_unit_test(prompts_at_8_bits_do_not_fit_either),
        cmocka_unit_test(a_conversation_takes_what_is_left),
        cmocka_unit_test(a_context_that_was_asked_for_is_never_shortened),
        cmocka_unit_test(the_parts_are_measured),
        cmocka_unit_test(what_was_given_up_is_one_line),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
