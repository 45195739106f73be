//! A pause of the main thread: it gives up the GIL between two bytecodes and waits, so that another has it for itself.
//!
//! To prepare a move some thirty modules are imported. Beside a task that holds the GIL each file they open may cost a
//! turn, and 20 ms of work took 100 to 150.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use forkright_meter::clock;
use forkright_shm::pid;
use pyo3::prelude::*;

use crate::meter;
use crate::outward::{Outward as _, import};

/// The main thread goes on after so long in any case.
const LONGEST: Duration = Duration::from_millis(100);

/// The file of the frames that import.
const IMPORTS: &str = "<frozen importlib._bootstrap>";

/// A pause asked for; dropping it ends it.
pub(crate) struct Pause(Arc<Rest>);

struct Rest {
    process: u32,
    over: Mutex<bool>,
    ended: Condvar,
}

impl Pause {
    /// Asks the main thread to pause as soon as it comes to its next bytecode. May be called without the GIL; none
    /// where the interpreter has no room for the wish.
    #[expect(unsafe_code, reason = "PyO3 has no safe name for it")]
    pub(crate) fn ask() -> Option<Pause> {
        let rest = Arc::new(Rest { process: pid::current(), over: Mutex::new(false), ended: Condvar::new() });
        let wish = Arc::into_raw(Arc::clone(&rest));
        // SAFETY: any thread may call it, with or without the GIL. `pause` has the signature it takes, and gets the
        // reference that was made for it here.
        if unsafe { pyo3::ffi::Py_AddPendingCall(Some(pause), wish.cast_mut().cast()) } != 0 {
            // SAFETY: the interpreter did not take it, so the reference is still ours, and nobody else has it.
            drop(unsafe { Arc::from_raw(wish) });
            return None;
        }
        Some(Pause(rest))
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        *self.0.over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.ended.notify_all();
    }
}

/// For how long the main thread has paused, pauses that are over, in nanoseconds; and since when it pauses now, by the
/// monotonic clock, 0 if it does not.
static TAKEN: AtomicU64 = AtomicU64::new(0);
static SINCE: AtomicU64 = AtomicU64::new(0);

/// For how long a thread of this process has paused until `now`, in nanoseconds of the monotonic clock.
pub(crate) fn taken(tid: i32, now: u64) -> u64 {
    if tid.cast_unsigned() != pid::current() {
        return 0;
    }
    let since = SINCE.load(Acquire);
    TAKEN.load(Acquire) + if since > 0 { now.saturating_sub(since) } else { 0 }
}

/// Called by the interpreter in the main thread, which holds the GIL.
#[expect(unsafe_code, reason = "the other half of `Pause::ask`")]
extern "C" fn pause(wish: *mut c_void) -> c_int {
    // SAFETY: it is the reference that `Pause::ask` gave away, and the interpreter calls once for each.
    let rest = unsafe { Arc::from_raw(wish.cast_const().cast::<Rest>()) };
    // A forked child has the wishes of its parent, and nobody to end them.
    if rest.process == pid::current() {
        Python::attach(|py| {
            if !own_frame(py).is_ok_and(is_importing) {
                meter::apart(|| py.detach(|| rest.wait()));
            }
        });
    }
    0
}

/// The frame of the calling thread.
fn own_frame(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    import(py, "sys")?.invoke_method("_getframe", ())
}

/// Whether the main thread is in an import. It holds the locks of modules then, which others may be about to import.
pub(crate) fn main_is_importing(py: Python<'_>) -> PyResult<bool> {
    let main = import(py, "threading")?.invoke_method("main_thread", ())?.getattr("ident")?;
    let frame = import(py, "sys")?.invoke_method("_current_frames", ())?.get_item(main)?;
    Ok(is_importing(frame))
}

fn is_importing(frame: Bound<'_, PyAny>) -> bool {
    let mut frame = Some(frame);
    while let Some(here) = frame.filter(|here| !here.is_none()) {
        let file = here.getattr("f_code").and_then(|code| code.getattr("co_filename"));
        if file.is_ok_and(|file| file.str().is_ok_and(|file| file == IMPORTS)) {
            return true;
        }
        frame = here.getattr("f_back").ok();
    }
    false
}

impl Rest {
    fn wait(&self) {
        let began = clock::monotonic();
        SINCE.store((began.as_nanos() as u64).max(1), Release);
        let over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        // Over or out of time, it goes on.
        drop(self.ended.wait_timeout_while(over, LONGEST, |over| !*over));
        let took = clock::monotonic().saturating_sub(began);
        SINCE.store(0, Release);
        TAKEN.fetch_add(took.as_nanos() as u64, Release);
    }
}
