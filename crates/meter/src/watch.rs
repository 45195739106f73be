//! Somebody who wants to know while tasks run.
//!
//! The engine's supervisor is one, a recorder another. As long as there is one the sampler samples; without any it is
//! parked.

use std::time::Duration;

use crate::class::Class;

/// What the sampler saw at one tick.
#[derive(Debug, Clone, Copy)]
pub struct Glance<'a> {
    /// When it began to look, by [`clock::monotonic`](crate::clock::monotonic).
    pub now: Duration,
    /// The thread state that held the GIL then; `None` if nobody did or nobody can tell.
    pub holder: Option<usize>,
    /// How often the GIL has changed hands, where that can be told.
    pub switches: Option<u64>,
    /// The slots that ran a task, or a random choice of them where they are many.
    pub looks: &'a [Look],
}

/// What one thread was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// The [id](crate::Slot::id) of its slot.
    pub slot: u64,
    /// What it was doing.
    pub class: Class,
}

/// How often a [`Watch`] wants to be called. The most eager one decides for all; where ticks are dear, they are
/// fewer, so that measuring stays within 5 % of a core while learning and 1 % after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pace {
    /// About every millisecond: something is about to be decided.
    Learning,
    /// About every five milliseconds.
    Steady,
    /// About every twenty milliseconds: nothing runs.
    Idle,
    /// Never again.
    Done,
}

impl Pace {
    /// The mean time between ticks, if there are to be any.
    pub(crate) fn period(self) -> Option<Duration> {
        match self {
            Pace::Learning => Some(Duration::from_millis(1)),
            Pace::Steady => Some(Duration::from_millis(5)),
            Pace::Idle => Some(Duration::from_millis(20)),
            Pace::Done => None,
        }
    }

    /// The most that ticks of this pace may take of a core: with what else measures, asking threads where they are, it
    /// stays below 5 % while learning and 1 % later.
    pub(crate) fn limit(self) -> f64 {
        if self == Pace::Learning { 0.04 } else { 0.007 }
    }
}

/// Called after every sampling, on the sampler's thread.
///
/// It must not block, and above all not wait for the GIL: the meter would measure its own waiting, and dropping the
/// sampler with the GIL held would never end. A panic counts as [`Pace::Done`].
///
/// The sampler keeps a weak reference, and a strong one during the call: so the last one may be dropped there.
pub trait Watch: Send + Sync {
    /// Tells what was just seen.
    fn tick(&self, glance: &Glance<'_>) -> Pace;

    /// The thread is about to end, until it is [resumed](crate::Sampler::resume) or for good. Returns whether there is
    /// anything left to watch.
    fn rest(&self) -> bool {
        true
    }
}
