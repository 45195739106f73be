//! The calls of one function submitted to an executor that chooses: they wait here until a thread of this
//! process or a message for a worker process takes them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use forkright_engine::crew::{Delivery, Parcel, Recipient};
use forkright_engine::plan::Plan;
use forkright_engine::state::Start;
use forkright_meter::{Slot, clock};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::call::{Call, Carrier};
use crate::codec;
use crate::functions::Described;
use crate::hands::Job;
use crate::pool;
use crate::progress::{Progress, Sent};
use crate::recruit::Staff;
use crate::work::Work;

/// One submitted call.
pub(crate) struct Submitted {
    pub(crate) call: Arc<Call>,
    pub(crate) arguments: Py<PyTuple>,
    pub(crate) options: Option<Py<PyDict>>,
}

pub(crate) struct Submissions {
    progress: Progress,
    function: Py<PyAny>,
    waiting: Mutex<Waiting>,
    /// Calls that were taken and are not over.
    out: AtomicUsize,
}

#[derive(Default)]
struct Waiting {
    calls: VecDeque<Submitted>,
    /// The arguments of the last call, kept for the guard to look at.
    sample: Option<Py<PyTuple>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Submissions {
    pub(crate) fn new(function: &Bound<'_, PyAny>, name: Arc<str>) -> Arc<Submissions> {
        Arc::new(Submissions {
            progress: Progress::new(name),
            function: function.clone().unbind(),
            waiting: Mutex::default(),
            out: AtomicUsize::new(0),
        })
    }

    pub(crate) fn push(&self, py: Python<'_>, submitted: Submitted) {
        let mut waiting = lock(&self.waiting);
        waiting.sample.get_or_insert_with(|| submitted.arguments.clone_ref(py));
        waiting.calls.push_back(submitted);
        drop(waiting);
        self.progress.word.nudge();
    }

    fn take(&self) -> Option<Submitted> {
        let mut waiting = lock(&self.waiting);
        let taken = waiting.calls.pop_front()?;
        self.out.fetch_add(1, AcqRel);
        Some(taken)
    }

    fn give_back(&self) {
        self.out.fetch_sub(1, AcqRel);
        self.progress.word.nudge();
    }

    /// Takes out all calls nobody has.
    pub(crate) fn drain(&self) -> VecDeque<Submitted> {
        std::mem::take(&mut lock(&self.waiting).calls)
    }

    /// Runs a call in this thread.
    pub(crate) fn run_here(&self, py: Python<'_>, submitted: Submitted, slot: &Slot) {
        let Submitted { call, arguments, options } = submitted;
        if call.state.start() != Start::Go {
            self.progress.drop_out(1);
            return self.give_back();
        }
        let stint = self.progress.begin(slot);
        let function = self.function.bind(py);
        let outcome = function.call(arguments.bind(py), options.as_ref().map(|options| options.bind(py)));
        let cost = self.progress.end(slot, stint, 1, u32::from(outcome.is_err()));
        call.set_cost(cost);
        drop((arguments, options));
        self.give_back();
        call.finish(py, outcome.map(Bound::unbind).map_err(|error| error.into_value(py).into_any()));
    }
}

impl Work for Submissions {
    fn progress(&self) -> &Progress {
        &self.progress
    }

    fn function<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.function.bind(py).clone()
    }

    fn sample<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let sample = lock(&self.waiting).sample.as_ref().map(|sample| sample.clone_ref(py));
        Ok(sample.map_or_else(|| PyTuple::empty(py), |sample| sample.into_bound(py)).into_any())
    }

    fn pending(&self) -> usize {
        lock(&self.waiting).calls.len()
    }

    fn is_over(&self) -> bool {
        self.pending() == 0 && self.out.load(Acquire) == 0
    }

    fn has_arrivals(&self) -> bool {
        false
    }

    fn take_here(self: Arc<Self>) -> Option<Job> {
        let submitted = self.take()?;
        Some(Job::Submitted(self, submitted))
    }

    fn send_one(self: Arc<Self>, py: Python<'_>, staff: &Staff, function: &Described, plan: Plan) -> PyResult<bool> {
        let Some(submitted) = self.take() else { return Ok(false) };
        let began = clock::monotonic();
        let (arguments, options) = (submitted.arguments.bind(py), submitted.options.as_ref().map(|o| o.bind(py)));
        let name = || format!("the arguments of `{}`", self.progress.name);
        let (kind, encoded) = pool::encode_arguments(arguments, options, staff.crew().store(), name);
        let codec::Encoded { payload, leases } = match encoded {
            Ok(encoded) => encoded,
            Err(error) => {
                // As on a thread it would have run, it must not fail for want of a pickle: it runs here.
                drop(error);
                pool::run_in_place(py, self.function.bind(py), &submitted);
                self.progress.drop_out(1);
                self.give_back();
                return Ok(true);
            }
        };
        let seconds = clock::monotonic().saturating_sub(began).as_secs_f64();
        let sent = Sent { seconds, bytes: payload.bytes() as f64, threads: plan.threads() };
        self.progress.send(1, sent);
        let id = staff.crew().next_id();
        let collector = Arc::clone(&staff.collector);
        submitted.call.entrust(py, Carrier { collector, id, name: Arc::clone(&self.progress.name) });
        let recipient = Arc::new(CallOut { work: Arc::clone(&self), call: submitted.call, sent });
        let function = Some(Arc::clone(&function.blob));
        let parcel = Parcel { id, kind, function, flags: None, payload, leases, tasks: 1, recipient };
        let (wanted, backlog) = staff.crew().submit(parcel);
        staff.hire(py, wanted)?;
        if backlog {
            staff.collector.ensure(py);
        }
        Ok(true)
    }

    fn settle(&self, _py: Python<'_>) -> bool {
        false
    }

    fn stop(&self) {}
}

/// A call on its way through a worker process: the call gets the answer, the work learns from it.
struct CallOut {
    work: Arc<Submissions>,
    call: Arc<Call>,
    sent: Sent,
}

impl Recipient for CallOut {
    fn send(&self) -> bool {
        let goes = self.call.send();
        if !goes {
            self.work.progress.arrive(1);
            self.work.give_back();
        }
        goes
    }

    fn recall(&self) {
        self.call.recall();
    }

    fn abandon(self: Arc<Self>) {
        self.work.progress.arrive(1);
        self.work.give_back();
        Arc::clone(&self.call).abandon();
    }

    fn deliver(self: Arc<Self>, delivery: Delivery) {
        if let Delivery::Outcome { cost, pid, parcel, .. } = &delivery {
            self.work.progress.learn(cost, *pid, self.sent, None, parcel.bytes() as f64);
        }
        self.work.progress.arrive(1);
        self.work.give_back();
        Arc::clone(&self.call).deliver(delivery);
    }
}
