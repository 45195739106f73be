//! One map, from its items to its results: under a fixed plan, or under a governor that watches and chooses.
//!
//! The calling thread runs items inline as long as that is the plan. When items leave for worker processes,
//! one thread *coordinates*: it pickles chunks, keeps the workers' queues full, unpickles what comes back. That
//! is the caller, or, while the caller is stuck in a long item, a thread of the common pool.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use forkright_engine::crew::{Parcel, Sleeper};
use forkright_engine::frame::{chunk, down};
use forkright_engine::plan::Plan;
use forkright_engine::queue::LaneId;
use forkright_engine::state::Wait;
use forkright_meter::clock;
use pyo3::exceptions::PyTimeoutError;
use pyo3::prelude::*;
use pyo3::types::{PyAny, PyList};

use crate::batch::{Batch, HereSource, OnError, Sent};
use crate::call::SIGNALS;
use crate::codec;
use crate::governing::Governing;
use crate::hands::{Hands, Job};
use crate::meter;
use crate::recruit::Staff;

/// Threads of the common pool end after this long without work.
const PATIENCE: Duration = Duration::from_secs(10);

/// The threads that maps share, and the process they belong to.
static COMMON: LazyLock<Mutex<(u32, Arc<Hands>)>> = LazyLock::new(|| Mutex::new((0, common_hands())));

fn common_hands() -> Arc<Hands> {
    Hands::new(1, "forkright".into(), Some(PATIENCE), None)
}

