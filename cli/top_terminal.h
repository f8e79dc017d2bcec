/* top_terminal: whether a page can be drawn here. Apart from top.c because <term.h> takes names
 * such as `columns` for itself. */
#ifndef ERT_TOP_TERMINAL_H
#define ERT_TOP_TERMINAL_H

/* NULL, or the sentence that says why standard input and output are no terminal to draw on. */
const char *top_terminal_objection(void);

#endif
