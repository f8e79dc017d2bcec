/* edgert build: a model file becomes a pack. */
#include <stdlib.h>
#include <string.h>

#include "cli/options.h"
#include "cli/progress.h"
#include "variants/variants.h"

/* "100,90,80,70" */
static int parse_tiers(const char *text, struct var_build_options *options, struct ert_error *err)
{
    char copy[64], *rest = NULL;
    if (strlen(text) >= sizeof copy)
        return ert_fail(err, ERT_E_USAGE, "too many tiers, expected at most %d", VAR_MAX_TIERS);
    memcpy(copy, text, strlen(text) + 1);
    for (char *word = strtok_r(copy, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
        long percent;
        if (options->n_tiers == VAR_MAX_TIERS)
            return ert_fail(err, ERT_E_USAGE, "too many tiers, expected at most %d", VAR_MAX_TIERS);
        int rc = ert_parse_int(word, 1, 100, &percent, err);
        if (rc)
            return rc;
        unsigned n = options->n_tiers++;
        options->rank_percent[n] = (unsigned)percent;
        if (n ? percent >= (long)options->rank_percent[n - 1] : percent != 100)
            return ert_fail(err, ERT_E_USAGE, "tiers '%s': expected 100 first, then falling", text);
    }
    return 0;
}

/* A sentence between two drawings of the bar. */
static void say(void *ctx, const char *sentence)
{
    progress_close(ctx);
    fprintf(stderr, "edgert: %s\n", sentence);
}

/* What the build had to leave out of the model, the pack says itself. */
static void tell_context(const char *path)
{
    struct rt_pack *pack;
    if (rt_pack_open(&pack, path, NULL))
        return;
    const json_t *recipe = json_object_get(pack->meta, "recipe");
    const char *context = json_string_value(json_object_get(recipe, "context"));
    if (context)
        fprintf(stderr, "edgert: context: %s\n", context);
    rt_pack_free(pack);
}

static int build(const struct var_build_options *asked)
{
    struct progress_bar bar;
    struct ert_error err;
    struct var_build_options options = *asked;
    options.progress = progress_open(&bar);
    options.notice = (struct var_notice){say, &bar};
    int rc = var_build(&options, &err);
    progress_close(&bar);
    if (rc == -ERT_E_CANCELLED) {
        fprintf(stderr, var_build_resumes(&options)
                            ? "edgert: stopped; the same command goes on from here\n"
                            : "edgert: stopped; nothing was written\n");
        return CLI_INTERRUPTED;
    }
    if (rc)
        return cli_fail_error(&err);
    tell_context(options.output);
    return CLI_OK;
}

int command_build(int argc, char **argv)
{
    struct var_build_options options = {.seed = 1};
    const char *tiers = NULL;
    const struct option_row rows[] = {
        {"output", 'o', "PACK", "the pack to write", OPTION_TEXT, &options.output, 0, 0},
        {"tokenizer", 0, "FILE", "tokenizer of a llama2.c model", OPTION_TEXT, &options.tokenizer,
         0, 0},
        {"tiers", 0, "LIST", "percent of the block weights (100,90,80,70)", OPTION_TEXT, &tiers, 0,
         0},
        {"f32", 0, NULL, "an f32 pack, as a reference", OPTION_FLAG, &options.f32, 0, 0},
        {"h-only", 0, NULL, "without w8a8's planes", OPTION_FLAG, &options.h_only, 0, 0},
        {"no-catalog", 0, NULL, "do not measure the points", OPTION_FLAG, &options.no_catalog, 0,
         0},
        {"calib", 0, "FILE", "text to calibrate on (the model writes its own)", OPTION_TEXT,
         &options.calib, 0, 0},
        {"calib-tokens", 0, "N", "how much of it (16384)", OPTION_COUNT, &options.calib_tokens, 256,
         1 << 22},
        {"bpw", 0, "BITS", "bits per weight that w4a16 may take (4.85)", OPTION_NUMBER,
         &options.bits_per_weight, 4, 9},
        {"nearest", 0, NULL, "round to the nearest, uncalibrated: quick", OPTION_FLAG,
         &options.nearest, 0, 0},
        {"seed", 0, "N", "of the text that the model writes (1)", OPTION_SEED, &options.seed, 0, 0},
        {"threads", 't', "N", "threads (all CPUs)", OPTION_COUNT, &options.threads, 1, 256},
        {"truncate-attention", 0, NULL, "tiers narrow attention too (for tests)", OPTION_FLAG,
         &options.truncate_attention, 0, 0},
        {"compensator", 0, "RANK", "low-rank compensator of tiers (for tests)", OPTION_COUNT,
         &options.comp_rank, 1, 1024},
        {"outliers", 0, NULL, "an outlier group in narrow models too (for tests)", OPTION_FLAG,
         &options.outliers, 0, 0},
        OPTION_HELP,
    };
    struct command_line line = {
        .usage = "edgert build [OPTION]... SOURCE -o PACK",
        .about =
            "Makes a pack of SOURCE: a GGUF file, a folder of a Hugging Face model (config.json,\n"
            "safetensors, tokenizer.json) or a llama2.c checkpoint. The pack appears when it is\n"
            "complete; until then what is done lies in PACK.build, and the same command goes on\n"
            "from there after Ctrl-C or whatever else ended it.",
        .rows = rows,
        .n_rows = sizeof rows / sizeof *rows,
        .min_arguments = 1,
        .max_arguments = 1,
    };
    int status = options_parse(&line, argc, argv);
    if (status >= 0)
        return status;
    struct ert_error err;
    options.source = line.arguments[0];
    if (!options.output)
        return cli_usage("where to? -o PACK is missing");
    if (tiers && parse_tiers(tiers, &options, &err))
        return cli_fail_error(&err);
    return build(&options);
}
