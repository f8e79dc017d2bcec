/* pack_read: the inner parts of rt_pack_open. Each fills its share of a pack whose memory is zero,
 * and leaves what it allocated in the pack for rt_pack_free, on failure too. */
#ifndef RT_PACK_READ_H
#define RT_PACK_READ_H

#include "runtime/pack.h"
#include "runtime/pack_format.h"

/* What a person can do about a damaged pack; ends the sentence of such an error. */
#define PACK_REMEDY "the pack is damaged: build it again with `edgert build`"

/* META: kind, model, tiers with their dims, chat template. */
int rt_pack_read_meta(struct rt_pack *pack, const uint8_t *json, size_t size,
                      struct ert_error *err);

/* META's catalog, if there is one; needs META read. */
int rt_pack_read_catalog(struct rt_pack *pack, struct ert_error *err);

/* TENSORS: every matrix, vector and table; needs META read and the plane regions in the pack. */
int rt_pack_read_tensors(struct rt_pack *pack, const uint8_t *records, size_t size,
                         struct ert_error *err);

#endif
