/* cli: what the commands share. A command is a function in a file of its own and a row of
 * commands.def. Results go to stdout, everything else to stderr. */
#ifndef ERT_CLI_H
#define ERT_CLI_H

#include <jansson.h>

#include "base/base.h"

enum cli_exit {
    CLI_OK = 0,
    CLI_FAILED = 1,
    CLI_USAGE = 2,
    CLI_CHECK = 3, /* a check or guarantee did not hold */
    CLI_INTERRUPTED = 130,
};

#define C(function, name, summary) int command_##function(int argc, char **argv);
#include "cli/commands.def"
#undef C

/* Prints "edgert: sentence" and returns the exit status that belongs to the code. */
int cli_fail(int code, const char *sentence);
int cli_fail_error(const struct ert_error *err);
/* A usage error with a sentence of its own. */
int cli_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Nine digits tell floats apart; more would only be noise. */
#define CLI_JSON_DIGITS JSON_REAL_PRECISION(9)

/* Prints one JSON document and a newline on stdout and frees it; NULL means out of memory. */
int cli_print_json(json_t *document, size_t flags);
/* Flushes stdout; a full disk or a closed pipe is a failed command. */
int cli_finish_output(void);

/* The text of a PROMPT argument: itself, or all of stdin for "-". The caller frees *text, which
 * has *size bytes and a NUL. */
int cli_read_argument(const char *argument, char **text, size_t *size, struct ert_error *err);

#endif
