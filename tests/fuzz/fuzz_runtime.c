/* A pack, its checksums set right so that what lies behind them is reached. */
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "runtime/pack.h"
#include "runtime/pack_format.h"

enum { MAX_BYTES = 1 << 16 };

static void sign(uint8_t *data, size_t size)
{
    struct pack_header header;
    if (size < sizeof header)
        return;
    memcpy(&header, data, sizeof header);
    uint64_t table = (uint64_t)header.n_sections * sizeof(struct pack_section);
    if (header.n_sections > PACK_MAX_SECTIONS || sizeof header + table > size)
        return;
    for (uint32_t i = 0; i < header.n_sections; i++) {
        uint8_t *at = data + sizeof header + i * sizeof(struct pack_section);
        struct pack_section section;
        memcpy(&section, at, sizeof section);
        if (section.offset > size || section.size > size - section.offset)
            continue;
        section.checksum = ert_hash64(data + section.offset, section.size);
        memcpy(at, &section, sizeof section);
    }
    header.checksum = 0;
    memcpy(data, &header, sizeof header);
    header.checksum = ert_hash64(data, sizeof header + table);
    memcpy(data, &header, sizeof header);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t copy[MAX_BYTES];
    char path[32];
    struct rt_pack *pack;
    struct ert_error err;
    if (size > sizeof copy)
        return 0;
    memcpy(copy, data, size);
    sign(copy, size);
    int fd = fuzz_file(copy, size, path);
    if (rt_pack_open(&pack, path, &err) == 0)
        rt_pack_free(pack);
    close(fd);
    return 0;
}
