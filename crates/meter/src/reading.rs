//! Where the time of some tasks, or of a thread, went.
//!
//! Samples say what it was doing how often, clocks say exactly how long it took, computed and had no core. A
//! [`Reading`] joins them: the CPU time is divided by the samples on the CPU, the rest by those off it. So each is
//! as sure as its samples, and their sum is exact. The report and the recorder make one; what too few or too blind
//! samples stand behind is `None`, never a guess.

use std::time::Duration;

use serde::Serialize;

use crate::class::Class;
use crate::tally::{Counts, ENOUGH, error_of};

/// A whole that is at most this part of the wall time may be divided without samples: however it is done, no part can be
/// further from the truth than that. With few samples it may be larger: what a share is off by goes with their root.
const LITTLE: f64 = 0.05;

/// What the clocks say of the time that samples were taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Clocks {
    /// From start to end.
    pub wall: Duration,
    /// On a core; `None` if nobody read that clock.
    pub cpu: Option<Duration>,
    /// Ready to run, without a core; `None` where the kernel doesn't tell.
    pub delay: Option<Duration>,
}

/// A part of the wall time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Part {
    /// How long.
    pub seconds: f64,
    /// The same as a part of the wall time, from 0 to 1.
    pub share: f64,
    /// The standard error of the share; 0 for what clocks say.
    pub error: f64,
    /// How many samples it rests on; none for what clocks say.
    pub samples: u64,
}

/// Where time went. A part that isn't known is `None`; when all are known they add up to the wall time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Reading {
    /// All of it, s.
    pub wall: f64,
    /// The part on a core, however it is divided, s.
    pub cpu: Option<f64>,
    /// On a core with the GIL.
    pub held: Option<Part>,
    /// On a core without the GIL.
    pub off_gil: Option<Part>,
    /// Waiting for the GIL.
    pub gil_wait: Option<Part>,
    /// Waiting for another lock.
    pub lock_wait: Option<Part>,
    /// In other system calls: input, output, sleep.
    pub io: Option<Part>,
    /// Blocked, while everybody waited for the GIL.
    pub held_blocked: Option<Part>,
    /// Ready to run, without a core.
    pub run_delay: Option<Part>,
    /// All samples, also those that say nothing.
    pub samples: u64,
}

/// The classes of a thread that wants none.
const AWAY: [Class; 4] = [Class::GilWait, Class::LockWait, Class::Io, Class::HeldBlocked];

impl Reading {
    /// Joins samples with the clocks of the same time.
    pub fn new(counts: &Counts, clocks: &Clocks) -> Reading {
        let counts = &counts.with_sleep_as_io();
        let wall = clocks.wall.as_secs_f64();
        let cpu = clocks.cpu.map(|cpu| cpu.as_secs_f64().min(wall));
        // Rounding, and clocks read at different moments, may make the sum too long.
        let delay = clocks.delay.map(|delay| delay.as_secs_f64().min(wall - cpu.unwrap_or(0.0)));
        let mut reading = Reading { wall, cpu, samples: counts.samples(), ..Reading::default() };
        if wall <= 0.0 {
            return reading;
        }
        reading.run_delay =
            delay.map(|seconds| Part { seconds, share: seconds / wall, error: 0.0, samples: 0 });
        let part = |class| {
            counts.share(class).filter(|share| share.samples >= ENOUGH).map(|share| Part {
                seconds: wall * share.value,
                share: share.value,
                error: share.error,
                samples: share.samples,
            })
        };
        let [gil_wait, lock_wait, io, held_blocked] = match (counts.told(), cpu, delay) {
            (Some(told), Some(cpu), Some(delay)) if told >= ENOUGH => {
                divide(AWAY.map(|class| counts.of(class)), wall - cpu - delay, wall)
            }
            // Without both clocks the samples have to do; system calls are always told.
            _ => AWAY.map(part),
        };
        (reading.gil_wait, reading.lock_wait) = (gil_wait, lock_wait);
        (reading.io, reading.held_blocked) = (io, held_blocked);
        if let (Some(told), Some(cpu)) = (counts.told(), cpu)
            && told >= ENOUGH
        {
            let queued = (told as f64 * delay.unwrap_or(0.0) / wall).round() as u64;
            [reading.held, reading.off_gil] = divide(on_core(counts, queued), cpu, wall);
        }
        reading
    }

