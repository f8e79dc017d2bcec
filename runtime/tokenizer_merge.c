/* BPE merges in order of rank with a heap of candidates over a linked list of symbols; a candidate
 * whose symbols have changed since is dropped when it comes up. */
#include <stdlib.h>
#include <string.h>

#include "runtime/tokenizer_parts.h"

#define NO_SYMBOL UINT32_MAX

/* ---- ranks --------------------------------------------------------------------------------- */

/* The slot that holds the merge of this pair, or the free one where it belongs. The constant is
 * 2^64 / phi (Knuth, TAOCP 3, 6.4). */
static uint32_t rank_slot(const struct rt_ranks *r, uint32_t left, uint32_t right)
{
    uint64_t key = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u;
    uint32_t at = (uint32_t)(key >> 32) & r->mask;
    for (; r->slot[at]; at = (at + 1) & r->mask) {
        const uint32_t *pair = r->pair[r->slot[at] - 1];
        if (pair[0] == left && pair[1] == right)
            break;
    }
    return at;
}

/* The token that a merge makes: the one whose bytes are those of both parts, which `joined` has
 * room for up to the longest token. */
static int32_t merged_token(const struct rt_pieces *p, uint32_t left, uint32_t right, char *joined)
{
    uint32_t n_left = p->offset[left + 1] - p->offset[left];
    uint32_t n_right = p->offset[right + 1] - p->offset[right];
    if ((size_t)n_left + n_right > p->longest)
        return -1;
    memcpy(joined, p->bytes + p->offset[left], n_left);
    memcpy(joined + n_left, p->bytes + p->offset[right], n_right);
    return rt_pieces_find(p, joined, (size_t)n_left + n_right);
}

static int index_merges(struct rt_ranks *r, const struct rt_vocab *v, const struct rt_pieces *p,
                        char *joined, struct ert_error *err)
{
    for (uint32_t rank = 0; rank < v->n_merges; rank++) {
        uint32_t left = v->merge[rank][0], right = v->merge[rank][1];
        if (left >= v->n_tokens || right >= v->n_tokens)
            return ert_fail(err, ERT_E_FORMAT,
                            "merge %u joins tokens %u and %u of a vocabulary of %u", rank, left,
                            right, v->n_tokens);
        r->merged[rank] = merged_token(p, left, right, joined);
        uint32_t at = rank_slot(r, left, right);
        if (r->merged[rank] >= 0 && r->slot[at] == 0)
            r->slot[at] = rank + 1;
    }
    return 0;
}

int rt_ranks_init(struct rt_ranks *r, const struct rt_vocab *v, const struct rt_pieces *p,
                  struct ert_error *err)
{
    size_t n_slots = 16;
    if (v->n_merges > INT32_MAX / 2)
        return ert_fail(err, ERT_E_FORMAT, "a vocabulary of %u merges", v->n_merges);
    while (n_slots < 2 * (size_t)v->n_merges)
        n_slots *= 2;
    *r = (struct rt_ranks){.pair = v->merge, .mask = (uint32_t)(n_slots - 1)};
    r->merged = malloc((size_t)v->n_merges * sizeof *r->merged + 1);
    r->slot = calloc(n_slots, sizeof *r->slot);
    char *joined = malloc((size_t)p->longest + 1);
    int rc = r->merged && r->slot && joined
                 ? index_merges(r, v, p, joined, err)
                 : ert_fail(err, ERT_E_NOMEM, "no memory for %u merges", v->n_merges);
    free(joined);
    if (rc)
        rt_ranks_release(r);
    return rc;
}

void rt_ranks_release(struct rt_ranks *r)
{
    free(r->merged);
    free(r->slot);
    *r = (struct rt_ranks){0};
}

/* ---- candidates ---------------------------------------------------------------------------- */

static void heap_push(struct rt_merger *m, struct rt_candidate c)
{
    uint32_t i = m->n_heap++;
    for (; i > 0 && c.order < m->heap[(i - 1) / 2].order; i = (i - 1) / 2)
        m->heap[i] = m->heap[(i - 1) / 2];
    m->heap[i] = c;
}

static struct rt_candidate heap_pop(struct rt_merger *m)
{
    struct rt_candidate *heap = m->heap, top = heap[0], last = heap[--m->n_heap];
    uint32_t i = 0;
    for (uint32_t child; (child = 2 * i + 1) < m->n_heap; i = child) {
        if (child + 1 < m->n_heap && heap[child + 1].order < heap[child].order)
            child++;
        if (last.order <= heap[child].order)
            break;
        heap[i] = heap[child];
    }
    heap[i] = last;
    return top;
}

