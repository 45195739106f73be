//! The study: auto beside the oracle for every recording, and for made-up families, on machines of many sizes. Prints JSON;
//! `make bench-simulated` makes a page of it.
//!
//!     forkright-simulator [--quick] [--only 'requests,'] RECORDING.json...
//!     forkright-simulator --tell 'waits, short, growing' RECORDING.json...
//!
//! With `--only`, the workloads whose name contains that. With `--tell`, what auto chose when and why in one workload, on each machine.

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use forkright_engine::machine::Machine;
use forkright_engine::plan::Plan;
use forkright_simulator::families::families;
use forkright_simulator::oracle::{self, Regret};
use forkright_simulator::recording::Recording;
use forkright_simulator::workload::Workload;
use forkright_simulator::world::World;
use serde::Serialize;

const CORES: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 256.0];
const QUICK_CORES: [f64; 2] = [2.0, 16.0];
/// How long workers take to start: the word for it, the helper that forks them, each of them.
const STARTS: [(&str, f64, f64); 3] = [("fast", 0.06, 0.003), ("ordinary", 0.15, 0.02), ("slow", 0.3, 0.2)];
/// Seconds between two forks of one helper; each child gets ready by itself.
const FORK: f64 = 0.0015;
/// Seconds of the GIL to find out whether work may leave.
const QUESTION: f64 = 0.02;
/// The share of the meter's looks that mistake held for released.
const NOISE: f64 = 0.02;
/// Fixed plans that the suite times as well, on this many cores.
const TIMED: [(u32, u32); 8] = [(0, 1), (0, 2), (0, 4), (0, 8), (0, 20), (2, 1), (4, 1), (2, 8)];
const TIMED_CORES: f64 = 2.0;

struct Subject {
    name: String,
    is_recorded: bool,
    work: Workload,
}

/// One workload on one machine.
#[derive(Serialize)]
struct Row {
    workload: String,
    recorded: bool,
    cores: f64,
    start: &'static str,
    best: Plan,
    best_seconds: f64,
    /// Auto that knows what processes cost here, and auto that takes them to cost what they do by default.
    known: Taken,
    unknown: Taken,
}

#[derive(Serialize)]
struct Taken {
    seconds: f64,
    regret: f64,
    ended_with: Plan,
    here: usize,
    moves: usize,
    forecast_error: Option<f64>,
}

#[derive(Serialize)]
struct Timed {
    workload: String,
    plan: Plan,
    seconds: f64,
}

#[derive(Serialize)]
struct Study {
    starts: [(&'static str, f64, f64); 3],
    fork: f64,
    question: f64,
    noise: f64,
    rows: Vec<Row>,
    fixed: Vec<Timed>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut value = |option: &str| {
        let at = arguments.iter().position(|argument| argument == option)?;
        Some(arguments.drain(at..(at + 2).min(arguments.len())).next_back().unwrap_or_default())
    };
    let (told, only) = (value("--tell"), value("--only"));
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let mut subjects = Vec::new();
    for path in arguments.iter().filter(|argument| *argument != "--quick") {
        let text =
            std::fs::read_to_string(path).map_err(|error| format!("{path} can not be read: {error}"))?;
        let recording: Recording =
            serde_json::from_str(&text).map_err(|error| format!("{path} is no recording: {error}"))?;
        let work = recording.workload();
        subjects.push(Subject { name: recording.workload, is_recorded: true, work });
    }
    subjects.extend(families().into_iter().map(|(name, work)| Subject { name, is_recorded: false, work }));
    if let Some(part) = only {
        subjects.retain(|subject| subject.name.contains(&part));
    }
    if let Some(name) = told {
        let subject = subjects.iter().find(|subject| subject.name == name);
        return subject.map(tell).ok_or_else(|| format!("there is no workload {name:?}").into());
    }
    let cores = if quick { &QUICK_CORES[..] } else { &CORES[..] };
    let machines: Vec<(usize, f64, usize)> = (0..subjects.len())
        .flat_map(|subject| {
            cores.iter().flat_map(move |&cores| (0..STARTS.len()).map(move |start| (subject, cores, start)))
        })
        .collect();
    let rows =
        side_by_side(&machines, |&(subject, cores, start)| row(&subjects[subject], cores, STARTS[start]));
    let timed: Vec<(usize, (u32, u32))> = (0..subjects.len())
        .filter(|&subject| subjects[subject].is_recorded)
        .flat_map(|subject| TIMED.into_iter().map(move |plan| (subject, plan)))
        .collect();
    let fixed = side_by_side(&timed, |&(subject, (processes, threads))| {
        let Subject { name, work, .. } = &subjects[subject];
        let plan = Plan::new(processes, threads).unwrap_or(Plan::SERIAL);
        let seconds = oracle::fixed(work, &world(TIMED_CORES, STARTS[0]), plan);
        Timed { workload: name.clone(), plan, seconds }
    });
    let study = Study { starts: STARTS, fork: FORK, question: QUESTION, noise: NOISE, rows, fixed };
    serde_json::to_writer(std::io::stdout().lock(), &study)?;
    println!();
    Ok(())
}

fn tell(subject: &Subject) {
    for cores in CORES {
        for start in STARTS {
            let regret = oracle::regret(&subject.work, &world(cores, start));
            let (seconds, best) = (regret.taken.seconds, regret.seconds);
            println!("{cores} cores, {} start: auto {seconds:.3} s, {} {best:.3} s", start.0, regret.best);
            for (at, verdict) in &regret.taken.verdicts {
                println!("  {:5.0} ms  {}", at * 1e3, verdict.sentence);
            }
        }
    }
}

fn world(cores: f64, (_, zygote_start, process_start): (&str, f64, f64)) -> World {
    let machine = Machine { cores, zygote_start, process_start, ..Machine::default() };
    World { believed: machine.clone(), fork: FORK, question: QUESTION, noise: NOISE, machine }
}

fn row(subject: &Subject, cores: f64, start: (&'static str, f64, f64)) -> Row {
    let known = world(cores, start);
    let unknown = World { believed: Machine { cores, ..Machine::default() }, ..known.clone() };
    let regret = oracle::regret(&subject.work, &known);
    let blind = Regret { taken: oracle::auto(&subject.work, &unknown, None), ..regret.clone() };
    Row {
        workload: subject.name.clone(),
        recorded: subject.is_recorded,
        cores,
        start: start.0,
        best: regret.best,
        best_seconds: regret.seconds,
        known: taken(&regret),
        unknown: taken(&blind),
    }
}

fn taken(regret: &Regret) -> Taken {
    let outcome = &regret.taken;
    Taken {
        seconds: outcome.seconds,
        regret: regret.ratio(),
        ended_with: outcome.plan,
        here: outcome.here,
        moves: outcome.verdicts.len(),
        forecast_error: regret.forecast_error(),
    }
}

/// What `each` makes of them, in their order, on as many threads as there are cores.
fn side_by_side<T: Sync, R: Send>(all: &[T], each: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let made = Mutex::new(Vec::with_capacity(all.len()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Relaxed);
                    let Some(one) = all.get(at) else { break };
                    let one = each(one);
                    made.lock().unwrap_or_else(PoisonError::into_inner).push((at, one));
                }
            });
        }
    });
    let mut made = made.into_inner().unwrap_or_else(PoisonError::into_inner);
    made.sort_by_key(|(at, _)| *at);
    made.into_iter().map(|(_, one)| one).collect()
}
