#include "cli/view_json.h"

#include "cli/cli.h"
#include "cli/view.h"

void view_json_token(void *ctx, const struct ert_token *token)
{
    (void)ctx;
    cli_print_json(json_pack("{s:s, s:I, s:i, s:o, s:s}", "type", "token", "token",
                             (json_int_t)token->position, "id", (int)token->id, "text",
                             json_stringn(token->text, token->length), "point", token->point),
                   JSON_COMPACT);
}

/* Values by sensor; null where there is none. */
static json_t *readings(const struct ert_status *status)
{
    json_t *all = json_object();
    for (size_t i = 0; i < status->n_sensors; i++)
        json_object_set_new(all, status->sensors[i].name,
                            status->sensors[i].present ? json_real(status->sensors[i].value)
                                                       : json_null());
    return all;
}

void view_json_swap(void *ctx, const struct ert_swap *swap)
{
    const struct view *view = ctx;
    struct ert_status status;
    ert_get_status(view->engine, &status);
    cli_print_json(json_pack("{s:s, s:I, s:f, s:s, s:s, s:i, s:o, s:s, s:o, s:b, s:I}", "type",
                             "switch", "token", (json_int_t)swap->token, "t_s", swap->t_s, "from",
                             swap->from, "to", swap->to, "state", (int)swap->state, "trip",
                             swap->trip[0] ? json_string(swap->trip) : json_null(), "reason",
                             swap->reason, "readings", readings(&status), "failsafe",
                             (int)swap->failsafe, "cost_ns", (json_int_t)swap->cost_ns),
                   JSON_COMPACT);
}

void view_json_notice(void *ctx, const char *text)
{
    (void)ctx;
    cli_print_json(json_pack("{s:s, s:s}", "type", "notice", "text", text), JSON_COMPACT);
}

static json_t *point_summary(const struct ert_point_use *use)
{
    double tok_s = use->decode_s > 0 ? (double)use->tokens / use->decode_s : 0;
    return json_pack("{s:s, s:I, s:f, s:f, s:o, s:I, s:f, s:I}", "point", use->point, "tokens",
                     (json_int_t)use->tokens, "tok_s", tok_s, "seconds", use->decode_s, "energy_j",
                     use->measured_s > 0 ? json_real(use->energy_j) : json_null(), "prompt_tokens",
                     (json_int_t)use->prompt_tokens, "prefill_s", use->prefill_s, "entered",
                     (json_int_t)use->entered);
}

void view_json_summary(struct ert_engine *engine, const struct ert_answer *answer)
{
    static const char *const ends[] = {[ERT_END_STOP] = "stop",
                                       [ERT_END_LENGTH] = "length",
                                       [ERT_END_CANCELLED] = "cancelled",
                                       [ERT_END_CONTEXT] = "context"};
    struct ert_point_use use[ERT_MAX_POINTS];
    struct ert_status status;
    size_t n = ert_get_use(engine, use, ERT_MAX_POINTS);
    json_t *points = json_array();
    for (size_t i = 0; i < n && i < ERT_MAX_POINTS; i++)
        if (use[i].tokens || use[i].prompt_tokens || use[i].entered || use[i].decode_s > 0)
            json_array_append_new(points, point_summary(&use[i]));
    ert_get_status(engine, &status);
    cli_print_json(json_pack("{s:s, s:s, s:s, s:i, s:i, s:f, s:f, s:I, s:o}", "type", "summary",
                             "end", ends[answer->end], "reason", answer->reason, "prompt_tokens",
                             (int)answer->prompt_tokens, "tokens", (int)answer->tokens, "prefill_s",
                             answer->prefill_s, "decode_s", answer->decode_s, "switches",
                             (json_int_t)status.switches, "points", points),
                   JSON_COMPACT);
}
