//! Made-up workloads: what tasks do, how long they take and how that varies, in all combinations.

use std::sync::Arc;

use crate::workload::{Carriage, Phase, Server, Workload};

/// Seconds that a task takes on average, and how many there are.
const LENGTHS: [(&str, f64, usize); 3] = [("short", 0.0005, 4000), ("medium", 0.01, 200), ("long", 0.25, 12)];
/// What a task does, as shares of its time: with the GIL, without, waiting.
const KINDS: [(&str, f64, f64, f64); 4] = [
    ("computes", 1.0, 0.0, 0.0),
    ("hashes", 0.1, 0.9, 0.0),
    ("waits", 0.03, 0.0, 0.97),
    ("fetches and parses", 0.4, 0.0, 0.6),
];
/// Which of them are requests.
const WAITS: usize = 2;
const VARIATIONS: [Variation; 6] = [
    Variation::Constant,
    Variation::LongTail,
    Variation::Growing,
    Variation::Shrinking,
    Variation::Alternating,
    Variation::Drifting,
];
/// Seconds that a request takes, and how many there are.
const REQUESTS: [(&str, f64, usize); 3] = [("few", 0.05, 60), ("many", 0.05, 600), ("quick", 0.01, 600)];
/// What the server of the requests does with more of them than its limit.
const SERVERS: [(&str, bool, f64); 4] = [
    ("has others queue", false, 0.0),
    ("shares itself out", true, 0.0),
    ("slows down by its queue", false, 1.0),
    ("slows down by sharing", true, 1.0),
];
const LIMITS: [u32; 3] = [4, 8, 32];
/// One task in so many is of the long tail, and takes so many times as long.
const TAIL: (u32, f64) = (25, 20.0);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variation {
    Constant,
    /// A few tasks take much longer.
    LongTail,
    /// Sorted by length.
    Growing,
    Shrinking,
    /// Short and long ones take turns.
    Alternating,
    /// The second half does something else.
    Drifting,
}

impl Variation {
    fn word(self) -> &'static str {
        match self {
            Self::Constant => "alike",
            Self::LongTail => "long tail",
            Self::Growing => "growing",
            Self::Shrinking => "shrinking",
            Self::Alternating => "alternating",
            Self::Drifting => "drifting",
        }
    }

    /// How many times the mean a task takes.
    fn factor(self, at: usize, count: usize, dice: &mut u32) -> f64 {
        let place = (at as f64 + 0.5) / count as f64;
        match self {
            Self::Constant | Self::Drifting => 1.0,
            Self::LongTail => {
                *dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let (one_in, times) = TAIL;
                let mean = 1.0 + (times - 1.0) / f64::from(one_in);
                if (*dice >> 8).is_multiple_of(one_in) { times / mean } else { 1.0 / mean }
            }
            Self::Growing => 2.0 * place,
            Self::Shrinking => 2.0 * (1.0 - place),
            Self::Alternating => [0.1, 1.9][at % 2],
        }
    }
}

/// All of them, by name.
pub fn families() -> Vec<(String, Workload)> {
    let mut made = Vec::new();
    for (length, seconds, count) in LENGTHS {
        for (number, (kind, ..)) in KINDS.iter().enumerate() {
            for variation in VARIATIONS {
                let name = format!("{kind}, {length}, {}", variation.word());
                made.push((name, family(seconds, count, number, variation)));
            }
        }
    }
    made.extend(requests());
    made
}

/// Tasks that wait for a server with a limit.
fn requests() -> Vec<(String, Workload)> {
    let mut made = Vec::new();
    for (number, seconds, count) in REQUESTS {
        for (manner, shares, strain) in SERVERS {
            for limit in LIMITS {
                for variation in [Variation::Constant, Variation::LongTail] {
                    let server = Server { limit, shares, strain: strain / f64::from(limit) };
                    let name = format!("{number} requests, {manner} beyond {limit}, {}", variation.word());
                    made.push((
                        name,
                        Workload { server: Some(server), ..family(seconds, count, WAITS, variation) },
                    ));
                }
            }
        }
    }
    made
}

fn family(seconds: f64, count: usize, kind: usize, variation: Variation) -> Workload {
    let mut dice = 1;
    let tasks = (0..count).map(|at| {
        let is_other = variation == Variation::Drifting && at >= count / 2;
        let (_, held, off, waiting) = KINDS[if is_other { (kind + 2) % KINDS.len() } else { kind }];
        let each = seconds * variation.factor(at, count, &mut dice);
        let phases = [Phase::Wait(each * waiting), Phase::Gil(each * held), Phase::Off(each * off)];
        phases.into_iter().filter(|phase| phase.seconds() > 0.0).collect()
    });
    let carriage = Carriage { here: 4e-6, there: 4e-6, bytes: 100.0 };
    let mut work = Workload { carriage, modules: 5.0, ..Workload::of(tasks) };
    // Neighbours that are alike share their phases, as those of a recording do.
    for at in 1..work.tasks.len() {
        if work.tasks[at] == work.tasks[at - 1] {
            work.tasks[at] = Arc::clone(&work.tasks[at - 1]);
        }
    }
    work
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_takes_about_as_long_one_by_one_as_its_name_says() {
        let families = families();
        let made = LENGTHS.len() * KINDS.len() * VARIATIONS.len();
        assert_eq!(families.len(), made + 2 * REQUESTS.len() * SERVERS.len() * LIMITS.len());
        for (name, work) in families {
            let seconds: f64 =
                work.tasks.iter().flat_map(|task| task.iter()).map(|phase| phase.seconds()).sum();
            let (_, each, count) = REQUESTS
                .into_iter()
                .find(|(number, ..)| name.starts_with(&format!("{number} requests")))
                .or_else(|| LENGTHS.into_iter().find(|(length, ..)| name.contains(length)))
                .expect("a length");
            assert_eq!(work.tasks.len(), count);
            // Of twelve tasks none need be of the long tail.
            assert!((0.5..1.6).contains(&(seconds / (each * count as f64))), "{name}: {seconds}");
        }
    }
}
