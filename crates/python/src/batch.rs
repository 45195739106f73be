//! The items of one map, wherever they run: which are given out, which are back, what they gave and cost.
//! Who runs them and how many at a time is decided elsewhere; here each item is given out exactly once.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use forkright_engine::chunk;
use forkright_engine::crew::{Delivery, Outcome, Recipient};
use forkright_engine::governor::Running;
use forkright_engine::payload::Cost;
use forkright_engine::profile::{Pickling, Profile, Reading};
use forkright_engine::queue::Source;
use forkright_engine::state::State;
use forkright_meter::{Slot, Tally, View, clock};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use crate::call;
use crate::codec;
use crate::hands::Job;
use crate::meter;

/// What a map does with an item that raises.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnError {
    /// The map ends, and raises it.
    Raise,
    /// It takes the place of the result.
    Return,
}

pub(crate) struct Batch {
    pub(crate) function: Py<PyAny>,
    pub(crate) name: Arc<str>,
    items: Py<PyAny>,
    pub(crate) star: bool,
    pub(crate) on_error: OnError,
    pub(crate) total: usize,
    /// Fixed by the user, or chosen as the work goes.
    chunksize: Option<usize>,
    next: AtomicUsize,
    /// Items that have their outcome.
    done: AtomicUsize,
    /// Chunks given out and not back; items of them that run in worker processes.
    out: AtomicUsize,
    away: AtomicUsize,
    /// Threads of this process that run items now, and how many may.
    here: AtomicU32,
    pub(crate) width: AtomicU32,
    stopped: AtomicBool,
    results: Py<PyList>,
    error: Mutex<Option<(usize, Py<PyAny>)>>,
    /// Nudged when something came that a coordinator or the caller waits for.
    pub(crate) word: Arc<State>,
    arrivals: Mutex<Vec<(Range<usize>, Sent, Delivery)>>,
    pub(crate) profile: Mutex<Profile>,
    pub(crate) tally: Arc<Tally>,
    stations: Mutex<Vec<Arc<Station>>>,
    pub(crate) totals: Mutex<Totals>,
}

/// What sending a chunk took.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sent {
    pub(crate) seconds: f64,
    pub(crate) bytes: f64,
}

/// Sums for the report.
#[derive(Clone, Default)]
pub(crate) struct Totals {
    pub(crate) here: Cost,
    pub(crate) away: Cost,
    pub(crate) encode: f64,
    pub(crate) decode: f64,
    pub(crate) bytes_out: f64,
    pub(crate) bytes_back: f64,
    pub(crate) workers: Vec<Worker>,
}

/// One worker's part.
#[derive(Clone)]
pub(crate) struct Worker {
    /// A pid for a process, a thread id for a thread of this one.
    pub(crate) id: i32,
    pub(crate) is_process: bool,
    pub(crate) tasks: u64,
    pub(crate) busy: f64,
    pub(crate) cpu: f64,
}

