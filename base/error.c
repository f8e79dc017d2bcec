#include "base/base.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static const char *const code_text[ERT_N_CODES] = {
    [ERT_OK] = "no error",
#define E(name, sentence) [ERT_E_##name] = (sentence),
#include "base/errors.def"
#undef E
};

const char *ert_code_text(int code)
{
    int c = abs(code);
    return c < ERT_N_CODES ? code_text[c] : "unknown error";
}

/* A sentence quotes files, and what a file says must not steer a terminal or break a line: control
 * characters (C0, DEL, and C1 as UTF-8) become '?'. */
static void disarm(char *text)
{
    for (unsigned char *c = (unsigned char *)text; *c; c++) {
        bool c1 = c[0] == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0;
        if (*c < ' ' || *c == 0x7f || c1)
            *c = '?';
        if (c1)
            *++c = '?';
    }
}

int ert_fail(struct ert_error *err, enum ert_code code, const char *fmt, ...)
{
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        err->code = code;
        vsnprintf(err->text, sizeof err->text, fmt, ap);
        va_end(ap);
        disarm(err->text);
    }
    return -(int)code;
}

int ert_fail_in(struct ert_error *err, const char *fmt, ...)
{
    char context[256], inner[sizeof err->text];
    if (!err)
        return -ERT_E_CHECK;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(context, sizeof context, fmt, ap);
    va_end(ap);
    disarm(context);
    memcpy(inner, err->text, sizeof inner);
    size_t n = strlen(context), room = sizeof err->text - 1;
    memcpy(err->text, context, n); /* context is shorter than text: ": " still fits */
    memcpy(err->text + n, ": ", 2);
    n += 2;
    size_t rest = strnlen(inner, room - n);
    memcpy(err->text + n, inner, rest);
    err->text[n + rest] = '\0';
    return -(int)err->code;
}

bool ert_progress_report(const struct ert_progress *p, const char *stage, double done, double total)
{
    return !p || !p->report || p->report(p->ctx, stage, done, total);
}
