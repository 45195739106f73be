//! The items of one map, wherever they run: which are given out, which are back, what they gave and cost.
//! Who runs them and how many at a time is decided elsewhere; here each item is given out exactly once.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use forkright_engine::chunk as chunks;
use forkright_engine::crew::{Delivery, Outcome, Parcel, Recipient, Terms};
use forkright_engine::frame::{chunk, down};
use forkright_engine::payload::Cost;
use forkright_engine::plan::Plan;
use forkright_meter::{Slot, clock};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PySlice, PyTuple};

use crate::functions::{Described, Differing, Look};
use crate::hands::Job;
use crate::outward::{Outward as _, member};
use crate::progress::{Progress, Sent, Stint};
use crate::recruit::Staff;
use crate::work::{Sample, Work};
use crate::{call, codec, errors, job};

/// The loop over items that run here.
static CALL_EACH: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// What a map does with an item that raises.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnError {
    /// The map ends, and raises it.
    Raise,
    /// It takes the place of the result.
    Return,
}

pub(crate) struct Batch {
    progress: Progress,
    function: Py<PyAny>,
    items: Py<PyAny>,
    star: bool,
    /// What gives each call a random generator, if they are to get one.
    seeds: Option<Py<PyAny>>,
    /// The function with the caller's context (a `forkright._context.Within`), for wherever the caller does not run it.
    around: Option<Py<PyAny>>,
    on_error: OnError,
    pub(crate) job: u32,
    pub(crate) total: usize,
    /// Fixed by the user, or chosen as the work goes.
    chunksize: Option<usize>,
    next: AtomicUsize,
    /// Chunks given out and not done.
    out: AtomicUsize,
    /// Those of them that are with worker processes.
    travelling: AtomicUsize,
    /// Those of them that a worker refused: they run here, when all others have been given out.
    refused: Mutex<Vec<Range<usize>>>,
    under_way: Mutex<Vec<UnderWay>>,
    stopped: AtomicBool,
    results: Py<PyList>,
    error: Mutex<Option<(usize, Py<PyAny>)>>,
    /// Items that raised, or were lost with their worker.
    failed: AtomicUsize,
    differing: Differing,
    /// The plan is chosen as it runs: what workers can't take runs here.
    chosen: bool,
    described: Mutex<Option<Described>>,
    arrivals: Mutex<Vec<(Range<usize>, Sent, Delivery)>>,
}