/* A rank that falls as the score rises: the bits of IEEE floats, made monotone. */
static uint32_t rank_of_score(float score)
{
    uint32_t bits;
    score += 0.0f; /* -0 is 0 */
    memcpy(&bits, &score, sizeof bits);
    return bits & 0x80000000u ? bits : ~(bits | 0x80000000u);
}

/* Whether two neighbours may merge, into what, and at which rank. */
static bool find_merge(const struct rt_tokenizer *t, const char *text, const struct rt_symbol *left,
                       const struct rt_symbol *right, uint32_t *rank, int32_t *id)
{
    if (t->by_rank) {
        uint32_t slot =
            t->ranks.slot[rank_slot(&t->ranks, (uint32_t)left->id, (uint32_t)right->id)];
        if (slot == 0)
            return false;
        *rank = slot - 1;
        *id = t->ranks.merged[*rank];
        return true;
    }
    *id = rt_pieces_find(&t->pieces, text + left->start, (size_t)left->length + right->length);
    if (*id < 0)
        return false;
    *rank = rank_of_score(t->vocab.score ? t->vocab.score[*id] : 0.0f);
    return true;
}

static void consider(struct rt_merger *m, const struct rt_tokenizer *t, const char *text,
                     uint32_t left)
{
    uint32_t rank;
    int32_t id;
    if (left == NO_SYMBOL || m->symbol[left].next == NO_SYMBOL)
        return;
    const struct rt_symbol *a = &m->symbol[left], *b = &m->symbol[a->next];
    if (find_merge(t, text, a, b, &rank, &id))
        heap_push(m, (struct rt_candidate){(uint64_t)rank << 32 | left, a->length + b->length, id});
}

/* ---- merging ------------------------------------------------------------------------------- */

int rt_merger_reserve(struct rt_merger *m, size_t n, struct ert_error *err)
{
    if (n <= m->capacity)
        return 0;
    size_t capacity = n < 64 ? 64 : n;
    rt_merger_release(m);
    m->symbol = malloc(capacity * sizeof *m->symbol);
    /* Each symbol starts at most one candidate, each merge adds at most two and took one. */
    m->heap = malloc(2 * capacity * sizeof *m->heap);
    if (!m->symbol || !m->heap) {
        rt_merger_release(m);
        return ert_fail(err, ERT_E_NOMEM, "no memory to tokenize a stretch of %zu bytes", n);
    }
    m->capacity = (uint32_t)capacity;
    return 0;
}

void rt_merger_release(struct rt_merger *m)
{
    free(m->symbol);
    free(m->heap);
    *m = (struct rt_merger){0};
}

static void add_symbol(struct rt_merger *m, size_t start, size_t length, int32_t id)
{
    uint32_t i = m->n_symbols++;
    m->symbol[i] = (struct rt_symbol){(uint32_t)start, (uint32_t)length, i - 1, NO_SYMBOL, id};
    if (i > 0)
        m->symbol[i - 1].next = i;
}

static void cut_symbols(struct rt_merger *m, const struct rt_tokenizer *t, const char *text,
                        size_t n)
{
    m->n_symbols = 0;
    if (t->byte_level) {
        for (size_t i = 0; i < n; i++) {
            int32_t id = t->pieces.byte[(unsigned char)text[i]];
            if (id >= 0)
                add_symbol(m, i, 1, id);
        }
        return;
    }
    for (size_t i = 0; i < n;) {
        size_t length = ert_utf8_length(text + i, n - i);
        length = length ? length : 1;
        add_symbol(m, i, length, rt_pieces_find(&t->pieces, text + i, length));
        i += length;
    }
}

void rt_merge(struct rt_merger *m, const struct rt_tokenizer *t, const char *text, size_t n)
{
    cut_symbols(m, t, text, n);
    m->n_heap = 0;
    for (uint32_t i = 0; i < m->n_symbols; i++)
        consider(m, t, text, i);
    while (m->n_heap > 0) {
        struct rt_candidate best = heap_pop(m);
        uint32_t left = (uint32_t)best.order;
        struct rt_symbol *a = &m->symbol[left];
        /* Symbols only grow (a merged one has length 0), so an equal length is an equal pair. */
        if (a->length == 0 || a->next == NO_SYMBOL ||
            a->length + m->symbol[a->next].length != best.length)
            continue;
        struct rt_symbol *b = &m->symbol[a->next];
        a->length = best.length;
        a->id = best.id;
        a->next = b->next;
        b->length = 0;
        if (a->next != NO_SYMBOL)
            m->symbol[a->next].prev = left;
        consider(m, t, text, a->prev);
        consider(m, t, text, left);
    }
}
