/* edgert chat: turn by turn in one conversation and one KV cache. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/interrupt.h"
#include "cli/speaker.h"
#include "cli/view.h"

/* Reads a line without its newline; false at the end of input. At a terminal Ctrl-C starts the line
 * anew; the terminal hands lines over whole, so that one that can be read is there to its end. */
static bool read_line(char **line, size_t *room)
{
    bool asks = isatty(STDIN_FILENO);
    interrupt_arm(NULL);
    if (asks)
        fputs("> ", stderr);
    while (asks && !interrupt_wait_input()) {
        interrupt_arm(NULL);
        fputs("\n> ", stderr);
    }
    if (getline(line, room, stdin) < 0)
        return false;
    (*line)[strcspn(*line, "\r\n")] = '\0';
    return true;
}

/* One turn; a text that does not fit is the person's to shorten, not the end of the chat. */
static void turn(struct speaker *s, struct view *view, const char *text, struct ert_answer *ended,
                 bool *answered)
{
    struct ert_failure why;
    interrupt_arm(s->talk);
    view_begin_answer(view);
    int rc = ert_say(s->talk, text, s->max_tokens, &view->callbacks, ended, &why);
    view_end_answer(view);
    if (rc)
        cli_fail(why.code, why.text);
    else if (ended->end == ERT_END_CONTEXT)
        fprintf(stderr, "[%s]\n", ended->reason);
    *answered |= rc == 0;
}

static int converse(struct speaker *s)
{
    char *line = NULL;
    size_t room = 0;
    bool answered = false;
    struct view view;
    struct ert_answer ended;
    view_init(&view, s->engine, false);
    while (read_line(&line, &room))
        if (*line)
            turn(s, &view, line, &ended, &answered);
    free(line);
    if (isatty(STDIN_FILENO))
        fputc('\n', stderr);
    if (answered)
        view_summary(&view, &ended);
    return cli_finish_output();
}

int command_chat(int argc, char **argv)
{
    struct speaker s;
    const struct option_row rows[] = {
#define S(into, kind, name, letter, argument, help, min, max)                                      \
    {name, letter, argument, help, OPTION_##kind, &s.into, min, max},
#include "cli/speaker_options.def"
#undef S
        OPTION_HELP,
    };
    struct command_line line = {
        .usage = "edgert chat [OPTION]...",
        .about = "Talks, a line a turn. Ctrl-C ends an answer, Ctrl-D the chat.",
        .rows = rows,
        .n_rows = sizeof rows / sizeof *rows,
    };
    speaker_init(&s);
    int status = options_parse(&line, argc, argv);
    if (status >= 0)
        return status;
    status = speaker_open(&s);
    if (status)
        return status;
    status = converse(&s);
    int closed = speaker_close(&s);
    return status ? status : closed;
}
