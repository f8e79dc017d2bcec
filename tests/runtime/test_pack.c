/* Reading a pack: what it says of the model, and how it names what is wrong. Hundreds of generated
 * damages run in tests/oracle/test_bad_packs.py; these few are hand-made, to hold the sentences. */
#include "tests/runtime/random_pack.h"

#include <string.h>

#include "runtime/pack_format.h"

static struct rt_pack *pack;
static char path[4200];

static int begin(void **state)
{
    (void)state;
    pack = random_pack("nested");
    snprintf(path, sizeof path, "%s-%ld.edgert", test_build("damaged"), (long)getpid());
    return 0;
}

static int end(void **state)
{
    (void)state;
    rt_pack_free(pack);
    unlink(path);
    return 0;
}

/* ---- a copy to be damaged ------------------------------------------------------------------ */

static uint8_t *copy_pack(void)
{
    uint8_t *copy = malloc(pack->map.size);
    assert_non_null(copy);
    memcpy(copy, pack->map.data, pack->map.size);
    return copy;
}

static struct pack_section *section(uint8_t *file, uint32_t kind)
{
    struct pack_section *s = (void *)(file + sizeof(struct pack_header));
    while (s->kind != kind)
        s++;
    return s;
}

/* Signs META, VOCAB, TENSORS and the header again, writes the file and frees it. */
static void write_signed(uint8_t *file)
{
    struct pack_header *header = (void *)file;
    for (uint32_t kind = PACK_META; kind <= PACK_TENSORS; kind++) {
        struct pack_section *s = section(file, kind);
        s->checksum = ert_hash64(file + s->offset, s->size);
    }
    header->checksum = 0;
    header->checksum =
        ert_hash64(file, sizeof *header + header->n_sections * sizeof(struct pack_section));
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    assert_int_equal(fwrite(file, 1, pack->map.size, f), pack->map.size);
    fclose(f);
    free(file);
}

static struct pack_tensor *tensor(uint8_t *file, uint32_t role, uint32_t layer)
{
    struct pack_tensor *t = (void *)(file + section(file, PACK_TENSORS)->offset);
    while (t->role != role || t->layer != layer)
        t++;
    return t;
}

/* Opening the written file fails with a sentence that holds every one of the parts. */
static void assert_refused(const char *const parts[3])
{
    struct rt_pack *bad = NULL;
    struct ert_error err = {0};
    assert_int_not_equal(rt_pack_open(&bad, path, &err), 0);
    assert_null(bad);
    for (int i = 0; i < 3; i++)
        if (parts[i] && !strstr(err.text, parts[i]))
            fail_msg("\"%s\" is not in: %s", parts[i], err.text);
}

/* ---- tests --------------------------------------------------------------------------------- */

static void the_model_is_as_packtool_made_it(void **state)
{
    (void)state;
    const struct rt_model *m = &pack->model;
    assert_int_equal(pack->kind, RT_PACK_NESTED);
    assert_int_equal(m->n_layers, 2);
    assert_int_equal(m->n_heads, 4);
    assert_int_equal(m->n_kv_heads, 2);
    assert_int_equal(m->n_embd_pad, 96);
    assert_int_equal(m->n_vocab_pad, 208);
    assert_int_equal(pack->n_tiers, 4);
    assert_int_equal(pack->tiers[3].dims[1].mlp, 32);
    assert_int_equal(pack->tiers[1].dims[0].comp, 32);
    assert_int_equal(pack->tiers[3].dims[0].comp, 64);
    assert_int_equal(pack->layers[0].comp_v.rows, 64);
    assert_null(pack->layers[1].comp_v.data);
    assert_null(pack->tiers[0].extras[0].attn_bias);
    assert_true(pack->embed.l_resident);
    assert_ptr_not_equal(pack->head.data, pack->embed.data);
}

