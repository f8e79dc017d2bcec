#include <stdlib.h>
#include <string.h>

#include "runtime/tokenizer_parts.h"

/* GPT-2's printable alphabet: bytes that print as Latin-1 stand for themselves, the others, in
 * order, are U+0100 and up (Radford et al. 2019, bytes_to_unicode). */
static bool prints_as_itself(unsigned byte)
{
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

enum { N_SHIFTED = 68, ALPHABET_END = 256 + N_SHIFTED };

static void alphabet_init(int16_t byte_of[ALPHABET_END])
{
    unsigned shifted = 256;
    for (unsigned byte = 0; byte < 256; byte++) {
        byte_of[byte] = -1;
        if (prints_as_itself(byte))
            byte_of[byte] = (int16_t)byte;
        else
            byte_of[shifted++] = (int16_t)byte;
    }
}

/* Writes the bytes that text stands for; a text with a character outside the alphabet stands for
 * itself. Never longer than text. */
static size_t decode_byte_level(const int16_t byte_of[ALPHABET_END], const char *text, size_t n,
                                char *out)
{
    size_t written = 0;
    for (size_t i = 0; i < n;) {
        size_t length = ert_utf8_length(text + i, n - i);
        uint32_t c = length ? ert_utf8_decode(text + i, length) : ALPHABET_END;
        if (c >= ALPHABET_END || byte_of[c] < 0) {
            memcpy(out, text, n);
            return n;
        }
        out[written++] = (char)byte_of[c];
        i += length;
    }
    return written;
}

static size_t decode_metaspace(const char *text, size_t n, char *out)
{
    size_t written = 0;
    for (size_t i = 0; i < n;) {
        if (n - i >= 3 && memcmp(text + i, "\xe2\x96\x81", 3) == 0) {
            out[written++] = ' ';
            i += 3;
        } else {
            out[written++] = text[i++];
        }
    }
    return written;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The byte that a text such as <0x0A> names, -1 if it names none. */
static int named_byte(const char *text, size_t n)
{
    if (n != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>')
        return -1;
    int high = hex_digit(text[3]), low = hex_digit(text[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

static uint8_t inferred_type(const struct rt_vocab *v, uint32_t id)
{
    const char *text = v->text + v->offset[id];
    if (strcmp(v->model, "llama") == 0 && named_byte(text, v->offset[id + 1] - v->offset[id]) >= 0)
        return RT_TOKEN_BYTE;
    if ((int32_t)id == v->unk)
        return RT_TOKEN_UNKNOWN;
    bool control = (int32_t)id == v->bos;
    for (uint32_t i = 0; i < v->n_eos; i++)
        control = control || (int32_t)id == v->eos[i];
    return control ? RT_TOKEN_CONTROL : RT_TOKEN_NORMAL;
}

/* Fills type, offset and bytes, and the byte tokens of "llama" models. */
static void decode_tokens(struct rt_pieces *p, const struct rt_vocab *v)
{
    bool byte_level = strcmp(v->model, "gpt2") == 0;
    int16_t byte_of[ALPHABET_END];
    alphabet_init(byte_of);
    uint32_t end = 0;
    for (uint32_t id = 0; id < v->n_tokens; id++) {
        const char *text = v->text + v->offset[id];
        size_t n = v->offset[id + 1] - v->offset[id];
        p->type[id] = v->type ? v->type[id] : inferred_type(v, id);
        p->offset[id] = end;
        int byte = p->type[id] == RT_TOKEN_BYTE ? named_byte(text, n) : -1;
        if (byte >= 0) {
            p->byte[byte] = (int32_t)id;
            p->bytes[end++] = (char)byte;
        } else if (!byte_level) {
            end += (uint32_t)decode_metaspace(text, n, p->bytes + end);
        } else if (p->type[id] == RT_TOKEN_NORMAL) {
            end += (uint32_t)decode_byte_level(byte_of, text, n, p->bytes + end);
        } else { /* added to the vocabulary as plain text */
            memcpy(p->bytes + end, text, n);
            end += (uint32_t)n;
        }
    }
    p->offset[v->n_tokens] = end;
}

/* The slot that holds these bytes, or the free one where they belong. */
static uint32_t find_slot(const struct rt_pieces *p, const char *bytes, size_t n)
{
    uint32_t at = (uint32_t)ert_hash64(bytes, n) & p->mask;
    for (; p->slot[at]; at = (at + 1) & p->mask) {
        uint32_t id = p->slot[at] - 1, from = p->offset[id];
        if (p->offset[id + 1] - from == n && memcmp(p->bytes + from, bytes, n) == 0)
            break;
    }
    return at;
}

int32_t rt_pieces_find(const struct rt_pieces *p, const char *bytes, size_t n)
{
    return n > p->longest ? -1 : (int32_t)p->slot[find_slot(p, bytes, n)] - 1;
}

static void index_tokens(struct rt_pieces *p)
{
    for (uint32_t id = 0; id < p->n_tokens; id++) {
        uint32_t n = p->offset[id + 1] - p->offset[id];
        /* Control tokens stay out: no text may merge into one. */
        if (p->type[id] != RT_TOKEN_NORMAL || n == 0)
            continue;
        uint32_t at = find_slot(p, p->bytes + p->offset[id], n);
        if (p->slot[at] == 0)
            p->slot[at] = id + 1;
        p->longest = n > p->longest ? n : p->longest;
    }
}

int rt_pieces_init(struct rt_pieces *p, const struct rt_vocab *v, struct ert_error *err)
{
    size_t n = v->n_tokens, n_slots = 16;
    while (n_slots < 2 * n)
        n_slots *= 2;
    if (n == 0 || n > INT32_MAX / 2)
        return ert_fail(err, ERT_E_FORMAT, "a vocabulary of %zu tokens", n);
    *p = (struct rt_pieces){.n_tokens = v->n_tokens, .mask = (uint32_t)(n_slots - 1)};
    memset(p->byte, -1, sizeof p->byte);
    p->type = calloc(n, 1);
    p->offset = calloc(n + 1, sizeof *p->offset);
    p->bytes = malloc((size_t)v->offset[n] + 1);
    p->slot = calloc(n_slots, sizeof *p->slot);
    if (!p->type || !p->offset || !p->bytes || !p->slot) {
        rt_pieces_release(p);
        return ert_fail(err, ERT_E_NOMEM, "no memory for a vocabulary of %zu tokens", n);
    }
    decode_tokens(p, v);
    index_tokens(p);
    if (strcmp(v->model, "gpt2") == 0)
        for (unsigned byte = 0; byte < 256; byte++)
            p->byte[byte] = rt_pieces_find(p, &(char){(char)byte}, 1);
    return 0;
}

void rt_pieces_release(struct rt_pieces *p)
{
    free(p->type);
    free(p->offset);
    free(p->bytes);
    free(p->slot);
    *p = (struct rt_pieces){0};
}
