#include "variants/questions.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_BYTES = 256 << 20 };

static size_t count_characters(const char *text)
{
    size_t n = 0;
    while (isspace((unsigned char)*text))
        text++;
    for (; *text; text++)
        n += ((unsigned char)*text & 0xC0) != 0x80; /* jansson lets only valid UTF-8 through */
    return n;
}

/* One entry of the file: a choice of the question that the entries before belong to, or of a new
 * one. */
struct entry {
    const char *question_id, *prompt, *continuation;
    json_int_t choice, gold;
};

static const char *parse_entry(const json_t *object, struct entry *e)
{
    const json_t *choice = json_object_get(object, "choice_idx"),
                 *gold = json_object_get(object, "gold");
    *e = (struct entry){
        .question_id = json_string_value(json_object_get(object, "question_id")),
        .prompt = json_string_value(json_object_get(object, "prompt")),
        .continuation = json_string_value(json_object_get(object, "continuation")),
        .choice = json_integer_value(choice),
        .gold = json_integer_value(gold),
    };
    if (!e->question_id || !e->prompt || !e->continuation)
        return "it needs the texts question_id, prompt and continuation";
    if (!json_is_integer(choice) || !json_is_integer(gold))
        return "it needs the integers choice_idx and gold";
    if (count_characters(e->prompt) == 0 || count_characters(e->continuation) == 0)
        return "its prompt or continuation is blank";
    return NULL;
}

/* Adds an entry, to a new question if it begins one; says what is wrong with it, or NULL. */
static const char *add_entry(struct var_questions *set, const struct entry *e, bool begins)
{
    if (begins) {
        if (e->gold < 0 || e->gold >= VAR_MAX_CHOICES)
            return "its gold is no choice";
        set->questions[set->n++] = (struct var_question){
            .id = e->question_id, .prompt = e->prompt, .gold = (uint32_t)e->gold};
    }
    struct var_question *q = &set->questions[set->n - 1];
    if (q->n_choices == VAR_MAX_CHOICES || e->choice != q->n_choices)
        return "the choices of a question must follow each other, from choice_idx 0 on, at most 32";
    if (e->gold != q->gold || strcmp(e->prompt, q->prompt) != 0)
        return "prompt and gold must be the same for all choices of a question";
    q->choices[q->n_choices++] =
        (struct var_choice){e->continuation, count_characters(e->continuation)};
    return NULL;
}

/* The last question is whole once the next one begins. */
static const char *check_last(const struct var_questions *set)
{
    const struct var_question *q = &set->questions[set->n - 1];
    return q->gold < q->n_choices && q->n_choices > 1
               ? NULL
               : "the question before it has no choice that is gold, or only one";
}

static int fill(struct var_questions *set, const char *path, uint32_t max_questions,
                struct ert_error *err)
{
    size_t i, n = json_array_size(set->document);
    const json_t *object;
    const char *id = NULL; /* of the question that the entry before belongs to */
    set->questions = calloc(n, sizeof *set->questions);
    if (!set->questions)
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory for %zu choices", path, n);
    json_array_foreach(set->document, i, object)
    {
        struct entry e;
        const char *wrong = parse_entry(object, &e);
        bool begins = !wrong && (!id || strcmp(id, e.question_id) != 0);
        if (begins && id)
            wrong = check_last(set);
        if (!wrong && begins && max_questions && set->n == max_questions)
            return 0;
        if (!wrong)
            wrong = add_entry(set, &e, begins);
        if (wrong)
            return ert_fail(err, ERT_E_FORMAT, "%s: entry %zu: %s (docs/quality.md)", path, i + 1,
                            wrong);
        id = e.question_id;
    }
    const char *wrong = check_last(set);
    return wrong ? ert_fail(err, ERT_E_FORMAT, "%s: the end: %s (docs/quality.md)", path, wrong)
                 : 0;
}

int var_questions_read(struct var_questions *set, const char *path, uint32_t max_questions,
                       struct ert_error *err)
{
    json_error_t why;
    char *text;
    *set = (struct var_questions){0};
    int rc = ert_read_text(path, MAX_BYTES, &text, NULL, err);
    if (rc)
        return rc;
    set->document = json_loads(text, JSON_REJECT_DUPLICATES, &why);
    free(text);
    if (!set->document)
        return ert_fail(err, ERT_E_FORMAT, "%s:%d:%d: not JSON: %s", path, why.line, why.column,
                        why.text);
    if (json_array_size(set->document) == 0)
        return ert_fail(err, ERT_E_FORMAT,
                        "%s: expected a list of choices, one object each (docs/quality.md)", path);
    return fill(set, path, max_questions, err);
}

void var_questions_release(struct var_questions *set)
{
    free(set->questions);
    json_decref(set->document);
    *set = (struct var_questions){0};
}

/* Tokens of the first n bytes of text; *ids is freed. */
static int count_tokens(const struct rt_tokenizer *tokenizer, const char *text, size_t n,
                        size_t *count, struct ert_error *err)
{
    int32_t *ids;
    int rc = rt_encode(tokenizer, text, n, RT_ENCODE_BOS, &ids, count, err);
    if (!rc)
        free(ids);
    return rc;
}

int var_question_encode(struct var_answer_tokens *tokens, const struct rt_tokenizer *tokenizer,
                        const struct var_question *question, uint32_t choice, struct ert_error *err)
{
    size_t n = 0, n_prompt = 0, end = strlen(question->prompt);
    char *text;
    *tokens = (struct var_answer_tokens){0};
    if (asprintf(&text, "%s%s", question->prompt, question->choices[choice].text) < 0)
        return ert_fail(err, ERT_E_NOMEM, "question %s: out of memory", question->id);
    while (end > 0 && isspace((unsigned char)text[end - 1]))
        end--;
    int rc = count_tokens(tokenizer, text, end, &n_prompt, err);
    if (!rc)
        rc = rt_encode(tokenizer, text, strlen(text), RT_ENCODE_BOS, &tokens->ids, &n, err);
    free(text);
    if (!rc && (n_prompt == 0 || n <= n_prompt))
        rc = ert_fail(err, ERT_E_FORMAT, "question %s: choice %u adds no token to the prompt",
                      question->id, choice);
    tokens->n = (uint32_t)n;
    tokens->n_prompt = (uint32_t)n_prompt;
    return rc;
}
