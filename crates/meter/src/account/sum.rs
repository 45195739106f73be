//! The parts of all threads together.

use std::collections::BTreeMap;

use super::{Doing, Portions, Thread};
use crate::reading::Part;

/// The parts of all threads together.
#[derive(Default)]
pub(super) struct Sum {
    wall: f64,
    parts: BTreeMap<&'static str, Total>,
    /// What samples alone say of the parts that are known.
    seen: BTreeMap<Doing, f64>,
}

#[derive(Default)]
struct Total {
    seconds: f64,
    variance: f64,
    samples: u64,
    /// Thread-seconds of which nobody knows how much belongs here.
    unknown: f64,
}

impl Sum {
    pub(super) fn add(&mut self, thread: &Thread, gil_is_known: bool) {
        let wall = thread.ended - thread.began;
        self.wall += wall;
        for (doing, share) in &thread.seen {
            if thread.parts.get(doing.name()).is_some_and(Option::is_some) {
                *self.seen.entry(*doing).or_default() += share * wall;
            }
        }
        for (name, portion) in &thread.parts {
            let total = self.parts.entry(name).or_default();
            match portion {
                Some(portion) => {
                    total.seconds += portion.seconds;
                    total.variance += (portion.error * wall).powi(2);
                    total.samples += portion.samples;
                }
                None if !gil_is_known => total.unknown += wall,
                None if matches!(*name, "held" | "off_gil") => total.unknown += thread.cpu,
                None => total.unknown += wall - thread.cpu,
            }
        }
    }

    /// Thread-seconds without a core.
    pub(super) fn delay(&self) -> f64 {
        self.parts.get("run_delay").map_or(0.0, |total| total.seconds)
    }

    /// By what the time that samples say was spent so is to be multiplied: clocks know better.
    pub(super) fn correction(&self, doing: Doing) -> f64 {
        let told = self.parts.get(doing.name()).map_or(0.0, |total| total.seconds);
        match self.seen.get(&doing) {
            Some(&seen) if seen > 0.0 => told / seen,
            _ => 1.0,
        }
    }

    /// A part is unknown if it is so for more than a tenth of the time.
    pub(super) fn portions(self) -> Portions {
        let wall = self.wall;
        let portion = |total: Total| {
            (wall > 0.0 && total.unknown <= wall / 10.0).then(|| Part {
                seconds: total.seconds,
                share: total.seconds / wall,
                error: total.variance.sqrt() / wall,
                samples: total.samples,
            })
        };
        self.parts.into_iter().map(|(name, total)| (name, portion(total))).collect()
    }
}