    /// This and another one together: of other tasks, or another thread. What one of them does not know is not known
    /// of both.
    pub fn and(&self, other: &Reading) -> Reading {
        if self.wall <= 0.0 || other.wall <= 0.0 {
            let known = if self.wall > 0.0 { self } else { other };
            return Reading { samples: self.samples + other.samples, ..*known };
        }
        let wall = self.wall + other.wall;
        let sum = |part: fn(&Reading) -> Option<Part>| {
            let (one, two) = (part(self)?, part(other)?);
            let seconds = one.seconds + two.seconds;
            let error = (one.error * self.wall).hypot(two.error * other.wall) / wall;
            Some(Part { seconds, share: seconds / wall, error, samples: one.samples + two.samples })
        };
        Reading {
            wall,
            cpu: self.cpu.zip(other.cpu).map(|(one, two)| one + two),
            held: sum(|reading| reading.held),
            off_gil: sum(|reading| reading.off_gil),
            gil_wait: sum(|reading| reading.gil_wait),
            lock_wait: sum(|reading| reading.lock_wait),
            io: sum(|reading| reading.io),
            held_blocked: sum(|reading| reading.held_blocked),
            run_delay: sum(|reading| reading.run_delay),
            samples: self.samples + other.samples,
        }
    }

    /// All parts with their names, in the order people read them.
    pub fn parts(&self) -> [(&'static str, Option<Part>); 7] {
        [
            ("held", self.held),
            ("off_gil", self.off_gil),
            ("gil_wait", self.gil_wait),
            ("lock_wait", self.lock_wait),
            ("io", self.io),
            ("held_blocked", self.held_blocked),
            ("run_delay", self.run_delay),
        ]
    }
}

/// Samples of a thread that computed: with the GIL, and without it. Where a thread was ready and had no core, it may have
/// queued for one, or the sampler may just have taken its own away; the clock tells how many samples were of the first
/// kind, and the rest computed.
fn on_core(counts: &Counts, queued: u64) -> [u64; 2] {
    let displaced = counts.of(Class::Ready).saturating_sub(queued);
    [counts.of(Class::Held), counts.of(Class::OffGil) + displaced]
}

/// Divides `whole` seconds by the samples of each class.
fn divide<const N: usize>(hits: [u64; N], whole: f64, wall: f64) -> [Option<Part>; N] {
    let (whole, samples) = (whole.max(0.0), hits.iter().sum::<u64>());
    if samples < ENOUGH && whole > LITTLE * wall * ((samples + 1) as f64).sqrt() {
        return [None; N];
    }
    hits.map(|hits| {
        let share = match samples >= ENOUGH {
            true => hits as f64 / samples as f64,
            // As if there had been one more, of all classes alike.
            false => (hits as f64 + 1.0 / N as f64) / (samples + 1) as f64,
        };
        Some(Part {
            seconds: whole * share,
            share: whole * share / wall,
            error: error_of(hits, samples) * whole / wall,
            samples,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts(of: &[(Class, u64)]) -> Counts {
        let mut counts = Counts::default();
        for (class, count) in of {
            counts.0[*class as usize] = *count;
        }
        counts
    }

    fn clocks(wall: u64, cpu: u64, delay: u64) -> Clocks {
        let [wall, cpu, delay] = [wall, cpu, delay].map(Duration::from_millis);
        Clocks { wall, cpu: Some(cpu), delay: Some(delay) }
    }

    fn share(part: Option<Part>) -> f64 {
        part.expect("it is known").share
    }

    #[test]
    fn cpu_time_is_divided_by_the_samples_on_it_and_the_rest_by_the_others() {
        let seen = counts(&[
            (Class::Held, 100),
            (Class::OffGil, 300),
            (Class::GilWait, 50),
            (Class::Io, 150),
            (Class::Unknown, 5),
        ]);
        let reading = Reading::new(&seen, &clocks(10_000, 6_000, 0));
        assert!((share(reading.held) - 0.15).abs() < 1e-9, "a quarter of 60 %");
        assert!((share(reading.off_gil) - 0.45).abs() < 1e-9);
        assert!((share(reading.gil_wait) - 0.1).abs() < 1e-9, "a quarter of 40 %");
        assert!((share(reading.io) - 0.3).abs() < 1e-9);
        assert_eq!((share(reading.lock_wait), share(reading.held_blocked)), (0.0, 0.0));
        assert_eq!(reading.run_delay.map(|part| (part.seconds, part.error)), Some((0.0, 0.0)));
        let held = reading.held.expect("known");
        assert_eq!((held.samples, reading.samples), (400, 605));
        assert!((0.01..0.03).contains(&held.error), "{held:?}");
    }

    #[test]
    fn a_sleeper_is_known_to_sleep_though_nobody_saw_its_moments_of_computing() {
        let reading = Reading::new(&counts(&[(Class::Io, 1_000)]), &clocks(5_000, 10, 5));
        assert!(share(reading.io) > 0.99);
        let (held, off) = (share(reading.held), share(reading.off_gil));
        assert!((held + off - 0.002).abs() < 1e-9, "all that the clock says: {held} {off}");
        assert!(reading.held.expect("known").error < LITTLE);
    }

    #[test]
    fn what_few_samples_would_divide_is_not_divided() {
        let reading = Reading::new(&counts(&[(Class::Held, 19), (Class::Io, 900)]), &clocks(1_000, 300, 0));
        assert_eq!((reading.held, reading.off_gil), (None, None));
        assert!((share(reading.io) - 0.7).abs() < 1e-9, "the rest has enough");
        let reading =
            Reading::new(&counts(&[(Class::Held, 950), (Class::GilWait, 15)]), &clocks(10_000, 9_350, 40));
        assert!((share(reading.gil_wait) - 0.061 * 15.25 / 16.0).abs() < 1e-9, "few, and little to divide");
        let reading = Reading::new(&counts(&[(Class::Held, 900), (Class::Io, 19)]), &clocks(1_000, 300, 0));
        assert!((share(reading.held) - 0.3).abs() < 1e-9);
        assert_eq!((reading.gil_wait, reading.io), (None, None), "seen too seldom for 70 % of the time");
    }

    #[test]
    fn without_samples_the_clocks_alone_speak() {
        let reading = Reading::new(&Counts::default(), &clocks(1_000, 600, 100));
        assert_eq!((reading.wall, reading.cpu), (1.0, Some(0.6)));
        assert!((share(reading.run_delay) - 0.1).abs() < 1e-9);
        let known = reading.parts().iter().filter(|(_, part)| part.is_some()).count();
        assert_eq!(known, 1, "{reading:?}");
        assert_eq!(
            Reading::new(&Counts::default(), &Clocks::default()),
            Reading { cpu: None, ..Reading::default() }
        );
    }

    #[test]
    fn a_meter_that_can_not_see_the_gil_claims_io_and_nothing_else() {
        let reading = Reading::new(&counts(&[(Class::Unknown, 60), (Class::Io, 40)]), &clocks(1_000, 500, 0));
        assert!((share(reading.io) - 0.4).abs() < 1e-9);
        for (name, part) in reading.parts() {
            assert_eq!(part.is_some(), ["io", "run_delay"].contains(&name), "{name}");
        }
    }

    #[test]
    fn clocks_that_nobody_read_leave_what_samples_can_say() {
        let seen = counts(&[(Class::Held, 50), (Class::OffGil, 30), (Class::GilWait, 20)]);
        let wall = Duration::from_secs(2);
        let reading = Reading::new(&seen, &Clocks { wall, cpu: None, delay: None });
        assert_eq!((reading.held, reading.off_gil, reading.run_delay), (None, None, None));
        assert!((reading.gil_wait.expect("seen").seconds - 0.4).abs() < 1e-9);
    }

    #[test]
    fn threads_that_queue_for_a_core_do_not_make_the_held_part_small() {
        // Four threads take turns on the GIL, beside other programs: those just woken queue for a core.
        let seen =
            counts(&[(Class::Held, 250), (Class::OffGil, 5), (Class::Ready, 75), (Class::GilWait, 670)]);
        let reading = Reading::new(&seen, &clocks(10_000, 2_500, 800));
        assert!(share(reading.held) > 0.24, "{reading:?}");
        assert!((share(reading.run_delay) - 0.08).abs() < 1e-9);
        assert!((share(reading.gil_wait) - 0.67).abs() < 1e-9);
    }

    #[test]
    fn threads_whose_core_the_sampler_took_computed() {
        // A starved thread computes for moments, and at half of the looks has to make room for the sampler.
        let seen =
            counts(&[(Class::Held, 4), (Class::OffGil, 10), (Class::Ready, 14), (Class::GilWait, 972)]);
        let reading = Reading::new(&seen, &clocks(10_000, 240, 40));
        let (held, off) = (share(reading.held), share(reading.off_gil));
        assert!((held - 0.004).abs() < 1e-9 && (off - 0.02).abs() < 1e-9, "{reading:?}");
    }

    #[test]
    fn two_readings_together_are_as_long_and_as_sure_as_both() {
        let one = Reading::new(&counts(&[(Class::Held, 100)]), &clocks(1_000, 1_000, 0));
        let two = Reading::new(&counts(&[(Class::Io, 400)]), &clocks(3_000, 0, 0));
        let both = one.and(&two);
        assert_eq!((both.wall, both.samples), (4.0, 500));
        assert!((share(both.held) - 0.25).abs() < 1e-9 && (share(both.io) - 0.75).abs() < 1e-9);
        assert!(both.io.expect("known").error < two.io.expect("known").error + one.io.expect("known").error);
        let blind = Reading::new(&Counts::default(), &clocks(1_000, 500, 0));
        assert_eq!(both.and(&blind).held, None, "half of it is not known");
        assert_eq!(both.and(&Reading::default()), both);
        assert_eq!(Reading::default().and(&both), both);
    }

    proptest! {
        #[test]
        fn parts_are_never_negative_and_all_together_are_the_wall_time(
            of in proptest::array::uniform9(0_u64..100_000),
            wall in 0_u64..100_000_000,
            cpu in proptest::option::of(0_u64..100_000_000),
            delay in proptest::option::of(0_u64..100_000_000),
        ) {
            let clocks = Clocks {
                wall: Duration::from_nanos(wall),
                cpu: cpu.map(Duration::from_nanos),
                delay: delay.map(Duration::from_nanos),
            };
            let reading = Reading::new(&Counts(of), &clocks);
            let known: Vec<Part> = reading.parts().into_iter().filter_map(|(_, part)| part).collect();
            for part in &known {
                prop_assert!(part.seconds >= 0.0 && part.seconds <= reading.wall * (1.0 + 1e-9), "{:?}", part);
                prop_assert!((0.0..=1.0 + 1e-9).contains(&part.share), "{:?}", part);
                prop_assert!((0.0..=0.6).contains(&part.error), "{:?}", part);
                prop_assert!(part.samples <= reading.samples);
            }
            if known.len() == 7 {
                let sum: f64 = known.iter().map(|part| part.seconds).sum();
                prop_assert!((sum - reading.wall).abs() <= 1e-9 + 1e-9 * reading.wall, "{} of {}", sum, reading.wall);
            }
        }

        #[test]
        fn too_few_or_too_blind_samples_divide_nothing(
            few in proptest::array::uniform8(0_u64..3),
            unknown in 0_u64..100_000,
            wall in 1_u64..100_000_000,
        ) {
            let mut of = [0; 9];
            of[..8].copy_from_slice(&few);
            of[8] = unknown;
            let half = Duration::from_nanos(wall / 2);
            let clocks = Clocks { wall: Duration::from_nanos(wall), cpu: Some(half), delay: Some(Duration::ZERO) };
            let reading = Reading::new(&Counts(of), &clocks);
            let sees = few.iter().sum::<u64>() >= ENOUGH && unknown * 10 <= few.iter().sum::<u64>() + unknown;
            if !sees {
                for (name, part) in reading.parts() {
                    prop_assert!(part.is_none() || ["io", "run_delay"].contains(&name), "{} {:?}", name, part);
                }
            }
        }
    }
}
