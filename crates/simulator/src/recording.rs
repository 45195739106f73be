//! What was recorded of a real workload, run once, one task after another: `benchmarks/simulated/record.py` writes it.

use std::sync::Arc;

use forkright_engine::choose::Leave;
use forkright_engine::machine::Machine;
use serde::{Deserialize, Serialize};

use crate::workload::{Carriage, Phase, Workload};

/// A workload as it was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recording {
    /// Its name in the suite.
    pub workload: String,
    /// Tasks in their order, neighbours that are alike together.
    pub items: Vec<Items>,
    /// Seconds of pickling in the calling process for one task, there and back.
    pub pickling_here: f64,
    /// The same in a worker process.
    pub pickling_there: f64,
    /// Bytes of one task that travel, there and back.
    pub bytes: f64,
    /// Seconds that a worker process takes to import what the function needs.
    pub import: f64,
    /// By how much two threads of one process slow each other down beyond taking turns.
    pub drag: f64,
    /// Whether the tasks sleep where they wait.
    pub sleeps: bool,
    /// Why the tasks must stay in the calling process, if so.
    pub stays: Option<String>,
}

/// Tasks that follow each other, each with the mean of their seconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Items {
    /// How many.
    pub count: usize,
    /// Computing with the GIL.
    pub held: f64,
    /// Computing without it.
    pub off: f64,
    /// Waiting.
    pub waiting: f64,
    /// Waiting for a program that computes.
    pub programs: f64,
    /// How often it waited: its phases take turns so often.
    pub rounds: u32,
}

/// The most turns of one task that are told apart.
const MOST_ROUNDS: u32 = 8;
/// Seconds of computing after which one that holds the GIL for a part of it has had it once.
const TURN: f64 = 0.002;

impl Recording {
    /// The workload for a simulation.
    pub fn workload(&self) -> Workload {
        let tasks = self.items.iter().flat_map(|items| {
            let phases: Arc<[Phase]> = items.phases(self.sleeps).into();
            std::iter::repeat_n(phases, items.count)
        });
        let (here, there, bytes) = (self.pickling_here, self.pickling_there, self.bytes);
        Workload {
            tasks: tasks.collect(),
            carriage: Carriage { here, there, bytes },
            modules: self.import / Machine::default().module(),
            drag: self.drag.max(1.0),
            leave: self.stays.clone().map_or(Leave::Yes, Leave::No),
            ..Workload::of([])
        }
    }
}

impl Items {
    fn phases(&self, sleeps: bool) -> Vec<Phase> {
        let mixed =
            if self.held > 0.0 && self.off > 0.0 { ((self.held + self.off) / TURN) as u32 } else { 1 };
        let rounds = self.rounds.max(mixed).clamp(1, MOST_ROUNDS);
        let part = |whole: f64| whole / f64::from(rounds);
        let round = [
            if sleeps { Phase::Sleep(part(self.waiting)) } else { Phase::Wait(part(self.waiting)) },
            Phase::Program(part(self.programs)),
            Phase::Gil(part(self.held)),
            Phase::Off(part(self.off)),
        ];
        let phases: Vec<Phase> = round.into_iter().filter(|phase| phase.seconds() > 0.0).collect();
        if phases.len() < 2 {
            phases.into_iter().map(|phase| whole(phase, rounds)).collect()
        } else {
            phases.repeat(rounds as usize)
        }
    }
}

fn whole(phase: Phase, rounds: u32) -> Phase {
    let by = f64::from(rounds);
    match phase {
        Phase::Gil(t) => Phase::Gil(t * by),
        Phase::Off(t) => Phase::Off(t * by),
        Phase::Wait(t) => Phase::Wait(t * by),
        Phase::Sleep(t) => Phase::Sleep(t * by),
        Phase::Program(t) => Phase::Program(t * by),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_becomes_tasks_that_take_as_long_as_was_measured() {
        let items =
            |count, held, off, waiting, rounds| Items { count, held, off, waiting, programs: 0.0, rounds };
        let recording = Recording {
            workload: "some".into(),
            items: vec![
                items(3, 0.004, 0.012, 0.0, 1),
                items(2, 0.001, 0.0, 0.05, 100),
                items(1, 0.3, 0.0, 0.0, 5),
            ],
            pickling_here: 0.0,
            pickling_there: 0.0,
            bytes: 0.0,
            import: 0.0,
            drag: 0.9,
            sleeps: false,
            stays: Some("it must".into()),
        };
        let work = recording.workload();
        let seconds: Vec<f64> =
            work.tasks.iter().map(|task| task.iter().map(|phase| phase.seconds()).sum()).collect();
        for (found, expected) in seconds.iter().zip([0.016, 0.016, 0.016, 0.051, 0.051, 0.3]) {
            assert!((found - expected).abs() < 1e-12);
        }
        assert_eq!(work.tasks.iter().map(|task| task.len()).collect::<Vec<_>>(), [16, 16, 16, 16, 16, 1]);
        assert_eq!((work.drag, work.leave), (1.0, Leave::No("it must".into())));
    }
}