static void a_bad_tensor_is_named_with_its_layer(void **state)
{
    (void)state;
    const struct {
        uint32_t role, layer;
        size_t field;
        unsigned width;
        uint64_t value;
        const char *parts[3];
    } cases[] = {
        {PACK_ROLE_Q,
         1,
         offsetof(struct pack_tensor, rows),
         4,
         240,
         {"Q of layer 1", "240 x 96", "expected kind 1, 256 x 96"}},
        {PACK_ROLE_DOWN,
         0,
         offsetof(struct pack_tensor, data_off),
         8,
         1ull << 40,
         {"DOWN of layer 0", "PLANES_H", "edgert build"}},
        {PACK_ROLE_DOWN,
         0,
         offsetof(struct pack_tensor, data_off),
         8,
         UINT64_MAX - 63,
         {"DOWN of layer 0", "PLANES_H"}},
        {PACK_ROLE_GATE,
         1,
         offsetof(struct pack_tensor, l_off),
         8,
         8,
         {"GATE of layer 1", "PLANES_L", "multiple of 64"}},
        {PACK_ROLE_UP,
         0,
         offsetof(struct pack_tensor, data_size),
         8,
         288,
         {"UP of layer 0", "288 bytes, expected"}},
        {PACK_ROLE_V,
         0,
         offsetof(struct pack_tensor, layer),
         4,
         1,
         {"V of layer 1", "came before"}},
        {PACK_ROLE_V, 1, offsetof(struct pack_tensor, layer), 4, 2, {"layer is not one"}},
        {PACK_ROLE_NORM_FINAL, UINT32_MAX, offsetof(struct pack_tensor, role), 4, 99, {"role 99"}},
        {PACK_ROLE_O, 0, offsetof(struct pack_tensor, flags), 4, 2, {"O of layer 0", "flags"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t *file = copy_pack();
        uint8_t *record = (uint8_t *)tensor(file, cases[i].role, cases[i].layer);
        memcpy(record + cases[i].field, &cases[i].value, cases[i].width);
        write_signed(file);
        assert_refused(cases[i].parts);
    }
}

static void tensors_may_not_share_bytes(void **state)
{
    (void)state;
    uint8_t *file = copy_pack();
    tensor(file, PACK_ROLE_UP, 1)->pair_off = tensor(file, PACK_ROLE_GATE, 1)->pair_off;
    write_signed(file);
    assert_refused((const char *const[3]){"of layer 1", "overlap"});
}

static void a_frequency_past_the_table_is_refused(void **state)
{
    (void)state;
    uint8_t *file = copy_pack();
    const uint16_t past = 32; /* head_dim 64 has frequencies 0 to 31 */
    uint64_t at = pack->h_offset + tensor(file, PACK_ROLE_PAIRS, 1)->data_off + 2 * 5;
    memcpy(file + at, &past, sizeof past);
    write_signed(file);
    assert_refused((const char *const[3]){"PAIRS of layer 1", "entry 5 is 32", "less than 32"});
}

static void a_false_number_in_meta_is_named(void **state)
{
    (void)state;
    uint8_t *file = copy_pack();
    struct pack_section *meta = section(file, PACK_META);
    char *at = memmem(file + meta->offset, meta->size, "\"head_dim\": 64", 14);
    assert_non_null(at);
    memcpy(at, "\"head_dim\": -1", 14);
    write_signed(file);
    assert_refused((const char *const[3]){"META", "model.head_dim", "2 to 1024"});
}

static bool refuse(void *ctx, const char *stage, double done, double total)
{
    (void)done;
    (void)total;
    snprintf(ctx, 16, "%s", stage);
    return false;
}

static void verify_reads_the_planes(void **state)
{
    (void)state;
    const char *const names[] = {"PLANES_H", "PLANES_L"};
    struct ert_error err = {0};
    assert_int_equal(rt_pack_verify(pack, NULL, &err), 0);
    for (uint32_t i = 0; i < 2; i++) {
        uint8_t *file = copy_pack();
        struct pack_section *s = section(file, PACK_PLANES_H + i);
        file[s->offset + s->size - 1] ^= 1;
        write_signed(file);
        struct rt_pack *bad = NULL;
        assert_int_equal(rt_pack_open(&bad, path, &err), 0); /* opening does not read them */
        assert_int_equal(rt_pack_verify(bad, NULL, &err), -ERT_E_FORMAT);
        assert_non_null(strstr(err.text, names[i]));
        rt_pack_free(bad);
    }
    char stage[16] = "";
    const struct ert_progress progress = {.report = refuse, .ctx = stage};
    assert_int_equal(rt_pack_verify(pack, &progress, &err), -ERT_E_CANCELLED);
    assert_string_equal(stage, "PLANES_H");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_model_is_as_packtool_made_it),
        cmocka_unit_test(a_bad_tensor_is_named_with_its_layer),
        cmocka_unit_test(tensors_may_not_share_bytes),
        cmocka_unit_test(a_frequency_past_the_table_is_refused),
        cmocka_unit_test(a_false_number_in_meta_is_named),
        cmocka_unit_test(verify_reads_the_planes),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
