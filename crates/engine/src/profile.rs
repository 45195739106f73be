//! What is known of one function: the readings of its finished tasks and the sampled state of its running
//! ones, with the recent weighing most. Fed by whoever runs tasks, read by `forecast` and `governor`;
//! without it every choice would rest on the last task alone.

use serde::{Deserialize, Serialize};

use crate::drag::Drag;
use crate::trend::Trend;
use crate::turn::{Latest, Turn};

/// Tasks over which a mean is taken once there are many: older ones fade, so that drift is followed.
const SPAN: f64 = 64.0;
/// Calls of `sample` after which the first has faded. Counted in calls, not in samples, so that many
/// workers at once don't shorten the memory: what a task did 100 ms ago is part of its mixture.
const CALLS: f64 = 400.0;
/// Samples on the CPU after which the share that held the GIL is known, unanimous or not.
const ENOUGH: f64 = 8.0;
/// Samples after which it is known if all of them agree.
const UNANIMOUS: f64 = 3.0;
/// As many tasks stand for all those of earlier maps.
const FEW: u64 = 2;
/// Tasks that wait for the GIL in less than this share of the samples, beside their turns, are in nobody's way.
const JOSTLING: f64 = 0.05;

/// What pickling cost one way: the sum over the tasks of a reading. A half that nobody timed is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pickling {
    /// Seconds spent where the data came from.
    pub encode: Option<f64>,
    /// Seconds spent where it went.
    pub decode: Option<f64>,
    /// Bytes that travelled.
    pub bytes: f64,
}

/// What was measured of the tasks of one chunk that has finished: sums, in seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Tasks that ended, failed ones included.
    pub tasks: u64,
    /// Those that raised.
    pub failed: u64,
    /// Time from start to end, without `delay`.
    pub wall: f64,
    /// Time ready to run without a core; none where the kernel does not tell it.
    pub delay: Option<f64>,
    /// CPU time of the worker's thread; none when the clock was not read.
    pub cpu: Option<f64>,
    /// Workers of its process that ran tasks meanwhile, itself included: with 1, all the time off the CPU
    /// was the task's own.
    pub together: u32,
    /// Whether the samples given to the profile include these tasks.
    pub sampled: bool,
    /// Whether they were the first to begin. What those pay for, a cache that is filled, the others don't, which may have
    /// ended before them.
    #[serde(default)]
    pub first: bool,
    /// Arguments on their way to the worker, when they travelled.
    pub arguments: Option<Pickling>,
    /// Results on their way back, when they travelled.
    pub results: Option<Pickling>,
}

/// How often running tasks were seen in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shares {
    /// Computing with the GIL.
    pub held: u64,
    /// Holding the GIL while blocked in a system call.
    pub held_blocked: u64,
    /// Computing without the GIL.
    pub off_gil: u64,
    /// Waiting for the GIL.
    pub gil_wait: u64,
    /// Waiting for another lock.
    pub lock_wait: u64,
    /// Waiting for anything else.
    pub io: u64,
    /// Seen, but not understood.
    pub unknown: u64,
}

impl Shares {
    /// All samples.
    pub fn total(&self) -> u64 {
        self.held + self.held_blocked + self.off_gil + self.gil_wait + self.lock_wait + self.io + self.unknown
    }
}

/// What one task asks for when nothing is in its way: the input of a forecast. Seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Demand {
    /// CPU time with the GIL held.
    pub held: f64,
    /// Time blocked with the GIL held.
    pub blocked: f64,
    /// CPU time without the GIL.
    pub off: f64,
    /// Time waiting for something other than the GIL.
    pub waiting: f64,
    /// CPU time of programs that it starts and of threads that Python did not start, whom it waits for.
    pub programs: f64,
    /// By how much tasks that share a process slow each other down beyond taking turns (`drag`). Less than 1 is 1.
    pub drag: f64,
    /// Standard deviation of a task's time over its mean.
    pub spread: f64,
    /// Pickling that this process would do per task if it left.
    pub pickling_here: f64,
    /// Pickling that the worker would do per task.
    pub pickling_there: f64,
    /// Bytes that would travel per task, both ways together.
    pub bytes: f64,
    /// Modules that a new worker process would import before its first task.
    #[serde(default)]
    pub modules: f64,
    /// Tasks that would travel in one message. Less than 1 is 1.
    #[serde(default)]
    pub company: f64,
    /// Finished tasks that it was measured on; 0 is a guess from those that run.
    #[serde(default)]
    pub finished: u64,
    /// Whether the share of the GIL was measured or is CPU time taken for it.
    pub gil: Evidence,
}

