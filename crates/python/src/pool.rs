//! The native half of `forkright.Executor`: takes calls and hands them to threads or to worker processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::time::{Duration, Instant};

use forkright_engine::crew::{Blob, Limits, Parcel, Renewal, Terms, Use};
use forkright_engine::frame::down;
use forkright_engine::plan::Plan;
use forkright_engine::queue::LaneId;
use forkright_engine::state::{Start, Wait};
use forkright_shm::pid;
use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use rustix::process::Signal;

use crate::call::{Call, Carrier, SIGNALS};
use crate::choosing::Choosing;
use crate::codec;
use crate::functions::{Described, Differing, Look};
use crate::future::face;
use crate::hands::{Hands, Job};
use crate::outward::Outward as _;
use crate::recruit::{Initializer, Manner, Staff};
use crate::report;
use crate::run::Now;
use crate::submissions::Submitted;

#[pyclass(frozen, weakref, module = "forkright._core")]
pub(crate) struct Pool {
    route: Route,
    plan: Option<Plan>,
    differing: Differing,
    began: Instant,
    shut: AtomicBool,
    /// The process that made it: a forked child has none of its workers.
    owner: u32,
}

/// Nobody shares the crew of a pool.
const OWNER: u32 = 0;

enum Route {
    /// In the thread that submits.
    Serial,
    Threads {
        hands: Arc<Hands>,
        lane: LaneId,
    },
    Processes(Arc<Staff>),
    /// It is chosen, for each function, as its calls come.
    Auto(Choosing),
}

#[pymethods]
impl Pool {
    /// `plan` is (processes, threads), or `None` for the choice to be made, among at most `workers`. `serial` tells the
    /// submitting thread from one thread of the pool.
    #[new]
    #[pyo3(signature = (plan, serial, workers, prefix, initializer, initargs, pickled_initializer, tasks_per_worker, memory_per_worker, shared_state))]
    #[expect(clippy::too_many_arguments, reason = "called in one place, by forkright._executor")]
    fn new(
        plan: Option<(u32, u32)>,
        serial: bool,
        workers: Option<u32>,
        prefix: String,
        initializer: Option<Py<PyAny>>,
        initargs: Py<PyTuple>,
        pickled_initializer: Option<Py<PyAny>>,
        tasks_per_worker: Option<u32>,
        memory_per_worker: Option<u64>,
        shared_state: Option<bool>,
    ) -> PyResult<Pool> {
        let renewal = Renewal { tasks: tasks_per_worker, memory: memory_per_worker };
        let manner = Manner { initializer: pickled_initializer.map(Initializer::new), renewal };
        let initializer = initializer.map(|initializer| (initializer, initargs));
        let route = match plan {
            None => Route::Auto(Choosing::new(workers, shared_state, prefix, initializer, manner)),
            Some((0, _)) if serial => Route::Serial,
            Some((0, threads)) => {
                let hands = Hands::new(threads, prefix, None, initializer);
                let lane = hands.queue.open_lane(u32::MAX, None);
                Route::Threads { hands, lane }
            }
            Some((processes, threads)) => Route::Processes(Staff::create(
                Limits { processes, threads, sharing: 0, renewal },
                manner.initializer,
            )?),
        };
        let plan = plan.and_then(|(processes, threads)| Plan::new(processes, threads).ok());
        Ok(Pool {
            route,
            plan,
            differing: Differing::under_plan(shared_state),
            began: Instant::now(),
            shut: AtomicBool::new(false),
            owner: pid::current(),
        })
    }

