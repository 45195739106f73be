//! Who sleeps on the crew's bell. Workers ring one bell; only one thread, the *leader*, sleeps on it, collects
//! what arrived and delivers it. Others who wait, the *followers*, sleep on their own task's word. A leader
//! that leaves passes the lead to a follower, or to the crew's background thread when there is work that
//! nobody else waits for (a backlog to pump, callbacks to run).
//!
//! So the thread that asks for a result is woken by the worker itself: one hop, not two.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::state::State;

/// Something that sleeps on its own word.
pub type Sleeper = Arc<dyn AsRef<State> + Send + Sync>;

#[derive(Default)]
pub(super) struct Lead {
    inner: Mutex<Inner>,
    background: Condvar,
}

#[derive(Default)]
struct Inner {
    taken: bool,
    followers: Vec<Sleeper>,
    /// Somebody must collect although nobody waits.
    wanted: bool,
    wants: u64,
    /// The background thread shall end.
    dismissed: bool,
}

/// What the background thread shall do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Lead: collect until nobody needs it, then resign.
    Lead,
    /// Nothing came up; look after other things.
    Idle,
    /// End.
    Dismissed,
}

impl Lead {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Becomes the leader, or enrols `follower`, to be nudged when the lead is free.
    pub(super) fn take_or_follow(&self, follower: &Sleeper) -> bool {
        let mut inner = self.lock();
        if inner.taken {
            inner.followers.push(Arc::clone(follower));
            return false;
        }
        inner.taken = true;
        true
    }

    /// A follower goes its way, nudged or not.
    pub(super) fn leave(&self, follower: &Sleeper) {
        let mut inner = self.lock();
        if let Some(index) = inner.followers.iter().position(|other| Arc::ptr_eq(other, follower)) {
            inner.followers.swap_remove(index);
        }
        // It may have been this one that the last leader passed the lead to.
        if !inner.taken {
            self.pass_on(&inner);
        }
    }

    /// The leader leaves.
    pub(super) fn resign(&self) {
        let mut inner = self.lock();
        inner.taken = false;
        self.pass_on(&inner);
    }

    fn pass_on(&self, inner: &Inner) {
        match inner.followers.first() {
            Some(follower) => (**follower).as_ref().nudge(),
            None if inner.wanted => self.background.notify_one(),
            None => {}
        }
    }

    /// Work exists that nobody waits for: a leader will be there from now on until `unwant`.
    pub(super) fn want(&self) {
        let mut inner = self.lock();
        inner.wants += 1;
        if !inner.wanted {
            inner.wanted = true;
            if !inner.taken {
                self.background.notify_one();
            }
        }
    }

    /// How often it was wanted: to be asked before looking whether there is work left.
    pub(super) fn wants(&self) -> u64 {
        self.lock().wants
    }

    /// There was none, so nobody is wanted, unless somebody said so since `wants` gave this number.
    pub(super) fn unwant(&self, wants: u64) {
        let mut inner = self.lock();
        inner.wanted &= inner.wants != wants;
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.lock().wanted
    }

    /// Wakes the background thread to end it.
    pub(super) fn dismiss(&self) {
        self.lock().dismissed = true;
        self.background.notify_all();
    }

    /// Wakes the background thread to look after other things.
    pub(super) fn call(&self) {
        // Through the lock: a thread that has just looked and is about to sleep must not miss this.
        drop(self.lock());
        self.background.notify_all();
    }

    /// The background thread sleeps until it is needed.
    pub(super) fn stand_by(&self, limit: Duration, also: impl Fn() -> bool) -> Duty {
        let mut inner = self.lock();
        if !(inner.dismissed || also() || (inner.wanted && !inner.taken)) {
            inner = self.background.wait_timeout(inner, limit).unwrap_or_else(PoisonError::into_inner).0;
        }
        if inner.dismissed {
            Duty::Dismissed
        } else if inner.wanted && !inner.taken {
            inner.taken = true;
            Duty::Lead
        } else {
            Duty::Idle
        }
    }
}