/// A thread of this process that runs items: what the meter may ask.
struct Station {
    view: View,
    /// When its chunk began, in nanoseconds of the monotonic clock; 0 while it runs none.
    began: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Batch {
    pub(crate) fn new(
        function: &Bound<'_, PyAny>,
        name: &str,
        items: &Bound<'_, PyAny>,
        star: bool,
        on_error: OnError,
        chunksize: Option<usize>,
    ) -> PyResult<Arc<Batch>> {
        let py = function.py();
        let total = items.len()?;
        let results = PyList::new(py, (0..total).map(|_| py.None()))?;
        Ok(Arc::new(Batch {
            function: function.clone().unbind(),
            name: name.into(),
            items: items.clone().unbind(),
            star,
            on_error,
            total,
            chunksize,
            next: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            out: AtomicUsize::new(0),
            away: AtomicUsize::new(0),
            here: AtomicU32::new(0),
            width: AtomicU32::new(1),
            stopped: AtomicBool::new(false),
            results: results.unbind(),
            error: Mutex::default(),
            word: Arc::default(),
            arrivals: Mutex::default(),
            profile: Mutex::default(),
            tally: Arc::default(),
            stations: Mutex::default(),
            totals: Mutex::default(),
        }))
    }

    /// Gives out the next items, sized for `workers` that share the rest.
    pub(crate) fn take(&self, workers: u32) -> Option<Range<usize>> {
        // Counted before it is given out, so that the batch never looks finished in between.
        self.out.fetch_add(1, AcqRel);
        let seconds = lock(&self.profile).wall();
        let mut start = self.next.load(Acquire);
        loop {
            let left = self.total - start;
            if left == 0 || self.stopped.load(Acquire) {
                self.give_back();
                return None;
            }
            let size = match self.chunksize {
                Some(size) => size.min(left),
                None => chunk::size(left, workers, seconds),
            };
            match self.next.compare_exchange_weak(start, start + size, AcqRel, Acquire) {
                Ok(_) => return Some(start..start + size),
                Err(now) => start = now,
            }
        }
    }

    fn give_back(&self) {
        if self.out.fetch_sub(1, AcqRel) == 1 {
            self.word.nudge();
        }
    }

    /// Items nobody has.
    pub(crate) fn pending(&self) -> usize {
        if self.stopped.load(Acquire) { 0 } else { self.total - self.next.load(Acquire) }
    }

    pub(crate) fn done(&self) -> usize {
        self.done.load(Acquire)
    }

    pub(crate) fn away(&self) -> usize {
        self.away.load(Acquire)
    }

    pub(crate) fn here(&self) -> u32 {
        self.here.load(Acquire)
    }

    /// Whether nothing runs and nothing will.
    pub(crate) fn is_over(&self) -> bool {
        self.pending() == 0 && self.out.load(Acquire) == 0 && !self.has_arrivals()
    }

    pub(crate) fn has_arrivals(&self) -> bool {
        !lock(&self.arrivals).is_empty()
    }

    /// No item starts from now on.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Release);
        self.word.nudge();
    }

    /// What the tasks in this process are doing.
    pub(crate) fn running(&self, now: u64) -> Vec<Running> {
        let stations = lock(&self.stations);
        let busy = stations.iter().filter_map(|station| match station.began.load(Acquire) {
            0 => None,
            began => {
                let (class, streak) = meter::class(&station.view);
                Some(Running { class, streak, elapsed: now.saturating_sub(began) as f64 * 1e-9 })
            }
        });
        busy.collect()
    }

    fn station(&self, slot: &Slot) -> Arc<Station> {
        let view = slot.view();
        let mut stations = lock(&self.stations);
        if let Some(station) = stations.iter().find(|station| station.view.tid() == view.tid()) {
            return Arc::clone(station);
        }
        let station = Arc::new(Station { view, began: AtomicU64::new(0) });
        stations.push(Arc::clone(&station));
        station
    }

    /// Runs items in this thread.
    pub(crate) fn run_here(&self, py: Python<'_>, range: Range<usize>, slot: &Slot) -> Cost {
        let station = self.station(slot);
        let alone = self.here.fetch_add(1, AcqRel) == 0;
        slot.begin(&self.tally);
        let began = clock::monotonic();
        station.began.store((began.as_nanos() as u64).max(1), Release);
        let cpu = clock::thread_cpu();
        let mut cost = Cost::default();
        for index in range {
            if self.stopped.load(Acquire) {
                break;
            }
            cost.tasks += 1;
            cost.failed += u32::from(!self.run_item(py, index));
        }
        cost.cpu = clock::thread_cpu().saturating_sub(cpu).as_secs_f64();
        cost.wall = clock::monotonic().saturating_sub(began).as_secs_f64();
        station.began.store(0, Release);
        slot.end();
        let alone = self.here.fetch_sub(1, AcqRel) == 1 && alone;
        lock(&self.profile).record(&Reading {
            tasks: cost.tasks.into(),
            failed: cost.failed.into(),
            wall: cost.wall,
            cpu: Some(cost.cpu),
            alone,
            ..Reading::default()
        });
        lock(&self.totals).add(false, station.view.tid(), &cost);
        self.done.fetch_add(cost.tasks as usize, AcqRel);
        self.give_back();
        cost
    }

