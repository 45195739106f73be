//! What tasks of one process cost each other beyond taking turns. Whoever gives up the GIL often pays to have it back
//! where others want it: two threads that query SQLite may take five times as long as one. A forecast knows nothing of
//! it, so it is measured: tasks that had others beside them against those that had the process to themselves.

use serde::{Deserialize, Serialize};

use crate::profile::Mean;

/// So much more than one after another is more than noise.
const PLAIN: f64 = 1.2;
/// Seconds that tasks must take for that: what is shorter is slow for other reasons, such as a thread's start.
const LONG: f64 = 0.001;

/// The means of tasks that were alone in their process, and of those that were not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Drag {
    alone: Costs,
    beside: Costs,
    /// How many tasks ran in the process, those of `beside`.
    together: Mean,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Costs {
    wall: Mean,
    cpu: Mean,
}

impl Drag {
    /// Adds so many tasks that took `wall` seconds each, waits for a core included, and `cpu` of them on one.
    pub(crate) fn record(&mut self, tasks: f64, wall: f64, cpu: f64, together: u32) {
        let costs = if together > 1 { &mut self.beside } else { &mut self.alone };
        costs.wall.add(wall, tasks);
        costs.cpu.add(cpu, tasks);
        if together > 1 {
            self.together.add(together.into(), tasks);
        }
    }

    /// How many times more CPU time a task takes beside others than alone.
    pub(crate) fn of_cpu(&self) -> f64 {
        self.ratio(|costs| &costs.cpu).unwrap_or(1.0).max(1.0)
    }

    /// By how much a task that takes turns with others is slowed down beyond that: more CPU time, or, where they are
    /// slower than one after another, all its time. `running` tasks have all run for `shortest` seconds or longer.
    pub(crate) fn all(&self, running: u32, shortest: f64) -> f64 {
        let slower = |ratio: f64, together: f64| if ratio > PLAIN * together { ratio } else { 1.0 };
        let finished = self.ratio(|costs| &costs.wall).zip(self.together.value());
        let seen = self.alone.wall.value().filter(|alone| running > 1 && *alone >= LONG);
        let finished = finished.map_or(1.0, |(ratio, together)| slower(ratio, together));
        let seen = seen.map_or(1.0, |alone| slower(shortest / alone, running.into()));
        self.of_cpu().max(finished).max(seen)
    }

    fn ratio(&self, of: impl Fn(&Costs) -> &Mean) -> Option<f64> {
        self.alone.wall.value().filter(|alone| *alone >= LONG)?;
        Some(of(&self.beside).value()? / of(&self.alone).value().filter(|alone| *alone > 0.0)?)
    }

    /// How many tasks ran together, where several did.
    pub(crate) fn together(&self) -> Option<f64> {
        self.together.value()
    }

    /// Whether nothing is known of tasks that were alone, but of others.
    pub(crate) fn lacks_alone(&self) -> bool {
        self.alone.wall.value().is_none() && self.beside.wall.value().is_some()
    }

    pub(crate) fn means(&mut self) -> [&mut Mean; 5] {
        let Drag { alone, beside, together } = self;
        [&mut alone.wall, &mut alone.cpu, &mut beside.wall, &mut beside.cpu, together]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(alone: f64, beside: f64, together: u32) -> Drag {
        let mut drag = Drag::default();
        drag.record(1.0, alone, alone, 1);
        drag.record(1.0, beside, alone, together);
        drag
    }

    #[test]
    fn taking_turns_is_no_drag() {
        assert_eq!(Drag::default().all(8, 1.0), 1.0);
        assert_eq!(after(0.04, 0.08, 2).all(0, 0.0), 1.0);
        assert_eq!(after(0.04, 0.3, 8).all(8, 0.3), 1.0);
    }

    #[test]
    fn being_slower_than_one_after_another_is_also_of_those_that_still_run() {
        assert_eq!(after(0.04, 0.2, 2).all(0, 0.0), 5.0);
        let mut drag = Drag::default();
        drag.record(1.0, 0.04, 0.04, 1);
        assert_eq!(drag.all(2, 0.09), 1.0);
        assert_eq!(drag.all(2, 0.12), 3.0);
        assert_eq!(drag.all(1, 0.12), 1.0, "one that runs alone is a long one");
    }

    #[test]
    fn more_cpu_time_is_drag_even_if_it_pays() {
        let mut drag = Drag::default();
        drag.record(1.0, 0.1, 0.04, 1);
        drag.record(1.0, 0.12, 0.06, 2);
        assert!((drag.of_cpu() - 1.5).abs() < 1e-9 && (drag.all(0, 0.0) - 1.5).abs() < 1e-9);
    }
}
