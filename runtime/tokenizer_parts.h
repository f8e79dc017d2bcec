/* The parts of the tokenizer: pieces (what tokens stand for), splitter (text to pre-tokens), merger
 * (pre-token to ids). Inner header: the door is runtime/tokenizer.h. */
#ifndef RT_TOKENIZER_PARTS_H
#define RT_TOKENIZER_PARTS_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "runtime/tokenizer.h"

/* ---- pieces -------------------------------------------------------------------------------- */

/* The bytes each token stands for, and normal tokens by their bytes. In "llama" models U+2581 is a
 * space here, so that llama2.c's vocabularies, which hold spaces, are the same thing. */
struct rt_pieces {
    uint32_t n_tokens;
    uint8_t *type;    /* [n_tokens] enum rt_token_type */
    uint32_t *offset; /* [n_tokens + 1] into bytes */
    char *bytes;
    uint32_t *slot; /* [mask + 1] open addressing: id + 1 of a normal token, 0 = free */
    uint32_t mask;
    uint32_t longest;  /* bytes of the longest normal token */
    int32_t byte[256]; /* the token of a single byte, -1 = none */
};

/* On failure the pieces are released. */
int rt_pieces_init(struct rt_pieces *p, const struct rt_vocab *v, struct ert_error *err);
void rt_pieces_release(struct rt_pieces *p);
/* The normal token of exactly these bytes, -1 if none. */
int32_t rt_pieces_find(const struct rt_pieces *p, const char *bytes, size_t n);

/* ---- splitter ------------------------------------------------------------------------------ */

enum { RT_MAX_PATTERNS = 2 };

/* A pre-tokenizer: each pattern splits what the one before it left into matches and gaps. */
struct rt_splitter {
    pcre2_code *pattern[RT_MAX_PATTERNS];
    unsigned n_patterns;
    bool whole_words; /* a pre-token that is a token is taken without merging */
};

int rt_splitter_init(struct rt_splitter *s, const char *name, struct ert_error *err);
void rt_splitter_release(struct rt_splitter *s);

typedef int rt_word_fn(void *ctx, const char *word, size_t n, struct ert_error *err);
/* Calls word for each pre-token of text (valid UTF-8), in order; stops at its first error. match is
 * the caller's, with room for one pair. */
int rt_split(const struct rt_splitter *s, pcre2_match_data *match, const char *text, size_t n,
             rt_word_fn *word, void *ctx, struct ert_error *err);

/* ---- normalizer ---------------------------------------------------------------------------- */

/* Valid UTF-8 to Unicode's normalization form C; *out is the caller's to free. */
int rt_normalize_nfc(const char *text, size_t n, char **out, size_t *n_out, struct ert_error *err);

/* ---- merger -------------------------------------------------------------------------------- */

/* Merges of byte-level BPE by their pair of ids. */
struct rt_ranks {
    const uint32_t (*pair)[2]; /* [n] by rank, the vocabulary's */
    int32_t *merged;           /* [n] the resulting token */
    uint32_t *slot;            /* [mask + 1] open addressing: rank + 1, 0 = free */
    uint32_t mask;
};

int rt_ranks_init(struct rt_ranks *r, const struct rt_vocab *v, const struct rt_pieces *p,
                  struct ert_error *err);
void rt_ranks_release(struct rt_ranks *r);

/* A stretch of text that is one token, or none yet (id -1); a list in text order. */
struct rt_symbol {
    uint32_t start, length; /* bytes of the text */
    uint32_t prev, next;    /* indices, UINT32_MAX at the ends */
    int32_t id;
};

/* A possible merge of a symbol with the next: the lowest order (rank, then position) goes first. */
struct rt_candidate {
    uint64_t order;
    uint32_t length; /* of both symbols together: tells whether they still are what they were */
    int32_t id;
};

/* Scratch memory, reused from word to word. init to zero. */
struct rt_merger {
    struct rt_symbol *symbol;  /* [capacity] */
    struct rt_candidate *heap; /* [2 * capacity] */
    uint32_t n_symbols, n_heap, capacity;
};

struct rt_tokenizer {
    struct rt_vocab vocab;
    struct rt_pieces pieces;
    struct rt_ranks ranks;       /* by_rank only */
    struct rt_splitter splitter; /* "gpt2" only */
    bool byte_level;             /* the model is "gpt2" */
    bool by_rank;                /* merges go by rank, not by score */
    int32_t *special; /* control, unknown and user-defined ids: by first byte, long first */
    uint32_t special_from[257]; /* where those that start with a byte begin */
};

/* Room for a text of n bytes. */
int rt_merger_reserve(struct rt_merger *m, size_t n, struct ert_error *err);
void rt_merger_release(struct rt_merger *m);
/* Cuts text into symbols (bytes or characters, by the model) and merges them in order of rank until
 * none is left: O(n log n). Walk the result from symbol[0] by next if n_symbols > 0. */
void rt_merge(struct rt_merger *m, const struct rt_tokenizer *t, const char *text, size_t n);

/* ---- encoding with guarded spans ----------------------------------------------------------- */

/* As rt_encode, but text inside the spans (rising, not overlapping) never is part of a control or
 * unknown token. */
int rt_encode_guarded(const struct rt_tokenizer *t, const char *text, size_t n, unsigned flags,
                      const struct rt_span *spans, size_t n_spans, int32_t **ids, size_t *n_ids,
                      struct ert_error *err);

#endif
