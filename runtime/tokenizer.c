#include "runtime/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/tokenizer_parts.h"

/* No vocabulary comes near; a longer token is damage, and would make every lookup slow. */
enum { LONGEST_TOKEN = 4096 };

/* ---- special tokens ------------------------------------------------------------------------ */

static bool is_special(uint8_t type)
{
    return type == RT_TOKEN_CONTROL || type == RT_TOKEN_UNKNOWN || type == RT_TOKEN_USER;
}

static size_t token_text(const struct rt_tokenizer *t, int32_t id, const char **text)
{
    *text = t->vocab.text + t->vocab.offset[id];
    return t->vocab.offset[id + 1] - t->vocab.offset[id];
}

static int by_first_byte_then_longest(const void *left, const void *right, void *tokenizer)
{
    const struct rt_tokenizer *t = tokenizer;
    int32_t id_a = *(const int32_t *)left, id_b = *(const int32_t *)right;
    const char *a, *b;
    size_t n_a = token_text(t, id_a, &a), n_b = token_text(t, id_b, &b);
    if (*a != *b)
        return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
    if (n_a != n_b)
        return n_a > n_b ? -1 : 1;
    return (id_a > id_b) - (id_a < id_b);
}

static int index_special(struct rt_tokenizer *t, struct ert_error *err)
{
    size_t n = 0;
    const char *text;
    t->special = malloc((size_t)t->vocab.n_tokens * sizeof *t->special);
    if (!t->special)
        return ert_fail(err, ERT_E_NOMEM, "no memory for the special tokens");
    for (uint32_t id = 0; id < t->vocab.n_tokens; id++) {
        if (!is_special(t->pieces.type[id]) || token_text(t, (int32_t)id, &text) == 0)
            continue;
        t->special[n++] = (int32_t)id;
        t->special_from[(unsigned char)*text + 1]++;
    }
    for (unsigned byte = 0; byte < 256; byte++)
        t->special_from[byte + 1] += t->special_from[byte];
    qsort_r(t->special, n, sizeof *t->special, by_first_byte_then_longest, t);
    return 0;
}

/* ---- create -------------------------------------------------------------------------------- */

static int tokenizer_init(struct rt_tokenizer *t, const struct rt_vocab *v, struct ert_error *err)
{
    t->vocab = *v;
    t->byte_level = strcmp(v->model, "gpt2") == 0;
    if (!t->byte_level && strcmp(v->model, "llama") != 0)
        return ert_fail(err, ERT_E_UNSUPPORTED,
                        "unknown tokenizer model \"%s\"; known are gpt2 and llama", v->model);
    int rc = rt_pieces_init(&t->pieces, &t->vocab, err);
    if (rc)
        return rc;
    if (t->pieces.longest > LONGEST_TOKEN)
        return ert_fail(err, ERT_E_FORMAT,
                        "the vocabulary has a token of %u bytes, at most %d are expected",
                        t->pieces.longest, LONGEST_TOKEN);
    t->by_rank = t->byte_level || v->n_merges > 0;
    if (t->by_rank)
        rc = rt_ranks_init(&t->ranks, &t->vocab, &t->pieces, err);
    if (rc == 0 && t->byte_level)
        rc = rt_splitter_init(&t->splitter, v->pre, err);
    return rc ? rc : index_special(t, err);
}

int rt_tokenizer_create(struct rt_tokenizer **t, const struct rt_vocab *vocab,
                        struct ert_error *err)
{
    *t = calloc(1, sizeof **t);
    if (!*t)
        return ert_fail(err, ERT_E_NOMEM, "no memory for a tokenizer");
    int rc = tokenizer_init(*t, vocab, err);
    if (rc) {
        rt_tokenizer_free(*t);
        *t = NULL;
    }
    return rc;
}

void rt_tokenizer_free(struct rt_tokenizer *t)
{
    if (!t)
        return;
    rt_pieces_release(&t->pieces);
    rt_ranks_release(&t->ranks);
    rt_splitter_release(&t->splitter);
    free(t->special);
    free(t);
}

/* ---- encode -------------------------------------------------------------------------------- */

/* One call of rt_encode: where the ids go, and scratch memory. */
struct encoder {
    const struct rt_tokenizer *t;
    unsigned flags;
    const struct rt_span *spans; /* guarded */
    size_t n_spans;
    int32_t *ids;
    size_t n_ids, room;
    struct rt_merger merger;
    pcre2_match_data *match;
    char *clean; /* a fragment as the model sees it */
    size_t clean_room;
};

