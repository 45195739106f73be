//! Whether tasks have changed their nature: those that ended last all wait where those before computed, or the other way
//! round. A mean over both is true of neither. Without this, thirty waits after thirty computations would be done two at a
//! time in two processes until the mean has faded.

use serde::{Deserialize, Serialize};

use crate::profile::Mean;

/// Tasks before the latest ones that count: older ones fade.
const SPAN: f64 = 64.0;
/// So improbable must it be that the latest ones are of one nature by chance.
const CHANCE: f64 = 0.01;
/// Readings that make a turn, however improbable fewer are.
const FEW: i32 = 2;

/// The latest tasks that are of one nature, and how many of each there were before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Turn {
    /// Those that computed for most of their time, and those that waited.
    before: [f64; 2],
    waits: bool,
    readings: i32,
    tasks: f64,
    latest: Nature,
}

/// Means of the seconds that a task takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Nature {
    cpu: Mean,
    waiting: Mean,
    blocked: Mean,
}

/// What one of the latest tasks took, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Latest {
    pub(crate) cpu: f64,
    pub(crate) waiting: f64,
    pub(crate) blocked: f64,
}

impl Turn {
    /// Adds the mean of the next so many tasks.
    pub(crate) fn add(&mut self, mean: Latest, tasks: f64) {
        let waits = mean.waiting > mean.cpu + mean.blocked;
        if waits != self.waits {
            self.end();
        }
        self.waits = waits;
        self.readings = self.readings.saturating_add(1);
        self.tasks += tasks;
        self.latest.cpu.add(mean.cpu, tasks);
        self.latest.waiting.add(mean.waiting, tasks);
        self.latest.blocked.add(mean.blocked, tasks);
    }

    /// Those of the other nature come.
    fn end(&mut self) {
        self.before[usize::from(self.waits)] += self.tasks;
        let all: f64 = self.before.iter().sum();
        if all > SPAN {
            self.before.iter_mut().for_each(|count| *count *= SPAN / all);
        }
        *self = Self { before: self.before, ..Self::default() };
    }

    /// What the latest ones took, if there were others and it is no chance that these are of one nature.
    pub(crate) fn latest(&self) -> Option<Latest> {
        let [computed, waited] = self.before;
        let (same, others) = if self.waits { (waited, computed) } else { (computed, waited) };
        // Laplace's rule of succession.
        let share = (same + 1.0) / (same + others + 2.0);
        if others == 0.0 || self.readings < FEW || share.powi(self.readings) > CHANCE {
            return None;
        }
        let Nature { cpu, waiting, blocked } = self.latest;
        Some(Latest { cpu: cpu.value()?, waiting: waiting.value()?, blocked: blocked.value()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPUTES: Latest = Latest { cpu: 0.01, waiting: 0.0, blocked: 0.0 };
    const WAITS: Latest = Latest { cpu: 0.001, waiting: 0.02, blocked: 0.0 };

    fn after(tasks: impl IntoIterator<Item = Latest>) -> Turn {
        let mut turn = Turn::default();
        tasks.into_iter().for_each(|task| turn.add(task, 1.0));
        turn
    }

    #[test]
    fn a_few_waits_after_many_computations_are_a_turn() {
        let computed = vec![COMPUTES; 30];
        let turned = |waits: usize| after([computed.clone(), vec![WAITS; waits]].concat()).latest();
        assert_eq!([turned(1), turned(2)], [None, Some(WAITS)]);
    }

    #[test]
    fn tasks_that_have_always_been_so_have_not_turned() {
        assert_eq!(after(vec![WAITS; 100]).latest(), None);
    }

    #[test]
    fn tasks_that_take_turns_have_no_nature_to_change() {
        for length in 1..=4 {
            let block = [vec![WAITS; length], vec![COMPUTES; length]].concat();
            let all = (0..100).flat_map(|_| block.clone());
            let mut turn = Turn::default();
            for (at, task) in all.enumerate() {
                turn.add(task, 1.0);
                // Nobody knows so before a few have been seen.
                assert!(at < 8 * length || turn.latest().is_none(), "{length}, {at}: {turn:?}");
            }
        }
    }

    #[test]
    fn a_turn_back_is_one() {
        let tasks = [vec![COMPUTES; 60], vec![WAITS; 60], vec![COMPUTES; 10]].concat();
        assert_eq!(after(tasks).latest(), Some(COMPUTES));
    }
}
