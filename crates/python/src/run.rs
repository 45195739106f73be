//! One map, from its items to its results: under a fixed plan, or under a governor that watches and chooses.
//!
//! The calling thread runs items inline as long as that is the plan. When items leave for worker processes,
//! one thread *coordinates*: it pickles chunks, keeps the workers' queues full, unpickles what comes back. That
//! is the caller, or, while the caller is stuck in a long item, a thread of the common pool.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use forkright_engine::crew::{Limits, Sleeper};
use forkright_engine::plan::Plan;
use forkright_engine::queue::LaneId;
use forkright_shm::pid;
use pyo3::exceptions::PyTimeoutError;
use pyo3::prelude::*;
use pyo3::types::{PyAny, PyList};

use crate::batch::{Batch, OnError};
use crate::call::SIGNALS;
use crate::functions::Differing;
use crate::glimpse::Glimpse;
use crate::governing::Governing;
use crate::hands::{Hands, Hurry, Job};
use crate::job;
use crate::memory::{self, Learned};
use crate::meter;
use crate::onlooker::Onlooker;
use crate::opening::Opening;
use crate::recruit::{Manner, Staff};
use crate::report::{Facts, MapReport, main_plan};
use crate::work::{HereSource, Work};

/// Threads of the common pool end after so many milliseconds without work.
static PATIENCE: AtomicU64 = AtomicU64::new(10_000);

/// The threads that maps share, and the process they belong to.
static COMMON: LazyLock<Mutex<(u32, Arc<Hands>)>> = LazyLock::new(|| Mutex::new((0, common_hands())));

fn common_hands() -> Arc<Hands> {
    Hands::new(1, "forkright".into(), Some(Duration::from_millis(PATIENCE.load(Relaxed))), None)
}

/// The threads that maps share.
pub(crate) fn common() -> Arc<Hands> {
    let mut common = lock(&COMMON);
    let me = pid::current();
    if common.0 != me {
        // A forked child leaves its parent's alone: their locks may be held by threads it does not have.
        std::mem::forget(std::mem::replace(&mut *common, (me, common_hands())));
    }
    Arc::clone(&common.1)
}

/// Has the common threads, those to come, too, end after this long without work.
pub(crate) fn set_patience(patience: Duration) {
    PATIENCE.store(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX), Relaxed);
    common().set_patience(patience);
}

/// Takes the common threads out of use: the next map gets new ones.
pub(crate) fn take_common() -> Arc<Hands> {
    let hands = common();
    *lock(&COMMON) = (pid::current(), common_hands());
    hands
}

/// Native threads that are about to attach.
pub(crate) static STARTERS: AtomicU32 = AtomicU32::new(0);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Processes, threads in each, and workers that are there.
pub(crate) type Now = (u32, u32, u32);

/// One map that is under way.
pub(crate) struct Run {
    pub(crate) work: Arc<dyn Work>,
    pub(crate) hands: Arc<Hands>,
    lane: LaneId,
    errands: LaneId,
    /// The worker processes, once there are any.
    staff: Mutex<Option<Arc<Staff>>>,
    /// How many of them take part now.
    away: Mutex<Option<Plan>>,
    coordinated: AtomicBool,
    /// The calling thread may run items; it counts against the width.
    inline: AtomicBool,
    /// The calling thread begins no further item.
    back: AtomicBool,
    /// A caller waits for the end, and coordinates when there is something to.
    attended: AtomicBool,
    /// No item starts in this process.
    hold: AtomicBool,
    pub(crate) starting: AtomicU32,
    trouble: Mutex<Option<PyErr>>,
    manner: Mutex<Manner>,
}

impl Run {
    /// For work that nobody has begun, on the threads of `hands`.
    pub(crate) fn new(work: Arc<dyn Work>, hands: Arc<Hands>) -> Arc<Run> {
        let lane = hands.queue.open_lane(0, Some(Arc::new(HereSource(Arc::clone(&work)))));
        let errands = hands.queue.open_urgent_lane();
        // Errands need one more thread than the work.
        hands.allow(2);
        Arc::new(Run {
            work,
            hands,
            lane,
            errands,
            staff: Mutex::default(),
            away: Mutex::default(),
            coordinated: AtomicBool::new(false),
            inline: AtomicBool::new(false),
            back: AtomicBool::new(false),
            attended: AtomicBool::new(false),
            hold: AtomicBool::new(false),
            starting: AtomicU32::new(0),
            trouble: Mutex::default(),
            manner: Mutex::default(),
        })
    }

