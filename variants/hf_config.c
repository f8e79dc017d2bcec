/* config.json of a Hugging Face folder: sizes of the model and RoPE. The names of transformers 5
 * and of those before it are read (rope_parameters; rope_theta beside rope_scaling). */
#include "variants/hf_model.h"

#include <math.h>
#include <string.h>

#include "variants/rope.h"

#define FILE_NAME "config.json"

static int fail_value(const struct hf_reader *r, const char *key, const json_t *value,
                      const char *expected)
{
    return ert_fail(r->err, value ? ERT_E_FORMAT : ERT_E_MISSING,
                    "%s/" FILE_NAME
                    ": \"%s\" is %s, expected %s; the file is damaged or belongs to "
                    "another kind of model",
                    r->src->path, key, value ? "not usable" : "missing", expected);
}

/* A value that is there: null is as good as nothing. */
static const json_t *value_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

/* A whole number; NULL fallback: it must be there. */
static int get_u32(const struct hf_reader *r, const char *key, const uint32_t *fallback,
                   uint32_t *out)
{
    const json_t *value = value_of(r->config, key);
    if (!value && fallback) {
        *out = *fallback;
        return 0;
    }
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        json_integer_value(value) > UINT32_MAX)
        return fail_value(r, key, value, "a whole number below 2^32");
    *out = (uint32_t)json_integer_value(value);
    return 0;
}

/* A number of an object; NAN as fallback: it must be there. */
static int get_real(const struct hf_reader *r, const json_t *object, const char *key,
                    double fallback, double *out)
{
    const json_t *value = value_of(object, key);
    *out = fallback;
    if (!value && !isnan(fallback))
        return 0;
    if (!json_is_number(value))
        return fail_value(r, key, value, "a number");
    *out = json_number_value(value);
    return 0;
}

static int get_bool(const struct hf_reader *r, const char *key, bool *out)
{
    const json_t *value = value_of(r->config, key);
    *out = json_is_true(value);
    return value && !json_is_boolean(value) ? fail_value(r, key, value, "true or false") : 0;
}

static int refuse(const struct hf_reader *r, const char *key, const char *value, const char *why)
{
    return ert_fail(r->err, ERT_E_UNSUPPORTED,
                    "%s/" FILE_NAME ": \"%s\" is \"%.60s\", which is not supported; %s",
                    r->src->path, key, value, why);
}

/* ---- what is supported --------------------------------------------------------------------- */

static int read_architecture(struct hf_reader *r)
{
    const json_t *type = value_of(r->config, "model_type");
    char list[128];
    var_architecture_list(VAR_NAMES_HF, list, sizeof list);
    if (!json_is_string(type))
        return fail_value(r, "model_type", type, list);
    r->architecture = var_architecture_of(VAR_NAMES_HF, json_string_value(type));
    if (!r->architecture)
        return ert_fail(r->err, ERT_E_UNSUPPORTED,
                        "%s/" FILE_NAME ": architecture '%.60s' is not supported; supported: %s",
                        r->src->path, json_string_value(type), list);
    return 0;
}

static int check_supported(const struct hf_reader *r)
{
    const char *act = json_string_value(value_of(r->config, "hidden_act"));
    double rotated = 1;
    if (act && strcmp(act, "silu") != 0 && strcmp(act, "swish") != 0)
        return refuse(r, "hidden_act", act, "supported: silu");
    if (value_of(r->config, "quantization_config"))
        return ert_fail(r->err, ERT_E_UNSUPPORTED,
                        "%s/" FILE_NAME
                        ": the weights are quantized (\"quantization_config\"); take "
                        "the model in bfloat16, float16 or float32",
                        r->src->path);
    int rc = get_real(r, r->config, "partial_rotary_factor", 1, &rotated);
    if (!rc && rotated != 1)
        rc = ert_fail(r->err, ERT_E_UNSUPPORTED,
                      "%s/" FILE_NAME ": RoPE turns only %g of a head (\"partial_rotary_factor\"), "
                      "which is not supported",
                      r->src->path, rotated);
    return rc;
}

/* ---- sizes --------------------------------------------------------------------------------- */

/* Llama's and Mistral's heads share the width; Qwen3's are 128 wide unless it says otherwise. */
static int read_heads(const struct hf_reader *r, struct rt_model *m)
{
    static const uint32_t qwen3_width = 128;
    uint32_t shared = m->n_heads ? m->n_embd / m->n_heads : 0;
    bool own = strcmp(r->architecture->hf, "qwen3") == 0;
    int rc = get_u32(r, "num_key_value_heads", &m->n_heads, &m->n_kv_heads);
    if (!rc)
        rc = get_u32(r, "head_dim", own ? &qwen3_width : &shared, &m->head_dim);
    if (!rc && !own && !value_of(r->config, "head_dim") &&
        (m->n_heads == 0 || m->n_embd % m->n_heads != 0))
        rc = ert_fail(r->err, ERT_E_FORMAT,
                      "%s/" FILE_NAME ": hidden_size %u is not a multiple of %u heads and head_dim "
                      "is missing; the file is damaged",
                      r->src->path, m->n_embd, m->n_heads);
    return rc;
}

/* Whether some layers attend through a window. A list of layer types says so outright; before there
 * was one, Qwen had a switch and a number of layers without. */
