/* attention: the cache of keys and values, and what queries make of it. Inner part of forward.
 *
 * Positions are taken in by blocks of RT_CACHE_BLOCK, which lie at absolute positions. A query
 * makes of each block a largest score, a sum and a mixed value; these are merged in the order of
 * blocks (online softmax, Milakov and Gimelshein, arXiv 1805.02867; the split over positions as in
 * Flash-Decoding, Dao et al. 2023). So a result depends on who did what as little as on which
 * queries met a block together. All queries that share a KV head share one read of its keys and
 * values. */
#ifndef RT_ATTENTION_H
#define RT_ATTENTION_H

#include "runtime/forward.h"

/* Caches rows [first, first + n) of K (V) of one column, all multiples of 32; keys (values) is
 * [G P], by head, of which these rows are read. */
void rt_cache_keys(const struct rt_forward *f, uint32_t layer, uint32_t col, const float *keys,
                   uint32_t first, uint32_t n);
void rt_cache_values(const struct rt_forward *f, uint32_t layer, uint32_t col, const float *values,
                     uint32_t first, uint32_t n);

/* f->mixed = softmax(q K^T / sqrt(head_dim)) V of one layer over the positions up to each column's
 * own, from f->q and the cache, quantized: so many equal units, and units first .. end - 1 of them.
 * n_cols: the step's first so many columns.
 * turn: angles of the step's columns (struct rt_stream). */
uint32_t rt_attention_units(const struct rt_forward *f, uint32_t n_cols);
void rt_attend(struct rt_forward *f, uint32_t layer, uint32_t n_cols, uint32_t first, uint32_t end,
               unsigned worker, const float *turn);

#endif
