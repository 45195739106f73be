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
// Nothing is sampled. At each edge both clocks are read, one of them by a system call. How long the thread could have
// run but had no core is a file of the kernel's; it can have grown only where the wall clock went on and the thread's
// clock did not, so it is read only there. Other mutexes and conditions cost a comparison.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

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

// What a thread can be to the GIL. APART is 0: where a thread begins.
enum state { APART, WAITING, HOLDING, STATES };

// Nanoseconds in one state: all of them, those on a core, and those ready to run without one.
struct time {
    uint64_t wall, cpu, delay;
};

struct reading {
    struct time in[STATES];
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
static _Atomic int no_delays;
static pthread_key_t closing;

// A pause of this many nanoseconds is no system call or interrupt: the thread left its core.
enum { PAUSE = 10000 };

// The calling thread's own, up to the last edge.
static __thread __attribute__((tls_model("initial-exec"))) struct {
    enum state state;
    struct time at;
    struct reading reading;
    int delays;  // 1 more than the descriptor of the kernel's file; 0 before the first edge
} mine;

static uint64_t read_clock(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

// The second number: on a core, ready without one, times on a core.
static uint64_t read_delay(void) {
    char text[96];
    ssize_t length = pread(mine.delays - 1, text, sizeof text - 1, 0);
    if (length <= 0) {
        atomic_store(&no_delays, 1);
        return 0;
    }
    text[length] = 0;
    char *end;
    strtoull(text, &end, 10);
    return strtoull(end, NULL, 10);
}

static void close_delays(void *delays) {
    close((int)(intptr_t)delays - 1);
    mine.delays = 0;
}

// Reads all three as of one moment. Each system call is a place where the kernel may give the core to somebody else, so
// what was read before is taken again if that happened. Gives the moment of the first attempt.
static uint64_t read_times(struct time *now, int paused) {
    uint64_t first = read_clock(CLOCK_MONOTONIC);
    now->wall = first;
    for (;;) {
        now->cpu = read_clock(CLOCK_THREAD_CPUTIME_ID);
        if (paused || now->wall - mine.at.wall > now->cpu - mine.at.cpu + PAUSE)
            now->delay = read_delay();
        uint64_t last = read_clock(CLOCK_MONOTONIC);
        if (last - now->wall <= PAUSE)
            return first;
        now->wall = last;
        paused = 1;
    }
}

// An edge: what came before it belongs to the state before it, and what reading takes to the one after it.
static void enter(enum state state) {
    if (!mine.delays) {
        mine.delays = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC) + 1;
        pthread_setspecific(closing, (void *)(intptr_t)mine.delays);
        read_times(&mine.at, 1);
    } else {
        struct time now = mine.at;
        uint64_t first = read_times(&now, 0);
        // Without a core in the middle of reading: after the edge, and no more than the delay has grown.
        uint64_t after = now.wall - first, grown = now.delay - mine.at.delay;
        now.delay -= after < grown ? after : grown;
        now.wall = first;
        struct time *time = &mine.reading.in[mine.state];
        time->wall += now.wall - mine.at.wall;
        time->cpu += now.cpu - mine.at.cpu;
        time->delay += now.delay - mine.at.delay;
        mine.at = now;
    }
    mine.state = state;
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
    if (gil && mutex == &gil->mutex && mine.state == APART)
        enter(WAITING);
    if (!real_lock)  // another library's constructor ran before ours
        find_all();
    return real_lock(mutex);
}

int pthread_mutex_unlock(pthread_mutex_t *mutex) {
    struct gil *gil = current();
    // The mutex guards `locked`, so it must say what the signals said. A thread that gives up waiting because the
    // interpreter ends unlocks it, too, and may find anything.
    if (gil && mutex == &gil->mutex && mine.state != WAITING && (gil->locked == 1) != (mine.state == HOLDING))
        atomic_fetch_add(&contradictions, 1);
    if (!real_unlock)
        find_all();
    return real_unlock(mutex);
}

int pthread_cond_signal(pthread_cond_t *condition) {
    struct gil *gil = current();
    if (gil && condition == &gil->switch_cond) {
        enter(HOLDING);
        mine.reading.acquisitions++;
    } else if (gil && condition == &gil->cond) {
        enter(APART);
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
    enter(WAITING);
    int result = real_wait(condition, mutex);
    enter(APART);
    return result;
}

// Begins. The calling thread holds this GIL.
void oracle_watch(struct gil *gil) {
    pthread_key_create(&closing, close_delays);
    enter(HOLDING);
    atomic_store_explicit(&watched, gil, memory_order_release);
}

// What the calling thread has done so far.
void oracle_read(struct reading *reading) {
    enter(mine.state);
    *reading = mine.reading;
}

// How often `locked` was not what the events before it say; anything but 0 means that this file is wrong.
uint64_t oracle_contradictions(void) {
    return atomic_load(&contradictions);
}

// Whether the kernel does not tell how long a thread had no core.
int oracle_knows_no_delays(void) {
    return atomic_load(&no_delays);
}
