//! The thread that looks after a crew when nobody waits: it pumps a backlog, and runs the callbacks and fills
//! the conditions of calls whose answers came by a ring. Started when first needed; a real Python thread.
//!
//! A callback is the user's: it may take its time, or block for ever, and then nobody else's call would end. So a
//! second thread, the *relief*, sleeps while callbacks run, and takes over from one that is stuck in them.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use forkright_engine::crew::{Crew, Duty};
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;

use crate::call::Call;
use crate::errors;
use crate::outward::{Outward as _, import};

/// After this long without work the thread sleeps until it is called.
const BUSY: Duration = Duration::from_secs(4);
const ASLEEP: Duration = Duration::from_secs(3600);
/// A callback that takes longer no longer holds up what others wait for.
const SLOW: Duration = Duration::from_secs(1);

pub(crate) struct Collector {
    pub(crate) crew: Arc<Crew>,
    watched: Mutex<VecDeque<Arc<Call>>>,
    /// Taken back from the workers: to be cancelled.
    abandoned: Mutex<Vec<Arc<Call>>>,
    /// What the user has been warned of.
    told: Mutex<HashSet<String>>,
    started: AtomicBool,
    turn: Mutex<Turn>,
    /// Told when callbacks begin; when there will be none any more; when one of the threads ends.
    began: Condvar,
    over: Condvar,
    ended: Condvar,
}

