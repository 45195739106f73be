//! What things truly cost in a simulation, and what the governor believes of it.

use forkright_engine::machine::Machine;

/// A machine as it is, and as it is known.
#[derive(Clone, Debug)]
pub struct World {
    /// What things cost.
    pub machine: Machine,
    /// What the governor takes them to cost.
    pub believed: Machine,
    /// Seconds between the starts of two processes: the helper forks one after another, and each gets ready by itself.
    pub fork: f64,
    /// Seconds of the GIL that finding out takes whether the work may leave.
    pub question: f64,
    /// The share of looks at a task that computes in which the meter takes held for released, or the other way round.
    pub noise: f64,
}

impl World {
    /// One in which everything is known exactly.
    pub fn exact(machine: Machine) -> Self {
        let fork = machine.process_start.min(0.0015);
        Self { believed: machine.clone(), fork, question: 0.0, noise: 0.0, machine }
    }
}