/// What a demand for the GIL rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Evidence {
    /// Samples of who holds it.
    Measured,
    /// None: all CPU time is taken to need the GIL, as it does for most Python code.
    #[default]
    Assumed,
}

impl Demand {
    /// Time with the GIL.
    pub fn gil(&self) -> f64 {
        self.held + self.blocked
    }

    /// Time on a core.
    pub fn cpu(&self) -> f64 {
        self.held + self.off
    }

    /// Time of a task that has everything to itself.
    pub fn alone(&self) -> f64 {
        self.gil() + self.off + self.waiting
    }

    /// The share of a part in the time of a task that has everything to itself.
    pub fn share(&self, part: f64) -> f64 {
        if self.alone() > 0.0 { part / self.alone() } else { 0.0 }
    }

    /// The same with so many seconds of CPU time in programs that a task waits for. While `together` tasks ran, their
    /// programs queued for the cores: that is no wait of the task's own, and more tasks at once don't make it shorter.
    pub fn with_programs(self, programs: f64, together: f64, cores: f64) -> Self {
        let cores = cores.max(1.0);
        let queued = programs * (together / cores - 1.0).max(0.0);
        let waiting = (self.waiting - queued).max((programs / cores).min(self.waiting));
        Self { programs, waiting, ..self }
    }

    /// The same mixture for tasks that take `alone` seconds each.
    pub fn stretched(&self, alone: f64) -> Self {
        if self.alone() <= 0.0 {
            return Self { held: alone, ..*self };
        }
        let by = alone / self.alone();
        let (held, blocked) = (self.held * by, self.blocked * by);
        Self { held, blocked, off: self.off * by, waiting: self.waiting * by, ..*self }
    }
}

/// The accumulated readings and samples of one function.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    tasks: u64,
    failed: u64,
    wall: Mean,
    cpu: Mean,
    #[serde(default)]
    computing: Trend,
    #[serde(default)]
    length: Trend,
    #[serde(default)]
    turn: Turn,
    waiting: Mean,
    blocked: Mean,
    drag: Drag,
    spread: Mean,
    encode_arguments: Mean,
    decode_arguments: Mean,
    encode_results: Mean,
    decode_results: Mean,
    argument_bytes: Mean,
    result_bytes: Mean,
    #[serde(default)]
    modules: f64,
    samples: Samples,
}

impl Profile {
    /// Adds what was measured of a finished chunk.
    pub fn record(&mut self, reading: &Reading) {
        if reading.tasks == 0 {
            return;
        }
        let tasks = reading.tasks as f64;
        let wall = reading.wall.max(0.0) / tasks;
        let cpu = match reading.cpu {
            Some(cpu) => (cpu.max(0.0) / tasks).min(wall),
            None => wall * self.cpu_share(),
        };
        let (waiting, blocked) = self.split(wall, cpu, reading);
        if reading.cpu.is_some() {
            self.drag.record(
                tasks,
                wall + reading.delay.unwrap_or(0.0).max(0.0) / tasks,
                cpu,
                reading.together,
            );
        }
        // What others made dearer is not the task's own.
        let cpu = if reading.together > 1 && self.is_jostled() { cpu / self.drag.of_cpu() } else { cpu };
        // One chunk tells one value of a mean over its tasks, whose variance is a task's over their number.
        let before = self.alone();
        let this = cpu + waiting + blocked;
        if let Some(before) = before {
            self.spread.add((this - before).powi(2) * tasks, 1.0);
        }
        // What the first paid for is no trend.
        if !reading.first {
            self.computing.add(cpu, tasks);
            self.length.add(this, tasks);
            self.turn.add(Latest { cpu, waiting, blocked }, tasks);
        }
        self.tasks += reading.tasks;
        self.failed += reading.failed.min(reading.tasks);
        for (mean, value) in [
            (&mut self.wall, wall),
            (&mut self.cpu, cpu),
            (&mut self.waiting, waiting),
            (&mut self.blocked, blocked),
        ] {
            if reading.first {
                mean.add_early(value, tasks);
            } else {
                mean.add(value, tasks);
            }
        }
        let halves = [
            (
                reading.arguments,
                &mut self.encode_arguments,
                &mut self.decode_arguments,
                &mut self.argument_bytes,
            ),
            (reading.results, &mut self.encode_results, &mut self.decode_results, &mut self.result_bytes),
        ];
        for (pickling, encode, decode, bytes) in halves {
            if let Some(pickling) = pickling {
                encode.add_known(pickling.encode, tasks);
                decode.add_known(pickling.decode, tasks);
                bytes.add(pickling.bytes / tasks, tasks);
            }
        }
    }

