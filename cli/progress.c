#include "cli/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/interrupt.h"

#define PATIENCE_NS 1000000000ULL
#define REDRAW_NS   100000000ULL

enum { BAR_COLUMNS = 30 };

/* "1:05" left, judged by the pace since the bar last began: a job that goes on from an earlier one
 * begins in the middle. */
static void time_left(const struct progress_bar *bar, uint64_t now, double share, char out[32])
{
    double done = share - bar->pace_share;
    out[0] = '\0';
    if (done < 0.02 || share >= 1)
        return;
    double seconds = (double)(now - bar->pace_ns) * 1e-9 * (1 - share) / done;
    unsigned whole = (unsigned)(seconds < 359999 ? seconds + 0.5 : 359999);
    if (whole >= 3600)
        snprintf(out, 32, "%u:%02u:%02u left", whole / 3600, whole / 60 % 60, whole % 60);
    else
        snprintf(out, 32, "%u:%02u left", whole / 60, whole % 60);
}

static void draw(struct progress_bar *bar, uint64_t now, double share)
{
    static const char full[BAR_COLUMNS + 1] = "##############################";
    char left[32];
    int filled = (int)(share * BAR_COLUMNS);
    time_left(bar, now, share, left);
    fprintf(stderr, "\r\033[K%-24.40s [%-*.*s] %3.0f%%  %s", bar->stage, BAR_COLUMNS, filled, full,
            100 * share, left);
    fflush(stderr);
    bar->drawn = true;
    bar->drawn_ns = now;
}

static bool report(void *ctx, const char *stage, double done, double total)
{
    struct progress_bar *bar = ctx;
    uint64_t now = ert_now_ns();
    double share = total > 0 ? done / total : 0;
    if (bar->pace_ns == 0 || share < bar->share) { /* a stage that counts for itself */
        bar->pace_ns = now;
        bar->pace_share = share;
    }
    bar->share = share;
    snprintf(bar->stage, sizeof bar->stage, "%s", stage);
    if (bar->terminal && now - bar->begin_ns > PATIENCE_NS && now - bar->drawn_ns > REDRAW_NS)
        draw(bar, now, share < 0 ? 0 : share > 1 ? 1 : share);
    return !interrupt_seen();
}

struct ert_progress progress_open(struct progress_bar *bar)
{
    *bar = (struct progress_bar){.begin_ns = ert_now_ns(), .terminal = isatty(STDERR_FILENO)};
    interrupt_arm(NULL);
    return (struct ert_progress){.report = report, .ctx = bar};
}

void progress_close(struct progress_bar *bar)
{
    if (bar->drawn)
        fputs("\r\033[K", stderr);
    bar->drawn = false;
}
