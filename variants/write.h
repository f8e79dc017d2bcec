/* write: a pack into a file. Order in the file is VOCAB, TENSORS, PLANES_H, PLANES_L, META: META
 * comes last, because what it says of the points is measured on the written planes. Tensors may be
 * written in any order. */
#ifndef VAR_WRITE_H
#define VAR_WRITE_H

#include <jansson.h>

#include "variants/plan.h"
#include "variants/progress.h"

struct var_writer {
    FILE *file;            /* the caller's, open for reading and writing */
    const char *path;      /* what errors call it: the pack */
    const char *file_path; /* where the file can be opened */
    const struct var_source *src;
    const struct var_arrangement *order;
    const struct var_plan *plan;
    struct rt_team *team;
    struct pack_section sections[5];
    uint32_t n_sections;
    uint64_t h_at, l_at; /* where the planes begin */
};

/* Writes the small sections and takes the room of the rest, so that a full disk is told now; w's
 * file, paths, src, order, plan and team are filled in. */
int var_write_begin(struct var_writer *w, struct ert_error *err);
/* Writes the tensors of one layer, or of the whole model (PACK_NO_LAYER). The rounding of what
 * multiplies a watched input is calibrated with its moments (NULL: each weight to the nearest
 * level). Values of a tier's extras are there (variants/plan.h). done counts the weights written.
 */
int var_write_layer(const struct var_writer *w, uint32_t layer, const struct var_moments *moments,
                    const struct ert_progress *progress, struct ert_error *err);
/* A checksum of what the file holds of a layer's tensors. */
int var_write_checksum(const struct var_writer *w, uint32_t layer, uint64_t *checksum,
                       struct ert_error *err);
/* All tensors are written: the sections' checksums. */
int var_write_end(struct var_writer *w, struct ert_error *err);
/* Writes META (again) and the header: from here on the file is a complete pack. */
int var_write_meta(struct var_writer *w, const json_t *meta, struct ert_error *err);

/* All of it, without moments: a pack without tiers' extras. */
int var_write_all(struct var_writer *w, const json_t *meta, const struct ert_progress *progress,
                  struct ert_error *err);

/* The place of a layer (or of PACK_NO_LAYER, which comes first) in the whole writing, by weights.
 */
struct var_part_progress var_write_part(const struct var_plan *plan, uint32_t layer,
                                        const struct ert_progress *whole);

#endif
