/* Inside governor/: energy counters, for the source powercap: and for the energy of answers. */
#ifndef GOV_POWERCAP_H
#define GOV_POWERCAP_H

#include "governor/source.h"

/* Finds the counters called `asked` ("package" = all packages). False: there are none, and why. */
bool gov_powercap_open(struct gov_powercap *p, const struct gov_machine *machine, const char *asked,
                       char why[GOV_WHY]);
/* Joules since the first count, over all of them, wraps taken out. False: one cannot be read. */
bool gov_powercap_count(struct gov_powercap *p, double *joules, char why[GOV_WHY]);

#endif
