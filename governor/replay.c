/* A trace in place of the machine: the column named as the sensor, at the decision clock's time. */
#include "governor/source.h"

static bool replay_probe(struct gov_source *s, const struct gov_machine *machine)
{
    if (!machine->trace)
        return gov_not_here(s, "no trace is being replayed");
    s->u.replay.column = dev_trace_column(machine->trace, s->address);
    return s->u.replay.column >= 0 ||
           gov_not_here(s, "the trace %.60s has no column %.40s", machine->trace->path, s->address);
}

static struct dev_reading replay_read(struct gov_source *s, const struct gov_machine *machine,
                                      uint64_t now_ns)
{
    /* The very expression of sim/replay.c, so that a row at a poll's time is seen by both. */
    double t_s = (double)(now_ns - machine->origin_ns) * 1e-9;
    double end_s = dev_trace_duration_s(machine->trace);
    double held_s = t_s > end_s ? t_s - end_s : 0;
    struct dev_reading reading = dev_trace_at(machine->trace, s->u.replay.column,
                                              t_s < end_s ? t_s : end_s, machine->origin_ns);
    /* Past the end the last row is held as if it were sampled again and again. */
    reading.time_ns += (uint64_t)(held_s * 1e9);
    if (reading.why != DEV_PRESENT)
        return gov_absent(s, reading.why, reading.time_ns, "%.40s: %s at %.1f s of the trace",
                          s->address, dev_absence_text(reading.why), t_s);
    return reading;
}

const struct gov_source_kind gov_source_replay = {.probe = replay_probe, .read = replay_read};
