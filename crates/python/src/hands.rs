//! The worker threads of this process: real Python threads whose target is a loop in Rust. Attached once for
//! life, they take jobs while there are any and detach only to sleep, so a burst of small tasks costs no
//! hand-overs of the GIL.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use forkright_engine::crew::Use;
use forkright_engine::estimate::Constant;
use forkright_engine::here;
use forkright_engine::payload::Cost;
use forkright_engine::queue::{Next, Queue};
use forkright_engine::state::Start;
use forkright_meter::{Slot, clock};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::batch::Batch;
use crate::call::Call;
use crate::errors;
use crate::job;
use crate::ledger::{Index, Ledger};
use crate::meter::{self, Stopwatch};
use crate::onlooker::Onlooker;
use crate::opening::{Opening, Since};
use crate::outward::{Outward as _, import};
use crate::submissions::{Submissions, Submitted};

/// Something a thread of this process does.
pub(crate) enum Job {
    /// A submitted task.
    Task { call: Arc<Call>, function: Py<PyAny>, arguments: Py<PyTuple>, options: Option<Py<PyDict>> },
    /// A call submitted to an executor that chooses.
    Submitted(Arc<Submissions>, Submitted),
    /// Some items of a map.
    Chunk(Arc<Batch>, Range<usize>),
    /// Work of ours that needs Python: asking the guard, starting workers, pickling what leaves.
    Errand(Box<dyn FnOnce(Python<'_>) + Send>),
}

/// Threads without a limit to their patience look up this often.
const LOOK_UP: Duration = Duration::from_secs(3600);
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);
/// What is left of a pool's patience once it takes no more calls: work under way may still need a thread.
const SOON: Duration = Duration::from_millis(20);

/// The threads of one pool.
pub(crate) struct Hands {
    pub(crate) queue: Queue<Job>,
    most: AtomicU32,
    alive: AtomicU32,
    /// Of these, the ones that have not looked for work yet: they start, or run the initializer.
    coming: AtomicU32,
    named: AtomicU32,
    /// Threads that run something.
    busy: AtomicU32,
    prefix: String,
    /// Threads end after this many nanoseconds without work.
    patience: AtomicU64,
    initializer: Option<(Py<PyAny>, Py<PyTuple>)>,
    /// Why no thread can work: the initializer raised.
    broken: AtomicBool,
    uses: Mutex<Vec<Arc<Mutex<Use>>>>,
    /// What was measured of the functions of submitted tasks.
    pub(crate) ledger: Ledger,
    /// Made by the first thread.
    opening: OnceLock<Arc<Opening>>,
}

/// A start of a thread that took so long spent most of it in the queue for the GIL.
const QUEUED: Duration = Duration::from_millis(1);

impl Hands {
    pub(crate) fn new(
        most: u32,
        prefix: String,
        patience: Option<Duration>,
        initializer: Option<(Py<PyAny>, Py<PyTuple>)>,
    ) -> Arc<Hands> {
        Arc::new(Hands {
            queue: Queue::default(),
            most: AtomicU32::new(most),
            alive: AtomicU32::new(0),
            coming: AtomicU32::new(0),
            named: AtomicU32::new(0),
            busy: AtomicU32::new(0),
            prefix,
            patience: AtomicU64::new(patience.unwrap_or(FOREVER).min(FOREVER).as_nanos() as u64),
            initializer,
            broken: AtomicBool::new(false),
            uses: Mutex::default(),
            ledger: Ledger::default(),
            opening: OnceLock::new(),
        })
    }

    /// Starts one more thread if the pool may have one.
    pub(crate) fn grow(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        if self.is_broken() {
            return Ok(());
        }
        let may = |alive: u32| (alive < self.most.load(Relaxed)).then_some(alive + 1);
        if self.alive.fetch_update(AcqRel, Acquire, may).is_err() {
            return Ok(());
        }
        self.coming.fetch_add(1, AcqRel);
        let name = format!("{}_{}", self.prefix, self.named.fetch_add(1, Relaxed));
        let claimed = Arc::new(AtomicBool::new(false));
        let begin = || -> PyResult<()> {
            let body = Py::new(py, HandBody { hands: Arc::clone(self), claimed: Arc::clone(&claimed) })?;
            let start = import(py, "forkright._threads")?.getattr("start")?;
            let began = clock::monotonic();
            start.invoke((body, name))?;
            let took = clock::monotonic() - began;
            if took < QUEUED {
                here::observe(Constant::ThreadStart, took.as_secs_f64());
            }
            Ok(())
        };
        begin().inspect_err(|_| {
            // A signal's exception may come out of the start of a thread that runs all the same.
            if !claimed.swap(true, AcqRel) {
                self.coming.fetch_sub(1, AcqRel);
                self.alive.fetch_sub(1, AcqRel);
            }
        })
    }

