//! What a worker process does: takes messages from its line, runs them, answers. The same loop serves one
//! thread or several; only taking and answering are done under a lock, never Python code.

use std::collections::HashMap;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use forkright_engine::cores;
use forkright_engine::crew::Arrived;
use forkright_engine::frame::{chunk, down, up};
use forkright_engine::line::{self, Line};
use forkright_engine::payload::{Cost, Payload, Seen};
use forkright_engine::share::SHARED;
use forkright_engine::store::{Inbox, Lent, Store, TIDY};
use forkright_meter::{Counts, Slot, Tally, clock};
use forkright_shm::bell::{Bell, Woken};
use forkright_shm::memory::Memory;
use forkright_shm::ring::{Consumer, Head, Producer, PushError};
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use crate::codec::{self, Encoded};
use crate::errors::name_of;
use crate::job;
use crate::meter::{self, Stopwatch};
use crate::onlooker::Onlooker;
use crate::outward::{Outward as _, import};

/// No caller means more threads than this.
const MOST_THREADS: u32 = 65_536;
/// A sleeping worker looks up this often, in case a strike was lost to damaged memory.
const LOOK_UP: Duration = Duration::from_secs(30);
/// A worker that had as little time between messages lately looks for the next one so long before it sleeps: to be woken
/// costs it and its caller more.
const LINGER: Duration = Duration::from_micros(50);

/// What says how much memory a process has, in pages.
const STATM: &str = "/proc/self/statm";

/// One worker process, from the inside.
#[pyclass(frozen, module = "forkright._core")]
pub(crate) struct Worker {
    taking: Mutex<Taking>,
    /// Told when more threads may take messages, or none need to any more.
    more: Condvar,
    answering: Mutex<Producer>,
    bell: Bell,
    caller: Bell,
    inbox: Arc<Inbox>,
    store: Arc<Store>,
    /// Whether this worker meters its tasks, for all of its plan.
    metered: AtomicBool,
    /// Bytes of memory of its own that end it; 0 if none do.
    memory_limit: AtomicU64,
    /// Its share of the cores, if that is new; else 0.
    share: AtomicU32,
    /// Blocks of ours that the caller may still read.
    lent: Mutex<Lent>,
}

struct Taking {
    consumer: Consumer,
    body: Vec<u8>,
    functions: HashMap<u64, Arc<Function>>,
    /// Threads that may take messages; those that exist.
    allowed: u32,
    threads: u32,
    stopped: bool,
}

/// A function as it came; rebuilt when first called.
struct Function {
    arrived: Arrived,
    ready: PyOnceLock<Result<Loaded, Py<PyAny>>>,
    tally: Arc<Tally>,
    /// The samples that the caller has heard of.
    reported: Mutex<Counts>,
}

/// How a thread marks its tasks for the sampler of its process.
struct Marker {
    slot: Slot,
    onlooker: Arc<Onlooker>,
}

/// A function that can be called.
struct Loaded {
    callable: Py<PyAny>,
    /// What it does otherwise here than at the caller's, in words.
    differs: Option<String>,
    /// The caller does not want it run then.
    strict: bool,
    /// The caller has been told.
    told: AtomicBool,
}

