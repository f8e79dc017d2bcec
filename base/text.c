#include "base/base.h"

#include <string.h>

enum { LONGEST_NAME = 63 };

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
    unsigned m = a < b ? a : b;
    return m < c ? m : c;
}

/* Levenshtein distance with one row; words longer than LONGEST_NAME count as far away. */
static unsigned edit_distance(const char *a, const char *b)
{
    size_t na = strlen(a), nb = strlen(b);
    unsigned row[LONGEST_NAME + 1];
    if (na > LONGEST_NAME || nb > LONGEST_NAME)
        return LONGEST_NAME;
    for (size_t j = 0; j <= nb; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= na; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= nb; j++) {
            unsigned up = row[j];
            row[j] = min3(up + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = up;
        }
    }
    return row[nb];
}

const char *ert_nearest_name(const char *word, const char *const *names, size_t n)
{
    const char *best = NULL;
    unsigned limit = (unsigned)(strlen(word) / 2), best_distance = limit < 2 ? 2 : limit;
    for (size_t i = 0; i < n; i++) {
        unsigned d = edit_distance(word, names[i]);
        if (d <= best_distance && (!best || d < best_distance)) {
            best = names[i];
            best_distance = d;
        }
    }
    return best;
}

static bool is_continuation(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

size_t ert_utf8_length(const char *s, size_t n)
{
    if (n == 0)
        return 0;
    unsigned char b0 = (unsigned char)s[0];
    if (b0 < 0x80)
        return 1;
    size_t length = b0 >= 0xc2 && b0 <= 0xdf   ? 2
                    : (b0 & 0xf0) == 0xe0      ? 3
                    : b0 >= 0xf0 && b0 <= 0xf4 ? 4
                                               : 0;
    if (length == 0 || length > n)
        return 0;
    for (size_t i = 1; i < length; i++)
        if (!is_continuation(s[i]))
            return 0;
    unsigned char b1 = (unsigned char)s[1];
    bool overlong = (b0 == 0xe0 && b1 < 0xa0) || (b0 == 0xf0 && b1 < 0x90);
    bool surrogate = b0 == 0xed && b1 > 0x9f;
    bool too_large = b0 == 0xf4 && b1 > 0x8f;
    return overlong || surrogate || too_large ? 0 : length;
}

uint32_t ert_utf8_decode(const char *s, size_t length)
{
    static const unsigned char lead_mask[5] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    uint32_t c = (unsigned char)s[0] & lead_mask[length];
    for (size_t i = 1; i < length; i++)
        c = c << 6 | ((unsigned char)s[i] & 0x3f);
    return c;
}

size_t ert_utf8_encode(uint32_t c, char out[4])
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t length = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char lead[5] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = length - 1; i > 0; i--, c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)(lead[length] | c);
    return length;
}
