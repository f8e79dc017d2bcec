/* The session's own promises: what it refuses, where it stops, that it allocates nothing, and that
 * the L region comes and goes. The numbers it computes are held against numpy in test_oracles.py.
 */
#include "tests/allocations.h"
#include "tests/runtime/random_pack.h"

#include <string.h>
#include <linux/magic.h>
#include <sys/vfs.h>

#include "runtime/pack_format.h"

/* ---- a session ----------------------------------------------------------------------------- */

enum { THREADS = 2, CONTEXT = 64, CHUNK = 4 };

static struct rt_pack *pack;
static struct rt_team *team;
static struct rt_session *session;

static int begin(void **state)
{
    (void)state;
    pack = random_pack("nested");
    return rt_team_create(&team, THREADS, NULL);
}

static int end(void **state)
{
    (void)state;
    rt_team_free(team);
    rt_pack_free(pack);
    return 0;
}

static int open_with_cache(uint32_t bits)
{
    const struct rt_session_config config = {.n_ctx = CONTEXT, .chunk = CHUNK, .cache_bits = bits};
    return rt_session_create(&session, pack, team, &config, NULL);
}

static int open_session(void **state)
{
    (void)state;
    return open_with_cache(0);
}

static int open_8_bit_session(void **state)
{
    (void)state;
    return open_with_cache(8);
}

static int open_6_bit_session(void **state)
{
    (void)state;
    return open_with_cache(6);
}

static int close_session(void **state)
{
    (void)state;
    rt_session_free(session);
    return 0;
}

/* What a session would need is what it then holds. */
static void what_a_session_needs_is_known_before(void **state)
{
    (void)state;
    static const struct rt_session_config configs[] = {
        {0}, {.n_ctx = 1}, {.n_ctx = 17, .chunk = 1}, {.n_ctx = 129}, {.chunk = 512}};
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        struct rt_session *s = NULL;
        size_t bytes = 0;
        assert_int_equal(rt_session_need(&bytes, pack, team, &configs[i], NULL), 0);
        assert_int_equal(rt_session_create(&s, pack, team, &configs[i], NULL), 0);
        assert_int_equal(bytes, rt_session_bytes(s));
        rt_session_free(s);
    }
    size_t bytes = 7;
    const struct rt_session_config too_long = {.n_ctx = pack->model.n_ctx + 1};
    assert_int_equal(rt_session_need(&bytes, pack, team, &too_long, NULL), -ERT_E_RANGE);
}

static const int32_t ids[CONTEXT] = {5, 17, 0, 199, 3, 42, 42, 8, 100, 150, 77, 1};

static void bad_configurations_are_refused(void **state)
{
    (void)state;
    struct rt_session *s = NULL;
    struct ert_error err = {0};
    const struct rt_session_config too_long = {.n_ctx = pack->model.n_ctx + 1};
    const struct rt_session_config too_wide = {.chunk = 513};
    assert_int_equal(rt_session_create(&s, pack, team, &too_long, &err), -ERT_E_RANGE);
    assert_null(s);
    assert_non_null(strstr(err.text, "at most 256"));
    assert_int_equal(rt_session_create(&s, pack, team, &too_wide, &err), -ERT_E_RANGE);
    const struct rt_session_config odd_bits = {.cache_bits = 12};
    assert_int_equal(rt_session_create(&s, pack, team, &odd_bits, &err), -ERT_E_RANGE);
    assert_null(s);
    assert_non_null(strstr(err.text, "12 bits"));
    const struct rt_session_config defaults = {0};
    assert_int_equal(rt_session_create(&s, pack, team, &defaults, &err), 0);
    assert_int_equal(rt_session_capacity(s), pack->model.n_ctx);
    /* Keys and values: 2 layers, 2 heads of 64, 256 positions, 2 bytes. */
    assert_true(rt_session_bytes(s) > 2ul * 2 * 2 * 64 * 256 * 2);
    rt_session_free(s);
}

static size_t bytes_of(const struct rt_pack *of, uint32_t cache_bits)
{
    struct rt_session *s = NULL;
    const struct rt_session_config config = {.cache_bits = cache_bits, .chunk = CHUNK};
    assert_int_equal(rt_session_create(&s, of, team, &config, NULL), 0);
    size_t bytes = rt_session_bytes(s);
    rt_session_free(s);
    return bytes;
}

