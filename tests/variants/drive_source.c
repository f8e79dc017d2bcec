/* Reads model files for the Python tests:
 *   drive_source dump FILE OUT   every tensor as floats to OUT, "NAME ROWS COLS" lines on stdout
 *   drive_source check           one path a line on stdin; "ok" or the error's sentence a line on
 * stdout */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "variants/source.h"

static int dump_tensor(const struct var_tensor *t, FILE *out)
{
    if (!t->type)
        return 0;
    float *row = malloc(t->cols * sizeof *row);
    for (uint32_t r = 0; r < t->rows; r++) {
        var_tensor_row(t, r, row);
        fwrite(row, sizeof *row, t->cols, out);
    }
    free(row);
    return printf("%s %u %u\n", t->name, t->rows, t->cols) < 0;
}

static void dump(const struct var_source *src, const char *path)
{
    FILE *out = fopen(path, "wb");
    if (!out)
        exit(1);
    dump_tensor(&src->embed, out);
    dump_tensor(&src->norm_final, out);
    if (!src->model.tied)
        dump_tensor(&src->head, out);
    for (uint32_t l = 0; l < src->model.n_layers; l++)
        for (int p = 0; p < VAR_N_PARTS; p++)
            dump_tensor(&src->layers[l].part[p], out);
    fclose(out);
}

/* Reads everything the tables promise, so that a sanitizer sees where a bad file leads. */
static void touch(const struct var_source *src)
{
    FILE *sink = fopen("/dev/null", "wb");
    for (uint32_t l = 0; l < src->model.n_layers; l++)
        for (int p = 0; p < VAR_N_PARTS; p++) {
            const struct var_tensor *t = &src->layers[l].part[p];
            if (!t->type)
                continue;
            float *row = malloc(t->cols * sizeof *row);
            var_tensor_row(t, 0, row);
            var_tensor_row(t, t->rows - 1, row);
            fwrite(row, sizeof *row, t->cols, sink);
            free(row);
        }
    fwrite(src->vocab.text, 1, src->vocab.offset[src->vocab.n_tokens], sink);
    fclose(sink);
}

static void check(void)
{
    char path[4096];
    while (fgets(path, sizeof path, stdin)) {
        struct ert_error err = {0};
        struct var_source *src;
        path[strcspn(path, "\n")] = '\0';
        int rc = var_source_open(&src, path, NULL, &err);
        if (!rc)
            touch(src);
        var_source_free(src);
        for (char *c = err.text; *c; c++)
            *c = *c == '\n' ? ' ' : *c;
        printf("%s\n", rc ? err.text : "ok");
        fflush(stdout);
    }
}

int main(int argc, char **argv)
{
    struct ert_error err = {0};
    struct var_source *src = NULL;
    if (argc == 2 && strcmp(argv[1], "check") == 0) {
        check();
        return 0;
    }
    if (argc != 4 || strcmp(argv[1], "dump") != 0)
        return 2;
    int rc = var_source_open(&src, argv[2], NULL, &err);
    if (rc)
        fprintf(stderr, "%s\n", err.text);
    else
        dump(src, argv[3]);
    var_source_free(src);
    return rc != 0;
}