    /// Runs `function(*arguments, **options)` on a worker; returns its future.
    ///
    /// `calls` is the function that `function` gets among its arguments and calls, if it is not the user's own.
    /// `terms` are seconds that it may run in a worker process, reruns after that one's death, and its priority.
    #[pyo3(signature = (function, arguments, options, calls=None, terms=None))]
    fn submit<'py>(
        &self,
        function: &Bound<'py, PyAny>,
        arguments: &Bound<'py, PyTuple>,
        options: Option<&Bound<'py, PyDict>>,
        calls: Option<&Bound<'py, PyAny>>,
        terms: Option<(Option<f64>, u32, i32)>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = function.py();
        self.check()?;
        let terms = terms.map_or_else(Terms::default, terms_of);
        let options = options.filter(|options| !options.is_empty());
        match &self.route {
            Route::Serial => run_serially(function, arguments, options),
            Route::Threads { hands, lane } => {
                let call = Arc::new(Call::owned());
                let future = face(py, &call)?;
                let job = Job::Task {
                    call,
                    function: function.clone().unbind(),
                    arguments: arguments.clone().unbind(),
                    options: options.map(|options| options.clone().unbind()),
                };
                if hands.is_broken() {
                    return Err(crate::errors::broken(
                        py,
                        "a thread's initializer raised an exception",
                        None,
                    ));
                }
                let starved = hands.queue.push_ranked(*lane, terms.priority, job).map_err(|_| shut_down())?;
                if starved {
                    hands.grow(py)?;
                }
                Ok(future)
            }
            Route::Processes(staff) => {
                submit_to(staff, function, arguments, options, calls, self.differing, terms)
            }
            Route::Auto(choosing) => choosing.submit(function, arguments, options, terms.priority),
        }
    }

    /// Whether its worker processes can be killed for a task.
    #[classattr]
    fn kills() -> bool {
        true
    }

    /// No more calls are taken. `cancel` cancels those that have not started.
    #[pyo3(signature = (cancel=false))]
    fn close(&self, py: Python<'_>, cancel: bool) {
        self.shut.store(true, Release);
        if self.owner != pid::current() {
            return;
        }
        match &self.route {
            Route::Serial => {}
            Route::Threads { hands, .. } => {
                if cancel {
                    for job in hands.queue.drain() {
                        if let Job::Task { call, .. } = job {
                            call.cancel_unseen(py);
                        }
                    }
                }
                hands.queue.close();
            }
            Route::Processes(staff) => {
                if cancel {
                    staff.crew().abandon_waiting(OWNER);
                    staff.collector.settle(py);
                }
                // Somebody must see the workers off when nobody waits.
                if !staff.crew().close() {
                    staff.collector.ensure(py);
                }
            }
            Route::Auto(choosing) => {
                if cancel {
                    choosing.cancel(py);
                }
                if choosing.is_over() {
                    choosing.end();
                }
                choosing.hands().hasten();
            }
        }
    }

    /// No more calls are taken, those that have not started are cancelled, and worker processes end with what they run:
    /// by SIGTERM, or by SIGKILL with all that they started. Threads go on until their calls are over.
    fn dismiss(&self, py: Python<'_>, kill: bool) {
        self.close(py, true);
        let signal = if kill { Signal::KILL } else { Signal::TERM };
        match &self.route {
            _ if self.owner != pid::current() => {}
            Route::Serial | Route::Threads { .. } => {}
            Route::Processes(staff) => {
                py.detach(|| staff.crew().dismiss_workers(signal));
                staff.collector.settle(py);
            }
            Route::Auto(choosing) => py.detach(|| choosing.kill_running()),
        }
    }

    /// Waits until all workers are gone; false if `timeout` seconds passed first.
    #[pyo3(signature = (timeout=None))]
    fn join(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        if self.owner != pid::current() {
            return Ok(true);
        }
        let until = crate::future::deadline(timeout)?;
        let left =
            || until.map_or(SIGNALS, |until| until.saturating_duration_since(Instant::now()).min(SIGNALS));
        loop {
            let gone = match &self.route {
                Route::Serial => true,
                // Threads are joined by Python, which knows them.
                Route::Threads { hands, .. } => hands.alive() == 0,
                Route::Processes(staff) => {
                    let gone = py.detach(|| staff.crew().wait_vacated(left())) == Wait::Over;
                    if gone {
                        staff.crew().dismiss();
                        staff.collector.join(py);
                        // Nobody may have asked for the result that a note is about.
                        staff.collector.warn(py)?;
                    }
                    gone
                }
                Route::Auto(choosing) => {
                    if choosing.is_over() {
                        choosing.end();
                    }
                    choosing.is_over() && choosing.hands().alive() == 0
                }
            };
            if gone {
                return Ok(true);
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return Ok(false);
            }
            py.check_signals()?;
            if !matches!(self.route, Route::Processes(_)) {
                py.detach(|| std::thread::sleep(left().min(Duration::from_millis(2))));
            }
        }
    }

    /// Signals all worker processes, or those that have something to do.
    #[pyo3(signature = (signal, busy=false))]
    fn kill(&self, signal: i32, busy: bool) {
        if let (Route::Processes(staff), Some(signal)) = (&self.route, Signal::from_named_raw(signal)) {
            staff.crew().signal(signal, busy);
        }
    }

    /// The pids of the worker processes.
    fn pids(&self) -> Vec<i32> {
        match &self.route {
            Route::Processes(staff) => staff.crew().pids(),
            _ => Vec::new(),
        }
    }

    /// What its workers did, and what was measured and chosen for each function, as JSON.
    fn report(&self, py: Python<'_>) -> String {
        let wall = self.began.elapsed().as_secs_f64();
        let is_process = matches!(self.route, Route::Processes(_));
        let (functions, since) = match &self.route {
            Route::Serial => (Vec::new(), None),
            Route::Auto(choosing) => (choosing.reports(), choosing.hands().since(py)),
            Route::Threads { hands, .. } => (report::of_ledger(&hands.ledger, self.plan), hands.since(py)),
            Route::Processes(staff) => (report::of_ledger(&staff.ledger, self.plan), None),
        };
        report::of_pool(self.plan, &self.used(), is_process, functions, wall, since.as_ref())
    }

    /// How calls of this function run now: processes, threads in each, and workers that are there.
    fn now(&self, function: &Bound<'_, PyAny>) -> Now {
        let (processes, threads) = self.plan.map_or((0, 1), |plan| (plan.processes(), plan.threads()));
        match &self.route {
            Route::Serial => (0, 1, 1),
            Route::Threads { hands, .. } => (0, threads, hands.alive()),
            Route::Processes(staff) => (processes, threads, staff.crew().ready() * threads),
            Route::Auto(choosing) => choosing.now(function),
        }
    }

    /// Bytes of shared memory in use and idle.
    fn memory(&self) -> (u64, u64) {
        match &self.route {
            Route::Processes(staff) => staff.crew().store().usage(),
            _ => (0, 0),
        }
    }
}

