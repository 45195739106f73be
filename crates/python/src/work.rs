//! What a governor can place: the items of a map, or the submitted calls of one function. Each task is given out
//! exactly once, to a thread of this process or to a message for a worker process.

use std::sync::Arc;

use forkright_engine::plan::Plan;
use forkright_engine::queue::Source;
use pyo3::prelude::*;

use crate::hands::Job;
use crate::progress::Progress;
use crate::recruit::Staff;

/// A task that stands for the others.
pub(crate) struct Sample<'py> {
    pub(crate) function: Bound<'py, PyAny>,
    /// A tuple.
    pub(crate) arguments: Bound<'py, PyAny>,
    /// What it gave, if it has ended and given anything.
    pub(crate) result: Option<Bound<'py, PyAny>>,
}

pub(crate) trait Work: Send + Sync {
    fn progress(&self) -> &Progress;

    /// A task to try with whether the work may leave; `None` if nothing is under way.
    fn sample<'py>(&self, py: Python<'py>) -> PyResult<Option<Sample<'py>>>;

    /// Tasks nobody has.
    fn pending(&self) -> usize;

    /// Whether nothing runs and nothing will.
    fn is_over(&self) -> bool;

    /// Answers that nobody has looked at.
    fn has_arrivals(&self) -> bool;

    /// The next work for a thread of this process.
    fn take_here(self: Arc<Self>) -> Option<Job>;

    /// Whether one message more for so many workers is better than a larger one later.
    fn may_send(&self, workers: u32) -> bool;

    /// Pickles the next message and hands it to the crew. False: nothing was left.
    fn send_one(self: Arc<Self>, py: Python<'_>, staff: &Arc<Staff>, plan: Plan) -> PyResult<bool>;

    /// Unpickles what arrived; whether anything had.
    fn settle(&self, py: Python<'_>) -> bool;

    /// No task starts from now on.
    fn stop(&self, py: Python<'_>);

    /// Whether that is so.
    fn is_stopped(&self) -> bool;
}

/// Gives work to the threads of this process.
pub(crate) struct HereSource(pub(crate) Arc<dyn Work>);

impl Source<Job> for HereSource {
    fn take(&self) -> Option<Job> {
        Arc::clone(&self.0).take_here()
    }

    fn is_exhausted(&self) -> bool {
        self.0.pending() == 0
    }
}