    /// Adds what pickling the arguments of one task cost that did not travel.
    pub fn try_arguments(&mut self, tried: &Pickling) {
        self.encode_arguments.add_known(tried.encode, 1.0);
        self.decode_arguments.add_known(tried.decode, 1.0);
        self.argument_bytes.add(tried.bytes, 1.0);
    }

    /// Adds what pickling the result of one task cost that did not travel.
    pub fn try_result(&mut self, tried: &Pickling) {
        self.encode_results.add_known(tried.encode, 1.0);
        self.decode_results.add_known(tried.decode, 1.0);
        self.result_bytes.add(tried.bytes, 1.0);
    }

    /// Worker processes would have to import so many modules first.
    pub fn expect_imports(&mut self, modules: f64) {
        self.modules = modules;
    }

    /// Adds samples of running tasks, counted since the last call: once per tick of the meter.
    pub fn sample(&mut self, seen: &Shares) {
        self.samples.add(seen);
    }

    /// What was seen of running tasks is forgotten.
    pub fn forget_samples(&mut self) {
        self.samples = Samples::default();
    }

    /// What is worth remembering for other tasks of the same function: its nature, which a few of them outweigh if they
    /// are unlike. How long one took is forgotten, so that no chunk is made by it, and so is what workers must import,
    /// which may be there by then.
    pub fn remembered(&self) -> Profile {
        let mut kept = Profile {
            tasks: self.tasks.min(FEW),
            failed: 0,
            wall: Mean::default(),
            computing: Trend::default(),
            length: Trend::default(),
            turn: Turn::default(),
            modules: 0.0,
            ..self.clone()
        };
        let means = [
            &mut kept.cpu,
            &mut kept.waiting,
            &mut kept.blocked,
            &mut kept.spread,
            &mut kept.encode_arguments,
            &mut kept.decode_arguments,
            &mut kept.encode_results,
            &mut kept.decode_results,
            &mut kept.argument_bytes,
            &mut kept.result_bytes,
        ];
        for mean in means.into_iter().chain(kept.drag.means()) {
            mean.weight = mean.weight.min(FEW as f64);
        }
        kept.samples.fade(CALLS / 10.0);
        kept
    }

    /// Tasks that have finished.
    pub fn tasks(&self) -> u64 {
        self.tasks
    }

    /// Those of them that raised.
    pub fn failed(&self) -> u64 {
        self.failed
    }

    /// Seconds per task as they went by, waits for the GIL included.
    pub fn wall(&self) -> Option<f64> {
        self.wall.value()
    }

    /// Seconds per task with nothing in its way.
    pub fn alone(&self) -> Option<f64> {
        Some(self.cpu.value()? + self.waiting.value()? + self.blocked.value()?)
    }

    /// CPU seconds per task.
    pub fn cpu(&self) -> Option<f64> {
        self.cpu.value()
    }

    /// CPU seconds per task with the GIL held.
    pub fn gil_cpu(&self) -> Option<f64> {
        Some(self.cpu()? * self.held()?)
    }

    /// CPU seconds per task without the GIL.
    pub fn off_cpu(&self) -> Option<f64> {
        Some(self.cpu()? * (1.0 - self.held()?))
    }

    /// Seconds per task spent waiting for anything but the GIL.
    pub fn waiting(&self) -> Option<f64> {
        self.waiting.value()
    }

    /// The share of CPU time that held the GIL; none until there is evidence.
    pub fn held(&self) -> Option<f64> {
        let Samples { held, off_gil, .. } = self.samples;
        let on = held + off_gil;
        let unanimous = held == 0.0 || off_gil == 0.0;
        (on >= ENOUGH || on >= UNANIMOUS && unanimous).then(|| held / on)
    }

    /// The share of all samples in which a task waited for the GIL; none until there is evidence.
    pub fn gil_wait(&self) -> Option<f64> {
        let total = self.samples.total();
        (total >= ENOUGH).then(|| self.samples.gil_wait / total)
    }

    /// By how much tasks of one process slow each other down beyond taking turns, those that run included: `running` of
    /// them, all for at least `shortest` seconds. 1 where they don't wait for the GIL, as it is something else then: other
    /// items, or memory, which would be as slow elsewhere.
    pub fn drag(&self, running: u32, shortest: f64) -> f64 {
        if self.is_jostled() { self.drag.all(running, shortest) } else { 1.0 }
    }