enum Message {
    Task {
        head: Head,
        arguments: Arrived,
        function: Option<Arc<Function>>,
    },
    /// Start so many more threads.
    Grow(u32),
    /// Let go of a function: what that runs must not run under the lock.
    Forget(#[expect(dead_code, reason = "held to be dropped")] Arc<Function>),
    Chunk {
        head: Head,
        flags: u8,
        items: Arrived,
        function: Option<Arc<Function>>,
    },
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn broken(what: &dyn std::fmt::Display) -> PyErr {
    PyRuntimeError::new_err(format!("the line to the caller is damaged: {what}"))
}

#[pymethods]
impl Worker {
    /// Takes over the descriptors a worker is handed: its line, its payload memory, the caller's, the caller's bell.
    #[new]
    #[expect(unsafe_code, reason = "descriptors arrive as numbers from Python")]
    fn new(line: i32, results: i32, arguments: i32, bell: i32) -> PyResult<Worker> {
        let memory = |fd: i32| {
            // SAFETY: the worker's main function received these descriptors for this object alone and passes
            // each of them on once.
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            Memory::from_fd(fd).map_err(|error| PyOSError::new_err(error.to_string()))
        };
        let fail = |error: std::io::Error| PyOSError::new_err(error.to_string());
        let Line { producer, consumer, bell: own } = line::join(&memory(line)?).map_err(fail)?;
        Ok(Worker {
            taking: Mutex::new(Taking {
                consumer,
                body: Vec::new(),
                functions: HashMap::new(),
                allowed: 1,
                threads: 1,
                stopped: false,
            }),
            more: Condvar::new(),
            answering: Mutex::new(producer),
            bell: own,
            caller: line::open_bell(&memory(bell)?).map_err(fail)?,
            inbox: Inbox::of_caller(memory(arguments)?),
            store: Store::of_worker(memory(results)?).map_err(fail)?,
            metered: AtomicBool::new(false),
            memory_limit: AtomicU64::new(0),
            share: AtomicU32::new(0),
            lent: Mutex::default(),
        })
    }

    /// Says that tasks may run.
    fn ready(&self, py: Python<'_>) -> PyResult<()> {
        self.answer(py, Head { kind: up::READY, id: 0, extra: 0 }, &[])
    }

    /// Says that this worker can not become ready, and why.
    fn unfit(&self, py: Python<'_>, exception: Bound<'_, PyAny>) -> PyResult<()> {
        let encoded = codec::encode_exception(py, PyErr::from_value(exception), &self.store)?;
        let head = Head { kind: up::UNFIT, id: 0, extra: 0 };
        self.answer(py, head, &[&encoded.payload.head(), encoded.payload.tail()])
    }

    /// Runs what comes until the caller says stop. Each thread of the worker calls this once, with its number
    /// and what starts further threads with theirs.
    fn serve(&self, py: Python<'_>, index: u32, grow: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut stopwatch = Stopwatch::start();
        let mut marker = None;
        let mut lingers = false;
        loop {
            match self.take(index)? {
                Some(Message::Grow(count)) => drop(grow.invoke((count,))?),
                Some(message) => {
                    let metered = self.metered.load(Relaxed);
                    let marker = metered.then(|| &*marker.get_or_insert_with(|| Marker::new(py)));
                    self.run(py, message, &mut stopwatch, marker)?;
                    self.mind_memory(py)?;
                }
                None if lock(&self.taking).stopped => return Ok(()),
                None => {
                    self.release(py)?;
                    let began = clock::monotonic();
                    self.sleep(py, index, lingers)?;
                    stopwatch = Stopwatch::start();
                    lingers = clock::monotonic() - began < LINGER;
                }
            }
        }
    }
}

impl Worker {
    /// The next message to run. Keeps functions and frees blocks on the way.
    fn take(&self, index: u32) -> PyResult<Option<Message>> {
        let mut taking = lock(&self.taking);
        let Taking { consumer, body, functions, allowed, threads, stopped } = &mut *taking;
        loop {
            if *stopped || index >= *allowed {
                return Ok(None);
            }
            let Some(head) = consumer.pop(body).map_err(|error| broken(&error))? else { return Ok(None) };
            let payload = |body: &[u8]| Payload::parse(body).map_err(|_| broken(&"a message does not parse"));
            match head.kind & down::KIND {
                down::FUNCTION => {
                    let arrived = Arrived::receive(payload(body)?, &self.inbox);
                    let function = Function::new(arrived);
                    functions.insert(head.id, Arc::new(function));
                }
                down::FORGET => {
                    if let Some(function) = functions.remove(&head.id) {
                        return Ok(Some(Message::Forget(function)));
                    }
                }
                down::RELEASE => {
                    let mut lent = lock(&self.lent);
                    for key in body.as_chunks::<8>().0 {
                        let key = u64::from_le_bytes(*key);
                        if key & SHARED == 0 {
                            lent.give_back(key);
                        } else {
                            self.inbox.forget(key);
                        }
                    }
                }
                down::THREADS => {
                    // At least the one that reads this.
                    *allowed = u32::try_from(head.id).unwrap_or(1).clamp(1, MOST_THREADS);
                    let (metered, share) = down::parse_extent(head.extra);
                    self.metered.store(metered && *allowed > 1, Relaxed);
                    if cores::set_share(share) {
                        self.share.store(share, Relaxed);
                    }
                    self.bell.strike_all();
                    self.more.notify_all();
                    if *allowed > *threads {
                        let more = *allowed - *threads;
                        *threads = *allowed;
                        return Ok(Some(Message::Grow(more)));
                    }
                }
                down::MEMORY => self.memory_limit.store(head.id, Relaxed),
                down::STOP => {
                    *stopped = true;
                    self.bell.strike_all();
                    self.more.notify_all();
                }
                down::TASK | down::KEYWORDS | down::WHOLE | down::WITHIN => {
                    let arguments = Arrived::receive(payload(body)?, &self.inbox);
                    let function = functions.get(&head.extra).cloned();
                    return Ok(Some(Message::Task { head, arguments, function }));
                }
                down::CHUNK => {
                    let (flags, rest) = body.split_first().ok_or_else(|| broken(&"a chunk is empty"))?;
                    let items = Arrived::receive(payload(rest)?, &self.inbox);
                    let function = functions.get(&head.extra).cloned();
                    return Ok(Some(Message::Chunk { head, flags: *flags, items, function }));
                }
                kind => return Err(broken(&format!("a message of the unknown kind {kind}"))),
            }
        }
    }

    /// Has libraries keep to a share of the cores that has changed.
    fn mind_share(&self, py: Python<'_>) -> PyResult<()> {
        if self.share.load(Relaxed) != 0 {
            let share = self.share.swap(0, Relaxed);
            import(py, "forkright._budget")?.getattr("change")?.invoke((share,))?;
        }
        Ok(())
    }

    /// Has the worker end if it has more memory than it may, even without its garbage.
    fn mind_memory(&self, py: Python<'_>) -> PyResult<()> {
        let limit = self.memory_limit.load(Relaxed);
        let is_over = || own_memory().is_some_and(|bytes| bytes > limit);
        if limit == 0 || !is_over() {
            return Ok(());
        }
        import(py, "gc")?.invoke_method("collect", ())?;
        let mut taking = lock(&self.taking);
        if taking.stopped || !is_over() {
            return Ok(());
        }
        taking.stopped = true;
        drop(taking);
        self.bell.strike_all();
        self.more.notify_all();
        self.answer(py, Head { kind: up::LEAVING, id: 0, extra: 0 }, &[])
    }

    fn sleep(&self, py: Python<'_>, index: u32, lingers: bool) -> PyResult<()> {
        let woken = py.detach(|| {
            if lingers && self.linger(index) {
                return Woken::Struck;
            }
            let mut taking = lock(&self.taking);
            // Threads that may not take messages sleep elsewhere: a strike wakes one sleeper, and it must be one who
            // looks.
            if index >= taking.allowed && !taking.stopped {
                taking = self.more.wait(taking).unwrap_or_else(PoisonError::into_inner);
            }
            drop(taking);
            let listening = self.bell.listen();
            if self.is_called(index) {
                return Woken::Struck;
            }
            let has_idle = self.store.usage().1 > 0;
            let woken = listening.wait(Some(if has_idle { TIDY } else { LOOK_UP }));
            if has_idle {
                self.store.trim();
            }
            woken
        });
        if woken == Woken::Interrupted { py.check_signals() } else { Ok(()) }
    }

    /// Whether a thread has something to look at.
    fn is_called(&self, index: u32) -> bool {
        let taking = lock(&self.taking);
        taking.stopped || index >= taking.allowed || !taking.consumer.is_empty()
    }

    /// Looks whether something comes soon; makes room for others on its core meanwhile.
    fn linger(&self, index: u32) -> bool {
        let began = clock::monotonic();
        while clock::monotonic() - began < LINGER {
            if self.is_called(index) {
                return true;
            }
            std::thread::yield_now();
        }
        false
    }

    fn run(
        &self,
        py: Python<'_>,
        message: Message,
        stopwatch: &mut Stopwatch,
        marker: Option<&Marker>,
    ) -> PyResult<()> {
        let mut cost = Cost { tasks: 1, ..Cost::default() };
        self.mind_share(py)?;
        if let Message::Task { head, .. } | Message::Chunk { head, .. } = &message {
            job::set(head.kind >> down::JOB);
            if head.kind & down::TIMED != 0 {
                self.begin(py, head.id)?;
            }
        }
        if let Message::Task { head, function: Some(function), .. }
        | Message::Chunk { head, function: Some(function), .. } = &message
            && let Some(reason) = self.objection(py, function)?
        {
            let body = Payload::inline(reason.as_bytes().to_vec());
            let head = Head { kind: up::REFUSED, id: head.id, extra: 0 };
            return self.answer(py, head, &[&Cost::default().to_bytes(), &body.head(), body.tail()]);
        }
        match message {
            Message::Grow(_) | Message::Forget(_) => Ok(()),
            Message::Task { head, arguments, function } => {
                let kind = head.kind & down::KIND;
                let function = function.as_deref();
                let marked = marker.zip(function);
                let outcome = self.run_task(py, kind, &arguments, function, marked, &mut cost);
                let failed = outcome.is_err();
                let started = clock::monotonic();
                let (kind, encoded) = match outcome.and_then(|value| self.encode(&value, function)) {
                    Ok(encoded) => (up::VALUE, encoded),
                    Err(error) => (up::ERROR, codec::encode_exception(py, error, &self.store)?),
                };
                cost.failed = u32::from(failed);
                cost.seen = marked.map(|(_, function)| function.news());
                drop(arguments);
                self.finish(py, head.id, kind, encoded, cost, started, stopwatch)
            }
            Message::Chunk { head, flags, items: arrived, function } => {
                let started = clock::monotonic();
                let items = codec::decode(py, &arrived)
                    .map_err(|error| self.undecodable(py, error, function.as_deref(), "items"));
                cost.decode = (clock::monotonic() - started).as_secs_f64();
                let function = function.as_deref();
                let marked = marker.zip(function);
                let ran =
                    items.and_then(|items| self.run_chunk(py, flags, &items, function, marked, &mut cost));
                cost.seen = marked.map(|(_, function)| function.news());
                let started = clock::monotonic();
                let (kind, encoded) = match ran {
                    Ok((kind, encoded)) => (kind, encoded),
                    Err(error) => (up::ERROR, codec::encode_exception(py, error, &self.store)?),
                };
                drop(arrived);
                self.finish(py, head.id, kind, encoded, cost, started, stopwatch)
            }
        }
    }

    /// Says that a message with a limit begins; whoever ends it finds the processes that it starts below this one.
    fn begin(&self, py: Python<'_>, id: u64) -> PyResult<()> {
        static ADOPTS: Once = Once::new();
        // If this fails, orphans of what the task starts are not found.
        ADOPTS.call_once(|| {
            let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
        });
        let now = clock::monotonic().as_nanos() as u64;
        self.answer(py, Head { kind: up::BEGUN, id, extra: 0 }, &[&now.to_le_bytes()])
    }

    /// Why a function must not be run here. What differs without being in the way is told the caller, once.
    fn objection<'f>(&self, py: Python<'_>, function: &'f Function) -> PyResult<Option<&'f str>> {
        // If it could not be rebuilt, that is what its task ends with.
        let Ok(Loaded { differs: Some(differs), strict, told, .. }) = function.load(py) else {
            return Ok(None);
        };
        if !strict && !told.swap(true, Relaxed) {
            self.answer(py, Head { kind: up::NOTE, id: 0, extra: 0 }, &[differs.as_bytes()])?;
        }
        Ok(strict.then_some(differs))
    }

    fn run_task<'py>(
        &self,
        py: Python<'py>,
        kind: u32,
        arguments: &Arrived,
        function: Option<&Function>,
        marked: Option<(&Marker, &Function)>,
        cost: &mut Cost,
    ) -> PyResult<Bound<'py, PyAny>> {
        let started = clock::monotonic();
        let decoded = codec::decode(py, arguments)
            .map_err(|error| self.undecodable(py, error, function, "arguments"))?;
        let sent = decoded.cast_into::<PyTuple>()?;
        let at = |index| sent.get_item(index);
        let (function, arguments, options) = match kind {
            down::WITHIN => {
                let call = import(py, "forkright._context")?.getattr("call")?;
                let function = self.known(py, function)?;
                (call, PyTuple::new(py, [function, at(0)?, at(1)?, at(2)?])?, None)
            }
            down::TASK => (self.known(py, function)?, sent, None),
            down::KEYWORDS => (self.known(py, function)?, at(0)?.cast_into()?, Some(at(1)?.cast_into()?)),
            _ => (at(0)?, at(1)?.cast_into::<PyTuple>()?, Some(at(2)?.cast_into::<PyDict>()?)),
        };
        let began = clock::monotonic();
        cost.decode = (began - started).as_secs_f64();
        let value = mark(marked, || function.invoke_with(arguments, options.as_ref()));
        cost.wall = (clock::monotonic() - began).as_secs_f64();
        value
    }