    /// How many threads of this process may run items from now on, the calling one included if it does. Called
    /// with or without the GIL; threads that are missing are started by somebody attached.
    pub(crate) fn set_width(self: &Arc<Self>, width: u32, hold: bool) {
        self.hold.store(hold, Release);
        self.work.progress().width.store(width, Release);
        let own = u32::from(self.inline.load(Acquire));
        let others = if hold { 0 } else { width.saturating_sub(own) };
        let missing = self.hands.queue.set_width(self.lane, others);
        // Each tick asks again; until then, those on their way may be what is missing.
        let missing = missing.saturating_sub(self.hands.coming());
        self.start_threads(missing.min(self.work.pending() as u32));
    }

    /// The calling thread leaves what is left to the others.
    pub(crate) fn step_back(&self) {
        self.back.store(true, Release);
    }

    /// Has as many threads, whether or not they may run items yet.
    pub(crate) fn make_ready(self: &Arc<Self>, threads: u32) {
        let there = self.hands.alive() + u32::from(self.inline.load(Acquire));
        self.start_threads(threads.saturating_sub(there).min(self.work.pending() as u32));
    }

    /// Has missing threads started, by a thread that may wait for the GIL: the caller of this must not.
    fn start_threads(self: &Arc<Self>, missing: u32) {
        if missing == 0 || self.starting.swap(missing, AcqRel) > 0 {
            return;
        }
        self.hands.allow(self.hands.alive() + missing);
        let started = self.attach(move |py, run| {
            let _hurry = run.work.progress().is_quiet().then(|| Hurry::begin(py));
            for _ in 0..missing {
                if let Err(error) = run.hands.grow(py) {
                    run.fail(py, error);
                    break;
                }
            }
            run.starting.store(0, Release);
        });
        if !started {
            // No thread to start threads with: those there are do the work.
            self.starting.store(0, Release);
        }
    }

