//! A convoy, recognised: work that does not need the GIL for long starves beside work that never gives it up.
//!
//! Whoever releases the GIL to compute must take it again, and waits a whole switch interval each time while another
//! thread computes in Python. So a function that could use a core of its own spends most of its time in a queue.
//! The report asks for each function; without it, one would see a wait and not know that more threads make it worse.

use std::sync::Arc;

use crate::reading::Reading;
use crate::tally::{Blame, ENOUGH};

/// One function starved by another.
#[derive(Debug, Clone, PartialEq)]
pub struct Convoy {
    /// The one that holds the GIL; `None` for threads that run no task.
    pub hog: Option<Arc<str>>,
    /// The part of the starved function's time that it waits for the GIL, queues for a core left out.
    pub wait: f64,
    /// The part of its CPU time that it computes without the GIL.
    pub off_gil: f64,
    /// The part of the waits during which the hog held the GIL.
    pub during: f64,
}

impl Convoy {
    /// Whether the tasks of the function `name`, which were read and made to wait like this, starve beside another
    /// function's.
    pub fn recognise(name: &str, reading: &Reading, blame: &[Blame]) -> Option<Convoy> {
        let (held, off) = (reading.held?.seconds, reading.off_gil?.seconds);
        let wait = reading.gil_wait?;
        // That others took its core away says nothing of the GIL.
        let own = 1.0 - reading.run_delay.map_or(0.0, |delay| delay.share);
        // Taking the GIL anew is computing with it, and the smaller the pieces the more of it: pieces of 50 µs may take
        // as long with the GIL as without. Pure Python, which takes turns, computes next to nothing without it.
        let starves = off * 3.0 > held && wait.share - wait.error > 0.5 * own;
        let blamed: u64 = blame.iter().map(|blame| blame.samples).sum();
        let worst = blame.iter().max_by_key(|blame| blame.samples)?;
        let is_other = worst.by.as_deref() != Some(name);
        (starves && is_other && blamed >= ENOUGH && worst.samples * 2 > blamed).then(|| Convoy {
            hog: worst.by.clone(),
            wait: (wait.share / own).min(1.0),
            off_gil: off / (held + off),
            during: worst.samples as f64 / blamed as f64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Part;

    /// A reading with these shares of held, off the GIL and waiting for it, and the rest in I/O.
    fn reading(held: f64, off_gil: f64, gil_wait: f64) -> Reading {
        let part = |share: f64| Some(Part { seconds: share, share, error: 0.02, samples: 400 });
        let rest = 1.0 - held - off_gil - gil_wait;
        let (held, off_gil, gil_wait, io) = (part(held), part(off_gil), part(gil_wait), part(rest));
        Reading { wall: 1.0, held, off_gil, gil_wait, io, samples: 400, ..Reading::default() }
    }

    fn blame(of: &[(Option<&str>, u64)]) -> Vec<Blame> {
        of.iter().map(|(by, samples)| Blame { by: by.map(Into::into), samples: *samples }).collect()
    }

    #[test]
    fn a_convoy_is_told_from_turns_and_from_waits_of_other_kinds() {
        let hog = blame(&[(Some("hog"), 300), (Some("hash"), 20)]);
        let table = [
            ("hashing beside a hog", reading(0.01, 0.18, 0.8), &hog, true),
            (
                "a thread without a task may be the hog",
                reading(0.01, 0.18, 0.8),
                &blame(&[(None, 300)]),
                true,
            ),
            ("pure Python takes turns", reading(0.25, 0.02, 0.7), &hog, false),
            ("it waits for less than half of its time", reading(0.02, 0.5, 0.45), &hog, false),
            ("half is not over half, as far as known", reading(0.02, 0.45, 0.51), &hog, false),
            ("its own tasks take turns", reading(0.1, 0.2, 0.7), &blame(&[(Some("hash"), 300)]), false),
            (
                "many hold it a little",
                reading(0.01, 0.18, 0.8),
                &blame(&[(Some("a"), 100), (Some("b"), 100), (Some("c"), 100)]),
                false,
            ),
            ("too few were seen", reading(0.01, 0.18, 0.8), &blame(&[(Some("hog"), 19)]), false),
            ("nobody is blamed", reading(0.01, 0.18, 0.8), &Vec::new(), false),
        ];
        for (what, reading, blame, is_convoy) in table {
            let found = Convoy::recognise("hash", &reading, blame);
            assert_eq!(found.is_some(), is_convoy, "{what}: {found:?}");
        }
    }

    #[test]
    fn a_busy_machine_hides_no_convoy() {
        let delay = Some(Part { seconds: 0.6, share: 0.6, error: 0.0, samples: 0 });
        let crowded = Reading { run_delay: delay, ..reading(0.01, 0.09, 0.3) };
        let found = Convoy::recognise("hash", &crowded, &blame(&[(Some("hog"), 300)])).expect("a convoy");
        assert!((found.wait - 0.75).abs() < 1e-9, "of the 40 % in which it had a core or wanted none");
    }

    #[test]
    fn it_tells_who_starves_whom_and_how_much() {
        let hog = blame(&[(Some("hog"), 300), (Some("hash"), 100)]);
        let found = Convoy::recognise("hash", &reading(0.05, 0.15, 0.8), &hog).expect("a convoy");
        assert_eq!((found.hog.as_deref(), found.wait, found.during), (Some("hog"), 0.8, 0.75));
        assert!((found.off_gil - 0.75).abs() < 1e-9);
    }

    #[test]
    fn what_is_not_known_is_no_convoy() {
        let hog = blame(&[(Some("hog"), 300)]);
        for blind in [
            Reading { held: None, ..reading(0.01, 0.18, 0.8) },
            Reading { off_gil: None, ..reading(0.01, 0.18, 0.8) },
            Reading { gil_wait: None, ..reading(0.01, 0.18, 0.8) },
        ] {
            assert_eq!(Convoy::recognise("hash", &blind, &hog), None);
        }
    }
}
