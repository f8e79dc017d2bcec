/* write: a planned pack to a file (docs/pack-format.md). The order in the file is VOCAB, TENSORS,
 * PLANES_H, PLANES_L, META: META comes last, because what it says of the points is measured on the
 * written planes. */
#ifndef VAR_WRITE_H
#define VAR_WRITE_H

#include <jansson.h>

#include "variants/plan.h"

struct var_writer {
    struct ert_output out;
    struct pack_section sections[5];
    uint32_t n_sections;
};

/* Writes everything but META to a temporary file beside `path`. */
int var_write_planes(struct var_writer *w, const char *path, const struct var_source *src,
                     const struct var_plan *plan, struct rt_team *team,
                     const struct ert_progress *progress, struct ert_error *err);
/* Writes META (again) and the header: from here on w->out.temp_path is a complete pack. */
int var_write_meta(struct var_writer *w, const json_t *meta, struct ert_error *err);
/* Puts the pack in place, or leaves nothing. */
int var_write_commit(struct var_writer *w, struct ert_error *err);
void var_write_abort(struct var_writer *w); /* harmless after commit */

#endif
