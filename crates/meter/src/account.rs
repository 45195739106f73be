//! What came of recordings: how the time of each thread divides, where in the program it went, who made whom wait.
//!
//! A pure function of the recordings' bytes; the binding calls it when the program has ended, or has been measured
//! long enough. All times in it are seconds since the first recording began.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::class::Class;
use crate::convoy::Convoy;
use crate::reading::{Clocks, Part, Reading};
use crate::record::{FORM, Record};
use crate::tally::Counts;

/// What a thread of a program can be doing: a [`Class`], or [`Doing::Idle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Doing {
    /// Computes with the GIL.
    Held,
    /// Waits for something else with the GIL.
    HeldBlocked,
    /// Computes without the GIL.
    OffGil,
    /// Waits for the GIL.
    GilWait,
    /// Waits for a lock that somebody holds.
    LockWait,
    /// Input, output, sleep.
    Io,
    /// Waits for work, or for other threads to end.
    Idle,
    /// Could run, without the GIL, but has no core.
    RunDelay,
    /// Can't be told.
    Unknown,
}

impl Doing {
    /// All of them, in the order in which timelines number them.
    pub const ALL: [Doing; 9] = [
        Doing::Held,
        Doing::HeldBlocked,
        Doing::OffGil,
        Doing::GilWait,
        Doing::LockWait,
        Doing::Io,
        Doing::Idle,
        Doing::RunDelay,
        Doing::Unknown,
    ];

    /// The name of the part that it is.
    fn name(self) -> &'static str {
        match self {
            Doing::Held => "held",
            Doing::HeldBlocked => "held_blocked",
            Doing::OffGil => "off_gil",
            Doing::GilWait => "gil_wait",
            Doing::LockWait => "lock_wait",
            Doing::Io => "io",
            Doing::Idle => "idle",
            Doing::RunDelay => "run_delay",
            Doing::Unknown => "unknown",
        }
    }

    fn of(class: Class, rests: bool) -> Doing {
        match class {
            Class::Held => Doing::Held,
            Class::HeldBlocked => Doing::HeldBlocked,
            Class::OffGil => Doing::OffGil,
            Class::GilWait => Doing::GilWait,
            Class::LockWait | Class::Io if rests => Doing::Idle,
            Class::LockWait => Doing::LockWait,
            Class::Io => Doing::Io,
            Class::Ready => Doing::RunDelay,
            Class::Unknown => Doing::Unknown,
        }
    }
}

/// A part of somebody's time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Portion {
    /// How long.
    pub seconds: f64,
    /// The same as a part of the whole, from 0 to 1.
    pub share: f64,
    /// The standard error of the share.
    pub error: f64,
    /// How many samples it rests on; none for what clocks say.
    pub samples: u64,
}

