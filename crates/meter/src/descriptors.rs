//! A descriptor table for one thread alone.
//!
//! A program may close descriptors it did not open, as every daemon does, and counts on getting the lowest free number
//! for the next it opens. A thread that keeps files open beside it must not be in its way, nor write into a file that
//! has got its descriptor's number. So it leaves the program's table.

use std::fs::File;
use std::os::fd::IntoRawFd;

/// Gives the calling thread a table of its own with nothing in it; whether that could be done, which takes Linux 5.9.
///
/// Threads that it starts share its table, so it must start none. What is opened here must be dropped here: the number
/// means something else in other threads.
pub(crate) fn separate() -> bool {
    // SAFETY: the thread leaves the table that other threads use, so no descriptor that anybody owns is closed in it;
    // the caller owns none here.
    let separated =
        unsafe { libc::syscall(libc::SYS_close_range, 0_u32, u32::MAX, libc::CLOSE_RANGE_UNSHARE) } == 0;
    if separated {
        // What is written to the standard streams, as a panic does, must not find other files there.
        for _ in 0..3 {
            if let Ok(nothing) = File::open("/dev/null") {
                let _ = nothing.into_raw_fd();
            }
        }
    }
    separated
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsRawFd;

    #[test]
    fn what_one_thread_opens_and_closes_is_nothing_to_the_others() {
        let folder = std::env::temp_dir();
        let path = folder.join(format!("forkright-descriptors-{}", std::process::id()));
        let mut file = File::create(&path).expect("a file");
        let number = file.as_raw_fd();
        let other = std::thread::spawn(move || {
            assert!(separate());
            let opened: Vec<i32> = (0..8).map(|_| File::open("/").expect("the root").into_raw_fd()).collect();
            // SAFETY: any number may be asked for.
            (unsafe { libc::fcntl(number, libc::F_GETFD) }, opened)
        });
        let (_, opened) = other.join().expect("no panic");
        assert!(opened.iter().all(|number| *number > 2), "{opened:?}");
        file.write_all(b"still mine").expect("it is open");
        assert_eq!(std::fs::read(&path).expect("readable"), b"still mine");
        std::fs::remove_file(&path).expect("it is there");
    }
}
