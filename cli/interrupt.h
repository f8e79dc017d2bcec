/* interrupt: Ctrl-C ends the answer, a second one the program. */
#ifndef ERT_INTERRUPT_H
#define ERT_INTERRUPT_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/edgert.h"

/* From now on SIGINT is caught: it cancels talk's answer (NULL: it is only counted); a second one
 * since this call ends the program with status 130, SIGTERM with 143. SIGPIPE cancels as well, and
 * is not counted. */
void interrupt_arm(struct ert_conversation *talk);
/* From now on SIGHUP has that engine read its policy again; NULL = it ends the program as ever. */
void interrupt_reload(struct ert_engine *engine);
/* True if SIGINT came since interrupt_arm. */
bool interrupt_seen(void);
/* Waits until standard input has something to read (or ended); false if SIGINT comes first. */
bool interrupt_wait_input(void);
/* From now on SIGINT, SIGTERM and SIGHUP end nothing: interrupt_collected has the number of the
 * last one, 0 before the first, and the returned descriptor becomes readable. -1: it cannot be had.
 */
int interrupt_collect(void);
int interrupt_collected(void);
/* Bytes to write to stderr before the program is ended by a signal, to leave the terminal as it was
 * (NULL = none). They must stay valid. */
void interrupt_restore(const char *bytes, size_t n);

#endif
