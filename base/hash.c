#include "base/base.h"

#include <xxhash.h>

uint64_t ert_hash64(const void *data, size_t n)
{
    return XXH64(data, n, 0);
}
