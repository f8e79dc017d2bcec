/* Schedules of points: "TOKEN POINT" lines, or the switch lines of a run's journal. */
#include <stdlib.h>
#include <string.h>

#include "variants/measure.h"

enum { MAX_BYTES = 64 << 20 };

struct reading {
    const char *path;
    const struct rt_pack *pack;
    struct var_schedule_entry *entries;
    size_t n, room;
    struct ert_error *err;
};

static int add_entry(struct reading *s, size_t line, long token, const char *point)
{
    if (s->n > 0 && token < (long)s->entries[s->n - 1].token)
        return ert_fail(s->err, ERT_E_FORMAT,
                        "%s:%zu: token %ld comes before token %u of the line above", s->path, line,
                        token, s->entries[s->n - 1].token);
    if (s->n > 0 && token == (long)s->entries[s->n - 1].token)
        s->n--; /* two switches at one token: only the last one ran */
    if (s->n == s->room) {
        size_t room = s->room ? 2 * s->room : 64;
        void *bigger = realloc(s->entries, room * sizeof *s->entries);
        if (!bigger)
            return ert_fail(s->err, ERT_E_NOMEM, "%s: no memory for %zu entries", s->path, room);
        s->entries = bigger;
        s->room = room;
    }
    struct var_schedule_entry *e = &s->entries[s->n];
    e->token = (uint32_t)token;
    if (rt_point_parse(point, s->pack, &e->point, s->err))
        return ert_fail_in(s->err, "%s:%zu", s->path, line);
    s->n++;
    return 0;
}

static int read_plain(struct reading *s, size_t line, char *text)
{
    char *rest = NULL, *number = strtok_r(text, " \t", &rest),
         *point = strtok_r(NULL, " \t", &rest);
    struct ert_error why = {0};
    long token = 0;
    if (!point || strtok_r(NULL, " \t", &rest))
        return ert_fail(s->err, ERT_E_FORMAT,
                        "%s:%zu: expected \"TOKEN POINT\", such as \"64 w4a16\"", s->path, line);
    if (ert_parse_int(number, 0, UINT32_MAX, &token, &why))
        return ert_fail(s->err, ERT_E_FORMAT, "%s:%zu: %s", s->path, line, why.text);
    return add_entry(s, line, token, point);
}

/* A rung's name in a journal, "w4a16@1t,8tok/s": threads and pace change no token. A pause holds
 * the text and changes none either. */
static int add_rung(struct reading *s, size_t line, long token, const char *rung)
{
    char point[64];
    snprintf(point, sizeof point, "%.*s", (int)strcspn(rung, "@"), rung);
    return strcmp(point, "pause") != 0 ? add_entry(s, line, token, point) : 0;
}

static int read_switch(struct reading *s, size_t line, const json_t *object)
{
    const json_t *token = json_object_get(object, "token");
    const char *from = json_string_value(json_object_get(object, "from"));
    const char *to = json_string_value(json_object_get(object, "to"));
    json_int_t at = json_integer_value(token);
    if (!json_is_integer(token) || at < 0 || at > UINT32_MAX || !from || !to)
        return ert_fail(s->err, ERT_E_FORMAT,
                        "%s:%zu: a switch line needs \"token\", \"from\" and \"to\"", s->path,
                        line);
    /* What ran before the first switch. */
    int rc = s->n == 0 && at > 0 ? add_rung(s, line, 0, from) : 0;
    return rc ? rc : add_rung(s, line, at, to);
}

/* Journal lines of other types say nothing about points. */
static int read_journal(struct reading *s, size_t line, const char *text)
{
    json_error_t why;
    json_t *object = json_loads(text, JSON_REJECT_DUPLICATES, &why);
    if (!object)
        return ert_fail(s->err, ERT_E_FORMAT, "%s:%zu: not a journal line: %s", s->path, line,
                        why.text);
    const char *type = json_string_value(json_object_get(object, "type"));
    int rc = type && strcmp(type, "switch") == 0 ? read_switch(s, line, object) : 0;
    json_decref(object);
    return rc;
}

static int read_lines(struct reading *s, char *text)
{
    int rc = 0;
    size_t line = 0;
    char *next = text;
    while (next && !rc) {
        char *start = strsep(&next, "\n");
        line++;
        start[strcspn(start, "\r")] = '\0';
        start += strspn(start, " \t");
        if (*start == '{')
            rc = read_journal(s, line, start);
        else if (*start != '\0' && *start != '#')
            rc = read_plain(s, line, start);
    }
    return rc;
}

int var_schedule_read(const char *path, const struct rt_pack *pack, struct var_schedule *schedule,
                      struct ert_error *err)
{
    struct reading s = {.path = path, .pack = pack, .err = err};
    char *text;
    *schedule = (struct var_schedule){0};
    int rc = ert_read_text(path, MAX_BYTES, &text, NULL, err);
    if (rc)
        return rc;
    rc = read_lines(&s, text);
    free(text);
    if (!rc && (s.n == 0 || s.entries[0].token != 0))
        rc = ert_fail(err, ERT_E_FORMAT, "%s: a schedule needs a point for token 0: \"0 w8a8\"",
                      path);
    if (rc) {
        free(s.entries);
        return rc;
    }
    schedule->entries = s.entries;
    schedule->n = s.n;
    return 0;
}

void var_schedule_release(struct var_schedule *schedule)
{
    free(schedule->entries);
    *schedule = (struct var_schedule){0};
}

int var_check_schedule(const struct var_schedule *s, struct ert_error *err)
{
    if (s->n == 0 || s->entries[0].token != 0)
        return ert_fail(err, ERT_E_USAGE, "a schedule needs a point for token 0");
    for (size_t i = 0; i < s->n; i++) {
        if (i > 0 && s->entries[i].token <= s->entries[i - 1].token)
            return ert_fail(err, ERT_E_USAGE, "schedule entry %zu: token %u does not come after %u",
                            i + 1, s->entries[i].token, s->entries[i - 1].token);
        if (s->entries[i].point.pause)
            return ert_fail(err, ERT_E_USAGE, "schedule entry %zu: 'pause' computes nothing",
                            i + 1);
    }
    return 0;
}
