//! What came of recordings: how the time of each thread divides, where in the program it went, who made whom wait.
//!
//! A pure function of the recordings' bytes; the binding calls it when the program has ended, or has been measured
//! long enough. All times in it are seconds since the first recording began.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

pub use self::doing::Doing;
use self::sum::Sum;
use self::tape::{Piece, Tape};
use crate::class::Class;
use crate::convoy::Convoy;
use crate::reading::{Clocks, Part, Reading};
use crate::tally::Counts;

mod doing;
mod sum;
mod tape;
mod thread;
mod work;

/// The parts by name; `None` is unknown.
pub type Portions = BTreeMap<&'static str, Option<Part>>;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Account {
    /// Seconds from the first recording's begin to the last one's end.
    pub wall: f64,
    /// How the time of all threads divides.
    pub totals: Portions,
    /// Functions, by their number.
    pub functions: Vec<Function>,
    /// Who made whom wait for the GIL, the longest first.
    pub blame: Vec<Blame>,
    /// Functions that starved beside others.
    pub convoys: Vec<Starved>,
    /// The processes, in the order in which they began.
    pub processes: Vec<Process>,
    /// What measuring cost.
    pub meter: Meter,
    /// What there is to divide among workers.
    pub work: Work,
}

/// A function of the program.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Function {
    /// Its qualified name.
    pub name: String,
    /// Its file.
    pub file: String,
    /// The line on which it begins.
    pub line: u32,
    /// Seconds by what it was doing: see [`Doing`]. What it didn't do is left out.
    pub seconds: BTreeMap<Doing, f64>,
    /// Samples behind them.
    #[serde(skip)]
    samples: f64,
}

/// A [`Convoy`]: one function starved beside another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Starved {
    /// The number of the one that starved.
    pub function: usize,
    /// That of the one that held the GIL, if it is known.
    pub hog: Option<usize>,
    /// The part of its time that it waited for the GIL.
    pub wait: f64,
    /// The part of its CPU time that it computed without the GIL.
    pub off_gil: f64,
    /// The part of its waits in which the hog held it.
    pub during: f64,
}

/// One function's waiting for the GIL while another held it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Blame {
    /// The number of the function that waited, if it is known.
    pub waiting: Option<usize>,
    /// That of the one that held the GIL; `None` for a thread that is none of the program's.
    pub holding: Option<usize>,
    /// How long.
    pub seconds: f64,
    /// In how many samples.
    pub samples: u64,
}

/// What measuring cost.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Meter {
    /// CPU seconds.
    pub cpu: f64,
    /// The same as a part of one core, from 0 to 1.
    pub share: f64,
    /// How often threads were looked at.
    pub ticks: u64,
}

/// One process.
#[derive(Debug, Serialize)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// That of its parent.
    pub parent: u32,
    /// What it was started with.
    pub argv: Vec<String>,
    /// `sys.version_info` as text.
    pub python: String,
    /// Why its GIL can't be seen; empty if it can.
    pub gil: String,
    /// When its recording began.
    pub began: f64,
    /// When it ended.
    pub ended: f64,
    /// CPU seconds of all its threads.
    pub cpu: f64,
    /// How often its GIL changed hands.
    pub switches: Option<u64>,
    /// CPU seconds of threads that Python did not start, measuring left out.
    pub native_cpu: f64,
    /// Those threads.
    pub native: Vec<Native>,
    /// Its Python threads.
    pub threads: Vec<Thread>,
}

/// Threads that Python did not start, of one name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Native {
    /// Their name.
    pub name: String,
    /// How many.
    pub threads: u32,
    /// CPU seconds of them together.
    pub cpu: f64,
}

/// One Python thread.
#[derive(Debug, Serialize)]
pub struct Thread {
    /// Its number in its process: 0 registered first.
    pub id: u32,
    /// The kernel's number of it.
    pub tid: i32,
    /// Its name.
    pub name: String,
    /// When it began, or was first measured.
    pub began: f64,
    /// When it ended, or measuring did.
    pub ended: f64,
    /// CPU seconds, by its clock.
    pub cpu: f64,
    /// How its time divides, by samples and clocks: see [`Reading`].
    pub parts: Portions,
    /// How its time divides by samples alone: what the GIL's own books would say.
    pub seen: BTreeMap<Doing, f64>,
    /// All its samples.
    pub samples: u64,
    /// Where it was when it wasn't idle, the most frequent first.
    pub functions: Vec<Place>,
    /// What it was doing when.
    pub timeline: Timeline,
}

