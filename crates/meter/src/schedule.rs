//! When the sampler samples next.
//!
//! Not at fixed intervals: the interpreter's own switch interval is 5 ms, and a sampler in step with it would always
//! see the same phase of it. So each period is drawn between half and one and a half of its mean.

use std::time::Duration;

/// Periods a tick may be late by before the missed ones are given up.
const PATIENCE: u32 = 4;

pub(crate) struct Schedule {
    next: Duration,
    random: u64,
}

impl Schedule {
    pub(crate) fn new(seed: u64) -> Schedule {
        Schedule { next: Duration::ZERO, random: seed | 1 }
    }

    /// When the next tick is due.
    pub(crate) fn next(&self) -> Duration {
        self.next
    }

    /// Begins anew: the first tick comes within a period.
    pub(crate) fn begin(&mut self, now: Duration, period: Duration) {
        self.next = now + period.mul_f64(self.fraction());
    }

    /// Has the next tick come within a period, if it isn't due sooner.
    pub(crate) fn hasten(&mut self, now: Duration, period: Duration) {
        self.next = self.next.min(now + period.mul_f64(self.fraction()));
    }

    /// Goes on to the tick after one that came at `now`.
    pub(crate) fn advance(&mut self, now: Duration, period: Duration) {
        let step = period.mul_f64(0.5 + self.fraction());
        self.next += step;
        if self.next + period * PATIENCE < now {
            self.next = now + step;
        }
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.fraction() * limit as f64) as usize
    }

    /// A number from 0 up to 1 (xorshift: aliasing is all it must defeat).
    fn fraction(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PERIOD: Duration = Duration::from_millis(1);

    proptest! {
        #[test]
        fn ticks_keep_their_mean_period_and_never_its_rhythm(seed: u64) {
            let mut schedule = Schedule::new(seed);
            schedule.begin(Duration::ZERO, PERIOD);
            prop_assert!(schedule.next() <= PERIOD);
            let mut steps = Vec::new();
            for _ in 0..1_000 {
                let now = schedule.next();
                schedule.advance(now, PERIOD);
                steps.push(schedule.next() - now);
            }
            prop_assert!(steps.iter().all(|step| (PERIOD / 2..=PERIOD * 3 / 2).contains(step)));
            let mean = steps.iter().sum::<Duration>() / 1_000;
            prop_assert!((PERIOD * 9 / 10..PERIOD * 11 / 10).contains(&mean), "{mean:?}");
            let early = steps.iter().filter(|step| **step < PERIOD * 3 / 4).count();
            prop_assert!((150..350).contains(&early), "a quarter is expected: {early}");
        }

        #[test]
        fn late_ticks_are_made_up_for_and_very_late_ones_given_up(seed: u64, late in 0_u32..1_000) {
            let mut schedule = Schedule::new(seed);
            schedule.begin(Duration::ZERO, PERIOD);
            let due = schedule.next();
            let now = due + PERIOD * late / 10;
            schedule.advance(now, PERIOD);
            prop_assert!(schedule.next() + PERIOD * PATIENCE >= now);
            prop_assert!(schedule.next() <= now + PERIOD * 3 / 2);
        }

        #[test]
        fn hastening_never_puts_a_tick_off(seed: u64, after in 0_u64..20_000) {
            let mut schedule = Schedule::new(seed);
            schedule.begin(Duration::ZERO, PERIOD * 5);
            let (due, now) = (schedule.next(), Duration::from_micros(after));
            schedule.hasten(now, PERIOD);
            prop_assert!(schedule.next() <= due && schedule.next() <= now + PERIOD);
        }

        #[test]
        fn choices_stay_below_their_limit(seed: u64, limit in 1_usize..100) {
            let mut schedule = Schedule::new(seed);
            prop_assert!((0..100).all(|_| schedule.below(limit) < limit));
        }
    }
}
