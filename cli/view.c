#include "cli/view.h"

#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/use_table.h"
#include "cli/view_json.h"

/* ---- text ---------------------------------------------------------------------------------- */

static void text_token(void *ctx, const struct ert_token *token)
{
    struct view *view = ctx;
    if (view->wraps)
        wrap_put(&view->wrap, token->text, token->length);
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
    if (!view->on_terminal) {
        swap_print(swap->token, swap->from, swap->to, swap->reason);
        return;
    }
    swap_trace_note(&view->trace, swap);
    status_line_draw(&view->line, view->engine, true);
}

static void text_hold(void *ctx)
{
    struct view *view = ctx;
    status_line_draw(&view->line, view->engine, false);
}

static void text_notice(void *ctx, const char *text)
{
    struct view *view = ctx;
    if (view->on_terminal)
        status_line_note(&view->line, text);
    else
        fprintf(stderr, "[%s]\n", text);
}

/* ---- both ---------------------------------------------------------------------------------- */

void view_init(struct view *view, struct ert_engine *engine, bool json)
{
    *view = (struct view){.engine = engine, .json = json};
    if (json) {
        view->callbacks =
            (struct ert_callbacks){view, view_json_token, view_json_swap, NULL, view_json_notice};
        return;
    }
    view->callbacks = (struct ert_callbacks){view, text_token, text_swap, text_hold, text_notice};
    view->wraps = isatty(STDOUT_FILENO);
    view->on_terminal = view->wraps && isatty(STDERR_FILENO);
    /* Answers are UTF-8 whatever the locale says, and so must the widths of characters be. */
    if (view->wraps && strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
        setlocale(LC_CTYPE, "C.UTF-8");
}

void view_begin_answer(struct view *view)
{
    view->at_line_start = true;
    view->wrap = (struct wrap){0};
    if (view->on_terminal)
        status_line_open(&view->line);
}

void view_end_answer(struct view *view)
{
    if (!view->json && !view->at_line_start)
        putchar('\n');
    fflush(stdout);
    status_line_close(&view->line);
}

void view_summary(struct view *view, const struct ert_answer *answer)
{
    if (view->json) {
        view_json_summary(view->engine, answer);
        return;
    }
    use_table_print(view->engine, answer);
    swap_trace_print(&view->trace);
}
