//! How often a function's tasks were seen doing what.
//!
//! The sampler counts into a [`Tally`], the engine reads [`Counts`] from it, and counts that a worker process made
//! are added to the caller's. A share that too few or too blind samples stand behind is `None`, never a guess.
//! A tally also keeps whom its tasks waited for: whose tasks held the GIL then.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::class::Class;
use crate::lock;

/// Samples below which nothing is claimed.
pub(crate) const ENOUGH: u64 = 20;

/// Functions that one can be made to wait by and that are told apart; of more, the later are not counted.
const MOST_HOLDERS: usize = 64;

/// The samples of one function's tasks, growing.
#[derive(Debug, Default)]
pub struct Tally {
    name: Arc<str>,
    counts: [AtomicU64; Class::ALL.len()],
    blame: Mutex<Vec<Blame>>,
}

/// Who held the GIL while tasks of another function waited for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blame {
    /// The function whose task held it; `None` for a thread that ran no task.
    pub by: Option<Arc<str>>,
    /// How often that was seen.
    pub samples: u64,
}

impl Tally {
    /// For the tasks of a function that people know by this name; functions of one name share the blame.
    pub fn named(name: Arc<str>) -> Tally {
        Tally { name, ..Tally::default() }
    }

    /// The function's name; empty if it has none.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Who held the GIL while these tasks waited for it, the most frequent first. Waits in whose moment nobody held
    /// it, between two holders, are nobody's.
    pub fn blame(&self) -> Vec<Blame> {
        let mut blame = lock(&self.blame).clone();
        blame.sort_by_key(|blame| std::cmp::Reverse(blame.samples));
        blame
    }

    /// Counts one wait during which `by` held the GIL.
    pub(crate) fn blame_on(&self, by: Option<&Arc<str>>) {
        let mut blame = lock(&self.blame);
        let known = blame.iter().position(|blame| blame.by.as_ref() == by);
        match known {
            Some(index) => blame[index].samples += 1,
            None if blame.len() < MOST_HOLDERS => blame.push(Blame { by: by.cloned(), samples: 1 }),
            None => {}
        }
    }

    /// The samples so far.
    pub fn counts(&self) -> Counts {
        Counts(self.counts.each_ref().map(|count| count.load(Ordering::Relaxed)))
    }

