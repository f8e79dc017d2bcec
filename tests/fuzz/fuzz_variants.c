/* A GGUF file: read, and every row of what it says it holds. */
#include "tests/fuzz/fuzz.h"

#include "variants/source.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[32];
    int fd = fuzz_file(data, size, path);
    struct var_source *source;
    struct ert_error err;
    if (var_source_open(&source, path, NULL, &err) == 0) {
        float *row = calloc(source->embed.cols, sizeof *row);
        for (uint32_t i = 0; row && i < source->embed.rows; i++)
            var_tensor_row(&source->embed, i, row);
        free(row);
        var_source_free(source);
    }
    close(fd);
    return 0;
}
