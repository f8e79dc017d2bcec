/* What a tokenizer.json does to a text before its merges. */
#include "variants/hf_tokenizer.h"

#include <string.h>

enum { MAX_CUTS = 2, SHOWN = 60 };

/* What a step of a pre-tokenizer is called in hf_pretokenizers.def. */
#define DIGITS "digits"
#define GPT2   "ByteLevel"
#define LLAMA3(digits)                                                                             \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" digits                     \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const struct known {
    const char *pre;
    bool whole_words;
    const char *cuts[MAX_CUTS];
} known[] = {
#define H(pre, whole_words, first, second) {pre, whole_words, {first, second}},
#include "variants/hf_pretokenizers.def"
#undef H
};

/* The "type" of a normalizer or pre-tokenizer; "" where there is none. */
static const char *type_of(const json_t *object)
{
    const char *type = json_string_value(json_object_get(object, "type"));
    return type ? type : "";
}

static bool is(const json_t *object, const char *type)
{
    return strcmp(type_of(object), type) == 0;
}

static bool flag(const json_t *object, const char *key, bool fallback)
{
    const json_t *value = json_object_get(object, key);
    return json_is_boolean(value) ? json_is_true(value) : fallback;
}

static int refuse(const struct hf_reader *r, const char *kind, const char *what)
{
    char text[160];
    snprintf(text, sizeof text, "its %s is %.*s", kind, SHOWN, what);
    return hf_fail_tokenizer(r, text);
}

/* Steps of a Sequence, or the one step itself; null has none. */
struct steps {
    const json_t *list; /* an array, or NULL */
    const json_t *one;
};

static struct steps steps_of(const json_t *object, const char *key)
{
    if (is(object, "Sequence"))
        return (struct steps){json_object_get(object, key), NULL};
    return (struct steps){NULL, json_is_object(object) ? object : NULL};
}

static size_t count(struct steps s)
{
    return s.one ? 1 : json_array_size(s.list);
}

static const json_t *step(struct steps s, size_t i)
{
    return s.one ? s.one : json_array_get(s.list, i);
}

/* ---- byte-level ---------------------------------------------------------------------------- */

/* What a step cuts at: "" for one that does not cut, NULL for one that is not known. */
static const char *cut_of(const json_t *s)
{
    const char *regex = json_string_value(json_object_get(json_object_get(s, "pattern"), "Regex"));
    const char *behavior = json_string_value(json_object_get(s, "behavior"));
    if (is(s, "ByteLevel") && !flag(s, "add_prefix_space", true))
        return flag(s, "use_regex", true) ? GPT2 : "";
    if (is(s, "Digits") && flag(s, "individual_digits", false))
        return DIGITS;
    if (is(s, "Split") && behavior && strcmp(behavior, "Isolated") == 0 &&
        !flag(s, "invert", false))
        return regex;
    return NULL;
}

static int name_pretokenizer(const struct hf_reader *r, const char *const cuts[MAX_CUTS],
                             bool whole_words)
{
    struct rt_vocab *v = &r->src->vocab;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        bool same = known[i].whole_words == whole_words;
        for (int c = 0; c < MAX_CUTS; c++)
            same = same && strcmp(known[i].cuts[c] ? known[i].cuts[c] : "", cuts[c]) == 0;
        if (same) {
            snprintf(v->pre, sizeof v->pre, "%s", known[i].pre);
            return 0;
        }
    }
    return refuse(r, whole_words ? "pre_tokenizer with ignore_merges" : "pre_tokenizer", cuts[0]);
}