    fn run_item(&self, py: Python<'_>, index: usize) -> bool {
        let function = self.function.bind(py);
        let outcome = self.items.bind(py).get_item(index).and_then(|item| {
            if self.star { function.call1(item.cast_into::<PyTuple>()?) } else { function.call1((item,)) }
        });
        match outcome {
            Ok(value) => {
                self.keep(py, index, value);
                true
            }
            Err(error) => {
                self.fail(py, index, error.into_value(py).into_any());
                false
            }
        }
    }

    fn keep(&self, py: Python<'_>, index: usize, value: Bound<'_, PyAny>) {
        // The list is ours and has `total` places, so this can not fail.
        let _ = self.results.bind(py).set_item(index, value);
    }

    fn fail(&self, py: Python<'_>, index: usize, error: Py<PyAny>) {
        if self.on_error == OnError::Return && error.bind(py).is_instance_of::<pyo3::exceptions::PyException>() {
            return self.keep(py, index, error.into_bound(py));
        }
        let mut first = lock(&self.error);
        if first.as_ref().is_none_or(|(earlier, _)| index < *earlier) {
            *first = Some((index, error));
        }
        drop(first);
        self.stop();
    }

    /// The arguments of some items, to be sent.
    pub(crate) fn items<'py>(&self, py: Python<'py>, range: &Range<usize>) -> PyResult<Bound<'py, PyList>> {
        let items = self.items.bind(py);
        let some = range.clone().map(|index| items.get_item(index)).collect::<PyResult<Vec<_>>>()?;
        PyList::new(py, some)
    }

    /// A chunk could not be sent: all its items fail with `error`.
    pub(crate) fn refuse(&self, py: Python<'_>, range: Range<usize>, error: &PyErr) {
        for index in range.clone() {
            self.fail(py, index, error.clone_ref(py).into_value(py).into_any());
        }
        self.done.fetch_add(range.len(), AcqRel);
        self.give_back();
    }

    /// Takes note that a chunk was sent.
    pub(crate) fn send(self: &Arc<Self>, range: Range<usize>, sent: Sent) -> Arc<ChunkOut> {
        self.away.fetch_add(range.len(), AcqRel);
        let mut totals = lock(&self.totals);
        totals.encode += sent.seconds;
        totals.bytes_out += sent.bytes;
        drop(totals);
        Arc::new(ChunkOut { batch: Arc::clone(self), range, sent })
    }

    /// Unpickles what arrived. Returns whether anything had.
    pub(crate) fn settle(&self, py: Python<'_>) -> bool {
        let arrivals = std::mem::take(&mut *lock(&self.arrivals));
        let some = !arrivals.is_empty();
        for (range, sent, delivery) in arrivals {
            let began = clock::monotonic();
            let bytes = self.place(py, &range, &delivery);
            let decode = clock::monotonic().saturating_sub(began).as_secs_f64();
            if let Delivery::Outcome { cost, pid, .. } = &delivery {
                self.learn(cost, *pid, sent, decode, bytes);
            }
            self.away.fetch_sub(range.len(), AcqRel);
            self.done.fetch_add(range.len(), AcqRel);
            self.give_back();
        }
        some
    }

    fn learn(&self, cost: &Cost, pid: i32, sent: Sent, decode: f64, bytes: f64) {
        let arguments = Pickling { encode: Some(sent.seconds), decode: Some(cost.decode), bytes: sent.bytes };
        let results = Pickling { encode: Some(cost.encode), decode: Some(decode), bytes };
        lock(&self.profile).record(&Reading {
            tasks: cost.tasks.into(),
            failed: cost.failed.into(),
            wall: cost.wall,
            cpu: (cost.cpu > 0.0).then_some(cost.cpu),
            alone: true,
            arguments: Some(arguments),
            results: Some(results),
        });
        let mut totals = lock(&self.totals);
        totals.add(true, pid, cost);
        totals.decode += decode;
        totals.bytes_back += bytes;
    }

    fn place(&self, py: Python<'_>, range: &Range<usize>, delivery: &Delivery) -> f64 {
        let failed = |error: Py<PyAny>| {
            for index in range.clone() {
                self.fail(py, index, error.clone_ref(py));
            }
        };
        let Delivery::Outcome { kind, parcel, .. } = delivery else {
            if let Err(error) = call::open(py, delivery, &self.name) {
                failed(error);
            }
            return 0.0;
        };
        let value = match call::open(py, delivery, &self.name) {
            Ok(value) => value.into_bound(py),
            Err(error) => {
                failed(error);
                return 0.0;
            }
        };
        let Ok(list) = value.cast_into::<PyList>() else { return 0.0 };
        for (index, outcome) in range.clone().zip(list.iter()) {
            if *kind == Outcome::Value {
                self.keep(py, index, outcome);
                continue;
            }
            match codec::decode_apart(&outcome, &self.name) {
                Ok(value) => self.keep(py, index, value),
                Err(error) => self.fail(py, index, error.into_value(py).into_any()),
            }
        }
        parcel.bytes() as f64
    }

    /// The results, or the error of the first item that raised.
    pub(crate) fn finish<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        if let Some((_, error)) = lock(&self.error).take() {
            return Err(PyErr::from_value(error.into_bound(py)));
        }
        Ok(self.results.bind(py).clone())
    }
}

