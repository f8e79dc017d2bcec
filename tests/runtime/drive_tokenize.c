/* Encodes or decodes standard input with the vocabulary NAME.vocab and NAME.json:
 *   encode NAME [special] [bos]   text in, int32 ids out
 *   decode NAME [special]         int32 ids in, bytes out
 *   chat NAME TEMPLATE-FILE [open] [ids]
 *                                 in: role NUL text NUL ...; out: the rendered text, or its int32
 * ids time NAME                     milliseconds of create, MB/s of encoding the input */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/tokenizer.h"

struct job {
    struct rt_tokenizer *t;
    char *input;
    size_t n;
    int argc;
    char **argv;
    double create_ms;
};

static bool has(const struct job *job, const char *word)
{
    for (int i = 3; i < job->argc; i++)
        if (strcmp(job->argv[i], word) == 0)
            return true;
    return false;
}

static int put_ids(int rc, int32_t *ids, size_t n)
{
    if (rc == 0)
        fwrite(ids, sizeof *ids, n, stdout);
    free(ids);
    return rc;
}

static int encode(struct job *job, struct ert_error *err)
{
    int32_t *ids;
    size_t n;
    unsigned flags =
        (has(job, "special") ? RT_ENCODE_SPECIAL : 0u) | (has(job, "bos") ? RT_ENCODE_BOS : 0u);
    int rc = rt_encode(job->t, job->input, job->n, flags, &ids, &n, err);
    return put_ids(rc, ids, n);
}

static int decode(struct job *job, struct ert_error *err)
{
    char out[8192];
    (void)err;
    for (size_t i = 0; i + 4 <= job->n; i += 4) {
        int32_t id;
        memcpy(&id, job->input + i, sizeof id);
        fwrite(out, 1, rt_decode_token(job->t, id, has(job, "special"), out, sizeof out), stdout);
    }
    return 0;
}

static int chat(struct job *job, struct ert_error *err)
{
    struct rt_message messages[64];
    size_t n = 0, n_spans = 0, n_ids = 0;
    char *template = NULL, *text = NULL;
    struct rt_span *spans = NULL;
    int32_t *ids = NULL;
    for (char *p = job->input; p < job->input + job->n && n < 64; n++) {
        messages[n].role = p;
        p += strlen(p) + 1;
        messages[n].text = p;
        p += strlen(p) + 1;
    }
    if (job->argc < 4 || ert_read_text(job->argv[3], 1 << 20, &template, NULL, err))
        return -ERT_E_USAGE;
    const struct rt_chat_format *f = rt_chat_recognise(template);
    free(template);
    if (!f)
        return ert_fail(err, ERT_E_UNSUPPORTED, "no known chat format");
    fprintf(stderr, "%s\n", rt_chat_name(f));
    if (has(job, "ids")) {
        int rc = rt_chat_encode(job->t, f, messages, n, has(job, "open"), &ids, &n_ids, err);
        return put_ids(rc, ids, n_ids);
    }
    int rc = rt_chat_render(f, messages, n, has(job, "open"), &text, &spans, &n_spans, err);
    if (rc == 0)
        fputs(text, stdout);
    free(text);
    free(spans);
    return rc;
}

static int timed(struct job *job, struct ert_error *err)
{
    int32_t *ids;
    size_t n;
    uint64_t began = ert_now_ns();
    int rc = rt_encode(job->t, job->input, job->n, 0, &ids, &n, err);
    double encode_s = (double)(ert_now_ns() - began) * 1e-9;
    free(ids);
    printf("%.2f ms create, %.2f MB/s, %zu tokens\n", job->create_ms,
           (double)job->n / 1e6 / encode_s, n);
    return rc;
}

static const struct {
    const char *name;
    int (*run)(struct job *job, struct ert_error *err);
} verbs[] = {{"encode", encode}, {"decode", decode}, {"chat", chat}, {"time", timed}};

static int run(struct job *job, struct ert_error *err)
{
    struct rt_vocab vocab;
    struct ert_map map;
    char path[4096];
    int rc = -ERT_E_USAGE;
    snprintf(path, sizeof path, "%s.json", job->argv[2]);
    json_t *meta = json_load_file(path, 0, NULL);
    snprintf(path, sizeof path, "%s.vocab", job->argv[2]);
    if (ert_map_open(&map, path, err))
        goto out;
    uint64_t began = ert_now_ns();
    rc = rt_vocab_parse(&vocab, map.data, map.size, meta, err);
    if (rc == 0)
        rc = rt_tokenizer_create(&job->t, &vocab, err);
    job->create_ms = (double)(ert_now_ns() - began) * 1e-6;
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs && rc == 0; i++)
        if (strcmp(job->argv[1], verbs[i].name) == 0)
            rc = verbs[i].run(job, err);
out:
    rt_tokenizer_free(job->t);
    ert_map_close(&map);
    json_decref(meta);
    return rc;
}

static char *read_all(FILE *file, size_t *n)
{
    size_t room = 1 << 20;
    char *text = malloc(room);
    *n = 0;
    while (text && (*n += fread(text + *n, 1, room - *n, file)) == room) {
        char *larger = realloc(text, room *= 2);
        if (!larger)
            free(text);
        text = larger;
    }
    return text;
}

int main(int argc, char **argv)
{
    struct ert_error err = {0};
    struct job job = {.argc = argc, .argv = argv};
    if (argc < 3)
        return 2;
    job.input = read_all(stdin, &job.n);
    int rc = job.input ? run(&job, &err) : -ERT_E_NOMEM;
    free(job.input);
    if (rc)
        fprintf(stderr, "%s\n", err.text);
    return rc ? 1 : 0;
}
