//! One call that somebody can wait for: its state, its outcome, who watches it. Shared between the Python
//! future, the thread that runs the call and the crew that carries it; each may outlive the others.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use forkright_engine::crew::{Arrived, Break, Delivery, End, Outcome, Recipient, Sleeper};
use forkright_engine::payload::Cost;
use forkright_engine::state::{Cancel, Finish, Phase, State, Wait};
use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::collector::Collector;
use crate::ledger::Entry;
use crate::outward::{Outward as _, import};
use crate::{codec, errors};

/// Python's signal handlers run at least this often while a thread waits.
pub(crate) const SIGNALS: Duration = Duration::from_millis(100);
/// Milliseconds for which a call that is to be killed is looked for.
const PATIENCE: u32 = 1000;

pub(crate) struct Call {
    pub(crate) state: State,
    result: Mutex<Holding>,
    /// Told when a value has been decoded.
    decoded: Condvar,
    watchers: Mutex<Watchers>,
    /// Set if worker processes may run it.
    carrier: OnceLock<Carrier>,
    /// A pool's: nobody else will tell the waiters that it was cancelled.
    owned: bool,
    took: Mutex<Option<Took>>,
}

/// What the call took, in seconds: the part of its cost that its future tells. There may be very many calls.
#[derive(Clone, Copy)]
pub(crate) struct Took {
    pub(crate) wall: f64,
    pub(crate) cpu: f64,
    pub(crate) decode: f64,
    pub(crate) encode: f64,
}

/// Who carries the call to a worker process, and under which number.
pub(crate) struct Carrier {
    pub(crate) collector: Arc<Collector>,
    pub(crate) id: u64,
    /// For messages: what the user called.
    pub(crate) name: Arc<str>,
    /// Where what its worker measured belongs, if nobody else takes it.
    pub(crate) entry: Option<Arc<Entry>>,
}

#[derive(Default)]
enum Holding {
    #[default]
    Nothing,
    Value(Py<PyAny>),
    Error(Py<PyAny>),
    /// As it came; whoever asks first decodes it.
    Delivered(Arc<Delivery>),
    /// That one is at it.
    Decoding(Arc<Delivery>, ThreadId),
}

#[derive(Default)]
struct Watchers {
    future: Option<Py<PyAny>>,
    callbacks: Vec<Py<PyAny>>,
    condition: Option<Py<PyAny>>,
    waiters: Option<Py<PyList>>,
}

impl Default for Call {
    fn default() -> Call {
        Call {
            state: State::default(),
            result: Mutex::default(),
            decoded: Condvar::new(),
            watchers: Mutex::default(),
            carrier: OnceLock::new(),
            owned: false,
            took: Mutex::default(),
        }
    }
}

