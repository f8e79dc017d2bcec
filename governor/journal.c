#include "governor/journal.h"
#include "governor/work.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUFFER = 1 << 16 };

/* About two days of a decision every half second. */
static const uint64_t DEFAULT_LIMIT = 32 << 20;

/* ---- bytes ---------------------------------------------------------------------------------- */

static void write_all(struct gov_journal *j, const char *data, size_t n)
{
    while (n > 0 && j->fd >= 0) {
        ssize_t done = write(j->fd, data, n);
        if (done > 0) {
            data += done;
            n -= (size_t)done;
            j->written += (uint64_t)done;
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

/* What the reader would take for the reading if the line left it out: the last one, and a sample
 * that was taken at its decision is taken at this one again. */
static bool goes_without_saying(const struct gov_journal *j, size_t i, uint64_t now_ns,
                                const struct dev_reading *r)
{
    const struct dev_reading *last = &j->last[i];
    uint64_t time_ns = j->was_fresh[i] ? now_ns : last->time_ns;
    return j->has_input && r->why == last->why && r->time_ns == time_ns &&
           (r->why != DEV_PRESENT || r->value == last->value);
}

/* A value or a reason, and its time if that is not the decision's. 17 significant digits give the
 * same double back. */
static void put_raw(struct gov_journal *j, uint64_t now_ns, const struct dev_reading *r)
{
    put(j, r->time_ns == now_ns ? "" : "[");
    if (r->why == DEV_PRESENT)
        put(j, "%.17g", r->value);
    else
        put(j, "\"%s\"", dev_absence_id(r->why));
    if (r->time_ns != now_ns)
        put(j, ",%" PRIu64 "]", r->time_ns);
}

void gov_journal_input(struct gov_journal *j, const struct pol_policy *policy, uint64_t now_ns,
                       const struct dev_reading *raw, unsigned state)
{
    const char *comma = "";
    put(j, "{\"type\":\"input\",\"t_ns\":%" PRIu64 ",\"readings\":{", now_ns);
    for (size_t i = 0; i < policy->n_sensors; i++) {
        bool said = goes_without_saying(j, i, now_ns, &raw[i]);
        j->last[i] = raw[i];
        j->was_fresh[i] = raw[i].time_ns == now_ns;
        if (said)
            continue;
        put(j, "%s", comma);
        put_string(j, policy->sensors[i].name);
        put(j, ":");
        put_raw(j, now_ns, &raw[i]);
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

/* A number that is 0 where it is not known. */
static void put_known(struct gov_journal *j, const char *key, double value)
{
    if (value > 0)
        put(j, ",\"%s\":%.9g", key, value);
    else
        put(j, ",\"%s\":null", key);
}

void gov_journal_progress(struct gov_journal *j, double t_s, enum gov_work work,
                          const struct gov_progress *progress)
{
    put(j, "{\"type\":\"work\",\"t_s\":%.6f", t_s);
    put_member(j, "what", gov_work_name(work));
    put_member(j, "point", progress->point);
    put(j, ",\"prompt_tokens\":%" PRIu64 ",\"tokens\":%" PRIu64, progress->prompt_tokens,
        progress->tokens);
    put(j, ",\"prefill_s\":%.6f,\"decode_s\":%.6f", progress->prefill_s, progress->decode_s);
    put_known(j, "energy_j", progress->joules);
    put_known(j, "j_per_token", progress->each_j);
    put_member(j, "source",
               progress->source < 0 ? NULL
                                    : gov_energy_name((enum gov_energy_source)progress->source));
    put(j, "}\n");
}

/* ---- open and close ------------------------------------------------------------------------- */

/* Writes an object as a line of its own and takes it over; NULL = there was no memory for it. */
static int write_object(struct gov_journal *j, json_t *object, struct ert_error *err)
{
    char *line = object ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    if (!line)
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory for the journal's policy", j->path);
    gov_journal_flush(j);
    write_all(j, line, strlen(line));
    write_all(j, "\n", 1);
    free(line);
    j->has_input = false; /* the next input line has all sensors */
    return 0;
}

/* memory: what the decisions remember so far, NULL = nothing yet. */
static int write_start_line(struct gov_journal *j, const struct pol_policy *policy,
                            uint64_t poll_ns, const char *memory, struct ert_error *err)
{
    char *yaml = NULL;
    int rc = pol_show(policy, NULL, &yaml, err);
    if (rc)
        return rc;
    json_t *start = json_pack("{s:s,s:i,s:s,s:s,s:I,s:I}", "type", "start", "version", 2, "policy",
                              policy->name, "policy_yaml", yaml, "poll_ns", (json_int_t)poll_ns,
                              "segment", (json_int_t)j->segment);
    if (start && memory && json_object_set_new(start, "memory", json_string(memory)) != 0) {
        json_decref(start);
        start = NULL;
    }
    free(yaml);
    return write_object(j, start, err);
}

int gov_journal_policy(struct gov_journal *j, double t_s, const struct pol_policy *policy,
                       uint64_t poll_ns, struct ert_error *err)
{
    char *yaml = NULL;
    if (j->fd < 0)
        return 0;
    int rc = pol_show(policy, NULL, &yaml, err);
    if (rc)
        return rc;
    json_t *line = json_pack("{s:s,s:f,s:s,s:s,s:I}", "type", "policy", "t_s", t_s, "policy",
                             policy->name, "policy_yaml", yaml, "poll_ns", (json_int_t)poll_ns);
    free(yaml);
    return write_object(j, line, err);
}

/* Only what is a file can be put aside. */
static bool is_regular(int fd)
{
    struct stat here;
    return fstat(fd, &here) == 0 && S_ISREG(here.st_mode);
}

static int create(struct gov_journal *j, struct ert_error *err)
{
    j->fd = open(j->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    j->written = 0;
    if (j->fd < 0)
        return ert_fail(err, errno == ENOENT ? ERT_E_MISSING : ERT_E_IO,
                        "%s: cannot create the journal: %s", j->path, strerror(errno));
    return 0;
}

int gov_journal_open(struct gov_journal *j, const char *path, uint64_t limit_bytes,
                     const struct pol_policy *policy, uint64_t poll_ns, struct ert_error *err)
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
    int rc = create(j, err);
    if (!rc && is_regular(j->fd))
        j->limit = limit_bytes ? limit_bytes : DEFAULT_LIMIT;
    if (!rc)
        rc = write_start_line(j, policy, poll_ns, NULL, err);
    if (rc)
        gov_journal_close(j, NULL);
    return rc;
}

/* The file becomes PATH.1, in the place of the last one of that name. */
static int put_aside(struct gov_journal *j, struct ert_error *err)
{
    char older[PATH_MAX];
    int n = snprintf(older, sizeof older, "%s.1", j->path);
    close(j->fd);
    j->fd = -1;
    if (n < 0 || (size_t)n >= sizeof older || rename(j->path, older) != 0)
        return ert_fail(err, ERT_E_IO, "%.100s: cannot put the full journal aside: %s", j->path,
                        strerror(errno));
    return create(j, err);
}

void gov_journal_rotate(struct gov_journal *j, const struct pol_policy *policy, uint64_t poll_ns,
                        const struct pol_state *state)
{
    struct ert_error err;
    char *memory = NULL;
    if (j->fd < 0 || !j->limit || j->written < j->limit)
        return;
    j->segment++;
    int rc = pol_state_write(policy, state, &memory, &err);
    if (!rc)
        rc = put_aside(j, &err);
    if (!rc)
        rc = write_start_line(j, policy, poll_ns, memory, &err);
    free(memory);
    if (rc)
        gov_journal_fail(j, err.text);
}

void gov_journal_fail(struct gov_journal *j, const char *why)
{
    snprintf(j->failure, sizeof j->failure, "%s", why);
    if (j->fd >= 0)
        close(j->fd);
    j->fd = -1;
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