impl Pool {
    fn used(&self) -> Vec<Use> {
        match &self.route {
            Route::Serial | Route::Auto(_) => Vec::new(),
            Route::Threads { hands, .. } => hands.uses(),
            Route::Processes(staff) => staff.crew().uses(),
        }
    }

    fn check(&self) -> PyResult<()> {
        if self.owner != pid::current() {
            return Err(PyRuntimeError::new_err(
                "this executor belongs to the process that this one was forked from: its workers are not here; \
                 make a new executor after the fork",
            ));
        }
        if self.shut.load(Acquire) { Err(shut_down()) } else { Ok(()) }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Nobody can submit any more; what was submitted still runs, as its futures may be held.
        if self.owner == pid::current() {
            match &self.route {
                Route::Serial => {}
                Route::Threads { hands, .. } => hands.queue.close(),
                Route::Processes(staff) => Python::attach(|py| {
                    if !staff.crew().close() {
                        staff.collector.ensure(py);
                    }
                }),
                // Its threads finish what was submitted, and end when nothing more comes.
                Route::Auto(choosing) => choosing.hands().hasten(),
            }
        }
    }
}

fn terms_of((limit, retries, priority): (Option<f64>, u32, i32)) -> Terms {
    // What the clock can't name is no limit.
    let limit = limit.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    Terms { limit, retries, priority }
}

fn shut_down() -> PyErr {
    PyRuntimeError::new_err("cannot schedule new futures after shutdown")
}