static int push_id(struct encoder *e, int32_t id, struct ert_error *err)
{
    if (e->n_ids == e->room) {
        size_t room = e->room ? 2 * e->room : 64;
        int32_t *ids = realloc(e->ids, room * sizeof *ids);
        if (!ids)
            return ert_fail(err, ERT_E_NOMEM, "no memory for %zu tokens", room);
        e->ids = ids;
        e->room = room;
    }
    e->ids[e->n_ids++] = id;
    return 0;
}

static int reserve_clean(struct encoder *e, size_t room, struct ert_error *err)
{
    if (e->clean && room <= e->clean_room)
        return 0;
    free(e->clean);
    e->clean = malloc(room);
    if (!e->clean)
        return ert_fail(err, ERT_E_NOMEM, "no memory for a text of %zu bytes", room);
    e->clean_room = room;
    return 0;
}

/* A symbol that no token stands for, byte by byte. */
static int push_bytes(struct encoder *e, const char *bytes, size_t n, struct ert_error *err)
{
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        int32_t id = e->t->pieces.byte[(unsigned char)bytes[i]];
        id = id >= 0 ? id : e->t->vocab.unk;
        rc = id >= 0 ? push_id(e, id, err) : 0;
    }
    return rc;
}

static int encode_merged(void *ctx, const char *text, size_t n, struct ert_error *err)
{
    struct encoder *e = ctx;
    if (e->t->splitter.whole_words) {
        int32_t id = rt_pieces_find(&e->t->pieces, text, n);
        if (id >= 0)
            return push_id(e, id, err);
    }
    int rc = rt_merger_reserve(&e->merger, n, err);
    if (rc)
        return rc;
    rt_merge(&e->merger, e->t, text, n);
    if (e->merger.n_symbols == 0)
        return 0;
    const struct rt_symbol *symbol = e->merger.symbol;
    for (uint32_t i = 0; i != UINT32_MAX && rc == 0; i = symbol[i].next)
        rc = symbol[i].id >= 0 ? push_id(e, symbol[i].id, err)
                               : push_bytes(e, text + symbol[i].start, symbol[i].length, err);
    return rc;
}

/* Text with U+FFFD for each byte that is no part of valid UTF-8. */
static int encode_byte_level(struct encoder *e, const char *text, size_t n, struct ert_error *err)
{
    int rc = reserve_clean(e, 3 * n, err);
    if (rc)
        return rc;
    size_t written = 0;
    for (size_t i = 0; i < n;) {
        size_t length = ert_utf8_length(text + i, n - i);
        memcpy(e->clean + written, length ? text + i : "\xef\xbf\xbd", length ? length : 3);
        written += length ? length : 3;
        i += length ? length : 1;
    }
    if (!e->t->vocab.nfc)
        return rt_split(&e->t->splitter, e->match, e->clean, written, encode_merged, e, err);
    char *form;
    rc = rt_normalize_nfc(e->clean, written, &form, &written, err);
    if (rc == 0)
        rc = rt_split(&e->t->splitter, e->match, form, written, encode_merged, e, err);
    free(form);
    return rc;
}

static bool begins_with_space(const char *text, size_t n)
{
    return n > 0 && (text[0] == ' ' || (n >= 3 && memcmp(text, "\xe2\x96\x81", 3) == 0));
}

/* Text with its space in front, U+2581 as the space that it stands for. */
static int encode_metaspace(struct encoder *e, const char *text, size_t n, bool first,
                            struct ert_error *err)
{
    int rc = reserve_clean(e, n + 1, err);
    if (rc)
        return rc;
    size_t written = 0;
    const struct rt_vocab *v = &e->t->vocab;
    if (v->add_space_prefix && (first || !v->prefix_once) &&
        !(v->prefix_if_needed && begins_with_space(text, n)))
        e->clean[written++] = ' ';
    for (size_t i = 0; i < n;) {
        if (n - i >= 3 && memcmp(text + i, "\xe2\x96\x81", 3) == 0) {
            e->clean[written++] = ' ';
            i += 3;
        } else {
            e->clean[written++] = text[i++];
        }
    }
    return encode_merged(e, e->clean, written, err);
}

/* Text between special tokens; first: the text begins with it. */
static int encode_fragment(struct encoder *e, const char *text, size_t n, bool first,
                           struct ert_error *err)
{
    if (n == 0)
        return 0;
    return e->t->byte_level ? encode_byte_level(e, text, n, err)
                            : encode_metaspace(e, text, n, first, err);
}

static bool is_guarded(const struct rt_span *spans, size_t n_spans, size_t begin, size_t end)
{
    for (size_t i = 0; i < n_spans && spans[i].offset < end; i++)
        if (spans[i].offset + spans[i].length > begin)
            return true;
    return false;
}

