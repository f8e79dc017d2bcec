/* rope: what a model divides the frequencies of RoPE by, to reach beyond the context it was first
 * trained at. Each call multiplies src->rope_factors, which begin as 1; src->model is known. */
#ifndef VAR_ROPE_H
#define VAR_ROPE_H

#include "variants/source.h"

/* All by the same factor (position interpolation, arXiv 2306.15595). */
int var_rope_linear(struct var_source *src, double factor, struct ert_error *err);

/* Llama 3.1's: wavelengths above context / low by factor, those below context / high not, in
 * between a blend (transformers, modeling_rope_utils, "llama3"). context: what it was first trained
 * at. */
struct var_rope_llama3 {
    double factor, low, high, context;
};
int var_rope_llama3(struct var_source *src, const struct var_rope_llama3 *scaling,
                    struct ert_error *err);

/* By a table of the file, [1][head_dim / 2]. */
int var_rope_table(struct var_source *src, const struct var_tensor *table, struct ert_error *err);

#endif
