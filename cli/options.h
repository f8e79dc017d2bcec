/* options: a command's options as a table, which parses them and prints its help. */
#ifndef ERT_OPTIONS_H
#define ERT_OPTIONS_H

#include "cli/cli.h"

enum option_kind {
    OPTION_FLAG,   /* bool */
    OPTION_TEXT,   /* const char * */
    OPTION_COUNT,  /* uint32_t, within min..max */
    OPTION_SEED,   /* uint64_t */
    OPTION_NUMBER, /* float, within min..max */
    OPTION_SIZE,   /* uint64_t bytes, given with a unit */
    OPTION_LIST,   /* struct option_list: may be given several times */
};

struct option_list {
    const char **items; /* of argv; released by options_release */
    size_t n;
};

struct option_row {
    const char *name;     /* long name, without dashes */
    char letter;          /* 0 = none */
    const char *argument; /* its name in the help, NULL for flags */
    const char *help;
    enum option_kind kind;
    void *into; /* where the value goes, by kind; keeps its default if not given */
    double min, max;
};

struct command_line {
    const char *usage; /* "edgert run [OPTION]... [PROMPT | -]" */
    const char *about; /* a paragraph */
    const struct option_row *rows;
    size_t n_rows;
    size_t min_arguments, max_arguments;
    /* filled by options_parse */
    char **arguments; /* in argv */
    size_t n_arguments;
};

/* Parses argv. Returns -1 to go on, or the exit status: 0 after -h, 2 after a mistake, which is
 * explained with the nearest option. */
int options_parse(struct command_line *line, int argc, char **argv);
void options_release(const struct command_line *line);

#define OPTION_HELP                                                                                \
    {                                                                                              \
        "help", 'h', NULL, "this text", OPTION_FLAG, NULL, 0, 0                                    \
    }

#endif
