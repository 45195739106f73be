//! The thread that looks after a crew when nobody waits: it pumps a backlog, and runs the callbacks and fills
//! the conditions of calls whose answers came by a ring. Started when first needed; a real Python thread.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use forkright_engine::crew::{Crew, Duty};
use pyo3::prelude::*;

use crate::call::Call;

/// After this long without work the thread gives idle memory back and then sleeps until it is called.
const BUSY: Duration = Duration::from_secs(4);
const ASLEEP: Duration = Duration::from_secs(3600);

pub(crate) struct Collector {
    pub(crate) crew: Arc<Crew>,
    watched: Mutex<Vec<Arc<Call>>>,
    /// Taken back from the workers: to be cancelled.
    abandoned: Mutex<Vec<Arc<Call>>>,
    /// What the user has been warned of.
    told: Mutex<HashSet<String>>,
    started: AtomicBool,
    alive: AtomicBool,
}

impl Collector {
    pub(crate) fn new(crew: Arc<Crew>) -> Arc<Collector> {
        Arc::new(Collector {
            crew,
            watched: Mutex::default(),
            abandoned: Mutex::default(),
            told: Mutex::default(),
            started: AtomicBool::new(false),
            alive: AtomicBool::new(false),
        })
    }

    /// Starts the thread if it has not been.
    pub(crate) fn ensure(self: &Arc<Self>, py: Python<'_>) {
        if self.started.swap(true, AcqRel) {
            return;
        }
        let begin = || -> PyResult<()> {
            self.alive.store(true, Release);
            let body = Py::new(py, CollectorBody(Arc::clone(self)))?;
            py.import("forkright._threads")?.getattr("start")?.call1((body, "forkright-collector"))?;
            Ok(())
        };
        if let Err(error) = begin() {
            self.started.store(false, Release);
            self.alive.store(false, Release);
            error.write_unraisable(py, None);
        }
    }

    /// The answer of a watched call is in: serve its watchers soon. Called from any thread, attached or not.
    pub(crate) fn serve_later(&self, call: Arc<Call>) {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        self.crew.call();
    }

    /// The call came back from the workers and will not run.
    pub(crate) fn cancel_later(&self, call: Arc<Call>) {
        self.abandoned.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }

    /// Serves all calls that wait for an attached thread.
    pub(crate) fn settle(&self, py: Python<'_>) -> bool {
        let abandoned = std::mem::take(&mut *self.abandoned.lock().unwrap_or_else(PoisonError::into_inner));
        for call in abandoned {
            call.cancel_unseen(py);
        }
        let watched = std::mem::take(&mut *self.watched.lock().unwrap_or_else(PoisonError::into_inner));
        let served = !watched.is_empty();
        for call in watched {
            call.serve_watchers(py);
        }
        served
    }

    /// Warns of what workers noted about functions, of each thing once. Fails where warnings are errors.
    pub(crate) fn warn(&self, py: Python<'_>) -> PyResult<()> {
        for note in self.crew.notes().take() {
            let is_new = self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(note.clone());
            if is_new {
                py.import("forkright._stale")?.getattr("warn")?.call1((note,))?;
            }
        }
        Ok(())
    }

    /// Waits for the end of its thread, which was dismissed or whose crew is finished.
    pub(crate) fn join(&self, py: Python<'_>) {
        while self.alive.load(Acquire) {
            py.detach(|| std::thread::sleep(Duration::from_millis(1)));
        }
    }

    fn has_watched(&self) -> bool {
        !self.watched.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn serve(&self, py: Python<'_>) {
        let mut limit = BUSY;
        loop {
            let duty = py.detach(|| self.crew.serve(limit, &|| self.has_watched()));
            let served = self.settle(py);
            match duty {
                Duty::Dismissed if !self.has_watched() => return,
                Duty::Idle if !served => {
                    py.detach(|| self.crew.store().trim());
                    limit = ASLEEP;
                }
                _ => limit = BUSY,
            }
            if self.crew.is_finished() && !self.has_watched() {
                return;
            }
        }
    }
}

/// What the thread runs.
#[pyclass(frozen, module = "forkright._core")]
struct CollectorBody(Arc<Collector>);

#[pymethods]
impl CollectorBody {
    fn __call__(&self, py: Python<'_>) {
        self.0.serve(py);
        self.0.alive.store(false, Release);
    }
}
