/* The share of time that the engine generates or reads prompts. */
#include "governor/work.h"

#include "governor/source.h"

/* Over less the share would be that of a token or two. */
static const uint64_t LEAST_INTERVAL_NS = 100000000;

static const char *const items[GOV_WORKS] = {
    [GOV_IDLE] = "idle", [GOV_DECODE] = "decode", [GOV_PREFILL] = "prefill"};

void gov_worklog_init(struct gov_worklog *log)
{
    *log = (struct gov_worklog){.now = GOV_IDLE};
    pthread_mutex_init(&log->lock, NULL);
}

void gov_worklog_release(struct gov_worklog *log)
{
    pthread_mutex_destroy(&log->lock);
}

void gov_worklog_set(struct gov_worklog *log, enum gov_work work, uint64_t now_ns)
{
    pthread_mutex_lock(&log->lock);
    if (now_ns > log->since_ns) {
        log->spent_ns[log->now] += now_ns - log->since_ns;
        log->since_ns = now_ns;
    }
    log->now = work;
    pthread_mutex_unlock(&log->lock);
}

enum gov_work gov_worklog_now(struct gov_worklog *log)
{
    pthread_mutex_lock(&log->lock);
    enum gov_work now = log->now;
    pthread_mutex_unlock(&log->lock);
    return now;
}

const char *gov_work_name(enum gov_work work)
{
    return items[work];
}

/* In all, up to now. */
static uint64_t spent_ns(struct gov_worklog *log, unsigned work, uint64_t now_ns)
{
    pthread_mutex_lock(&log->lock);
    uint64_t spent = log->spent_ns[work];
    if (log->now == work && now_ns > log->since_ns)
        spent += now_ns - log->since_ns;
    pthread_mutex_unlock(&log->lock);
    return spent;
}

static bool work_probe(struct gov_source *s, const struct gov_machine *machine)
{
    s->u.work.item = gov_item(s->address, items, GOV_WORKS);
    s->u.work.since_ns = s->u.work.share_ns = 0;
    if (s->u.work.item == GOV_WORKS)
        return gov_not_here(s, "'%.40s': expected decode, prefill or idle", s->address);
    return machine->work || gov_not_here(s, "no model is at work here");
}

static struct dev_reading work_read(struct gov_source *s, const struct gov_machine *machine,
                                    uint64_t now_ns)
{
    uint64_t passed_ns = now_ns - s->u.work.since_ns;
    if (!s->u.work.since_ns || passed_ns >= LEAST_INTERVAL_NS) {
        uint64_t spent = spent_ns(machine->work, s->u.work.item, now_ns);
        if (s->u.work.since_ns) {
            double share = (double)(spent - s->u.work.spent_ns) / (double)passed_ns;
            s->u.work.share = 100 * (share < 1 ? share : 1);
            s->u.work.share_ns = now_ns;
        }
        s->u.work.since_ns = now_ns;
        s->u.work.spent_ns = spent;
    }
    if (!s->u.work.share_ns)
        return gov_absent(s, DEV_NO_SAMPLE, now_ns, "a share of time needs two looks");
    return gov_present(s->u.work.share, s->u.work.share_ns);
}

const struct gov_source_kind gov_source_work = {.probe = work_probe, .read = work_read};