    fn run_chunk(
        &self,
        py: Python<'_>,
        flags: u8,
        items: &Bound<'_, PyAny>,
        function: Option<&Function>,
        marked: Option<(&Marker, &Function)>,
        cost: &mut Cost,
    ) -> PyResult<(u32, Encoded)> {
        let callable = self.known(py, function)?;
        let values = PyList::empty(py);
        // By their place, where `values` has a None.
        let mut errors: Vec<(usize, PyErr)> = Vec::new();
        let began = clock::monotonic();
        mark(marked, || -> PyResult<()> {
            for item in items.try_iter()? {
                match call_with(&callable, flags, item?) {
                    Ok(value) => values.append(value)?,
                    Err(error) => {
                        errors.push((values.len(), error));
                        values.append(py.None())?;
                        if flags & chunk::STOP_AT_ERROR != 0 {
                            break;
                        }
                    }
                }
            }
            Ok(())
        })?;
        cost.wall = (clock::monotonic() - began).as_secs_f64();
        (cost.tasks, cost.failed) = (values.len() as u32, errors.len() as u32);
        // One value that can not travel must not cost the others: then each goes by itself.
        if errors.is_empty()
            && let Ok(encoded) = self.encode(values.as_any(), function)
        {
            return Ok((up::VALUE, encoded));
        }
        let name = name_of(&callable);
        let mut errors = errors.into_iter().peekable();
        let mixed = PyList::empty(py);
        for (index, value) in values.iter().enumerate() {
            let apart = match errors.next_if(|(place, _)| *place == index) {
                Some((_, error)) => Err(error),
                None => encode_apart(&value, &name),
            };
            mixed.append(match apart {
                Ok(bytes) => (true, bytes),
                Err(error) => (false, exception_bytes(py, error)?),
            })?;
        }
        Ok((up::MIXED, self.encode(mixed.as_any(), None)?))
    }

