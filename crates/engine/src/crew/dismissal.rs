//! The end of all workers at once, whatever they run: nothing that waits runs any more, and no worker is replaced.

use std::sync::atomic::Ordering::AcqRel;

use rustix::process::Signal;

use super::{Crew, Post};

impl Crew {
    /// Sends every worker this signal, those that start yet included; with SIGKILL also all processes that they started.
    /// What waits is given back to its recipients, and what runs fails when its worker is dead, however often it was to
    /// be run again.
    pub fn dismiss_workers(&self, signal: Signal) {
        let mut post = Post::new();
        let mut yard = self.lock();
        // What has been answered does not run any more.
        let doomed = yard.hear(&mut post);
        yard.closing = true;
        yard.dismissed = Some(signal);
        let mut waiting: Vec<_> = yard.backlog.drain().collect();
        for seat in &mut yard.seats {
            waiting.extend(seat.take_back(usize::MAX));
            for sent in &mut seat.inflight {
                sent.parcel.terms.retries = 0;
            }
        }
        yard.outstanding -= waiting.len();
        // One that lives on ends when it has nothing left to do.
        yard.stop_all();
        let tokens: Vec<u64> = yard.seats.iter().map(|seat| seat.token).collect();
        self.delivering.fetch_add(1, AcqRel);
        drop(yard);
        for token in tokens {
            self.send_away(token, signal);
        }
        self.kill_doomed(doomed);
        for parcel in waiting {
            parcel.recipient.abandon();
        }
        self.deliver(post);
        self.lead.want();
        self.bell.strike_all();
    }

    pub(super) fn send_away(&self, token: u64, signal: Signal) {
        if signal == Signal::KILL {
            self.warden.kill_with_kin(token);
        } else {
            self.warden.signal(token, signal);
        }
    }
}
