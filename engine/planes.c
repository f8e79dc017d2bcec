#include "engine/planes.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define ACK_SLICE_NS 50000000ULL /* how long the worker waits before it looks for a newer wish */

struct planes {
    const struct rt_pack *pack;
    struct rt_switch *sw;
    pthread_t thread;
    pthread_mutex_t lock; /* of all below but cancel */
    pthread_cond_t wish;
    atomic_bool cancel; /* of the populating under way */
    bool stop;
    uint64_t asked, done; /* wishes, counted: equal = nothing to do */
    struct planes_rung wanted, published;
    bool release;
    uint64_t epoch; /* of published */
};

static void publish(struct planes *r)
{
    r->epoch = rt_switch_publish(r->sw, r->wanted.code);
    r->published = r->wanted;
}

/* Publishes the wish once its planes are in memory, unless a newer one came. A populating that
 * failed is no reason to refuse: the pages then come in as they are touched. */
static void bring_in(struct planes *r)
{
    uint64_t wish = r->asked;
    atomic_store(&r->cancel, false);
    pthread_mutex_unlock(&r->lock);
    rt_pack_populate_l(r->pack, &r->cancel, NULL);
    pthread_mutex_lock(&r->lock);
    if (wish == r->asked && !r->stop) {
        publish(r);
        r->done = wish;
    }
}

/* Drops the L planes when the engine has taken the point that does without them. */
static void give_back(struct planes *r)
{
    uint64_t wish = r->asked, epoch = r->epoch;
    while (wish == r->asked && !r->stop) {
        pthread_mutex_unlock(&r->lock);
        bool taken = rt_switch_wait(r->sw, epoch, ert_now_ns() + ACK_SLICE_NS) == 0;
        if (taken)
            rt_pack_drop_l(r->pack, NULL);
        pthread_mutex_lock(&r->lock);
        if (taken)
            break;
    }
    if (wish == r->asked)
        r->done = wish;
}

static void *work(void *ctx)
{
    struct planes *r = ctx;
    pthread_mutex_lock(&r->lock);
    while (!r->stop) {
        if (r->done == r->asked)
            pthread_cond_wait(&r->wish, &r->lock);
        else if (r->published.code != r->wanted.code)
            bring_in(r);
        else
            give_back(r);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

int planes_create(struct planes **out, const struct rt_pack *pack, struct rt_switch *sw,
                  struct planes_rung first, struct ert_error *err)
{
    struct planes *r = calloc(1, sizeof *r);
    *out = NULL;
    if (!r)
        return ert_fail(err, ERT_E_NOMEM, "out of memory for the planes worker");
    r->pack = pack;
    r->sw = sw;
    r->wanted = r->published = first;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->wish, NULL);
    if (pthread_create(&r->thread, NULL, work, r)) {
        pthread_cond_destroy(&r->wish);
        pthread_mutex_destroy(&r->lock);
        free(r);
        return ert_fail(err, ERT_E_NOMEM, "cannot start the planes worker's thread");
    }
    *out = r;
    return 0;
}

void planes_free(struct planes *r)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->lock);
    r->stop = true;
    atomic_store(&r->cancel, true);
    pthread_cond_signal(&r->wish);
    pthread_mutex_unlock(&r->lock);
    pthread_join(r->thread, NULL);
    pthread_cond_destroy(&r->wish);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

void planes_want(struct planes *r, struct planes_rung wanted, bool release)
{
    pthread_mutex_lock(&r->lock);
    r->asked++;
    r->wanted = wanted;
    r->release = release && !wanted.needs_l;
    atomic_store(&r->cancel, true);
    if (!wanted.needs_l || r->published.needs_l)
        publish(r);
    if (r->published.code == wanted.code && !r->release)
        r->done = r->asked;
    else
        pthread_cond_signal(&r->wish);
    pthread_mutex_unlock(&r->lock);
}