fn run_serially<'py>(
    function: &Bound<'py, PyAny>,
    arguments: &Bound<'py, PyTuple>,
    options: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = function.py();
    let call = Arc::new(Call::owned());
    let future = face(py, &call)?;
    if call.state.start() == Start::Go {
        let outcome = function.invoke_with(arguments, options);
        call.finish(py, outcome.map(Bound::unbind).map_err(|error| error.into_value(py).into_any()));
    }
    Ok(future)
}

/// Sends a call to a worker process. What can not be pickled becomes the future's exception.
fn submit_to<'py>(
    staff: &Arc<Staff>,
    function: &Bound<'py, PyAny>,
    arguments: &Bound<'py, PyTuple>,
    options: Option<&Bound<'py, PyDict>>,
    calls: Option<&Bound<'py, PyAny>>,
    differing: Differing,
    terms: Terms,
) -> PyResult<Bound<'py, PyAny>> {
    let py = function.py();
    let crew = staff.crew();
    if let Some(reason) = crew.broken() {
        return Err(crate::call::broken(py, &reason));
    }
    let id = crew.next_id();
    let (name, prepared) = prepare(staff, function, arguments, options, calls, differing);
    let entry = staff.metered.then(|| staff.ledger.named(&name));
    let call = Call::carried_by(Carrier { collector: Arc::clone(&staff.collector), id, name, entry });
    let future = face(py, &call)?;
    match prepared {
        // Ctrl-C and the like are the submitting thread's own.
        Err(error) if !error.is_instance_of::<PyException>(py) => return Err(error),
        Err(error) => {
            call.finish(py, Err(error.into_value(py).into_any()));
        }
        Ok(Prepared { kind, function, encoded, .. }) => {
            let recipient = Arc::clone(&call);
            let codec::Encoded { payload, leases } = encoded;
            let parcel = Parcel {
                id,
                owner: OWNER,
                job: 0,
                kind,
                function,
                flags: None,
                payload,
                leases,
                tasks: 1,
                terms,
                recipient,
            };
            let (wanted, mut waits) = crew.submit(parcel);
            if wanted > 0 {
                staff.hire(py, wanted)?;
                // The first has a worker now, which is on its way.
                waits = waits && crew.has_waiting();
            }
            if waits {
                staff.collector.ensure(py);
            }
        }
    }
    Ok(future)
}

/// The kind of a message, the function it needs, and its pickle.
pub(crate) struct Prepared {
    pub(crate) kind: u32,
    pub(crate) function: Option<Arc<Blob>>,
    pub(crate) encoded: codec::Encoded,
    /// The worker compares what the function reads.
    pub(crate) checked: bool,
}

/// What of a call travels: the name people know it by, and the kind of message with the function and the pickle.
/// `calls` is as in `Pool.submit`.
pub(crate) fn prepare(
    staff: &Staff,
    function: &Bound<'_, PyAny>,
    arguments: &Bound<'_, PyTuple>,
    options: Option<&Bound<'_, PyDict>>,
    calls: Option<&Bound<'_, PyAny>>,
    differing: Differing,
) -> (Arc<str>, PyResult<Prepared>) {
    let crew = staff.crew();
    let described = match calls {
        None => staff.functions.describe(function, crew, differing, Look::Watched),
        Some(_) => Ok(None),
    };
    match described {
        Ok(Some(Described { blob, name, checked, .. })) => {
            let role = || format!("the arguments of `{name}`");
            let (kind, encoded) = encode_arguments(arguments, options, staff, role);
            let function = Some(blob);
            let prepared = encoded.map(|encoded| Prepared { kind, function, encoded, checked });
            (name, prepared)
        }
        Ok(None) if calls.is_none() && is_within(function) => {
            prepare_within(staff, function, arguments, options, differing)
        }
        Ok(None) => prepare_whole(staff, function, arguments, options, calls, differing),
        Err(error) => (crate::errors::name_of(function).into(), Err(error)),
    }
}

