/* vocab: a vocabulary under construction, whatever the format it is read from. */
#ifndef VAR_VOCAB_H
#define VAR_VOCAB_H

#include "variants/source.h"

/* Room for a vocabulary of n tokens and text_bytes in all (scores, types); sets the pointers. */
int var_vocab_reserve(struct var_source *src, uint32_t n, size_t text_bytes, struct ert_error *err);
/* Room for n merges. */
int var_vocab_reserve_merges(struct var_source *src, uint32_t n, struct ert_error *err);

/* Token ids sorted by text. */
struct var_token_index {
    const struct rt_vocab *vocab;
    uint32_t *ids; /* [n_tokens], freed by the caller; NULL where there is no memory */
};
struct var_token_index var_token_index(const struct rt_vocab *v);
/* The id of a text, or -1. */
int64_t var_token_find(const struct var_token_index *index, const char *text, size_t n);

/* An id that ends an answer; -1, one that is there already or one too many are left out. */
void var_vocab_add_eos(struct rt_vocab *v, int64_t id);
/* Chat models end an answer with a control token that often is not the file's eos_token_id. */
void var_vocab_add_known_ends(struct rt_vocab *v);

#endif
