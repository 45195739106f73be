//! How many tasks may wait at once: as many as whoever they wait for bears.
//!
//! A forecast expects waiting tasks not to get in each other's way, and a server with a limit shows that they do. To
//! begin with, the number doubles as long as nothing is known against it, as in the slow start of TCP; where that would be
//! over in two rounds, it takes two with fewer in the first. Once more of them have done no more, it is the fewest that do
//! as much as any number has, and now and then half as many again are tried: hill climbing by measured throughput, as in
//! the thread pool of .NET.

use serde::{Deserialize, Serialize};

use crate::choose::MOST_THREADS;
use crate::crowd::Crowd;
use crate::governor::{FREE_THREADS, JUDGE_LATE, Observation, PREPARING_THREADS};
use crate::profile::Demand;

/// The fewest threads that do this share of the most that any have done are enough.
const ENOUGH: f64 = 0.9;
/// Tasks that wait for more than this share of their time do little else.
const ONLY: f64 = 0.8;
/// The last ones are let in together if they are no more than so many times as many as have been borne.
const LAST: u32 = 4;
/// So many are borne by whoever it is: they are let in before anything is known.
const LEAST: u32 = PREPARING_THREADS;
/// A rate is told from another one by so many tasks that the mean of their times is known this well.
const KNOWN: f64 = 0.25;
/// What is measured again counts as much as all that was before.
const NEWS: f64 = 0.5;
/// After so many times as long as a task took before, more of them at once must show in what is done.
const RISEN: f64 = 2.0;
/// After so many times as long, those have been answered that somebody works on.
const ROUND: f64 = 1.25;
/// Beside so many seconds it is nothing that threads start one after another.
const STARTING: f64 = 0.02;
/// Done are clearly fewer if it is this share of what was to be expected without growing.
const FEWER: f64 = 0.75;
/// Tasks that take this long are judged by that: of what is shorter the rest of a task's way is no small part.
const SLOW: f64 = 0.005;
/// Seconds from a number of threads that proved too many to the next try, each time twice as long: the first and the
/// longest.
const TRY_AGAIN: (f64, f64) = (1.0, 16.0);

/// What is known of those whom the tasks of a function wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bearable {
    /// The most tasks that were in flight at once and of which as many have ended.
    most: u32,
    /// More threads have done no more than so many.
    enough: Option<u32>,
}

/// Throughput measured at different numbers of threads, and what follows for how many may wait.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Climb {
    window: Option<Window>,
    /// Tasks that are done when those have ended that more threads began.
    drained: u64,
    rates: Vec<Rate>,
    settled: Option<Settled>,
    /// The tasks in flight at some moment, and those that were done then.
    round: Option<(u32, u64)>,
    /// See [`Bearable`].
    most: u32,
    /// Tasks that had not ended when that became known.
    left: u32,
    rise: Option<Rise>,
    /// How often a task was seen to wait, and to sleep.
    waits: u64,
    sleeps: u64,
}

/// Since when so many threads have all had something to do.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Window {
    since: f64,
    done: u64,
    width: u32,
    /// Tasks per second until as many had ended as are in flight.
    round: Option<f64>,
}

impl Window {
    fn of(seen: &Observation<'_>, width: u32) -> Self {
        Self { since: seen.now, done: seen.done, width, round: None }
    }
}

/// Tasks per second that so many threads do.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Rate {
    threads: u32,
    rate: f64,
    at: f64,
}

/// As many threads as are enough, since when, and for how long none more are tried.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Settled {
    threads: u32,
    at: f64,
    patience: f64,
}

/// A number of threads that has grown, until it is known whether whoever serves them bears it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Rise {
    from: u32,
    to: u32,
    at: f64,
    /// Seconds that a task took before, or those that run one after another.
    latency: f64,
    /// Tasks per second before.
    rate: f64,
    /// Tasks that are done when those have ended that were about to.
    done: u64,
    /// So many answers tell more than chance.
    telling: f64,
    /// Those that were answered beyond them in about the time that one takes.
    served: Option<u64>,
}

impl Rise {
    /// How many threads are enough, if these are clearly too many.
    fn judge(&mut self, now: f64, answered: u64) -> Option<u32> {
        let (time, answered) = (now - self.at, answered.saturating_sub(self.done));
        if time < ROUND * self.latency {
            return None;
        }
        let served = u32::try_from(*self.served.get_or_insert(answered)).unwrap_or(u32::MAX);
        let clear = self.latency > STARTING;
        if clear && served >= self.from && served < self.to / 2 {
            // Somebody worked on these as fast as before, while the others queued.
            return Some(served.max(LEAST));
        }
        let expected = self.rate * time;
        let due = time >= RISEN * self.latency && time >= self.latency + STARTING && expected >= self.telling;
        // Nobody works on as many as before: they share what there is.
        let stuck = clear && self.telling <= 1.0 && served < self.from / 2;
        let failed = stuck || due && (answered as f64) < FEWER * expected;
        failed.then(|| ((f64::from(self.from) * f64::from(self.to)).sqrt() as u32).max(LEAST))
    }
}

