/* drive_talks PACK MEMORY CONTEXT...: an engine below MEMORY bytes, and on it one conversation
 * after the other of so many positions, each of which is filled. Prints what the process has in
 * memory at the end of each, a line each. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "engine/edgert.h"

static int fail(const struct ert_failure *why)
{
    fprintf(stderr, "%s\n", why->text);
    return 1;
}

/* n tokens of prompt in a raw conversation; one more is answered. */
static int fill(struct ert_conversation *talk, uint32_t n, struct ert_failure *why)
{
    struct ert_answer answer;
    char *prompt = malloc(n + 1);
    if (!prompt)
        return -1;
    for (uint32_t i = 0; i < n; i++)
        prompt[i] = "abc"[i % 3];
    prompt[n] = '\0';
    int rc = ert_say(talk, prompt, 1, NULL, &answer, why);
    free(prompt);
    return rc;
}

static int talk_once(struct ert_engine *engine, uint32_t n_ctx, struct ert_failure *why)
{
    struct ert_conversation_options options;
    struct ert_conversation *talk;
    uint64_t resident = 0;
    ert_conversation_defaults(&options);
    options.n_ctx = n_ctx;
    options.raw = true;
    int rc = ert_conversation_open(&talk, engine, &options, why);
    if (rc)
        return rc;
    rc = fill(talk, n_ctx - 2, why);
    if (!rc)
        rc = ert_resident_bytes(&resident, NULL);
    ert_conversation_free(talk);
    printf("%llu\n", (unsigned long long)resident);
    return rc;
}

int main(int argc, char **argv)
{
    struct ert_failure why = {0};
    struct ert_model *model;
    struct ert_engine *engine;
    struct ert_engine_options options = {.point = "w4a16-r70", .threads = 2};
    if (argc < 4)
        return 2;
    options.memory = strtoull(argv[2], NULL, 10);
    for (int i = 3; i < argc; i++)
        if (strtoul(argv[i], NULL, 10) > options.n_ctx)
            options.n_ctx = (uint32_t)strtoul(argv[i], NULL, 10);
    if (ert_model_open(&model, argv[1], &why))
        return fail(&why);
    if (ert_engine_open(&engine, model, &options, &why))
        return fail(&why);
    int rc = 0;
    for (int i = 3; !rc && i < argc; i++)
        rc = talk_once(engine, (uint32_t)strtoul(argv[i], NULL, 10), &why);
    ert_engine_close(engine, NULL);
    ert_model_free(model);
    return rc ? fail(&why) : 0;
}