/// A function's part of a thread's time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Place {
    /// The function's number.
    pub function: usize,
    /// Of the thread's time that wasn't idle, from 0 to 1.
    pub share: f64,
    /// How often the thread was seen there.
    pub samples: u64,
}

/// Pieces of time, each from its own beginning to that of the next; the last one to the thread's end.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Timeline {
    /// When each begins, in microseconds.
    pub at: Vec<u64>,
    /// The number of what the thread was doing: see [`Doing::ALL`].
    pub state: Vec<u8>,
    /// The function's number, or -1.
    pub function: Vec<i64>,
}

/// What there is to divide among workers: the part of the program in which more than its main thread was active, or
/// all of it if that never was so.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Work {
    /// Seconds in which at most the main thread was active, in a program with others.
    pub serial: f64,
    /// Seconds of the rest.
    pub parallel: f64,
    /// Threads that were active at a time for most of the rest.
    pub workers: u32,
    /// Processes that did more than a little of it.
    pub processes: u32,
    /// Thread-seconds in the rest by what was done in them.
    pub seconds: BTreeMap<Doing, f64>,
    /// Thread-seconds in the rest in which threads could have run but had no core.
    pub delay: f64,
}

/// Reads the recordings; those that are none are left out.
pub fn account(recordings: &[Vec<u8>]) -> Account {
    let mut tapes: Vec<Tape> = recordings.iter().filter_map(|lines| Tape::read(lines)).collect();
    tapes.sort_by_key(|tape| tape.began);
    let origin = tapes.first().map_or(0, |tape| tape.began);
    let ended = tapes.iter().map(|tape| tape.ended).max().unwrap_or(origin);
    let mut index = Index::default();
    let mut blame: HashMap<(Option<usize>, Option<usize>), (f64, f64)> = HashMap::new();
    let mut sum = Sum::default();
    let mut active = Vec::new();
    let mut processes = Vec::new();
    for tape in &tapes {
        let numbers = index.adopt(tape);
        let known = tape.gil.is_empty();
        let mut threads = Vec::new();
        let pieces: BTreeMap<u32, Vec<Piece>> =
            tape.threads.iter().map(|(id, track)| (*id, track.pieces(&numbers))).collect();
        for (id, track) in &tape.threads {
            let pieces = &pieces[id];
            for piece in pieces {
                index.spend(piece);
                if let (Doing::GilWait, Some(holder)) = (piece.doing, piece.holder) {
                    let middle = piece.from.midpoint(piece.to);
                    let holding = tape.threads.get(&holder).and_then(|holder| holder.place_at(middle));
                    let holding = holding.and_then(|function| numbers.get(&function).copied());
                    let entry = blame.entry((piece.function, holding)).or_default();
                    entry.0 += piece.seconds();
                    entry.1 += piece.samples;
                }
            }
            active.extend(pieces.iter().filter_map(|piece| piece.activity(*id == 0)));
            let thread = track.thread(*id, pieces, origin, known);
            sum.add(&thread, known);
            threads.push(thread);
        }
        processes.push(tape.process(threads, origin));
    }
    let mut work = work::work(active, seconds(ended - origin));
    work.processes = work::active_processes(&processes);
    let delay = sum.delay();
    work.delay = delay * work.parallel / (work.parallel + work.serial).max(f64::MIN_POSITIVE);
    for (doing, time) in &mut work.seconds {
        *time *= sum.correction(*doing);
    }
    let mut blame: Vec<Blame> = blame
        .into_iter()
        .map(|((waiting, holding), (seconds, samples))| Blame {
            waiting,
            holding,
            seconds,
            samples: samples.round() as u64,
        })
        .collect();
    blame.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    let convoys = convoys(&index.functions, &blame);
    let measured: f64 = tapes.iter().map(|tape| seconds(tape.ended - tape.began)).sum();
    let meter: f64 = tapes.iter().map(|tape| tape.meter as f64 * 1e-6).sum();
    Account {
        wall: seconds(ended - origin),
        totals: sum.portions(),
        functions: index.functions,
        blame,
        convoys,
        processes,
        meter: Meter {
            cpu: meter,
            share: if measured > 0.0 { meter / measured } else { 0.0 },
            ticks: tapes.iter().map(|tape| tape.ticks).sum(),
        },
        work,
    }
}

