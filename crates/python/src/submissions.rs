//! The calls of one function submitted to an executor that chooses: they wait here until a thread of this
//! process or a message for a worker process takes them.

use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use forkright_engine::crew::{Delivery, Outcome, Parcel, Recipient, Terms};
use forkright_engine::plan::Plan;
use forkright_engine::ranked::Ranked;
use forkright_engine::state::Start;
use forkright_meter::{Slot, clock};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::call::{Call, Carrier};
use crate::codec;
use crate::functions::Differing;
use crate::hands::Job;
use crate::outward::Outward as _;
use crate::pool::{self, Prepared};
use crate::progress::{Progress, Sent};
use crate::recruit::Staff;
use crate::work::{Sample, Work};

/// One submitted call.
pub(crate) struct Submitted {
    pub(crate) call: Arc<Call>,
    pub(crate) function: Py<PyAny>,
    pub(crate) arguments: Py<PyTuple>,
    pub(crate) options: Option<Py<PyDict>>,
    /// Of those that wait, what has a higher one is taken first.
    pub(crate) priority: i32,
}

pub(crate) struct Submissions {
    progress: Progress,
    differing: Differing,
    /// The executor, for workers that others have, too.
    job: u32,
    waiting: Mutex<Waiting>,
    /// Calls that were taken and are not over.
    out: AtomicUsize,
}

#[derive(Default)]
struct Waiting {
    calls: Ranked<Submitted>,
    /// A call for the guard to look at: the first since nothing was under way.
    sample: Option<(Py<PyAny>, Py<PyTuple>)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Submissions {
    pub(crate) fn new(name: Arc<str>, differing: Differing, job: u32) -> Arc<Submissions> {
        Arc::new(Submissions {
            progress: Progress::new(name),
            differing,
            job,
            waiting: Mutex::default(),
            out: AtomicUsize::new(0),
        })
    }

    pub(crate) fn push(&self, py: Python<'_>, submitted: Submitted) {
        let mut waiting = lock(&self.waiting);
        waiting
            .sample
            .get_or_insert_with(|| (submitted.function.clone_ref(py), submitted.arguments.clone_ref(py)));
        waiting.calls.push(submitted.priority, submitted);
        drop(waiting);
        self.progress.word.nudge();
    }

    fn take(&self) -> Option<Submitted> {
        let mut waiting = lock(&self.waiting);
        let taken = waiting.calls.pop()?;
        // Under the lock, so that a call is always seen here or there.
        self.out.fetch_add(1, AcqRel);
        Some(taken)
    }

    fn give_back(&self) {
        let sample = {
            let mut waiting = lock(&self.waiting);
            let idle = self.out.fetch_sub(1, AcqRel) == 1 && waiting.calls.is_empty();
            // Nothing of a call may live on because of us.
            if idle { waiting.sample.take() } else { None }
        };
        drop(sample);
        self.progress.word.nudge();
    }

    /// A worker would not run this one: it is the next to run here.
    fn take_back(&self, submitted: Submitted, reason: String) {
        self.progress.refuse(1, reason);
        let mut waiting = lock(&self.waiting);
        waiting.calls.restore(submitted.priority, submitted);
        self.out.fetch_sub(1, AcqRel);
        drop(waiting);
        self.progress.word.nudge();
    }

    /// Takes out all calls nobody has.
    pub(crate) fn drain(&self) -> Vec<Submitted> {
        lock(&self.waiting).calls.drain().collect()
    }

    /// A call can not run at all.
    pub(crate) fn refuse(&self, py: Python<'_>, submitted: Submitted, error: Py<PyAny>) {
        let Submitted { call, .. } = submitted;
        self.progress.drop_out(1);
        self.give_back();
        call.finish(py, Err(error));
    }

    /// Runs a call in this thread.
    pub(crate) fn run_here(&self, py: Python<'_>, submitted: Submitted, slot: &Slot) {
        let Submitted { call, function, arguments, options, .. } = submitted;
        if call.state.start() != Start::Go {
            self.progress.drop_out(1);
            return self.give_back();
        }
        let mut stint = self.progress.begin(slot, 1);
        let outcome = function
            .bind(py)
            .invoke_with(arguments.bind(py), options.as_ref().map(|options| options.bind(py)));
        self.progress.count(&mut stint, 1, u32::from(outcome.is_err()));
        let cost = self.progress.end(slot, stint);
        call.set_cost(&cost);
        drop((function, arguments, options));
        self.give_back();
        call.finish(py, outcome.map(Bound::unbind).map_err(|error| error.into_value(py).into_any()));
        if let Some(carrier) = call.carrier() {
            // A worker refused it, and whoever waits for it may listen to the workers.
            carrier.collector.crew.call();
        }
    }
}

impl Work for Submissions {
    fn progress(&self) -> &Progress {
        &self.progress
    }

