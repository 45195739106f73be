//! The pid of this process without a system call. Whatever belongs to a process asks whether it still is in that one
//! or in a fork of it, and some ask at each task: a system call takes a tenth of a task's time.
#![expect(
    clippy::disallowed_types,
    reason = "no part of the protocol: nobody else reads it, and loom knows no fork"
)]

use std::process;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering::*};

use rustix::mm::{Advice, MapFlags, ProtFlags};

/// The word that keeps it, which the kernel has a forked child find zero. Null before the first call.
static KEPT: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());
/// Stands in its place where the kernel has no such memory: never written.
static NOTHING: AtomicU32 = AtomicU32::new(0);

/// As [`std::process::id`].
#[must_use]
pub fn current() -> u32 {
    let kept = KEPT.load(Acquire);
    if kept.is_null() {
        return first();
    }
    // SAFETY: what is not null is `NOTHING` or the first word of a page that `make_page` mapped, is aligned as pages
    // are, and is never unmapped.
    let kept = unsafe { &*kept };
    match kept.load(Relaxed) {
        0 => {
            let pid = process::id();
            if !ptr::eq(kept, &raw const NOTHING) {
                kept.store(pid, Relaxed);
            }
            pid
        }
        pid => pid,
    }
}

/// Makes the page. No lock: a fork in the middle of it must not leave its child waiting for one.
#[cold]
fn first() -> u32 {
    let page = make_page().unwrap_or((&raw const NOTHING).cast_mut());
    // Who comes second leaves a page unused: it happens once, and to unmap it would be a way to be wrong.
    let _ = KEPT.compare_exchange(ptr::null_mut(), page, AcqRel, Acquire);
    current()
}

fn make_page() -> Option<*mut AtomicU32> {
    let len = rustix::param::page_size();
    // SAFETY: a null hint lets the kernel choose an address that is free, so no memory in use is replaced.
    let page = unsafe {
        rustix::mm::mmap_anonymous(
            ptr::null_mut(),
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
    };
    let page = page.ok()?;
    // SAFETY: all of the page is ours, nobody has seen it yet, and the advice changes none of its bytes here.
    unsafe { rustix::mm::madvise(page, len, Advice::LinuxWipeOnFork) }.ok()?;
    Some(page.cast())
}
