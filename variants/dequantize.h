/* dequantize: the stored types of GGUF tensors as floats. The block layouts are ggml's
 * (ggml-common.h); the order of float operations is gguf-py's, so that the results are equal to the
 * last bit, whatever the scales are: scales are multiplied first, then the code, then the offset is
 * taken off. */
#ifndef VAR_DEQUANTIZE_H
#define VAR_DEQUANTIZE_H

#include "base/base.h"

/* A little-endian half of the file, at any address. */
static inline uint16_t var_load16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline float var_load_f16(const uint8_t *p)
{
    return ert_f16_to_f32(var_load16(p));
}

/* The 16 levels of IQ4_NL and IQ4_XS (ggml's kvalues_iq4nl). */
extern const int8_t var_iq4_levels[16];

/* One per row of tensor_types.def: n_blocks blocks at `in`, at any address, to n_blocks * block
 * floats. No bytes are invalid. */
#define T(id, name, block, bytes, bits, grid)                                                      \
    void var_dequantize_##name(const uint8_t *in, size_t n_blocks, float *out);
#include "variants/tensor_types.def"
#undef T

#endif
