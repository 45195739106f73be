//! A pause of the main thread: it gives up the GIL between two bytecodes and waits, so that another has it for itself.
//!
//! To prepare a move some thirty modules are imported. Beside a task that holds the GIL each file they open may cost a
//! turn, and 20 ms of work took 100 to 150.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::process;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use forkright_meter::clock;
use pyo3::prelude::*;

use crate::meter;

/// The main thread goes on after so long in any case.
const LONGEST: Duration = Duration::from_millis(100);

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
        let rest = Arc::new(Rest { process: process::id(), over: Mutex::new(false), ended: Condvar::new() });
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

thread_local! {
    static TAKEN: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// For how long the calling thread has paused since it began.
pub(crate) fn taken() -> Duration {
    TAKEN.get()
}

/// Called by the interpreter in the main thread, which holds the GIL.
#[expect(unsafe_code, reason = "the other half of `Pause::ask`")]
extern "C" fn pause(wish: *mut c_void) -> c_int {
    // SAFETY: it is the reference that `Pause::ask` gave away, and the interpreter calls once for each.
    let rest = unsafe { Arc::from_raw(wish.cast_const().cast::<Rest>()) };
    // A forked child has the wishes of its parent, and nobody to end them.
    if rest.process == process::id() {
        Python::attach(|py| meter::apart(|| py.detach(|| rest.wait())));
    }
    0
}

impl Rest {
    fn wait(&self) {
        let began = clock::monotonic();
        let over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        // Over or out of time, it goes on.
        drop(self.ended.wait_timeout_while(over, LONGEST, |over| !*over));
        TAKEN.set(TAKEN.get() + clock::monotonic().saturating_sub(began));
    }
}