/// Items that run here, in a list that whoever stops the batch empties, so that none of them begins; and what those
/// before them gave.
struct UnderWay {
    items: Py<PyList>,
    results: Py<PyList>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Batch {
    #[expect(clippy::too_many_arguments, reason = "called in one place, with what the user asked for")]
    pub(crate) fn new(
        function: &Bound<'_, PyAny>,
        name: &str,
        items: &Bound<'_, PyAny>,
        star: bool,
        seeds: Option<Py<PyAny>>,
        around: Option<Py<PyAny>>,
        on_error: OnError,
        chunksize: Option<usize>,
        differing: Differing,
        chosen: bool,
    ) -> PyResult<Arc<Batch>> {
        let py = function.py();
        let total = items.len()?;
        let results = PyList::new(py, [py.None()])?.as_sequence().repeat(total)?.cast_into::<PyList>()?;
        Ok(Arc::new(Batch {
            progress: Progress::new(name.into()),
            function: function.clone().unbind(),
            items: items.clone().unbind(),
            star,
            seeds,
            around,
            on_error,
            job: job::new(),
            total,
            chunksize,
            next: AtomicUsize::new(0),
            out: AtomicUsize::new(0),
            travelling: AtomicUsize::new(0),
            refused: Mutex::default(),
            under_way: Mutex::default(),
            stopped: AtomicBool::new(false),
            results: results.unbind(),
            error: Mutex::default(),
            failed: AtomicUsize::new(0),
            differing,
            chosen,
            described: Mutex::default(),
            arrivals: Mutex::default(),
        }))
    }

    /// Gives out the next items, sized for `workers` that share the rest.
    pub(crate) fn take(&self, workers: u32) -> Option<Range<usize>> {
        // Counted before it is given out, so that the batch never looks finished in between.
        self.out.fetch_add(1, AcqRel);
        self.take_uncounted(workers, self.progress.pace()).or_else(|| {
            self.give_back();
            lock(&self.refused).pop()
        })
    }

    fn take_uncounted(&self, workers: u32, (seconds, seen): (Option<f64>, u64)) -> Option<Range<usize>> {
        let mut start = self.next.load(Acquire);
        loop {
            let left = self.total - start;
            if left == 0 || self.stopped.load(Acquire) {
                return None;
            }
            let size = match self.chunksize {
                Some(size) => size.min(left),
                None => chunks::size(left, workers, seconds, seen),
            };
            match self.next.compare_exchange_weak(start, start + size, AcqRel, Acquire) {
                Ok(_) => return Some(start..start + size),
                Err(now) => start = now,
            }
        }
    }

    fn give_back(&self) {
        if self.out.fetch_sub(1, AcqRel) == 1 {
            self.progress.word.nudge();
        }
    }

    /// Runs items in this thread.
    pub(crate) fn run_here(&self, py: Python<'_>, range: Range<usize>, slot: &Slot) -> Cost {
        let mut stint = self.progress.begin(slot, range.len());
        self.run_items(py, range, &mut stint, self.around.as_ref());
        let cost = self.progress.end(slot, stint);
        self.give_back();
        cost
    }

    /// Takes items and runs them in this thread, some at a time for as long as it `goes_on`, until so much time has
    /// passed that reading the clocks does not take longer than they did. False: none was left to take.
    pub(crate) fn run_on(&self, py: Python<'_>, slot: &Slot, goes_on: impl Fn() -> bool) -> bool {
        let width = || self.progress.width.load(Acquire);
        let Some(range) = self.take(width()) else { return false };
        let mut stint = self.progress.begin(slot, range.len());
        let mut next = Some(range);
        while let Some(range) = next {
            self.run_items(py, range, &mut stint, None);
            let now = clock::monotonic();
            let pace = self.progress.pace_within(&stint, now).filter(|_| goes_on());
            next = pace.and_then(|pace| self.take_uncounted(width(), pace));
            if let Some(range) = &next {
                self.progress.prolong(slot, &stint, range.len(), now);
            }
        }
        self.progress.end(slot, stint);
        self.give_back();
        true
    }

    fn run_items(&self, py: Python<'_>, range: Range<usize>, stint: &mut Stint, around: Option<&Py<PyAny>>) {
        let start = range.start;
        let ran = self.items(py, &range).and_then(|items| {
            let results = PyList::empty(py);
            let run = UnderWay { items: items.clone().unbind(), results: results.clone().unbind() };
            lock(&self.under_way).push(run);
            let ran = if self.is_stopped() {
                Ok(())
            } else {
                self.call_each(&items, &results, start, stint, around)
            };
            lock(&self.under_way).retain(|run| !run.items.is(&items));
            ran
        });
        if let Err(error) = ran {
            self.end_with(py, start, error.into_value(py).into_any());
        }
    }

    /// Calls the function with each of the items, of which the first has this index. Fails with what is no item's doing:
    /// what a signal's handler raises between two of them. They run in a copy of the context that is `around` them.
    fn call_each(
        &self,
        items: &Bound<'_, PyList>,
        results: &Bound<'_, PyList>,
        start: usize,
        stint: &mut Stint,
        around: Option<&Py<PyAny>>,
    ) -> PyResult<()> {
        let py = items.py();
        let (count, rest) = (items.len(), items.try_iter()?);
        let (mut failed, mut ended) = (0, 0);
        let ran = loop {
            let (function, star) = (self.function.bind(py), self.star);
            let call = match &self.seeds {
                None => member(py, &CALL_EACH, "forkright._map", "call_each")?.clone(),
                Some(seeds) => seeds.bind(py).getattr("call_each")?,
            };
            let called = match (around, &self.seeds) {
                (None, None) => call.invoke((function, &rest, results, star)),
                (None, Some(_)) => call.invoke((function, &rest, results, star, start)),
                (Some(around), None) => {
                    around.bind(py).invoke_method("run", (call, function, &rest, results, star))
                }
                (Some(around), Some(_)) => {
                    around.bind(py).invoke_method("run", (call, function, &rest, results, star, start))
                }
            };
            let Err(error) = called else { break Ok(()) };
            let left: usize = rest.as_any().invoke_method("__length_hint__", ())?.extract()?;
            if count == left + results.len() {
                break Err(error);
            }
            failed += 1;
            let error = error.into_value(py).into_any();
            if !self.is_result(py, &error) {
                ended = 1;
                self.end_with(py, start + results.len(), error);
                break Ok(());
            }
            results.append(error)?;
            self.failed.fetch_add(1, AcqRel);
        };
        let done = results.len();
        self.results.bind(py).set_slice(start, start + done, results)?;
        self.failed.fetch_add(ended as usize, AcqRel);
        self.progress.count(stint, done as u32 + ended, failed);
        ran
    }

    fn keep(&self, py: Python<'_>, index: usize, value: Bound<'_, PyAny>) {
        // The list is ours and has `total` places, so this can not fail.
        let _ = self.results.bind(py).set_item(index, value);
    }

    fn fail(&self, py: Python<'_>, index: usize, error: Py<PyAny>) {
        self.failed.fetch_add(1, AcqRel);
        if self.is_result(py, &error) {
            return self.keep(py, index, error.into_bound(py));
        }
        self.end_with(py, index, error);
    }

    /// Whether an item that raised this has it as its result.
    fn is_result(&self, py: Python<'_>, error: &Py<PyAny>) -> bool {
        self.on_error == OnError::Return && error.bind(py).is_instance_of::<pyo3::exceptions::PyException>()
    }

    /// The map raises what came of the first item.
    fn end_with(&self, py: Python<'_>, index: usize, error: Py<PyAny>) {
        let mut first = lock(&self.error);
        if first.as_ref().is_none_or(|(earlier, _)| index < *earlier) {
            *first = Some((index, error));
        }
        drop(first);
        self.stop(py);
    }

    /// What ends the map although calls still run: an interrupt, which may have met the calling thread in one of them.
    pub(crate) fn interrupt(&self, py: Python<'_>) -> Option<PyErr> {
        let first = lock(&self.error);
        let error = first.as_ref()?.1.bind(py);
        (!error.is_instance_of::<pyo3::exceptions::PyException>()).then(|| PyErr::from_value(error.clone()))
    }

    /// A worker would not run these.
    fn take_back(&self, range: Range<usize>, reason: String) {
        self.progress.refuse(range.len(), reason);
        let mut refused = lock(&self.refused);
        // Whoever stops the batch empties the list under this lock, and then no more is added.
        if self.stopped.load(Acquire) {
            drop(refused);
            self.give_back();
        } else {
            refused.push(range);
        }
    }

    fn describe(&self, py: Python<'_>, staff: &Staff) -> PyResult<Described> {
        let function = match &self.around {
            None => self.function.bind(py).clone(),
            Some(around) => around.bind(py).invoke_method("traveller", ())?,
        };
        let function = &function;
        let known = lock(&self.described).clone();
        // Each map looks once at all that its function reads; while it runs, what is watched must do.
        let look = if known.is_some() { Look::Watched } else { Look::Whole };
        if let Some(described) = staff.functions.describe(function, staff.crew(), self.differing, look)? {
            if look == Look::Whole {
                *lock(&self.described) = Some(described.clone());
            }
            return Ok(described);
        }
        // A bound method or such: once for the map, with its object as it was then.
        if let Some(described) = known {
            return Ok(described);
        }
        let described = staff.functions.describe_afresh(function, staff.crew(), self.differing)?;
        Ok(lock(&self.described).insert(described).clone())
    }

    fn items<'py>(&self, py: Python<'py>, range: &Range<usize>) -> PyResult<Bound<'py, PyList>> {
        let (start, stop) = (range.start as isize, range.end as isize);
        let some = self.items.bind(py).get_item(PySlice::new(py, start, stop, 1))?;
        some.cast_into::<PyList>().or_else(|range| {
            let items = PyList::empty(py);
            items.set_slice(0, 0, &range.into_inner())?;
            Ok(items)
        })
    }

    /// Some of the items, as a range if all of them are one: that is small to send.
    fn slice<'py>(&self, py: Python<'py>, range: &Range<usize>) -> PyResult<Bound<'py, PyAny>> {
        self.items.bind(py).get_item(PySlice::new(py, range.start as isize, range.end as isize, 1))
    }

    /// A chunk could not be sent: all its items fail with `error`.
    fn refuse(&self, py: Python<'_>, range: Range<usize>, error: &PyErr) {
        for index in range.clone() {
            self.fail(py, index, error.clone_ref(py).into_value(py).into_any());
        }
        self.progress.drop_out(range.len());
        self.give_back();
    }

    /// Puts what came of a chunk in its place. Gives the bytes of it, and the number of items that were run: those after
    /// one that ended the chunk were not.
    fn place(&self, py: Python<'_>, range: &Range<usize>, delivery: &Delivery) -> (f64, usize) {
        let failed = |error: Py<PyAny>| {
            for index in range.clone() {
                self.fail(py, index, error.clone_ref(py));
            }
        };
        let Delivery::Outcome { kind, parcel, .. } = delivery else {
            if let Err(error) = call::open(py, delivery, self.progress.name()) {
                failed(error);
            }
            return (0.0, range.len());
        };
        let value = match call::open(py, delivery, self.progress.name()) {
            Ok(value) => value.into_bound(py),
            Err(error) => {
                failed(error);
                return (0.0, range.len());
            }
        };
        let Ok(list) = value.cast_into::<PyList>() else {
            failed(self.nonsense(py));
            return (0.0, range.len());
        };
        let mut complete = list.len() == range.len();
        if complete && *kind == Outcome::Value {
            // The list is ours and has these places, so this can not fail.
            let _ = self.results.bind(py).set_slice(range.start, range.end, &list);
            return (parcel.bytes() as f64, range.len());
        }
        for (index, outcome) in range.clone().zip(list.iter()) {
            if *kind == Outcome::Value {
                self.keep(py, index, outcome);
                continue;
            }
            match codec::decode_apart(&outcome, self.progress.name()) {
                Ok(value) => self.keep(py, index, value),
                Err(error) => {
                    // It may be the one that ended its chunk.
                    complete |= list.len() < range.len();
                    self.fail(py, index, error.into_value(py).into_any());
                }
            }
        }
        if !complete {
            failed(self.nonsense(py));
        }
        (parcel.bytes() as f64, list.len().min(range.len()))
    }

    /// A worker gave something else than an outcome for each item.
    fn nonsense(&self, py: Python<'_>) -> Py<PyAny> {
        let name = self.progress.name();
        let error = PyValueError::new_err("they are not one for each item: its worker process is damaged");
        errors::undecodable(py, error, &format!("the results of `{name}`")).into_value(py).into_any()
    }

    /// Items that have ended, and those of them that failed.
    pub(crate) fn counts(&self, py: Python<'_>) -> (usize, usize) {
        // Attached, as those are who move a run's results from one to the other, so none of them is counted twice.
        let fresh: usize = lock(&self.under_way).iter().map(|run| run.results.bind(py).len()).sum();
        let done = self.progress.done() + fresh;
        // A chunk's failures are known a moment before its end is.
        (done, self.failed.load(Acquire).min(done))
    }

    /// The results, or the error of the first item that raised.
    pub(crate) fn finish<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        if let Some((_, error)) = lock(&self.error).take() {
            return Err(PyErr::from_value(error.into_bound(py)));
        }
        Ok(self.results.bind(py).clone())
    }
}