/* 2 layers, keys and values, 2 heads of 64 in 2 groups, 256 positions: 34 bytes a group, not 64. */
static void a_cache_of_8_bits_is_half_as_large(void **state)
{
    (void)state;
    assert_int_equal(bytes_of(pack, 16), bytes_of(pack, 0));
    assert_int_equal(bytes_of(pack, 16) - bytes_of(pack, 8), 2ul * 2 * 2 * 2 * 256 * (64 - 34));
    struct rt_pack *f32 = random_pack("f32");
    assert_int_equal(bytes_of(f32, 8), bytes_of(f32, 16));
    rt_pack_free(f32);
}

/* A pack of floats caches floats, and keeps as such what its MLP (192 channels) and its compensator
 * (rank 64) hand on: others have that quantized alone. */
static void floats_are_kept_where_products_read_them(void **state)
{
    (void)state;
    struct rt_pack *f32 = random_pack("f32");
    size_t cached = 2ul * 2 * 2 * 64 * 256, handed_on = CHUNK * (192 + 64);
    assert_int_equal(bytes_of(f32, 16) - bytes_of(pack, 16), cached * 2 + handed_on * 4);
    rt_pack_free(f32);
}

static void what_does_not_fit_is_refused_whole(void **state)
{
    (void)state;
    struct ert_error err = {0};
    int32_t bad[3] = {1, 2, 200};
    assert_int_equal(rt_session_feed(session, bad, 3, NULL, NULL, NULL, &err), -ERT_E_RANGE);
    assert_non_null(strstr(err.text, "200"));
    bad[0] = -1;
    assert_int_equal(rt_session_feed(session, bad, 1, NULL, NULL, NULL, &err), -ERT_E_RANGE);
    assert_int_equal(rt_session_position(session), 0);
    assert_int_equal(rt_session_feed(session, ids, CONTEXT - 1, NULL, NULL, NULL, &err), 0);
    assert_int_equal(rt_session_feed(session, ids, 2, NULL, NULL, NULL, &err), -ERT_E_FULL);
    assert_int_equal(rt_session_position(session), CONTEXT - 1);
    assert_int_equal(rt_session_feed(session, ids, 1, NULL, NULL, NULL, &err), 0);
    assert_int_equal(rt_session_position(session), CONTEXT);
    assert_int_equal(rt_session_feed(session, ids, 0, NULL, NULL, NULL, &err), 0);
}

static void save_logits(float *to)
{
    memcpy(to, rt_session_logits(session), pack->model.n_vocab * sizeof *to);
}

static void assert_logits(const float *expected)
{
    assert_memory_equal(rt_session_logits(session), expected,
                        pack->model.n_vocab * sizeof *expected);
}

static void a_rewind_forgets(void **state)
{
    (void)state;
    float *first = calloc(pack->model.n_vocab, sizeof *first);
    assert_int_equal(rt_session_feed(session, ids, 10, NULL, NULL, NULL, NULL), 0);
    save_logits(first);
    rt_session_rewind(session, 11); /* nothing there to forget */
    assert_int_equal(rt_session_position(session), 10);
    assert_int_equal(rt_session_feed(session, ids + 5, 7, NULL, NULL, NULL, NULL), 0);
    rt_session_rewind(session, 6);
    assert_int_equal(rt_session_position(session), 6);
    assert_int_equal(rt_session_feed(session, ids + 6, 4, NULL, NULL, NULL, NULL), 0);
    assert_logits(first);
    free(first);
}

static int count_down(void *left)
{
    return (*(int *)left)-- > 0 ? 0 : -ERT_E_CANCELLED;
}

