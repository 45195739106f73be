//! Gives back memory of payloads some seconds after they travelled, though nobody calls any more: idle blocks to the
//! system, those that answers lay in to their workers. Done on the warden's thread, which sleeps when all is tidy.

use std::time::Instant;

use super::{Crew, Seat, Yard};
use crate::store::TIDY;

impl Crew {
    /// Has the warden tidy up some seconds from now, if large payloads have travelled since it last did.
    pub(super) fn tidy_later(&self, yard: &mut Yard) {
        if std::mem::take(&mut yard.untidy) && yard.tidying.is_none() {
            let then = Instant::now() + TIDY;
            self.call_at(yard, then);
            yard.tidying = Some(then);
        }
    }

    /// Tidies up if it is time to. Returns when to do so next.
    pub(super) fn tidy(&self) -> Option<Instant> {
        let mut yard = self.lock();
        let now = Instant::now();
        if yard.tidying.is_some_and(|then| then <= now) {
            yard.seats.iter_mut().for_each(Seat::release_abandoned);
            yard.pump();
            self.store.trim();
            let is_tidy = self.store.usage() == (0, 0) && !yard.seats.iter().any(Seat::has_payloads);
            yard.tidying = (!is_tidy).then_some(now + TIDY);
        }
        yard.tidying
    }
}
