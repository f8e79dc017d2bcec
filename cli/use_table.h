/* use_table: tokens, tok/s, time and energy by point, for people. */
#ifndef ERT_USE_TABLE_H
#define ERT_USE_TABLE_H

#include "engine/edgert.h"

/* On stderr. answer is the last one, NULL if there was none. */
void use_table_print(struct ert_engine *engine, const struct ert_answer *answer);

#endif
