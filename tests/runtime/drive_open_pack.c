/* Opens each pack named on standard input and, where that succeeds, does with it what a program
 * does: verifies, tokenizes and runs a few tokens at every point. Prints "PATH<TAB>ok" or
 * "PATH<TAB>error<TAB>SENTENCE" for each, so that one process meets many damaged packs in turn. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/session.h"
#include "runtime/tokenizer.h"

enum { N_TOKENS = 6, CONTEXT = 8, CHUNK = 2 };

enum { MOST_VARIANTS = 3 };
static const unsigned variants_of_kind[][MOST_VARIANTS] = {
    [RT_PACK_NESTED] = {RT_W8A8, RT_W4A16, RT_W4A8},
    [RT_PACK_H_ONLY] = {RT_W4A16, RT_W4A8, RT_W4A8},
    [RT_PACK_F32] = {RT_F32, RT_F32, RT_F32},
};

/* A few tokens in chunks and one alone, from an empty cache, as far as the cache goes. */
static int run_point(struct rt_session *s, const struct rt_pack *pack, unsigned variant,
                     uint32_t tier, struct ert_error *err)
{
    const uint32_t n = rt_session_capacity(s) < N_TOKENS ? rt_session_capacity(s) : N_TOKENS;
    const struct rt_point point = {
        .name = "driven", .variant = variant, .prefill_variant = variant, .tier = tier};
    int32_t ids[N_TOKENS];
    for (int i = 0; i < N_TOKENS; i++)
        ids[i] = (int32_t)((uint32_t)i * 7 % pack->model.n_vocab);
    rt_session_rewind(s, 0);
    rt_session_set_point(s, &point);
    int rc = n < 2 ? 0 : rt_session_feed(s, ids, n - 1, NULL, NULL, NULL, err);
    return rc ? rc : rt_session_feed(s, ids + n - 1, 1, NULL, NULL, NULL, err);
}

static int run_all_points(const struct rt_pack *pack, struct rt_team *team, struct ert_error *err)
{
    const uint32_t context = pack->model.n_ctx < CONTEXT ? 0 : CONTEXT;
    const struct rt_session_config config = {.n_ctx = context, .chunk = CHUNK};
    struct rt_session *s = NULL;
    int rc = rt_session_create(&s, pack, team, &config, err);
    for (uint32_t tier = 0; rc == 0 && tier < pack->n_tiers; tier++)
        for (int v = 0; rc == 0 && v < MOST_VARIANTS; v++)
            rc = run_point(s, pack, variants_of_kind[pack->kind][v], tier, err);
    rt_session_free(s);
    return rc;
}

static int tokenize(const struct rt_pack *pack, struct ert_error *err)
{
    const char text[] = "hello aazz w\xc3\xb6rld \xff 123";
    struct rt_tokenizer *t = NULL;
    int32_t *ids = NULL;
    size_t n = 0;
    int rc = rt_tokenizer_create(&t, &pack->vocab, err);
    if (rc == 0)
        rc = rt_encode(t, text, sizeof text - 1, RT_ENCODE_SPECIAL | RT_ENCODE_BOS, &ids, &n, err);
    char out[64];
    for (size_t i = 0; rc == 0 && i < n; i++)
        rt_decode_token(t, ids[i], true, out, sizeof out);
    free(ids);
    rt_tokenizer_free(t);
    return rc;
}

static int use_pack(const char *path, struct rt_team *team, struct ert_error *err)
{
    struct rt_pack *pack = NULL;
    int rc = rt_pack_open(&pack, path, err);
    if (rc)
        return rc;
    rc = run_all_points(pack, team, err);
    if (rc == 0)
        rc = tokenize(pack, err);
    if (rc) /* sessions and tokenizers know no file */
        rc = ert_fail_in(err, "%s", path);
    if (rc == 0)
        rc = rt_pack_verify(pack, NULL, err);
    rt_pack_free(pack);
    return rc;
}

int main(void)
{
    struct ert_error err = {0};
    struct rt_team *team = NULL;
    char path[4096];
    if (rt_team_create(&team, 2, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    while (fgets(path, sizeof path, stdin)) {
        path[strcspn(path, "\n")] = '\0';
        memset(&err, 0, sizeof err);
        if (use_pack(path, team, &err))
            printf("%s\terror\t%s\n", path, err.text);
        else
            printf("%s\tok\n", path);
        fflush(stdout);
    }
    rt_team_free(team);
    return 0;
}
