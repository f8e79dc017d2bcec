/* edgert top: what a run that writes a journal is doing. The page is top_model's; this draws it. */
#include <curses.h>
#include <errno.h>
#include <langinfo.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/interrupt.h"
#include "cli/options.h"
#include "cli/top_follow.h"
#include "cli/top_model.h"
#include "cli/top_terminal.h"

enum { LOOK_MS = 200, USUAL_COLUMNS = 120, HANGUP = 128 + SIGHUP, TERMINATED = 128 + SIGTERM };

struct watching {
    struct top *top;
    struct top_follow follow;
    int signals; /* descriptor of interrupt_collect: the terminal is given back before they act */
    SCREEN *screen;
    struct top_row rows[TOP_ROWS];
};

static int take_line(void *ctx, const char *line, size_t n, struct ert_error *err)
{
    return top_take(ctx, line, n, err);
}

static int catch_up(struct watching *w, struct ert_error *err)
{
    return top_follow_read(&w->follow, take_line, w->top, err);
}

static struct top_screen screen_of(const struct watching *w, int columns, int rows)
{
    return (struct top_screen){.columns = columns,
                               .rows = rows,
                               .unicode = !strcmp(nl_langinfo(CODESET), "UTF-8"),
                               .quiet_s = (double)(ert_now_ns() - w->follow.grown_ns) * 1e-9};
}

/* ---- once ----------------------------------------------------------------------------------- */

static int print_once(struct watching *w)
{
    struct winsize size;
    bool told = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    struct top_screen screen = screen_of(w, told ? size.ws_col : USUAL_COLUMNS, TOP_ROWS);
    size_t n = top_page(w->top, &screen, w->rows);
    for (size_t i = 0; i < n; i++) {
        size_t length = strlen(w->rows[i].text);
        while (length > 0 && w->rows[i].text[length - 1] == ' ')
            length--;
        printf("%.*s\n", (int)length, w->rows[i].text);
    }
    return cli_finish_output();
}

/* ---- on a terminal -------------------------------------------------------------------------- */

static bool open_terminal(struct watching *w)
{
    w->signals = interrupt_collect(); /* before curses would take them for itself */
    w->screen = w->signals >= 0 ? newterm(NULL, stdout, stdin) : NULL;
    if (!w->screen)
        return false;
    cbreak();
    noecho();
    nodelay(stdscr, TRUE);
    keypad(stdscr, TRUE);
    curs_set(0);
    return true;
}

static void close_terminal(struct watching *w)
{
    if (w->screen) {
        endwin();
        delscreen(w->screen);
    }
}

static void draw(struct watching *w)
{
    static const chtype tones[] = {[TOP_PLAIN] = A_NORMAL,
                                   [TOP_STRONG] = A_BOLD,
                                   [TOP_FAINT] = A_DIM,
                                   [TOP_TITLE] = A_REVERSE};
    int rows, columns;
    getmaxyx(stdscr, rows, columns);
    struct top_screen screen = screen_of(w, columns, rows);
    size_t n = top_page(w->top, &screen, w->rows);
    erase();
    for (size_t i = 0; i < n; i++) {
        (void)attrset(tones[w->rows[i].tone]);
        mvaddstr((int)i, 0, w->rows[i].text);
    }
    (void)attrset(A_NORMAL);
    refresh();
}

/* Exit status of the signal that came, -1 if none did. Ctrl-C is a way to leave, like q. */
static int signal_status(void)
{
    int number = interrupt_collected();
    return number == 0 ? -1 : number == SIGINT ? CLI_OK : number == SIGHUP ? HANGUP : TERMINATED;
}

/* Waits for keys, signals or the next look; the exit status, -1 to go on. */
static int wait_for_news(const struct watching *w)
{
    struct pollfd inputs[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                              {.fd = w->signals, .events = POLLIN}};
    if (poll(inputs, 2, LOOK_MS) < 0 && errno != EINTR)
        return CLI_FAILED;
    int status = signal_status();
    if (status >= 0)
        return status;
    if (inputs[0].revents & (POLLHUP | POLLERR))
        return HANGUP;
    for (int key; (key = getch()) != ERR;) /* a changed size comes as a key as well */
        if (key == 'q' || key == 'Q')
            return CLI_OK;
    return -1;
}

static int watch(struct watching *w)
{
    struct ert_error err;
    const char *objection = top_terminal_objection();
    if (objection)
        return cli_fail(ERT_E_UNSUPPORTED, objection);
    int rc = 0, status = open_terminal(w) ? -1 : CLI_FAILED;
    while (status < 0 && !rc) {
        draw(w);
        status = wait_for_news(w);
        rc = status < 0 ? catch_up(w, &err) : 0;
    }
    close_terminal(w);
    return rc ? cli_fail_error(&err) : status;
}

int command_top(int argc, char **argv)
{
    struct watching w = {.signals = -1, .follow.fd = -1};
    struct ert_error err;
    bool once = false;
    const struct option_row rows[] = {
        {"once", 0, NULL, "print how it stands now, and end", OPTION_FLAG, &once, 0, 0},
        OPTION_HELP,
    };
    struct command_line line = {
        .usage = "edgert top [OPTION]... JOURNAL",
        .about =
            "Shows what a run does that writes JOURNAL (edgert run --journal): readings, trips,\n"
            "state and why, speed, energy. q ends it.",
        .rows = rows,
        .n_rows = sizeof rows / sizeof *rows,
        .min_arguments = 1,
        .max_arguments = 1,
    };
    int status = options_parse(&line, argc, argv);
    if (status >= 0)
        return status;
    int rc = top_create(&w.top, line.arguments[0], &err);
    if (!rc)
        rc = top_follow_open(&w.follow, line.arguments[0], &err);
    if (!rc)
        rc = catch_up(&w, &err);
    if (rc)
        status = cli_fail_error(&err);
    else
        status = once ? print_once(&w) : watch(&w);
    top_follow_close(&w.follow);
    top_free(w.top);
    return status;
}