/// The functions that starved beside others, as far as samples tell.
fn convoys(functions: &[Function], blame: &[Blame]) -> Vec<Starved> {
    let recognise = |(number, function): (usize, &Function)| {
        let time = |doing| function.seconds.get(&doing).copied().unwrap_or(0.0);
        let looked: f64 = function.seconds.values().sum();
        let mut classes = Counts::default();
        for class in Class::ALL.into_iter().filter(|class| *class != Class::Sleep) {
            classes.0[class as usize] =
                (time(Doing::of(class, false)) / looked * function.samples).round() as u64;
        }
        let duration = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or_default();
        let cpu = time(Doing::Held) + time(Doing::OffGil);
        let clocks = Clocks { wall: duration(looked), cpu: Some(duration(cpu)), delay: None };
        let name = |number: usize| Arc::<str>::from(number.to_string());
        let own = blame.iter().filter(|blame| blame.waiting == Some(number));
        let own: Vec<crate::Blame> =
            own.map(|blame| crate::Blame { by: blame.holding.map(name), samples: blame.samples }).collect();
        let convoy = Convoy::recognise(&name(number), &Reading::new(&classes, &clocks), &own)?;
        let hog = convoy.hog.and_then(|hog| hog.parse().ok());
        let Convoy { wait, off_gil, during, .. } = convoy;
        Some(Starved { function: number, hog, wait, off_gil, during })
    };
    functions.iter().enumerate().filter_map(recognise).collect()
}

fn seconds(microseconds: u64) -> f64 {
    microseconds as f64 * 1e-6
}

/// All functions of all processes.
#[derive(Default)]
struct Index {
    functions: Vec<Function>,
    known: HashMap<(String, String, u32), usize>,
}

impl Index {
    /// The numbers of a recording's functions among those of all.
    fn adopt(&mut self, tape: &Tape) -> HashMap<u32, usize> {
        let number = |(own, key): (&u32, &(String, String, u32))| {
            let next = self.functions.len();
            let number = *self.known.entry(key.clone()).or_insert(next);
            if number == next {
                let (name, file, line) = key.clone();
                self.functions.push(Function { name, file, line, seconds: BTreeMap::new(), samples: 0.0 });
            }
            (*own, number)
        };
        tape.functions.iter().map(number).collect()
    }