    fn sample<'py>(&self, py: Python<'py>) -> PyResult<Option<Sample<'py>>> {
        let waiting = lock(&self.waiting);
        Ok(waiting.sample.as_ref().map(|(function, arguments)| Sample {
            function: function.bind(py).clone(),
            arguments: arguments.bind(py).clone().into_any(),
            // Whoever submitted it has its result.
            result: None,
        }))
    }

    fn pending(&self) -> usize {
        lock(&self.waiting).calls.len()
    }

    fn is_over(&self) -> bool {
        let waiting = lock(&self.waiting);
        waiting.calls.is_empty() && self.out.load(Acquire) == 0
    }

    fn has_arrivals(&self) -> bool {
        false
    }

    fn take_here(self: Arc<Self>) -> Option<Job> {
        let submitted = self.take()?;
        Some(Job::Submitted(self, submitted))
    }

    fn may_send(&self, _workers: u32) -> bool {
        // Each call travels by itself.
        true
    }

    fn send_one(self: Arc<Self>, py: Python<'_>, staff: &Arc<Staff>, plan: Plan) -> PyResult<bool> {
        if self.progress.refusal().is_some() {
            return Ok(false);
        }
        let Some(submitted) = self.take() else { return Ok(false) };
        let began = clock::monotonic();
        let terms = Terms { priority: submitted.priority, ..Terms::default() };
        let Submitted { call, function, arguments, options, .. } = &submitted;
        let options = options.as_ref().map(|options| options.bind(py));
        let (name, prepared) =
            pool::prepare(staff, function.bind(py), arguments.bind(py), options, None, self.differing);
        let Ok(Prepared { kind, function, encoded, checked }) = prepared else {
            // As on a thread it would have run, it must not fail for want of a pickle: it runs here.
            pool::run_in_place(py, &submitted);
            self.progress.drop_out(1);
            drop(submitted);
            self.give_back();
            return Ok(true);
        };
        let codec::Encoded { payload, leases } = encoded;
        let seconds = clock::monotonic().saturating_sub(began).as_secs_f64();
        let sent = Sent { seconds, bytes: payload.bytes() as f64, threads: plan.threads() };
        self.progress.send(1, sent);
        let id = staff.crew().next_id();
        call.entrust(py, Carrier { collector: Arc::clone(&staff.collector), id, name, entry: None });
        let call = Arc::clone(call);
        // As long as no worker has ever been ready, none may come.
        let kept = Mutex::new((checked || staff.crew().ready() == 0).then_some(submitted));
        let (owner, job) = (self.progress.owner, self.job);
        let recipient = Arc::new(CallOut { work: Arc::clone(&self), call, sent, kept });
        let parcel = Parcel {
            id,
            owner,
            job,
            kind,
            function,
            flags: None,
            payload,
            leases,
            tasks: 1,
            terms,
            recipient,
        };
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

    fn stop(&self, _py: Python<'_>) {}

    fn is_stopped(&self) -> bool {
        false
    }
}

/// A call on its way through a worker process: the call gets the answer, the work learns from it.
struct CallOut {
    work: Arc<Submissions>,
    call: Arc<Call>,
    sent: Sent,
    /// To be run here if the worker refuses, or none can be had.
    kept: Mutex<Option<Submitted>>,
}

impl Recipient for CallOut {
    fn send(&self) -> bool {
        let goes = self.call.send();
        if !goes {
            self.work.progress.arrive(1, 1);
            self.work.give_back();
        }
        goes
    }

    fn recall(&self) {
        self.call.recall();
    }

    fn abandon(self: Arc<Self>) {
        self.work.progress.arrive(1, 1);
        self.work.give_back();
        Arc::clone(&self.call).abandon();
    }

    fn deliver(self: Arc<Self>, delivery: Delivery) {
        let kept = lock(&self.kept).take();
        let reason = match &delivery {
            Delivery::Outcome { kind: Outcome::Refused, parcel, .. } => Some(parcel.words()),
            Delivery::Broken(reason) => reason.words().map(str::to_owned),
            _ => None,
        };
        if let (Some(reason), Some(submitted)) = (reason, kept) {
            self.call.recall();
            return self.work.take_back(submitted, reason);
        }
        if let Delivery::Outcome { cost, pid, parcel, .. } = &delivery {
            self.work.progress.learn(cost, *pid, self.sent, None, parcel.bytes() as f64);
        }
        self.work.progress.arrive(1, 1);
        self.work.give_back();
        Arc::clone(&self.call).deliver(delivery);
    }
}
