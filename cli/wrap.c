#include "cli/wrap.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include "base/base.h"

enum { TAB_STOPS = 8, USUAL_COLUMNS = 80 };

/* The last column stays empty: a cursor behind it waits to wrap, and terminals differ in whether
 * that survives the saving and restoring of the cursor around a status line. */
static int usable_columns(void)
{
    struct winsize size;
    int columns = USUAL_COLUMNS;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        columns = size.ws_col;
    return columns > 1 ? columns - 1 : 1;
}

static void end_word(struct wrap *w)
{
    w->word_length = 0;
    w->word_columns = 0;
}

static void new_line(struct wrap *w)
{
    putchar('\n');
    w->column = 0;
    end_word(w);
}

/* Takes the unfinished word along, unless it is as long as the line. */
static void break_line(struct wrap *w)
{
    if (w->word_columns == 0 || w->word_columns == w->column) {
        new_line(w);
        return;
    }
    printf("\033[%dD\033[K\n", w->word_columns);
    fwrite(w->word, 1, w->word_length, stdout);
    w->column = w->word_columns;
}

/* Blanks that do not fit are where the line breaks. */
static void put_blanks(struct wrap *w, int width)
{
    end_word(w);
    if (w->column + width > w->columns) {
        w->column = w->columns;
        return;
    }
    printf("%*s", width, "");
    w->column += width;
}

static void put_character(struct wrap *w, const char *bytes, size_t length, int width)
{
    bool wide = width > 1; /* such scripts break anywhere */
    if (wide)
        end_word(w);
    if (w->column > 0 && w->column + width > w->columns)
        break_line(w);
    fwrite(bytes, 1, length, stdout);
    w->column += width;
    if (w->word_length + length > sizeof w->word)
        end_word(w);
    if (wide || w->word_columns + width == 0)
        return; /* a mark on a character that is no part of this word stays with it */
    memcpy(w->word + w->word_length, bytes, length);
    w->word_length += length;
    w->word_columns += width;
}

/* C0, DEL and C1, among which are what begins a terminal's commands. */
static bool is_control(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0);
}

void wrap_put(struct wrap *w, const char *text, size_t n)
{
    w->columns = usable_columns();
    if (w->column > w->columns)
        new_line(w); /* narrowed: where the cursor went is the terminal's choice */
    for (size_t i = 0, length; i < n; i += length) {
        length = ert_utf8_length(text + i, n - i);
        if (length == 0)
            return;
        uint32_t c = ert_utf8_decode(text + i, length);
        int width = wcwidth((wchar_t)c);
        if (c == '\n')
            new_line(w);
        else if (c == '\t')
            put_blanks(w, TAB_STOPS - w->column % TAB_STOPS);
        else if (c == ' ')
            put_blanks(w, 1);
        else if (!is_control(c))
            put_character(w, text + i, length, width < 0 ? 1 : width);
    }
}
