#include "cli/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_OPTIONS = 32, FIRST_LONG = 256, HELP_COLUMN = 28 };

static void print_help(const struct command_line *line)
{
    printf("usage: %s\n\n%s\n\n", line->usage, line->about);
    for (size_t i = 0; i < line->n_rows; i++) {
        const struct option_row *row = &line->rows[i];
        char left[64];
        int n = row->letter ? snprintf(left, sizeof left, "  -%c, ", row->letter)
                            : snprintf(left, sizeof left, "      ");
        snprintf(left + n, sizeof left - (size_t)n, "--%s%s%s", row->name, row->argument ? " " : "",
                 row->argument ? row->argument : "");
        printf("%-*s  %s\n", HELP_COLUMN, left, row->help);
    }
}

static int take_list(struct option_list *list, const char *value, struct ert_error *err)
{
    const char **grown = realloc(list->items, (list->n + 1) * sizeof *grown);
    if (!grown)
        return ert_fail(err, ERT_E_NOMEM, "out of memory");
    list->items = grown;
    list->items[list->n++] = value;
    return 0;
}

static int take_seed(uint64_t *seed, const char *value, struct ert_error *err)
{
    char *end;
    errno = 0;
    *seed = strtoull(value, &end, 10);
    if (errno || end == value || *end || *value == '-')
        return ert_fail(err, ERT_E_USAGE, "'%.40s' is not a whole number from 0 up", value);
    return 0;
}

static int take_size(uint64_t *bytes, const char *value, struct ert_error *err)
{
    double megabytes;
    int rc = ert_parse_quantity(value, ERT_UNIT_BYTE, &megabytes, err);
    if (rc)
        return rc;
    if (!(megabytes >= 1 && megabytes <= 1e9))
        return ert_fail(err, ERT_E_USAGE, "'%.40s' is not from 1MB to 1000000GB", value);
    *bytes = (uint64_t)(megabytes * 1e6);
    return 0;
}

static int take_number(const struct option_row *row, const char *value, struct ert_error *err)
{
    double number;
    int rc = ert_parse_double(value, &number, err);
    if (rc)
        return rc;
    if (number < row->min || number > row->max)
        return ert_fail(err, ERT_E_USAGE, "%s is not within %g and %g", value, row->min, row->max);
    *(float *)row->into = (float)number;
    return 0;
}

static int take_count(const struct option_row *row, const char *value, struct ert_error *err)
{
    long count;
    int rc = ert_parse_int(value, (long)row->min, (long)row->max, &count, err);
    if (!rc)
        *(uint32_t *)row->into = (uint32_t)count;
    return rc;
}

static int take(const struct option_row *row, const char *value, struct ert_error *err)
{
    switch (row->kind) {
    case OPTION_FLAG:
        *(bool *)row->into = true;
        return 0;
    case OPTION_TEXT:
        *(const char **)row->into = value;
        return 0;
    case OPTION_COUNT:
        return take_count(row, value, err);
    case OPTION_SEED:
        return take_seed(row->into, value, err);
    case OPTION_NUMBER:
        return take_number(row, value, err);
    case OPTION_SIZE:
        return take_size(row->into, value, err);
    case OPTION_LIST:
        return take_list(row->into, value, err);
    }
    return ert_fail(err, ERT_E_USAGE, "no such kind of option");
}

/* The option that getopt did not know, and the nearest one it would have known. */
static int unknown_option(const struct command_line *line, const char *word)
{
    const char *names[MAX_OPTIONS];
    for (size_t i = 0; i < line->n_rows; i++)
        names[i] = line->rows[i].name;
    char name[64];
    snprintf(name, sizeof name, "%s", word + strspn(word, "-"));
    name[strcspn(name, "=")] = '\0';
    const char *nearest = ert_nearest_name(name, names, line->n_rows);
    if (nearest)
        return cli_usage("unknown option %s; did you mean --%s? -h lists them", word, nearest);
    return cli_usage("unknown option %s; -h lists them", word);
}

static void getopt_tables(const struct command_line *line, struct option *longs, char *shorts)
{
    *shorts++ = ':';
    for (size_t i = 0; i < line->n_rows; i++) {
        const struct option_row *row = &line->rows[i];
        longs[i] = (struct option){row->name, row->argument ? required_argument : no_argument, NULL,
                                   FIRST_LONG + (int)i};
        if (!row->letter)
            continue;
        *shorts++ = row->letter;
        if (row->argument)
            *shorts++ = ':';
    }
    longs[line->n_rows] = (struct option){0};
    *shorts = '\0';
}

static const struct option_row *row_of(const struct command_line *line, int got)
{
    if (got >= FIRST_LONG)
        return &line->rows[got - FIRST_LONG];
    for (size_t i = 0; i < line->n_rows; i++)
        if (line->rows[i].letter == got)
            return &line->rows[i];
    return NULL;
}

static int take_arguments(struct command_line *line, int argc, char **argv)
{
    line->arguments = argv + optind;
    line->n_arguments = (size_t)(argc - optind);
    if (line->n_arguments < line->min_arguments)
        return cli_usage("an argument is missing: %s", line->usage);
    if (line->n_arguments > line->max_arguments)
        return cli_usage("'%s' is one argument too many: %s", line->arguments[line->max_arguments],
                         line->usage);
    return -1;
}

int options_parse(struct command_line *line, int argc, char **argv)
{
    struct option longs[MAX_OPTIONS + 1];
    char shorts[2 * MAX_OPTIONS + 2];
    getopt_tables(line, longs, shorts);
    opterr = 0;
    optind = 1;
    for (;;) {
        int at = optind, got = getopt_long(argc, argv, shorts, longs, NULL);
        if (got == -1)
            return take_arguments(line, argc, argv);
        if (got == '?')
            return unknown_option(line, argv[optind > at ? optind - 1 : at]);
        if (got == ':')
            return cli_usage("%s needs a value; -h explains it", argv[optind - 1]);
        const struct option_row *row = row_of(line, got);
        if (!row->into) {
            print_help(line);
            return cli_finish_output();
        }
        struct ert_error err;
        if (take(row, optarg, &err))
            return cli_usage("--%s: %s", row->name, err.text);
    }
}

void options_release(const struct command_line *line)
{
    for (size_t i = 0; i < line->n_rows; i++)
        if (line->rows[i].kind == OPTION_LIST) {
            struct option_list *list = line->rows[i].into;
            free(list->items);
            *list = (struct option_list){0};
        }
}
