//! A GIL that does little else than change hands. Tasks that give it up for a moment again and again, as those do that
//! query SQLite, run well alone; beside another each of those moments becomes a hand-over, a thread to be woken, and two
//! take longer than one after another. `drag` measures that when such tasks have finished; the number of hand-overs tells
//! it milliseconds after the second has begun.

use serde::{Deserialize, Serialize};

/// More hand-overs in a second than this, for each task that computes, leave time for little else: one takes 5 to 50 µs.
/// Two threads on SQLite make 20,000 to 200,000, those that hash, compress, parse or read files less than 6,000.
const TOO_MANY: f64 = 7_500.0;
/// Seconds that are counted together.
const WINDOW: f64 = 0.005;

/// Counts them while several tasks compute.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Handovers {
    /// When the present window began, and how many there had been then.
    since: Option<(f64, u64)>,
    too_many: bool,
}

impl Handovers {
    /// `count` is how many there have been, where that can be told; `computing` how many tasks compute at once.
    pub(crate) fn watch(&mut self, now: f64, count: Option<u64>, computing: u32) {
        let Some(count) = count.filter(|_| computing > 1) else {
            self.since = None;
            return;
        };
        let (at, before) = *self.since.get_or_insert((now, count));
        if now - at >= WINDOW {
            self.too_many =
                count.saturating_sub(before) as f64 > TOO_MANY * f64::from(computing) * (now - at);
            self.since = Some((now, count));
        }
    }

    /// Whether there were too many when several tasks were last seen to compute.
    pub(crate) fn are_too_many(&self) -> bool {
        self.too_many
    }

    /// By how much tasks slow each other down for them: so much that none of `width` cores is of use to a second.
    pub(crate) fn drag(&self, width: u32) -> f64 {
        if self.too_many { 1.5 * f64::from(width) } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ticks each millisecond, with so many hand-overs in each.
    fn seen(handovers: &mut Handovers, from: u32, ticks: u32, each: u64, computing: u32) {
        for tick in from..from + ticks {
            handovers.watch(f64::from(tick) * 0.001, Some(u64::from(tick) * each), computing);
        }
    }

    #[test]
    fn many_are_known_after_a_few_milliseconds_and_forgotten_when_they_end() {
        let mut handovers = Handovers::default();
        seen(&mut handovers, 0, 4, 100, 2);
        assert!(!handovers.are_too_many());
        seen(&mut handovers, 4, 3, 100, 2);
        assert!(handovers.are_too_many() && handovers.drag(4) > 4.0);
        seen(&mut handovers, 1000, 20, 100, 1);
        assert!(handovers.are_too_many(), "one task alone tells nothing");
        seen(&mut handovers, 2000, 20, 5, 2);
        assert!(!handovers.are_too_many() && handovers.drag(4) == 1.0);
    }

    #[test]
    fn more_tasks_may_make_more() {
        let mut handovers = Handovers::default();
        seen(&mut handovers, 0, 20, 30, 8);
        assert!(!handovers.are_too_many());
        seen(&mut handovers, 20, 20, 30, 2);
        assert!(handovers.are_too_many());
    }

    #[test]
    fn taking_turns_is_not_too_many_nor_is_what_cannot_be_told() {
        let mut handovers = Handovers::default();
        seen(&mut handovers, 0, 100, 6, 2);
        assert!(!handovers.are_too_many());
        for tick in 0..100 {
            handovers.watch(f64::from(tick) * 0.001, None, 2);
        }
        assert!(!handovers.are_too_many());
    }
}
