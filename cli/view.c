#include "cli/view.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/use_table.h"
#include "cli/view_json.h"

/* ---- text ---------------------------------------------------------------------------------- */

/* A model may say anything, also what a terminal would take for a command. */
static void put_printable(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] >= ' ' || text[i] == '\n' || text[i] == '\t')
            putchar(text[i]);
}

static void text_token(void *ctx, const struct ert_token *token)
{
    struct view *view = ctx;
    if (view->line.open)
        put_printable(token->text, token->length);
    else
        fwrite(token->text, 1, token->length, stdout);
    fflush(stdout);
    if (token->length)
        view->at_line_start = token->text[token->length - 1] == '\n';
    status_line_token(&view->line);
    status_line_draw(&view->line, view->engine, false);
}

static void text_swap(void *ctx, const struct ert_swap *swap)
{
    struct view *view = ctx;
    if (view->line.open)
        status_line_draw(&view->line, view->engine, true);
    else
        fprintf(stderr, "[token %llu] %s -> %s: %s\n", (unsigned long long)swap->token, swap->from,
                swap->to, swap->reason);
}

static void text_hold(void *ctx)
{
    struct view *view = ctx;
    status_line_draw(&view->line, view->engine, false);
}

/* ---- both ---------------------------------------------------------------------------------- */

void view_open(struct view *view, struct ert_engine *engine, bool json)
{
    *view = (struct view){.engine = engine, .json = json, .at_line_start = true};
    if (json) {
        view->callbacks = (struct ert_callbacks){view, view_json_token, view_json_swap, NULL};
        return;
    }
    view->callbacks = (struct ert_callbacks){view, text_token, text_swap, text_hold};
    if (isatty(STDOUT_FILENO) && isatty(STDERR_FILENO))
        status_line_open(&view->line);
}

void view_end_answer(struct view *view)
{
    if (!view->json && !view->at_line_start)
        putchar('\n');
    fflush(stdout);
    view->at_line_start = true;
}

void view_close(struct view *view)
{
    status_line_close(&view->line);
}

void view_summary(struct view *view, const struct ert_answer *answer)
{
    if (view->json)
        view_json_summary(view->engine, answer);
    else
        use_table_print(view->engine, answer);
}
