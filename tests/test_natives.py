"""Calls that compute on threads which Python did not start ask for more of the cores than their own threads show."""

from __future__ import annotations

import ctypes
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import forkright as fr

# A pool of two threads, as libraries have, that compute for so many seconds of CPU each while the caller waits for them
# without the GIL.
SOURCE = r"""
#include <pthread.h>
#include <time.h>
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t told = PTHREAD_COND_INITIALIZER, done = PTHREAD_COND_INITIALIZER;
static double waiting[1024];
static int first, last, over, ended[1024];
static pthread_t threads[2];
static double cpu(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}
static void *serve(void *unused) {
    for (;;) {
        pthread_mutex_lock(&lock);
        while (first == last && !over) pthread_cond_wait(&told, &lock);
        int mine = first == last ? -1 : first++;
        pthread_mutex_unlock(&lock);
        if (mine < 0) return 0;
        for (double end = cpu() + waiting[mine]; cpu() < end;);
        pthread_mutex_lock(&lock);
        ended[mine] = 1;
        pthread_cond_broadcast(&done);
        pthread_mutex_unlock(&lock);
    }
}
void begin(void) {
    over = 0;
    for (int i = 0; i < 2; i++) pthread_create(&threads[i], 0, serve, 0);
}
void end(void) {
    pthread_mutex_lock(&lock);
    over = 1;
    pthread_cond_broadcast(&told);
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], 0);
}
void compute(double limit) {
    pthread_mutex_lock(&lock);
    int mine = last;
    waiting[last++] = limit;
    waiting[last++] = limit;
    pthread_cond_broadcast(&told);
    while (!ended[mine] || !ended[mine + 1]) pthread_cond_wait(&done, &lock);
    pthread_mutex_unlock(&lock);
}
"""
SECONDS = 0.02


@pytest.fixture
def library(tmp_path: Path) -> Iterator[ctypes.CDLL]:
    source, made = tmp_path / "compute.c", tmp_path / "compute.so"
    source.write_text(SOURCE)
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-pthread", "-o", made, source], check=True)
    library = ctypes.CDLL(str(made))
    library.begin()
    yield library
    library.end()


def demand_of(compute: Any) -> dict[str, float]:
    fr.map(compute, [SECONDS] * 40, shared_state=True)
    demand: dict[str, float] = json.loads(fr.report().to_json())["given"]["demand"]
    return demand


def test_what_threads_that_python_did_not_start_compute_is_counted(library: ctypes.CDLL) -> None:
    def compute(seconds: float) -> None:
        library.compute(ctypes.c_double(seconds))

    programs = demand_of(compute)["programs"]
    assert 0.5 * SECONDS < programs < 4 * SECONDS, programs


def test_what_pythons_own_threads_compute_is_not() -> None:
    def compute(seconds: float) -> None:
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass

    assert demand_of(compute)["programs"] == 0.0
