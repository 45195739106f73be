//! Keeps measuring cheap: the sampler measures its own CPU time, and ticks less often where a tick is dear.
//!
//! A tick costs 30 to 50 µs of waking up on an idle virtual machine, up to 100 µs on one whose caches others use
//! meanwhile, and 2 µs for each thread that waits. The sampler asks here after every tick, and so does whoever asks
//! threads where they are; without it, a crowd on a slow machine would pay for being watched.

use std::time::Duration;

/// Ticks over which the cost of one is smoothed.
const SPAN: u32 = 16;

/// The period between ticks that cost `per_tick` each, so that they take no more than `limit` of a core.
pub fn stretch(period: Duration, per_tick: Duration, limit: f64) -> Duration {
    period.max(per_tick.div_f64(limit))
}

/// What a tick costs, from the thread's own clock.
#[derive(Debug)]
pub struct Thrift {
    cpu: Duration,
    per_tick: Duration,
}

impl Thrift {
    /// `cpu`: what the thread has used so far.
    pub fn begin(cpu: Duration) -> Thrift {
        Thrift { cpu, per_tick: Duration::ZERO }
    }

    /// One more tick is over; what one costs by now.
    pub fn tick(&mut self, cpu: Duration) -> Duration {
        let this = cpu.saturating_sub(self.cpu);
        self.cpu = cpu;
        self.per_tick = (self.per_tick * (SPAN - 1) + this) / SPAN;
        self.per_tick
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cheap_ticks_come_as_often_as_wanted() {
        let (millisecond, cheap) = (Duration::from_millis(1), Duration::from_micros(40));
        assert_eq!(stretch(millisecond, cheap, 0.05), millisecond);
        assert_eq!(stretch(millisecond * 5, cheap, 0.01), millisecond * 5);
        assert_eq!(stretch(millisecond, cheap * 5, 0.05), millisecond * 4);
    }

    #[test]
    fn what_a_tick_costs_is_learned_and_one_dear_tick_changes_little() {
        let (mut thrift, mut cpu, cost) =
            (Thrift::begin(Duration::ZERO), Duration::ZERO, Duration::from_micros(80));
        for _ in 0..100 {
            cpu += cost;
            assert!(thrift.tick(cpu) <= cost);
        }
        let known = thrift.tick(cpu + cost);
        assert!(known > cost * 9 / 10, "{known:?}");
        assert!(thrift.tick(cpu + cost * 3) < known * 2);
    }

    proptest! {
        #[test]
        fn whatever_ticks_cost_they_stay_within_the_limit(
            period in 1_u64..10_000_000, per_tick in 0_u64..1_000_000_000, limit in 0.001_f64..1.0,
        ) {
            let (period, per_tick) = (Duration::from_nanos(period), Duration::from_nanos(per_tick));
            let stretched = stretch(period, per_tick, limit);
            prop_assert!(stretched >= period);
            prop_assert!(per_tick.as_secs_f64() <= limit * stretched.as_secs_f64() + 1e-8);
        }
    }
}