/// A callable that belongs to one call: it travels with its arguments.
fn prepare_whole(
    staff: &Staff,
    function: &Bound<'_, PyAny>,
    arguments: &Bound<'_, PyTuple>,
    options: Option<&Bound<'_, PyDict>>,
    calls: Option<&Bound<'_, PyAny>>,
    differing: Differing,
) -> (Arc<str>, PyResult<Prepared>) {
    let (py, crew) = (function.py(), staff.crew());
    let name: Arc<str> = crate::errors::name_of(function).into();
    let options = options.map_or_else(|| PyDict::new(py), Clone::clone);
    let role = || format!("the call of `{name}`");
    let encoded = PyTuple::new(py, [function, arguments.as_any(), options.as_any()])
        .and_then(|whole| codec::encode(whole.as_any(), crew.store(), staff.initializer(), role));
    // It travels with its arguments; what it reads besides is compared by way of the function in it.
    let blob = staff.functions.check(calls.unwrap_or(function), crew, differing);
    let checked = blob.is_some();
    let prepared = encoded.map(|encoded| Prepared { kind: down::WHOLE, function: blob, encoded, checked });
    (name, prepared)
}

/// Whether this is a function bound to a context, a `forkright._context.Within`.
fn is_within(function: &Bound<'_, PyAny>) -> bool {
    function.get_type().name().is_ok_and(|name| name == "Within")
}

/// A function bound to a context: it travels once, and each call with what is set in its context.
fn prepare_within(
    staff: &Staff,
    function: &Bound<'_, PyAny>,
    arguments: &Bound<'_, PyTuple>,
    options: Option<&Bound<'_, PyDict>>,
    differing: Differing,
) -> (Arc<str>, PyResult<Prepared>) {
    let (py, crew) = (function.py(), staff.crew());
    let described = function
        .invoke_method("inner", ())
        .and_then(|inner| staff.functions.describe(&inner, crew, differing, Look::Watched));
    let Described { blob, name, checked, .. } = match described {
        Ok(Some(described)) => described,
        Ok(None) => return prepare_whole(staff, function, arguments, options, None, differing),
        Err(error) => return (crate::errors::name_of(function).into(), Err(error)),
    };
    let options = options.map_or_else(|| PyDict::new(py), Clone::clone);
    let role = || format!("the arguments of `{name}`");
    let encoded = function
        .invoke_method("parcels", ())
        .and_then(|parcels| PyTuple::new(py, [parcels.as_any(), arguments.as_any(), options.as_any()]))
        .and_then(|sent| codec::encode(sent.as_any(), crew.store(), staff.initializer(), role));
    let function = Some(blob);
    let prepared = encoded.map(|encoded| Prepared { kind: down::WITHIN, function, encoded, checked });
    (name, prepared)
}

/// The arguments of a call, pickled, and the kind of message they make.
fn encode_arguments(
    arguments: &Bound<'_, PyTuple>,
    options: Option<&Bound<'_, PyDict>>,
    staff: &Staff,
    role: impl FnOnce() -> String,
) -> (u32, PyResult<codec::Encoded>) {
    let encode =
        |value: &Bound<'_, PyAny>| codec::encode(value, staff.crew().store(), staff.initializer(), role);
    match options {
        None => (down::TASK, encode(arguments)),
        Some(options) => {
            let pair = PyTuple::new(arguments.py(), [arguments.as_any(), options.as_any()]);
            (down::KEYWORDS, pair.and_then(|pair| encode(pair.as_any())))
        }
    }
}

/// Runs a submitted call in the calling thread.
pub(crate) fn run_in_place(py: Python<'_>, submitted: &Submitted) {
    if submitted.call.state.start() == Start::Go {
        let options = submitted.options.as_ref().map(|options| options.bind(py));
        let outcome = submitted.function.bind(py).invoke_with(submitted.arguments.bind(py), options);
        let outcome = outcome.map(Bound::unbind).map_err(|error| error.into_value(py).into_any());
        submitted.call.finish(py, outcome);
    }
}
