/* Chat formats as rows of a table instead of a Jinja interpreter. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/tokenizer_parts.h"

enum system_place { OWN_TURN, IN_USER, LEFT_OUT };

enum role { SYSTEM, USER, ASSISTANT, N_ROLES };

static const char *const role_names[N_ROLES] = {"system", "user", "assistant"};

struct turn {
    const char *before, *after;
};

struct rt_chat_format {
    const char *name, *marker, *second_marker, *bos, *default_system;
    enum system_place system_place;
    bool trim;
    struct turn turn[N_ROLES];
    const char *open_answer;
};

#define PAIR(before, after)                                                                        \
    {                                                                                              \
        before, after                                                                              \
    }
#define CHATML(role)                                                                               \
    {                                                                                              \
        "<|im_start|>" role "\n", "<|im_end|>\n"                                                   \
    }
#define LLAMA3(role)                                                                               \
    {                                                                                              \
        "<|start_header_id|>" role "<|end_header_id|>\n\n", "<|eot_id|>"                           \
    }

static const struct rt_chat_format formats[] = {
#define F(name, marker, second_marker, bos, default_system, system_place, trim, system, user,      \
          assistant, open_answer)                                                                  \
    {name,           marker,       second_marker, bos,                                             \
     default_system, system_place, trim,          {system, user, assistant},                       \
     open_answer},
#include "runtime/chat_formats.def"
#undef F
};

const struct rt_chat_format *rt_chat_recognise(const char *jinja_template)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (strstr(jinja_template, formats[i].marker) &&
            strstr(jinja_template, formats[i].second_marker))
            return &formats[i];
    return NULL;
}

const char *rt_chat_name(const struct rt_chat_format *f)
{
    return f->name;
}

/* ---- render -------------------------------------------------------------------------------- */

/* The rendered text so far, and which of it came from messages. */
struct rendering {
    const struct rt_chat_format *format;
    FILE *out;
    size_t length;
    struct rt_span *spans;
    size_t n_spans;
};

static void put(struct rendering *r, const char *text, size_t n)
{
    r->length += fwrite(text, 1, n, r->out);
}

static void put_fixed(struct rendering *r, const char *text)
{
    put(r, text, strlen(text));
}

static void put_message(struct rendering *r, const char *text)
{
    size_t n = strlen(text);
    if (r->format->trim) {
        for (; n > 0 && isspace((unsigned char)*text); n--)
            text++;
        while (n > 0 && isspace((unsigned char)text[n - 1]))
            n--;
    }
    r->spans[r->n_spans++] = (struct rt_span){r->length, n};
    put(r, text, n);
}

static void put_turn(struct rendering *r, enum role role, const char *text, const char *system)
{
    const struct turn *turn = &r->format->turn[role];
    put_fixed(r, turn->before);
    if (system) {
        put_fixed(r, r->format->turn[SYSTEM].before);
        put_message(r, system);
        put_fixed(r, r->format->turn[SYSTEM].after);
    }
    put_message(r, text);
    put_fixed(r, turn->after);
}

static enum role role_of(const struct rt_message *message)
{
    unsigned role = 0;
    while (role < N_ROLES && strcmp(message->role, role_names[role]) != 0)
        role++;
    return (enum role)role;
}

static int put_messages(struct rendering *r, const struct rt_message *messages, size_t n,
                        struct ert_error *err)
{
    const char *system = NULL; /* waits for the user turn that it goes into */
    for (size_t i = 0; i < n; i++) {
        enum role role = role_of(&messages[i]);
        if (role == N_ROLES)
            return ert_fail(err, ERT_E_USAGE,
                            "a message has the role \"%s\"; known are system, user, assistant",
                            messages[i].role);
        if (i == 0 && role != SYSTEM && *r->format->default_system)
            put_turn(r, SYSTEM, r->format->default_system, NULL);
        if (role == SYSTEM && r->format->system_place != OWN_TURN) {
            system = r->format->system_place == IN_USER ? messages[i].text : NULL;
            continue;
        }
        put_turn(r, role, messages[i].text, role == USER ? system : NULL);
        system = role == USER ? NULL : system;
    }
    return 0;
}

int rt_chat_render(const struct rt_chat_format *f, const struct rt_message *messages, size_t n,
                   bool open_answer, char **text, struct rt_span **spans, size_t *n_spans,
                   struct ert_error *err)
{
    size_t size = 0;
    *text = NULL;
    *spans = NULL;
    *n_spans = 0;
    /* One for each message, and the default system message. */
    struct rendering r = {.format = f, .spans = calloc(n + 1, sizeof *r.spans)};
    r.out = open_memstream(text, &size);
    int rc = -ERT_E_NOMEM;
    if (r.spans && r.out) {
        put_fixed(&r, f->bos);
        rc = put_messages(&r, messages, n, err);
        if (open_answer)
            put_fixed(&r, f->open_answer);
    }
    /* The stream puts memory off until it is closed. */
    if (r.out && (fclose(r.out) != 0 || !*text))
        rc = -ERT_E_NOMEM;
    if (rc == 0) {
        *spans = r.spans;
        *n_spans = r.n_spans;
        return 0;
    }
    free(*text);
    free(r.spans);
    *text = NULL;
    if (rc == -ERT_E_NOMEM)
        ert_fail(err, ERT_E_NOMEM, "no memory to render a chat");
    return rc;
}

int rt_chat_encode(const struct rt_tokenizer *t, const struct rt_chat_format *f,
                   const struct rt_message *messages, size_t n, bool open_answer, int32_t **ids,
                   size_t *n_ids, struct ert_error *err)
{
    char *text;
    struct rt_span *spans;
    size_t n_spans;
    *ids = NULL;
    *n_ids = 0;
    int rc = rt_chat_render(f, messages, n, open_answer, &text, &spans, &n_spans, err);
    if (rc)
        return rc;
    rc = rt_encode_guarded(t, text, strlen(text), RT_ENCODE_SPECIAL, spans, n_spans, ids, n_ids,
                           err);
    free(text);
    free(spans);
    return rc;
}
