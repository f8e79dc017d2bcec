#include "cli/top_terminal.h"

#include <curses.h>
#include <term.h>
#include <unistd.h>

const char *top_terminal_objection(void)
{
    int found;
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
        return "standard input and output are no terminal; edgert top --once prints one page";
    if (setupterm(NULL, STDOUT_FILENO, &found) != OK)
        return "the terminal that TERM names is not known; edgert top --once prints one page";
    bool moves = cursor_address != NULL;
    del_curterm(cur_term);
    if (!moves)
        return "the terminal that TERM names cannot move its cursor; edgert top --once prints one "
               "page";
    return NULL;
}
