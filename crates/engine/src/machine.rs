//! What things cost on a machine. Some of it is measured (`here`), the rest taken as it is; read by `forecast`, which
//! without it could not tell a laptop from a server.

use serde::{Deserialize, Serialize};

use crate::cores::Cores;

/// Costs in seconds and bytes. The defaults were measured on a virtual machine with two cores; they are
/// in the right order of magnitude elsewhere, and err on the dear side for waking an idle core.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// Cores' worth of time this process may use; a cgroup quota makes it a fraction.
    pub cores: f64,
    /// `Thread.start()` until it returns: the new thread's bootstrap takes the GIL in between.
    pub thread_start: f64,
    /// What a task costs, with the GIL held, for being taken from a queue by a thread of this process.
    pub thread_task: f64,
    /// Starting the helper that forks workers: an interpreter with the worker module imported.
    pub zygote_start: f64,
    /// Forking one worker from a helper that is up, until it is ready for work.
    pub process_start: f64,
    /// Submitting one empty task to an idle worker process until its result is back: two wake-ups of idle
    /// cores at about 40 µs each, and the pickling of nothing much.
    pub hop: f64,
    /// What each task on a worker process costs this process when they come in streams.
    pub process_task: f64,
    /// Carrying one pickled byte to another process: copying it to where that process can read it.
    pub byte: f64,
    /// How long a thread keeps the GIL while others ask for it (`sys.getswitchinterval()`).
    pub switch_interval: f64,
    /// What one worker process takes of memory before it does anything (private pages).
    pub process_memory: f64,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            cores: 2.0,
            thread_start: 260e-6,
            thread_task: 2e-6,
            zygote_start: 0.06,
            process_start: 0.003,
            hop: 100e-6,
            process_task: 5e-6,
            byte: 0.8e-9,
            switch_interval: 0.005,
            process_memory: 10e6,
        }
    }
}

/// A helper's start is the import of so many modules, as far as time goes: those of NumPy, pandas, SciPy, Polars and
/// scikit-learn take 0.9 to 1.1 ms each where it takes 60.
const HELPERS_MODULES: f64 = 60.0;

/// The part of a process's start that the helper spends, s: it forks one after another, and each child gets ready by
/// itself. Forking a small process took 1.4 to 1.8 ms.
const FORK: f64 = 0.0015;

impl Machine {
    /// Importing one module, s.
    pub fn module(&self) -> f64 {
        self.zygote_start / HELPERS_MODULES
    }

    /// Starting so many processes at once, s.
    pub fn start_of(&self, processes: f64) -> f64 {
        let fork = self.process_start.min(FORK);
        // Children share the cores.
        let side_by_side = (processes / self.cores.max(0.01)).max(1.0).min(processes);
        processes * fork + side_by_side * (self.process_start - fork)
    }

    /// The defaults with the cores that may be used here.
    pub fn with_cores(cores: &Cores) -> Self {
        Self { cores: cores.budget(), ..Self::default() }
    }

    /// How many workers can compute at the same time.
    pub fn width(&self) -> u32 {
        (self.cores.ceil() as u32).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_forked_one_by_one_and_get_ready_side_by_side() {
        let machine = Machine { cores: 64.0, process_start: 0.2, ..Machine::default() };
        assert_eq!(machine.start_of(0.0), 0.0);
        assert!((machine.start_of(1.0) - 0.2).abs() < 1e-12);
        assert!((0.25..0.35).contains(&machine.start_of(64.0)), "{}", machine.start_of(64.0));
        let few = Machine { cores: 2.0, ..machine };
        assert!(few.start_of(64.0) > 6.0, "they share two cores");
    }
}
