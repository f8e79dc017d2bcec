/* edgert run: one prompt, one answer. */
#include <stdlib.h>
#include <string.h>

#include "cli/interrupt.h"
#include "cli/speaker.h"
#include "cli/view.h"

static int answer(struct speaker *s, const char *prompt, bool json)
{
    struct view view;
    struct ert_answer ended;
    struct ert_failure why;
    interrupt_arm(s->talk);
    view_init(&view, s->engine, json);
    view_begin_answer(&view);
    int rc = ert_say(s->talk, prompt, s->max_tokens, &view.callbacks, &ended, &why);
    view_end_answer(&view);
    interrupt_arm(NULL);
    if (rc)
        return cli_fail(why.code, why.text);
    view_summary(&view, &ended);
    return cli_finish_output();
}

int command_run(int argc, char **argv)
{
    struct speaker s;
    bool json = false;
    const struct option_row rows[] = {
#define S(into, kind, name, letter, argument, help, min, max)                                      \
    {name, letter, argument, help, OPTION_##kind, &s.into, min, max},
#include "cli/speaker_options.def"
#undef S
        {"json", 0, NULL, "one JSON object a line (docs/json.md)", OPTION_FLAG, &json, 0, 0},
        OPTION_HELP,
    };
    struct command_line line = {
        .usage = "edgert run [OPTION]... PROMPT | -",
        .about = "Answers PROMPT (- reads it from standard input) while the policy moves the\n"
                 "operating point. Ctrl-C ends the answer, a second one the program.",
        .rows = rows,
        .n_rows = sizeof rows / sizeof *rows,
        .min_arguments = 1,
        .max_arguments = 1,
    };
    speaker_init(&s);
    int status = options_parse(&line, argc, argv);
    if (status >= 0)
        return status;
    char *prompt;
    size_t size;
    struct ert_error err;
    if (cli_read_argument(line.arguments[0], &prompt, &size, &err))
        return cli_fail_error(&err);
    if (strlen(prompt) != size) {
        free(prompt);
        return cli_fail(ERT_E_FORMAT,
                        "the prompt on standard input is not text: it holds a NUL byte");
    }
    status = speaker_open(&s);
    if (status == CLI_OK) {
        status = answer(&s, prompt, json);
        int closed = speaker_close(&s);
        status = status ? status : closed;
    }
    free(prompt);
    return status;
}
