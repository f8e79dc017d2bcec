/* What work took: sums and shares of figures that several sources gave. */
#include "engine/engine.h"

_Static_assert((int)ERT_ENERGY_SOURCES == (int)GOV_ENERGY_SOURCES,
               "one for each of the governor's");
_Static_assert((int)ERT_RAPL == (int)GOV_RAPL && (int)ERT_BATTERY == (int)GOV_BATTERY &&
                   (int)ERT_MODEL == (int)GOV_MODEL,
               "in the governor's order");

#define J_PER_WH 3600.0

const char *ert_energy_source_name(enum ert_energy_source source)
{
    return gov_energy_name((enum gov_energy_source)source);
}

void ert_energy_add(struct ert_energy *sum, const struct ert_energy *what)
{
    for (int i = 0; i < ERT_ENERGY_SOURCES; i++) {
        sum->joules[i] += what->joules[i];
        sum->seconds[i] += what->seconds[i];
    }
    sum->unknown_s += what->unknown_s;
}

double ert_energy_joules(const struct ert_energy *energy)
{
    double joules = 0;
    for (int i = 0; i < ERT_ENERGY_SOURCES; i++)
        joules += energy->joules[i];
    return joules;
}

double ert_energy_known(const struct ert_energy *energy)
{
    double seconds = 0;
    for (int i = 0; i < ERT_ENERGY_SOURCES; i++)
        seconds += energy->seconds[i];
    return seconds > 0 ? seconds / (seconds + energy->unknown_s) : 0;
}

double ert_energy_each(const struct ert_energy *energy, uint64_t n)
{
    double known = ert_energy_known(energy);
    return known > 0 && n > 0 ? ert_energy_joules(energy) / known / (double)n : 0;
}

double ert_energy_per_percent(double full_wh, double each_j)
{
    return full_wh > 0 && each_j > 0 ? full_wh * J_PER_WH / 100 / each_j : 0;
}
