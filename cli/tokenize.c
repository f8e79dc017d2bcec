/* edgert tokenize: text to ids. */
#include <stdlib.h>
#include <string.h>

#include "cli/options.h"
#include "engine/layers.h"
#include "runtime/runtime.h"

static int print_ids(const int32_t *ids, size_t n, bool json)
{
    if (json) {
        json_t *list = json_array();
        for (size_t i = 0; i < n; i++)
            json_array_append_new(list, json_integer(ids[i]));
        return cli_print_json(json_pack("{s:o}", "ids", list), JSON_COMPACT);
    }
    for (size_t i = 0; i < n; i++)
        printf("%s%d", i ? " " : "", ids[i]);
    putchar('\n');
    return cli_finish_output();
}

/* Encodes with the pack's tokenizer; *ids is the caller's. */
static int encode(const char *model, const char *text, size_t n, unsigned flags, int32_t **ids,
                  size_t *n_ids, struct ert_error *err)
{
    char *path = NULL;
    struct rt_pack *pack = NULL;
    struct rt_tokenizer *tokenizer = NULL;
    int rc = layers_find_model(model, &path, err);
    if (!rc)
        rc = rt_pack_open(&pack, path, err);
    if (!rc)
        rc = rt_tokenizer_create(&tokenizer, &pack->vocab, err);
    if (!rc)
        rc = rt_encode(tokenizer, text, n, flags, ids, n_ids, err);
    if (tokenizer)
        rt_tokenizer_free(tokenizer);
    rt_pack_free(pack);
    free(path);
    return rc;
}

int command_tokenize(int argc, char **argv)
{
    const char *model = NULL;
    bool json = false, special = false, bos = false;
    const struct option_row rows[] = {
        {"model", 'm', "PACK", "pack file or name (default.edgert)", OPTION_TEXT, &model, 0, 0},
        {"special", 0, NULL, "texts of control tokens become those tokens", OPTION_FLAG, &special,
         0, 0},
        {"bos", 0, NULL, "put BOS first if the model asks for it", OPTION_FLAG, &bos, 0, 0},
        {"json", 0, NULL, "{\"ids\":[...]}", OPTION_FLAG, &json, 0, 0},
        OPTION_HELP,
    };
    struct command_line line = {
        .usage = "edgert tokenize [OPTION]... TEXT | -",
        .about = "Prints the token ids of TEXT (- reads it from standard input, any bytes).",
        .rows = rows,
        .n_rows = sizeof rows / sizeof *rows,
        .min_arguments = 1,
        .max_arguments = 1,
    };
    int status = options_parse(&line, argc, argv);
    if (status >= 0)
        return status;
    char *text;
    size_t size;
    int32_t *ids = NULL;
    size_t n_ids = 0;
    struct ert_error err;
    int rc = cli_read_argument(line.arguments[0], &text, &size, &err);
    if (!rc)
        rc =
            encode(model, text, size, (special ? RT_ENCODE_SPECIAL : 0) | (bos ? RT_ENCODE_BOS : 0),
                   &ids, &n_ids, &err);
    status = rc ? cli_fail_error(&err) : print_ids(ids, n_ids, json);
    free(text);
    free(ids);
    return status;
}
