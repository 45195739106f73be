//! Has the sampler look at tasks whose plan is fixed: nobody decides by what is seen, but the report tells of it.
//!
//! One for the process. Whoever marks a task on a slot stirs it, which is one load while it watches; when no slot
//! has run a task for a while it leaves, and the sampler sleeps.

use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use forkright_meter::{Glance, Pace, Sampler, Watch};
use forkright_shm::pid;
use pyo3::prelude::*;

use crate::meter;
use crate::opening::Opening;

/// For so long a new function is looked at often.
const LEARNING: Duration = Duration::from_secs(1);
/// Nothing has run for so long: waking the sampler again is dearer than to look on that long.
const IDLE: Duration = Duration::from_millis(100);

pub(crate) struct Onlooker {
    myself: Weak<Onlooker>,
    sampler: Arc<Sampler>,
    watching: AtomicBool,
    seen: Mutex<Seen>,
    /// To be taken at the next tick.
    openings: Mutex<Vec<Weak<Opening>>>,
}

#[derive(Default)]
struct Seen {
    /// The last tick, and the last at which a task ran.
    last: Duration,
    busy: Duration,
    /// What is left of looking often.
    learning: Duration,
    /// It has given notice, and looks once more for who came before that.
    leaving: bool,
}

/// The process's one, and the process it belongs to.
static ONLOOKER: Mutex<Option<(u32, Arc<Onlooker>)>> = Mutex::new(None);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Onlooker {
    pub(crate) fn of_process(py: Python<'_>) -> Arc<Onlooker> {
        let sampler = meter::sampler(py);
        let pid = pid::current();
        let mut onlooker = lock(&ONLOOKER);
        match &*onlooker {
            Some((owner, onlooker)) if *owner == pid => Arc::clone(onlooker),
            _ => {
                let made = Arc::new_cyclic(|myself| Onlooker {
                    myself: Weak::clone(myself),
                    sampler,
                    watching: AtomicBool::new(false),
                    seen: Mutex::default(),
                    openings: Mutex::default(),
                });
                // A forked child leaves its parent's alone.
                std::mem::forget(onlooker.replace((pid, Arc::clone(&made))));
                made
            }
        }
    }

    /// A task runs from now on.
    pub(crate) fn stir(&self) {
        if !self.watching.load(Acquire) && !self.watching.swap(true, AcqRel) {
            // Where no thread can be had nothing is seen, and the report says that it isn't known.
            let _ = self.sampler.watch(Weak::clone(&self.myself) as Weak<dyn Watch>);
        }
    }

    /// Work begins, of which the report is to tell what measuring it took.
    pub(crate) fn open(&self, opening: &Arc<Opening>) {
        lock(&self.openings).push(Arc::downgrade(opening));
    }

    /// It is of a function that was not looked at before.
    pub(crate) fn learn(&self) {
        lock(&self.seen).learning = LEARNING;
    }
}

impl Watch for Onlooker {
    fn tick(&self, glance: &Glance<'_>) -> Pace {
        for opening in std::mem::take(&mut *lock(&self.openings)) {
            if let Some(opening) = opening.upgrade() {
                opening.tick(glance);
            }
        }
        let mut seen = lock(&self.seen);
        let passed = glance.now.saturating_sub(seen.last);
        seen.last = glance.now;
        if !glance.looks.is_empty() {
            seen.busy = glance.now;
            seen.learning = seen.learning.saturating_sub(passed.min(IDLE));
        } else if passed > IDLE {
            // It has just come back, and what it was called for has not begun.
            seen.busy = glance.now;
        }
        if std::mem::take(&mut seen.leaving) {
            // Who began a task before it gave notice found it watching. Who came after that has it called a second time
            // from now on, so this is the one call too many.
            if glance.looks.is_empty() || self.watching.swap(true, AcqRel) {
                return Pace::Done;
            }
        } else if glance.now.saturating_sub(seen.busy) > IDLE {
            self.watching.store(false, Release);
            seen.leaving = true;
        }
        if seen.learning.is_zero() { Pace::Steady } else { Pace::Learning }
    }
}
