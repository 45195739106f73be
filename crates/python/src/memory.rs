//! What the maps and executors of this process have learned of functions: the next one begins with it.

use std::sync::{Mutex, PoisonError};

use forkright_engine::climb::Bearable;
use forkright_engine::profile::Profile;
use pyo3::prelude::*;

use crate::ledger::{Key, key_of};

/// Functions that are remembered; of more, those that were used last.
const MANY: usize = 64;

/// What was learned of a function.
#[derive(Clone, Default)]
pub(crate) struct Learned {
    pub(crate) profile: Profile,
    /// How many of its tasks may be in flight.
    pub(crate) bearable: Bearable,
}

/// The least recently used first. Held for moments and by those who have the GIL, so a fork finds it free.
static KNOWN: Mutex<Vec<(Key, Learned)>> = Mutex::new(Vec::new());

/// What was learned of `function` before.
pub(crate) fn recall(function: &Bound<'_, PyAny>) -> Option<Learned> {
    let key = key_of(function);
    let learned =
        with_known(|known| known.iter().find(|(kept, _)| kept.is(&key)).map(|(_, learned)| learned.clone()))?;
    Some(Learned { profile: learned.profile.remembered(), ..learned })
}

/// Remembers what is known of `function` by now.
pub(crate) fn keep(function: &Bound<'_, PyAny>, learned: Learned) {
    if learned.profile.tasks() == 0 {
        return;
    }
    let key = key_of(function);
    let kept = (Key::of(&key), learned);
    let forgotten = with_known(|known| {
        let same = known.iter().position(|(kept, _)| kept.is(&key));
        let oldest = (known.len() >= MANY).then_some(0);
        let forgotten = same.or(oldest).map(|index| known.remove(index));
        known.push(kept);
        forgotten
    });
    // Not under the lock: what a key is the last reference of may run Python as it goes.
    drop(forgotten);
}

fn with_known<T>(body: impl FnOnce(&mut Vec<(Key, Learned)>) -> T) -> T {
    body(&mut KNOWN.lock().unwrap_or_else(PoisonError::into_inner))
}