static int read_byte_level(const struct hf_reader *r, const json_t *tokenizer)
{
    struct steps norm = steps_of(json_object_get(tokenizer, "normalizer"), "normalizers");
    struct steps pre = steps_of(json_object_get(tokenizer, "pre_tokenizer"), "pretokenizers");
    const char *cuts[MAX_CUTS] = {"", ""};
    size_t n = 0;
    bool bytes = false;
    for (size_t i = 0; i < count(norm); i++) {
        if (!is(step(norm, i), "NFC"))
            return refuse(r, "normalizer", type_of(step(norm, i)));
        r->src->vocab.nfc = true;
    }
    for (size_t i = 0; i < count(pre); i++) {
        const char *cut = cut_of(step(pre, i));
        if (!cut || (*cut && n == MAX_CUTS))
            return refuse(r, "pre_tokenizer", type_of(step(pre, i)));
        bytes = bytes || is(step(pre, i), "ByteLevel");
        if (*cut)
            cuts[n++] = cut;
    }
    if (!bytes)
        return refuse(r, "pre_tokenizer", "not byte-level, and its model has no byte_fallback");
    const json_t *model = json_object_get(tokenizer, "model");
    return name_pretokenizer(r, cuts, flag(model, "ignore_merges", false));
}

/* ---- SentencePiece ------------------------------------------------------------------------- */

#define SPACE_MARK "\xe2\x96\x81"

static bool text_is(const json_t *object, const char *key, const char *expected)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text && strcmp(text, expected) == 0;
}

/* Llama 2's two normalizers: a space mark before every stretch of text, and one for each space. */
static int read_space_normalizers(const struct hf_reader *r, struct steps norm, bool *marked)
{
    struct rt_vocab *v = &r->src->vocab;
    for (size_t i = 0; i < count(norm); i++) {
        const json_t *s = step(norm, i);
        bool replace = is(s, "Replace") && text_is(s, "content", SPACE_MARK) &&
                       text_is(json_object_get(s, "pattern"), "String", " ");
        bool prepend = is(s, "Prepend") && text_is(s, "prepend", SPACE_MARK);
        if (!replace && !prepend)
            return refuse(r, "normalizer", type_of(s));
        v->add_space_prefix = v->add_space_prefix || prepend;
        *marked = *marked || replace;
    }
    return 0;
}

/* Metaspace does the same, but puts no mark where the text has a space already, and may put one at
 * the very beginning only. */
static int read_metaspace(const struct hf_reader *r, const json_t *s, bool *marked)
{
    struct rt_vocab *v = &r->src->vocab;
    const char *scheme = json_string_value(json_object_get(s, "prepend_scheme"));
    bool first = scheme && strcmp(scheme, "first") == 0;
    bool never = scheme ? strcmp(scheme, "never") == 0 : !flag(s, "add_prefix_space", true);
    if (!is(s, "Metaspace") || !text_is(s, "replacement", SPACE_MARK))
        return refuse(r, "pre_tokenizer", type_of(s));
    if (flag(s, "split", true))
        return refuse(r, "pre_tokenizer", "Metaspace that cuts at spaces (\"split\")");
    *marked = true;
    v->add_space_prefix = !never;
    v->prefix_if_needed = !never;
    v->prefix_once = first;
    return 0;
}

static int read_sentencepiece(const struct hf_reader *r, const json_t *tokenizer)
{
    struct steps norm = steps_of(json_object_get(tokenizer, "normalizer"), "normalizers");
    struct steps pre = steps_of(json_object_get(tokenizer, "pre_tokenizer"), "pretokenizers");
    bool marked = false;
    int rc = read_space_normalizers(r, norm, &marked);
    if (!rc && (count(pre) > 1 || (count(pre) == 1 && marked)))
        rc = refuse(r, "pre_tokenizer", type_of(step(pre, 0)));
    if (!rc && count(pre) == 1)
        rc = read_metaspace(r, step(pre, 0), &marked);
    if (!rc && !marked)
        rc = refuse(r, "normalizer", "one that leaves spaces as they are");
    return rc;
}

int hf_read_splitting(const struct hf_reader *r, const json_t *tokenizer)
{
    return strcmp(r->src->vocab.model, "llama") == 0 ? read_sentencepiece(r, tokenizer)
                                                     : read_byte_level(r, tokenizer);
}
