/* The bytes of a pack, version 2, as docs/pack-format.md defines them. Shared by the reader here
 * and the writer in variants/. Little-endian hosts only. */
#ifndef RT_PACK_FORMAT_H
#define RT_PACK_FORMAT_H

#include <stdint.h>

#define PACK_MAGIC "EDGERT\x1a\n"

enum {
    PACK_VERSION = 2,
    PACK_PAGE = 4096,
    PACK_ALIGN = 64,
    PACK_MAX_SECTIONS = 16,
    PACK_NO_LAYER = -1, /* 0xffffffff in the file */

    PACK_GROUP = 32,             /* columns that share a scale */
    PACK_TILE = 16,              /* rows stored together */
    PACK_NIBBLES = 256,          /* bytes of one plane of one block */
    PACK_H_BLOCK = 32 + 256,     /* u_d[16], u_m[16], nibbles */
    PACK_L_BLOCK = 256,          /* nibbles */
    PACK_F32_BLOCK = 2048,       /* float[32][16] */
    PACK_OUTLIER = 64 + 2 * 256, /* f16 d[16], f16 m[16], h, l */
    PACK_PAIRS = 64,             /* bf16 D[16], bf16 M[16] */
};

enum pack_section_kind {
    PACK_META = 1,
    PACK_VOCAB = 2,
    PACK_TENSORS = 3,
    PACK_PLANES_H = 4,
    PACK_PLANES_L = 5,
};

enum pack_role {
#define R(id, name) PACK_ROLE_##name = (id),
#include "runtime/pack_roles.def"
#undef R
};

enum pack_tensor_kind {
    PACK_F32_VECTOR = 0,
    PACK_NESTED = 1,
    PACK_F32_MATRIX = 2,
    PACK_U16_TABLE = 3,
};

enum { PACK_FLAG_L_RESIDENT = 1 };

struct pack_header {
    uint8_t magic[8];
    uint32_t version;
    uint32_t n_sections;
    uint64_t file_size;
    uint64_t checksum;
    uint8_t zero[32];
};

struct pack_section {
    uint32_t kind, zero;
    uint64_t offset, size, checksum, zero2;
};

struct pack_tensor {
    uint32_t role, layer, tier, kind;
    uint32_t rows, cols, panel_groups, outlier_groups;
    uint32_t flags, zero[3];
    uint64_t data_off, data_size, pair_off, outlier_off, l_off, l_size;
};

_Static_assert(sizeof(struct pack_header) == 64, "header");
_Static_assert(sizeof(struct pack_section) == 40, "section record");
_Static_assert(sizeof(struct pack_tensor) == 96, "tensor record");

static inline uint32_t pack_pad(uint32_t n, uint32_t unit)
{
    return (n + unit - 1) / unit * unit;
}

#endif
