/* The stored types of GGUF tensors as floats. The block layouts are ggml's (ggml-common.h); the
 * order of float operations is gguf-py's, so that the results are equal to the last bit. */
#include "variants/source.h"

#include <string.h>

static uint16_t load16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static void dequantize_F32(const uint8_t *in, size_t n, float *out)
{
    memcpy(out, in, n * sizeof *out);
}

static void dequantize_F16(const uint8_t *in, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = ert_f16_to_f32(load16(in + 2 * i));
}

static void dequantize_BF16(const uint8_t *in, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = ert_bf16_to_f32(load16(in + 2 * i));
}

static void dequantize_Q4_0(const uint8_t *in, size_t n, float *out)
{
    for (size_t b = 0; b < n; b++, in += 18, out += 32) {
        float d = ert_f16_to_f32(load16(in));
        for (int i = 0; i < 16; i++) {
            out[i] = d * (float)((in[2 + i] & 15) - 8);
            out[16 + i] = d * (float)((in[2 + i] >> 4) - 8);
        }
    }
}

static void dequantize_Q4_1(const uint8_t *in, size_t n, float *out)
{
    for (size_t b = 0; b < n; b++, in += 20, out += 32) {
        float d = ert_f16_to_f32(load16(in)), m = ert_f16_to_f32(load16(in + 2));
        for (int i = 0; i < 16; i++) {
            out[i] = d * (float)(in[4 + i] & 15) + m;
            out[16 + i] = d * (float)(in[4 + i] >> 4) + m;
        }
    }
}

static void dequantize_Q8_0(const uint8_t *in, size_t n, float *out)
{
    for (size_t b = 0; b < n; b++, in += 34, out += 32) {
        float d = ert_f16_to_f32(load16(in));
        for (int i = 0; i < 32; i++)
            out[i] = d * (float)(int8_t)in[2 + i];
    }
}

static const struct var_type types[] = {
#define T(id, name, block, bytes, grid) {#name, id, block, bytes, grid, dequantize_##name},
#include "variants/tensor_types.def"
#undef T
};

enum { N_TYPES = sizeof types / sizeof types[0] };

/* By GGUF's number; the gaps are types that GGUF once had. */
static const char *const gguf_names[] = {
    [0] = "F32",     [1] = "F16",      [2] = "Q4_0",   [3] = "Q4_1",    [6] = "Q5_0",
    [7] = "Q5_1",    [8] = "Q8_0",     [9] = "Q8_1",   [10] = "Q2_K",   [11] = "Q3_K",
    [12] = "Q4_K",   [13] = "Q5_K",    [14] = "Q6_K",  [15] = "Q8_K",   [16] = "IQ2_XXS",
    [17] = "IQ2_XS", [18] = "IQ3_XXS", [19] = "IQ1_S", [20] = "IQ4_NL", [21] = "IQ3_S",
    [22] = "IQ2_S",  [23] = "IQ4_XS",  [24] = "I8",    [25] = "I16",    [26] = "I32",
    [27] = "I64",    [28] = "F64",     [29] = "IQ1_M", [30] = "BF16",   [34] = "TQ1_0",
    [35] = "TQ2_0",  [39] = "MXFP4",
};

const struct var_type *var_type_of(uint32_t id)
{
    for (int i = 0; i < N_TYPES; i++)
        if (types[i].id == id)
            return &types[i];
    return NULL;
}

const char *var_type_name(uint32_t id)
{
    return id < sizeof gguf_names / sizeof gguf_names[0] ? gguf_names[id] : NULL;
}

void var_type_list(char *text, size_t room)
{
    size_t used = 0;
    for (int i = 0; i < N_TYPES && used < room; i++) {
        int n = snprintf(text + used, room - used, "%s%s", i ? ", " : "", types[i].name);
        used += n > 0 ? (size_t)n : 0;
    }
}

void var_tensor_row(const struct var_tensor *t, uint32_t row, float *out)
{
    size_t n_blocks = t->cols / t->type->block;
    t->type->dequantize(t->data + row * n_blocks * t->type->bytes, n_blocks, out);
}