    /// Adds samples that were taken elsewhere: in a worker process, say.
    pub fn add(&self, counts: &Counts) {
        for (count, more) in self.counts.iter().zip(counts.0) {
            count.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// Counts one sample.
    pub(crate) fn count(&self, class: Class) {
        self.counts[class as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many samples there are: see [`Counts::samples`].
    pub fn samples(&self) -> u64 {
        self.counts().samples()
    }

    /// The share of a class: see [`Counts::share`].
    pub fn share(&self, class: Class) -> Option<Share> {
        self.counts().share(class)
    }

    /// The part of the CPU time spent holding the GIL: see [`Counts::held_share_of_cpu`].
    pub fn held_share_of_cpu(&self) -> Option<Share> {
        self.counts().held_share_of_cpu()
    }
}

/// Samples by class, in the order of [`Class::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts(pub [u64; Class::ALL.len()]);

/// A part of some samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// The part, from 0 to 1.
    pub value: f64,
    /// Its standard error, were the samples independent; those of one long task are less so.
    pub error: f64,
    /// How many samples it is a part of.
    pub samples: u64,
}

impl Counts {
    /// The samples of one class.
    pub fn of(&self, class: Class) -> u64 {
        self.0[class as usize]
    }

    /// All samples, also those that say [`Class::Unknown`].
    pub fn samples(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The part of a task's wall time spent in `class`; `None` if there is no sample, or if over a tenth of them
    /// can't be told and might be of this class.
    pub fn share(&self, class: Class) -> Option<Share> {
        match class {
            // Always told: what can't be told is never a system call.
            Class::Io | Class::Sleep | Class::Unknown => share(self.of(class), self.samples()),
            _ => share(self.of(class), self.told()?),
        }
    }

    /// The part of the CPU time spent holding the GIL; `None` if fewer than 20 samples, or too blind ones, stand
    /// behind it.
    pub fn held_share_of_cpu(&self) -> Option<Share> {
        self.told()?;
        let held = self.of(Class::Held);
        share(held, held + self.of(Class::OffGil)).filter(|share| share.samples >= ENOUGH)
    }

    /// The same from the tasks' clocks, which a crowd does not mislead: a thread that was woken and waits for a core
    /// looks as if it computed, so among many waiting threads samples alone make the held part too small. `wall` and
    /// `cpu` are those of the tasks the samples are of.
    pub fn held_share_of(&self, cpu: Duration, wall: Duration) -> Option<Share> {
        let held = self.share(Class::Held).filter(|share| share.samples >= ENOUGH)?;
        let stretch = wall.as_secs_f64() / cpu.as_secs_f64();
        stretch.is_finite().then(|| Share {
            value: (held.value * stretch).min(1.0),
            error: held.error * stretch,
            samples: held.samples,
        })
    }

    /// The same with sleep as a part of input and output, for whom a wait is a wait.
    pub fn with_sleep_as_io(mut self) -> Counts {
        let slept = std::mem::take(&mut self.0[Class::Sleep as usize]);
        self.0[Class::Io as usize] += slept;
        self
    }

    /// The samples that say something, if those that don't are few enough to be left out.
    pub(crate) fn told(&self) -> Option<u64> {
        let unknown = self.of(Class::Unknown);
        (unknown <= self.samples() / 10).then(|| self.samples() - unknown)
    }
}

fn share(hits: u64, samples: u64) -> Option<Share> {
    let error = error_of(hits, samples);
    (samples > 0).then(|| Share { value: hits as f64 / samples as f64, error, samples })
}

/// The standard error of `hits / samples`.
pub(crate) fn error_of(hits: u64, samples: u64) -> f64 {
    // Two hits and two misses more (Agresti and Coull) keep the error of an unmixed sample from being zero.
    let (counted, middle) = (samples as f64 + 4.0, hits as f64 + 2.0);
    (middle * (counted - middle) / counted.powi(3)).sqrt()
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

    #[test]
    fn without_samples_nothing_is_claimed() {
        for class in Class::ALL {
            assert_eq!(Tally::default().share(class), None);
        }
        assert_eq!(Tally::default().held_share_of_cpu(), None);
    }

    #[test]
    fn a_meter_that_can_not_see_the_gil_claims_io_and_nothing_else() {
        let blind = counts(&[(Class::Unknown, 60), (Class::Io, 40)]);
        assert_eq!(blind.share(Class::Io).map(|share| share.value), Some(0.4));
        assert_eq!(blind.share(Class::Unknown).map(|share| share.value), Some(0.6));
        for class in [Class::Held, Class::HeldBlocked, Class::OffGil, Class::GilWait, Class::LockWait] {
            assert_eq!(blind.share(class), None);
        }
        assert_eq!(blind.held_share_of_cpu(), None);
    }

    #[test]
    fn the_held_part_of_the_cpu_leaves_waiting_out() {
        let mixed = counts(&[(Class::Held, 25), (Class::OffGil, 75), (Class::Io, 900), (Class::Unknown, 3)]);
        let share = mixed.held_share_of_cpu().expect("a hundred samples are enough");
        assert_eq!((share.value, share.samples), (0.25, 100));
        assert!((0.03..0.05).contains(&share.error), "{share:?}");
        assert_eq!(counts(&[(Class::Held, 19), (Class::Io, 900)]).held_share_of_cpu(), None, "too few");
    }

    #[test]
    fn classes_are_counted_where_their_shares_are_read() {
        let tally = Tally::default();
        for (times, class) in Class::ALL.into_iter().enumerate() {
            (0..=times).for_each(|_| tally.count(class));
            assert_eq!(tally.counts().of(class), times as u64 + 1);
        }
        let twice = Tally::default();
        twice.add(&tally.counts());
        twice.add(&tally.counts());
        assert_eq!(twice.samples(), 2 * tally.samples());
    }

    #[test]
    fn among_waiting_threads_the_clocks_tell_the_held_part() {
        let crowded = counts(&[(Class::Held, 50), (Class::OffGil, 120), (Class::GilWait, 830)]);
        let by_clock =
            crowded.held_share_of(Duration::from_millis(50), Duration::from_secs(1)).expect("enough");
        assert!((by_clock.value - 1.0).abs() < 1e-9, "{by_clock:?}");
        let half = crowded.held_share_of(Duration::from_millis(100), Duration::from_secs(1)).expect("enough");
        assert!((half.value - 0.5).abs() < 1e-9, "{half:?}");
        assert_eq!(
            crowded.held_share_of(Duration::ZERO, Duration::from_secs(1)),
            None,
            "no CPU, no part of it"
        );
        assert_eq!(Counts::default().held_share_of(Duration::from_secs(1), Duration::from_secs(1)), None);
    }

    #[test]
    fn blame_is_counted_by_name_and_told_from_the_most_to_the_least() {
        let tally = Tally::named("waits".into());
        let (hog, other): (Arc<str>, Arc<str>) = ("hog".into(), "other".into());
        let namesake: Arc<str> = "hog".into();
        for by in [None, Some(&hog), Some(&other), Some(&namesake), None, Some(&hog)] {
            tally.blame_on(by);
        }
        let told: Vec<_> = tally.blame().into_iter().map(|blame| (blame.by, blame.samples)).collect();
        assert_eq!(told, [(Some(hog), 3), (None, 2), (Some(other), 1)]);
        (0..1_000).for_each(|number| tally.blame_on(Some(&number.to_string().into())));
        assert_eq!(tally.blame().len(), MOST_HOLDERS, "the table does not grow for ever");
    }

    proptest! {
        #[test]
        fn shares_are_parts_of_one_whole_with_an_error(of in proptest::array::uniform9(0_u64..1_000_000)) {
            let counts = Counts(of);
            let shares: Vec<Share> = Class::ALL.into_iter().filter_map(|class| counts.share(class)).collect();
            for share in shares.iter().chain(&counts.held_share_of_cpu()) {
                prop_assert!((0.0..=1.0).contains(&share.value));
                prop_assert!(share.error > 0.0 && share.error < 0.5);
                prop_assert!(share.samples <= counts.samples());
            }
        }
    }
}
