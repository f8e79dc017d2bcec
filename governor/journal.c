#include "governor/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BUFFER = 1 << 16 };

/* ---- bytes ---------------------------------------------------------------------------------- */

static void write_all(struct gov_journal *j, const char *data, size_t n)
{
    while (n > 0 && j->fd >= 0) {
        ssize_t done = write(j->fd, data, n);
        if (done > 0) {
            data += done;
            n -= (size_t)done;
        } else if (done == 0 || errno != EINTR) {
            snprintf(j->failure, sizeof j->failure, "%.100s: cannot write the journal: %s", j->path,
                     done == 0 ? "no room" : strerror(errno));
            close(j->fd);
            j->fd = -1;
        }
    }
}

void gov_journal_flush(struct gov_journal *j)
{
    write_all(j, j->buffer, j->used);
    j->used = 0;
}

/* No piece is longer than a reason or a name, so that one always fits the flushed buffer. */
static void put(struct gov_journal *j, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void put(struct gov_journal *j, const char *fmt, ...)
{
    enum { LONGEST_PIECE = 1024 };
    if (j->fd < 0)
        return;
    if (BUFFER - j->used < LONGEST_PIECE)
        gov_journal_flush(j);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(j->buffer + j->used, BUFFER - j->used, fmt, ap);
    va_end(ap);
    if (n > 0)
        j->used += (size_t)n < BUFFER - j->used ? (size_t)n : BUFFER - j->used - 1;
}

/* A JSON string. Bytes that are no UTF-8 become U+FFFD, so that every line can be parsed. */
static void put_string(struct gov_journal *j, const char *text)
{
    size_t left = strlen(text);
    put(j, "\"");
    while (left > 0) {
        size_t n = ert_utf8_length(text, left);
        if (n == 0)
            put(j, "\\ufffd");
        else if (*text == '"' || *text == '\\')
            put(j, "\\%c", *text);
        else if ((unsigned char)*text < 0x20)
            put(j, "\\u%04x", (unsigned char)*text);
        else
            put(j, "%.*s", (int)n, text);
        text += n ? n : 1;
        left -= n ? n : 1;
    }
    put(j, "\"");
}

static void put_member(struct gov_journal *j, const char *key, const char *text)
{
    put(j, ",\"%s\":", key);
    if (text)
        put_string(j, text);
    else
        put(j, "null");
}

/* ---- lines ---------------------------------------------------------------------------------- */

static bool same_reading(const struct dev_reading *a, const struct dev_reading *b)
{
    return a->why == b->why && a->time_ns == b->time_ns &&
           (a->why != DEV_PRESENT || a->value == b->value);
}

/* 17 significant digits give the same double back. */
static void put_raw(struct gov_journal *j, const struct dev_reading *r)
{
    if (r->why == DEV_PRESENT)
        put(j, "[%.17g,%" PRIu64 "]", r->value, r->time_ns);
    else
        put(j, "[null,\"%s\",%" PRIu64 "]", dev_absence_id(r->why), r->time_ns);
}

void gov_journal_input(struct gov_journal *j, const struct pol_policy *policy, uint64_t now_ns,
                       const struct dev_reading *raw, unsigned state)
{
    const char *comma = "";
    put(j, "{\"type\":\"input\",\"t_ns\":%" PRIu64 ",\"readings\":{", now_ns);
    for (size_t i = 0; i < policy->n_sensors; i++) {
        if (j->has_input && same_reading(&raw[i], &j->last[i]))
            continue;
        put(j, "%s", comma);
        put_string(j, policy->sensors[i].name);
        put(j, ":");
        put_raw(j, &raw[i]);
        j->last[i] = raw[i];
        comma = ",";
    }
    put(j, "},\"state\":%u}\n", state);
    j->has_input = true;
}

static const char *trip_name(const struct pol_policy *policy, int trip)
{
    return trip >= 0 && (size_t)trip < policy->n_trips ? policy->trips[trip].name : NULL;
}

void gov_journal_decision(struct gov_journal *j, const struct pol_policy *policy, double t_s,
                          const struct pol_decision *decision)
{
    put(j, "{\"type\":\"decision\",\"t_s\":%.6f", t_s);
    put_member(j, "from", policy->states[decision->previous].name);
    put_member(j, "to", policy->states[decision->state].name);
    put(j, ",\"state\":%u", decision->state);
    put_member(j, "trip", trip_name(policy, decision->trip));
    put_member(j, "reason", decision->reason);
    put(j, "}\n");
}

void gov_journal_source(struct gov_journal *j, double t_s, const char *sensor, const char *from,
                        const char *to, const char *why)
{
    put(j, "{\"type\":\"source\",\"t_s\":%.6f", t_s);
    put_member(j, "sensor", sensor);
    put_member(j, "from", *from ? from : NULL);
    put_member(j, "to", *to ? to : NULL);
    put_member(j, "why", why);
    put(j, "}\n");
}

void gov_journal_event(struct gov_journal *j, double t_s, const char *what)
{
    put(j, "{\"type\":\"event\",\"t_s\":%.6f", t_s);
    put_member(j, "what", what);
    put(j, "}\n");
}

/* Values by sensor as validated, null where there is none. */
static void put_readings(struct gov_journal *j, const struct pol_policy *policy,
                         const struct dev_reading *readings)
{
    put(j, ",\"readings\":{");
    for (size_t i = 0; i < policy->n_sensors; i++) {
        put(j, i ? "," : "");
        put_string(j, policy->sensors[i].name);
        if (readings[i].why == DEV_PRESENT)
            put(j, ":%.17g", readings[i].value);
        else
            put(j, ":null");
    }
    put(j, "}");
}

void gov_journal_guarantee(struct gov_journal *j, const struct pol_policy *policy, double t_s,
                           unsigned i, const struct pol_guarantee_status *status, unsigned state,
                           const struct dev_reading *readings)
{
    put(j, "{\"type\":\"guarantee\",\"t_s\":%.6f", t_s);
    put_member(j, "text", policy->guarantees[i]);
    put_member(j, "verdict", pol_verdict_name(status->verdict));
    /* A window may be known to be broken before it is known how far. */
    if (isfinite(status->upper) && status->upper <= 0)
        put(j, ",\"robustness\":%.17g", status->upper);
    else
        put(j, ",\"robustness\":null");
    put(j, ",\"state\":%u", state);
    put_readings(j, policy, readings);
    put(j, "}\n");
}

void gov_journal_switch(struct gov_journal *j, const struct pol_policy *policy, double t_s,
                        const struct gov_switch_event *event, const struct dev_reading *readings)
{
    put(j, "{\"type\":\"switch\",\"token\":%" PRIu64 ",\"t_s\":%.6f", event->token, t_s);
    put_member(j, "from", event->from);
    put_member(j, "to", event->to);
    put(j, ",\"state\":%u", event->state);
    put_member(j, "trip", event->trip[0] ? event->trip : NULL);
    put_member(j, "reason", event->reason);
    put_readings(j, policy, readings);
    put(j, ",\"cost_ns\":%" PRIu64 "}\n", event->cost_ns);
}

/* ---- open and close ------------------------------------------------------------------------- */

static int write_start_line(struct gov_journal *j, const struct pol_policy *policy,
                            uint64_t poll_ns, struct ert_error *err)
{
    char *yaml = NULL;
    int rc = pol_show(policy, &yaml, err);
    if (rc)
        return rc;
    json_t *start = json_pack("{s:s,s:i,s:s,s:s,s:I}", "type", "start", "version", 1, "policy",
                              policy->name, "policy_yaml", yaml, "poll_ns", (json_int_t)poll_ns);
    char *line = start ? json_dumps(start, JSON_COMPACT) : NULL;
    if (line) {
        write_all(j, line, strlen(line));
        write_all(j, "\n", 1);
    } else {
        rc = ert_fail(err, ERT_E_NOMEM, "%s: no memory for the journal's first line", j->path);
    }
    free(line);
    json_decref(start);
    free(yaml);
    return rc;
}

int gov_journal_open(struct gov_journal *j, const char *path, const struct pol_policy *policy,
                     uint64_t poll_ns, struct ert_error *err)
{
    *j = (struct gov_journal){.fd = -1};
    if (!path)
        return 0;
    j->path = strdup(path);
    j->buffer = malloc(BUFFER);
    if (!j->path || !j->buffer) {
        gov_journal_close(j, NULL);
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory for the journal", path);
    }
    j->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    int rc = j->fd < 0 ? ert_fail(err, errno == ENOENT ? ERT_E_MISSING : ERT_E_IO,
                                  "%s: cannot create the journal: %s", path, strerror(errno))
                       : write_start_line(j, policy, poll_ns, err);
    if (rc)
        gov_journal_close(j, NULL);
    return rc;
}

int gov_journal_close(struct gov_journal *j, struct ert_error *err)
{
    if (j->fd >= 0)
        gov_journal_flush(j);
    if (j->fd >= 0 && close(j->fd) != 0)
        snprintf(j->failure, sizeof j->failure, "%.100s: cannot close the journal: %s", j->path,
                 strerror(errno));
    free(j->path);
    free(j->buffer);
    j->path = j->buffer = NULL;
    j->fd = -1;
    return j->failure[0] ? ert_fail(err, ERT_E_IO, "%s", j->failure) : 0;
}
