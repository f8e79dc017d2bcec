#include "cli/top_history.h"

#include <math.h>
#include <string.h>

enum { LEVELS = 8 };

static const char *const blocks[LEVELS] = {"\u2581", "\u2582", "\u2583", "\u2584",
                                           "\u2585", "\u2586", "\u2587", "\u2588"};
static const char *const letters[LEVELS] = {"_", ".", "-", "~", "=", "+", "*", "#"};

void top_history_put(struct top_history *h, double value)
{
    h->values[h->n++ % TOP_HISTORY] = value;
}

/* The value that is `back` steps old, NaN if there is none. */
static double value_at(const struct top_history *h, size_t back)
{
    return back < h->n && back < TOP_HISTORY ? h->values[(h->n - 1 - back) % TOP_HISTORY] : NAN;
}

void top_history_draw(const struct top_history *h, size_t cells, bool unicode, char *text,
                      size_t size)
{
    const char *const *levels = unicode ? blocks : letters;
    double least = HUGE_VAL, greatest = -HUGE_VAL;
    for (size_t i = 0; i < cells; i++) {
        least = fmin(least, value_at(h, i));
        greatest = fmax(greatest, value_at(h, i));
    }
    size_t used = strlen(text);
    for (size_t i = cells; i-- > 0;) {
        double value = value_at(h, i);
        /* What never changes is drawn in the middle: it is neither low nor high. */
        double share = greatest > least ? (value - least) / (greatest - least) : 0.5;
        const char *glyph = isnan(value) ? " " : levels[(int)lround(share * (LEVELS - 1))];
        size_t length = strlen(glyph);
        if (used + length + 1 > size)
            return;
        memcpy(text + used, glyph, length + 1);
        used += length;
    }
}
