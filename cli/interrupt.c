#include "cli/interrupt.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "cli/cli.h"

enum { CLI_TERMINATED = 143 };

/* A signal handler has no argument of its own: these are the program's only globals. */
static _Atomic(struct ert_conversation *) answering;
static _Atomic(struct ert_engine *) reloading;
static atomic_int interrupts, collected;
static _Atomic(const char *) restore_bytes;
static atomic_size_t restore_length;
/* A signal may come to any thread and before a read begins: only a pipe is sure to wake a poll. */
static int wake[2] = {-1, -1};

static _Noreturn void end_program(int status)
{
    const char *bytes = atomic_load(&restore_bytes);
    if (bytes && write(STDERR_FILENO, bytes, atomic_load(&restore_length)) < 0)
        _exit(status);
    _exit(status);
}

static void on_signal(int number)
{
    if (number == SIGTERM)
        end_program(CLI_TERMINATED);
    if (atomic_fetch_add(&interrupts, 1) >= 1)
        end_program(CLI_INTERRUPTED);
    struct ert_conversation *talk = atomic_load(&answering);
    if (talk)
        ert_cancel(talk);
    if (write(wake[1], "", 1) < 0)
        return; /* full: the poll wakes as well */
}

/* Nobody reads any more: the answer has no reader left. GDBus sets SIGPIPE to be ignored when it
 * connects, so that a program that leaves the signal alone would go on to the end. */
static void on_broken_pipe(int number)
{
    (void)number;
    struct ert_conversation *talk = atomic_load(&answering);
    if (talk)
        ert_cancel(talk);
}

static void on_hangup(int number)
{
    (void)number;
    struct ert_engine *engine = atomic_load(&reloading);
    if (engine)
        ert_reload(engine);
}

void interrupt_reload(struct ert_engine *engine)
{
    struct sigaction action = {.sa_handler = engine ? on_hangup : SIG_DFL, .sa_flags = SA_RESTART};
    if (!engine)
        sigaction(SIGHUP, &action, NULL);
    atomic_store(&reloading, engine);
    if (engine)
        sigaction(SIGHUP, &action, NULL);
}

/* A pipe with nothing in it. */
static void clear_wake(void)
{
    char bytes[64];
    if (wake[0] < 0 && pipe2(wake, O_CLOEXEC | O_NONBLOCK))
        return;
    while (read(wake[0], bytes, sizeof bytes) > 0)
        ;
}

static void on_collect(int number)
{
    atomic_store(&collected, number);
    if (write(wake[1], "", 1) < 0)
        return; /* full: the poll wakes as well */
}

/* Not by a signalfd: libraries have threads of their own, in which these are not blocked. */
int interrupt_collect(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = on_collect, .sa_flags = SA_RESTART};
    clear_wake();
    atomic_store(&collected, 0);
    for (size_t i = 0; wake[0] >= 0 && i < sizeof numbers / sizeof *numbers; i++)
        sigaction(numbers[i], &action, NULL);
    return wake[0];
}

int interrupt_collected(void)
{
    return atomic_load(&collected);
}

void interrupt_arm(struct ert_conversation *talk)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    struct sigaction broken = {.sa_handler = on_broken_pipe, .sa_flags = SA_RESTART};
    clear_wake();
    atomic_store(&answering, talk);
    atomic_store(&interrupts, 0);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGPIPE, &broken, NULL);
}

bool interrupt_seen(void)
{
    return atomic_load(&interrupts) > 0;
}

bool interrupt_wait_input(void)
{
    struct pollfd inputs[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                              {.fd = wake[0], .events = POLLIN}};
    while (!interrupt_seen())
        if (poll(inputs, 2, -1) > 0 && inputs[0].revents)
            return true;
    return false;
}

void interrupt_restore(const char *bytes, size_t n)
{
    atomic_store(&restore_bytes, NULL);
    atomic_store(&restore_length, n);
    atomic_store(&restore_bytes, bytes);
}