static void a_stop_between_chunks_keeps_what_was_fed(void **state)
{
    (void)state;
    float *expected = calloc(pack->model.n_vocab, sizeof *expected);
    assert_int_equal(rt_session_feed(session, ids, 12, NULL, NULL, NULL, NULL), 0);
    save_logits(expected);
    rt_session_rewind(session, 0);
    int left = 2;
    assert_int_equal(rt_session_feed(session, ids, 12, count_down, &left, NULL, NULL),
                     -ERT_E_CANCELLED);
    assert_int_equal(rt_session_position(session), 2 * CHUNK);
    left = 0;
    assert_int_equal(rt_session_feed(session, ids, 4, count_down, &left, NULL, NULL),
                     -ERT_E_CANCELLED);
    assert_int_equal(rt_session_position(session), 2 * CHUNK);
    assert_int_equal(
        rt_session_feed(session, ids + 2 * CHUNK, 12 - 2 * CHUNK, NULL, NULL, NULL, NULL), 0);
    assert_logits(expected);
    free(expected);
}

/* A point's chunk, if it is narrower than the session's: 10 tokens by 3 are four chunks. */
static void a_point_may_narrow_the_chunk(void **state)
{
    (void)state;
    float *expected = calloc(pack->model.n_vocab, sizeof *expected);
    struct rt_point point;
    int left = 100;
    assert_int_equal(rt_point_parse("w4a16", pack, &point, NULL), 0);
    rt_session_set_point(session, &point);
    assert_int_equal(rt_session_feed(session, ids, 10, NULL, NULL, NULL, NULL), 0);
    save_logits(expected);
    rt_session_rewind(session, 0);
    point.prefill_chunk = 3;
    rt_session_set_point(session, &point);
    assert_int_equal(rt_session_feed(session, ids, 10, count_down, &left, NULL, NULL), 0);
    assert_int_equal(left, 96);
    assert_logits(expected);
    rt_session_rewind(session, 0);
    point.prefill_chunk = CHUNK + 1; /* the session has no room for more than its own */
    rt_session_set_point(session, &point);
    left = 100;
    assert_int_equal(rt_session_feed(session, ids, 2 * CHUNK, count_down, &left, NULL, NULL), 0);
    assert_int_equal(left, 98);
    free(expected);
}

static void prefill_has_a_variant_of_its_own(void **state)
{
    (void)state;
    float *expected = calloc(pack->model.n_vocab, sizeof *expected);
    struct rt_point w4, mixed;
    assert_int_equal(rt_point_parse("w4a16", pack, &w4, NULL), 0);
    mixed = w4;
    mixed.variant = RT_W8A8;
    rt_session_set_point(session, &w4);
    assert_int_equal(rt_session_feed(session, ids, CHUNK + 1, NULL, NULL, NULL, NULL), 0);
    save_logits(expected);
    rt_session_rewind(session, 0);
    rt_session_set_point(session, &mixed); /* also where the last chunk is one token wide */
    assert_int_equal(rt_session_feed(session, ids, CHUNK + 1, NULL, NULL, NULL, NULL), 0);
    assert_logits(expected);
    rt_session_rewind(session, CHUNK);
    assert_int_equal(rt_session_feed(session, ids + CHUNK, 1, NULL, NULL, NULL, NULL), 0);
    assert_memory_not_equal(rt_session_logits(session), expected,
                            pack->model.n_vocab * sizeof *expected);
    free(expected);
}

/* Lets one chunk pass, then sets a point. */
struct late_switch {
    int chunks;
    struct rt_point point;
};

static int switch_later(void *ctx)
{
    struct late_switch *late = ctx;
    if (late->chunks++ == 1)
        rt_session_set_point(session, &late->point);
    return 0;
}

static void a_point_may_change_between_chunks(void **state)
{
    (void)state;
    float *expected = calloc(pack->model.n_vocab, sizeof *expected);
    struct rt_point w8;
    struct late_switch late = {0};
    assert_int_equal(rt_point_parse("w8a8", pack, &w8, NULL), 0);
    assert_int_equal(rt_point_parse("w4a16-r70", pack, &late.point, NULL), 0);
    rt_session_set_point(session, &w8);
    assert_int_equal(rt_session_feed(session, ids, CHUNK, NULL, NULL, NULL, NULL), 0);
    rt_session_set_point(session, &late.point);
    assert_int_equal(rt_session_feed(session, ids + CHUNK, CHUNK, NULL, NULL, NULL, NULL), 0);
    save_logits(expected);
    rt_session_rewind(session, 0);
    rt_session_set_point(session, &w8);
    assert_int_equal(rt_session_feed(session, ids, 2 * CHUNK, switch_later, &late, NULL, NULL), 0);
    assert_logits(expected);
    free(expected);
}

