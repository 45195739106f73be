//! What of a program could be divided among workers.

use std::collections::BTreeMap;

use super::{Doing, Process, Thread, Work, seconds};

/// A thread that does something.
pub(super) struct Activity {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) doing: Doing,
    pub(super) main: bool,
}

/// Walks through the program's time with the number of threads that were active in it.
pub(super) fn work(active: Vec<Activity>, wall: f64) -> Work {
    let mut edges: Vec<(u64, i32, usize)> = Vec::with_capacity(2 * active.len());
    for (index, one) in active.iter().enumerate() {
        edges.push((one.from, 1, index));
        edges.push((one.to, -1, index));
    }
    // Ends before beginnings: pieces of one thread follow each other.
    edges.sort_unstable();
    let alone_only = active.iter().all(|one| one.main);
    let mut seconds_of: BTreeMap<Doing, f64> = BTreeMap::new();
    let mut at_a_time: BTreeMap<i64, f64> = BTreeMap::new();
    let mut now: BTreeMap<Doing, i64> = BTreeMap::new();
    let (mut others, mut mains, mut before) = (0_i64, 0_i64, 0_u64);
    let (mut parallel, mut busy) = (0.0, 0.0);
    for (at, change, index) in edges {
        let time = seconds(at - before.min(at));
        if others + mains > 0 {
            busy += time;
            if others > 0 || mains > 1 || alone_only {
                parallel += time;
                *at_a_time.entry(others + mains).or_default() += time;
                for (doing, count) in &now {
                    *seconds_of.entry(*doing).or_default() += time * *count as f64;
                }
            }
        }
        let one = &active[index];
        *if one.main { &mut mains } else { &mut others } += i64::from(change);
        *now.entry(one.doing).or_default() += i64::from(change);
        before = at;
    }
    let mut left = parallel * 0.1;
    let mut workers = 0;
    for (count, time) in at_a_time.into_iter().rev() {
        workers = count;
        left -= time;
        if left < 0.0 {
            break;
        }
    }
    seconds_of.retain(|_, time| *time > 0.0);
    Work {
        serial: if alone_only { 0.0 } else { (busy - parallel).min(wall) },
        parallel,
        workers: workers.max(0) as u32,
        seconds: seconds_of,
        ..Work::default()
    }
}

/// Processes whose threads did at least a twentieth of all that was done.
pub(super) fn active_processes(processes: &[Process]) -> u32 {
    let of_thread = |thread: &Thread| {
        let idle = thread.seen.get(&Doing::Idle).copied().unwrap_or(0.0);
        (thread.ended - thread.began) * (1.0 - idle)
    };
    let active = |process: &Process| process.threads.iter().map(of_thread).sum::<f64>();
    let all: f64 = processes.iter().map(active).sum();
    processes.iter().filter(|process| active(process) >= all / 20.0).count() as u32
}
