//! Wakes a process or thread that sleeps until there is something to do: an event count on a shared futex.
//! Struck by whoever published something, waited for by whoever looks for it; knows nothing of what that is.
//!
//! # Protocol
//!
//! A bell is two words. **count** rises with strikes, **sleepers** is the number of waiters that are registered.
//!
//! | the striker | the waiter |
//! |---|---|
//! | S1 publishes | W1 registers: sleepers + 1 |
//! | S2 full fence | W2 full fence |
//! | S3 reads sleepers; 0: done | W3 reads count: its ticket |
//! | S4 count + 1 | W4 looks again for what is published; found: unregisters |
//! | S5 wakes the futex on count | W5 sleeps on the futex while count is its ticket |
//!
//! *A waiter never sleeps through a strike.* Suppose one does: W4 did not see S1, and W5 slept or sleeps on.
//! The fences S2 and W2 are totally ordered. If W2 came first, S3 sees W1 and S4, S5 follow. If S2 came first,
//! W4 comes after W2 and sees S1: contradiction. So S4 happened. If it happened before the kernel compared count
//! in W5, either W3 read the new count (then S4, a release, made S1 visible to W4, after W3, an acquire:
//! contradiction) or the ticket is the old one, and W5 returns at once. If it happened after, the waiter was
//! queued already (the kernel compares and queues in one step against wakes), and S5 wakes it. ∎
//!
//! The usual case, nobody sleeps, costs the striker a fence and a read of a word that nobody writes.
//!
//! # What a peer can do
//!
//! One that dies asleep leaves sleepers one too high: later strikes make a system call for nothing. One that
//! scribbles over the words can wake waiters for nothing or let them sleep through strikes, nothing else: a
//! waiter uses a bounded timeout and looks again after every return. 2^32 strikes between W3 and W5 would
//! count as none, with the same remedy.

use std::time::Duration;

use rustix::io::Errno;

use crate::region::{Region, WORD};
use crate::sync::{Ordering, Word, full_fence, futex_wait, futex_wake};

/// Strikes and waits on one bell in shared memory. Clones are the same bell.
#[derive(Clone, Debug)]
pub struct Bell {
    region: Region,
    /// Index of the count; sleepers is the word after it. Both are within `region`.
    count: usize,
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Woken {
    /// Somebody struck since `listen`, or nobody did: look again either way.
    Struck,
    /// The time was up.
    TimedOut,
    /// A signal arrived: let its handler run, then look again.
    Interrupted,
}

impl Bell {
    /// Bytes a bell takes: a pair of cache lines, so that what lies beside it is not slowed down. Zero them
    /// before first use, as fresh memory is.
    pub const BYTES: usize = 128;

    /// The bell at `offset` bytes into `region`.
    ///
    /// # Panics
    ///
    /// If `offset` is not on a word or the region ends before the bell does.
    #[must_use]
    pub fn open(region: &Region, offset: usize) -> Self {
        assert!(offset.is_multiple_of(WORD), "a bell begins on a word");
        assert!(
            offset.checked_add(Self::BYTES).is_some_and(|end| end <= region.len()),
            "a bell lies within its region"
        );
        Self { region: region.clone(), count: offset / WORD }
    }

    /// Tells one sleeper that something was published just before this call.
    ///
    /// A sleeper that wakes and then does not look must strike again, or the news is lost.
    pub fn strike(&self) {
        self.ring(1);
    }

    /// Tells every sleeper.
    pub fn strike_all(&self) {
        self.ring(i32::MAX as u32);
    }

    /// Registers this thread as a waiter. Look for what you wait for *after* this, then [`Listener::wait`].
    #[must_use = "dropping it unregisters the waiter"]
    pub fn listen(&self) -> Listener<'_> {
        self.sleepers().fetch_add(1, Ordering::Relaxed); // W1
        full_fence(); // W2
        let ticket = self.count().load(Ordering::Acquire); // W3: STRUCK
        Listener { bell: self, ticket: ticket as u32 }
    }

    fn ring(&self, sleepers: u32) {
        full_fence(); // S2
        if self.sleepers().load(Ordering::Relaxed) != 0 {
            self.count().fetch_add(1, Ordering::Release); // S4: STRUCK
            futex_wake(self.count(), sleepers); // S5
        }
    }

    fn count(&self) -> &Word {
        &self.region.words()[self.count]
    }

    fn sleepers(&self) -> &Word {
        &self.region.words()[self.count + 1]
    }
}

/// A registered waiter; dropping it unregisters, on every path.
#[derive(Debug)]
pub struct Listener<'b> {
    bell: &'b Bell,
    /// The low half of the count when it registered.
    ticket: u32,
}

