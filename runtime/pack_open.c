/* pack_open: the file around the sections: header, section table, checksums. */
#include "runtime/pack_read.h"
#include "runtime/point.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

static const char *const section_names[] = {
    [PACK_META] = "META",         [PACK_VOCAB] = "VOCAB",       [PACK_TENSORS] = "TENSORS",
    [PACK_PLANES_H] = "PLANES_H", [PACK_PLANES_L] = "PLANES_L",
};

enum { N_KINDS = PACK_PLANES_L + 1, VERIFY_STEP = 16 << 20 };

/* The sections of a file by kind; offset 0 where there is none (the header lies there). */
struct sections {
    struct pack_section by_kind[N_KINDS];
};

static struct pack_section section_record(const struct ert_map *map, uint32_t i)
{
    struct pack_section s;
    memcpy(&s, map->data + sizeof(struct pack_header) + i * sizeof s, sizeof s);
    return s;
}

/* XXH64 of the header and the section table with the checksum's own field taken as 0. */
static uint64_t header_checksum(const struct ert_map *map, uint32_t n_sections)
{
    uint8_t bytes[sizeof(struct pack_header) + PACK_MAX_SECTIONS * sizeof(struct pack_section)];
    size_t size = sizeof(struct pack_header) + n_sections * sizeof(struct pack_section);
    memcpy(bytes, map->data, size);
    memset(bytes + offsetof(struct pack_header, checksum), 0, sizeof(uint64_t));
    return ert_hash64(bytes, size);
}

static int check_header(const struct rt_pack *pack, struct pack_header *header,
                        struct ert_error *err)
{
    const struct ert_map *map = &pack->map;
    if (map->size < sizeof *header || memcmp(map->data, PACK_MAGIC, sizeof header->magic) != 0)
        return ert_fail(err, ERT_E_FORMAT,
                        "%s: not an edgert pack (no EDGERT magic at offset 0): give a file that "
                        "`edgert build` made",
                        pack->path);
    memcpy(header, map->data, sizeof *header);
    if (header->version != PACK_VERSION)
        return ert_fail(err, ERT_E_UNSUPPORTED,
                        "%s: pack version %u at offset 8, this program reads version %d: build it "
                        "again with this program's `edgert build`",
                        pack->path, header->version, PACK_VERSION);
    if (header->n_sections < 1 || header->n_sections > PACK_MAX_SECTIONS)
        return ert_fail(err, ERT_E_FORMAT, "%s: %u sections at offset 12, expected 1 to %d; %s",
                        pack->path, header->n_sections, PACK_MAX_SECTIONS, PACK_REMEDY);
    if (header->file_size != map->size)
        return ert_fail(err, ERT_E_FORMAT,
                        "%s: the header says %llu bytes, the file has %zu: it was cut short or "
                        "added to; copy it or build it again",
                        pack->path, (unsigned long long)header->file_size, map->size);
    size_t table_end = sizeof *header + header->n_sections * sizeof(struct pack_section);
    if (table_end > map->size)
        return ert_fail(err, ERT_E_FORMAT, "%s: the section table ends at %zu, the file at %zu; %s",
                        pack->path, table_end, map->size, PACK_REMEDY);
    if (header_checksum(map, header->n_sections) != header->checksum)
        return ert_fail(err, ERT_E_FORMAT,
                        "%s: the checksum of the header and section table at offset 24 does not "
                        "match; %s",
                        pack->path, PACK_REMEDY);
    return 0;
}

/* One record of the table; *end is the end of the section before and moves on. */
static int check_section(const struct rt_pack *pack, uint32_t i, uint64_t *end,
                         struct sections *sections, struct ert_error *err)
{
    struct pack_section s = section_record(&pack->map, i);
    if (s.kind < PACK_META || s.kind >= N_KINDS)
        return ert_fail(err, ERT_E_UNSUPPORTED,
                        "%s: section %u has the unknown kind %u, expected 1 to %d; %s", pack->path,
                        i, s.kind, N_KINDS - 1, PACK_REMEDY);
    const char *name = section_names[s.kind];
    if (sections->by_kind[s.kind].offset)
        return ert_fail(err, ERT_E_FORMAT, "%s: section %s appears twice; %s", pack->path, name,
                        PACK_REMEDY);
    if (s.offset % PACK_PAGE || s.offset < *end)
        return ert_fail(err, ERT_E_FORMAT,
                        "%s: section %s begins at %llu, expected a multiple of %d behind offset "
                        "%llu; %s",
                        pack->path, name, (unsigned long long)s.offset, PACK_PAGE,
                        (unsigned long long)*end, PACK_REMEDY);
    if (s.offset > pack->map.size || s.size > pack->map.size - s.offset)
        return ert_fail(err, ERT_E_FORMAT,
                        "%s: section %s at %llu has %llu bytes, the file ends at %zu; %s",
                        pack->path, name, (unsigned long long)s.offset, (unsigned long long)s.size,
                        pack->map.size, PACK_REMEDY);
    if (s.zero || s.zero2)
        return ert_fail(err, ERT_E_FORMAT,
                        "%s: section %s has reserved fields that are not zero; %s", pack->path,
                        name, PACK_REMEDY);
    sections->by_kind[s.kind] = s;
    *end = s.offset + s.size;
    return 0;
}

