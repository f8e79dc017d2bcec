/* wrap: text on a terminal, broken between words as it streams. */
#ifndef ERT_WRAP_H
#define ERT_WRAP_H

#include <stddef.h>

enum { WRAP_WORD_BYTES = 1024 };

/* A word is printed as it comes and taken to the next line when it turns out not to fit. {0} is the
 * start of an empty line. */
struct wrap {
    int columns; /* that text may fill: the terminal's last one stays empty */
    int column;  /* where the cursor stands, from 0 */
    int word_columns;
    size_t word_length;
    char word[WRAP_WORD_BYTES]; /* the unfinished word, [word_length]; it stands left of the cursor
                                 */
};

/* Prints n bytes of whole UTF-8 characters on stdout, which is a terminal, without its control
 * characters but tab and newline. Widths are those of the locale's LC_CTYPE. */
void wrap_put(struct wrap *wrap, const char *text, size_t n);

#endif
