//! What things cost on the machine that this process runs on: observed where they happen, asked for by whoever makes a
//! choice. One for the whole process, like the machine. How observations become figures is decided in `estimate`, where
//! they stay between processes is `cache`'s.

use std::path::PathBuf;
use std::sync::{Mutex, TryLockError};

use crate::cache;
use crate::cores::Cores;
use crate::estimate::{Constant, Constants};
use crate::machine::Machine;

/// Observations of one constant that are added to the file, at most: what is older would hardly count there.
const MOST_FRESH: usize = 8;
/// How often a lock that somebody has is asked for: it is never held for long, but in a forked child it may be forever.
const PATIENCE: u32 = 1000;

#[derive(Default)]
struct Here {
    /// The process that observed what is fresh; a forked child begins anew.
    process: u32,
    constants: Constants,
    /// What is not in the file.
    fresh: Vec<(Constant, f64)>,
    /// Where it is kept, if it is, once somebody has said so.
    file: Option<PathBuf>,
}

static HERE: Mutex<Option<Here>> = Mutex::new(None);

fn with<T>(act: impl FnOnce(&mut Here) -> T) -> Option<T> {
    for _ in 0..PATIENCE {
        let mut held = match HERE.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                std::thread::yield_now();
                continue;
            }
        };
        let here = held.get_or_insert_default();
        let process = std::process::id();
        if here.process != process {
            here.process = process;
            here.fresh.clear();
        }
        return Some(act(here));
    }
    None
}

/// Something took so long, in seconds, or seconds per byte. Whether the figure is another one now: then it is worth
/// saving at once.
pub fn observe(constant: Constant, took: f64) -> bool {
    let add = |here: &mut Here| {
        let mut same = here.fresh.iter().enumerate().filter(|(_, (known, _))| *known == constant);
        let oldest = same.next().map(|(at, _)| at);
        if let Some(oldest) = oldest
            && same.count() + 1 >= MOST_FRESH
        {
            here.fresh.remove(oldest);
        }
        here.fresh.push((constant, took));
        here.constants.add(constant, took)
    };
    with(add).unwrap_or(false)
}

/// Has what earlier processes measured taken into account, and what this one measures kept, in this file.
pub fn keep_in(file: Option<PathBuf>) {
    let Some(file) = file else { return };
    let mut constants = cache::load(&file);
    with(|here| {
        for &(constant, took) in &here.fresh {
            constants.add(constant, took);
        }
        here.constants = constants;
        here.file = Some(file);
    });
}

/// Adds what is fresh to the file, in which other processes may have put theirs meanwhile.
pub fn save() {
    let Some(Some((file, fresh))) = with(|here| {
        let file = here.file.clone().filter(|_| !here.fresh.is_empty())?;
        Some((file, std::mem::take(&mut here.fresh)))
    }) else {
        return;
    };
    let mut constants = cache::load(&file);
    for (constant, took) in fresh {
        constants.add(constant, took);
    }
    // Where it can't be written nothing is kept.
    let _ = cache::save(&file, &constants);
}

/// Whether anything was observed that is not in the file.
pub fn has_news() -> bool {
    with(|here| !here.fresh.is_empty()).unwrap_or(false)
}

/// What is known by now, and where it is kept.
pub fn known() -> (Constants, Option<PathBuf>) {
    with(|here| (here.constants.clone(), here.file.clone())).unwrap_or_default()
}

/// The machine with the cores that may be used, and with what was measured as far as that was done.
pub fn machine(cores: &Cores) -> Machine {
    let machine = Machine::with_cores(cores);
    with(|here| here.constants.apply(machine.clone())).unwrap_or(machine)
}
