/* A safetensors file: its table, and the first and last byte of what every tensor says it holds. */
#include "tests/fuzz/fuzz.h"

#include "variants/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct ert_map map = {data, size, -1};
    struct st_table table = {0};
    struct ert_error err;
    volatile uint8_t seen = 0;
    if (st_add_file(&table, "fuzz.safetensors", &map, &err) == 0 && st_sort(&table, &err) == 0)
        for (size_t i = 0; i < table.n; i++) {
            const struct st_tensor *t = &table.tensors[i];
            if (t->end > t->begin)
                seen ^= t->data[0] ^ t->data[t->end - t->begin - 1];
        }
    st_release(&table);
    return 0;
}
