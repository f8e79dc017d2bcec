#include "variants/progress.h"

static bool report_part(void *ctx, const char *stage, double done, double total)
{
    const struct var_part_progress *p = ctx;
    double share = total > 0 ? done / total : 0;
    return ert_progress_report(p->whole, p->stage ? p->stage : stage, p->begin + p->size * share,
                               1);
}

struct ert_progress var_part_progress(struct var_part_progress *part)
{
    return (struct ert_progress){report_part, part};
}