    /// Has something short and urgent done by a thread of its own, which waits for the GIL in place of the caller and
    /// is not known to Python. False where no thread can be had.
    pub(crate) fn attach(
        self: &Arc<Self>,
        errand: impl FnOnce(Python<'_>, &Arc<Run>) + Send + 'static,
    ) -> bool {
        let run = Arc::clone(self);
        STARTERS.fetch_add(1, AcqRel);
        let starter = move || {
            Python::attach(|py| {
                errand(py, &run);
                drop(run);
            });
            STARTERS.fetch_sub(1, AcqRel);
        };
        let started = std::thread::Builder::new().name("forkright-starter".into()).spawn(starter).is_ok();
        if !started {
            STARTERS.fetch_sub(1, AcqRel);
        }
        started
    }

    /// Has something done by a thread of the common pool, which can run Python.
    pub(crate) fn post(self: &Arc<Self>, errand: impl FnOnce(Python<'_>, &Arc<Run>) + Send + 'static) {
        if self.queue_errand(errand) {
            self.start_threads(1);
        }
    }

    /// As `post`, for those who have the GIL.
    pub(crate) fn post_attached(
        self: &Arc<Self>,
        py: Python<'_>,
        errand: impl FnOnce(Python<'_>, &Arc<Run>) + Send + 'static,
    ) {
        if self.queue_errand(errand) {
            self.hands.allow(self.hands.alive() + 1);
            if let Err(error) = self.hands.grow(py) {
                self.fail(py, error);
            }
        }
    }

    /// Whether a thread more is needed for it.
    fn queue_errand(self: &Arc<Self>, errand: impl FnOnce(Python<'_>, &Arc<Run>) + Send + 'static) -> bool {
        let run = Arc::clone(self);
        let job = Job::Errand(Box::new(move |py| {
            errand(py, &run);
            drop(run);
        }));
        matches!(self.hands.queue.push(self.errands, job), Ok(true))
    }

    /// Something of ours went wrong: the map ends with this.
    pub(crate) fn fail(&self, py: Python<'_>, error: PyErr) {
        lock(&self.trouble).get_or_insert(error);
        self.work.stop(py);
    }

    /// Tasks go to the worker processes of `plan` from now on; with `None`, no more do. `sharing`: so many workers there will
    /// be, some of them perhaps later.
    pub(crate) fn leave(self: &Arc<Self>, py: Python<'_>, plan: Option<Plan>, sharing: u32) -> PyResult<()> {
        *lock(&self.away) = plan;
        let Some(plan) = plan else { return Ok(()) };
        let staff = lock(&self.staff).clone();
        let (processes, threads) = (plan.processes(), plan.threads());
        let manner = lock(&self.manner).clone();
        let limits = Limits { processes, threads, sharing, renewal: manner.renewal };
        let staff = match staff {
            _ if manner.is_none() => Staff::shared(py, limits)?,
            Some(staff) => {
                staff.crew().resize(processes, threads, sharing);
                staff
            }
            None => Staff::create(limits, manner.initializer)?,
        };
        *lock(&self.staff) = Some(Arc::clone(&staff));
        if self.coordinated.load(Acquire) {
            // It may be asleep on the bell, with room for more now.
            staff.crew().call();
        } else if self.inline.load(Acquire) {
            // The caller may be stuck in its item for long.
            self.fill(py, &staff)?;
            self.post(|py, run| run.coordinate_or_report(py));
        } else if self.attended.load(Acquire) {
            self.work.progress().word.nudge();
        } else {
            self.post(|py, run| run.coordinate_or_report(py));
        }
        Ok(())
    }

    fn away(&self) -> Option<Plan> {
        // What workers refuse is not offered again, even before the governor has heard of it.
        if self.work.progress().refusal().is_some() { None } else { *lock(&self.away) }
    }

    pub(crate) fn is_away(&self) -> bool {
        lock(&self.staff).is_some()
    }

    pub(crate) fn processes(&self) -> u32 {
        lock(&self.staff).as_ref().map_or(0, |staff| staff.crew().ready())
    }

    /// The plan by its processes and threads as it is carried out now, and how many workers there are for it.
    pub(crate) fn now(&self) -> Now {
        let progress = self.work.progress();
        match self.away() {
            Some(plan) => {
                let ready = self.processes().min(plan.processes());
                (plan.processes(), plan.threads(), ready * plan.threads() + progress.here())
            }
            None => {
                let threads = progress.width.load(Acquire).max(1);
                (0, threads, threads)
            }
        }
    }

    fn coordinate_or_report(self: &Arc<Self>, py: Python<'_>) {
        if let Err(error) = self.coordinate(py, None) {
            self.fail(py, error);
        }
    }

    /// Keeps the workers busy and takes in what they send, until the batch is over or `until` has come. Returns
    /// at once, false, if another thread is at it.
    fn coordinate(&self, py: Python<'_>, until: Option<Instant>) -> PyResult<bool> {
        let Some(staff) = lock(&self.staff).clone() else { return Ok(false) };
        if self.coordinated.swap(true, AcqRel) {
            return Ok(false);
        }
        let outcome = self.keep_busy(py, &staff, until);
        self.coordinated.store(false, Release);
        self.work.progress().word.nudge();
        outcome.map(|()| true)
    }

    /// Sends what the workers have room for.
    fn fill(&self, py: Python<'_>, staff: &Arc<Staff>) -> PyResult<()> {
        if self.work.pending() == 0 {
            return Ok(());
        }
        // `away` is a function of its own so that its lock is free again before anything is pickled.
        while let Some(plan) = self.away() {
            if !self.has_room(staff, plan) || !Arc::clone(&self.work).send_one(py, staff, plan)? {
                break;
            }
        }
        Ok(())
    }

    /// Whether the workers would take a message now that is large enough.
    fn has_room(&self, staff: &Staff, plan: Plan) -> bool {
        self.work.may_send(plan.workers()) && staff.crew().appetite() > 0
    }

    fn keep_busy(&self, py: Python<'_>, staff: &Arc<Staff>, until: Option<Instant>) -> PyResult<()> {
        let work = &self.work;
        let sleeper: Sleeper = Arc::clone(&work.progress().word) as Sleeper;
        let mut stopped = false;
        loop {
            if work.is_stopped() && !std::mem::replace(&mut stopped, true) {
                // The workers were sent more than they have begun.
                py.detach(|| staff.crew().abandon_waiting(work.progress().owner));
            }
            self.fill(py, staff)?;
            let settled = work.settle(py);
            staff.collector.warn(py)?;
            if work.is_over() || until.is_some_and(|until| Instant::now() >= until) {
                return Ok(());
            }
            if settled {
                continue;
            }
            let ready = || {
                work.has_arrivals()
                    || work.is_over()
                    || work.is_stopped() != stopped
                    || (work.pending() > 0 && self.away().is_some_and(|plan| self.has_room(staff, plan)))
            };
            let left = until.map_or(SIGNALS, |until| until.saturating_duration_since(Instant::now()));
            py.detach(|| staff.crew().wait(&sleeper, &ready, left.min(SIGNALS)));
            // Even after an answer: where one follows the other nothing else here would ever look, and a signal that came
            // between two waits has interrupted neither.
            py.check_signals()?;
        }
    }

    /// The calling thread's part of a map: items inline while it may, then whatever keeps the others going.
    fn attend(self: &Arc<Self>, py: Python<'_>, batch: &Batch, until: Option<Instant>) -> PyResult<()> {
        let progress = self.work.progress();
        let goes_on = || {
            self.inline.load(Acquire)
                && !self.hold.load(Acquire)
                && !self.back.load(Acquire)
                && until.is_none_or(|until| Instant::now() < until)
        };
        let inside = job::Inside::begin(batch.job);
        meter::with_own(py, |slot| while goes_on() && batch.run_on(py, slot, goes_on) {});
        drop(inside);
        self.inline.store(false, Release);
        if !self.work.is_over() {
            self.set_width(progress.width.load(Acquire), self.hold.load(Acquire));
        }
        loop {
            if self.work.is_over() {
                return Ok(());
            }
            if let Some(error) = batch.interrupt(py) {
                return Err(error);
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return Err(PyTimeoutError::new_err(format!(
                    "{} of {} tasks of `{}` were done when the time was up",
                    progress.done(),
                    batch.total,
                    progress.name()
                )));
            }
            if self.coordinate(py, until)? {
                continue;
            }
            let left = until.map_or(SIGNALS, |until| until.saturating_duration_since(Instant::now()));
            let ticket = progress.word.ticket();
            if self.work.is_over() || (self.is_away() && !self.coordinated.load(Acquire)) {
                continue;
            }
            py.detach(|| progress.word.wait_from(ticket, left.min(SIGNALS)));
            py.check_signals()?;
        }
    }

    /// Nothing of this map starts any more, and nothing of it stays queued.
    pub(crate) fn end(&self, py: Python<'_>) {
        self.work.stop(py);
        self.hands.queue.close_lane(self.lane);
        self.hands.queue.close_lane(self.errands);
        if !lock(&self.manner).is_none()
            && let Some(staff) = lock(&self.staff).take()
        {
            staff.crew().close();
        }
    }

    /// Workers of its own, with such a beginning and end, instead of the shared ones.
    pub(crate) fn set_manner(&self, manner: Manner) {
        *lock(&self.manner) = manner;
    }

    /// Kills the workers that run its calls, but those that run another's beside them.
    pub(crate) fn kill_running(&self) {
        if let Some(staff) = lock(&self.staff).clone() {
            staff.crew().kill_running(self.work.progress().owner);
        }
    }

    /// Something new waits: somebody must take it.
    pub(crate) fn rouse(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        let staff = lock(&self.staff).clone();
        if let Some(staff) = staff {
            if self.coordinated.load(Acquire) {
                // It may lead, asleep on the bell.
                staff.crew().call();
            } else {
                self.post(|py, run| run.coordinate_or_report(py));
            }
        }
        // What is on its way may be held up by a slow initializer; more of them would not take part.
        let is_needed = || self.hands.coming() < self.hands.queue.room(self.lane);
        if !self.hold.load(Acquire) && self.hands.queue.poke(self.lane) && is_needed() {
            self.hands.allow(self.hands.alive() + 1);
            self.hands.grow(py)?;
        }
        Ok(())
    }

    /// Calls that wait in the workers' queues are cancelled.
    pub(crate) fn cancel_waiting(&self, py: Python<'_>) {
        let staff = lock(&self.staff).clone();
        if let Some(staff) = staff {
            staff.crew().abandon_waiting(self.work.progress().owner);
            staff.collector.settle(py);
        }
    }
}

/// Runs a map to its end; its results and its report. `plan` is `None` for the choice to be made.
#[pyfunction]
#[pyo3(signature = (function, name, items, star, plan, workers, chunksize, timeout, return_errors, shared_state, seeds, glimpse, around))]
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
    shared_state: Option<bool>,
    seeds: Option<Py<PyAny>>,
    glimpse: Option<&Bound<'py, Glimpse>>,
    around: Option<Py<PyAny>>,
) -> PyResult<(Bound<'py, PyList>, Bound<'py, MapReport>)> {
    let until = crate::future::deadline(timeout)?;
    let on_error = if return_errors { OnError::Return } else { OnError::Raise };
    let differing = match plan {
        Some(_) => Differing::under_plan(shared_state),
        None => Differing::under_choice(shared_state),
    };
    let batch = Batch::new(
        function,
        name,
        items,
        star,
        seeds,
        around,
        on_error,
        chunksize,
        differing,
        plan.is_none(),
    )?;
    let began = Instant::now();
    let work: Arc<dyn Work> = Arc::clone(&batch) as Arc<dyn Work>;
    let run = Run::new(work, common());
    run.attended.store(true, Release);
    let shown = glimpse.map(|glimpse| Glimpse::begin(glimpse, &run, &batch));
    let fixed = match plan {
        Some((processes, threads)) => Some(
            Plan::new(processes, threads)
                .map_err(|error| pyo3::exceptions::PyValueError::new_err(error.to_string()))?,
        ),
        None => None,
    };
    let mut governing = None;
    let mut opening = None;
    let started = match fixed {
        Some(plan) => {
            if !plan.leaves() {
                opening = Some(look_on(py, &run));
            }
            begin_fixed(py, &run, batch.total, plan)
        }
        None => {
            run.begin_inline();
            let learned = memory::recall(function).unwrap_or_default();
            *lock(&batch.progress().profile) = learned.profile;
            opening = Some(Opening::new(py));
            let items = Some(batch.total as u64);
            Governing::begin(py, &run, workers, items, learned.bearable, shared_state, opening.clone())
                .map(|begun| governing = Some(begun))
        }
    };
    let outcome = started.and_then(|()| run.attend(py, &batch, until));
    // What it shows last are the workers that it had.
    if let Some(shown) = shown {
        let wall = began.elapsed().as_secs_f64();
        shown.end(governing.as_deref().and_then(|governing| main_plan(governing, batch.progress(), wall)));
    }
    run.end(py);
    if let Some(governing) = &governing {
        let profile = lock(&batch.progress().profile).clone();
        memory::keep(function, Learned { profile, bearable: governing.bearable() });
    }
    if let Err(error) = outcome {
        run.abandon(py);
        return Err(error);
    }
    if let Some(error) = lock(&run.trouble).take() {
        return Err(error);
    }
    let wall = began.elapsed().as_secs_f64();
    let since = opening.map(|opening| opening.since(py));
    let governing = governing.as_deref();
    let facts = Facts::of(batch.progress(), batch.total, fixed, governing, Some(wall), since);
    Ok((batch.finish(py)?, Bound::new(py, MapReport(facts))?))
}

/// Has the tasks of a fixed plan looked at, since no governor does.
fn look_on(py: Python<'_>, run: &Run) -> Arc<Opening> {
    let (onlooker, opening) = (Onlooker::of_process(py), Opening::new(py));
    onlooker.learn();
    onlooker.open(&opening);
    onlooker.stir();
    // The run is new, so the cell is empty.
    let _ = run.work.progress().onlooker.set(onlooker);
    opening
}

fn begin_fixed(py: Python<'_>, run: &Arc<Run>, total: usize, plan: Plan) -> PyResult<()> {
    if plan.leaves() {
        run.set_width(0, true);
        return run.leave(py, Some(plan), plan.workers());
    }
    if plan.workers() == 1 {
        run.inline.store(true, Release);
        return Ok(());
    }
    let threads = plan.threads().min(u32::try_from(total).unwrap_or(u32::MAX));
    run.hands.allow(run.hands.alive() + threads);
    run.work.progress().width.store(threads, Release);
    let missing = run.hands.queue.set_width(run.lane, threads);
    for _ in 0..missing {
        run.hands.grow(py)?;
    }
    Ok(())
}

impl Run {
    /// The map ended early (a signal, the deadline, trouble): what is queued comes back, and what workers still run
    /// has no reader. Its processes go, so that nothing of it runs on, if nobody else has work in them.
    fn abandon(&self, py: Python<'_>) {
        let Some(staff) = lock(&self.staff).take() else { return };
        let owner = self.work.progress().owner;
        py.detach(|| {
            staff.crew().abandon_waiting(owner);
            staff.crew().kill_running(owner);
        });
    }

    pub(crate) fn begin_inline(&self) {
        self.inline.store(true, Release);
    }

    pub(crate) fn is_inline(&self) -> bool {
        self.inline.load(Acquire)
    }
}
