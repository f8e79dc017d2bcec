#include <stdio.h>
#include <string.h>

#include "runtime/tokenizer_parts.h"

/* Unicode's White_Space, inside a class. PCRE2's own \s also holds U+180E, which left White_Space
 * in Unicode 6.3 and which the reference implementations do not count. */
#define SPACE          "\\t-\\r\\x{85}\\p{Z}"
#define TRAILING_SPACE "[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+"

/* GPT-2 (Radford et al. 2019, encoder.py). */
#define GPT2                                                                                       \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" SPACE "\\p{L}\\p{N}]+|" TRAILING_SPACE

/* Llama 3 and Qwen 2, which differ in how many digits go together. */
#define LLAMA3(digits)                                                                             \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" digits "| ?[^" SPACE       \
    "\\p{L}\\p{N}]+[\\r\\n]*|[" SPACE "]*[\\r\\n]+|" TRAILING_SPACE

struct pretokenizer {
    const char *name;
    bool whole_words;
    const char *pattern[RT_MAX_PATTERNS];
};

static const struct pretokenizer pretokenizers[] = {
#define P(name, whole_words, first, second) {name, whole_words, {first, second}},
#include "runtime/pretokenizers.def"
#undef P
};

enum { N_PRETOKENIZERS = sizeof pretokenizers / sizeof *pretokenizers };

static int unknown_pretokenizer(const char *name, struct ert_error *err)
{
    char known[256] = "";
    size_t used = 0;
    for (unsigned i = 0; i < N_PRETOKENIZERS && used < sizeof known; i++)
        if (*pretokenizers[i].name)
            used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "",
                                     pretokenizers[i].name);
    return ert_fail(err, ERT_E_UNSUPPORTED, "unknown pre-tokenizer \"%s\"; known are %s", name,
                    known);
}

int rt_splitter_init(struct rt_splitter *s, const char *name, struct ert_error *err)
{
    *s = (struct rt_splitter){0};
    const struct pretokenizer *found = NULL;
    for (unsigned i = 0; i < N_PRETOKENIZERS && !found; i++)
        if (strcmp(pretokenizers[i].name, name) == 0)
            found = &pretokenizers[i];
    if (!found)
        return unknown_pretokenizer(name, err);
    s->whole_words = found->whole_words;
    for (; s->n_patterns < RT_MAX_PATTERNS && found->pattern[s->n_patterns]; s->n_patterns++) {
        int code = 0;
        size_t at = 0;
        pcre2_code **pattern = &s->pattern[s->n_patterns];
        *pattern = pcre2_compile((PCRE2_SPTR)found->pattern[s->n_patterns], PCRE2_ZERO_TERMINATED,
                                 PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);
        if (!*pattern) {
            rt_splitter_release(s);
            return ert_fail(err, ERT_E_NOMEM,
                            "pre-tokenizer \"%s\" does not compile (PCRE2 error %d at %zu)", name,
                            code, at);
        }
        /* Where there is no JIT, matching falls back to the interpreter with the same results. */
        pcre2_jit_compile(*pattern, PCRE2_JIT_COMPLETE);
    }
    return 0;
}

void rt_splitter_release(struct rt_splitter *s)
{
    for (unsigned i = 0; i < RT_MAX_PATTERNS; i++)
        pcre2_code_free(s->pattern[i]);
    *s = (struct rt_splitter){0};
}

struct split {
    const struct rt_splitter *splitter;
    pcre2_match_data *match;
    rt_word_fn *word;
    void *ctx;
};

static int split_failed(int code, size_t n, struct ert_error *err)
{
    char reason[128] = "";
    pcre2_get_error_message(code, (PCRE2_UCHAR *)reason, sizeof reason);
    return ert_fail(err, code == PCRE2_ERROR_NOMEMORY ? ERT_E_NOMEM : ERT_E_RANGE,
                    "cannot cut a text of %zu bytes into words: %s; give it in smaller parts", n,
                    reason);
}

/* Applies the patterns from `level` on: matches and the gaps between them go on to the next level.
 */
static int split_level(const struct split *s, unsigned level, const char *text, size_t n,
                       struct ert_error *err)
{
    if (level == s->splitter->n_patterns)
        return n ? s->word(s->ctx, text, n, err) : 0;
    size_t at = 0;
    while (at < n) {
        int found = pcre2_match(s->splitter->pattern[level], (PCRE2_SPTR)text, n, at,
                                PCRE2_NO_UTF_CHECK, s->match, NULL);
        if (found == PCRE2_ERROR_NOMATCH)
            break;
        if (found < 0)
            return split_failed(found, n, err);
        const size_t *bounds = pcre2_get_ovector_pointer(s->match);
        size_t begin = bounds[0], end = bounds[1];
        int rc = split_level(s, level + 1, text + at, begin - at, err);
        if (rc == 0)
            rc = split_level(s, level + 1, text + begin, end - begin, err);
        if (rc)
            return rc;
        at = end;
    }
    return split_level(s, level + 1, text + at, n - at, err);
}

int rt_split(const struct rt_splitter *s, pcre2_match_data *match, const char *text, size_t n,
             rt_word_fn *word, void *ctx, struct ert_error *err)
{
    return split_level(&(struct split){s, match, word, ctx}, 0, text, n, err);
}
