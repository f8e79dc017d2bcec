/* Unicode's normalization form C (UAX #15), which Qwen's tokenizers ask for. GLib has the tables.
 */
#include <stdlib.h>
#include <string.h>

#include <glib.h>

#include "runtime/tokenizer_parts.h"

static bool is_ascii(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (text[i] & 0x80)
            return false;
    return true;
}

/* Appends the form of a stretch without NULs, where GLib would stop. */
static bool append(char **out, size_t *n_out, const char *text, size_t n)
{
    char *form =
        n && !is_ascii(text, n) ? g_utf8_normalize(text, (gssize)n, G_NORMALIZE_NFC) : NULL;
    size_t length = form ? strlen(form) : n;
    char *bigger = realloc(*out, *n_out + length + 2);
    if (bigger) {
        memcpy(bigger + *n_out, form ? form : text, length);
        *out = bigger;
        *n_out += length;
        bigger[*n_out] = '\0';
    }
    g_free(form);
    return bigger != NULL;
}

int rt_normalize_nfc(const char *text, size_t n, char **out, size_t *n_out, struct ert_error *err)
{
    *out = NULL;
    *n_out = 0;
    for (size_t at = 0; at <= n;) {
        const char *nul = at < n ? memchr(text + at, 0, n - at) : NULL;
        size_t end = nul ? (size_t)(nul - text) : n;
        if (!append(out, n_out, text + at, end - at)) {
            free(*out);
            *out = NULL;
            return ert_fail(err, ERT_E_NOMEM, "no memory to normalize a text of %zu bytes", n);
        }
        if (nul)
            (*out)[(*n_out)++] = '\0';
        at = end + 1;
    }
    return 0;
}
