#include "cli/view_json.h"

#include "cli/cli.h"
#include "cli/view.h"

#define J_PER_MWH 3.6

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

static json_t *number_or_null(double value, bool known)
{
    return known ? json_real(value) : json_null();
}

/* Joules and seconds of the sources that told. */
static json_t *sources(const struct ert_energy *energy)
{
    json_t *all = json_object();
    for (enum ert_energy_source i = 0; i < ERT_ENERGY_SOURCES; i++)
        if (energy->seconds[i] > 0)
            json_object_set_new(all, ert_energy_source_name(i),
                                json_pack("{s:f, s:f}", "joules", energy->joules[i], "seconds",
                                          energy->seconds[i]));
    return all;
}

static json_t *point_summary(const struct ert_point_use *use)
{
    double tok_s = use->decode_s > 0 ? (double)use->tokens / use->decode_s : 0;
    double each_j = ert_energy_each(&use->decode_energy, use->tokens);
    struct ert_energy all = use->prefill_energy;
    ert_energy_add(&all, &use->decode_energy);
    return json_pack("{s:s, s:I, s:f, s:f, s:o, s:o, s:o, s:I, s:f, s:I, s:I, s:I}", "point",
                     use->point, "tokens", (json_int_t)use->tokens, "tok_s", tok_s, "seconds",
                     use->decode_s, "energy_j",
                     number_or_null(ert_energy_joules(&all), ert_energy_known(&all) > 0),
                     "j_per_token", number_or_null(each_j, each_j > 0), "energy_sources",
                     sources(&all), "prompt_tokens", (json_int_t)use->prompt_tokens, "prefill_s",
                     use->prefill_s, "entered", (json_int_t)use->entered, "drafted",
                     (json_int_t)use->drafted, "accepted", (json_int_t)use->accepted);
}

/* What the answer took. */
static json_t *energy_summary(const struct ert_answer *answer, const struct ert_status *status)
{
    struct ert_energy all = answer->prefill_energy;
    ert_energy_add(&all, &answer->decode_energy);
    double joules = ert_energy_joules(&all), known = ert_energy_known(&all);
    double each_j = answer->each_j;
    double per_percent = ert_energy_per_percent(status->battery_wh, each_j);
    bool read = ert_energy_known(&answer->prefill_energy) > 0;
    return json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:f, s:o, s:o, s:o}", "joules",
        number_or_null(joules, known > 0), "mwh", number_or_null(joules / J_PER_MWH, known > 0),
        "prefill_joules", number_or_null(ert_energy_joules(&answer->prefill_energy), read),
        "j_per_token", number_or_null(each_j, each_j > 0), "mwh_per_token",
        number_or_null(each_j / J_PER_MWH, each_j > 0), "sources", sources(&all), "unknown_share",
        1 - known, "unknown_why", known < 1 ? json_string(status->energy_why) : json_null(),
        "battery_wh", number_or_null(status->battery_wh, status->battery_wh > 0),
        "tokens_per_battery_percent", number_or_null(per_percent, per_percent > 0));
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
    cli_print_json(json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:f, s:f, s:I, s:o, s:o}", "type",
                             "summary", "end", ends[answer->end], "reason", answer->reason,
                             "prompt_tokens", (int)answer->prompt_tokens, "tokens",
                             (int)answer->tokens, "drafted", (int)answer->drafted, "accepted",
                             (int)answer->accepted, "prefill_s", answer->prefill_s, "decode_s",
                             answer->decode_s, "switches", (json_int_t)status.switches, "energy",
                             energy_summary(answer, &status), "points", points),
                   JSON_COMPACT);
}
