/* edgert: the command. Finds the verb in commands.def and hands over. */
#include "cli/cli.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>

static const struct command {
    int (*run)(int argc, char **argv);
    const char *name, *summary;
} commands[] = {
#define C(function, name, summary) {command_##function, name, summary},
#include "cli/commands.def"
#undef C
};

enum { N_COMMANDS = sizeof commands / sizeof *commands };

static int list_commands(void)
{
    printf("usage: edgert COMMAND [OPTION]... (edgert COMMAND -h explains it)\n\n"
           "Runs a language model within a device's heat, energy and memory limits.\n\n");
    for (size_t i = 0; i < N_COMMANDS; i++)
        printf("  %-10s %s\n", commands[i].name, commands[i].summary);
    return cli_finish_output();
}

static int unknown_command(const char *word)
{
    const char *names[N_COMMANDS];
    for (size_t i = 0; i < N_COMMANDS; i++)
        names[i] = commands[i].name;
    const char *nearest = ert_nearest_name(word, names, N_COMMANDS);
    if (nearest)
        return cli_usage("unknown command %s; did you mean %s?", word, nearest);
    return cli_usage("unknown command %s; edgert -h lists them", word);
}

int main(int argc, char **argv)
{
    setlocale(LC_CTYPE, "");
    if (argc < 2)
        return cli_usage("which command? edgert -h lists them");
    if (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help"))
        return list_commands();
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (!strcmp(commands[i].name, argv[1]))
            return commands[i].run(argc - 1, argv + 1);
    return unknown_command(argv[1]);
}
