//! How far a map is and on which workers, for whoever shows it while the caller waits. `run` fills it, `forkright._progress`
//! looks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use forkright_engine::plan::Plan;
use pyo3::prelude::*;

use crate::batch::Batch;
use crate::run::{Now, Run};

/// A map seen from outside.
#[pyclass(frozen, module = "forkright._core")]
pub(crate) struct Glimpse(Mutex<Stage>);

/// Items that have ended, and those of them that failed.
type Counts = (usize, usize);

enum Stage {
    Before,
    Under(Arc<Run>, Arc<Batch>),
    /// As it was at its end: nothing of the map lives on because of us.
    Over(Counts, Now),
}

/// Ends the glimpse when the map ends, however it does.
pub(crate) struct Shown<'py> {
    glimpse: Bound<'py, Glimpse>,
    plan: Option<Plan>,
}

impl Shown<'_> {
    /// The map has ended: `plan` did most of its work, and is what is shown from now on.
    pub(crate) fn end(mut self, plan: Option<Plan>) {
        self.plan = plan;
    }
}

impl Glimpse {
    fn lock(&self) -> MutexGuard<'_, Stage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace(&self, stage: Stage) {
        let before = std::mem::replace(&mut *self.lock(), stage);
        // What goes may be the last of the map, and with it Python objects.
        drop(before);
    }

    /// From now on it tells of this map, until what is returned is dropped.
    pub(crate) fn begin<'py>(slf: &Bound<'py, Glimpse>, run: &Arc<Run>, batch: &Arc<Batch>) -> Shown<'py> {
        slf.get().replace(Stage::Under(Arc::clone(run), Arc::clone(batch)));
        Shown { glimpse: slf.clone(), plan: None }
    }
}

#[pymethods]
impl Glimpse {
    #[new]
    fn new() -> Glimpse {
        Glimpse(Mutex::new(Stage::Before))
    }

    /// Items that have ended and those of them that failed; processes, threads in each, and workers that are there.
    fn look(&self, py: Python<'_>) -> (Counts, Now) {
        let (run, batch) = match &*self.lock() {
            Stage::Before => return ((0, 0), (0, 1, 0)),
            Stage::Under(run, batch) => (Arc::clone(run), Arc::clone(batch)),
            Stage::Over(counts, now) => return (*counts, *now),
        };
        (batch.counts(py), run.now())
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        let glimpse = self.glimpse.get();
        let (counts, now) = glimpse.look(self.glimpse.py());
        let differs = |plan: &Plan| (plan.processes(), plan.threads()) != (now.0, now.1);
        let did = self.plan.filter(differs).map(|plan| (plan.processes(), plan.threads(), plan.workers()));
        glimpse.replace(Stage::Over(counts, did.unwrap_or(now)));
    }
}
