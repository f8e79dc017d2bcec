/* How long the L planes take to leave memory and to come back: from the disk, and from the page
 * cache alone. One line a round, in milliseconds; bench/start makes a table of them. */
#include "runtime/pack.h"

#include <stdlib.h>

#define NS_PER_MS 1e6

enum { DEFAULT_ROUNDS = 5 };

static double populate_ms(const struct rt_pack *pack)
{
    uint64_t begin = ert_now_ns();
    return rt_pack_populate_l(pack, NULL, NULL) ? -1 : (double)(ert_now_ns() - begin) / NS_PER_MS;
}

static double drop_ms(const struct rt_pack *pack)
{
    uint64_t begin = ert_now_ns();
    return rt_pack_drop_l(pack, NULL) ? -1 : (double)(ert_now_ns() - begin) / NS_PER_MS;
}

int main(int argc, char **argv)
{
    struct rt_pack *pack;
    struct ert_error err;
    long rounds = DEFAULT_ROUNDS;
    if (argc < 2 || argc > 3 || (argc == 3 && ert_parse_int(argv[2], 1, 10000, &rounds, &err))) {
        fprintf(stderr, "usage: residency PACK [ROUNDS]\n");
        return 2;
    }
    if (rt_pack_open(&pack, argv[1], &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    printf("l_bytes\t%zu\ndrop_ms\tleft_%%\tdisk_ms\tcache_ms\n", pack->l_size);
    populate_ms(pack);
    for (long i = 0; i < rounds; i++) {
        double drop = drop_ms(pack), left = 100 * rt_pack_resident_l(pack);
        double disk = populate_ms(pack);
        rt_pack_unmap(pack, NULL);
        double cache = populate_ms(pack);
        printf("%.2f\t%.1f\t%.2f\t%.2f\n", drop, left, disk, cache);
    }
    rt_pack_free(pack);
    return 0;
}