    /// Whether tasks get in each other's way and none has run alone: nobody can tell by how much.
    pub fn lacks_alone(&self) -> bool {
        self.is_jostled() && self.drag.lacks_alone()
    }

    /// Whether tasks wait for the GIL for longer than they do who only take turns: whoever asks for it meets those of
    /// the others that hold it or wait for it.
    fn is_jostled(&self) -> bool {
        let others = self.drag.together().unwrap_or(2.0) - 1.0;
        let held = self.samples.held / self.samples.total().max(1.0);
        let turns = others * held * held / (1.0 - others * held).max(0.1);
        self.gil_wait().is_some_and(|share| share >= JOSTLING + turns)
    }

    /// Tasks that ran in this process at once, on average, where several did.
    pub fn together(&self) -> f64 {
        self.drag.together().unwrap_or(1.0)
    }

    /// Samples that the shares rest on.
    pub fn samples(&self) -> f64 {
        self.samples.total()
    }

    /// Standard deviation of a task's time over its mean; none before the second reading.
    pub fn spread(&self) -> Option<f64> {
        let mean = self.alone()?;
        (mean > 0.0).then_some(self.spread.value()?.sqrt() / mean)
    }

    /// What one task asks for; none before the first has finished.
    pub fn demand(&self) -> Option<Demand> {
        let cpu = self.cpu()?;
        let (held, gil) = match self.held() {
            Some(held) => (held, Evidence::Measured),
            None => (1.0, Evidence::Assumed),
        };
        Some(Demand {
            held: cpu * held,
            off: cpu * (1.0 - held),
            blocked: self.blocked.value()?,
            waiting: self.waiting()?,
            drag: self.drag(0, 0.0),
            spread: self.spread().unwrap_or(0.0),
            finished: self.tasks(),
            gil,
            ..self.pickling()
        })
    }

    /// The same of one of the next `rest` tasks: if they compute for longer and longer, or shorter, they are taken to go on
    /// so for a while. Waits alone are no sign, as what is waited for may have slowed down for there being so many; and
    /// what computes for longer but is over sooner changes its nature, of which nobody knows where it ends.
    ///
    /// If the last few are of another nature than those before, so are the next.
    pub fn demand_ahead(&self, rest: f64) -> Option<Demand> {
        let known = self.demand()?;
        if let Some(Latest { cpu, waiting, blocked }) = self.turn.latest() {
            let held = known.held / known.cpu().max(f64::MIN_POSITIVE);
            let (held, off) = (cpu * held, cpu * (1.0 - held));
            return Some(Demand { held, off, waiting, blocked, ..known });
        }
        let ahead =
            |trend: &Trend, mean: Option<f64>| Some(trend.ahead(rest)? / mean.filter(|mean| *mean > 0.0)?);
        let by = ahead(&self.computing, self.cpu());
        let by = by.zip(ahead(&self.length, self.alone())).filter(|(cpu, all)| (*cpu > 1.0) == (*all > 1.0));
        Some(by.map_or(known, |(by, _)| known.stretched(known.alone() * by)))
    }

    /// What a running task asks for if it takes `alone` seconds: the mixture that the samples show. For
    /// the time before anything has finished, or when something runs that is unlike what has.
    pub fn guess(&self, alone: f64) -> Demand {
        let Samples { held, held_blocked, off_gil, lock_wait, io, unknown, .. } = self.samples;
        let gil = if self.held().is_some() { Evidence::Measured } else { Evidence::Assumed };
        let mixture = Demand {
            // Without evidence of the GIL, whatever is not seen to wait is taken to need it.
            held: held + unknown + if gil == Evidence::Assumed { off_gil } else { 0.0 },
            blocked: held_blocked,
            off: if gil == Evidence::Assumed { 0.0 } else { off_gil },
            waiting: lock_wait + io,
            drag: self.drag(0, 0.0),
            gil,
            ..self.pickling()
        };
        mixture.stretched(alone)
    }

