/* view_json: the lines of `run --json`; docs/json.md describes them. */
#ifndef ERT_VIEW_JSON_H
#define ERT_VIEW_JSON_H

#include "engine/edgert.h"

/* Callbacks of an answer; ctx is a struct view. */
void view_json_token(void *ctx, const struct ert_token *token);
void view_json_swap(void *ctx, const struct ert_swap *swap);
void view_json_notice(void *ctx, const char *text);
void view_json_summary(struct ert_engine *engine, const struct ert_answer *answer);

#endif