/// The threads that maps share.
pub(crate) fn common() -> Arc<Hands> {
    let mut common = lock(&COMMON);
    let me = std::process::id();
    if common.0 != me {
        // A forked child leaves its parent's alone: their locks may be held by threads it does not have.
        std::mem::forget(std::mem::replace(&mut *common, (me, common_hands())));
    }
    Arc::clone(&common.1)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One map that is under way.
pub(crate) struct Run {
    pub(crate) batch: Arc<Batch>,
    pub(crate) hands: Arc<Hands>,
    lane: LaneId,
    errands: LaneId,
    /// The worker processes, once there are any.
    staff: Mutex<Option<(Arc<Staff>, Plan)>>,
    coordinated: AtomicBool,
    /// The calling thread may run items; it counts against the width.
    inline: AtomicBool,
    /// No item starts in this process.
    hold: AtomicBool,
    pub(crate) starting: AtomicU32,
    trouble: Mutex<Option<PyErr>>,
}

impl Run {
    fn new(batch: Arc<Batch>) -> Arc<Run> {
        let hands = common();
        let lane = hands.queue.open_lane(0, Some(Arc::new(HereSource(Arc::clone(&batch)))));
        let errands = hands.queue.open_lane(u32::MAX, None);
        hands.allow(1);
        Arc::new(Run {
            batch,
            hands,
            lane,
            errands,
            staff: Mutex::default(),
            coordinated: AtomicBool::new(false),
            inline: AtomicBool::new(false),
            hold: AtomicBool::new(false),
            starting: AtomicU32::new(0),
            trouble: Mutex::default(),
        })
    }

    /// How many threads of this process may run items from now on, the calling one included if it does. Called
    /// with or without the GIL; threads that are missing are started by somebody attached.
    pub(crate) fn set_width(self: &Arc<Self>, width: u32, hold: bool) {
        self.hold.store(hold, Release);
        self.batch.width.store(width, Release);
        let own = u32::from(self.inline.load(Acquire));
        let others = if hold { 0 } else { width.saturating_sub(own) };
        let missing = self.hands.queue.set_width(self.lane, others);
        self.start_threads(missing.min(self.batch.pending() as u32));
    }

    /// Has missing threads started, by a thread that may wait for the GIL: the caller of this must not.
    fn start_threads(self: &Arc<Self>, missing: u32) {
        if missing == 0 || self.starting.swap(missing, AcqRel) > 0 {
            return;
        }
        self.hands.allow(self.hands.alive() + missing);
        let run = Arc::clone(self);
        let starter = move || {
            Python::attach(|py| {
                for _ in 0..missing {
                    if let Err(error) = run.hands.grow(py) {
                        run.fail(py, error);
                        break;
                    }
                }
                run.starting.store(0, Release);
                drop(run);
            });
        };
        if std::thread::Builder::new().name("forkright-starter".into()).spawn(starter).is_err() {
            // No thread to start threads with: those there are do the work.
            self.starting.store(0, Release);
        }
    }

    /// Has something done by a thread of the common pool, which can run Python.
    pub(crate) fn post(self: &Arc<Self>, errand: impl FnOnce(Python<'_>, &Arc<Run>) + Send + 'static) {
        let run = Arc::clone(self);
        let job = Job::Errand(Box::new(move |py| {
            errand(py, &run);
            drop(run);
        }));
        if let Ok(true) = self.hands.queue.push(self.errands, job) {
            self.start_threads(1);
        }
    }

    /// Something of ours went wrong: the map ends with this.
    pub(crate) fn fail(&self, _py: Python<'_>, error: PyErr) {
        lock(&self.trouble).get_or_insert(error);
        self.batch.stop();
    }

    /// Items go to worker processes from now on.
    pub(crate) fn leave(self: &Arc<Self>, py: Python<'_>, plan: Plan) -> PyResult<()> {
        let staff = Staff::shared(plan.processes(), plan.threads())?;
        *lock(&self.staff) = Some((staff, plan));
        if self.inline.load(Acquire) {
            // The caller may be stuck in its item for long.
            self.coordinate_or_report(py);
        } else {
            self.batch.word.nudge();
        }
        Ok(())
    }

    pub(crate) fn is_away(&self) -> bool {
        lock(&self.staff).is_some()
    }

    pub(crate) fn processes(&self) -> u32 {
        lock(&self.staff).as_ref().map_or(0, |(staff, _)| staff.crew().ready())
    }

    fn coordinate_or_report(self: &Arc<Self>, py: Python<'_>) {
        if let Err(error) = self.coordinate(py, None) {
            self.fail(py, error);
        }
    }

    /// Keeps the workers busy and takes in what they send, until the batch is over or `until` has come. Returns
    /// at once, false, if another thread is at it.
    fn coordinate(&self, py: Python<'_>, until: Option<Instant>) -> PyResult<bool> {
        let Some((staff, plan)) = lock(&self.staff).clone() else { return Ok(false) };
        if self.coordinated.swap(true, AcqRel) {
            return Ok(false);
        }
        let outcome = self.keep_busy(py, &staff, plan, until);
        self.coordinated.store(false, Release);
        self.batch.word.nudge();
        outcome.map(|()| true)
    }

    fn keep_busy(&self, py: Python<'_>, staff: &Staff, plan: Plan, until: Option<Instant>) -> PyResult<()> {
        let batch = &self.batch;
        let described = match staff.functions.describe(batch.function.bind(py), staff.crew())? {
            Some(described) => described,
            // A bound method or such: for one map it is described once.
            None => crate::functions::describe(batch.function.bind(py), staff.crew(), None)?,
        };
        let mut flags = if batch.star { chunk::STAR } else { 0 };
        if batch.on_error == OnError::Raise {
            flags |= chunk::STOP_AT_ERROR;
        }
        let sleeper: Sleeper = Arc::clone(&batch.word) as Sleeper;
        loop {
            while batch.pending() > 0 && staff.crew().appetite() > 0 {
                let Some(range) = batch.take(plan.workers()) else { break };
                let began = clock::monotonic();
                let items = batch.items(py, &range)?;
                let role = || format!("the items of `{}`", batch.name);
                let encoded = match codec::encode(items.as_any(), staff.crew().store(), role) {
                    Ok(encoded) => encoded,
                    Err(error) => {
                        batch.refuse(py, range, &error);
                        continue;
                    }
                };
                let seconds = clock::monotonic().saturating_sub(began).as_secs_f64();
                let codec::Encoded { payload, leases } = encoded;
                let bytes = payload.tail().len() as u64 + payload.blocks().map(|block| block.len).sum::<u64>();
                let tasks = range.len() as u32;
                let recipient = batch.send(range, Sent { seconds, bytes: bytes as f64 });
                let (wanted, _) = staff.crew().submit(Parcel {
                    id: staff.crew().next_id(),
                    kind: down::CHUNK,
                    function: Some(Arc::clone(&described.blob)),
                    flags: Some(flags),
                    payload,
                    leases,
                    tasks,
                    recipient,
                });
                staff.hire(py, wanted)?;
            }
            let settled = batch.settle(py);
            if batch.is_over() || until.is_some_and(|until| Instant::now() >= until) {
                return Ok(());
            }
            if settled {
                continue;
            }
            let ready = || {
                batch.has_arrivals()
                    || batch.is_over()
                    || (batch.pending() > 0 && staff.crew().appetite() > 0)
            };
            let left = until.map_or(SIGNALS, |until| until.saturating_duration_since(Instant::now()));
            let waited = py.detach(|| staff.crew().wait(&sleeper, &ready, left.min(SIGNALS)));
            if waited != Wait::Over {
                py.check_signals()?;
            }
        }
    }

    /// The calling thread's part: items inline while it may, then whatever keeps the others going.
    fn attend(self: &Arc<Self>, py: Python<'_>, until: Option<Instant>) -> PyResult<()> {
        let batch = &self.batch;
        meter::with_own(py, |slot| {
            while self.inline.load(Acquire) && !self.hold.load(Acquire) {
                let Some(range) = batch.take(batch.width.load(Acquire)) else { break };
                batch.run_here(py, range, slot);
                if until.is_some_and(|until| Instant::now() >= until) {
                    break;
                }
            }
        });
        self.inline.store(false, Release);
        if !batch.is_over() {
            self.set_width(batch.width.load(Acquire), self.hold.load(Acquire));
        }
        loop {
            if batch.is_over() {
                return Ok(());
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return Err(PyTimeoutError::new_err(format!(
                    "{} of {} tasks of `{}` were done when the time was up",
                    batch.done(),
                    batch.total,
                    batch.name
                )));
            }
            if self.coordinate(py, until)? {
                continue;
            }
            let left = until.map_or(SIGNALS, |until| until.saturating_duration_since(Instant::now()));
            let ticket = batch.word.ticket();
            if batch.is_over() || (self.is_away() && !self.coordinated.load(Acquire)) {
                continue;
            }
            py.detach(|| batch.word.wait_from(ticket, left.min(SIGNALS)));
            py.check_signals()?;
        }
    }

    /// Nothing of this map starts any more, and nothing of it stays queued.
    fn end(&self) {
        self.batch.stop();
        self.hands.queue.close_lane(self.lane);
        self.hands.queue.close_lane(self.errands);
    }
}

/// Runs a map to its end. `plan` is `None` for the choice to be made; returns the results and the report's JSON.
#[pyfunction]
#[pyo3(signature = (function, name, items, star, plan, workers, chunksize, timeout, return_errors))]
#[expect(clippy::too_many_arguments, reason = "called in one place, by forkright._map")]
pub(crate) fn run_map<'py>(
    py: Python<'py>,
    function: &Bound<'py, PyAny>,
    name: &str,
    items: &Bound<'py, PyAny>,
    star: bool,
    plan: Option<(u32, u32)>,
    workers: Option<u32>,
    chunksize: Option<usize>,
    timeout: Option<f64>,
    return_errors: bool,
) -> PyResult<(Bound<'py, PyList>, String)> {
    let until = crate::future::deadline(timeout)?;
    let on_error = if return_errors { OnError::Return } else { OnError::Raise };
    let batch = Batch::new(function, name, items, star, on_error, chunksize)?;
    let began = Instant::now();
    let run = Run::new(Arc::clone(&batch));
    let fixed = match plan {
        Some((processes, threads)) => Some(
            Plan::new(processes, threads)
                .map_err(|error| pyo3::exceptions::PyValueError::new_err(error.to_string()))?,
        ),
        None => None,
    };
    let mut governing = None;
    let started = match fixed {
        Some(plan) => begin_fixed(py, &run, plan),
        None => Governing::begin(py, &run, workers).map(|begun| governing = Some(begun)),
    };
    let outcome = started.and_then(|()| run.attend(py, until));
    run.end();
    if let Err(error) = outcome {
        run.abandon(py);
        return Err(error);
    }
    if let Some(error) = lock(&run.trouble).take() {
        return Err(error);
    }
    let wall = began.elapsed().as_secs_f64();
    let report = crate::report::of_map(&batch, fixed, governing.as_deref(), wall);
    Ok((batch.finish(py)?, report))
}

fn begin_fixed(py: Python<'_>, run: &Arc<Run>, plan: Plan) -> PyResult<()> {
    if plan.leaves() {
        run.set_width(0, true);
        return run.leave(py, plan);
    }
    if plan.workers() == 1 {
        run.inline.store(true, Release);
        return Ok(());
    }
    let threads = plan.threads().min(u32::try_from(run.batch.total).unwrap_or(u32::MAX));
    run.hands.allow(run.hands.alive() + threads);
    run.batch.width.store(threads, Release);
    let missing = run.hands.queue.set_width(run.lane, threads);
    for _ in 0..missing {
        run.hands.grow(py)?;
    }
    Ok(())
}

impl Run {
    /// The map ended early (a signal, the deadline, trouble): what is queued comes back, and what workers still run
    /// has no reader. Its processes go, so that nothing of it runs on.
    fn abandon(&self, py: Python<'_>) {
        let Some((staff, _)) = lock(&self.staff).take() else { return };
        py.detach(|| {
            staff.crew().abandon_waiting();
            if self.batch.away() > 0 {
                staff.crew().signal(rustix::process::Signal::KILL);
            }
        });
    }

    pub(crate) fn begin_inline(&self) {
        self.inline.store(true, Release);
    }

    pub(crate) fn is_inline(&self) -> bool {
        self.inline.load(Acquire)
    }
}