    /// The mean of the finished tasks, which `known` is, and of one that runs and takes `alone` seconds.
    pub fn with_another(&self, known: &Demand, alone: f64) -> Demand {
        let (one, weight) = (self.guess(alone), (self.tasks as f64).min(SPAN));
        let mean = |known: f64, one: f64| (weight * known + one) / (weight + 1.0);
        let both = Demand {
            held: mean(known.held, one.held),
            blocked: mean(known.blocked, one.blocked),
            off: mean(known.off, one.off),
            waiting: mean(known.waiting, one.waiting),
            ..*known
        };
        let within = (known.spread * known.alone()).powi(2);
        let between = (alone - known.alone()).powi(2) * weight / (weight + 1.0);
        let spread = mean(within, between).sqrt() / both.alone().max(f64::MIN_POSITIVE);
        Demand { spread, ..both }
    }

    fn pickling(&self) -> Demand {
        // A half that was not timed is taken to cost what the other does.
        let half = |own: &Mean, other: &Mean| own.value().or(other.value()).unwrap_or(0.0);
        let arguments = (&self.encode_arguments, &self.decode_arguments);
        let results = (&self.encode_results, &self.decode_results);
        Demand {
            pickling_here: half(arguments.0, arguments.1) + half(results.1, results.0),
            pickling_there: half(arguments.1, arguments.0) + half(results.0, results.1),
            bytes: self.argument_bytes.value().unwrap_or(0.0) + self.result_bytes.value().unwrap_or(0.0),
            modules: self.modules,
            ..Demand::default()
        }
    }

    /// Time off the CPU, as (waiting, blocked with the GIL); the rest waited for the GIL or for a core.
    fn split(&self, wall: f64, cpu: f64, reading: &Reading) -> (f64, f64) {
        let Samples { held_blocked, gil_wait, lock_wait, io, .. } = self.samples;
        // Rounding may leave it a hair below nothing.
        let away = (wall - cpu).max(0.0);
        let own = held_blocked + lock_wait + io;
        let blocked = if own > 0.0 { held_blocked / own } else { 0.0 };
        let total = self.samples.total();
        // The other tasks can't have been in the way for longer than they computed. Threads that run no task can, whose
        // time nobody counts: enough samples know better.
        let least = if reading.sampled && total >= ENOUGH {
            0.0
        } else {
            (away - f64::from(reading.together.max(1) - 1) * cpu).max(0.0)
        };
        let likely = if reading.sampled && total > 0.0 {
            // Runnable tasks without a core look as if they computed. Where nobody told for how long they were, count what the
            // clocks say instead, of the tasks that the samples are of: this one may be unlike them.
            let mean = |mean: &Mean, this: f64| mean.value().unwrap_or(this);
            let computing = mean(&self.cpu, cpu) / mean(&self.wall, wall).max(f64::MIN_POSITIVE);
            let queued = if reading.delay.is_none() { total * (1.0 - computing) } else { 0.0 };
            let seen = (own + gil_wait).max(queued);
            if seen > 0.0 { away * own / seen } else { away }
        } else {
            // Nobody looked: believe what was known before, as far as it is possible.
            self.waiting.value().map_or(away, |waiting| waiting + self.blocked.value)
        };
        let own = likely.clamp(least, away);
        (own * (1.0 - blocked), own * blocked)
    }

    /// The share of time on the CPU, for readings without a clock of it.
    fn cpu_share(&self) -> f64 {
        match (self.cpu.value(), self.wall.value()) {
            (Some(cpu), Some(wall)) if wall > 0.0 => cpu / wall,
            _ => {
                let total = self.samples.total();
                let on = self.samples.held + self.samples.off_gil;
                if total >= ENOUGH { on / total } else { 1.0 }
            }
        }
    }
}

/// A mean in which the n-th value weighs n times the first, up to `SPAN`: the first, which often pays for
/// imports and caches, is soon outweighed, and drift is followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Mean {
    value: f64,
    weight: f64,
}

impl Mean {
    /// Adds a value that stands for `count` tasks.
    pub(crate) fn add(&mut self, value: f64, count: f64) {
        self.insert(value, count, self.weight);
    }

    /// The same for a value that belongs before all others.
    fn add_early(&mut self, value: f64, count: f64) {
        self.insert(value, count, 0.0);
    }

    /// `before` is how many values it comes after.
    fn insert(&mut self, value: f64, count: f64, before: f64) {
        if !value.is_finite() {
            return;
        }
        let after = (self.weight + count).min(SPAN.max(count));
        let last = (before + count).min(after);
        let fresh = count * (2.0 * last - count + 1.0) / (after * (after + 1.0));
        self.value += fresh.min(1.0) * (value - self.value);
        self.weight = after;
    }

    /// Adds a sum over `count` tasks, if it was measured.
    fn add_known(&mut self, sum: Option<f64>, count: f64) {
        if let Some(sum) = sum {
            self.add(sum / count, count);
        }
    }

