//! What was measured of one function's tasks: how often they were seen doing what, and what the clocks say of the
//! same tasks. Those of this process are kept apart from those of the one worker process that is metered.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use forkright_engine::payload::Cost;
use forkright_meter::{Blame, Clocks, Convoy, Counts, Reading, Tally};
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyFunction, PyModule, PyType};

use crate::errors;
use crate::functions::kind_of;
use crate::meter;

/// Functions of one pool that are told apart; the later ones are counted together.
const MANY: usize = 64;

pub(crate) struct Entry {
    /// Samples of the tasks in this process; it has the name that people know the function by.
    pub(crate) tally: Arc<Tally>,
    away: Tally,
    sums: Mutex<Sums>,
}

/// What the clocks say of the tasks here, in the metered worker process, and in the others.
#[derive(Clone, Copy, Default)]
struct Sums {
    here: Cost,
    metered: Cost,
    others: Cost,
}

/// What is known of a function.
pub(crate) struct Measured {
    pub(crate) name: Arc<str>,
    /// Where the time of the measured tasks went.
    pub(crate) reading: Reading,
    pub(crate) blame: Vec<Blame>,
    pub(crate) convoy: Option<Convoy>,
    /// Seconds of the tasks that it stands for: of those in all worker processes, if one of these is metered.
    pub(crate) stands_for: f64,
    /// What all tasks cost, measured or not.
    pub(crate) cost: Cost,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Entry {
    pub(crate) fn new(name: Arc<str>) -> Entry {
        Entry { tally: Arc::new(Tally::named(name)), away: Tally::default(), sums: Mutex::default() }
    }

    /// The name that people know the function by.
    pub(crate) fn name(&self) -> &Arc<str> {
        self.tally.name()
    }

    /// Tasks ended that were marked on a slot of this process.
    pub(crate) fn here(&self, cost: &Cost) {
        add(&mut lock(&self.sums).here, cost);
    }

    /// Tasks came back from a worker process.
    pub(crate) fn away(&self, cost: &Cost) {
        let mut sums = lock(&self.sums);
        match cost.seen {
            Some(seen) => {
                self.away.add(&Counts(seen.map(u64::from)));
                add(&mut sums.metered, cost);
            }
            None => add(&mut sums.others, cost),
        }
    }

    /// What is known by now. Clocks are read when a task ends, so one that runs has a part in the division only.
    pub(crate) fn measured(&self) -> Measured {
        let Sums { here, metered, others } = *lock(&self.sums);
        let reading = Reading::new(&self.tally.counts(), &clocks(&here))
            .and(&Reading::new(&self.away.counts(), &clocks(&metered)));
        let blame = self.tally.blame();
        let mut cost = here;
        add(&mut cost, &metered);
        add(&mut cost, &others);
        Measured {
            name: Arc::clone(self.name()),
            convoy: Convoy::recognise(self.name(), &reading, &blame),
            reading,
            blame,
            stands_for: here.wall + if metered.tasks > 0 { metered.wall + others.wall } else { 0.0 },
            cost,
        }
    }
}

fn add(sum: &mut Cost, cost: &Cost) {
    sum.tasks += cost.tasks;
    sum.failed += cost.failed;
    sum.wall += cost.wall;
    sum.cpu += cost.cpu;
    sum.delay += cost.delay;
}

fn clocks(cost: &Cost) -> Clocks {
    let duration = |seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default();
    let delay = meter::tells_delay().then(|| duration(cost.delay));
    Clocks { wall: duration(cost.wall), cpu: Some(duration(cost.cpu)), delay }
}

/// The entries of a pool's functions.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<Vec<(Option<Key>, Arc<Entry>)>>);

/// An object that calls of one function have in common, and that keeps nothing of a call alive. Held, so that no other
/// object ever has its address.
pub(crate) struct Key(Py<PyAny>);

impl Key {
    pub(crate) fn of(key: &Bound<'_, PyAny>) -> Key {
        Key(key.clone().unbind())
    }

    pub(crate) fn is(&self, key: &Bound<'_, PyAny>) -> bool {
        self.0.is(key)
    }
}

impl Ledger {
    /// The entry of a function that travels by its name.
    pub(crate) fn named(&self, name: &Arc<str>) -> Arc<Entry> {
        let mut entries = lock(&self.0);
        match entries.iter().find(|(_, entry)| entry.name() == name) {
            Some((_, entry)) => Arc::clone(entry),
            None => open(&mut entries, None, name),
        }
    }