/// Whose turn it is among the threads that have been collectors, and what that one does.
#[derive(Default)]
struct Turn {
    number: u64,
    /// Since when it runs one call's callbacks.
    calling: Option<Instant>,
    /// Whether there is a collector, and a relief.
    alive: bool,
    has_relief: bool,
    over: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Collector {
    pub(crate) fn new(crew: Arc<Crew>) -> Arc<Collector> {
        Arc::new(Collector {
            crew,
            watched: Mutex::default(),
            abandoned: Mutex::default(),
            told: Mutex::default(),
            started: AtomicBool::new(false),
            turn: Mutex::default(),
            began: Condvar::new(),
            over: Condvar::new(),
            ended: Condvar::new(),
        })
    }

    /// Starts the thread if it has not been.
    pub(crate) fn ensure(self: &Arc<Self>, py: Python<'_>) {
        if self.started.swap(true, AcqRel) {
            return;
        }
        lock(&self.turn).alive = true;
        if let Err(error) = self.start(py, 0, "forkright-collector") {
            self.started.store(false, Release);
            lock(&self.turn).alive = false;
            errors::put_off(py, error);
        }
    }

    fn start(self: &Arc<Self>, py: Python<'_>, number: u64, name: &str) -> PyResult<()> {
        let start = import(py, "forkright._threads")?.getattr("start")?;
        let mut interrupt = None;
        loop {
            let claimed = Arc::new(AtomicBool::new(false));
            let body = CollectorBody { collector: Arc::clone(self), number, claimed: Arc::clone(&claimed) };
            let Err(error) = Py::new(py, body).and_then(|body| start.invoke((body, name))) else { break };
            // A signal's exception may come out of the start of a thread that runs all the same.
            let runs = claimed.swap(true, AcqRel);
            let is_interrupt = error.is_instance_of::<PyKeyboardInterrupt>(py);
            if !runs && !is_interrupt {
                return Err(error);
            }
            interrupt = Some(error);
            if runs {
                break;
            }
        }
        if let Some(error) = interrupt {
            errors::put_off(py, error);
        }
        Ok(())
    }

    /// The answer of a watched call is in: serve its watchers soon. Called from any thread, attached or not.
    pub(crate) fn serve_later(&self, call: Arc<Call>) {
        lock(&self.watched).push_back(call);
        self.crew.call();
    }

    /// The call came back from the workers and will not run.
    pub(crate) fn cancel_later(&self, call: Arc<Call>) {
        lock(&self.abandoned).push(call);
    }

    /// Cancels all calls that came back from the workers, in an attached thread.
    pub(crate) fn settle(&self, py: Python<'_>) {
        let abandoned = std::mem::take(&mut *lock(&self.abandoned));
        for call in abandoned {
            call.cancel_unseen(py);
        }
    }

    /// Serves the calls that wait for a collector, for as long as it is this one's turn.
    fn serve_watched(self: &Arc<Self>, py: Python<'_>, number: u64) -> bool {
        let mut served = false;
        while self.has_turn(number) {
            let Some(call) = lock(&self.watched).pop_front() else { break };
            let calls_back = call.has_callbacks();
            if calls_back {
                self.begin_calling(py, number);
            }
            call.serve_watchers(py);
            if calls_back {
                self.end_calling(number);
            }
            served = true;
        }
        served
    }

    fn has_turn(&self, number: u64) -> bool {
        lock(&self.turn).number == number
    }

    fn begin_calling(self: &Arc<Self>, py: Python<'_>, number: u64) {
        let mut turn = lock(&self.turn);
        turn.calling = Some(Instant::now());
        let has_relief = std::mem::replace(&mut turn.has_relief, true);
        drop(turn);
        if has_relief {
            self.began.notify_one();
        } else if let Err(error) = self.start(py, number + 1, "forkright-relief") {
            // There is none then, until the next callback.
            lock(&self.turn).has_relief = false;
            errors::put_off(py, error);
        }
    }

    fn end_calling(&self, number: u64) {
        let mut turn = lock(&self.turn);
        if turn.number == number {
            turn.calling = None;
        }
    }

    /// Sleeps until the collector is stuck in a callback, and then has its turn. False: there is nothing left to do.
    fn relieve(&self) -> bool {
        let mut turn = lock(&self.turn);
        loop {
            if turn.over {
                turn.has_relief = false;
                self.ended.notify_all();
                return false;
            }
            let spent = match turn.calling {
                None => {
                    turn = self.began.wait(turn).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                Some(since) => since.elapsed(),
            };
            if spent >= SLOW {
                turn.number += 1;
                turn.calling = None;
                turn.has_relief = false;
                self.ended.notify_all();
                return true;
            }
            // Callbacks that come and go meanwhile wake nobody.
            turn = self.over.wait_timeout(turn, SLOW - spent).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Warns of what workers noted about functions, of each thing once. Fails where warnings are errors.
    pub(crate) fn warn(&self, py: Python<'_>) -> PyResult<()> {
        for note in self.crew.notes().take() {
            let is_new = lock(&self.told).insert(note.clone());
            if is_new {
                import(py, "forkright._stale")?.getattr("warn")?.invoke((note,))?;
            }
        }
        Ok(())
    }

    /// Waits for the end of its thread, which was dismissed or whose crew is finished.
    pub(crate) fn join(&self, py: Python<'_>) {
        py.detach(|| {
            let mut turn = lock(&self.turn);
            while turn.alive || turn.has_relief {
                turn = self.ended.wait(turn).unwrap_or_else(PoisonError::into_inner);
            }
        });
    }

    fn has_watched(&self) -> bool {
        !lock(&self.watched).is_empty()
    }

    fn serve(self: &Arc<Self>, py: Python<'_>, number: u64) {
        let mut limit = BUSY;
        loop {
            let duty = py.detach(|| self.crew.serve(limit, &|| self.has_watched()));
            self.settle(py);
            let served = self.serve_watched(py, number);
            if !self.has_turn(number) {
                return;
            }
            match duty {
                Duty::Dismissed if !self.has_watched() => break,
                Duty::Idle if !served => limit = ASLEEP,
                _ => limit = BUSY,
            }
            if self.crew.is_finished() && !self.has_watched() {
                break;
            }
        }
        let mut turn = lock(&self.turn);
        turn.over = true;
        turn.alive = false;
        drop(turn);
        for condition in [&self.began, &self.over, &self.ended] {
            condition.notify_all();
        }
    }
}

/// What the threads run.
#[pyclass(frozen, module = "forkright._core")]
struct CollectorBody {
    collector: Arc<Collector>,
    number: u64,
    /// The thread runs, or whoever started it has given it up.
    claimed: Arc<AtomicBool>,
}

#[pymethods]
impl CollectorBody {
    fn __call__(&self, py: Python<'_>) {
        if self.claimed.swap(true, AcqRel) {
            return;
        }
        if self.number == 0 || py.detach(|| self.collector.relieve()) {
            self.collector.serve(py, self.number);
        }
    }
}
