//! Where tasks run: a point on the grid of processes and threads. Made by callers who fix it and by
//! `choose`; without it serial, threads, processes and hybrid would be four engines instead of one.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The most workers a plan may have; beyond it a number is a mistake, not a wish.
pub const MOST_WORKERS: u64 = 65_536;

/// `processes` worker processes with `threads` threads each; no processes means this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Shape", into = "Shape")]
pub struct Plan {
    processes: u32,
    threads: u32,
}

/// The four sorts of plan, from the simplest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One task after another, in this process.
    Serial,
    /// Threads of this process.
    Threads,
    /// Worker processes with one thread each.
    Processes,
    /// Worker processes with several threads each.
    Hybrid,
}

impl Plan {
    /// One task after another, here.
    pub const SERIAL: Self = Self { processes: 0, threads: 1 };

    /// A point on the grid; `processes` 0 means this process.
    pub fn new(processes: u32, threads: u32) -> Result<Self, Error> {
        let workers = u64::from(processes.max(1)) * u64::from(threads);
        match workers {
            0 => Err(Error::NoWorkers),
            1..=MOST_WORKERS => Ok(Self { processes, threads }),
            _ => Err(Error::TooManyWorkers(workers)),
        }
    }

    /// `threads` threads of this process; one is serial.
    pub fn in_threads(threads: u32) -> Result<Self, Error> {
        Self::new(0, threads)
    }

    /// `processes` worker processes with one thread each.
    pub fn in_processes(processes: u32) -> Result<Self, Error> {
        if processes == 0 { Err(Error::NoWorkers) } else { Self::new(processes, 1) }
    }

    /// Worker processes; 0 means that tasks run in this one.
    pub fn processes(self) -> u32 {
        self.processes
    }

    /// Threads in each of the processes.
    pub fn threads(self) -> u32 {
        self.threads
    }

    /// How many tasks can run at once.
    pub fn workers(self) -> u32 {
        self.processes.max(1) * self.threads
    }

    /// Whether tasks go to other processes.
    pub fn leaves(self) -> bool {
        self.processes > 0
    }

    /// Which sort of plan this is.
    pub fn kind(self) -> Kind {
        match (self.processes, self.threads) {
            (0, 1) => Kind::Serial,
            (0, _) => Kind::Threads,
            (_, 1) => Kind::Processes,
            _ => Kind::Hybrid,
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |n: u32, one: &str, more: &str| {
            if n == 1 { format!("1 {one}") } else { format!("{n} {more}") }
        };
        let threads = count(self.threads, "thread", "threads");
        let processes = count(self.processes, "process", "processes");
        f.pad(&match self.kind() {
            Kind::Serial => "serial".to_owned(),
            Kind::Threads => threads,
            Kind::Processes => processes,
            Kind::Hybrid => format!("{processes} x {threads}"),
        })
    }
}

impl Kind {
    /// The word for it, as used in messages and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Serial => "serial",
            Self::Threads => "threads",
            Self::Processes => "processes",
            Self::Hybrid => "hybrid",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// The JSON form, in which a plan may still be a wrong one.
#[derive(Serialize, Deserialize)]
struct Shape {
    processes: u32,
    threads: u32,
}

impl TryFrom<Shape> for Plan {
    type Error = Error;

    fn try_from(shape: Shape) -> Result<Self, Error> {
        Self::new(shape.processes, shape.threads)
    }
}

impl From<Plan> for Shape {
    fn from(plan: Plan) -> Self {
        Self { processes: plan.processes, threads: plan.threads }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_plan_says_what_it_is() {
        let said = |p, t| Plan::new(p, t).map(|plan| (plan.to_string(), plan.kind(), plan.workers()));
        assert_eq!(said(0, 1), Ok(("serial".into(), Kind::Serial, 1)));
        assert_eq!(said(0, 8), Ok(("8 threads".into(), Kind::Threads, 8)));
        assert_eq!(said(1, 1), Ok(("1 process".into(), Kind::Processes, 1)));
        assert_eq!(said(2, 1), Ok(("2 processes".into(), Kind::Processes, 2)));
        assert_eq!(said(2, 8), Ok(("2 processes x 8 threads".into(), Kind::Hybrid, 16)));
    }

    #[test]
    fn a_plan_without_workers_is_refused_in_plain_words() {
        assert_eq!(Plan::new(2, 0), Err(Error::NoWorkers));
        assert_eq!(Plan::in_processes(0), Err(Error::NoWorkers));
        assert!(Error::NoWorkers.to_string().contains("at least 1 worker"));
        assert_eq!(Plan::new(70_000, 1), Err(Error::TooManyWorkers(70_000)));
    }

    #[test]
    fn a_plan_survives_json_and_a_wrong_one_does_not() {
        let plan = Plan::new(2, 8).expect("valid");
        let text = serde_json::to_string(&plan).expect("plain data");
        assert_eq!(text, r#"{"processes":2,"threads":8}"#);
        assert_eq!(serde_json::from_str::<Plan>(&text).expect("it was written so"), plan);
        assert!(serde_json::from_str::<Plan>(r#"{"processes":2,"threads":0}"#).is_err());
    }
}
