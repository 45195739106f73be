//! What the maps of this process have learned of functions: the next map of the same function begins with it.

use std::sync::{Mutex, PoisonError};

use forkright_engine::profile::Profile;
use pyo3::prelude::*;

use crate::ledger::{Key, key_of};

/// Functions that are remembered; of more, those that were used last.
const MANY: usize = 64;

/// The least recently used first. Held for moments and by those who have the GIL, so a fork finds it free.
static KNOWN: Mutex<Vec<(Key, Profile)>> = Mutex::new(Vec::new());

/// What earlier maps of `function` have learned of it.
pub(crate) fn recall(function: &Bound<'_, PyAny>) -> Option<Profile> {
    let key = key_of(function);
    with_known(|known| known.iter().find(|(kept, _)| kept.is(&key)).map(|(_, profile)| profile.remembered()))
}

/// Remembers what a map has learned of `function`, and what it knew before.
pub(crate) fn keep(function: &Bound<'_, PyAny>, profile: &Profile) {
    if profile.tasks() == 0 {
        return;
    }
    let key = key_of(function);
    let kept = (Key::of(&key), profile.clone());
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

fn with_known<T>(body: impl FnOnce(&mut Vec<(Key, Profile)>) -> T) -> T {
    body(&mut KNOWN.lock().unwrap_or_else(PoisonError::into_inner))
}