    pub(crate) fn value(&self) -> Option<f64> {
        (self.weight > 0.0).then_some(self.value)
    }
}

/// Samples with fading weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Samples {
    held: f64,
    held_blocked: f64,
    off_gil: f64,
    gil_wait: f64,
    lock_wait: f64,
    io: f64,
    unknown: f64,
}

impl Samples {
    fn total(&self) -> f64 {
        self.held + self.held_blocked + self.off_gil + self.gil_wait + self.lock_wait + self.io + self.unknown
    }

    fn add(&mut self, seen: &Shares) {
        if seen.total() == 0 {
            return;
        }
        self.fade((CALLS - 1.0) * seen.total() as f64);
        let Shares { held, held_blocked, off_gil, gil_wait, lock_wait, io, unknown } = *seen;
        for (sum, count) in
            self.each().into_iter().zip([held, held_blocked, off_gil, gil_wait, lock_wait, io, unknown])
        {
            *sum += count as f64;
        }
    }

    /// Leaves them the weight of at most so many.
    fn fade(&mut self, most: f64) {
        let total = self.total();
        if total > most {
            self.each().into_iter().for_each(|sum| *sum *= most / total);
        }
    }

    fn each(&mut self) -> [&mut f64; 7] {
        let Samples { held, held_blocked, off_gil, gil_wait, lock_wait, io, unknown } = self;
        [held, held_blocked, off_gil, gil_wait, lock_wait, io, unknown]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() <= 0.02 * b.abs().max(1e-9)
    }

    fn one(wall: f64, cpu: f64) -> Reading {
        Reading { tasks: 1, wall, cpu: Some(cpu), together: 1, sampled: true, ..Reading::default() }
    }

    #[test]
    fn nothing_is_known_before_the_first_task() {
        let profile = Profile::default();
        assert_eq!((profile.wall(), profile.held(), profile.demand()), (None, None, None));
    }

    #[test]
    fn a_slow_first_task_is_soon_outweighed() {
        let mut profile = Profile::default();
        profile.record(&one(0.2, 0.2));
        for _ in 0..10 {
            profile.record(&one(0.001, 0.001));
        }
        assert!(profile.cpu().is_some_and(|cpu| cpu < 0.005));
    }

    #[test]
    fn a_slow_first_task_that_ends_after_others_does_not_count_for_more() {
        let mean_with = |first: bool| {
            let mut profile = Profile::default();
            (0..3).for_each(|_| profile.record(&one(0.01, 0.01)));
            profile.record(&Reading { first, ..one(0.05, 0.05) });
            profile.cpu().expect("four have ended")
        };
        assert!((mean_with(true) - 0.014).abs() < 1e-9 && (mean_with(false) - 0.026).abs() < 1e-9);
    }

    #[test]
    fn drift_is_followed() {
        let mut profile = Profile::default();
        for _ in 0..10_000 {
            profile.record(&one(0.001, 0.001));
        }
        for _ in 0..100 {
            profile.record(&one(0.1, 0.001));
        }
        assert!(profile.waiting().is_some_and(|waiting| waiting > 0.09));
    }

    #[test]
    fn what_is_remembered_has_the_same_nature_and_is_soon_outweighed() {
        let mut profile = Profile::default();
        profile.sample(&Shares { held: 3_000, io: 1_000, ..Shares::default() });
        (0..1_000).for_each(|_| profile.record(&one(0.1, 0.08)));
        let mut kept = profile.remembered();
        let (before, after) = (profile.demand().expect("known"), kept.demand().expect("known"));
        assert!(near(after.held, before.held) && near(after.waiting, before.waiting));
        assert_eq!((kept.tasks(), kept.wall()), (FEW, None), "no chunk is made by it");
        (0..6).for_each(|_| kept.record(&one(1.0, 0.8)));
        assert!(kept.cpu().is_some_and(|cpu| cpu > 0.6));
        (0..40).for_each(|_| kept.sample(&Shares { off_gil: 10, ..Shares::default() }));
        assert!(kept.held().is_some_and(|held| held < 0.1));
    }

    #[test]
    fn a_running_task_that_is_unlike_the_finished_ones_counts_for_what_it_does() {
        let mut profile = Profile::default();
        (0..3).for_each(|_| profile.record(&one(1e-6, 1e-6)));
        (0..200).for_each(|_| profile.sample(&Shares { lock_wait: 1, ..Shares::default() }));
        let known = profile.demand().expect("known");
        let both = profile.with_another(&known, 0.4);
        assert!(near(both.waiting, 0.1) && both.held < 1e-5, "{both:?}");
        // Of 0, 0, 0 and 0.4 s the standard deviation is 0.173 s.
        assert!(near(both.spread, 3_f64.sqrt()), "{both:?}");
    }