    /// All functions that have an entry.
    pub(crate) fn measured(&self) -> Vec<Measured> {
        let entries: Vec<_> = lock(&self.0).iter().map(|(_, entry)| Arc::clone(entry)).collect();
        entries.iter().map(|entry| entry.measured()).filter(|measured| measured.cost.tasks > 0).collect()
    }

    fn find(&self, key: usize) -> Option<Arc<Entry>> {
        let is = |known: &Option<Key>| known.as_ref().is_some_and(|known| known.0.as_ptr() as usize == key);
        lock(&self.0).iter().find(|(known, _)| is(known)).map(|(_, entry)| Arc::clone(entry))
    }
}

fn open(entries: &mut Vec<(Option<Key>, Arc<Entry>)>, key: Option<Key>, name: &Arc<str>) -> Arc<Entry> {
    if entries.len() > MANY {
        return Arc::clone(&entries[MANY].1);
    }
    let name = if entries.len() == MANY { Arc::from("other functions") } else { Arc::clone(name) };
    let entry = Arc::new(Entry::new(name));
    entries.push((key, Arc::clone(&entry)));
    entry
}

/// One thread's own index of a ledger: most tasks are of the same function as the last.
#[derive(Default)]
pub(crate) struct Index {
    known: Vec<Known>,
    last: usize,
}

struct Known {
    /// The address of its key.
    key: usize,
    entry: Arc<Entry>,
    /// The function itself, if it keeps nothing alive: then its address is enough to know it by.
    plain: Option<Py<PyAny>>,
}

impl Index {
    /// The entry that was found last.
    pub(crate) fn last(&self) -> Option<&Entry> {
        self.known.get(self.last).map(|known| &*known.entry)
    }

    /// The entry of `function`, and whether this thread meets it for the first time.
    pub(crate) fn find(&mut self, ledger: &Ledger, function: &Bound<'_, PyAny>) -> (&Arc<Entry>, bool) {
        let is_last = |known: &Known| known.plain.as_ref().is_some_and(|plain| plain.is(function));
        if self.known.get(self.last).is_some_and(is_last) {
            return (&self.known[self.last].entry, false);
        }
        let key = key_of(function);
        let address = key.as_ptr() as usize;
        let found = self.known.iter().position(|known| known.key == address);
        self.last = found.unwrap_or_else(|| {
            self.known.truncate(MANY);
            let plain = is_plain(function).then(|| function.clone().unbind());
            self.known.push(Known { key: address, entry: entry_of(ledger, function, key), plain });
            self.known.len() - 1
        });
        (&self.known[self.last].entry, found.is_none())
    }
}

/// Whether a function is written in Python and has neither closure nor defaults.
fn is_plain(function: &Bound<'_, PyAny>) -> bool {
    let py = function.py();
    let is_none = |name| function.getattr(name).is_ok_and(|value| value.is_none());
    function.is_exact_instance_of::<PyFunction>()
        && is_none(pyo3::intern!(py, "__closure__"))
        && is_none(pyo3::intern!(py, "__defaults__"))
        && is_none(pyo3::intern!(py, "__kwdefaults__"))
}

fn entry_of(ledger: &Ledger, function: &Bound<'_, PyAny>, key: Bound<'_, PyAny>) -> Arc<Entry> {
    let address = key.as_ptr() as usize;
    ledger.find(address).unwrap_or_else(|| {
        // Not under the lock: this runs Python.
        let name = errors::name_of(function).into();
        let known = ledger.find(address);
        known.unwrap_or_else(|| open(&mut lock(&ledger.0), Some(Key(key.unbind())), &name))
    })
}

/// What tells functions apart: the code of one that is written in Python, so that neither its closure nor what it
/// is bound to stays alive; a module's function or a class; the class of any other callable.
pub(crate) fn key_of<'py>(function: &Bound<'py, PyAny>) -> Bound<'py, PyAny> {
    let py = function.py();
    let code = |function: &Bound<'py, PyAny>| function.getattr(pyo3::intern!(py, "__code__")).ok();
    let is_python = |function: &Bound<'py, PyAny>| function.is_exact_instance_of::<PyFunction>();
    let kind = if is_python(function) { function.clone() } else { kind_of(function) };
    if is_python(&kind) {
        return code(&kind).unwrap_or_else(|| kind.get_type().into_any());
    }
    let is_modules = kind.is_exact_instance_of::<PyCFunction>()
        && kind.getattr(pyo3::intern!(py, "__self__")).is_ok_and(|owner| owner.is_instance_of::<PyModule>());
    if is_modules || kind.is_instance_of::<PyType>() { kind } else { kind.get_type().into_any() }
}
