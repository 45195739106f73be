//! The atomics and the futex of this crate, real or as loom models them. Used by `region`, `ring` and `bell`;
//! holds no protocol of its own.
//!
//! `clippy.toml` forbids atomics elsewhere, so that loom sees every one of them. The names below are aliases
//! and functions, not re-exports: the lint follows a re-export to its origin.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

use std::time::Duration;

use rustix::io::Errno;

pub(crate) use self::world::Word;

/// Orders everything before it against everything after it, between all threads that do the same.
pub(crate) fn full_fence() {
    world::fence(world::Ordering::SeqCst);
}

pub(crate) use std::sync::atomic::Ordering;

/// Sleeps while the low half of `word` is `expected`, at most for `timeout`.
///
/// `Ok` means woken (perhaps for no reason), `AGAIN` that the word had changed already, `TIMEDOUT` and `INTR`
/// what they say.
pub(crate) fn futex_wait(word: &Word, expected: u32, timeout: Option<Duration>) -> Result<(), Errno> {
    world::futex_wait(word, expected, timeout)
}

/// Wakes up to `count` sleepers of `word`.
pub(crate) fn futex_wake(word: &Word, count: u32) {
    world::futex_wake(word, count);
}

#[cfg(not(loom))]
mod world {
    pub(super) use std::sync::atomic::{Ordering, fence};

    pub(super) use super::kernel::{futex_wait, futex_wake};

    /// One shared word.
    pub(crate) type Word = std::sync::atomic::AtomicU64;
}

#[cfg(not(any(loom, miri)))]
mod kernel {
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    use rustix::io::Errno;
    use rustix::thread::futex;

    use super::Word;

    // No PRIVATE flag: the sleeper and the waker may live in different processes, with the page mapped at
    // different addresses.
    const SHARED: futex::Flags = futex::Flags::empty();

    pub(super) fn futex_wait(word: &Word, expected: u32, timeout: Option<Duration>) -> Result<(), Errno> {
        // A timeout beyond what the kernel can express is as good as none.
        let timeout = timeout.and_then(|timeout| futex::Timespec::try_from(timeout).ok());
        futex::wait(low_half(word), SHARED, expected, timeout.as_ref())
    }

    pub(super) fn futex_wake(word: &Word, count: u32) {
        // The one possible failure is an address the kernel cannot read, and a reference is none such.
        let _woken = futex::wake(low_half(word), SHARED, count);
    }

    /// The half of `word` that a 32-bit futex compares. Only the kernel ever reads through it.
    fn low_half(word: &Word) -> &AtomicU32 {
        let half = if cfg!(target_endian = "little") { 0 } else { 1 };
        // SAFETY: a `Word` is 8 bytes aligned to 8, so both of its halves are valid for an `AtomicU32` as long
        // as `word` is borrowed, and atomics allow writes behind a shared reference. The futex calls above
        // pass the address on and read nothing through it, so no access of ours has mixed sizes.
        unsafe { AtomicU32::from_ptr(word.as_ptr().cast::<u32>().add(half)) }
    }
}

/// Miri takes the kernel's look at half a word for one of ours, of another size than all others: a race to it. Here a
/// sleeper looks itself, at the whole word.
#[cfg(miri)]
mod kernel {
    use std::sync::atomic::Ordering;
    use std::time::{Duration, Instant};

    use rustix::io::Errno;

    use super::Word;

    pub(super) fn futex_wait(word: &Word, expected: u32, timeout: Option<Duration>) -> Result<(), Errno> {
        let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        if word.load(Ordering::Relaxed) as u32 != expected {
            return Err(Errno::AGAIN);
        }
        while word.load(Ordering::Relaxed) as u32 == expected {
            if end.is_some_and(|end| Instant::now() >= end) {
                return Err(Errno::TIMEDOUT);
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    pub(super) fn futex_wake(_word: &Word, _count: u32) {}
}

#[cfg(loom)]
mod world {
    pub(super) use loom::sync::atomic::{Ordering, fence};
    use loom::sync::{Condvar, Mutex};
    use rustix::io::Errno;
    use std::time::Duration;

    pub(crate) type Word = loom::sync::atomic::AtomicU64;

    loom::lazy_static! {
        // One queue for all futexes of a model: a model has one bell.
        static ref QUEUE: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
    }

    /// No timeouts here: a strike that is slept through must show up as a deadlock.
    pub(super) fn futex_wait(word: &Word, expected: u32, _timeout: Option<Duration>) -> Result<(), Errno> {
        let (mutex, condvar) = &*QUEUE;
        let guard = mutex.lock().map_err(|_| Errno::FAULT)?;
        if word.load(Ordering::Relaxed) as u32 != expected {
            return Err(Errno::AGAIN);
        }
        drop(condvar.wait(guard));
        Ok(())
    }

    pub(super) fn futex_wake(_word: &Word, count: u32) {
        let (mutex, condvar) = &*QUEUE;
        let _guard = mutex.lock();
        if count == 1 {
            condvar.notify_one();
        } else {
            condvar.notify_all();
        }
    }
}
