#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { STDIN_START = 1 << 16, STDIN_LIMIT = 1 << 28 };

static int exit_status(int code)
{
    switch (abs(code)) {
    case ERT_OK:
        return CLI_OK;
    case ERT_E_USAGE:
        return CLI_USAGE;
    case ERT_E_CHECK:
        return CLI_CHECK;
    case ERT_E_CANCELLED:
        return CLI_INTERRUPTED;
    default:
        return CLI_FAILED;
    }
}

int cli_fail(int code, const char *sentence)
{
    fprintf(stderr, "edgert: %s\n", sentence);
    return exit_status(code);
}

int cli_fail_error(const struct ert_error *err)
{
    return cli_fail((int)err->code, err->text);
}

int cli_usage(const char *fmt, ...)
{
    va_list args;
    fputs("edgert: ", stderr);
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
    return CLI_USAGE;
}

int cli_finish_output(void)
{
    static bool told; /* whoever was reading has gone: once is enough */
    if (!fflush(stdout) && !ferror(stdout))
        return CLI_OK;
    if (told)
        return CLI_FAILED;
    told = true;
    return cli_fail(ERT_E_IO, "writing to standard output failed");
}

int cli_print_json(json_t *document, size_t flags)
{
    int rc = document ? json_dumpf(document, stdout, flags | CLI_JSON_DIGITS) : -1;
    json_decref(document);
    if (rc)
        return cli_fail(ERT_E_NOMEM, "the JSON could not be made or written");
    putchar('\n');
    return cli_finish_output();
}

static int read_stdin(char **text, size_t *size, struct ert_error *err)
{
    size_t room = STDIN_START, n = 0;
    char *buffer = malloc(room);
    while (buffer) {
        n += fread(buffer + n, 1, room - 1 - n, stdin);
        if (n < room - 1)
            break;
        if (room >= STDIN_LIMIT) {
            free(buffer);
            return ert_fail(err, ERT_E_RANGE, "standard input has more than %d MiB",
                            STDIN_LIMIT >> 20);
        }
        room *= 2;
        char *grown = realloc(buffer, room);
        if (!grown)
            free(buffer);
        buffer = grown;
    }
    if (!buffer)
        return ert_fail(err, ERT_E_NOMEM, "out of memory for standard input");
    if (ferror(stdin)) {
        free(buffer);
        return ert_fail(err, ERT_E_IO, "reading standard input: %s", strerror(errno));
    }
    buffer[n] = '\0';
    *text = buffer;
    *size = n;
    return 0;
}

int cli_read_argument(const char *argument, char **text, size_t *size, struct ert_error *err)
{
    *text = NULL;
    *size = strlen(argument);
    if (!strcmp(argument, "-"))
        return read_stdin(text, size, err);
    *text = strdup(argument);
    return *text ? 0 : ert_fail(err, ERT_E_NOMEM, "out of memory");
}
