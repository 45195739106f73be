//! The process's one sampler, and how threads register with it. Translates between the interpreter and the
//! meter crate, which knows no Python.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::outward::{Outward as _, import};
use forkright_engine::governor::Class;
use forkright_engine::profile::Shares;
use forkright_meter::clock::RunDelay;
use forkright_meter::{Counts, Evidence, Gil, Sampler, Slot, Unknown, View, clock};
use forkright_shm::pid;
use pyo3::prelude::*;

/// CPU time is read at most this often: reading it costs as much as a small task.
pub(crate) const CPU_GRAIN: Duration = Duration::from_micros(100);

/// The sampler and the process it belongs to: a forked child has no thread to sample with and makes its own.
static SAMPLER: Mutex<Option<(u32, Arc<Sampler>)>> = Mutex::new(None);

pub(crate) fn sampler(py: Python<'_>) -> Arc<Sampler> {
    let pid = pid::current();
    let ours = |sampler: &Option<(u32, Arc<Sampler>)>| match sampler {
        Some((owner, sampler)) if *owner == pid => Some(Arc::clone(sampler)),
        _ => None,
    };
    let known = ours(&SAMPLER.lock().unwrap_or_else(PoisonError::into_inner));
    known.unwrap_or_else(|| {
        // Not under the lock: this runs Python.
        let made = Sampler::new(discover(py));
        let mut sampler = SAMPLER.lock().unwrap_or_else(PoisonError::into_inner);
        ours(&sampler).unwrap_or_else(|| {
            *sampler = Some((pid, Arc::clone(&made)));
            made
        })
    })
}

#[expect(unsafe_code, reason = "the interpreter's structures are looked at from outside")]
pub(crate) fn discover(py: Python<'_>) -> Result<Gil, Unknown> {
    let interval = import(py, "sys")
        .and_then(|sys| sys.invoke_method("getswitchinterval", ()))
        .and_then(|seconds| seconds.extract::<f64>());
    let evidence = Evidence {
        thread_state: thread_state(py),
        switch_interval_us: (interval.unwrap_or(0.005) * 1e6).round() as u64,
        version: hexversion(py).unwrap_or(0),
    };
    // SAFETY: this thread is attached to the main interpreter (the module refuses others), so it holds the
    // GIL, and the evidence was read just now.
    unsafe { Gil::discover(evidence) }
}

/// All of the version, with its patch and release: the interpreter's own layout has it, too.
fn hexversion(py: Python<'_>) -> PyResult<u32> {
    import(py, "sys")?.getattr("hexversion")?.extract()
}

/// The address of this thread's state; compared with, never followed.
#[expect(unsafe_code, reason = "PyO3 has no safe name for it")]
pub(crate) fn thread_state(_attached: Python<'_>) -> usize {
    // SAFETY: the token proves that this thread is attached, so it has a thread state.
    unsafe { pyo3::ffi::PyThreadState_Get() as usize }
}

/// Registers the calling thread.
pub(crate) fn enter(py: Python<'_>) -> Slot {
    sampler(py).enter(thread_state(py))
}

thread_local! {
    /// A calling thread's own registration: made at its first map, as it costs an open file.
    static OWN: RefCell<Option<(u32, Arc<Registered>)>> = const { RefCell::new(None) };
}

/// A registration that outlives one map.
pub(crate) struct Registered(Slot);

impl Registered {
    pub(crate) fn slot(&self) -> &Slot {
        &self.0
    }
}

/// Runs `body` with the calling thread's registration.
pub(crate) fn with_own<T>(py: Python<'_>, body: impl FnOnce(&Slot) -> T) -> T {
    let pid = pid::current();
    let registered = OWN.with_borrow_mut(|own| match own {
        Some((owner, registered)) if *owner == pid => Arc::clone(registered),
        _ => {
            #[expect(clippy::arc_with_non_send_sync, reason = "it stays in its thread")]
            let made = Arc::new(Registered(enter(py)));
            *own = Some((pid, Arc::clone(&made)));
            made
        }
    });
    body(registered.slot())
}

