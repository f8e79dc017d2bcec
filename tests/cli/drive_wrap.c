/* Prints what comes on standard input through the wrap, a read at a time, and then a dot on
 * standard error. The caller sends whole characters and waits for the dot. */
#include <locale.h>
#include <stdio.h>
#include <unistd.h>

#include "cli/wrap.h"

int main(void)
{
    static char piece[65536];
    struct wrap wrap = {0};
    ssize_t n;
    setlocale(LC_CTYPE, "C.UTF-8");
    while ((n = read(STDIN_FILENO, piece, sizeof piece)) > 0) {
        wrap_put(&wrap, piece, (size_t)n);
        if (fflush(stdout) || write(STDERR_FILENO, ".", 1) != 1)
            return 1;
    }
    return n < 0;
}