    fn undecodable(&self, py: Python<'_>, error: PyErr, function: Option<&Function>, what: &str) -> PyErr {
        let role = match function.map(|function| function.get(py)) {
            Some(Ok(function)) => format!("the {what} of `{}`", name_of(function.bind(py))),
            _ => format!("a function or its {what}"),
        };
        crate::errors::undecodable(py, error, &role)
    }

    fn encode(&self, value: &Bound<'_, PyAny>, function: Option<&Function>) -> PyResult<Encoded> {
        let py = value.py();
        let role = || match function.map(|function| function.get(py)) {
            Some(Ok(function)) => format!("the result of `{}`", name_of(function.bind(py))),
            _ => "the result".into(),
        };
        codec::encode(value, &self.store, None, role)
            .map_err(|error| crate::errors::name_pickled(py, error, &role()))
    }

    fn known<'py>(&self, py: Python<'py>, function: Option<&Function>) -> PyResult<Bound<'py, PyAny>> {
        Ok(function.ok_or_else(|| broken(&"its function is missing"))?.get(py)?.into_bound(py))
    }

    #[expect(clippy::too_many_arguments, reason = "one message's end, spelled out once")]
    fn finish(
        &self,
        py: Python<'_>,
        id: u64,
        kind: u32,
        encoded: Encoded,
        mut cost: Cost,
        started: Duration,
        stopwatch: &mut Stopwatch,
    ) -> PyResult<()> {
        let now = clock::monotonic();
        cost.encode = (now - started).as_secs_f64();
        let spent = stopwatch.lap(now);
        (cost.cpu, cost.delay) = (spent.cpu, spent.delay);
        if !encoded.leases.is_empty() {
            let mut lent = lock(&self.lent);
            encoded.leases.iter().filter(|lease| lease.key() & SHARED == 0).for_each(|lease| lent.add(lease));
        }
        // Before the answer: whoever takes that hears of both, and nobody may ask again for long.
        self.release(py)?;
        let head = Head { kind, id, extra: 0 };
        // Leases of the caller's own shares are not for the caller to give back: they last until the answer is given,
        // and with them the caller's.
        self.answer(py, head, &[&cost.to_bytes(), &encoded.payload.head(), encoded.payload.tail()])
    }

    /// Pushes an answer, waiting for room if the caller is slow, and calls the caller.
    fn answer(&self, py: Python<'_>, head: Head, parts: &[&[u8]]) -> PyResult<()> {
        let mut pause = Duration::from_micros(50);
        loop {
            let pushed = lock(&self.answering).push(head, parts);
            self.caller.strike();
            match pushed {
                Ok(_) => return Ok(()),
                Err(PushError::Full) => {
                    py.detach(|| std::thread::sleep(pause));
                    pause = (pause * 2).min(Duration::from_millis(2));
                }
                Err(error) => return Err(broken(&error)),
            }
        }
    }

    /// Tells the caller which of its blocks are no longer read here.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        if !self.inbox.has_released() {
            return Ok(());
        }
        let bytes: Vec<u8> =
            self.inbox.take_released().iter().flat_map(|offset| offset.to_le_bytes()).collect();
        for some in bytes.chunks(8 * 1024) {
            self.answer(py, Head { kind: up::RELEASE, id: 0, extra: 0 }, &[some])?;
        }
        Ok(())
    }
}

