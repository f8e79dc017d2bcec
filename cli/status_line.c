#include "cli/status_line.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/base.h"
#include "cli/interrupt.h"

#define DRAW_INTERVAL_NS 100000000ULL
#define RATE_INTERVAL_NS 500000000ULL
#define NS_PER_S         1e9
#define NOTE_LASTS_NS    8000000000ULL

enum { STATUS_ROWS = 2, LEAST_ROWS = 8, LEAST_COLUMNS = 20, LINE_BYTES = 512 };

/* The terminal takes what it can; a status line that is lost matters to nobody. */
static void put(const char *bytes, size_t n)
{
    fflush(stdout);
    if (write(STDERR_FILENO, bytes, n) < 0)
        return;
}

static bool terminal_size(int *rows, int *columns)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) || size.ws_row < LEAST_ROWS ||
        size.ws_col < LEAST_COLUMNS)
        return false;
    *rows = size.ws_row;
    *columns = size.ws_col;
    return true;
}

/* Confines scrolling to the rows above the status. Room for it is made by ESC D, which, unlike a
 * newline, keeps the column of an answer that has begun; the cursor stays where it was. */
static void set_region(struct status_line *line)
{
    char text[64];
    int top = line->rows - STATUS_ROWS;
    interrupt_restore(NULL, 0);
    int n =
        snprintf(line->restore, sizeof line->restore, "\0337\033[%d;1H\033[J\033[r\0338", top + 1);
    interrupt_restore(line->restore, (size_t)n);
    n = snprintf(text, sizeof text, "\033D\033D\033[2A\0337\033[1;%dr\0338", top);
    put(text, (size_t)n);
}

void status_line_open(struct status_line *line)
{
    *line = (struct status_line){0};
    if (!terminal_size(&line->rows, &line->columns))
        return;
    line->open = true;
    line->rate_ns = ert_now_ns();
    set_region(line);
}

void status_line_close(struct status_line *line)
{
    if (!line->open)
        return;
    put(line->restore, strlen(line->restore));
    interrupt_restore(NULL, 0); /* not before: a signal may come while the terminal is held up */
    line->open = false;
}

void status_line_token(struct status_line *line)
{
    uint64_t now = ert_now_ns();
    line->tokens++;
    if (now - line->rate_ns < RATE_INTERVAL_NS)
        return;
    line->tok_s =
        (double)(line->tokens - line->rate_tokens) * NS_PER_S / (double)(now - line->rate_ns);
    line->rate_ns = now;
    line->rate_tokens = line->tokens;
}

/* "temp.cpu 71.2C" of the first sensor whose name begins so, or "charge -: why". */
static size_t sensor_text(const struct ert_status *status, const char *prefix, const char *label,
                          char *out, size_t room)
{
    const char *why = "not in this policy";
    for (size_t i = 0; i < status->n_sensors; i++) {
        if (strncmp(status->sensors[i].name, prefix, strlen(prefix)) != 0)
            continue;
        if (status->sensors[i].present)
            return (size_t)snprintf(out, room, "  %s %.1f%s", label, status->sensors[i].value,
                                    status->sensors[i].unit);
        why = status->sensors[i].why;
    }
    return (size_t)snprintf(out, room, "  %s - (%s)", label, why);
}

static void format_sensors(const struct status_line *line, const struct ert_status *status,
                           char out[LINE_BYTES])
{
    static const struct {
        const char *prefix, *label;
    } fields[] = {{"temp.", "temp"}, {"battery.power", "power"}, {"battery.charge", "charge"}};
    size_t n = (size_t)snprintf(out, LINE_BYTES, "%s%s  %.1f tok/s", status->point,
                                status->failsafe ? " (failsafe)" : "", line->tok_s);
    if (status->each_j > 0 && n < LINE_BYTES)
        n += (size_t)snprintf(out + n, LINE_BYTES - n, "  %.2g J/token", status->each_j);
    for (size_t i = 0; status->policy[0] && i < sizeof fields / sizeof *fields; i++)
        if (n < LINE_BYTES)
            n += sensor_text(status, fields[i].prefix, fields[i].label, out + n, LINE_BYTES - n);
}

void status_line_note(struct status_line *line, const char *text)
{
    snprintf(line->note, sizeof line->note, "%s", text);
    line->note_until_ns = ert_now_ns() + NOTE_LASTS_NS;
}

void status_line_draw(struct status_line *line, struct ert_engine *engine, bool now)
{
    uint64_t time_ns = ert_now_ns();
    int rows, columns;
    if (!line->open || (!now && time_ns - line->drawn_ns < DRAW_INTERVAL_NS))
        return;
    if (!terminal_size(&rows, &columns)) {
        status_line_close(line);
        return;
    }
    if (rows != line->rows || columns != line->columns) {
        line->rows = rows;
        line->columns = columns;
        set_region(line);
    }
    struct ert_status status;
    char sensors[LINE_BYTES], text[3 * LINE_BYTES];
    ert_get_status(engine, &status);
    format_sensors(line, &status, sensors);
    int n = snprintf(text, sizeof text,
                     "\0337\033[%d;1H\033[2K\033[7m%-*.*s\033[0m\033[%d;1H\033[2K%.*s\0338",
                     rows - 1, columns - 1 < LINE_BYTES ? columns - 1 : LINE_BYTES - 1, columns - 1,
                     sensors, rows, columns - 1,
                     time_ns < line->note_until_ns ? line->note
                     : status.reason[0]            ? status.reason
                                                   : "no switch yet");
    put(text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
    line->drawn_ns = time_ns;
}