    /// Allows at least so many threads.
    pub(crate) fn allow(&self, most: u32) {
        self.most.fetch_max(most, AcqRel);
    }

    pub(crate) fn alive(&self) -> u32 {
        self.alive.load(Acquire)
    }

    /// Threads that have not looked for work yet.
    pub(crate) fn coming(&self) -> u32 {
        self.coming.load(Acquire)
    }

    /// Nothing new will come from outside: threads without work end soon.
    pub(crate) fn hasten(&self) {
        self.patience.store(SOON.as_nanos() as u64, Release);
        self.queue.stir();
    }

    /// Threads end after so long without work from now on.
    pub(crate) fn set_patience(&self, patience: Duration) {
        self.patience.store(patience.min(FOREVER).as_nanos() as u64, Release);
        self.queue.stir();
    }

    /// Whether no thread runs anything.
    pub(crate) fn is_idle(&self) -> bool {
        self.busy.load(Acquire) == 0
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Acquire)
    }

    /// What came since the first thread began.
    pub(crate) fn since(&self, py: Python<'_>) -> Option<Since> {
        self.opening.get().map(|opening| opening.since(py))
    }

    pub(crate) fn uses(&self) -> Vec<Use> {
        let uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        uses.iter().map(|using| using.lock().unwrap_or_else(PoisonError::into_inner).clone()).collect()
    }

    fn work(&self, py: Python<'_>) {
        let using = Use { pid: clock::current_tid(), tasks: 0, busy: 0.0, cpu: 0.0 };
        let using = Arc::new(Mutex::new(using));
        self.uses.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&using));
        let is_fit = self.initialize(py);
        self.coming.fetch_sub(1, AcqRel);
        if !is_fit {
            return;
        }
        let slot = meter::enter(py);
        self.opening.get_or_init(|| Opening::begin(py));
        let mut marker = Marker { slot, index: Index::default(), onlooker: Onlooker::of_process(py) };
        let mut stopwatch = Stopwatch::start();
        let mut done = None;
        loop {
            match self.queue.next(done.take()) {
                Next::Run(lane, job) => {
                    self.busy.fetch_add(1, AcqRel);
                    self.run(py, job, &mut marker, &mut stopwatch, &using);
                    self.busy.fetch_sub(1, AcqRel);
                    done = Some(lane);
                }
                Next::Nothing => {
                    let patience = || Duration::from_nanos(self.patience.load(Acquire));
                    let woken = py.detach(|| self.queue.sleep(|| patience().min(LOOK_UP)));
                    if !woken && patience() < LOOK_UP {
                        break;
                    }
                    stopwatch = Stopwatch::start();
                }
                Next::End => break,
            }
        }
    }

    fn initialize(&self, py: Python<'_>) -> bool {
        let Some((initializer, arguments)) = &self.initializer else { return true };
        let Err(error) = initializer.bind(py).invoke(arguments.bind(py)) else { return true };
        self.broken.store(true, Release);
        errors::log_initializer(py, error.clone_ref(py));
        let broken = || errors::broken_threads(py, &error).into_value(py).into_any();
        let mut done = None;
        while let Next::Run(lane, job) = self.queue.next(done) {
            done = Some(lane);
            match job {
                Job::Task { call, .. } => drop(call.finish(py, Err(broken()))),
                Job::Submitted(submissions, submitted) => submissions.refuse(py, submitted, broken()),
                // Neither comes where there is an initializer.
                Job::Chunk(..) | Job::Errand(_) => {}
            }
        }
        false
    }

    fn run(
        &self,
        py: Python<'_>,
        job: Job,
        marker: &mut Marker,
        stopwatch: &mut Stopwatch,
        using: &Mutex<Use>,
    ) {
        match job {
            Job::Task { call, function, arguments, options } => {
                if call.state.start() != Start::Go {
                    return;
                }
                marker.begin(&self.ledger, function.bind(py));
                let began = clock::monotonic();
                let outcome =
                    function.bind(py).invoke_with(arguments.bind(py), options.as_ref().map(|o| o.bind(py)));
                let ended = clock::monotonic();
                marker.slot.end();
                let spent = stopwatch.lap(ended);
                let cost = Cost {
                    tasks: 1,
                    failed: u32::from(outcome.is_err()),
                    wall: (ended - began).as_secs_f64(),
                    cpu: spent.cpu,
                    delay: spent.delay,
                    ..Cost::default()
                };
                // Before anybody hears of the end, nothing of the task is left here.
                drop((function, arguments, options));
                marker.end(&cost);
                add(using, &cost);
                call.set_cost(&cost);
                call.finish(py, outcome.map(Bound::unbind).map_err(|error| error.into_value(py).into_any()));
            }
            Job::Chunk(batch, range) => {
                job::set(batch.job);
                let cost = batch.run_here(py, range, &marker.slot);
                add(using, &cost);
            }
            Job::Submitted(submissions, submitted) => submissions.run_here(py, submitted, &marker.slot),
            Job::Errand(errand) => errand(py),
        }
    }
}