    #[test]
    fn one_chunk_weighs_as_much_as_its_tasks_one_by_one() {
        let (mut chunked, mut single) = (Profile::default(), Profile::default());
        chunked.record(&one(0.5, 0.5));
        single.record(&one(0.5, 0.5));
        for _ in 0..8 {
            single.record(&one(0.1, 0.1));
        }
        chunked.record(&Reading {
            tasks: 8,
            wall: 0.8,
            cpu: Some(0.8),
            together: 1,
            sampled: true,
            ..Reading::default()
        });
        let (a, b) = (chunked.cpu().expect("recorded"), single.cpu().expect("recorded"));
        assert!(near(a, b), "{a} {b}");
    }

    #[test]
    fn a_few_samples_tell_of_the_gil_only_if_they_agree() {
        let mut profile = Profile::default();
        profile.sample(&Shares { held: 2, ..Shares::default() });
        assert_eq!(profile.held(), None);
        profile.sample(&Shares { held: 1, ..Shares::default() });
        assert_eq!(profile.held(), Some(1.0));
        profile.sample(&Shares { off_gil: 1, ..Shares::default() });
        assert_eq!(profile.held(), None);
        profile.sample(&Shares { off_gil: 4, ..Shares::default() });
        assert_eq!(profile.held(), Some(3.0 / 8.0));
    }

    #[test]
    fn what_others_of_the_process_make_dearer_is_told_from_what_is_dear() {
        let together = Reading { together: 3, ..one(0.11, 0.1) };
        let jostled = Shares { held: 10, off_gil: 80, gil_wait: 10, ..Shares::default() };
        let (mut dragging, mut longer) = (Profile::default(), Profile::default());
        for profile in [&mut dragging, &mut longer] {
            profile.record(&one(0.04, 0.04));
        }
        dragging.sample(&jostled);
        longer.sample(&Shares { held: 10, off_gil: 90, ..Shares::default() });
        for profile in [&mut dragging, &mut longer] {
            (0..20).for_each(|_| profile.record(&together));
        }
        assert!(near(dragging.drag(0, 0.0), 2.5) && dragging.cpu().is_some_and(|cpu| near(cpu, 0.04)));
        assert_eq!(longer.drag(0, 0.0), 1.0, "nobody waited for the GIL");
        assert!(longer.cpu().is_some_and(|cpu| cpu > 0.09));
    }

    #[test]
    fn waiting_for_the_gil_does_not_count_as_waiting() {
        let mut profile = Profile::default();
        profile.sample(&Shares { held: 25, gil_wait: 75, ..Shares::default() });
        profile.record(&Reading { together: 8, ..one(0.4, 0.1) });
        assert!(profile.alone().is_some_and(|alone| near(alone, 0.1)));
    }

    #[test]
    fn waiting_for_a_thread_without_a_task_does_not_count_as_waiting() {
        let mut profile = Profile::default();
        profile.sample(&Shares { held: 50, gil_wait: 50, ..Shares::default() });
        profile.record(&one(0.2, 0.1));
        assert!(profile.alone().is_some_and(|alone| near(alone, 0.1)));
    }

    #[test]
    fn what_waits_after_many_that_computed_is_seen_to_wait() {
        let waiting_after = |computed: Shares, delay: Option<f64>| {
            let mut profile = Profile::default();
            let record = |profile: &mut Profile, cpu: f64| {
                profile.record(&Reading { delay, together: 2, ..one(0.01, cpu) });
            };
            (0..300).for_each(|_| profile.sample(&computed));
            (0..30).for_each(|_| record(&mut profile, 0.01));
            (0..10).for_each(|_| profile.sample(&Shares { io: 1, ..Shares::default() }));
            (0..10).for_each(|_| record(&mut profile, 0.0001));
            profile.waiting().expect("recorded")
        };
        let computed = [Shares { held: 1, ..Shares::default() }, Shares { off_gil: 1, ..Shares::default() }];
        for computed in computed {
            // As the n-th weighs n times the first, ten of forty are 0.43 of the mean.
            let (told, untold) = (waiting_after(computed, Some(0.0)), waiting_after(computed, None));
            assert!(near(told, 0.43 * 0.0099) && untold > 0.1 * 0.0099, "{told} {untold}");
        }
    }