/// What computes, too, says more by that than by how many are done.
pub(crate) fn only_waits(demand: &Demand) -> bool {
    demand.share(demand.waiting) > ONLY
}

/// So many tasks have a mean time that is known well enough.
fn telling(seen: &Observation<'_>) -> f64 {
    (seen.profile.spread().unwrap_or(0.0) / KNOWN).powi(2)
}

/// The tasks that have begun, or are about to in another process.
fn flying(seen: &Observation<'_>, crowd: &Crowd) -> u32 {
    crowd.all.saturating_add(u32::try_from(seen.away).unwrap_or(u32::MAX))
}

impl Climb {
    /// For tasks of which so much is known.
    pub(crate) fn after(known: Bearable) -> Self {
        let settled = known.enough.map(|threads| Settled { threads, at: 0.0, patience: 0.0 });
        Self { most: known.most, settled, ..Self::default() }
    }

    pub(crate) fn known(&self) -> Bearable {
        Bearable { most: self.most, enough: self.settled.map(|settled| settled.threads) }
    }

    /// Measures throughput while as many run as may.
    pub(crate) fn watch(&mut self, seen: &Observation<'_>, width: u32, crowd: &Crowd) {
        self.count(seen, crowd);
        // Those that have an answer may queue for the GIL yet, behind whoever has it.
        let answered = seen.done + u64::from(crowd.gil);
        if let Some(enough) = self.rise.as_mut().and_then(|rise| rise.judge(seen.now, answered)) {
            self.rise = None;
            self.settle(enough, seen.now);
        }
        self.rise = self.rise.filter(|rise| seen.now - rise.at < 2.0 * RISEN * rise.latency);
        // Those that are left of more threads are in the way of each other, and end together.
        let flying = flying(seen, crowd);
        if seen.away == 0 && flying > width + width / 4 {
            self.drained = seen.done + u64::from(flying);
        }
        let full = width > 1 && flying * 4 >= width * 3 && seen.pending > 0 && seen.done >= self.drained;
        let full =
            full && !self.only_sleeps() && seen.profile.demand().is_some_and(|demand| only_waits(&demand));
        let Some(mut window) = self.window.filter(|window| full && window.width == width) else {
            // What is known of a number that has grown on is better than nothing.
            if let Some(Window { width, round: Some(rate), .. }) = self.window {
                self.record(width, rate, seen.now);
            }
            self.window = full.then(|| Window::of(seen, width));
            return;
        };
        let (time, count) = (seen.now - window.since, seen.done - window.done);
        if window.round.is_none() && count >= u64::from(width) && time >= STARTING {
            let rate = count as f64 / time;
            window.round = Some(rate);
            if self.settled.is_none() && rate < FEWER * self.fastest() {
                self.settle(self.enough(), seen.now);
            }
        }
        self.window = Some(window);
        // More than a few ticks, and enough of what differs: less would be noise.
        if (count as f64) < f64::from(2 * width).max(telling(seen)) || time < JUDGE_LATE {
            return;
        }
        self.window = Some(Window::of(seen, width));
        self.record(width, count as f64 / time, seen.now);
        let enough = self.enough();
        match self.settled {
            None if enough < width => self.settle(enough, seen.now),
            Some(settled) if enough < width && width >= settled.threads => self.settle(enough, seen.now),
            Some(settled) if enough > settled.threads => {
                self.settled = Some(Settled { threads: enough, at: seen.now, patience: 0.0 });
            }
            _ => {}
        }
    }

    /// Has so many threads be enough: more did no more.
    fn settle(&mut self, threads: u32, now: f64) {
        let patience = match self.settled {
            None => 0.0,
            Some(before) => (2.0 * before.patience).clamp(TRY_AGAIN.0, TRY_AGAIN.1),
        };
        self.settled = Some(Settled { threads, at: now, patience });
    }

    fn record(&mut self, threads: u32, rate: f64, at: f64) {
        match self.rates.iter_mut().find(|known| known.threads == threads) {
            Some(known) => *known = Rate { threads, rate: known.rate + NEWS * (rate - known.rate), at },
            None => self.rates.push(Rate { threads, rate, at }),
        }
    }

    fn fastest(&self) -> f64 {
        self.rates.iter().map(|known| known.rate).fold(0.0, f64::max)
    }

    /// The fewest threads that did about as much as any have.
    fn enough(&self) -> u32 {
        let most = self.fastest();
        let enough = self.rates.iter().filter(|known| known.rate >= ENOUGH * most).map(|known| known.threads);
        enough.min().unwrap_or(LEAST).max(LEAST)
    }