/// The parts by name; `None` is unknown.
pub type Portions = BTreeMap<&'static str, Option<Portion>>;

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
    let mut work = work(active, seconds(ended - origin));
    work.processes = active_processes(&processes);
    let delay = sum.parts.get("run_delay").map_or(0.0, |total| total.seconds);
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
        for class in Class::ALL {
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

/// Processes whose threads did at least a twentieth of all that was done.
fn active_processes(processes: &[Process]) -> u32 {
    let of_thread = |thread: &Thread| {
        let idle = thread.seen.get(&Doing::Idle).copied().unwrap_or(0.0);
        (thread.ended - thread.began) * (1.0 - idle)
    };
    let active = |process: &Process| process.threads.iter().map(of_thread).sum::<f64>();
    let all: f64 = processes.iter().map(active).sum();
    processes.iter().filter(|process| active(process) >= all / 20.0).count() as u32
}

fn seconds(microseconds: u64) -> f64 {
    microseconds as f64 * 1e-6
}

/// One recording, sorted by thread.
#[derive(Default)]
struct Tape {
    pid: u32,
    parent: u32,
    began: u64,
    ended: u64,
    python: String,
    argv: Vec<String>,
    gil: String,
    cpu: u64,
    meter: u64,
    ticks: u64,
    switches: Option<u64>,
    native: BTreeMap<String, Native>,
    functions: BTreeMap<u32, (String, String, u32)>,
    threads: BTreeMap<u32, Track>,
}

/// One thread's part of a recording.
#[derive(Default)]
struct Track {
    tid: i32,
    name: String,
    began: u64,
    ended: Option<u64>,
    /// What its clocks said, and when.
    clocks: Option<(u64, u64, Option<u64>)>,
    runs: Vec<Run>,
    places: Vec<Seen>,
}

struct Run {
    class: Class,
    from: u64,
    to: u64,
    samples: u32,
    holder: Option<u32>,
}

/// Where a thread was at a moment.
#[derive(Clone, Copy)]
struct Seen {
    at: u64,
    function: u32,
    rests: bool,
}

/// A stretch of time in which a thread did one thing in one function.
#[derive(Clone, Copy, PartialEq)]
struct Piece {
    from: u64,
    to: u64,
    class: Class,
    doing: Doing,
    function: Option<usize>,
    holder: Option<u32>,
    samples: f64,
}

impl Tape {
    /// `None` if it doesn't begin as a recording of this form does.
    fn read(lines: &[u8]) -> Option<Tape> {
        let mut records = Record::read(lines);
        let Some(Record::Process { form: FORM, pid, parent, at, python, argv, gil }) = records.next() else {
            return None;
        };
        let mut tape = Tape { pid, parent, began: at, ended: at, python, argv, gil, ..Tape::default() };
        for record in records {
            tape.take(record);
        }
        let ended = tape.ended;
        for track in tape.threads.values_mut() {
            track.places.sort_by_key(|seen| seen.at);
            track.runs.sort_by_key(|run| run.from);
            track.ended.get_or_insert(ended);
        }
        Some(tape)
    }

    fn track(&mut self, thread: u32) -> &mut Track {
        self.threads.entry(thread).or_default()
    }

    fn take(&mut self, record: Record) {
        let at = match record {
            Record::Process { .. } => return,
            Record::Thread { thread, tid, at } => {
                let track = self.track(thread);
                (track.tid, track.began) = (tid, at);
                at
            }
            Record::Name { thread, name } => {
                self.track(thread).name = name;
                return;
            }
            Record::Gone { thread, at } => {
                self.track(thread).ended = Some(at);
                at
            }
            Record::Run { thread, class, from, to, samples, holder } => {
                // A damaged recording must not turn time back.
                if from <= to {
                    self.track(thread).runs.push(Run { class, from, to, samples, holder });
                }
                to
            }
            Record::Function { function, name, file, line } => {
                self.functions.insert(function, (name, file, line));
                return;
            }
            Record::Place { thread, function, at, rests } => {
                self.track(thread).places.push(Seen { at, function, rests });
                at
            }
            Record::Clock { thread, at, cpu, delay } => {
                self.track(thread).clocks = Some((at, cpu, delay));
                at
            }
            Record::Cost { at, cpu, meter, ticks, switches } => {
                (self.cpu, self.meter, self.ticks, self.switches) = (cpu, meter, ticks, switches);
                at
            }
            Record::Native { name, threads, cpu } => {
                let native = Native { name: name.clone(), threads, cpu: seconds(cpu) };
                self.native.insert(name, native);
                return;
            }
            Record::End { at } => at,
        };
        self.ended = self.ended.max(at);
    }

    fn process(&self, threads: Vec<Thread>, origin: u64) -> Process {
        let cpu = seconds(self.cpu);
        let python: f64 = threads.iter().map(|thread| thread.cpu).sum();
        Process {
            pid: self.pid,
            parent: self.parent,
            argv: self.argv.clone(),
            python: self.python.clone(),
            gil: self.gil.clone(),
            began: seconds(self.began.saturating_sub(origin)),
            ended: seconds(self.ended.saturating_sub(origin)),
            cpu,
            switches: self.switches,
            native_cpu: (cpu - python - seconds(self.meter)).max(0.0),
            native: self.native.values().cloned().collect(),
            threads,
        }
    }
}

impl Track {
    /// What it did when and where. The function seen at a moment is taken for the time around it, halfway to the
    /// moments at which it was seen before and after.
    fn pieces(&self, numbers: &HashMap<u32, usize>) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::with_capacity(self.runs.len());
        let mut place = 0;
        for run in &self.runs {
            let mut from = run.from;
            loop {
                while self.until(place) <= from && place + 1 < self.places.len() {
                    place += 1;
                }
                let to = self.until(place).min(run.to).max(from);
                let to = if to == from { run.to } else { to };
                let seen = self.places.get(place);
                let whole = (run.to - run.from).max(1) as f64;
                let part = if run.to > run.from { (to - from) as f64 / whole } else { 1.0 };
                let piece = Piece {
                    from,
                    to,
                    class: run.class,
                    doing: Doing::of(run.class, seen.is_some_and(|seen| seen.rests)),
                    function: seen.and_then(|seen| numbers.get(&seen.function).copied()),
                    holder: run.holder,
                    samples: f64::from(run.samples) * part,
                };
                match pieces.last_mut() {
                    Some(last) if last.goes_on_as(&piece) => {
                        last.to = piece.to;
                        last.samples += piece.samples;
                    }
                    _ => pieces.push(piece),
                }
                from = to;
                if from >= run.to {
                    break;
                }
            }
        }
        pieces
    }

    /// Until when the place of this number counts.
    fn until(&self, place: usize) -> u64 {
        match (self.places.get(place), self.places.get(place + 1)) {
            (Some(seen), Some(next)) => seen.at.midpoint(next.at),
            _ => u64::MAX,
        }
    }

    /// Where it was at a moment.
    fn place_at(&self, at: u64) -> Option<u32> {
        let after = self.places.partition_point(|seen| seen.at < at);
        let nearest =
            match (after.checked_sub(1).and_then(|before| self.places.get(before)), self.places.get(after)) {
                (Some(before), Some(after)) if at - before.at > after.at - at => after,
                (Some(before), _) => before,
                (None, after) => after?,
            };
        Some(nearest.function)
    }

    fn thread(&self, id: u32, pieces: &[Piece], origin: u64, gil_is_known: bool) -> Thread {
        let mut seen: BTreeMap<Doing, f64> = BTreeMap::new();
        let mut classes: BTreeMap<usize, f64> = BTreeMap::new();
        let mut samples = 0.0;
        let mut places: BTreeMap<usize, f64> = BTreeMap::new();
        let mut timeline = Timeline::default();
        for piece in pieces {
            *seen.entry(piece.doing).or_default() += piece.seconds();
            *classes.entry(piece.class as usize).or_default() += piece.seconds();
            samples += piece.samples;
            if let (Some(function), true) = (piece.function, piece.doing != Doing::Idle) {
                *places.entry(function).or_default() += piece.seconds();
            }
            timeline.at.push(piece.from.saturating_sub(origin));
            timeline.state.push(piece.doing as u8);
            timeline.function.push(piece.function.map_or(-1, |function| function as i64));
        }
        let looked: f64 = seen.values().sum();
        let ended = self.ended.unwrap_or(self.began).max(self.began);
        // A process that ended by force did so a moment after its clocks were read for the last time: what they say of
        // the time before goes for the rest.
        let wall = ended - self.began;
        let scaled = |until: u64, time: u64| {
            let stretch = wall as f64 / until.saturating_sub(self.began).max(1) as f64;
            Duration::from_secs_f64(seconds(time) * stretch.clamp(1.0, 2.0))
        };
        let clocks = Clocks {
            wall: Duration::from_micros(wall),
            cpu: self.clocks.map(|(at, cpu, _)| scaled(at, cpu)),
            delay: self.clocks.and_then(|(at, _, delay)| Some(scaled(at, delay?))),
        };
        let active: f64 = places.values().sum();
        let share = |time: f64| if active > 0.0 { time / active } else { 0.0 };
        let mut functions: Vec<Place> = places
            .iter()
            .map(|(&function, &time)| Place { function, share: share(time), samples: 0 })
            .collect();
        for place in &mut functions {
            let here = pieces.iter().filter(|piece| piece.function == Some(place.function));
            place.samples = here
                .filter(|piece| piece.doing != Doing::Idle)
                .map(|piece| piece.samples)
                .sum::<f64>()
                .round() as u64;
        }
        functions.sort_by(|a, b| b.share.total_cmp(&a.share));
        Thread {
            id,
            tid: self.tid,
            name: self.name.clone(),
            began: seconds(self.began.saturating_sub(origin)),
            ended: seconds(ended.saturating_sub(origin)),
            cpu: clocks.cpu.unwrap_or_default().as_secs_f64(),
            parts: portions(&seen, &counts(&classes, looked, samples), &clocks, gil_is_known),
            seen: seen
                .into_iter()
                .map(|(doing, time)| (doing, if looked > 0.0 { time / looked } else { 0.0 }))
                .collect(),
            samples: samples.round() as u64,
            functions,
            timeline,
        }
    }
}

