// Knows exactly, for each thread, how long it held a Python's GIL and how long it waited for it.
//
// Preloaded into an interpreter by LD_PRELOAD; `oracle.py` compiles it, tells it where the GIL is, and reads it. It
// stands in for four functions of the C library, which CPython (3.11 to 3.15) calls at the GIL's changes of state:
//
//   take_gil    pthread_mutex_lock(&gil->mutex)            a thread begins to wait
//               pthread_cond_timedwait(&gil->cond, ...)    any number of times, while the GIL is taken
//               locked = 1; pthread_cond_signal(&gil->switch_cond)     from here on it holds the GIL
//   drop_gil    locked = 0; pthread_cond_signal(&gil->cond)            from here on it does not
//               pthread_cond_wait(&gil->switch_cond, ...)  if it was asked to drop it, until another has it
//
// So the signals are the edges, and not the unlocking of the mutex after them: between the two, the thread may make
// two system calls to wake others. The timed wait gives up and retakes the mutex inside the C library, where nobody
// stands in for anything; since a wait counts from its beginning to the signal, whatever happens between is in it.
//
// Nothing is sampled. Each event costs two clocks (one of them a system call), and other mutexes a comparison.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

// CPython's `struct _gil_runtime_state`, the same in all these versions.
struct gil {
    unsigned long interval;
    void *last_holder;
    int locked;
    unsigned long switch_number;
    pthread_cond_t cond;
    pthread_mutex_t mutex;
    pthread_cond_t switch_cond;
    pthread_mutex_t switch_mutex;
};

struct reading {
    uint64_t now;          // all in nanoseconds
    uint64_t held;
    uint64_t waited;
    uint64_t held_cpu;     // CPU time while holding
    uint64_t cpu;
    uint64_t acquisitions;
};

typedef int mutex_call(pthread_mutex_t *);
typedef int signal_call(pthread_cond_t *);
typedef int wait_call(pthread_cond_t *, pthread_mutex_t *);

static mutex_call *real_lock, *real_unlock;
static signal_call *real_signal;
static wait_call *real_wait;

static _Atomic(struct gil *) watched;
static _Atomic uint64_t contradictions;

// The calling thread's own. `asked_at` and `taken_at` are 0 when it does not wait for the GIL or hold it.
static __thread __attribute__((tls_model("initial-exec"))) struct {
    uint64_t asked_at, taken_at, cpu_at;
    uint64_t held, waited, held_cpu, acquisitions;
} mine;

static uint64_t read_clock(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void *find(const char *name) {
    // On x86-64 the plain look-up may give the conditions of before 2003, which have another layout.
    void *found = dlvsym(RTLD_NEXT, name, "GLIBC_2.3.2");
    return found ? found : dlsym(RTLD_NEXT, name);
}

__attribute__((constructor)) static void find_all(void) {
    real_lock = (mutex_call *)find("pthread_mutex_lock");
    real_unlock = (mutex_call *)find("pthread_mutex_unlock");
    real_signal = (signal_call *)find("pthread_cond_signal");
    real_wait = (wait_call *)find("pthread_cond_wait");
}

static struct gil *current(void) {
    return atomic_load_explicit(&watched, memory_order_acquire);
}

int pthread_mutex_lock(pthread_mutex_t *mutex) {
    struct gil *gil = current();
    // Who holds the GIL locks this mutex to drop it.
    if (gil && mutex == &gil->mutex && !mine.taken_at && !mine.asked_at)
        mine.asked_at = read_clock(CLOCK_MONOTONIC);
    if (!real_lock)  // another library's constructor ran before ours
        find_all();
    return real_lock(mutex);
}

int pthread_mutex_unlock(pthread_mutex_t *mutex) {
    struct gil *gil = current();
    // The mutex guards `locked`, so it must say what the signals said. A thread that gives up waiting because the
    // interpreter ends unlocks it, too, and may find anything.
    if (gil && mutex == &gil->mutex && !mine.asked_at && (gil->locked == 1) != (mine.taken_at != 0))
        atomic_fetch_add(&contradictions, 1);
    if (!real_unlock)
        find_all();
    return real_unlock(mutex);
}

int pthread_cond_signal(pthread_cond_t *condition) {
    struct gil *gil = current();
    if (gil && condition == &gil->switch_cond) {
        mine.taken_at = read_clock(CLOCK_MONOTONIC);
        if (mine.asked_at)
            mine.waited += mine.taken_at - mine.asked_at;
        mine.asked_at = 0;
        mine.acquisitions++;
        mine.cpu_at = read_clock(CLOCK_THREAD_CPUTIME_ID);
    } else if (gil && condition == &gil->cond && mine.taken_at) {
        mine.held += read_clock(CLOCK_MONOTONIC) - mine.taken_at;
        mine.taken_at = 0;
        mine.held_cpu += read_clock(CLOCK_THREAD_CPUTIME_ID) - mine.cpu_at;
    }
    if (!real_signal)
        find_all();
    return real_signal(condition);
}

int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex) {
    struct gil *gil = current();
    if (!real_wait)
        find_all();
    if (!gil || condition != &gil->switch_cond)
        return real_wait(condition, mutex);
    uint64_t began = read_clock(CLOCK_MONOTONIC);
    int result = real_wait(condition, mutex);
    mine.waited += read_clock(CLOCK_MONOTONIC) - began;
    return result;
}

// Begins. The calling thread holds this GIL.
void oracle_watch(struct gil *gil) {
    mine.taken_at = read_clock(CLOCK_MONOTONIC);
    mine.cpu_at = read_clock(CLOCK_THREAD_CPUTIME_ID);
    atomic_store_explicit(&watched, gil, memory_order_release);
}

// What the calling thread, which holds the GIL, has done so far.
void oracle_read(struct reading *reading) {
    uint64_t now = read_clock(CLOCK_MONOTONIC), cpu = read_clock(CLOCK_THREAD_CPUTIME_ID);
    reading->now = now;
    reading->held = mine.held + (mine.taken_at ? now - mine.taken_at : 0);
    reading->waited = mine.waited;
    reading->held_cpu = mine.held_cpu + (mine.taken_at ? cpu - mine.cpu_at : 0);
    reading->cpu = cpu;
    reading->acquisitions = mine.acquisitions;
}

// How often `locked` was not what the events before it say; anything but 0 means that this file is wrong.
uint64_t oracle_contradictions(void) {
    return atomic_load(&contradictions);
}