    #[test]
    fn waiting_for_a_core_does_not_count_as_waiting() {
        let mut profile = Profile::default();
        profile.sample(&Shares { off_gil: 99, io: 1, ..Shares::default() });
        profile.record(&Reading { together: 8, ..one(0.4, 0.1) });
        assert!(profile.alone().is_some_and(|alone| alone < 0.11));
    }

    #[test]
    fn where_nobody_looked_the_others_are_in_the_way_for_as_long_as_they_compute_at_most() {
        let mut profile = Profile::default();
        profile.record(&one(0.07, 0.02));
        let elsewhere = |wall, cpu| Reading { together: 8, sampled: false, ..one(wall, cpu) };
        (0..200).for_each(|_| profile.record(&elsewhere(0.16, 0.02)));
        assert!(profile.waiting().is_some_and(|waiting| near(waiting, 0.05)), "as known before");
        (0..200).for_each(|_| profile.record(&elsewhere(0.5, 0.01)));
        assert!(profile.waiting().is_some_and(|waiting| waiting > 0.4), "nothing else explains it");
    }

    #[test]
    fn time_blocked_with_the_gil_is_told_from_waiting() {
        let mut profile = Profile::default();
        profile.sample(&Shares { held_blocked: 50, io: 50, ..Shares::default() });
        profile.record(&one(0.2, 0.0));
        let demand = profile.demand().expect("recorded");
        assert!(near(demand.blocked, 0.1) && near(demand.waiting, 0.1), "{demand:?}");
    }

    #[test]
    fn the_spread_of_equal_tasks_is_nothing_and_of_unequal_ones_is_seen() {
        let (mut equal, mut unequal) = (Profile::default(), Profile::default());
        for i in 0..400_u32 {
            equal.record(&one(0.1, 0.1));
            let time = if i % 2 == 0 { 0.05 } else { 0.15 };
            unequal.record(&one(time, time));
        }
        assert!(equal.spread().is_some_and(|spread| spread < 1e-6));
        assert!(unequal.spread().is_some_and(|spread| (0.4..0.6).contains(&spread)));
    }

    #[test]
    fn arguments_that_were_only_tried_cost_what_the_try_did() {
        let mut profile = Profile::default();
        profile.try_arguments(&Pickling { encode: Some(0.005), decode: None, bytes: 8e6 });
        let guess = profile.guess(0.001);
        assert!(near(guess.pickling_here, 0.005) && near(guess.pickling_there, 0.005));
        assert!(near(guess.bytes, 8e6));
    }

    #[test]
    fn a_half_of_pickling_that_was_not_timed_costs_what_the_other_does() {
        let mut profile = Profile::default();
        let arguments = Pickling { encode: Some(0.2), decode: None, bytes: 2e6 };
        profile.record(&Reading { tasks: 2, arguments: Some(arguments), ..one(2.0, 2.0) });
        let demand = profile.demand().expect("recorded");
        assert!(near(demand.pickling_here, 0.1) && near(demand.pickling_there, 0.1));
        assert!(near(demand.bytes, 1e6));
    }

    #[test]
    fn programs_that_queue_for_cores_make_no_wait_longer() {
        let seen = |waiting: f64| Demand { held: 0.001, waiting, ..Demand::default() };
        // Alone each takes 8 ms of a core; eight on two cores are seen to wait four times as long.
        let known = seen(0.032).with_programs(0.008, 8.0, 2.0);
        assert!(near(known.waiting, 0.008) && near(known.programs, 0.008), "{known:?}");
        assert_eq!(seen(0.05).with_programs(0.0, 8.0, 2.0), seen(0.05), "it waits for something else");
        let mixed = seen(0.062).with_programs(0.008, 8.0, 2.0);
        assert!(near(mixed.waiting, 0.038), "the rest is a wait: {mixed:?}");
        assert_eq!(seen(0.008).with_programs(0.008, 2.0, 2.0).waiting, 0.008, "each had a core");
    }

    #[test]
    fn samples_alone_give_the_mixture_of_a_running_task() {
        let mut profile = Profile::default();
        profile.sample(&Shares { held: 10, io: 30, ..Shares::default() });
        let demand = profile.guess(4.0);
        assert!(near(demand.held, 1.0) && near(demand.waiting, 3.0));
        assert_eq!(demand.gil, Evidence::Measured);
        assert!(near(Profile::default().guess(4.0).held, 4.0));
    }
}
