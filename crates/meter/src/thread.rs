//! Threads that measure: the program must not notice them.

use std::io;
use std::mem::MaybeUninit;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The shortest turn that the kernel grants.
const TURN: Duration = Duration::from_micros(100);

/// Starts a thread with all signals blocked: Python's handlers must never run there.
pub fn spawn_quiet<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let mut all = MaybeUninit::<libc::sigset_t>::zeroed();
    let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
    // A thread inherits the mask of the one that starts it: so there is no moment at which it has another.
    // SAFETY: the first call makes a valid set of `all`, which the second reads; `before` is only written to.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
    }
    let thread = thread::Builder::new().name(name.into()).spawn(body);
    // SAFETY: `before` is the mask this thread had.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    thread
}

/// Runs `body` in the calling thread, without the signal that a file beyond the limit of sizes would mean for it.
pub(crate) fn without_file_size_signal<T>(body: impl FnOnce() -> T) -> T {
    let mut one = MaybeUninit::<libc::sigset_t>::zeroed();
    let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
    let mut pending = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: `one` is made a valid set before it is read; the other two are only written to.
    unsafe {
        libc::sigemptyset(one.as_mut_ptr());
        libc::sigaddset(one.as_mut_ptr(), libc::SIGXFSZ);
        libc::sigpending(pending.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_BLOCK, one.as_ptr(), before.as_mut_ptr());
    }
    let made = body();
    let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: all three were written above: by the kernel, or as a valid set.
    unsafe {
        if libc::sigismember(pending.as_ptr(), libc::SIGXFSZ) == 0 {
            libc::sigtimedwait(one.as_ptr(), std::ptr::null_mut(), &at_once);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut());
    }
    made
}

/// Waits until the kernel has forgotten a thread that was joined, which takes it a moment more.
pub fn wait_gone(tid: i32) {
    let path = format!("/proc/self/task/{tid}");
    while std::fs::exists(&path).unwrap_or(false) {
        thread::yield_now();
    }
}

/// Has the kernel let the calling thread run for so short a time at once that it may run as soon as it wakes up: one that
/// computes need not end its turn before (Linux 6.12; before, and where it is refused, nothing changes).
pub(crate) fn take_short_turns() {
    #[repr(C)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        policy: libc::SCHED_OTHER as u32,
        flags: 0,
        // As it is.
        nice: rustix::process::nice(0).unwrap_or(0),
        priority: 0,
        runtime: TURN.as_nanos() as u64,
        deadline: 0,
        period: 0,
    };
    // SAFETY: the kernel reads `size` bytes of the attributes, which live through the call; 0 is the calling thread.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
}