/* The longest special token that starts at text[at] and may be one here, -1 if there is none. */
static int32_t special_at(const struct encoder *e, const char *text, size_t n, size_t at,
                          size_t *length)
{
    const struct rt_tokenizer *t = e->t;
    unsigned char first = (unsigned char)text[at];
    for (uint32_t i = t->special_from[first]; i < t->special_from[first + 1]; i++) {
        const char *token;
        *length = token_text(t, t->special[i], &token);
        if (*length > n - at || memcmp(text + at, token, *length) != 0)
            continue;
        if (t->pieces.type[t->special[i]] == RT_TOKEN_USER ||
            ((e->flags & RT_ENCODE_SPECIAL) && !is_guarded(e->spans, e->n_spans, at, at + *length)))
            return t->special[i];
    }
    return -1;
}

static int encode_text(struct encoder *e, const char *text, size_t n, struct ert_error *err)
{
    size_t from = 0, length = 0;
    for (size_t at = 0; at < n;) {
        int32_t id = special_at(e, text, n, at, &length);
        if (id < 0) {
            at++;
            continue;
        }
        int rc = encode_fragment(e, text + from, at - from, from == 0, err);
        if (rc == 0)
            rc = push_id(e, id, err);
        if (rc)
            return rc;
        from = at += length;
    }
    return encode_fragment(e, text + from, n - from, from == 0, err);
}

int rt_encode_guarded(const struct rt_tokenizer *t, const char *text, size_t n, unsigned flags,
                      const struct rt_span *spans, size_t n_spans, int32_t **ids, size_t *n_ids,
                      struct ert_error *err)
{
    *ids = NULL;
    *n_ids = 0;
    if (n > RT_MAX_TEXT)
        return ert_fail(err, ERT_E_RANGE,
                        "a text of %zu bytes is too long to tokenize at once (at most %d)", n,
                        RT_MAX_TEXT);
    struct encoder e = {.t = t, .flags = flags, .spans = spans, .n_spans = n_spans};
    int rc;
    e.match = pcre2_match_data_create(1, NULL);
    e.room = 64;
    e.ids = malloc(e.room * sizeof *e.ids); /* so that no ids is not a NULL pointer */
    if (!e.match || !e.ids) {
        rc = ert_fail(err, ERT_E_NOMEM, "no memory to tokenize");
        goto out;
    }
    rc = (flags & RT_ENCODE_BOS) && t->vocab.add_bos && t->vocab.bos >= 0
             ? push_id(&e, t->vocab.bos, err)
             : 0;
    if (rc == 0)
        rc = encode_text(&e, text, n, err);
out:
    pcre2_match_data_free(e.match);
    rt_merger_release(&e.merger);
    free(e.clean);
    if (rc) {
        free(e.ids);
        return rc;
    }
    *ids = e.ids;
    *n_ids = e.n_ids;
    return 0;
}

int rt_encode(const struct rt_tokenizer *t, const char *text, size_t n, unsigned flags,
              int32_t **ids, size_t *n_ids, struct ert_error *err)
{
    return rt_encode_guarded(t, text, n, flags, NULL, 0, ids, n_ids, err);
}

/* ---- decode -------------------------------------------------------------------------------- */

size_t rt_decode_token(const struct rt_tokenizer *t, int32_t id, bool special, char *out,
                       size_t room)
{
    if (id < 0 || (uint32_t)id >= t->vocab.n_tokens)
        return 0;
    uint8_t type = t->pieces.type[id];
    if (!special && (type == RT_TOKEN_CONTROL || type == RT_TOKEN_UNKNOWN))
        return 0;
    size_t n = t->pieces.offset[id + 1] - t->pieces.offset[id];
    if (n && room)
        memcpy(out, t->pieces.bytes + t->pieces.offset[id], n < room ? n : room);
    return n;
}

bool rt_is_eos(const struct rt_tokenizer *t, int32_t id)
{
    for (uint32_t i = 0; i < t->vocab.n_eos; i++)
        if (t->vocab.eos[i] == id)
            return true;
    return false;
}

int32_t rt_find_token(const struct rt_tokenizer *t, const char *text, size_t n)
{
    const uint32_t *offset = t->vocab.offset;
    for (uint32_t id = 0; id < t->vocab.n_tokens; id++)
        if (offset[id + 1] - offset[id] == n && memcmp(t->vocab.text + offset[id], text, n) == 0)
            return (int32_t)id;
    return -1;
}
