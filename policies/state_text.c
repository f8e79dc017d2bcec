/* A policy's memory as text and back, so that a journal may begin in mid-run. */
#include "policies/policies.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned kind_COUNT;
typedef uint64_t kind_TIME;
typedef int64_t kind_AMOUNT;
typedef double kind_NUMBER;
typedef int kind_INDEX;
typedef bool kind_FLAG;
typedef enum dev_absence kind_WHY;

/* A member that is in the struct and not in the table would be forgotten; the slack is padding. */
enum {
    PADDING = 16,
    PADDING_OF_ALL = 24,
#define STATE(kind, member) +sizeof(kind_##kind)
    STATE_BYTES = 0
#include "policies/state_fields.def"
    ,
#define TRIP(kind, member) +sizeof(kind_##kind)
    TRIP_BYTES = 0
#include "policies/state_fields.def"
    ,
#define SENSOR(kind, member) +sizeof(kind_##kind)
    SENSOR_BYTES = 0
#include "policies/state_fields.def"
};
_Static_assert(sizeof(struct pol_trip_state) - TRIP_BYTES < PADDING, "add it to state_fields.def");
_Static_assert(sizeof(struct pol_sensor_state) - SENSOR_BYTES < PADDING,
               "add it to state_fields.def");
_Static_assert(sizeof(struct pol_state) - POL_MAX_TRIPS * sizeof(struct pol_trip_state) -
                       POL_MAX_SENSORS * sizeof(struct pol_sensor_state) - STATE_BYTES <
                   PADDING_OF_ALL,
               "add it to state_fields.def");

/* ---- writing ------------------------------------------------------------------------------- */

static void write_COUNT(FILE *f, kind_COUNT v)
{
    fprintf(f, "%u ", v);
}

static void write_TIME(FILE *f, kind_TIME v)
{
    fprintf(f, "%" PRIu64 " ", v);
}

static void write_AMOUNT(FILE *f, kind_AMOUNT v)
{
    fprintf(f, "%" PRId64 " ", v);
}

static void write_NUMBER(FILE *f, kind_NUMBER v)
{
    fprintf(f, "%.17g ", v);
}

static void write_INDEX(FILE *f, kind_INDEX v)
{
    fprintf(f, "%d ", v);
}

static void write_FLAG(FILE *f, kind_FLAG v)
{
    fprintf(f, "%d ", v);
}

static void write_WHY(FILE *f, kind_WHY v)
{
    fprintf(f, "%s ", dev_absence_id(v));
}

static void write_state(FILE *f, const struct pol_policy *policy, const struct pol_state *s)
{
#define STATE(kind, member) write_##kind(f, s->member);
#include "policies/state_fields.def"
    for (size_t i = 0; i < policy->n_trips; i++) {
#define TRIP(kind, member) write_##kind(f, s->trips[i].member);
#include "policies/state_fields.def"
    }
    for (size_t i = 0; i < policy->n_sensors; i++) {
#define SENSOR(kind, member) write_##kind(f, s->sensors[i].member);
#include "policies/state_fields.def"
    }
}

int pol_state_write(const struct pol_policy *policy, const struct pol_state *state, char **text,
                    struct ert_error *err)
{
    size_t size;
    *text = NULL;
    FILE *f = open_memstream(text, &size);
    if (f)
        write_state(f, policy, state);
    bool failed = !f || ferror(f);
    if (f && fclose(f) == 0 && !failed)
        return 0;
    free(*text);
    *text = NULL;
    return ert_fail(err, ERT_E_NOMEM, "out of memory for the state of policy '%s'", policy->name);
}

/* ---- reading ------------------------------------------------------------------------------- */

/* Words from the left; ok turns false at the first that is not what it should be. */
struct words {
    const char *at;
    bool ok;
};

static bool take_word(struct words *w, char word[48])
{
    size_t n = strcspn(w->at, " ");
    w->ok = w->ok && n > 0 && n < 48;
    if (!w->ok)
        return false;
    memcpy(word, w->at, n);
    word[n] = '\0';
    w->at += n + strspn(w->at + n, " ");
    return true;
}

static uint64_t take_unsigned(struct words *w, uint64_t most)
{
    char word[48], *end;
    if (!take_word(w, word))
        return 0;
    errno = 0;
    uint64_t v = strtoull(word, &end, 10);
    w->ok = word[0] >= '0' && word[0] <= '9' && !*end && !errno && v <= most;
    return w->ok ? v : 0;
}

static void read_COUNT(struct words *w, kind_COUNT *v)
{
    *v = (unsigned)take_unsigned(w, POL_MAX_STATES - 1);
}

static void read_TIME(struct words *w, kind_TIME *v)
{
    *v = take_unsigned(w, INT64_MAX);
}

static void read_AMOUNT(struct words *w, kind_AMOUNT *v)
{
    char word[48], *end;
    *v = 0;
    if (!take_word(w, word))
        return;
    errno = 0;
    *v = strtoll(word, &end, 10);
    w->ok = !*end && !errno;
}

static void read_NUMBER(struct words *w, kind_NUMBER *v)
{
    char word[48];
    *v = 0;
    w->ok = take_word(w, word) && ert_parse_double(word, v, NULL) == 0;
}

static void read_INDEX(struct words *w, kind_INDEX *v)
{
    char word[48];
    long number = -1;
    w->ok = take_word(w, word) && ert_parse_int(word, -1, POL_MAX_TRIPS - 1, &number, NULL) == 0;
    *v = (int)number;
}

static void read_FLAG(struct words *w, kind_FLAG *v)
{
    *v = take_unsigned(w, 1) != 0;
}

static void read_WHY(struct words *w, kind_WHY *v)
{
    char word[48];
    *v = DEV_PRESENT;
    w->ok = take_word(w, word) && dev_absence_find(word, v);
}

static void read_state(struct words *w, const struct pol_policy *policy, struct pol_state *s)
{
#define STATE(kind, member) read_##kind(w, &s->member);
#include "policies/state_fields.def"
    for (size_t i = 0; i < policy->n_trips; i++) {
#define TRIP(kind, member) read_##kind(w, &s->trips[i].member);
#include "policies/state_fields.def"
    }
    for (size_t i = 0; i < policy->n_sensors; i++) {
#define SENSOR(kind, member) read_##kind(w, &s->sensors[i].member);
#include "policies/state_fields.def"
    }
}

/* Indices lead into the policy. */
static bool fits(const struct pol_policy *policy, const struct pol_state *s)
{
    bool fit = s->state < policy->n_states && s->trip < (int)policy->n_trips &&
               s->power.request[POL_DECODE] < policy->n_states &&
               s->power.request[POL_PREFILL] < policy->n_states;
    for (size_t i = 0; i < policy->n_trips; i++)
        fit = fit && s->trips[i].request < policy->n_states;
    return fit;
}

int pol_state_read(const struct pol_policy *policy, const char *text, struct pol_state *state,
                   struct ert_error *err)
{
    struct words w = {text, true};
    memset(state, 0, sizeof *state);
    read_state(&w, policy, state);
    if (w.ok && !*w.at && fits(policy, state))
        return 0;
    pol_state_init(state, policy);
    return ert_fail(err, ERT_E_FORMAT,
                    "the state of policy '%s' is damaged, or another version of edgert wrote it",
                    policy->name);
}
