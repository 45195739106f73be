//! What tasks ask for: their phases, and what is true of all of them.

use std::sync::Arc;

use forkright_engine::choose::Leave;

/// What a task does next, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Phase {
    /// Computes with the GIL.
    Gil(f64),
    /// Computes without it.
    Off(f64),
    /// Waits for something outside the process.
    Wait(f64),
    /// Sleeps for a time it has chosen.
    Sleep(f64),
    /// Waits for a program that it has started, which computes.
    Program(f64),
}

impl Phase {
    /// How long it takes with nothing in its way.
    pub fn seconds(self) -> f64 {
        match self {
            Self::Gil(t) | Self::Off(t) | Self::Wait(t) | Self::Sleep(t) | Self::Program(t) => t,
        }
    }

    /// Adds `next`, if it is more of the same.
    pub(crate) fn absorb(&mut self, next: Self) -> bool {
        match (self, next) {
            (Self::Gil(t), Self::Gil(more))
            | (Self::Off(t), Self::Off(more))
            | (Self::Wait(t), Self::Wait(more))
            | (Self::Sleep(t), Self::Sleep(more))
            | (Self::Program(t), Self::Program(more)) => {
                *t += more;
                true
            }
            _ => false,
        }
    }
}

/// What carrying a task to a worker process and its result back costs, both ways together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Carriage {
    /// Seconds of pickling in the calling process.
    pub here: f64,
    /// Seconds of pickling in the worker.
    pub there: f64,
    /// Bytes.
    pub bytes: f64,
}

/// Whom all tasks wait for, if it has a limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Server {
    /// Tasks that it works on at once as fast as on one.
    pub limit: u32,
    /// Whether it works on all further ones, too, each the slower for them, or has them queue.
    pub shares: bool,
    /// By what share of the time that it takes for one each beyond the limit slows down all.
    pub strain: f64,
}

impl Server {
    /// How fast each of so many that wait gets on; the first that came are the first.
    pub(crate) fn speeds(&self, waiting: usize) -> impl Iterator<Item = f64> {
        let (all, limit) = (waiting as f64, f64::from(self.limit));
        let strained = 1.0 / (1.0 + self.strain * (all - limit).max(0.0));
        let shares = self.shares;
        (0..waiting).map(move |at| match shares {
            true => strained * (limit / all).min(1.0),
            false if (at as f64) < limit => strained,
            false => 0.0,
        })
    }
}

/// How an iterable gives its items, where it is not a list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stream {
    /// Seconds from one item to the next.
    pub every: f64,
    /// Items that may be known and not taken as results.
    pub window: usize,
    /// Results after which whoever takes them stops; of an endless iterable somebody does.
    pub stop: usize,
}

/// Tasks of one function.
#[derive(Clone, Debug)]
pub struct Workload {
    /// The phases of each.
    pub tasks: Vec<Arc<[Phase]>>,
    /// Whether the number of tasks is known at the start.
    pub counted: bool,
    /// Whether they may run in another process.
    pub leave: Leave,
    /// Whether the meter can see the GIL.
    pub metered: bool,
    /// Whether the helper that forks workers ever comes up.
    pub forks: bool,
    /// By how much those that compute in one process slow each other down beyond taking turns.
    pub drag: f64,
    /// What leaving costs each.
    pub carriage: Carriage,
    /// Whom they wait for; without it nobody's wait slows down another's.
    pub server: Option<Server>,
    /// Modules that a worker process imports before its first task.
    pub modules: f64,
    /// Where the items come from, if they are not all there.
    pub stream: Option<Stream>,
    /// When the worker process that runs most is killed.
    pub deaths: Vec<f64>,
}

impl Workload {
    /// Of tasks with these phases.
    pub fn of(tasks: impl IntoIterator<Item = Vec<Phase>>) -> Self {
        Self {
            tasks: tasks.into_iter().map(Arc::from).collect(),
            counted: true,
            leave: Leave::Yes,
            metered: true,
            forks: true,
            drag: 1.0,
            carriage: Carriage::default(),
            server: None,
            modules: 0.0,
            stream: None,
            deaths: Vec::new(),
        }
    }

    /// Of `count` tasks that are alike.
    pub fn same(count: usize, task: &[Phase]) -> Self {
        let task: Arc<[Phase]> = task.into();
        Self { tasks: vec![task; count], ..Self::of([]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_gets_on_as_fast_as_its_limit_allows_and_strain_takes_from_that() {
        for shares in [false, true] {
            let all = |strain: f64, waiting: usize| -> f64 {
                Server { limit: 8, shares, strain }.speeds(waiting).sum()
            };
            let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
            assert!(near(all(0.5, 8), 8.0) && near(all(0.0, 20), 8.0), "{shares}");
            assert!(near(all(0.5, 12), 8.0 / 3.0), "{shares}: four beyond it, each half as long again");
        }
        let queue = Server { limit: 2, shares: false, strain: 0.0 };
        assert_eq!(queue.speeds(4).collect::<Vec<_>>(), [1.0, 1.0, 0.0, 0.0]);
    }
}
