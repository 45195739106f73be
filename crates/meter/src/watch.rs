//! Somebody who wants to know while tasks run.
//!
//! The engine's supervisor is one. As long as there is one the sampler samples; without any it is parked.

use std::time::Duration;

/// How often a [`Watch`] wants to be called. The most eager one decides for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pace {
    /// About every millisecond: something is about to be decided.
    Learning,
    /// About every five milliseconds.
    Steady,
    /// Never again.
    Done,
}

impl Pace {
    /// The mean time between ticks, if there are to be any.
    pub(crate) fn period(self) -> Option<Duration> {
        match self {
            Pace::Learning => Some(Duration::from_millis(1)),
            Pace::Steady => Some(Duration::from_millis(5)),
            Pace::Done => None,
        }
    }
}

/// Called after every sampling, on the sampler's thread.
///
/// It must not block, and above all not wait for the GIL: the meter would measure its own waiting, and dropping the
/// sampler with the GIL held would never end. A panic counts as [`Pace::Done`].
///
/// The sampler keeps a weak reference, and a strong one during the call: so the last one may be dropped there.
pub trait Watch: Send + Sync {
    /// `now` is [`clock::monotonic`](crate::clock::monotonic) as of the sampling.
    fn tick(&self, now: Duration) -> Pace;
}