/// Samples, each for as much as the time it stands for: they are taken at different rates.
fn counts(classes: &BTreeMap<usize, f64>, looked: f64, samples: f64) -> Counts {
    let mut counts = Counts::default();
    for (class, time) in classes {
        counts.0[*class] = if looked > 0.0 { (time / looked * samples).round() as u64 } else { 0 };
    }
    counts
}

/// Joins samples and clocks.
fn portions(seen: &BTreeMap<Doing, f64>, counts: &Counts, clocks: &Clocks, gil_is_known: bool) -> Portions {
    let time = |doing: Doing| seen.get(&doing).copied().unwrap_or(0.0);
    let reading = Reading::new(counts, clocks);
    let portion = |part: Part| Portion {
        seconds: part.seconds,
        share: part.share,
        error: part.error,
        samples: part.samples,
    };
    let mut portions: Portions =
        reading.parts().into_iter().map(|(name, part)| (name, part.map(portion))).collect();
    // Whether a wait is a rest is told by where the thread is, not by the kernel: the waits of either kind are a part
    // of what the kernel says, and the rest of it is idle.
    let away = counts.of(Class::LockWait) + counts.of(Class::Io);
    let looked: f64 = seen.values().sum();
    let scaled = |part: Portion, by: f64| Portion {
        seconds: part.seconds * by,
        share: part.share * by,
        error: part.error * by,
        ..part
    };
    let mut idle = (away > 0).then_some(Portion { seconds: 0.0, share: 0.0, error: 0.0, samples: away });
    for (name, class, doing) in
        [("lock_wait", Class::LockWait, Doing::LockWait), ("io", Class::Io, Doing::Io)]
    {
        let all = counts.of(class) as f64 / counts.samples().max(1) as f64 * looked;
        let own = if all > 0.0 { (time(doing) / all).min(1.0) } else { 1.0 };
        let whole = portions.get(name).copied().flatten();
        portions.insert(name, whole.map(|part| scaled(part, own)));
        idle = idle.zip(whole).map(|(idle, part)| {
            let rest = scaled(part, 1.0 - own);
            Portion {
                seconds: idle.seconds + rest.seconds,
                share: idle.share + rest.share,
                error: idle.error.hypot(rest.error),
                ..idle
            }
        });
    }
    let never = Portion { seconds: 0.0, share: 0.0, error: 0.0, samples: counts.samples() };
    portions.insert("idle", if away == 0 && counts.samples() > 0 { Some(never) } else { idle });
    if !gil_is_known {
        for name in ["held", "off_gil", "gil_wait", "held_blocked"] {
            portions.insert(name, None);
        }
    }
    portions
}

