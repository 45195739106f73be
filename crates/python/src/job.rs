//! Which map or executor the call belongs to that a thread runs: what `forkright.worker_state` gives is kept apart by it.
//! 0 stands for whatever has its worker for itself.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use pyo3::prelude::*;

/// What fits beside the kind of a message.
const MOST: u32 = 1 << 23;

thread_local! {
    static CURRENT: Cell<u32> = const { Cell::new(0) };
}

/// A number for a map or an executor whose workers have others' calls, too.
pub(crate) fn new() -> u32 {
    static JOBS: AtomicU32 = AtomicU32::new(0);
    JOBS.fetch_add(1, Relaxed) % (MOST - 1) + 1
}

/// This thread runs calls of that one from now on.
pub(crate) fn set(job: u32) {
    CURRENT.set(job);
}

/// This thread runs calls of that one as long as this lives.
pub(crate) struct Inside(u32);

impl Inside {
    pub(crate) fn begin(job: u32) -> Inside {
        Inside(CURRENT.replace(job))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// The map or executor whose call this thread runs.
#[pyfunction]
pub(crate) fn current_job() -> u32 {
    CURRENT.get()
}
