//! How many tasks may wait at once: as many as whoever they wait for bears.
//!
//! A forecast expects waiting tasks not to get in each other's way, and a server with a limit shows that they do. The
//! number climbs by measured throughput, as in the thread pool of .NET, and is taken back when answers come more slowly.

use serde::{Deserialize, Serialize};

use crate::choose::{MOST_THREADS, waits};
use crate::crowd::Crowd;
use crate::governor::{FREE_THREADS, JUDGE_LATE, Observation};
use crate::profile::Demand;

/// Twice the threads must yield this much more throughput to be worth it.
const WORTH_CLIMBING: f64 = 1.1;
/// After so many times as long as a task took before, more of them at once must show in what is done.
const RISEN: f64 = 2.0;
/// Done are clearly fewer if it is this share of what was to be expected without growing.
const FEWER: f64 = 0.75;
/// Tasks that take this long are judged by that: of what is shorter the rest of a task's way is no small part.
const SLOW: f64 = 0.005;
/// Seconds after which a settled number of threads is put to the test again ...
const CLIMB_AGAIN: f64 = 2.0;
/// ... or so many times as long as the last test took, if that is more: a slow server is not tested all the time.
const TESTED: f64 = 8.0;

/// Throughput measured at different numbers of threads: the forecast expects waiting tasks not to get in
/// each other's way, and a server with a limit shows that they do.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Climb {
    /// Where the present window began: time, tasks done, threads.
    window: Option<(f64, u64, u32)>,
    /// The last full window: threads and tasks per second.
    step: Option<(u32, f64)>,
    /// Threads beyond which nothing was gained, and until when that is believed.
    settled: Option<(u32, f64)>,
    /// The tasks in flight at some moment, and those that were done then.
    round: Option<(u32, u64)>,
    /// The most that were in flight at once and of which as many have ended: whoever serves them can bear so many.
    borne: u32,
    rise: Option<Rise>,
    /// How often a task was seen to wait, and to sleep.
    waits: u64,
    sleeps: u64,
}

/// A number of threads that has grown, until it is known whether whoever serves them bears it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Rise {
    from: u32,
    to: u32,
    at: f64,
    /// Seconds that a task took before.
    latency: f64,
    /// Tasks that are done when those have ended that were about to.
    done: u64,
}

impl Rise {
    /// Seconds after which it must show in what is done, if so many tasks run one after another before any of them counts.
    fn patience(&self, company: u32) -> f64 {
        RISEN * self.latency * f64::from(company)
    }

    /// Whether clearly fewer have been answered by now than would have, had it not grown.
    fn has_failed(&self, now: f64, answered: u64, company: u32) -> bool {
        let time = now - self.at;
        let expected = f64::from(self.from) * time / self.latency;
        time >= self.patience(company) && (answered.saturating_sub(self.done) as f64) < FEWER * expected
    }
}

impl Climb {
    /// For tasks of which so many were borne before.
    pub(crate) fn after(borne: u32) -> Self {
        Self { borne, ..Self::default() }
    }

    /// The most tasks that were in flight at once and of which as many have ended.
    pub(crate) fn borne(&self) -> u32 {
        self.borne
    }

    /// Measures throughput while as many run as may.
    pub(crate) fn watch(&mut self, seen: &Observation<'_>, width: u32, crowd: &Crowd) {
        self.count(seen, crowd);
        // Those that have an answer may queue for the GIL yet, behind whoever has it.
        let answered = seen.done + u64::from(crowd.gil);
        // What runs one after another counts when all of it is over.
        let company = seen.running.iter().map(|task| task.tasks).max().unwrap_or(1).max(1);
        if let Some(rise) = self.rise.filter(|rise| rise.has_failed(seen.now, answered, company)) {
            let between = (f64::from(rise.from) * f64::from(rise.to)).sqrt() as u32;
            // What had been settled before, and was put to the test, has proved right.
            let threads = self.settled.map_or(between, |(threads, _)| threads);
            let believed = CLIMB_AGAIN.max(TESTED * (seen.now - rise.at));
            self.settled = Some((threads, seen.now + believed));
            self.rise = None;
        }
        if self.rise.is_some_and(|rise| seen.now - rise.at >= 2.0 * rise.patience(company)) {
            // They are borne.
            (self.rise, self.settled) = (None, self.settled.filter(|(_, until)| seen.now < *until));
        }
        let full = width > 1 && seen.pending > 0 && crowd.all * 4 >= width * 3;
        let Some((since, done, at)) = self.window.filter(|window| full && window.2 == width) else {
            self.window = full.then_some((seen.now, seen.done, width));
            return;
        };
        let (time, count) = (seen.now - since, seen.done - done);
        // A round of every worker, and more than a few ticks: less would be noise.
        if count < u64::from(2 * width) || time < JUDGE_LATE {
            return;
        }
        let rate = count as f64 / time;
        if let Some((lower, before)) = self.step
            && at >= 2 * lower
            && rate < before * WORTH_CLIMBING
        {
            self.settled = Some((lower, seen.now + CLIMB_AGAIN));
        } else if self.settled.is_some_and(|(threads, until)| seen.now >= until && at > threads) {
            self.settled = None;
        }
        self.step = Some((at, rate));
        self.window = Some((seen.now, seen.done, width));
    }

