//! What tasks are doing in this process, one by one and taken together.
//!
//! Shown to the governor at each tick: a state that lasts (is *ripe*) tells more than one that was seen once.

use serde::{Deserialize, Serialize};

/// An item in one state for so long is in it: two samples of the meter.
const RIPE_WAIT: f64 = 0.001;
/// A lock may be somebody's who computes, and then others would only wait, too.
const RIPE_LOCK: f64 = 0.005;
/// Off the GIL it may be between two GIL phases: wait for one sample more.
const RIPE_OFF: f64 = 0.002;
/// Holding the GIL, or queueing for it, for so long is more than preparing a request.
const RIPE_HELD: f64 = 0.005;

/// What a worker of this process is doing, as the meter sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Class {
    /// Computing with the GIL.
    Held,
    /// Holding the GIL while blocked.
    HeldBlocked,
    /// Computing without the GIL.
    OffGil,
    /// Waiting for the GIL.
    GilWait,
    /// Waiting for another lock.
    LockWait,
    /// Waiting for anything else.
    Io,
    /// Sleeping for a time it has chosen.
    Sleep,
    /// Seen, but not understood.
    Unknown,
}

impl Class {
    /// Whether it waits for something outside this process: not for the GIL, nor for another task.
    pub fn waits_elsewhere(self) -> bool {
        matches!(self, Class::Io | Class::Sleep)
    }
}

/// One task that runs in this process.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Running {
    /// Its worker's state at the last sample.
    pub class: Class,
    /// Seconds that it has been in that state without a break.
    pub streak: f64,
    /// Seconds since the task began, or the first of several that run one after another.
    pub elapsed: f64,
    /// How many run one after another.
    pub tasks: u32,
}

/// What the tasks that run here do, taken together.
#[derive(Default)]
pub(crate) struct Crowd {
    pub(crate) all: u32,
    pub(crate) waiting: u32,
    /// Those of the waiting that wait for a lock, perhaps each other's.
    pub(crate) locked: u32,
    /// Those of the waiting that sleep.
    pub(crate) sleeping: u32,
    pub(crate) off: u32,
    /// With the GIL, queueing for it, or not understood.
    pub(crate) gil: u32,
    pub(crate) longest: f64,
    pub(crate) shortest: f64,
    pub(crate) ripe_wait: bool,
    pub(crate) ripe_off: bool,
    pub(crate) ripe_held: bool,
    /// Some have queued for the GIL for a while: their time is not their own.
    pub(crate) queues: bool,
}

impl Crowd {
    pub(crate) fn of(running: &[Running]) -> Self {
        let mut crowd = Self::default();
        for task in running {
            crowd.shortest = if crowd.all == 0 { task.elapsed } else { crowd.shortest.min(task.elapsed) };
            crowd.all += 1;
            crowd.longest = crowd.longest.max(task.elapsed);
            match task.class {
                Class::Io | Class::Sleep | Class::LockWait => {
                    crowd.waiting += 1;
                    crowd.sleeping += u32::from(task.class == Class::Sleep);
                    crowd.locked += u32::from(task.class == Class::LockWait);
                    let ripe = if task.class == Class::LockWait { RIPE_LOCK } else { RIPE_WAIT };
                    crowd.ripe_wait |= task.streak >= ripe;
                }
                Class::OffGil => {
                    crowd.off += 1;
                    crowd.ripe_off |= task.streak >= RIPE_OFF;
                }
                Class::Held | Class::HeldBlocked | Class::GilWait | Class::Unknown => {
                    crowd.gil += 1;
                    crowd.ripe_held |= task.streak >= RIPE_HELD;
                    crowd.queues |= task.class == Class::GilWait && task.streak >= RIPE_HELD;
                }
            }
        }
        crowd
    }

    /// Seconds for which a task has run that takes much longer than is `usual`, if there is one: of several that run one
    /// after another the others have taken what they usually do.
    pub(crate) fn odd(running: &[Running], usual: f64) -> Option<f64> {
        let excess = |task: &Running| {
            let tasks = f64::from(task.tasks.max(1));
            (task.elapsed > 4.0 * usual * tasks).then_some(task.elapsed - usual * (tasks - 1.0))
        };
        running.iter().filter_map(excess).max_by(f64::total_cmp)
    }

    /// Nobody has needed the GIL for long, and few do at this moment.
    pub(crate) fn is_calm(&self) -> bool {
        !self.ripe_held && self.gil <= self.all / 2
    }

    /// Cores in use: of those that need the GIL, one computes at a time.
    pub(crate) fn computing(&self) -> u32 {
        self.off + u32::from(self.gil > 0)
    }
}
