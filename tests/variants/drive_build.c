/* Builds and measures packs for the Python tests:
 *   drive_build build SOURCE OUTPUT [tokenizer=F] [f32] [h-only] [no-catalog] [nearest]
 *               [tiers=100,50] [truncate] [comp=N] [outliers] [bpw=B] [calib=FILE] [tokens=N]
 * [threads=N] [seed=N] [cancel=STAGE] [kill=REPORT] [kill-at=FILE] drive_build eval PACK TEXT
 * POINT|@SCHEDULE [windows=N] [window=N] [reference=PACK] [threads=N] Exit status 0, or 1 with the
 * sentence on stderr. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "variants/variants.h"

static const char *value_of(const char *argument, const char *name)
{
    size_t n = strlen(name);
    return strncmp(argument, name, n) == 0 && argument[n] == '=' ? argument + n + 1 : NULL;
}

/* Where a build is to end, and how. */
struct stop {
    const char *stage; /* the first report of this stage that has something done */
    const char *file;  /* or the first report at which this file exists */
    int reports;       /* or the report of this number, from 1 */
    bool kill;         /* by SIGKILL, not by asking */
    int seen;
};

static bool stop_at(void *ctx, const char *stage, double done, double total)
{
    struct stop *s = ctx;
    if (getenv("DRIVE_PROGRESS"))
        fprintf(stderr, "%s %.4f/%.0f at %.1f s\n", stage, done, total, (double)ert_now_ns() / 1e9);
    bool now = s->stage  ? strcmp(stage, s->stage) == 0 && done > 0
               : s->file ? access(s->file, F_OK) == 0
                         : ++s->seen == s->reports;
    if (now && s->kill)
        raise(SIGKILL);
    return !now;
}

static void say(void *ctx, const char *sentence)
{
    (void)ctx;
    fprintf(stderr, "note: %s\n", sentence);
}

static void read_tiers(const char *text, struct var_build_options *o)
{
    while (text && *text && o->n_tiers < VAR_MAX_TIERS) {
        o->rank_percent[o->n_tiers++] = (unsigned)atoi(text);
        text = strchr(text, ',');
        text = text ? text + 1 : NULL;
    }
}

static int build(int n, char **arguments, struct ert_error *err)
{
    struct var_build_options o = {.source = arguments[0], .output = arguments[1], .seed = 1};
    struct stop stop = {0};
    o.progress = (struct ert_progress){stop_at, &stop};
    o.notice.say = say;
    for (int i = 2; i < n; i++) {
        const char *v, *a = arguments[i];
        o.f32 |= strcmp(a, "f32") == 0;
        o.h_only |= strcmp(a, "h-only") == 0;
        o.no_catalog |= strcmp(a, "no-catalog") == 0;
        o.nearest |= strcmp(a, "nearest") == 0;
        o.truncate_attention |= strcmp(a, "truncate") == 0;
        o.outliers |= strcmp(a, "outliers") == 0;
        if ((v = value_of(a, "tokenizer")))
            o.tokenizer = v;
        if ((v = value_of(a, "tiers")))
            read_tiers(v, &o);
        if ((v = value_of(a, "comp")))
            o.comp_rank = (unsigned)atoi(v);
        if ((v = value_of(a, "calib")))
            o.calib = v;
        if ((v = value_of(a, "tokens")))
            o.calib_tokens = (unsigned)atoi(v);
        if ((v = value_of(a, "bpw")))
            o.bits_per_weight = strtof(v, NULL);
        if ((v = value_of(a, "threads")))
            o.threads = (unsigned)atoi(v);
        if ((v = value_of(a, "seed")))
            o.seed = (uint64_t)atoi(v);
        if ((v = value_of(a, "cancel")))
            stop.stage = v;
        if ((v = value_of(a, "kill")))
            stop = (struct stop){.reports = atoi(v), .kill = true};
        if ((v = value_of(a, "kill-at")))
            stop = (struct stop){.file = v, .kill = true};
    }
    return var_build(&o, err);
}

static int measure(const struct rt_pack *pack, struct rt_team *team, char **arguments,
                   struct var_eval_config *config, struct ert_error *err)
{
    struct var_schedule_entry one = {0};
    struct var_schedule alone = {&one, 1}, list = {0};
    struct var_eval_result result = {0};
    int rc = 0;
    if (arguments[2][0] == '@')
        rc = var_schedule_read(arguments[2] + 1, pack, &list, err);
    else
        rc = rt_point_parse(arguments[2], pack, &one.point, err);
    if (!rc)
        rc = var_eval(pack, team, config, list.n ? &list : &alone, 1, &result, err);
    if (!rc)
        printf("{\"tokens\": %llu, \"windows\": %u, \"nll\": %.9f, \"ppl\": %.6f, \"error\": %.6f, "
               "\"kld\": %.6f, \"top1\": %.6f}\n",
               (unsigned long long)result.tokens, result.windows, result.nll, result.ppl.mean,
               result.ppl.error, config->reference ? result.kld.mean : -1,
               config->reference ? result.top1.mean : -1);
    var_schedule_release(&list);
    return rc;
}

static int eval(int n, char **arguments, struct ert_error *err)
{
    struct var_eval_config config = {0};
    struct rt_pack *pack = NULL, *reference = NULL;
    struct rt_team *team = NULL;
    char *text = NULL;
    unsigned threads = 2;
    int rc = rt_pack_open(&pack, arguments[0], err);
    for (int i = 3; i < n && !rc; i++) {
        const char *v;
        if ((v = value_of(arguments[i], "windows")))
            config.max_windows = (uint32_t)atoi(v);
        if ((v = value_of(arguments[i], "window")))
            config.window = (uint32_t)atoi(v);
        if ((v = value_of(arguments[i], "threads")))
            threads = (unsigned)atoi(v);
        if ((v = value_of(arguments[i], "reference")))
            rc = rt_pack_open(&reference, v, err);
    }
    config.reference = reference;
    if (!rc)
        rc = rt_team_create(&team, threads, err);
    if (!rc)
        rc = ert_read_text(arguments[1], 1 << 28, &text, &config.n_text, err);
    config.text = text;
    if (!rc)
        rc = measure(pack, team, arguments, &config, err);
    free(text);
    rt_team_free(team);
    rt_pack_free(reference);
    rt_pack_free(pack);
    return rc;
}

int main(int argc, char **argv)
{
    struct ert_error err = {0};
    int rc = argc > 3 && strcmp(argv[1], "build") == 0 ? build(argc - 2, argv + 2, &err)
             : argc > 4 && strcmp(argv[1], "eval") == 0
                 ? eval(argc - 2, argv + 2, &err)
                 : ert_fail(&err, ERT_E_USAGE, "see the top");
    if (rc)
        fprintf(stderr, "%s\n", err.text);
    return rc != 0;
}
