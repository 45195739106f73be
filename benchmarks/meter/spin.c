// Computes for a while: called through ctypes.CDLL without the GIL, through ctypes.PyDLL with it.

#include <time.h>

static long long used(void) {
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return time.tv_sec * 1000000000ll + time.tv_nsec;
}

// In CPU time, so that what a busy machine takes away from one call is not taken off its share.
void spin(long microseconds) {
    long long end = used() + microseconds * 1000ll;
    while (used() < end) {
    }
}