impl AsRef<State> for Call {
    fn as_ref(&self) -> &State {
        &self.state
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Call {
    /// A call that a pool will run.
    pub(crate) fn owned() -> Call {
        Call { owned: true, ..Call::default() }
    }

    /// One that goes to worker processes.
    pub(crate) fn carried_by(carrier: Carrier) -> Arc<Call> {
        let call = Call::owned();
        // The call is new, so the cell is empty.
        let _ = call.carrier.set(carrier);
        Arc::new(call)
    }

    pub(crate) fn carrier(&self) -> Option<&Carrier> {
        self.carrier.get()
    }

    /// Says, once, that worker processes may run it after all.
    pub(crate) fn entrust(&self, py: Python<'_>, carrier: Carrier) {
        // The call is taken once, so the cell is empty.
        let _ = self.carrier.set(carrier);
        if self.state.is_watched() {
            self.attend(py);
        }
    }

    pub(crate) fn took(&self) -> Option<Took> {
        *lock(&self.took)
    }

    pub(crate) fn set_cost(&self, cost: &Cost) {
        let Cost { wall, cpu, decode, encode, .. } = *cost;
        *lock(&self.took) = Some(Took { wall, cpu, decode, encode });
    }

    /// Ends the call with a value or an exception, in a thread that is attached.
    pub(crate) fn finish(&self, py: Python<'_>, outcome: Result<Py<PyAny>, Py<PyAny>>) -> bool {
        {
            let mut holding = lock(&self.result);
            if self.state.is_over() {
                return false;
            }
            *holding = outcome.map_or_else(Holding::Error, Holding::Value);
        }
        match self.state.finish() {
            Finish::Done => true,
            Finish::Watched => self.serve_watchers(py),
            Finish::Over => false,
        }
    }

    /// The same by its Python face, for a future that somebody else fills.
    pub(crate) fn finish_as(&self, future: &Bound<'_, PyAny>, outcome: Result<Py<PyAny>, Py<PyAny>>) -> bool {
        lock(&self.watchers).future.get_or_insert_with(|| future.clone().unbind());
        let ended = self.finish(future.py(), outcome);
        lock(&self.watchers).future = None;
        ended
    }

    /// Ends a watched call whose outcome is in place: under its condition if there is one, so that
    /// `concurrent.futures.wait` and `as_completed` see the end and their notice as one.
    pub(crate) fn serve_watchers(&self, py: Python<'_>) -> bool {
        let condition = lock(&self.watchers).condition.as_ref().map(|condition| condition.clone_ref(py));
        let ended = match &condition {
            None => self.state.finish_watched(),
            Some(condition) => self.under(py, condition, |call| {
                let ended = call.state.finish_watched();
                if ended {
                    let failed = call.has_failed(py);
                    call.notify(py, if failed { "add_exception" } else { "add_result" });
                }
                ended
            }),
        };
        if ended {
            // A condition made between the look and the end has no waiters of its own yet, but may be waited on.
            self.run_callbacks(py);
        }
        ended
    }

    fn under<T>(&self, py: Python<'_>, condition: &Py<PyAny>, body: impl FnOnce(&Call) -> T) -> T {
        let condition = condition.bind(py);
        let held =
            condition.invoke_method("acquire", ()).map_err(|error| error.write_unraisable(py, None)).is_ok();
        let value = body(self);
        if held {
            let told = condition
                .invoke_method("notify_all", ())
                .and_then(|_| condition.invoke_method("release", ()));
            if let Err(error) = told {
                error.write_unraisable(py, Some(condition));
            }
        }
        value
    }

    fn notify(&self, py: Python<'_>, method: &str) {
        let (waiters, future) = {
            let watchers = lock(&self.watchers);
            (
                watchers.waiters.as_ref().map(|list| list.clone_ref(py)),
                watchers.future.as_ref().map(|future| future.clone_ref(py)),
            )
        };
        let (Some(waiters), Some(future)) = (waiters, future) else { return };
        for waiter in waiters.bind(py).iter() {
            if let Err(error) = waiter.invoke_method(method, (&future,)) {
                error.write_unraisable(py, Some(&waiter));
            }
        }
    }

    fn run_callbacks(&self, py: Python<'_>) {
        let (callbacks, future) = {
            let mut watchers = lock(&self.watchers);
            (std::mem::take(&mut watchers.callbacks), watchers.future.take())
        };
        let Some(future) = future else { return };
        for callback in callbacks {
            if let Err(error) = callback.bind(py).invoke((&future,)) {
                errors::log_callback(py, future.bind(py), error);
            }
        }
    }

    /// Cancels the call if nobody started it. `future` is its Python face.
    pub(crate) fn cancel(&self, py: Python<'_>, future: &Bound<'_, PyAny>) -> bool {
        loop {
            match self.state.cancel() {
                Cancel::Done => break,
                Cancel::Already => return true,
                Cancel::TooLate => return false,
                Cancel::Sent => {
                    let Some(carrier) = self.carrier() else { return false };
                    if !carrier.collector.crew.revoke(carrier.id) {
                        return false;
                    }
                }
            }
        }
        lock(&self.watchers).future.get_or_insert_with(|| future.clone().unbind());
        self.serve_cancelled(py);
        true
    }

    /// Ends the call, begun or not: cancels it, or kills the worker process that runs it. On a thread nothing can be
    /// killed: only the call is over, and what its function gives is dropped. False: it was over before.
    pub(crate) fn kill(&self, py: Python<'_>, future: &Bound<'_, PyAny>) -> bool {
        // It may be on its way between a queue and a worker: then neither knows it, for a moment.
        for _ in 0..PATIENCE {
            if self.is_over() {
                return false;
            }
            if self.cancel(py, future) {
                return true;
            }
            match self.carrier() {
                Some(carrier) if self.state.phase() != Phase::Running => {
                    if py.detach(|| carrier.collector.crew.kill(carrier.id)) {
                        return true;
                    }
                }
                _ => {
                    let error = errors::ended(py, "the task", 0, End::Killed);
                    return self.finish_as(future, Err(error.into_value(py).into_any()));
                }
            }
            py.detach(|| std::thread::sleep(Duration::from_millis(1)));
        }
        false
    }

    /// Cancels the call where its Python face is not at hand.
    pub(crate) fn cancel_unseen(&self, py: Python<'_>) {
        if self.state.cancel() == Cancel::Done {
            self.serve_cancelled(py);
        }
    }

    fn serve_cancelled(&self, py: Python<'_>) {
        let condition = lock(&self.watchers).condition.as_ref().map(|condition| condition.clone_ref(py));
        let tell = |call: &Call| {
            if call.owned && call.state.acknowledge() {
                call.notify(py, "add_cancelled");
            }
        };
        match condition {
            Some(condition) => self.under(py, &condition, tell),
            None => tell(self),
        }
        self.run_callbacks(py);
    }

    /// Tells the waiters of a cancelled call that it will not run.
    pub(crate) fn acknowledge(&self, py: Python<'_>, future: &Bound<'_, PyAny>) {
        let condition = {
            let mut watchers = lock(&self.watchers);
            watchers.future.get_or_insert_with(|| future.clone().unbind());
            watchers.condition.as_ref().map(|condition| condition.clone_ref(py))
        };
        match condition {
            None => drop(self.state.acknowledge()),
            Some(condition) => self.under(py, &condition, |call| {
                if call.state.acknowledge() {
                    call.notify(py, "add_cancelled");
                }
            }),
        }
        lock(&self.watchers).future = None;
    }

    /// Adds a callback; false if the call is over and the caller must call it.
    pub(crate) fn add_callback(&self, future: &Bound<'_, PyAny>, callback: &Bound<'_, PyAny>) -> bool {
        let mut watchers = lock(&self.watchers);
        if !self.state.watch() {
            return false;
        }
        watchers.future.get_or_insert_with(|| future.clone().unbind());
        watchers.callbacks.push(callback.clone().unbind());
        drop(watchers);
        self.attend(future.py());
        true
    }

    pub(crate) fn has_callbacks(&self) -> bool {
        !lock(&self.watchers).callbacks.is_empty()
    }

    /// The condition `concurrent.futures` locks, made when first asked for.
    pub(crate) fn condition(&self, future: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let py = future.py();
        if let Some(condition) = &lock(&self.watchers).condition {
            return Ok(condition.clone_ref(py));
        }
        let made = import(py, "threading")?.getattr("Condition")?.invoke(())?.unbind();
        let mut watchers = lock(&self.watchers);
        let condition = watchers.condition.get_or_insert(made).clone_ref(py);
        if self.state.watch() {
            watchers.future.get_or_insert_with(|| future.clone().unbind());
        }
        drop(watchers);
        self.attend(py);
        Ok(condition)
    }

    pub(crate) fn waiters(&self, py: Python<'_>) -> Py<PyList> {
        let mut watchers = lock(&self.watchers);
        watchers.waiters.get_or_insert_with(|| PyList::empty(py).unbind()).clone_ref(py)
    }

    /// Somebody waits for this call without asking for its result: the crew must be collected for them.
    fn attend(&self, py: Python<'_>) {
        if let Some(carrier) = self.carrier() {
            carrier.collector.ensure(py);
            carrier.collector.crew.attend();
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        match self.state.phase() {
            Phase::Running => true,
            Phase::Sent => {
                self.carrier().is_some_and(|carrier| carrier.collector.crew.is_running(carrier.id))
            }
            _ => false,
        }
    }

    /// Whether it is over, after a look at what workers may have said.
    pub(crate) fn is_over(&self) -> bool {
        if self.state.is_over() {
            return true;
        }
        match self.carrier() {
            Some(carrier) if carrier.collector.crew.has_news() => {
                carrier.collector.crew.collect();
                self.state.is_over()
            }
            _ => false,
        }
    }

    /// Waits until it is over; false if `until` came first.
    pub(crate) fn wait(self: &Arc<Self>, py: Python<'_>, until: Option<Instant>) -> PyResult<bool> {
        loop {
            if self.state.is_over() {
                return Ok(true);
            }
            let now = Instant::now();
            let left = until.map_or(SIGNALS, |until| until.saturating_duration_since(now).min(SIGNALS));
            if left.is_zero() && until.is_some() {
                return Ok(false);
            }
            let outcome = py.detach(|| match self.carrier() {
                None => self.state.wait(left),
                Some(carrier) => {
                    let sleeper: Sleeper = Arc::clone(self) as Sleeper;
                    carrier.collector.crew.wait(&sleeper, &|| self.state.is_over(), left)
                }
            });
            if outcome != Wait::Over {
                py.check_signals()?;
            }
        }
    }

    pub(crate) fn has_failed(&self, py: Python<'_>) -> bool {
        match &*lock(&self.result) {
            Holding::Error(_) => return true,
            Holding::Value(_) | Holding::Nothing => return false,
            Holding::Delivered(delivery) | Holding::Decoding(delivery, _) => {
                if !matches!(**delivery, Delivery::Outcome { kind: Outcome::Value, .. }) {
                    return true;
                }
            }
        }
        // Only unpickling tells whether a value that arrived is one. It is code of the user's, which may never end, so
        // whoever asks for the value runs it, unless somebody waits for the first failure.
        self.is_failure_awaited(py) && self.outcome(py).is_err()
    }

    /// Whether one of `concurrent.futures`' waiters ends with the first failure.
    fn is_failure_awaited(&self, py: Python<'_>) -> bool {
        let waiters = lock(&self.watchers).waiters.as_ref().map(|list| list.clone_ref(py));
        let ends_early = |waiter: Bound<'_, PyAny>| {
            waiter
                .getattr(intern!(py, "stop_on_exception"))
                .and_then(|wish| wish.extract::<bool>())
                .unwrap_or(false)
        };
        waiters.is_some_and(|waiters| waiters.bind(py).iter().any(ends_early))
    }

    /// The value or the exception of a call that is over and was not cancelled.
    pub(crate) fn outcome(&self, py: Python<'_>) -> Result<Py<PyAny>, Py<PyAny>> {
        let me = std::thread::current().id();
        let delivery = loop {
            let mut holding = lock(&self.result);
            match &*holding {
                Holding::Nothing => return Ok(py.None()),
                Holding::Value(value) => return Ok(value.clone_ref(py)),
                Holding::Error(error) => return Err(error.clone_ref(py)),
                Holding::Delivered(delivery) => {
                    let delivery = Arc::clone(delivery);
                    *holding = Holding::Decoding(Arc::clone(&delivery), me);
                    break delivery;
                }
                // A signal handler interrupted our own decoding: it must not wait for itself.
                Holding::Decoding(delivery, owner) if *owner == me => break Arc::clone(delivery),
                Holding::Decoding(..) => {}
            }
            drop(holding);
            py.detach(|| {
                let mut holding = lock(&self.result);
                while matches!(*holding, Holding::Decoding(..)) {
                    holding = self.decoded.wait(holding).unwrap_or_else(PoisonError::into_inner);
                }
            });
        };
        let name = self.carrier().map_or("the task", |carrier| &carrier.name);
        let warned = self.carrier().map_or(Ok(()), |carrier| carrier.collector.warn(py));
        let outcome = match warned {
            Ok(()) => open(py, &delivery, name),
            Err(error) => Err(error.into_value(py).into_any()),
        };
        let mut holding = lock(&self.result);
        match &*holding {
            // The interrupted decoding below us, or the handler above, was first: its object is the one.
            Holding::Value(value) => Ok(value.clone_ref(py)),
            Holding::Error(error) => Err(error.clone_ref(py)),
            _ => {
                *holding = match &outcome {
                    Ok(value) => Holding::Value(value.clone_ref(py)),
                    Err(error) => Holding::Error(error.clone_ref(py)),
                };
                drop(holding);
                self.decoded.notify_all();
                outcome
            }
        }
    }

    /// What the collector of garbage may follow. Skips what is locked: then it is in use.
    pub(crate) fn traverse(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        // Most of those that live are on their way, and hold nothing.
        if !self.state.is_over() && !self.state.is_watched() {
            return Ok(());
        }
        if let Ok(holding) = self.result.try_lock() {
            match &*holding {
                Holding::Value(object) | Holding::Error(object) => visit.call(object)?,
                _ => {}
            }
        }
        if let Ok(watchers) = self.watchers.try_lock() {
            for callback in &watchers.callbacks {
                visit.call(callback)?;
            }
            visit.call(&watchers.condition)?;
            visit.call(&watchers.waiters)?;
        }
        Ok(())
    }

    pub(crate) fn clear(&self) {
        let held = self.result.try_lock().map(|mut holding| std::mem::take(&mut *holding));
        let watched = self.watchers.try_lock().map(|mut watchers| std::mem::take(&mut *watchers));
        drop((held, watched));
    }
}

/// Makes Python objects of an answer.
pub(crate) fn open(py: Python<'_>, delivery: &Delivery, name: &str) -> Result<Py<PyAny>, Py<PyAny>> {
    let error = |error: PyErr| error.into_value(py).into_any();
    match delivery {
        Delivery::Outcome { kind: Outcome::Error, parcel, .. } => {
            let raised = codec::decode_exception(py, parcel).unwrap_or_else(|failed| {
                // KeyboardInterrupt and the like are the caller's own.
                let own = !failed.is_instance_of::<PyException>(py);
                error(if own {
                    failed
                } else {
                    errors::undecodable(py, failed, &format!("what `{name}` raised"))
                })
            });
            errors::name_task(py, &raised, name);
            Err(raised)
        }
        Delivery::Outcome { parcel, .. } => open_value(py, parcel, name).map_err(error),
        Delivery::Died(obituary) => Err(error(errors::worker_died(py, name, obituary))),
        Delivery::Ended { pid, end } => Err(error(errors::ended(py, name, *pid, *end))),
        Delivery::Broken(reason) => Err(error(broken(py, reason))),
    }
}

fn open_value(py: Python<'_>, parcel: &Arrived, name: &str) -> PyResult<Py<PyAny>> {
    codec::decode(py, parcel)
        .map(Bound::unbind)
        .map_err(|error| errors::undecodable(py, error, &format!("the result of `{name}`")))
}

pub(crate) fn broken(py: Python<'_>, reason: &Break) -> PyErr {
    match reason {
        Break::Reason(text) => errors::broken(py, text, None),
        Break::Stillborn(text, last_words) => errors::stillborn(py, text, last_words),
        Break::Unfit(arrived) => {
            let cause = codec::decode_exception(py, arrived).ok();
            errors::broken(py, "a worker's initializer raised an exception", cause)
        }
    }
}

impl Recipient for Call {
    fn send(&self) -> bool {
        self.state.send()
    }

    fn recall(&self) {
        self.state.recall();
    }

    fn abandon(self: Arc<Self>) {
        if let Some(carrier) = self.carrier() {
            carrier.collector.cancel_later(Arc::clone(&self));
        }
    }

    fn deliver(self: Arc<Self>, delivery: Delivery) {
        if let Delivery::Outcome { cost, .. } = &delivery {
            self.set_cost(cost);
            if let Some(entry) = self.carrier().and_then(|carrier| carrier.entry.as_ref()) {
                entry.away(cost);
            }
        }
        *lock(&self.result) = Holding::Delivered(Arc::new(delivery));
        match self.state.finish() {
            Finish::Done | Finish::Over => {}
            // Watchers are Python objects: somebody attached must serve them.
            Finish::Watched => {
                if let Some(carrier) = self.carrier() {
                    carrier.collector.serve_later(Arc::clone(&self));
                }
            }
        }
    }
}
