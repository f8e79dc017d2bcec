/* GGUF's tensor types: those that are read here, and the names of all others. */
#include "variants/dequantize.h"
#include "variants/source.h"

static const struct var_type types[] = {
#define T(id, name, block, bytes, bits, grid)                                                      \
    {#name, id, block, bytes, bits, grid, var_dequantize_##name},
#include "variants/tensor_types.def"
#undef T
};

enum { N_TYPES = sizeof types / sizeof types[0] };

/* By GGUF's number, those included that it once had and that old files still hold. */
static const char *const gguf_names[VAR_TYPE_NUMBERS] = {
    [0] = "F32",     [1] = "F16",         [2] = "Q4_0",        [3] = "Q4_1",        [4] = "Q4_2",
    [5] = "Q4_3",    [6] = "Q5_0",        [7] = "Q5_1",        [8] = "Q8_0",        [9] = "Q8_1",
    [10] = "Q2_K",   [11] = "Q3_K",       [12] = "Q4_K",       [13] = "Q5_K",       [14] = "Q6_K",
    [15] = "Q8_K",   [16] = "IQ2_XXS",    [17] = "IQ2_XS",     [18] = "IQ3_XXS",    [19] = "IQ1_S",
    [20] = "IQ4_NL", [21] = "IQ3_S",      [22] = "IQ2_S",      [23] = "IQ4_XS",     [24] = "I8",
    [25] = "I16",    [26] = "I32",        [27] = "I64",        [28] = "F64",        [29] = "IQ1_M",
    [30] = "BF16",   [31] = "Q4_0_4_4",   [32] = "Q4_0_4_8",   [33] = "Q4_0_8_8",   [34] = "TQ1_0",
    [35] = "TQ2_0",  [36] = "IQ4_NL_4_4", [37] = "IQ4_NL_4_8", [38] = "IQ4_NL_8_8", [39] = "MXFP4",
    [40] = "NVFP4",  [41] = "Q1_0",
};

#define T(id, name, block, bytes, bits, grid)                                                      \
    _Static_assert((id) < VAR_TYPE_NUMBERS, "a number beyond the names");
#include "variants/tensor_types.def"
#undef T

const struct var_type *var_type_of(uint32_t id)
{
    for (int i = 0; i < N_TYPES; i++)
        if (types[i].id == id)
            return &types[i];
    return NULL;
}

const char *var_type_name(uint32_t id)
{
    return id < VAR_TYPE_NUMBERS ? gguf_names[id] : NULL;
}

void var_type_list(char *text, size_t room)
{
    size_t used = 0;
    for (int i = 0; i < N_TYPES && used < room; i++) {
        int n = snprintf(text + used, room - used, "%s%s", i ? ", " : "", types[i].name);
        used += n > 0 ? (size_t)n : 0;
    }
}

/* Where the file holds what is row i among pairs. */
static uint32_t place_in_halves(uint32_t i, uint32_t width)
{
    uint32_t dim = i % width;
    return i - dim + dim % 2 * (width / 2) + dim / 2;
}

void var_tensor_row(const struct var_tensor *t, uint32_t row, float *out)
{
    if (t->halves && t->rows == 1) {
        for (uint32_t i = 0; i < t->cols; i++) {
            size_t at = place_in_halves(i, t->halves);
            t->type->dequantize(t->data + at * t->type->bytes, 1, out + i);
        }
        return;
    }
    size_t n_blocks = t->cols / t->type->block;
    size_t at = t->halves ? place_in_halves(row, t->halves) : row;
    t->type->dequantize(t->data + at * n_blocks * t->type->bytes, n_blocks, out);
}
