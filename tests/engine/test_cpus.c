/* Which cores are efficient, on machines made up here, and a team that goes there and comes back.
 */
#include "tests/engine/stage.h"

#include "tests/tree.h"

static const char *root(void)
{
    return stage_path("root");
}

static void drop_root(void)
{
    char command[4600];
    snprintf(command, sizeof command, "rm -rf '%s'", root());
    assert_int_equal(system(command), 0);
}

static void expect_cores(const struct cpus *cpus, unsigned threads, const char *numbers)
{
    cpu_set_t set;
    char found[256] = "";
    if (cpus_efficient(cpus, threads, &set))
        for (unsigned i = 0; i < CPU_SETSIZE; i++)
            if (CPU_ISSET(i, &set))
                snprintf(found + strlen(found), sizeof found - strlen(found), " %u", i);
    if (strcmp(found, numbers) != 0)
        fail_msg("%u threads: cores%s, expected%s", threads, found, numbers);
}

/* Four small cores, three middle, one large, as a phone of three clusters has them. */
static void the_weakest_kinds_come_first(void **state)
{
    (void)state;
    static const struct cpus phone = {
        .n = 8,
        .cpus = {{0, 325}, {1, 325}, {2, 325}, {3, 325}, {4, 828}, {5, 828}, {6, 828}, {7, 1024}}};
    static const struct cpus alike = {.n = 4, .cpus = {{0, 4900}, {1, 4900}, {2, 5000}, {3, 5100}}};
    static const struct cpus silent = {.n = 2, .cpus = {{0, 0}, {1, 0}}};
    expect_cores(&phone, 1, " 0 1 2 3");
    expect_cores(&phone, 4, " 0 1 2 3");
    expect_cores(&phone, 5, " 0 1 2 3 4 5 6");
    expect_cores(&phone, 8, "");
    expect_cores(&phone, 9, "");
    expect_cores(&alike, 1, "");
    expect_cores(&silent, 1, "");
}

/* The first two cores that this process may use; skips where there is one. */
static void two_cores(unsigned cores[2])
{
    cpu_set_t usable;
    unsigned n = 0;
    assert_int_equal(sched_getaffinity(0, sizeof usable, &usable), 0);
    for (unsigned i = 0; i < CPU_SETSIZE && n < 2; i++)
        if (CPU_ISSET(i, &usable))
            cores[n++] = i;
    if (n == 2)
        return;
    print_message("# needs two cores\n");
    skip();
}

static void put(unsigned core, const char *name, const char *value)
{
    char path[128];
    snprintf(path, sizeof path, "sys/devices/system/cpu/cpu%u/%s", core, name);
    tree_put(root(), path, "%s\n", value);
}

static void expect_first(const struct cpus *cpus, unsigned core)
{
    cpu_set_t set;
    assert_true(cpus_efficient(cpus, 1, &set));
    assert_int_equal(CPU_COUNT(&set), 1);
    assert_true(CPU_ISSET(core, &set));
}

/* Everything but two cores is left out: what is not told of counts as nothing. */
static void keep_two(struct cpus *cpus, const unsigned cores[2])
{
    unsigned n = 0;
    for (unsigned i = 0; i < cpus->n; i++)
        if (cpus->cpus[i].number == cores[0] || cpus->cpus[i].number == cores[1])
            cpus->cpus[n++] = cpus->cpus[i];
    cpus->n = n;
}

static void each_kernel_tells_in_its_way(void **state)
{
    (void)state;
    static struct cpus cpus;
    unsigned cores[2];
    char list[32];
    two_cores(cores);
    put(cores[0], "cpufreq/cpuinfo_max_freq", "2400000");
    put(cores[1], "cpufreq/cpuinfo_max_freq", "1800000");
    cpus_look(&cpus, root());
    keep_two(&cpus, cores);
    expect_first(&cpus, cores[1]);
    snprintf(list, sizeof list, "%u,4000-4007", cores[0]);
    tree_put(root(), "sys/devices/cpu_atom/cpus", "%s\n", list);
    cpus_look(&cpus, root());
    keep_two(&cpus, cores);
    expect_first(&cpus, cores[0]);
    put(cores[0], "cpu_capacity", "1024");
    put(cores[1], "cpu_capacity", "446");
    cpus_look(&cpus, root());
    keep_two(&cpus, cores);
    expect_first(&cpus, cores[1]);
    drop_root();
    cpus_look(&cpus, root());
    cpu_set_t set;
    assert_false(cpus_efficient(&cpus, 1, &set));
}

static unsigned efficient_core;
static size_t tokens_there;

static void look_where(struct heard *heard)
{
    cpu_set_t set;
    (void)heard;
    assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
    tokens_there += CPU_COUNT(&set) == 1 && CPU_ISSET(efficient_core, &set);
}

/* Two answers at a rung of the efficient cores; between and after them the thread may run anywhere
 * again. */
static void an_answer_runs_there_and_leaves(void **state)
{
    (void)state;
    const struct ert_engine_options options = {.policy = "p",
                                               .policy_file = stage_path("policy.yaml"),
                                               .sensor_root = root(),
                                               .threads = 2};
    struct ert_model *model;
    struct ert_engine *engine;
    struct ert_failure why;
    struct ert_answer answer;
    static struct heard heard;
    cpu_set_t before, after;
    unsigned cores[2];
    two_cores(cores);
    efficient_core = cores[1];
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    for (unsigned i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &before))
            put(i, "cpu_capacity", i == cores[1] ? "446" : "1024");
    stage_write(stage_path("policy.yaml"),
                "edgert: 1\n"
                "ladders: {l: [{point: w4a16, threads: 1, cores: efficient}, pause]}\n"
                "policies: {p: {ladder: l}}\n");
    model = stage_model("nested");
    if (ert_engine_open(&engine, model, &options, &why))
        fail_msg("%s", why.text);
    struct ert_conversation *talk = stage_talk(engine);
    heard.at_token = look_where;
    struct ert_callbacks callbacks = heard_callbacks(&heard);
    for (size_t i = 1; i <= 2; i++) {
        if (ert_say(talk, PROMPT, 6, &callbacks, &answer, &why))
            fail_msg("%s", why.text);
        assert_int_equal(tokens_there, 6 * i);
        assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
        assert_true(CPU_EQUAL(&before, &after));
    }
    ert_conversation_free(talk);
    assert_int_equal(ert_engine_close(engine, &why), 0);
    ert_model_free(model);
    stage_clear();
    drop_root();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_weakest_kinds_come_first),
        cmocka_unit_test(each_kernel_tells_in_its_way),
        cmocka_unit_test(an_answer_runs_there_and_leaves),
    };
    return cmocka_run_group_tests_name("cpus", tests, NULL, NULL);
}