impl Piece {
    fn seconds(&self) -> f64 {
        seconds(self.to - self.from)
    }

    fn goes_on_as(&self, next: &Piece) -> bool {
        (self.to, self.doing, self.function, self.holder)
            == (next.from, next.doing, next.function, next.holder)
    }

    /// The piece as a part of the program's activity, if it is one.
    fn activity(&self, main: bool) -> Option<Activity> {
        (self.doing != Doing::Idle && self.to > self.from).then_some(Activity {
            from: self.from,
            to: self.to,
            doing: self.doing,
            main,
        })
    }
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

/// The parts of all threads together.
#[derive(Default)]
struct Sum {
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
    fn add(&mut self, thread: &Thread, gil_is_known: bool) {
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

    /// By what the time that samples say was spent so is to be multiplied: clocks know better.
    fn correction(&self, doing: Doing) -> f64 {
        let told = self.parts.get(doing.name()).map_or(0.0, |total| total.seconds);
        match self.seen.get(&doing) {
            Some(&seen) if seen > 0.0 => told / seen,
            _ => 1.0,
        }
    }

    /// A part is unknown if it is so for more than a tenth of the time.
    fn portions(self) -> Portions {
        let wall = self.wall;
        let portion = |total: Total| {
            (wall > 0.0 && total.unknown <= wall / 10.0).then(|| Portion {
                seconds: total.seconds,
                share: total.seconds / wall,
                error: total.variance.sqrt() / wall,
                samples: total.samples,
            })
        };
        self.parts.into_iter().map(|(name, total)| (name, portion(total))).collect()
    }
}

/// A thread that does something.
struct Activity {
    from: u64,
    to: u64,
    doing: Doing,
    main: bool,
}

/// Walks through the program's time with the number of threads that were active in it.
fn work(active: Vec<Activity>, wall: f64) -> Work {
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

#[cfg(test)]
mod tests {
    use super::*;
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