#if COUNTS_ALLOCATIONS
static void feeding_and_switching_allocate_nothing(void **state)
{
    (void)state;
    static const char *const names[] = {"w8a8", "w4a16-r70", "w4a16", "w8a8-r80"};
    struct rt_point points[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(rt_point_parse(names[i], pack, &points[i], NULL), 0);
    unsigned long before = allocations;
    void *volatile one = malloc(1);
    free(one);
    assert_int_equal(allocations, before + 1); /* the counter counts */
    int bad = 0;
    before = allocations;
    for (int round = 0; round < 40; round++) {
        rt_session_rewind(session, 0);
        bad |= rt_session_feed(session, ids, 11, NULL, NULL, NULL, NULL);
        for (int i = 0; i < 8; i++) {
            rt_session_set_point(session, &points[(round + i) % 4]);
            bad |= rt_session_feed(session, &ids[i], 1, NULL, NULL, NULL, NULL);
        }
    }
    unsigned long after = allocations;
    assert_int_equal(bad, 0);
    assert_int_equal(after - before, 0);
}
#endif

/* ---- residency ----------------------------------------------------------------------------- */

/* The same pack with PLANES_L (its last section) moved to a multiple of 2 MiB, as a build puts it:
 * the kernel evicts a large folio whole or not at all, and this is the largest. */
static struct rt_pack *moved_pack(void)
{
    enum { LARGEST_FOLIO = 2 << 20 };
    char path[4200];
    snprintf(path, sizeof path, "%s-%ld.edgert", test_build("moved"), (long)getpid());
    struct pack_header header;
    struct pack_section sections[PACK_MAX_SECTIONS];
    uint8_t signed_bytes[sizeof header + sizeof sections];
    memcpy(&header, pack->map.data, sizeof header);
    size_t table = header.n_sections * sizeof sections[0];
    memcpy(sections, pack->map.data + sizeof header, table);
    sections[header.n_sections - 1].offset = LARGEST_FOLIO;
    header.file_size = LARGEST_FOLIO + pack->l_size;
    header.checksum = 0;
    memcpy(signed_bytes, &header, sizeof header);
    memcpy(signed_bytes + sizeof header, sections, table);
    header.checksum = ert_hash64(signed_bytes, sizeof header + table);
    memcpy(signed_bytes, &header, sizeof header);

    FILE *f = fopen(path, "we");
    assert_non_null(f);
    fwrite(pack->map.data, 1, pack->h_offset + pack->h_size, f);
    fseek(f, LARGEST_FOLIO, SEEK_SET);
    fwrite(pack->map.data + pack->l_offset, 1, pack->l_size, f);
    fseek(f, 0, SEEK_SET);
    fwrite(signed_bytes, 1, sizeof header + table, f);
    assert_int_equal(fflush(f), 0);
    assert_int_equal(fsync(fileno(f)),
                     0); /* pages that are not on the disk yet cannot be dropped */
    fclose(f);
    struct rt_pack *moved = NULL;
    assert_int_equal(rt_pack_open(&moved, path, NULL), 0);
    unlink(path);
    return moved;
}

static void feed_at(struct rt_session *s, const char *name, float *logits)
{
    struct rt_point p;
    assert_int_equal(rt_point_parse(name, pack, &p, NULL), 0);
    rt_session_set_point(s, &p);
    rt_session_rewind(s, 0);
    assert_int_equal(rt_session_feed(s, ids, 9, NULL, NULL, logits, NULL), 0);
}

static void the_l_region_comes_and_goes(void **state)
{
    (void)state;
    struct rt_pack *moved = moved_pack();
    struct statfs fs;
    assert_int_equal(fstatfs(moved->map.fd, &fs), 0);
    if (fs.f_type == TMPFS_MAGIC) {
        print_message("# needs a build folder on a disk: a tmpfs has nowhere to drop pages to\n");
        rt_pack_free(moved);
        skip();
    }
    size_t bytes = (size_t)9 * pack->model.n_vocab * sizeof(float);
    float *before = malloc(bytes), *after = malloc(bytes);
    struct rt_session *s = NULL;
    const struct rt_session_config config = {.n_ctx = CONTEXT, .chunk = CHUNK};
    assert_int_equal(rt_session_create(&s, moved, team, &config, NULL), 0);
    _Atomic(bool) cancel = true;
    assert_int_equal(rt_pack_populate_l(moved, &cancel, NULL), -ERT_E_CANCELLED);
    cancel = false;
    assert_int_equal(rt_pack_populate_l(moved, &cancel, NULL), 0);
    assert_true(rt_pack_resident_l(moved) == 1);
    feed_at(s, "w8a8", before);

    assert_int_equal(rt_pack_drop_l(moved, NULL), 0);
    assert_true(rt_pack_resident_l(moved) == 0);
    feed_at(s, "w4a16", after);
    assert_true(rt_pack_resident_l(moved) == 0); /* it reads nothing there */
    feed_at(s, "w8a8", after);
    assert_true(rt_pack_resident_l(moved) > 0);
    assert_memory_equal(before, after, bytes);
    free(before);
    free(after);
    rt_session_free(s);
    rt_pack_free(moved);
}

/* Unmapped pages are the page cache's alone; what may be mapped is the file, with or without L. */
static void the_mapping_comes_and_goes(void **state)
{
    (void)state;
    struct rt_pack *moved = moved_pack();
    uint64_t before, mapped, unmapped;
    assert_true(rt_pack_mapped_bytes(moved, true) >= moved->map.size);
    assert_true(rt_pack_mapped_bytes(moved, true) < moved->map.size + 65536);
    uint64_t l = rt_pack_mapped_bytes(moved, true) - rt_pack_mapped_bytes(moved, false);
    assert_true(l >= moved->l_size && l < moved->l_size + 65536);

    assert_int_equal(rt_pack_unmap(moved, NULL), 0);
    assert_int_equal(ert_resident_bytes(&before, NULL), 0);
    assert_int_equal(rt_pack_populate_l(moved, NULL, NULL), 0);
    assert_int_equal(ert_resident_bytes(&mapped, NULL), 0);
    assert_int_equal(rt_pack_unmap(moved, NULL), 0);
    assert_int_equal(ert_resident_bytes(&unmapped, NULL), 0);
    /* All of it and more, but for what the looking itself takes. */
    assert_true(mapped > before + l / 2);
    assert_true(unmapped + l / 2 < mapped);
    assert_true(rt_pack_resident_l(moved) == 1);
    rt_pack_free(moved);
}

static void a_pack_without_l_has_nothing_to_drop(void **state)
{
    (void)state;
    struct rt_pack *bare = random_pack("h-only");
    assert_int_equal(rt_pack_populate_l(bare, NULL, NULL), 0);
    assert_int_equal(rt_pack_drop_l(bare, NULL), 0);
    assert_true(rt_pack_resident_l(bare) == 0);
    rt_pack_free(bare);
}

#define SESSION_TEST(f) cmocka_unit_test_setup_teardown(f, open_session, close_session)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_configurations_are_refused),
        cmocka_unit_test(what_a_session_needs_is_known_before),
        SESSION_TEST(what_does_not_fit_is_refused_whole),
        SESSION_TEST(a_rewind_forgets),
        {"a_rewind_forgets_8_bits_too", a_rewind_forgets, open_8_bit_session, close_session, NULL},
        {"a_rewind_forgets_6_bits_too", a_rewind_forgets, open_6_bit_session, close_session, NULL},
        cmocka_unit_test(a_cache_of_8_bits_is_half_as_large),
        cmocka_unit_test(floats_are_kept_where_products_read_them),
        SESSION_TEST(a_stop_between_chunks_keeps_what_was_fed),
        SESSION_TEST(prefill_has_a_variant_of_its_own),
        SESSION_TEST(a_point_may_change_between_chunks),
        SESSION_TEST(a_point_may_narrow_the_chunk),
#if COUNTS_ALLOCATIONS
        SESSION_TEST(feeding_and_switching_allocate_nothing),
#endif
        cmocka_unit_test(the_l_region_comes_and_goes),
        cmocka_unit_test(the_mapping_comes_and_goes),
        cmocka_unit_test(a_pack_without_l_has_nothing_to_drop),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