static int read_sections(const struct rt_pack *pack, struct sections *sections,
                         struct ert_error *err)
{
    struct pack_header header = {0};
    int rc = check_header(pack, &header, err);
    uint64_t end = sizeof header + header.n_sections * sizeof(struct pack_section);
    for (uint32_t i = 0; !rc && i < header.n_sections; i++)
        rc = check_section(pack, i, &end, sections, err);
    for (uint32_t kind = PACK_META; !rc && kind <= PACK_PLANES_H; kind++)
        if (!sections->by_kind[kind].offset)
            rc = ert_fail(err, ERT_E_FORMAT, "%s: there is no section %s; %s", pack->path,
                          section_names[kind], PACK_REMEDY);
    return rc;
}

/* The small sections are hashed at open, the planes by rt_pack_verify. */
static int check_tables(const struct rt_pack *pack, const struct sections *sections,
                        struct ert_error *err)
{
    for (uint32_t kind = PACK_META; kind <= PACK_TENSORS; kind++) {
        const struct pack_section *s = &sections->by_kind[kind];
        if (ert_hash64(pack->map.data + s->offset, s->size) != s->checksum)
            return ert_fail(err, ERT_E_FORMAT,
                            "%s: the checksum of section %s (%llu bytes at offset %llu) does not "
                            "match; %s",
                            pack->path, section_names[kind], (unsigned long long)s->size,
                            (unsigned long long)s->offset, PACK_REMEDY);
    }
    return 0;
}

static int read_vocab(struct rt_pack *pack, const struct pack_section *s, struct ert_error *err)
{
    const json_t *tokenizer = json_object_get(pack->meta, "tokenizer");
    int rc = rt_vocab_parse(&pack->vocab, pack->map.data + s->offset, s->size, tokenizer, err);
    return rc ? ert_fail_in(err, "%s", pack->path) : 0;
}

static int read_pack(struct rt_pack *pack, struct ert_error *err)
{
    struct sections sections = {0};
    int rc = read_sections(pack, &sections, err);
    if (!rc)
        rc = check_tables(pack, &sections, err);
    if (rc)
        return rc;
    const struct pack_section *s = sections.by_kind;
    pack->h_offset = s[PACK_PLANES_H].offset;
    pack->h_size = s[PACK_PLANES_H].size;
    pack->l_offset = s[PACK_PLANES_L].offset;
    pack->l_size = s[PACK_PLANES_L].size;
    const uint8_t *data = pack->map.data;
    rc = rt_pack_read_meta(pack, data + s[PACK_META].offset, s[PACK_META].size, err);
    if (!rc)
        rc = rt_pack_read_catalog(pack, err);
    if (!rc)
        rc = rt_pack_read_tensors(pack, data + s[PACK_TENSORS].offset, s[PACK_TENSORS].size, err);
    if (!rc)
        rc = read_vocab(pack, &s[PACK_VOCAB], err);
    return rc;
}

int rt_pack_open(struct rt_pack **pack, const char *path, struct ert_error *err)
{
    *pack = NULL;
    struct rt_pack *p = calloc(1, sizeof *p);
    if (!p)
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory for the pack", path);
    p->map.fd = -1;
    p->path = strdup(path);
    int rc = p->path ? ert_map_open(&p->map, path, err)
                     : ert_fail(err, ERT_E_NOMEM, "%s: no memory for the pack", path);
    if (!rc)
        rc = read_pack(p, err);
    if (rc) {
        rt_pack_free(p);
        return rc;
    }
    *pack = p;
    return 0;
}

void rt_pack_free(struct rt_pack *pack)
{
    if (!pack)
        return;
    for (uint32_t t = 0; pack->tiers && t < pack->n_tiers; t++) {
        free(pack->tiers[t].dims);
        free(pack->tiers[t].extras);
    }
    free(pack->tiers);
    free(pack->layers);
    free(pack->chat_template);
    free(pack->catalog);
    json_decref(pack->meta);
    ert_map_close(&pack->map);
    free(pack->path);
    free(pack);
}

/* Hashes one region in steps, so that a person sees it move and can stop it. */
static int verify_region(const struct rt_pack *pack, const struct pack_section *s,
                         const struct ert_progress *progress, struct ert_error *err)
{
    const char *name = section_names[s->kind];
    XXH64_state_t *state = XXH64_createState();
    if (!state)
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory to check %s", pack->path, name);
    XXH64_reset(state, 0);
    int rc = 0;
    for (uint64_t at = 0; !rc && at < s->size; at += VERIFY_STEP) {
        uint64_t left = s->size - at;
        XXH64_update(state, pack->map.data + s->offset + at,
                     left < VERIFY_STEP ? left : VERIFY_STEP);
        if (progress && !ert_progress_report(progress, name, (double)at, (double)s->size))
            rc = ert_fail(err, ERT_E_CANCELLED, "%s: checking %s was stopped", pack->path, name);
    }
    if (!rc && XXH64_digest(state) != s->checksum)
        rc = ert_fail(
            err, ERT_E_FORMAT,
            "%s: the checksum of section %s (%llu bytes at offset %llu) does not match; %s",
            pack->path, name, (unsigned long long)s->size, (unsigned long long)s->offset,
            PACK_REMEDY);
    XXH64_freeState(state);
    return rc;
}

