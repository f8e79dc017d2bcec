/* hf_tokenizer: the parts of reading tokenizer.json. */
#ifndef VAR_HF_TOKENIZER_H
#define VAR_HF_TOKENIZER_H

#include "variants/hf_model.h"

#define HF_TOKENIZER "tokenizer.json"

/* "what; these are supported". */
int hf_fail_tokenizer(const struct hf_reader *r, const char *what);

/* hf_splitting.c: normalizer and pre-tokenizer, as one of runtime/pretokenizers.def or the rules of
 * SentencePiece; src->vocab.model is known. */
int hf_read_splitting(const struct hf_reader *r, const json_t *tokenizer);

/* hf_special.c: special tokens and the chat template. */
int hf_read_special(const struct hf_reader *r, const json_t *tokenizer);

#endif
