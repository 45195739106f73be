//! A recording, sorted by thread, and each thread's time cut into pieces.

use std::collections::{BTreeMap, HashMap};

use super::work::Activity;
use super::{Doing, Native, Process, Thread, seconds};
use crate::class::Class;
use crate::record::{FORM, Record};

/// One recording, sorted by thread.
#[derive(Default)]
pub(super) struct Tape {
    pub(super) pid: u32,
    pub(super) parent: u32,
    pub(super) began: u64,
    pub(super) ended: u64,
    pub(super) python: String,
    pub(super) argv: Vec<String>,
    pub(super) gil: String,
    pub(super) cpu: u64,
    pub(super) meter: u64,
    pub(super) ticks: u64,
    pub(super) switches: Option<u64>,
    pub(super) native: BTreeMap<String, Native>,
    pub(super) functions: BTreeMap<u32, (String, String, u32)>,
    pub(super) threads: BTreeMap<u32, Track>,
}

/// One thread's part of a recording.
#[derive(Default)]
pub(super) struct Track {
    pub(super) tid: i32,
    pub(super) name: String,
    pub(super) began: u64,
    pub(super) ended: Option<u64>,
    /// What its clocks said, and when.
    pub(super) clocks: Option<(u64, u64, Option<u64>)>,
    pub(super) runs: Vec<Run>,
    pub(super) places: Vec<Seen>,
}

pub(super) struct Run {
    pub(super) class: Class,
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) samples: u32,
    pub(super) holder: Option<u32>,
}

/// Where a thread was at a moment.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    pub(super) at: u64,
    pub(super) function: u32,
    pub(super) rests: bool,
}

/// A stretch of time in which a thread did one thing in one function.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Piece {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) class: Class,
    pub(super) doing: Doing,
    pub(super) function: Option<usize>,
    pub(super) holder: Option<u32>,
    pub(super) samples: f64,
}

impl Tape {
    /// `None` if it doesn't begin as a recording of this form does.
    pub(super) fn read(lines: &[u8]) -> Option<Tape> {
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

    pub(super) fn process(&self, threads: Vec<Thread>, origin: u64) -> Process {
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
    pub(super) fn pieces(&self, numbers: &HashMap<u32, usize>) -> Vec<Piece> {
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
    pub(super) fn place_at(&self, at: u64) -> Option<u32> {
        let after = self.places.partition_point(|seen| seen.at < at);
        let nearest =
            match (after.checked_sub(1).and_then(|before| self.places.get(before)), self.places.get(after)) {
                (Some(before), Some(after)) if at - before.at > after.at - at => after,
                (Some(before), _) => before,
                (None, after) => after?,
            };
        Some(nearest.function)
    }
}

impl Piece {
    pub(super) fn seconds(&self) -> f64 {
        seconds(self.to - self.from)
    }

    fn goes_on_as(&self, next: &Piece) -> bool {
        (self.to, self.doing, self.function, self.holder)
            == (next.from, next.doing, next.function, next.holder)
    }

    /// The piece as a part of the program's activity, if it is one.
    pub(super) fn activity(&self, main: bool) -> Option<Activity> {
        (self.doing != Doing::Idle && self.to > self.from).then_some(Activity {
            from: self.from,
            to: self.to,
            doing: self.doing,
            main,
        })
    }
}
