/* Counts what this program allocates. Included by one file of a test program. Where a sanitizer has
 * wrappers of its own around the allocator, COUNTS_ALLOCATIONS is 0 and the counts are absent. */
#ifndef ERT_TEST_ALLOCATIONS_H
#define ERT_TEST_ALLOCATIONS_H

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COUNTS_ALLOCATIONS 0
#else
#define COUNTS_ALLOCATIONS 1

/* Volatile, since compilers believe that malloc changes no variable of the program. */
static volatile _Atomic unsigned long allocations;            /* of all threads */
static _Thread_local volatile unsigned long allocations_here; /* of the calling thread */

/* dlsym itself may call calloc before there is one to call: that gets memory from a small block
 * that is never given back. */
static char early[4096];
static size_t early_used;

static void *next(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

static void count_allocation(void)
{
    allocations++;
    allocations_here++;
}

void *malloc(size_t n)
{
    static void *(*real)(size_t);
    if (!real)
        *(void **)&real = next("malloc");
    count_allocation();
    return real(n);
}

void *calloc(size_t n, size_t size)
{
    static void *(*real)(size_t, size_t);
    static bool looking;
    if (!real && looking) {
        early_used += (n * size + 15) / 16 * 16;
        return early_used <= sizeof early ? early + early_used - (n * size + 15) / 16 * 16 : NULL;
    }
    looking = true;
    if (!real)
        *(void **)&real = next("calloc");
    count_allocation();
    return real(n, size);
}

void *realloc(void *p, size_t n)
{
    static void *(*real)(void *, size_t);
    if (!real)
        *(void **)&real = next("realloc");
    count_allocation();
    return real(p, n);
}

void free(void *p)
{
    static void (*real)(void *);
    if (!real)
        *(void **)&real = next("free");
    if ((char *)p < early || (char *)p >= early + sizeof early)
        real(p);
}

/* Two threads' first allocations may look for the real one at the same time; so the first is made
 * before main. */
__attribute__((constructor)) static void find_allocator(void)
{
    free(realloc(malloc(1), 2));
    free(calloc(1, 1));
}

#endif
#endif