impl Work for Batch {
    fn progress(&self) -> &Progress {
        &self.progress
    }

    fn sample<'py>(&self, py: Python<'py>) -> PyResult<Option<Sample<'py>>> {
        let item = self.items.bind(py).get_item(0)?;
        let arguments = if self.star { item } else { PyTuple::new(py, [item])?.into_any() };
        let mut results = vec![self.results.clone_ref(py)];
        results.extend(lock(&self.under_way).iter().map(|run| run.results.clone_ref(py)));
        let first =
            |results: &Py<PyList>| results.bind(py).get_item(0).ok().filter(|result| !result.is_none());
        let result = results.iter().find_map(first);
        let function = self.around.as_ref().unwrap_or(&self.function).bind(py).clone();
        Ok(Some(Sample { function, arguments, result }))
    }

    fn pending(&self) -> usize {
        if self.stopped.load(Acquire) {
            return 0;
        }
        let refused: usize = lock(&self.refused).iter().map(Range::len).sum();
        self.total - self.next.load(Acquire) + refused
    }

    fn is_over(&self) -> bool {
        self.pending() == 0 && self.out.load(Acquire) == 0
    }

    fn has_arrivals(&self) -> bool {
        !lock(&self.arrivals).is_empty()
    }

    fn take_here(self: Arc<Self>) -> Option<Job> {
        let range = self.take(self.progress.width.load(Acquire))?;
        Some(Job::Chunk(self, range))
    }

    fn may_send(&self, workers: u32) -> bool {
        self.chunksize.is_some() || self.travelling.load(Acquire) < chunks::most_out(workers)
    }

    fn send_one(self: Arc<Self>, py: Python<'_>, staff: &Arc<Staff>, plan: Plan) -> PyResult<bool> {
        let function = self.describe(py, staff)?;
        if self.progress.refusal().is_some() {
            return Ok(false);
        }
        let Some(range) = self.take(plan.workers()) else { return Ok(false) };
        let began = clock::monotonic();
        let mut items = self.slice(py, &range)?;
        let mut flags = if self.star { chunk::STAR } else { 0 };
        if let Some(seeds) = &self.seeds {
            items = seeds.bind(py).invoke_method("parcels", (items, self.star, range.start))?;
            flags = chunk::KEYWORDS;
        }
        let role = || format!("the items of `{}`", self.progress.name());
        let codec::Encoded { payload, leases } =
            match codec::encode(&items, staff.crew().store(), staff.initializer(), role) {
                Ok(encoded) => encoded,
                Err(error) => {
                    self.refuse(py, range, &error);
                    return Ok(true);
                }
            };
        let seconds = clock::monotonic().saturating_sub(began).as_secs_f64();
        let sent = Sent { seconds, bytes: payload.bytes() as f64, threads: plan.threads() };
        self.progress.send(range.len(), sent);
        if self.on_error == OnError::Raise {
            flags |= chunk::STOP_AT_ERROR;
        }
        self.travelling.fetch_add(1, AcqRel);
        let parcel = Parcel {
            id: staff.crew().next_id(),
            owner: self.progress.owner,
            job: self.job,
            kind: down::CHUNK,
            function: Some(Arc::clone(&function.blob)),
            flags: Some(flags),
            payload,
            leases,
            tasks: range.len() as u32,
            terms: Terms::default(),
            recipient: Arc::new(ChunkOut { batch: self, range, sent }),
        };
        let (wanted, _) = staff.crew().submit(parcel);
        staff.hire(py, wanted)?;
        Ok(true)
    }

    fn settle(&self, py: Python<'_>) -> bool {
        let arrivals = std::mem::take(&mut *lock(&self.arrivals));
        let some = !arrivals.is_empty();
        for (range, sent, delivery) in arrivals {
            if let Delivery::Outcome { kind: Outcome::Refused, parcel, .. } = &delivery {
                self.take_back(range, parcel.words());
                continue;
            }
            if let Delivery::Broken(reason) = &delivery
                && let (true, Some(words)) = (self.chosen, reason.words())
            {
                self.take_back(range, words.into());
                continue;
            }
            let began = clock::monotonic();
            let (bytes, done) = self.place(py, &range, &delivery);
            let decode = clock::monotonic().saturating_sub(began).as_secs_f64();
            if let Delivery::Outcome { cost, pid, .. } = &delivery {
                self.progress.learn(cost, *pid, sent, Some(decode), bytes);
            }
            self.progress.arrive(range.len(), done);
            self.give_back();
        }
        some
    }

    fn stop(&self, py: Python<'_>) {
        self.stopped.store(true, Release);
        let under_way: Vec<_> = lock(&self.under_way).iter().map(|run| run.items.clone_ref(py)).collect();
        for items in under_way {
            let items = items.bind(py);
            // A list can always be made shorter.
            let _ = items.del_slice(0, items.len());
        }
        for _ in std::mem::take(&mut *lock(&self.refused)) {
            self.give_back();
        }
        self.progress.word.nudge();
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Acquire)
    }
}

/// A chunk on its way through a worker process.
pub(crate) struct ChunkOut {
    batch: Arc<Batch>,
    range: Range<usize>,
    sent: Sent,
}

impl Drop for ChunkOut {
    fn drop(&mut self) {
        self.batch.travelling.fetch_sub(1, AcqRel);
    }
}

impl Recipient for ChunkOut {
    fn send(&self) -> bool {
        if self.batch.stopped.load(Acquire) {
            self.batch.progress.recall(self.range.len());
            self.batch.give_back();
            return false;
        }
        true
    }

    fn recall(&self) {}

    fn abandon(self: Arc<Self>) {
        self.batch.progress.recall(self.range.len());
        self.batch.give_back();
    }

    fn deliver(self: Arc<Self>, delivery: Delivery) {
        lock(&self.batch.arrivals).push((self.range.clone(), self.sent, delivery));
        self.batch.progress.word.nudge();
    }
}
