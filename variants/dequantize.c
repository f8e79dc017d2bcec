/* Floats, and the types with blocks of 32. */
#include "variants/dequantize.h"

#include <string.h>

enum { BLOCK = 32, HALF = BLOCK / 2 };

const int8_t var_iq4_levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                   1,    13,   25,  38,  53,  69,  89,  113};

void var_dequantize_F32(const uint8_t *in, size_t n, float *out)
{
    memcpy(out, in, n * sizeof *out);
}

void var_dequantize_F16(const uint8_t *in, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = var_load_f16(in + 2 * i);
}

void var_dequantize_BF16(const uint8_t *in, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = ert_bf16_to_f32(var_load16(in + 2 * i));
}

/* Codes of a block: the low nibbles are its first half. */
static int nibble(const uint8_t *codes, int i)
{
    return i < HALF ? codes[i] & 15 : codes[i - HALF] >> 4;
}

/* The fifth bits of Q5_*: bit i of a little-endian word. */
static int five_bits(const uint8_t *high, const uint8_t *codes, int i)
{
    return nibble(codes, i) | (high[i / 8] >> i % 8 & 1) << 4;
}

void var_dequantize_Q4_0(const uint8_t *in, size_t n, float *out)
{
    for (size_t b = 0; b < n; b++, in += 18, out += BLOCK) {
        float d = var_load_f16(in);
        for (int i = 0; i < BLOCK; i++)
            out[i] = d * (float)(nibble(in + 2, i) - 8);
    }
}

void var_dequantize_Q4_1(const uint8_t *in, size_t n, float *out)
{
    for (size_t b = 0; b < n; b++, in += 20, out += BLOCK) {
        float d = var_load_f16(in), m = var_load_f16(in + 2);
        for (int i = 0; i < BLOCK; i++)
            out[i] = d * (float)nibble(in + 4, i) + m;
    }
}

void var_dequantize_Q5_0(const uint8_t *in, size_t n, float *out)
{
    for (size_t b = 0; b < n; b++, in += 22, out += BLOCK) {
        float d = var_load_f16(in);
        for (int i = 0; i < BLOCK; i++)
            out[i] = d * (float)(five_bits(in + 2, in + 6, i) - 16);
    }
}

void var_dequantize_Q5_1(const uint8_t *in, size_t n, float *out)
{
    for (size_t b = 0; b < n; b++, in += 24, out += BLOCK) {
        float d = var_load_f16(in), m = var_load_f16(in + 2);
        for (int i = 0; i < BLOCK; i++)
            out[i] = d * (float)five_bits(in + 4, in + 8, i) + m;
    }
}

void var_dequantize_Q8_0(const uint8_t *in, size_t n, float *out)
{
    for (size_t b = 0; b < n; b++, in += 34, out += BLOCK) {
        float d = var_load_f16(in);
        for (int i = 0; i < BLOCK; i++)
            out[i] = d * (float)(int8_t)in[2 + i];
    }
}

void var_dequantize_IQ4_NL(const uint8_t *in, size_t n, float *out)
{
    for (size_t b = 0; b < n; b++, in += 18, out += BLOCK) {
        float d = var_load_f16(in);
        for (int i = 0; i < BLOCK; i++)
            out[i] = d * (float)var_iq4_levels[nibble(in + 2, i)];
    }
}