/// Bytes of memory that this process shares with no file and no other use of shared memory. What it has not changed since
/// it was forked counts, too.
fn own_memory() -> Option<u64> {
    let text = std::fs::read_to_string(STATM).ok()?;
    let mut pages = text.split_ascii_whitespace().skip(1).map(str::parse::<u64>);
    let (resident, shared) = (pages.next()?.ok()?, pages.next()?.ok()?);
    Some(resident.saturating_sub(shared) * rustix::param::page_size() as u64)
}

fn encode_apart<'py>(value: &Bound<'py, PyAny>, name: &str) -> PyResult<Bound<'py, PyBytes>> {
    let encode = import(value.py(), "forkright._pickling")?.getattr("encode")?;
    Ok(encode.invoke((value, value.py().None(), format!("the result of `{name}`")))?.cast_into()?)
}

fn exception_bytes(py: Python<'_>, error: PyErr) -> PyResult<Bound<'_, PyBytes>> {
    let encode = import(py, "forkright._pickling")?.getattr("encode_exception")?;
    Ok(encode.invoke((error.into_value(py),))?.cast_into()?)
}

impl Marker {
    fn new(py: Python<'_>) -> Marker {
        Marker { slot: meter::enter(py), onlooker: Onlooker::of_process(py) }
    }
}

/// Runs a task's own part, marked for the sampler if there is to be one.
fn mark<T>(marked: Option<(&Marker, &Function)>, body: impl FnOnce() -> T) -> T {
    let Some((Marker { slot, onlooker }, function)) = marked else { return body() };
    slot.begin(&function.tally);
    onlooker.stir();
    let outcome = body();
    slot.end();
    outcome
}

impl Function {
    fn new(arrived: Arrived) -> Function {
        let (tally, reported) = (Arc::default(), Mutex::default());
        Function { arrived, ready: PyOnceLock::new(), tally, reported }
    }

    /// What was seen of its tasks since the caller last heard of it.
    fn news(&self) -> Seen {
        let mut reported = lock(&self.reported);
        let now = self.tally.counts();
        let before = std::mem::replace(&mut *reported, now);
        std::array::from_fn(|index| (now.0[index] - before.0[index]).try_into().unwrap_or(u32::MAX))
    }

    /// The callable, rebuilt at the first use; an error of that is every task's.
    fn get(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let again = |error: &Py<PyAny>| PyErr::from_value(error.clone_ref(py).into_bound(py));
        self.load(py).as_ref().map(|loaded| loaded.callable.clone_ref(py)).map_err(again)
    }

    fn load(&self, py: Python<'_>) -> &Result<Loaded, Py<PyAny>> {
        // Two threads may come here at once: both rebuild it, the first one's is kept.
        self.ready.get_or_init(py, || {
            let load = || -> PyResult<_> {
                let payload = codec::stream_of(py, &self.arrived)?;
                let buffers = codec::buffers_of(py, &self.arrived)?;
                let found =
                    import(py, "forkright._functions")?.getattr("unpack")?.invoke((payload, buffers))?;
                let (callable, differs, strict) = found.extract()?;
                Ok(Loaded { callable, differs, strict, told: AtomicBool::new(false) })
            };
            load().map_err(|error| {
                crate::errors::undecodable(py, error, "its function").into_value(py).into_any()
            })
        })
    }
}

/// Calls a function with an item of a chunk that has these flags.
fn call_with<'py>(
    callable: &Bound<'py, PyAny>,
    flags: u8,
    item: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    if flags & chunk::KEYWORDS != 0 {
        let (arguments, options): (Bound<'_, PyTuple>, Bound<'_, PyDict>) = item.extract()?;
        callable.invoke_with(arguments, Some(&options))
    } else if flags & chunk::STAR != 0 {
        callable.invoke(item.cast_into::<PyTuple>()?)
    } else {
        callable.invoke((item,))
    }
}
