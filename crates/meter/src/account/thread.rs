//! How one thread's time divides: by samples alone, and joined with its clocks.

use std::collections::BTreeMap;
use std::time::Duration;

use super::tape::{Piece, Track};
use super::{Doing, Place, Portions, Thread, Timeline, seconds};
use crate::class::Class;
use crate::reading::{Clocks, Part, Reading};
use crate::tally::Counts;

impl Track {
    /// What came of the thread whose time these pieces are.
    pub(super) fn thread(&self, id: u32, pieces: &[Piece], origin: u64, gil_is_known: bool) -> Thread {
        let mut seen: BTreeMap<Doing, f64> = BTreeMap::new();
        let mut classes: BTreeMap<usize, f64> = BTreeMap::new();
        for piece in pieces {
            *seen.entry(piece.doing).or_default() += piece.seconds();
            *classes.entry(piece.class as usize).or_default() += piece.seconds();
        }
        let looked: f64 = seen.values().sum();
        let samples: f64 = pieces.iter().map(|piece| piece.samples).sum();
        let ended = self.ended.unwrap_or(self.began).max(self.began);
        let clocks = self.clocks(ended - self.began);
        Thread {
            id,
            tid: self.tid,
            name: self.name.clone(),
            began: seconds(self.began.saturating_sub(origin)),
            ended: seconds(ended.saturating_sub(origin)),
            cpu: clocks.cpu.unwrap_or_default().as_secs_f64(),
            parts: portions(&seen, &counts(&classes, looked, samples), &clocks, gil_is_known),
            seen: seen.into_iter().map(|(doing, time)| (doing, share(time, looked))).collect(),
            samples: samples.round() as u64,
            functions: places(pieces),
            timeline: timeline(pieces, origin),
        }
    }

    /// What its clocks say of all of its time, in microseconds. A process that ended by force did so a moment after
    /// they were read for the last time: what they say of the time before goes for the rest.
    fn clocks(&self, wall: u64) -> Clocks {
        let scaled = |until: u64, time: u64| {
            let stretch = wall as f64 / until.saturating_sub(self.began).max(1) as f64;
            Duration::from_secs_f64(seconds(time) * stretch.clamp(1.0, 2.0))
        };
        Clocks {
            wall: Duration::from_micros(wall),
            cpu: self.clocks.map(|(at, cpu, _)| scaled(at, cpu)),
            delay: self.clocks.and_then(|(at, _, delay)| Some(scaled(at, delay?))),
        }
    }
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// Where the thread was when it wasn't idle, the most frequent first.
fn places(pieces: &[Piece]) -> Vec<Place> {
    let mut sums: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
    for piece in pieces.iter().filter(|piece| piece.doing != Doing::Idle) {
        if let Some(function) = piece.function {
            let sum = sums.entry(function).or_default();
            *sum = (sum.0 + piece.seconds(), sum.1 + piece.samples);
        }
    }
    let active: f64 = sums.values().map(|(time, _)| time).sum();
    let place = |(function, (time, samples)): (usize, (f64, f64))| Place {
        function,
        share: share(time, active),
        samples: samples.round() as u64,
    };
    let mut places: Vec<Place> = sums.into_iter().map(place).collect();
    places.sort_by(|a, b| b.share.total_cmp(&a.share));
    places
}

fn timeline(pieces: &[Piece], origin: u64) -> Timeline {
    let number = |piece: &Piece| piece.function.map_or(-1, |function| function as i64);
    Timeline {
        at: pieces.iter().map(|piece| piece.from.saturating_sub(origin)).collect(),
        state: pieces.iter().map(|piece| piece.doing as u8).collect(),
        function: pieces.iter().map(number).collect(),
    }
}

/// Samples, each for as much as the time it stands for: they are taken at different rates.
fn counts(classes: &BTreeMap<usize, f64>, looked: f64, samples: f64) -> Counts {
    let mut counts = Counts::default();
    for (class, time) in classes {
        counts.0[*class] = (share(*time, looked) * samples).round() as u64;
    }
    counts.with_sleep_as_io()
}

/// Joins samples and clocks.
fn portions(seen: &BTreeMap<Doing, f64>, counts: &Counts, clocks: &Clocks, gil_is_known: bool) -> Portions {
    let time = |doing: Doing| seen.get(&doing).copied().unwrap_or(0.0);
    let reading = Reading::new(counts, clocks);
    let portion = |part: Part| Part {
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
    let scaled = |part: Part, by: f64| Part {
        seconds: part.seconds * by,
        share: part.share * by,
        error: part.error * by,
        ..part
    };
    let mut idle = (away > 0).then_some(Part { seconds: 0.0, share: 0.0, error: 0.0, samples: away });
    for (name, class, doing) in
        [("lock_wait", Class::LockWait, Doing::LockWait), ("io", Class::Io, Doing::Io)]
    {
        let all = counts.of(class) as f64 / counts.samples().max(1) as f64 * looked;
        let own = if all > 0.0 { (time(doing) / all).min(1.0) } else { 1.0 };
        let whole = portions.get(name).copied().flatten();
        portions.insert(name, whole.map(|part| scaled(part, own)));
        idle = idle.zip(whole).map(|(idle, part)| {
            let rest = scaled(part, 1.0 - own);
            Part {
                seconds: idle.seconds + rest.seconds,
                share: idle.share + rest.share,
                error: idle.error.hypot(rest.error),
                ..idle
            }
        });
    }
    let never = Part { seconds: 0.0, share: 0.0, error: 0.0, samples: counts.samples() };
    portions.insert("idle", if away == 0 && counts.samples() > 0 { Some(never) } else { idle });
    if !gil_is_known {
        for name in ["held", "off_gil", "gil_wait", "held_blocked"] {
            portions.insert(name, None);
        }
    }
    portions
}
