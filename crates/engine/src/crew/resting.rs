//! Ends workers that have had nothing to do for some time, on the warden's thread. Who submits later hires new ones.

use std::sync::Weak;
use std::time::{Duration, Instant};

use super::{Crew, Yard};
use crate::warden::Employer;

/// Of workers that are to end at once, but have something to do, it is looked again so often.
const AGAIN: Duration = Duration::from_millis(20);

impl Crew {
    /// For how long workers may have nothing to do; for ever if `None`, as at first.
    pub fn set_patience(&self, patience: Option<Duration>) {
        let mut yard = self.lock();
        yard.patience = patience;
        yard.resting = None;
        self.rest_later(&mut yard);
    }

    /// Has the warden look whether workers have nothing to do, if it does not already.
    pub(super) fn rest_later(&self, yard: &mut Yard) {
        if let Some(patience) = yard.patience
            && yard.resting.is_none()
        {
            let then = Instant::now().checked_add(patience);
            if let Some(then) = then {
                self.call_at(yard, then);
            }
            yard.resting = then;
        }
    }

    /// Has workers end if it is time to. Returns when to look again.
    pub(super) fn rest(&self) -> Option<Instant> {
        let mut yard = self.lock();
        let now = Instant::now();
        if let (Some(then), Some(patience)) = (yard.resting, yard.patience)
            && then <= now
        {
            let over = yard.used + patience;
            if (yard.outstanding == 0 || yard.unattended) && over <= now {
                // What it has still comes first.
                yard.stop_all();
            }
            // A line may have been full; then it is tried again.
            let next = if over > now { over } else { now + patience.max(AGAIN) };
            yard.resting = (!yard.is_stopping()).then_some(next);
        }
        yard.resting
    }

    /// Has the warden call at this time, if not before.
    pub(super) fn call_at(&self, yard: &Yard, then: Instant) {
        // It calls at one time, the last that was named.
        let next = [yard.alarm, yard.tidying, yard.resting].into_iter().flatten().min();
        if next.is_none_or(|next| then < next) {
            self.warden.call_at(then, self.myself.clone() as Weak<dyn Employer>);
        }
    }
}
