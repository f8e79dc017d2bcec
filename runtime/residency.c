/* residency: the pages of the L region, brought into memory and given back. */
#include "runtime/pack.h"
#include "runtime/pack_format.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14; older headers lack it, older kernels answer EINVAL */
#endif

enum {
    POPULATE_STEP = 4 << 20, /* a few milliseconds of a slow disk: how long a cancel may wait */
    MINCORE_PAGES = 1024,
};

/* Whole pages of this machine that hold only the L region. The kernel evicts a large folio whole or
 * not at all, so one that reaches into the H region stays: builds put PLANES_L on a multiple of 2
 * MiB. The bytes between its end and the next section belong to nobody, so the last page counts. */
struct span {
    uint8_t *data;
    size_t offset, size;
};

static struct span l_pages(const struct rt_pack *pack)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t begin = (pack->l_offset + page - 1) / page * page;
    size_t end = pack->l_offset + pack->l_size;
    end = (end + PACK_PAGE - 1) / PACK_PAGE * PACK_PAGE;
    end = end >= pack->map.size ? (end + page - 1) / page * page : end / page * page;
    if (pack->l_size == 0 || end <= begin)
        return (struct span){0};
    return (struct span){(uint8_t *)(uintptr_t)pack->map.data + begin, begin, end - begin};
}

/* The way of kernels before 5.14: a read of every page. */
static void touch(const uint8_t *data, size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t at = 0; at < size; at += page)
        (void)*(const volatile uint8_t *)(data + at);
}

int rt_pack_populate_l(const struct rt_pack *pack, const _Atomic(bool) *cancel,
                       struct ert_error *err)
{
    struct span l = l_pages(pack);
    for (size_t at = 0; at < l.size; at += POPULATE_STEP) {
        if (cancel && *cancel)
            return ert_fail(err, ERT_E_CANCELLED,
                            "%s: loading PLANES_L was stopped after %zu of %zu bytes", pack->path,
                            at, l.size);
        size_t n = l.size - at < POPULATE_STEP ? l.size - at : POPULATE_STEP;
        if (madvise(l.data + at, n, MADV_POPULATE_READ) == 0)
            continue;
        if (errno != EINVAL)
            return ert_fail(err, errno == ENOMEM ? ERT_E_NOMEM : ERT_E_IO,
                            "%s: cannot load PLANES_L at offset %zu: %s", pack->path, l.offset + at,
                            strerror(errno));
        touch(l.data + at, n);
    }
    return 0;
}

int rt_pack_drop_l(const struct rt_pack *pack, struct ert_error *err)
{
    struct span l = l_pages(pack);
    if (l.size == 0)
        return 0;
    /* The mapping first: the page cache keeps pages that are still mapped. */
    if (madvise(l.data, l.size, MADV_DONTNEED))
        return ert_fail(err, ERT_E_IO, "%s: cannot unmap PLANES_L: %s", pack->path,
                        strerror(errno));
    int rc = posix_fadvise(pack->map.fd, (off_t)l.offset, (off_t)l.size, POSIX_FADV_DONTNEED);
    if (rc)
        return ert_fail(err, ERT_E_IO, "%s: cannot drop PLANES_L from the page cache: %s",
                        pack->path, strerror(rc));
    return 0;
}

int rt_pack_unmap(const struct rt_pack *pack, struct ert_error *err)
{
    if (madvise((void *)(uintptr_t)pack->map.data, pack->map.size, MADV_DONTNEED) == 0)
        return 0;
    return ert_fail(err, ERT_E_IO, "%s: cannot unmap its pages: %s", pack->path, strerror(errno));
}

uint64_t rt_pack_mapped_bytes(const struct rt_pack *pack, bool with_l)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t all = (pack->map.size + page - 1) / page * page;
    return with_l ? all : all - l_pages(pack).size;
}

double rt_pack_resident_l(const struct rt_pack *pack)
{
    struct span l = l_pages(pack);
    size_t page = (size_t)sysconf(_SC_PAGESIZE), resident = 0;
    unsigned char in_core[MINCORE_PAGES];
    for (size_t at = 0; at < l.size; at += MINCORE_PAGES * page) {
        size_t n = l.size - at < MINCORE_PAGES * page ? l.size - at : MINCORE_PAGES * page;
        if (mincore(l.data + at, n, in_core))
            continue;
        for (size_t i = 0; i < n / page; i++)
            resident += in_core[i] & 1;
    }
    return l.size ? (double)(resident * page) / (double)l.size : 0;
}
