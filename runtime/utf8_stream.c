#include <string.h>

#include "runtime/tokenizer.h"

/* Whether more bytes could make s[n] a valid sequence. Which continuation bytes may follow depends
 * on the first, but always the lowest or the highest is among them. */
static bool is_unfinished(const char *s, size_t n)
{
    char low[4] = {'\x80', '\x80', '\x80', '\x80'}, high[4] = {'\xbf', '\xbf', '\xbf', '\xbf'};
    memcpy(low, s, n);
    memcpy(high, s, n);
    return ert_utf8_length(low, 4) > n || ert_utf8_length(high, 4) > n;
}

static void drop(struct rt_utf8_stream *s, size_t n)
{
    s->n_held -= (unsigned)n;
    memmove(s->held, s->held + n, s->n_held);
}

/* Writes what is complete or cannot be completed any more; the rest too, if it is the end. */
static size_t drain(struct rt_utf8_stream *s, bool end, char *out)
{
    size_t written = 0;
    while (s->n_held > 0) {
        size_t length = ert_utf8_length(s->held, s->n_held);
        if (length == 0 && !end && is_unfinished(s->held, s->n_held))
            break;
        memcpy(out + written, length ? s->held : "\xef\xbf\xbd", length ? length : 3);
        written += length ? length : 3;
        drop(s, length ? length : 1);
    }
    return written;
}

size_t rt_utf8_push(struct rt_utf8_stream *s, const char *bytes, size_t n, char *out)
{
    size_t written = 0;
    for (size_t i = 0; i < n; i++) {
        s->held[s->n_held++] = bytes[i];
        written += drain(s, false, out + written);
    }
    return written;
}

size_t rt_utf8_flush(struct rt_utf8_stream *s, char *out)
{
    return drain(s, true, out);
}
