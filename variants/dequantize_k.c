/* The types with super-blocks of 256: K-quants and IQ4_XS. Each has one or two halves for the whole
 * super-block and small integer scales for its 8 sub-blocks of 32 or 16 of 16.
 *
 * In the layouts below an array of codes is listed in the order of the weights: "2 x 4 x 32, 2
 * bits" are 64 bytes where weight (a, b, c) is found in bits 2b of byte 32a + c. */
#include "variants/dequantize.h"

enum { SUPER = 256, SUB = 32 };

/* Two-bit code of weight i: 2 x 4 x 32. */
static int two_bits(const uint8_t *codes, int i)
{
    return codes[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
}

/* Four-bit code of weight i: 4 x 2 x 32. */
static int four_bits(const uint8_t *codes, int i)
{
    return codes[i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15;
}

/* One bit of weight i: 8 x 32. */
static int one_bit(const uint8_t *codes, int i)
{
    return codes[i % 32] >> i / 32 & 1;
}

/* u4 scale and u4 min of 16 sub-blocks; codes; d, dmin. */
void var_dequantize_Q2_K(const uint8_t *in, size_t n, float *out)
{
    for (size_t b = 0; b < n; b++, in += 84, out += SUPER) {
        const uint8_t *scales = in, *codes = in + 16;
        float d = var_load_f16(in + 80), dmin = var_load_f16(in + 82);
        for (int i = 0; i < SUPER; i++) {
            float scale = d * (float)(scales[i / 16] & 15);
            float min = dmin * (float)(scales[i / 16] >> 4);
            out[i] = scale * (float)two_bits(codes, i) - min;
        }
    }
}

/* Scale j of Q3_K's 16: the low nibbles of 0 .. 7 and 8 .. 15 share the first 8 bytes, the upper
 * pairs of j, j + 4, j + 8 and j + 12 the last 4. */
static int q3_scale(const uint8_t *scales, int j)
{
    int low = scales[j % 8] >> (j / 8 * 4) & 15, high = scales[8 + j % 4] >> (j / 4 * 2) & 3;
    return (low | high << 4) - 32;
}

/* The codes' third bits, where a set bit means "nothing to subtract"; codes; 6-bit scales of 16
 * sub-blocks; d. */
void var_dequantize_Q3_K(const uint8_t *in, size_t n, float *out)
{
    for (size_t b = 0; b < n; b++, in += 110, out += SUPER) {
        const uint8_t *third = in, *codes = in + 32, *scales = in + 96;
        float d = var_load_f16(in + 108);
        for (int i = 0; i < SUPER; i++) {
            float scale = d * (float)q3_scale(scales, i / 16);
            out[i] = scale * (float)(two_bits(codes, i) - (one_bit(third, i) ? 0 : 4));
        }
    }
}

/* Scale and min of sub-block j of Q4_K and Q5_K, 6 bits each: the first four as they are in bytes
 * 0 .. 3 and 4 .. 7, the others as nibbles of bytes 8 .. 11 with their upper pairs in the top bits
 * of the first four. */
static void q4_scale_min(const uint8_t *packed, int j, int *scale, int *min)
{
    if (j < 4) {
        *scale = packed[j] & 63;
        *min = packed[4 + j] & 63;
    } else {
        *scale = (packed[4 + j] & 15) | (packed[j - 4] >> 6) << 4;
        *min = packed[4 + j] >> 4 | (packed[j] >> 6) << 4;
    }
}

/* What Q4_K and Q5_K share: d, dmin; scales; fifth bits or NULL; codes. */
static void dequantize_with_min(const uint8_t *in, const uint8_t *fifth, const uint8_t *codes,
                                float *out)
{
    float d = var_load_f16(in), dmin = var_load_f16(in + 2);
    for (int j = 0; j < SUPER / SUB; j++) {
        int s, m;
        q4_scale_min(in + 4, j, &s, &m);
        float scale = d * (float)s, min = dmin * (float)m;
        for (int i = SUB * j; i < SUB * (j + 1); i++) {
            int code = four_bits(codes, i) | (fifth ? one_bit(fifth, i) << 4 : 0);
            out[i] = scale * (float)code - min;
        }
    }
}

void var_dequantize_Q4_K(const uint8_t *in, size_t n, float *out)
{
    for (size_t b = 0; b < n; b++, in += 144, out += SUPER)
        dequantize_with_min(in, NULL, in + 16, out);
}

void var_dequantize_Q5_K(const uint8_t *in, size_t n, float *out)
{
    for (size_t b = 0; b < n; b++, in += 176, out += SUPER)
        dequantize_with_min(in, in + 16, in + 48, out);
}

/* Low nibbles, 2 x 2 x 64; upper pairs, 2 x 4 x 32; int8 scales of 16 sub-blocks; d. */
void var_dequantize_Q6_K(const uint8_t *in, size_t n, float *out)
{
    for (size_t b = 0; b < n; b++, in += 210, out += SUPER) {
        const uint8_t *low = in, *high = in + 128, *scales = in + 192;
        float d = var_load_f16(in + 208);
        for (int i = 0; i < SUPER; i++) {
            int code = low[i / 128 * 64 + i % 64] >> (i / 64 % 2 * 4) & 15;
            float scale = d * (float)(int8_t)scales[i / 16];
            out[i] = scale * (float)((code | two_bits(high, i) << 4) - 32);
        }
    }
}

/* d; the upper pairs of 8 scales in a word; their low nibbles; codes, 8 x 2 x 16. */
void var_dequantize_IQ4_XS(const uint8_t *in, size_t n, float *out)
{
    for (size_t b = 0; b < n; b++, in += 136, out += SUPER) {
        const uint8_t *low = in + 4, *codes = in + 8;
        float d = var_load_f16(in);
        unsigned high = var_load16(in + 2);
        for (int i = 0; i < SUPER; i++) {
            int j = i / SUB, code = codes[j * 16 + i % 16] >> (i / 16 % 2 * 4) & 15;
            int s = (low[j / 2] >> (j % 2 * 4) & 15) | (int)(high >> 2 * j & 3) << 4;
            float scale = d * (float)(s - 32);
            out[i] = scale * (float)var_iq4_levels[code];
        }
    }
}
