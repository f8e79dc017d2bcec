/* base: what every room stands on. Errors, clock, file mapping, hashing, numbers with units.
 *
 * Calls return 0 or a negative code -ERT_E_...; the sentence for a person is in struct ert_error.
 * Nothing here prints, exits or holds globals. */
#ifndef ERT_BASE_H
#define ERT_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* ---- errors -------------------------------------------------------------------------------- */

enum ert_code {
    ERT_OK = 0,
#define E(name, sentence) ERT_E_##name,
#include "base/errors.def"
#undef E
    ERT_N_CODES
};

/* What went wrong, for a person: what, where, what was expected, what to do; one line without
 * control characters, whatever it quotes. Caller-owned. */
struct ert_error {
    enum ert_code code;
    char text[512];
};

/* Fills err (which may be NULL) and returns -code, so that `return ert_fail(...)` reads well. */
int ert_fail(struct ert_error *err, enum ert_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "context: " before the sentence already in err; returns -err->code. */
int ert_fail_in(struct ert_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The one-line meaning of a code, positive or negative. Static storage. */
const char *ert_code_text(int code);

/* ---- clock --------------------------------------------------------------------------------- */

/* Monotonic time in nanoseconds (CLOCK_MONOTONIC). */
uint64_t ert_now_ns(void);

/* Sleeps until the monotonic time deadline_ns; returns early on a signal. */
void ert_sleep_until_ns(uint64_t deadline_ns);

/* The calling thread, and those that it starts, take short turns of the CPU from here on: in
 * exchange they wait less for it when they wake beside busy ones. Its share stays the same. (The
 * slice of a thread under EEVDF, Linux 6.12 and later; elsewhere nothing happens.) */
void ert_take_short_turns(void);

/* ---- memory -------------------------------------------------------------------------------- */

/* Bytes of this process that are in memory now, mapped pages of files included (Rss of
 * /proc/self/smaps_rollup). Takes a walk over the page tables, a millisecond or so. */
int ert_resident_bytes(uint64_t *bytes, struct ert_error *err);

/* ---- files --------------------------------------------------------------------------------- */

/* A whole file, mapped read-only and shared. init by ert_map_open, released by ert_map_close. */
struct ert_map {
    const uint8_t *data; /* NULL when size is 0 */
    size_t size;         /* bytes */
    int fd;              /* kept open: POSIX_FADV_DONTNEED needs it */
};

/* Maps path. On failure the map is left empty and closing it is harmless. */
int ert_map_open(struct ert_map *map, const char *path, struct ert_error *err);
void ert_map_close(struct ert_map *map);

/* Reads a text file of at most max_bytes whole; *text is NUL-terminated and the caller frees it.
 * size (may be NULL) counts without the NUL. */
int ert_read_text(const char *path, size_t max_bytes, char **text, size_t *size,
                  struct ert_error *err);

/* A file that appears under its name only when it is complete: written without a name (where the
 * file system allows it, else as PATH.PID.part) in the same folder, fsync'ed, renamed. Abort leaves
 * the old file as it was, and so does the end of the process, which leaves nothing behind unless
 * there was a .part. A path that is there and no regular file is ERT_E_USAGE. */
struct ert_output {
    FILE *file;
    char *path, *temp_path; /* temp_path: where the unfinished file can be opened */
    bool nameless;
};
int ert_output_open(struct ert_output *out, const char *path, struct ert_error *err);
int ert_output_commit(struct ert_output *out, struct ert_error *err); /* closes either way */
void ert_output_abort(struct ert_output *out);                        /* harmless after commit */

/* ---- hashing ------------------------------------------------------------------------------- */

/* XXH64 with seed 0 of n bytes: the checksum of a pack's sections. */
uint64_t ert_hash64(const void *data, size_t n);

/* ---- text ---------------------------------------------------------------------------------- */

/* The candidate closest to word by edit distance, or NULL when none is close enough to suggest.
 * names is an array of n strings. */
const char *ert_nearest_name(const char *word, const char *const *names, size_t n);

/* Length in bytes (1 to 4) of the valid UTF-8 sequence at s, 0 if the first byte starts none within
 * n bytes. Overlong forms and surrogates are invalid (Unicode 15, table 3-7). */
size_t ert_utf8_length(const char *s, size_t n);

/* Decodes the sequence of that length. */
uint32_t ert_utf8_decode(const char *s, size_t length);

/* Writes code point as UTF-8 into out[4]; returns the length. */
size_t ert_utf8_encode(uint32_t code_point, char out[4]);

/* ---- numbers with units -------------------------------------------------------------------- */

enum ert_unit {
    ERT_UNIT_NONE,
    ERT_UNIT_CELSIUS, /* 70C, 70.5C        -> degrees Celsius */
    ERT_UNIT_PERCENT, /* 20%               -> percent */
    ERT_UNIT_SECOND,  /* 500ms, 2s, 5min   -> seconds */
    ERT_UNIT_BYTE,    /* 400MB, 1GB, 2MiB  -> megabytes (10^6 bytes) */
    ERT_UNIT_WATT,    /* 9W, 4500mW        -> watts */
    ERT_UNIT_HERTZ,   /* 1800MHz           -> megahertz */
    ERT_UNIT_VOLT,    /* 3.7V, 3700mV      -> volts */
    ERT_UNIT_C_PER_W, /* 4.5C/W            -> thermal resistance, degrees per watt */
    ERT_UNIT_J_PER_C, /* 90J/C             -> heat capacity, joules per degree */
    ERT_N_UNITS
};

/* "C", "%", "s", "MB", "W", "MHz", "V": the base unit that values are kept in, "" for NONE. */
const char *ert_unit_name(enum ert_unit unit);

/* Parses a whole string such as "70C" into the unit's base. A number without a unit, an unknown
 * unit, NaN, or trailing characters are ERT_E_FORMAT with what was expected in the sentence. */
int ert_parse_quantity(const char *text, enum ert_unit unit, double *value, struct ert_error *err);

/* Parses a whole string as a finite decimal number / an integer in [min, max]. */
int ert_parse_double(const char *text, double *value, struct ert_error *err);
int ert_parse_int(const char *text, long min, long max, long *value, struct ert_error *err);

/* ---- small floats -------------------------------------------------------------------------- */

float ert_f16_to_f32(uint16_t h);
uint16_t ert_f32_to_f16(float f); /* round to nearest even; overflow gives infinity */
float ert_bf16_to_f32(uint16_t b);
uint16_t ert_f32_to_bf16(float f); /* round to nearest even */

/* ---- progress ------------------------------------------------------------------------------ */

/* How a long job tells how far it is; report may be NULL. Returning false asks the job to stop,
 * which then returns -ERT_E_CANCELLED and leaves nothing half-written. */
struct ert_progress {
    bool (*report)(void *ctx, const char *stage, double done, double total);
    void *ctx;
};
bool ert_progress_report(const struct ert_progress *p, const char *stage, double done,
                         double total);

#endif