impl Totals {
    fn add(&mut self, is_process: bool, id: i32, cost: &Cost) {
        let sum = if is_process { &mut self.away } else { &mut self.here };
        sum.tasks += cost.tasks;
        sum.failed += cost.failed;
        sum.wall += cost.wall;
        sum.cpu += cost.cpu;
        let found = self.workers.iter().position(|worker| worker.id == id && worker.is_process == is_process);
        let index = found.unwrap_or_else(|| {
            self.workers.push(Worker { id, is_process, tasks: 0, busy: 0.0, cpu: 0.0 });
            self.workers.len() - 1
        });
        let worker = &mut self.workers[index];
        worker.tasks += u64::from(cost.tasks);
        worker.busy += cost.wall;
        worker.cpu += cost.cpu;
    }
}

/// A chunk on its way through a worker process.
pub(crate) struct ChunkOut {
    batch: Arc<Batch>,
    range: Range<usize>,
    sent: Sent,
}

impl Recipient for ChunkOut {
    fn send(&self) -> bool {
        if self.batch.stopped.load(Acquire) {
            self.batch.away.fetch_sub(self.range.len(), AcqRel);
            self.batch.give_back();
            return false;
        }
        true
    }

    fn recall(&self) {}

    fn abandon(self: Arc<Self>) {
        self.batch.away.fetch_sub(self.range.len(), AcqRel);
        self.batch.give_back();
    }

    fn deliver(self: Arc<Self>, delivery: Delivery) {
        lock(&self.batch.arrivals).push((self.range.clone(), self.sent, delivery));
        self.batch.word.nudge();
    }
}

/// Gives the items of a batch to the threads of this process.
pub(crate) struct HereSource(pub(crate) Arc<Batch>);

impl Source<Job> for HereSource {
    fn take(&self) -> Option<Job> {
        let range = self.0.take(self.0.width.load(Acquire))?;
        Some(Job::Chunk(Arc::clone(&self.0), range))
    }

    fn is_exhausted(&self) -> bool {
        self.0.pending() == 0
    }
}
