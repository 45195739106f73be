//! What tasks cost: clocks, and the GIL of this process as seen from outside it.
//!
//! The engine decides by these readings, and the binding tells the meter where to look: this crate knows no Python
//! API, addresses arrive as plain numbers. Without it only wall time would be known, and a task that computes
//! could not be told from one that holds everybody up.
//!
//! A [`Sampler`] owns one native thread. Workers [enter](Sampler::enter) it and mark their tasks on the [`Slot`]
//! they get; while somebody [watches](Watch), the thread looks at every busy slot, classifies what it sees
//! ([`Class`]) and counts it in the [`Tally`] of the task's function. Nothing here takes the GIL, waits for it or
//! follows a pointer of the interpreter.

pub mod account;
mod class;
pub mod clock;
mod convoy;
mod descriptors;
mod gil;
mod memory;
pub mod native;
mod reading;
pub mod record;
mod recorder;
mod sampler;
mod schedule;
mod slot;
mod states;
mod tally;
mod task_file;
mod thread;
pub mod thrift;
mod watch;

pub use class::Class;
pub use convoy::Convoy;
pub use gil::{Evidence, Gil, Unknown};
pub use memory::{Memory, Own};
pub use reading::{Clocks, Part, Reading};
pub use recorder::{Entry, Recorder, Subject};
pub use sampler::{Cost, Sampler};
pub use slot::{Slot, Standing, View};
pub use states::{Frames, Resident, residents};
pub use tally::{Blame, Counts, Share, Tally};
pub use thread::{spawn_quiet, wait_gone};
pub use watch::{Glance, Look, Pace, Watch};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also after a panic elsewhere: what the meter guards is complete between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