int rt_pack_verify(const struct rt_pack *pack, const struct ert_progress *progress,
                   struct ert_error *err)
{
    struct sections sections = {0};
    int rc = read_sections(pack, &sections, err);
    if (!rc)
        rc = check_tables(pack, &sections, err);
    for (uint32_t kind = PACK_PLANES_H; !rc && kind < N_KINDS; kind++)
        if (sections.by_kind[kind].offset)
            rc = verify_region(pack, &sections.by_kind[kind], progress, err);
    return rc;
}

double rt_rope_frequency(const struct rt_model *model, const float *factors, uint32_t f)
{
    double unscaled = pow((double)model->rope_theta, -2.0 * f / model->head_dim);
    return factors ? unscaled / (double)factors[f] : unscaled;
}

/* ---- what a point reads -------------------------------------------------------------------- */

/* Bytes of the first rows and columns of a matrix. */
static uint64_t matrix_bytes(const struct rt_matrix *m, unsigned weight_bits, uint64_t rows,
                             uint64_t cols)
{
    uint64_t tiles = rows / PACK_TILE, groups = cols / PACK_GROUP;
    if (!m->data || groups == 0)
        return 0;
    if (!m->pairs)
        return tiles * groups * PACK_F32_BLOCK;
    uint64_t blocks = tiles * (groups - (m->outlier ? 1 : 0));
    bool with_l = m->l && (weight_bits == 8 || m->l_resident);
    return tiles * PACK_PAIRS + (m->outlier ? tiles * PACK_OUTLIER : 0) + blocks * PACK_H_BLOCK +
           (with_l ? blocks * PACK_L_BLOCK : 0);
}

static uint64_t layer_bytes(const struct rt_pack *pack, uint32_t i, unsigned bits, unsigned tier)
{
    const struct rt_layer *l = &pack->layers[i];
    const struct rt_dims *d = &pack->tiers[tier].dims[i];
    const struct rt_extras *x = &pack->tiers[tier].extras[i];
    uint64_t embd = pack->model.n_embd_pad, heads = pack->model.n_heads;
    uint64_t kv_rows = (uint64_t)pack->model.n_kv_heads * pack->model.head_pad;
    uint64_t floats = (2u + (x->attn_bias != NULL) + (x->mlp_bias != NULL)) * embd;
    floats += l->q_bias ? heads * d->qk : 0;
    floats += kv_rows * ((l->k_bias != NULL) + (l->v_bias != NULL));
    floats += kv_rows * ((l->q_norm != NULL) + (l->k_norm != NULL));
    return floats * sizeof(float) + matrix_bytes(&l->q, bits, heads * d->qk, embd) +
           matrix_bytes(&l->k, bits, kv_rows, embd) + matrix_bytes(&l->v, bits, kv_rows, embd) +
           matrix_bytes(&l->o, bits, embd, heads * d->vo) +
           matrix_bytes(&l->gate, bits, d->mlp, embd) + matrix_bytes(&l->up, bits, d->mlp, embd) +
           matrix_bytes(&l->down, bits, embd, d->mlp) +
           matrix_bytes(&l->comp_v, bits, d->comp, embd) +
           matrix_bytes(&l->comp_u, bits, embd, d->comp);
}

uint64_t rt_pack_bytes_per_token(const struct rt_pack *pack, unsigned variant, unsigned tier)
{
    unsigned bits = rt_variants[variant].weight_bits;
    uint64_t embd = pack->model.n_embd_pad;
    uint64_t bytes =
        embd * sizeof(float) + matrix_bytes(&pack->head, bits, pack->model.n_vocab_pad, embd);
    for (uint32_t i = 0; i < pack->model.n_layers; i++)
        bytes += layer_bytes(pack, i, bits, tier);
    return bytes;
}

uint64_t rt_pack_resident_bytes(const struct rt_pack *pack, unsigned variant, unsigned tier)
{
    uint64_t bytes = rt_pack_bytes_per_token(pack, variant, tier);
    if (pack->model.tied)
        return bytes; /* the head is the embedding */
    return bytes + matrix_bytes(&pack->embed, rt_variants[variant].weight_bits,
                                pack->model.n_vocab_pad, pack->model.n_embd_pad);
}

static double count_weights(const struct rt_model *m)
{
    double attention = 2.0 * m->n_embd * m->head_dim * (m->n_heads + m->n_kv_heads);
    double layer = attention + 3.0 * m->n_embd * m->n_ff;
    return layer * m->n_layers + (double)m->n_vocab * m->n_embd * (m->tied ? 1 : 2);
}

double rt_pack_bits_per_weight(const struct rt_pack *pack, unsigned variant)
{
    size_t bytes = pack->h_size + (rt_variants[variant].weight_bits == 8 ? pack->l_size : 0);
    return 8 * (double)bytes / count_weights(&pack->model);
}