    fn spend(&mut self, piece: &Piece) {
        if let Some(function) = piece.function {
            let function = &mut self.functions[function];
            *function.seconds.entry(piece.doing).or_default() += piece.seconds();
            function.samples += piece.samples;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{FORM, Record};
    use proptest::prelude::*;

    const BEGAN: u64 = 1_000_000;

    fn header(at: u64) -> Record {
        let argv = vec!["script.py".to_owned()];
        Record::Process {
            form: FORM,
            pid: 7,
            parent: 1,
            at,
            python: "3.13.0".into(),
            argv,
            gil: String::new(),
        }
    }

    fn lines(records: &[Record]) -> Vec<u8> {
        let mut lines = Vec::new();
        for record in records {
            record.write(&mut lines);
        }
        lines
    }

    fn run(thread: u32, class: Class, from: u64, to: u64) -> Record {
        let (from, to) = (BEGAN + from * 1000, BEGAN + to * 1000);
        Record::Run { thread, class, from, to, samples: ((to - from) / 1000) as u32, holder: None }
    }

    fn function(function: u32, name: &str) -> Record {
        Record::Function { function, name: name.into(), file: "script.py".into(), line: function }
    }

    fn place(thread: u32, function: u32, at: u64) -> Record {
        Record::Place { thread, function, at: BEGAN + at * 1000, rests: false }
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-6
    }

    /// Two threads that take turns, while the main one waits for their end.
    fn turns() -> Vec<u8> {
        let mut records = vec![header(BEGAN), function(1, "main"), function(2, "calc")];
        records.extend((0..3).map(|thread| Record::Thread { thread, tid: 70 + thread as i32, at: BEGAN }));
        records.push(run(0, Class::LockWait, 0, 400));
        records.push(Record::Place { thread: 0, function: 1, at: BEGAN + 200_000, rests: true });
        for slice in 0..4 {
            let (from, to) = (slice * 100, slice * 100 + 100);
            let (holder, waiter) = if slice % 2 == 0 { (1, 2) } else { (2, 1) };
            records.push(run(holder, Class::Held, from, to));
            records.push(Record::Run {
                thread: waiter,
                class: Class::GilWait,
                from: BEGAN + from * 1000,
                to: BEGAN + to * 1000,
                samples: 100,
                holder: Some(holder),
            });
            records.extend([place(1, 2, from + 50), place(2, 2, from + 50)]);
        }
        for thread in 1..3 {
            records.push(Record::Clock { thread, at: BEGAN + 400_000, cpu: 200_000, delay: Some(0) });
        }
        let at = BEGAN + 400_000;
        records.push(Record::Cost { at, cpu: 410_000, meter: 4_000, ticks: 400, switches: Some(4) });
        records.push(Record::End { at });
        lines(&records)
    }

    #[test]
    fn threads_that_take_turns_blame_each_other() {
        let account = account(&[turns()]);
        assert!(near(account.wall, 0.4));
        let names: Vec<&str> = account.functions.iter().map(|function| function.name.as_str()).collect();
        let calc = names.iter().position(|name| *name == "calc");
        let [blame] = &account.blame[..] else { panic!("one pair: {:?}", account.blame) };
        assert_eq!((blame.waiting, blame.holding, blame.samples), (calc, calc, 400));
        assert!(near(blame.seconds, 0.4));
        let [process] = &account.processes[..] else { panic!("one process") };
        for thread in &process.threads[1..] {
            let held = thread.parts["held"].expect("known");
            assert!(near(held.share, 0.5) && held.error > 0.0 && held.samples > 0, "{held:?}");
            assert!(near(thread.seen[&Doing::GilWait], 0.5));
            assert_eq!(thread.functions[0].function, calc.expect("seen"));
        }
        assert!(near(account.meter.cpu, 0.004) && near(account.meter.share, 0.01));
        assert!(near(process.native_cpu, 0.41 - 0.4 - 0.004));
    }

    #[test]
    fn work_that_starves_beside_a_hog_is_named() {
        let mut records = vec![header(BEGAN), function(0, "hog"), function(1, "hash")];
        records.extend((0..2).map(|thread| Record::Thread { thread, tid: 70 + thread as i32, at: BEGAN }));
        records.extend([place(0, 0, 100), place(1, 1, 100)]);
        for slice in 0..10 {
            let from = slice * 100;
            records.push(run(0, Class::Held, from, from + 100));
            records.push(Record::Run {
                thread: 1,
                class: Class::GilWait,
                from: BEGAN + from * 1000,
                to: BEGAN + (from + 80) * 1000,
                samples: 80,
                holder: Some(0),
            });
            records.push(run(1, Class::OffGil, from + 80, from + 100));
        }
        let account = account(&[lines(&records)]);
        let [starved] = &account.convoys[..] else { panic!("one: {:?}", account.convoys) };
        assert_eq!((account.functions[starved.function].name.as_str(), starved.hog), ("hash", Some(0)));
        assert!(near(starved.wait, 0.8) && near(starved.off_gil, 1.0) && near(starved.during, 1.0));
        assert!(super::account(&[turns()]).convoys.is_empty(), "taking turns is none");
    }

    #[test]
    fn a_thread_that_waits_for_others_is_idle_and_takes_no_part() {
        let account = account(&[turns()]);
        let main = &account.processes[0].threads[0];
        assert!(main.seen.contains_key(&Doing::Idle) && !main.seen.contains_key(&Doing::LockWait));
        assert!(near(main.parts["idle"].expect("known").share, 1.0));
        let Work { serial, parallel, workers, processes, seconds, delay } = &account.work;
        assert!(near(*delay, 0.0));
        assert_eq!(*processes, 1);
        assert!(near(*serial, 0.0) && near(*parallel, 0.4));
        assert_eq!(*workers, 2);
        assert!(near(seconds[&Doing::Held], 0.4) && near(seconds[&Doing::GilWait], 0.4));
        assert!(!seconds.contains_key(&Doing::Idle));
    }

    #[test]
    fn what_the_main_thread_does_alone_before_the_others_is_serial() {
        let mut records = vec![header(BEGAN)];
        records.extend((0..2).map(|thread| Record::Thread { thread, tid: 1, at: BEGAN }));
        records.extend([
            run(0, Class::Held, 0, 300),
            run(0, Class::Io, 300, 400),
            run(1, Class::Held, 300, 400),
        ]);
        let Work { serial, parallel, workers, .. } = account(&[lines(&records)]).work;
        assert!(near(serial, 0.3) && near(parallel, 0.1), "{serial} {parallel}");
        assert_eq!(workers, 2);
    }

    #[test]
    fn all_that_a_program_of_one_thread_does_could_be_divided() {
        let begin = Record::Thread { thread: 0, tid: 1, at: BEGAN };
        let records = [header(BEGAN), begin, run(0, Class::Held, 0, 300), run(0, Class::Io, 300, 400)];
        let Work { serial, parallel, workers, seconds, .. } = account(&[lines(&records)]).work;
        assert!(near(serial, 0.0) && near(parallel, 0.4));
        assert_eq!(workers, 1);
        assert!(near(seconds[&Doing::Io], 0.1));
    }

    #[test]
    fn a_gil_that_can_not_be_seen_leaves_its_parts_unknown() {
        let mut records = vec![header(BEGAN), run(0, Class::Unknown, 0, 300), run(0, Class::Io, 300, 400)];
        let Record::Process { gil, .. } = &mut records[0] else { unreachable!("it is the header") };
        *gil = "it is hidden".into();
        let account = account(&[lines(&records)]);
        let thread = &account.processes[0].threads[0];
        assert!(
            ["held", "off_gil", "gil_wait", "held_blocked"].iter().all(|name| thread.parts[name].is_none())
        );
        assert_eq!(account.totals["held"], None);
        assert!(near(thread.seen[&Doing::Io], 0.25));
    }

    #[test]
    fn a_recording_of_another_form_is_left_out() {
        let mut other = header(BEGAN);
        let Record::Process { form, .. } = &mut other else { unreachable!("it is the header") };
        *form += 1;
        assert!(account(&[lines(&[other]), Vec::new(), b"rubbish".to_vec()]).processes.is_empty());
    }

    proptest! {
        #[test]
        fn pieces_cover_what_was_seen_and_follow_each_other(
            spans in proptest::collection::vec((0_usize..Class::ALL.len(), 0_u64..50), 1..40),
            seen in proptest::collection::vec((0_u32..3, 0_u64..2_000, any::<bool>()), 0..40),
        ) {
            let mut records = vec![header(BEGAN), function(0, "a"), function(1, "b"), function(2, "c")];
            let mut at = 0;
            for (class, length) in &spans {
                records.push(run(0, Class::ALL[*class], at, at + length));
                at += length;
            }
            records.extend(seen.iter().map(|&(function, at, rests)| Record::Place { thread: 0, function, at: BEGAN + at * 1000, rests }));
            let account = account(&[lines(&records)]);
            let thread = &account.processes[0].threads[0];
            let Timeline { at: begins, state, function } = &thread.timeline;
            prop_assert_eq!(begins.len(), state.len());
            prop_assert_eq!(begins.len(), function.len());
            prop_assert!(begins.is_sorted());
            prop_assert_eq!(thread.samples, at);
            let seen: f64 = thread.seen.values().sum();
            prop_assert!(at == 0 || near(seen, 1.0), "{}", seen);
            let shares: f64 = thread.functions.iter().map(|place| place.share).sum();
            prop_assert!(thread.functions.is_empty() || near(shares, 1.0) || shares == 0.0);
        }

        #[test]
        fn no_recording_makes_it_panic(records in proptest::collection::vec(
            (0_u32..4, 0_usize..7, any::<u64>(), any::<u64>(), any::<u32>(), 0_usize..5), 0..40),
        ) {
            let records: Vec<Record> = std::iter::once(header(BEGAN)).chain(records.into_iter().map(
                |(thread, class, a, b, number, kind)| match kind {
                    0 => Record::Run {
                        thread, class: Class::ALL[class], from: a, to: b, samples: number, holder: Some(number % 4),
                    },
                    1 => Record::Place { thread, function: number, at: a, rests: b % 2 == 0 },
                    2 => Record::Clock { thread, at: a, cpu: b, delay: Some(a) },
                    3 => Record::Gone { thread, at: a },
                    _ => Record::Cost { at: a, cpu: b, meter: a, ticks: b, switches: None },
                },
            )).collect();
            let _ = account(&[lines(&records)]);
        }
    }
}
