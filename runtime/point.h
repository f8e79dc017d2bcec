/* point: an operating point of the runtime, and the switch that carries it to a session. */
#ifndef RT_POINT_H
#define RT_POINT_H

#include "base/base.h"

struct rt_pack;

enum rt_variant {
#define V(id, name, weight_bits, act_bits) RT_##id,
#include "runtime/variants.def"
#undef V
    RT_N_VARIANTS
};

struct rt_variant_info {
    const char *name;
    unsigned weight_bits, act_bits; /* 0 = f32 */
};
extern const struct rt_variant_info rt_variants[RT_N_VARIANTS];

struct rt_point {
    char name[48]; /* "w4a16-r80", unique in its table; what journals and tables show */
    enum rt_variant variant, prefill_variant;
    uint32_t tier;           /* index into the pack's tiers */
    uint32_t threads;        /* 0 = all of the session's team */
    uint32_t prefill_chunk;  /* most tokens of a prompt at a time; 0 = the session's chunk */
    float tokens_per_second; /* pace, 0 = as fast as it goes */
    bool pause;              /* hold generation */
};

/* Parses "w8a8", "w4a16-r80", "w4a8", "f32" or "pause" against a pack (NULL: syntax only). The
 * error lists the points that the pack has. */
int rt_point_parse(const char *text, const struct rt_pack *pack, struct rt_point *point,
                   struct ert_error *err);
/* Point i of those that are worth a measurement of their own, best variant first; false past the
 * last. They are all but the tiers of a variant that reads the same weights as a better one (w4a8
 * after w4a16): what coarser activations cost hardly depends on the tier, and time does. At most
 * RT_N_VARIANTS for each tier. */
bool rt_point_to_measure(const struct rt_pack *pack, uint32_t i, struct rt_point *point);
bool rt_point_needs_l(const struct rt_point *point);

/* Immutable table of points, reference-counted. */
struct rt_point_table;
int rt_point_table_create(struct rt_point_table **table, const struct rt_point *points, uint32_t n,
                          struct ert_error *err);
struct rt_point_table *rt_point_table_ref(struct rt_point_table *table);
void rt_point_table_unref(struct rt_point_table *table);
uint32_t rt_point_table_size(const struct rt_point_table *table);
const struct rt_point *rt_point_at(const struct rt_point_table *table, uint32_t index);

/* ---- the switch ---------------------------------------------------------------------------- */

/* One 64-bit word, an epoch (upper 48 bits) and an index into the table: published by the governor
 * side, taken by the engine at token boundaries. Publishing and taking are wait-free, allocate
 * nothing and may run in different threads: one publisher, one taker. A new switch is idle. */
struct rt_switch;

int rt_switch_create(struct rt_switch **sw, struct rt_point_table *table, uint32_t first,
                     struct ert_error *err);
void rt_switch_free(struct rt_switch *sw);
const struct rt_point_table *rt_switch_table(const struct rt_switch *sw);

/* Publisher side. Returns the new epoch. */
uint64_t rt_switch_publish(struct rt_switch *sw, uint32_t index);
/* The decision thread is alive until deadline_ns; past it a taker falls back to failsafe, which had
 * better need no L region: a failsafe take carries epoch 0 and acknowledges nothing. 0 = no
 * watchdog. */
void rt_switch_beat(struct rt_switch *sw, uint64_t deadline_ns, uint32_t failsafe);
/* True once the engine took this epoch (or a later one), or is idle or paused. Wait: polls until
 * then or the deadline; -ERT_E_CANCELLED on timeout. */
bool rt_switch_acknowledged(const struct rt_switch *sw, uint64_t epoch);
int rt_switch_wait(const struct rt_switch *sw, uint64_t epoch, uint64_t deadline_ns);

/* Engine side: what to run from the next token on. */
struct rt_switch_take {
    uint64_t epoch;
    uint32_t index;
    bool failsafe; /* the watchdog ran out and chose this */
};
struct rt_switch_take rt_switch_take(struct rt_switch *sw, uint64_t now_ns);
/* Says that the engine applied it (acknowledges the epoch). */
void rt_switch_ack(struct rt_switch *sw, uint64_t epoch);
/* While idle (between answers, paused) every epoch counts as acknowledged. Leaving idle must be
 * followed by take before any weight is read. */
void rt_switch_idle(struct rt_switch *sw, bool idle);

#endif