/// How a thread marks submitted tasks for the sampler.
struct Marker {
    slot: Slot,
    index: Index,
    onlooker: Arc<Onlooker>,
}

impl Marker {
    /// A task of `function` begins in this thread.
    fn begin(&mut self, ledger: &Ledger, function: &Bound<'_, PyAny>) {
        let (entry, is_new) = self.index.find(ledger, function);
        self.slot.begin(&entry.tally);
        if is_new {
            self.onlooker.learn();
        }
        self.onlooker.stir();
    }

    /// It ended, and this is what the clocks say of it.
    fn end(&self, cost: &Cost) {
        if let Some(entry) = self.index.last() {
            entry.here(cost);
        }
    }
}

fn add(using: &Mutex<Use>, cost: &Cost) {
    let mut using = using.lock().unwrap_or_else(PoisonError::into_inner);
    using.tasks += u64::from(cost.tasks);
    using.busy += cost.wall;
    using.cpu += cost.cpu;
}

/// What a thread runs.
#[pyclass(frozen, module = "forkright._core")]
struct HandBody {
    hands: Arc<Hands>,
    /// Taken by the thread that begins, or by the one whose start failed: the other lets it be.
    claimed: Arc<AtomicBool>,
}

#[pymethods]
impl HandBody {
    fn __call__(&self, py: Python<'_>) {
        if self.claimed.swap(true, AcqRel) {
            return;
        }
        self.hands.work(py);
        self.hands.alive.fetch_sub(1, AcqRel);
    }
}

/// Hurries under way, and the switch interval to go back to after the last.
static HURRY: Mutex<(u32, f64)> = Mutex::new((0, 0.0));
/// The switch interval meanwhile, s.
const HURRIED: f64 = 10e-6;

/// A short switch interval for the whole process as long as this lives. Preparing the move of work happens beside a
/// task that holds the GIL, and gives the GIL up at every file it opens: with 5 ms to wait each time, an import
/// would take half a second. Only beside one such task: many would hand the GIL round among themselves.
pub(crate) struct Hurry<'py>(Python<'py>);

impl<'py> Hurry<'py> {
    pub(crate) fn begin(py: Python<'py>) -> Hurry<'py> {
        let now = switch_interval(py).unwrap_or(HURRIED);
        {
            let mut hurry = HURRY.lock().unwrap_or_else(PoisonError::into_inner);
            hurry.0 += 1;
            // One that ends at this moment may not have put it back yet.
            if hurry.0 == 1 && !is_hurried(now) {
                hurry.1 = now;
            }
        }
        set_switch_interval(py, now.min(HURRIED));
        Hurry(py)
    }

    /// Whether anything hurries: then what the meter sees of other threads says little about their tasks.
    pub(crate) fn is_on() -> bool {
        HURRY.lock().unwrap_or_else(PoisonError::into_inner).0 > 0
    }
}

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        let before = {
            let mut hurry = HURRY.lock().unwrap_or_else(PoisonError::into_inner);
            hurry.0 -= 1;
            (hurry.0 == 0 && hurry.1 > 0.0).then_some(hurry.1)
        };
        // If somebody set another one meanwhile, theirs stays.
        if let Some(before) = before
            && switch_interval(self.0).is_ok_and(is_hurried)
        {
            set_switch_interval(self.0, before);
        }
    }
}

fn is_hurried(seconds: f64) -> bool {
    (seconds - HURRIED).abs() < 1e-6
}

fn switch_interval(py: Python<'_>) -> PyResult<f64> {
    import(py, "sys")?.invoke_method("getswitchinterval", ())?.extract()
}

fn set_switch_interval(py: Python<'_>, seconds: f64) {
    // A failure leaves things slow, not wrong.
    let _ = import(py, "sys").and_then(|sys| sys.invoke_method("setswitchinterval", (seconds,)));
}
