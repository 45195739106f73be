//! CPU time that goes to threads which Python did not start, while tasks run: those of BLAS, Polars and the like need the
//! cores that more tasks at once would be given.
//!
//! Which threads Python started is asked only when the process uses much more CPU than its tasks do: that takes the GIL.
//! Threads that have ended by the next look are missed: libraries keep theirs.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use forkright_meter::clock;
use forkright_meter::native::Snapshot;

/// Looks are so far apart.
const PAUSE: Duration = Duration::from_millis(20);
/// Less than this share of the time is not worth a word: the meter, and what prepares a move.
const LEAST: f64 = 0.2;

#[derive(Default)]
pub(crate) struct Natives(Mutex<State>);

#[derive(Default)]
struct State {
    last: Option<Look>,
    asked: bool,
    known: Option<Known>,
    cpu: Duration,
}

/// What had been used at one moment: by the process, by the meter, and by each thread that runs tasks.
struct Look {
    at: Duration,
    process: Duration,
    meter: Duration,
    tasks: HashMap<i32, Duration>,
}

/// Which threads Python started, and what all had used when that was asked.
struct Known {
    at: Duration,
    before: Snapshot,
    python: Vec<i32>,
}

impl Natives {
    /// Looks, if it is time to, on the meter's thread; `tids` are the threads that run tasks. Whether somebody should tell
    /// which threads Python started.
    pub(crate) fn look(&self, now: Duration, tids: &[i32]) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.as_ref().is_some_and(|last| now.saturating_sub(last.at) < PAUSE) {
            return false;
        }
        let tasks = tids.iter().filter_map(|tid| Some((*tid, clock::thread_cpu_of(*tid)?))).collect();
        let (process, meter) = (clock::process_cpu(), clock::thread_cpu());
        let look = Look { at: now, process, meter, tasks };
        let unknown = state.last.as_ref().map_or(0.0, |last| look.unknown_since(last));
        state.last = Some(look);
        if let Some(known) = &state.known {
            state.cpu = known.hidden(tids);
            return false;
        }
        let asks = !state.asked && unknown > LEAST;
        state.asked |= asks;
        asks
    }

    /// These are the threads that Python started.
    pub(crate) fn know(&self, python: Vec<i32>) {
        let known = Known { at: clock::monotonic(), before: Snapshot::take(), python };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).known = Some(known);
    }

    /// What they have used since `began`, if it was all the time as it is since that is known.
    pub(crate) fn cpu(&self, began: Duration, now: Duration) -> Duration {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = &state.known else { return Duration::ZERO };
        let (whole, seen) = (now.saturating_sub(began), now.saturating_sub(known.at));
        if state.cpu.as_secs_f64() < LEAST * seen.as_secs_f64() {
            return Duration::ZERO;
        }
        state.cpu.mul_f64(whole.as_secs_f64() / seen.max(PAUSE).as_secs_f64())
    }
}

impl Look {
    /// The cores' worth of time since an earlier look that went neither to tasks nor to the meter.
    fn unknown_since(&self, last: &Look) -> f64 {
        let of_task = |(tid, cpu): (&i32, &Duration)| cpu.saturating_sub(*last.tasks.get(tid).unwrap_or(cpu));
        let tasks: Duration = self.tasks.iter().map(of_task).sum();
        let ours = tasks + self.meter.saturating_sub(last.meter);
        let used = self.process.saturating_sub(last.process).saturating_sub(ours);
        used.as_secs_f64() / self.at.saturating_sub(last.at).as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

impl Known {
    fn hidden(&self, tids: &[i32]) -> Duration {
        let known = [self.python.as_slice(), tids, &[clock::current_tid()]].concat();
        Snapshot::take().since(&self.before).of_others(&known)
    }
}