    /// Takes note of a width that has grown, for tasks of which it is known how long they took before.
    pub(crate) fn grow(&mut self, seen: &Observation<'_>, before: u32, width: u32) {
        let slow = |demand: &Demand| waits(demand) && demand.alone() >= SLOW;
        let grows = width > before && !self.only_sleeps();
        let Some(known) = seen.profile.demand().filter(|demand| grows && slow(demand)) else { return };
        // Those in flight may take longer than others did: it is no slowness of theirs that they have not ended.
        let each = seen.running.iter().map(|task| task.elapsed / f64::from(task.tasks.max(1)));
        let latency = each.fold(known.alone(), f64::max);
        let ending = seen.running.iter().filter(|task| task.elapsed > latency / 2.0).count();
        let rise = Rise { from: before, to: width, at: seen.now, latency, done: seen.done + ending as u64 };
        // What is let in step by step is one rise.
        self.rise = Some(self.rise.map_or(rise, |rise| Rise { to: width, ..rise }));
    }

    /// Follows how many were in flight and have ended.
    fn count(&mut self, seen: &Observation<'_>, crowd: &Crowd) {
        self.waits += u64::from(crowd.waiting);
        self.sleeps += u64::from(crowd.sleeping);
        let flying = crowd.all.saturating_add(u32::try_from(seen.away).unwrap_or(u32::MAX));
        match self.round {
            Some((before, done)) if seen.done < done + u64::from(before) => {}
            Some((before, _)) => {
                self.borne = self.borne.max(before);
                self.round = (flying > 0).then_some((flying, seen.done));
            }
            None => self.round = (flying > 0).then_some((flying, seen.done)),
        }
    }

    /// The most workers that may pay off: where nothing is known against it, twice as many as have been borne. To begin
    /// with, more of those that sleep.
    pub(crate) fn ceiling(&self, now: f64) -> u32 {
        let free = if self.only_sleeps() { 2 * FREE_THREADS } else { FREE_THREADS };
        match self.settled {
            Some((threads, until)) if now < until => threads,
            // A test of twice as many.
            Some((threads, _)) => threads.saturating_mul(2).min(MOST_THREADS),
            None => self.borne.saturating_mul(2).clamp(free, MOST_THREADS),
        }
    }

    /// Whether tasks that wait were seen to sleep nearly always, which is at nobody's cost.
    fn only_sleeps(&self) -> bool {
        self.waits > 0 && self.sleeps >= self.waits - self.waits / 10
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choose::Leave;
    use crate::crowd::{Class, Running};
    use crate::forecast::Zygote;
    use crate::profile::{Profile, Reading};

    const RISE: Rise = Rise { from: 4, to: 20, at: 0.0, latency: 0.006, done: 0 };

    #[test]
    fn what_runs_two_at_a_time_is_given_twice_the_time_to_be_done() {
        let failed = |now: f64, company: u32| RISE.has_failed(now, 0, company);
        assert!(failed(0.013, 1) && !failed(0.013, 2) && failed(0.025, 2));
        assert!(!RISE.has_failed(0.025, 20, 2), "all of them have an answer");
    }

    #[test]
    fn a_task_in_flight_that_takes_longer_than_the_finished_ones_is_no_slow_servers() {
        let mut profile = Profile::default();
        profile.record(&Reading { tasks: 1, wall: 0.006, cpu: Some(0.0001), ..Reading::default() });
        let latency_beside = |elapsed: f64, tasks: u32| {
            let running = [Running { class: Class::Io, streak: 0.005, elapsed, tasks }];
            let mut climb = Climb::default();
            climb.grow(&seen(0.02, &running, &profile), 4, 20);
            climb.rise.map_or(0.0, |rise| rise.latency)
        };
        assert_eq!([latency_beside(0.004, 1), latency_beside(0.02, 1)], [0.006, 0.02]);
        assert_eq!(latency_beside(0.02, 4), 0.006, "four of them have taken so long together");
    }

    #[test]
    fn the_slower_a_server_shows_that_it_bears_no_more_the_longer_that_is_believed() {
        let believed = |latency: f64| {
            let (running, profile) = ([], Profile::default());
            let mut climb = Climb { rise: Some(Rise { latency, ..RISE }), ..Climb::after(20) };
            let failed = 2.5 * latency;
            climb.watch(&seen(failed, &running, &profile), 20, &Crowd::of(&running));
            let ceilings = |later: f64| climb.ceiling(failed + later);
            assert_eq!(ceilings(0.0), 8, "between 4 and 20");
            (1..1000).find(|&seconds| ceilings(seconds.into()) > 8)
        };
        assert_eq!([believed(0.05), believed(0.5), believed(5.0)], [Some(2), Some(10), Some(100)]);
    }

    #[test]
    fn what_was_settled_is_tested_with_twice_as_many_and_stays_where_they_fail() {
        let (running, profile) = ([], Profile::default());
        let rise = Some(Rise { from: 8, to: 16, at: 10.0, ..RISE });
        let climb = Climb { settled: Some((8, 10.0)), rise, ..Climb::after(20) };
        assert_eq!((climb.ceiling(9.0), climb.ceiling(10.0)), (8, 16));
        let tested = |done: u64, now: f64| {
            let mut climb = climb.clone();
            let seen = Observation { done, ..seen(now, &running, &profile) };
            climb.watch(&seen, 16, &Crowd::of(&running));
            climb.ceiling(now)
        };
        assert_eq!(tested(0, 10.015), 8, "too few are done");
        assert_eq!(tested(100, 10.025), 40, "they are borne: twice as many as have been");
    }

    fn seen<'a>(now: f64, running: &'a [Running], profile: &'a Profile) -> Observation<'a> {
        Observation {
            now,
            pending: 100,
            done: 1,
            running,
            away: 0,
            programs: 0.0,
            crowded: false,
            handovers: None,
            profile,
            zygote: Zygote::Cold,
            leave: &Leave::Unknown,
            processes_now: 0,
            threads_now: 4,
        }
    }
}
