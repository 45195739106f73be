// What `visit.py` compares the latency of a task with: two processes that wake each other by a shared futex: the least that handing a task over to another process and
// having its answer can cost, where both sleep meanwhile.
#define _GNU_SOURCE
#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    _Alignas(64) _Atomic uint32_t ball;
    _Alignas(64) _Atomic uint32_t answer;
} table_t;

static void await(_Atomic uint32_t *word, uint32_t old) {
    while (atomic_load(word) == old)
        syscall(SYS_futex, word, FUTEX_WAIT, old, NULL, NULL, 0);
}

static void hit(_Atomic uint32_t *word, uint32_t value) {
    atomic_store(word, value);
    syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static uint64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

// Writes the nanoseconds of each round trip; not zero if there is no memory or no process to be had.
int play(uint32_t trips, uint64_t *nanoseconds) {
    table_t *table = mmap(NULL, sizeof *table, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (table == MAP_FAILED) return 1;
    pid_t other = fork();
    if (other < 0) return 1;
    if (other == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (uint32_t trip = 1; trip <= trips; trip++) {
            await(&table->ball, trip - 1);
            hit(&table->answer, trip);
        }
        _exit(0);
    }
    for (uint32_t trip = 1; trip <= trips; trip++) {
        uint64_t began = now();
        hit(&table->ball, trip);
        await(&table->answer, trip - 1);
        nanoseconds[trip - 1] = now() - began;
    }
    waitpid(other, NULL, 0);
    munmap(table, sizeof *table);
    return 0;
}