/// Runs `body`, which is not the doing of the task that the calling thread runs, if it runs one.
pub(crate) fn apart<T>(body: impl FnOnce() -> T) -> T {
    let own = OWN.with(|own| own.try_borrow().ok()?.clone());
    match own {
        Some((owner, registered)) if owner == pid::current() => registered.slot().apart(body),
        _ => body(),
    }
}

/// The engine's word for what the meter saw.
pub(crate) fn class(view: &View) -> (Class, f64) {
    let standing = view.standing();
    let class = match standing.class {
        forkright_meter::Class::Held => Class::Held,
        forkright_meter::Class::HeldBlocked => Class::HeldBlocked,
        forkright_meter::Class::OffGil => Class::OffGil,
        forkright_meter::Class::GilWait => Class::GilWait,
        forkright_meter::Class::LockWait => Class::LockWait,
        forkright_meter::Class::Io => Class::Io,
        forkright_meter::Class::Sleep => Class::Sleep,
        // It says nothing of what it would do with a core.
        forkright_meter::Class::Ready | forkright_meter::Class::Unknown => Class::Unknown,
    };
    (class, standing.streak.as_secs_f64())
}

/// What came since `before`.
pub(crate) fn shares_since(before: &Counts, now: &Counts) -> Shares {
    let (before, now) = (before.with_sleep_as_io(), now.with_sleep_as_io());
    let new = |class| now.of(class).saturating_sub(before.of(class));
    Shares {
        held: new(forkright_meter::Class::Held),
        held_blocked: new(forkright_meter::Class::HeldBlocked),
        off_gil: new(forkright_meter::Class::OffGil),
        gil_wait: new(forkright_meter::Class::GilWait),
        lock_wait: new(forkright_meter::Class::LockWait),
        io: new(forkright_meter::Class::Io),
        unknown: new(forkright_meter::Class::Unknown),
    }
}

/// CPU time and run delay of the calling thread, in seconds since it began.
#[derive(Clone, Copy)]
pub(crate) struct Spent {
    pub(crate) cpu: f64,
    pub(crate) delay: f64,
}

thread_local! {
    static DELAY: RefCell<Option<(u32, RunDelay)>> = const { RefCell::new(None) };
}

pub(crate) fn spent() -> Spent {
    let pid = pid::current();
    let delay = DELAY.with_borrow_mut(|delay| {
        if delay.as_ref().is_none_or(|(owner, _)| *owner != pid) {
            *delay = Some((pid, RunDelay::of_this_thread()));
        }
        delay.as_ref()?.1.read()
    });
    Spent { cpu: clock::thread_cpu().as_secs_f64(), delay: delay.unwrap_or_default().as_secs_f64() }
}

/// Whether the kernel tells run delays at all; where it does not, those read above are 0.
pub(crate) fn tells_delay() -> bool {
    static TELLS: OnceLock<bool> = OnceLock::new();
    *TELLS.get_or_init(|| RunDelay::of_this_thread().read().is_some())
}

impl Spent {
    pub(crate) fn since(self, before: Spent) -> Spent {
        Spent { cpu: (self.cpu - before.cpu).max(0.0), delay: (self.delay - before.delay).max(0.0) }
    }
}

/// Measures what a thread's tasks spend without reading the clocks for each small one.
pub(crate) struct Stopwatch {
    read_at: Duration,
    spent: Spent,
}

impl Stopwatch {
    pub(crate) fn start() -> Stopwatch {
        Stopwatch { read_at: clock::monotonic(), spent: spent() }
    }

    /// What was spent since the last lap that read the clocks; nothing if that was only just now.
    pub(crate) fn lap(&mut self, now: Duration) -> Spent {
        if now.saturating_sub(self.read_at) < CPU_GRAIN {
            return Spent { cpu: 0.0, delay: 0.0 };
        }
        let spent = spent();
        let lap = spent.since(self.spent);
        *self = Stopwatch { read_at: now, spent };
        lap
    }
}