impl Listener<'_> {
    /// Sleeps until a strike that came after [`Bell::listen`], a signal or the end of `timeout`.
    ///
    /// A handler installed with `SA_RESTART` interrupts a wait with a timeout only.
    pub fn wait(self, timeout: Option<Duration>) -> Woken {
        match futex_wait(self.bell.count(), self.ticket, timeout) {
            Err(Errno::TIMEDOUT) => Woken::TimedOut,
            Err(Errno::INTR) => Woken::Interrupted,
            // AGAIN: the count had moved before we slept.
            _ => Woken::Struck,
        }
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        self.bell.sleepers().fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used, reason = "to fail is to panic here")]
mod tests {
    use std::os::unix::thread::JoinHandleExt;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Instant;

    use super::*;

    const LONG: Option<Duration> = Some(Duration::from_secs(60));

    fn bell() -> Bell {
        Bell::open(&Region::heap(Bell::BYTES), 0)
    }

    fn sleepers(bell: &Bell) -> u64 {
        bell.sleepers().load(Ordering::Relaxed)
    }

    #[test]
    fn a_strike_after_listening_ends_the_wait_at_once() {
        let bell = bell();
        let listener = bell.listen();
        bell.strike();
        assert_eq!(listener.wait(None), Woken::Struck);
        assert_eq!(sleepers(&bell), 0);
    }

    #[test]
    fn a_strike_that_nobody_listens_for_changes_nothing() {
        let bell = bell();
        bell.strike();
        bell.strike_all();
        assert_eq!(bell.count().load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_wait_lasts_as_long_as_its_timeout() {
        let (bell, timeout, start) = (bell(), Duration::from_millis(20), Instant::now());
        assert_eq!(bell.listen().wait(Some(timeout)), Woken::TimedOut);
        assert!(start.elapsed() >= timeout);
        assert_eq!(sleepers(&bell), 0);
    }

    #[test]
    fn a_listener_that_does_not_wait_is_unregistered() {
        let bell = bell();
        let (first, second) = (bell.listen(), bell.listen());
        assert_eq!(sleepers(&bell), 2);
        drop((first, second));
        assert_eq!(sleepers(&bell), 0);
    }

    #[test]
    fn the_longest_timeout_there_is_can_be_asked_for() {
        let bell = bell();
        let listener = bell.listen();
        bell.strike();
        assert_eq!(listener.wait(Some(Duration::MAX)), Woken::Struck);
    }

    #[test]
    fn a_strike_for_all_wakes_every_sleeper() {
        let bell = bell();
        let (registered, all) = mpsc::channel();
        let waiters: Vec<_> = (0..4)
            .map(|_| {
                let (bell, registered) = (bell.clone(), registered.clone());
                thread::spawn(move || {
                    let listener = bell.listen();
                    registered.send(()).unwrap();
                    listener.wait(LONG)
                })
            })
            .collect();
        for _ in &waiters {
            all.recv().unwrap();
        }
        bell.strike_all();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Woken::Struck);
        }
        assert_eq!(sleepers(&bell), 0);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no signals")]
    fn a_signal_interrupts_a_wait() {
        extern "C" fn ignore(_signal: libc::c_int) {}
        // SAFETY: an all-zero sigaction is a valid one, with no flags and an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = ignore as *const () as usize;
        // SAFETY: `action` is initialised, its handler does nothing, and no other test uses this signal.
        assert_eq!(unsafe { libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()) }, 0);

        let bell = bell();
        let waiter = thread::spawn({
            let bell = bell.clone();
            move || bell.listen().wait(LONG)
        });
        while !waiter.is_finished() {
            // SAFETY: `waiter` was not joined yet, so its thread id is still its own.
            unsafe { libc::pthread_kill(waiter.as_pthread_t(), libc::SIGUSR1) };
            thread::yield_now();
        }
        assert_eq!(waiter.join().unwrap(), Woken::Interrupted);
        assert_eq!(sleepers(&bell), 0);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no shared mappings")]
    fn two_mappings_of_one_memory_share_their_bell() {
        let memory = crate::Memory::create("forkright-test", Bell::BYTES as u64).unwrap();
        let map = || Region::mapped(memory.map(0, Bell::BYTES as u64, crate::Access::Shared).unwrap());
        let (here, there) = (Bell::open(&map(), 0), Bell::open(&map(), 0));
        let (registered, ready) = mpsc::channel();
        let waiter = thread::spawn(move || {
            let listener = there.listen();
            registered.send(()).unwrap();
            listener.wait(LONG)
        });
        ready.recv().unwrap();
        here.strike();
        assert_eq!(waiter.join().unwrap(), Woken::Struck);
        assert_eq!(sleepers(&here), 0);
    }

    #[test]
    fn scribbled_words_wake_or_time_out_and_nothing_else() {
        let bell = bell();
        for words in [(0, u64::MAX), (u64::MAX, 0), (u64::MAX, u64::MAX), (u64::from(u32::MAX), 1 << 63)] {
            bell.count().store(words.0, Ordering::Relaxed);
            bell.sleepers().store(words.1, Ordering::Relaxed);
            bell.strike();
            bell.strike_all();
            assert_eq!(bell.listen().wait(Some(Duration::from_millis(1))), Woken::TimedOut);
        }
    }
}