    /// Takes note of a width that has grown, for tasks of which it is known how long they took before.
    pub(crate) fn grow(&mut self, seen: &Observation<'_>, before: u32, width: u32) {
        let slow = |demand: &Demand| only_waits(demand) && demand.alone() >= SLOW;
        let grows = width > before && !self.only_sleeps();
        let Some(known) = seen.profile.demand().filter(|demand| grows && slow(demand)) else { return };
        let rate = f64::from(before) / known.alone();
        // What runs one after another counts when all of it is over.
        let company = seen.running.iter().map(|task| task.tasks).max().unwrap_or(1).max(1);
        let latency = known.alone() * f64::from(company);
        if self.rates.is_empty() {
            self.record(before, rate, seen.now);
        }
        let ending = seen.running.iter().filter(|task| task.elapsed > latency / 2.0).count();
        let done = seen.done + ending as u64;
        let telling = telling(seen);
        let rise = Rise { from: before, to: width, at: seen.now, latency, rate, done, telling, served: None };
        // What is let in step by step is one rise.
        let under_way = self.rise.filter(|rise| rise.served.is_none());
        self.rise = Some(under_way.map_or(rise, |rise| Rise { to: width, ..rise }));
    }

    /// Follows how many were in flight and have ended.
    fn count(&mut self, seen: &Observation<'_>, crowd: &Crowd) {
        self.waits += u64::from(crowd.waiting);
        self.sleeps += u64::from(crowd.sleeping);
        let flying = flying(seen, crowd);
        match self.round {
            Some((before, done)) if seen.done < done + u64::from(before) => {}
            Some((before, _)) => {
                if before > self.most {
                    self.most = before;
                    self.left = u32::try_from(seen.pending).unwrap_or(u32::MAX).saturating_add(flying);
                }
                self.round = (flying > 0).then_some((flying, seen.done));
            }
            None => self.round = (flying > 0).then_some((flying, seen.done)),
        }
    }

    /// The most workers that may pay off.
    pub(crate) fn ceiling(&self, now: f64) -> u32 {
        let Some(settled) = self.settled else { return self.next().min(MOST_THREADS) };
        let Settled { threads, at, patience } = settled;
        let measured = self.rates.iter().any(|known| known.threads == threads && known.at >= at);
        let tries = measured && now - at >= patience;
        if tries { threads.saturating_add((threads / 2).max(1)).min(MOST_THREADS) } else { threads }
    }

    /// As many as are let in next while nothing is known against it: twice as many as have been borne, or fewer where that
    /// would need as many rounds.
    fn next(&self) -> u32 {
        let free = if self.only_sleeps() { 2 * FREE_THREADS } else { FREE_THREADS };
        let double = self.most.saturating_mul(2);
        let most = double.max(free);
        // These, and then twice as many.
        let two_rounds = most.saturating_mul(3);
        let last = self.most.saturating_mul(LAST);
        match self.left {
            _ if self.most == 0 || self.only_sleeps() => most,
            left if left <= last.max(free) => left.max(most),
            left if left <= two_rounds => left.div_ceil(LAST).max(double),
            _ => most,
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

    fn after(rates: &[(u32, f64)]) -> Climb {
        let mut climb = Climb::default();
        rates.iter().for_each(|&(threads, rate)| climb.record(threads, rate, 0.0));
        climb
    }

    #[test]
    fn the_fewest_threads_that_do_about_as_much_as_any_are_enough() {
        assert_eq!(after(&[(6, 60.0), (9, 85.0), (13, 86.0)]).enough(), 9);
        assert_eq!(after(&[(6, 60.0), (9, 70.0), (13, 45.0)]).enough(), 9);
    }

    #[test]
    fn so_many_as_are_let_in_at_first_are_always_borne() {
        assert_eq!(after(&[(1, 1000.0), (4, 90.0)]).enough(), LEAST);
        let rise =
            Rise { from: 1, to: 4, at: 0.0, latency: 0.1, rate: 10.0, done: 0, telling: 0.0, served: None };
        assert_eq!({ rise }.judge(0.25, 0), Some(LEAST));
    }

    #[test]
    fn as_few_are_let_in_as_are_through_in_as_few_rounds() {
        let next = |most, left| Climb { most, left, ..Climb::default() }.next();
        // Twenty, then the other 36; fourteen, then the other 42.
        assert_eq!((next(4, 56), next(14, 42)), (14, 42));
        assert_eq!((next(4, 20), next(4, 61), next(20, 1000)), (20, 20, 40));
        // Of a stream only those that wait are known.
        assert_eq!(next(40, 8), 80);
    }

    #[test]
    fn more_are_tried_the_later_the_more_often_they_have_proved_too_many() {
        let mut climb = after(&[(6, 60.0)]);
        let mut waited = Vec::new();
        for at in (0..6).map(|failure| f64::from(failure) * 100.0) {
            climb.settle(6, at);
            climb.record(6, 60.0, at);
            waited.push((0..100).find(|&later| climb.ceiling(at + f64::from(later)) == 9));
        }
        assert_eq!(waited, [0, 1, 2, 4, 8, 16].map(Some));
    }
}