static int has_window(const struct hf_reader *r, bool *slides)
{
    const json_t *types = value_of(r->config, "layer_types"), *type;
    const json_t *use = value_of(r->config, "use_sliding_window");
    uint32_t without = 0;
    size_t i;
    *slides = strcmp(r->architecture->hf, "llama") != 0 && (!use || json_is_true(use));
    int rc = get_u32(r, "max_window_layers", &without, &without);
    if (!rc && use && without >= r->src->model.n_layers)
        *slides = false;
    if (!json_is_array(types))
        return rc;
    *slides = false;
    json_array_foreach((json_t *)(uintptr_t)types, i, type)
    {
        const char *name = json_string_value(type);
        if (!name ||
            (strcmp(name, "full_attention") != 0 && strcmp(name, "sliding_attention") != 0))
            return refuse(r, "layer_types", name ? name : "no text",
                          "supported: full_attention, sliding_attention");
        *slides = *slides || strcmp(name, "sliding_attention") == 0;
    }
    return rc;
}

static int read_window(const struct hf_reader *r)
{
    uint32_t none = 0, window = 0;
    bool slides = false;
    int rc = get_u32(r, "sliding_window", &none, &window);
    if (!rc)
        rc = has_window(r, &slides);
    if (!rc && slides)
        var_source_limit_context(r->src, window);
    return rc;
}

static int read_sizes(const struct hf_reader *r)
{
    struct rt_model *m = &r->src->model;
    const struct {
        const char *key;
        uint32_t *out;
    } sizes[] = {
        {"num_hidden_layers", &m->n_layers},    {"hidden_size", &m->n_embd},
        {"intermediate_size", &m->n_ff},        {"num_attention_heads", &m->n_heads},
        {"max_position_embeddings", &m->n_ctx}, {"vocab_size", &m->n_vocab},
    };
    double eps = 0;
    int rc = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0] && !rc; i++)
        rc = get_u32(r, sizes[i].key, NULL, sizes[i].out);
    if (!rc)
        rc = read_heads(r, m);
    if (!rc)
        rc = get_real(r, r->config, "rms_norm_eps", NAN, &eps);
    if (!rc)
        rc = get_bool(r, "tie_word_embeddings", &m->tied);
    if (!rc)
        rc = read_window(r);
    m->rms_eps = (float)eps;
    return rc;
}

/* ---- RoPE ---------------------------------------------------------------------------------- */

static const json_t *rope_object(const struct hf_reader *r)
{
    const json_t *rope = value_of(r->config, "rope_parameters");
    return rope ? rope : value_of(r->config, "rope_scaling");
}

static int read_theta(const struct hf_reader *r)
{
    static const double usual = 10000;
    double theta = usual;
    int rc = get_real(r, r->config, "rope_theta", usual, &theta);
    if (!rc)
        rc = get_real(r, rope_object(r), "rope_theta", theta, &theta);
    r->src->model.rope_theta = (float)theta;
    return rc;
}

static int scale_linear(struct hf_reader *r, const json_t *rope)
{
    double factor;
    int rc = get_real(r, rope, "factor", NAN, &factor);
    return rc ? rc : var_rope_linear(r->src, factor, r->err);
}

static int scale_llama3(struct hf_reader *r, const json_t *rope)
{
    struct var_rope_llama3 s = {0};
    int rc = get_real(r, rope, "factor", NAN, &s.factor);
    if (!rc)
        rc = get_real(r, rope, "low_freq_factor", NAN, &s.low);
    if (!rc)
        rc = get_real(r, rope, "high_freq_factor", NAN, &s.high);
    if (!rc)
        rc = get_real(r, rope, "original_max_position_embeddings", NAN, &s.context);
    return rc ? rc : var_rope_llama3(r->src, &s, r->err);
}

static int scale_default(struct hf_reader *r, const json_t *rope)
{
    (void)r;
    (void)rope;
    return 0;
}

int hf_read_rope(struct hf_reader *r)
{
    static const struct {
        const char *name;
        int (*read)(struct hf_reader *r, const json_t *rope);
    } scalings[] = {{"default", scale_default}, {"linear", scale_linear}, {"llama3", scale_llama3}};
    const json_t *rope = rope_object(r);
    const json_t *type = value_of(rope, "rope_type"), *old = value_of(rope, "type");
    const char *name = json_string_value(type ? type : old);
    if (!rope)
        return 0;
    if (!name && (!value_of(r->config, "rope_parameters") || !value_of(rope, "rope_theta")))
        return fail_value(r, "rope_type", type, "the name of a RoPE scaling");
    for (size_t i = 0; i < sizeof scalings / sizeof scalings[0]; i++)
        if (strcmp(name ? name : "default", scalings[i].name) == 0)
            return scalings[i].read(r, rope);
    return ert_fail(r->err, ERT_E_UNSUPPORTED,
                    "%s/" FILE_NAME ": RoPE scaling '%.60s' is not supported; supported: default, "
                    "linear, llama3",
                    r->src->path, name);
}

/* ---- all of it ----------------------------------------------------------------------------- */

int hf_read_config(struct hf_reader *r)
{
    int rc = hf_read_json(r, FILE_NAME, true, &r->config);
    if (!rc)
        rc = read_architecture(r);
    if (!rc)
        rc = check_supported(r);
    if (!rc)
        rc = read_sizes(r);
    if (!rc)
        rc = read_theta(r);
    if (!rc)
        snprintf(r->src->model.arch, sizeof r->src->model.arch, "%s", r->architecture->name);
    return rc;
}
