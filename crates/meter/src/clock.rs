//! The clocks that tasks are read with.
//!
//! Workers read them around a task, the sampler while one runs. Thread clocks are exact and cost about 0.7 µs;
//! `getrusage` would be cheaper, but advances in steps of a scheduler tick and so knows nothing of short tasks.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::task_file::TaskFile;

/// Time since some fixed moment, never turned back.
pub fn monotonic() -> Duration {
    duration(clock_gettime(ClockId::Monotonic))
}

/// CPU time the calling thread has used.
pub fn thread_cpu() -> Duration {
    duration(clock_gettime(ClockId::ThreadCPUTime))
}

/// CPU time all threads of this process have used.
pub fn process_cpu() -> Duration {
    duration(clock_gettime(ClockId::ProcessCPUTime))
}

/// CPU time another thread of this process has used; `None` if this process has no such thread.
pub fn thread_cpu_of(tid: i32) -> Option<Duration> {
    // The kernel's numbering of thread clocks: the complement of the id above three bits that say "of one thread"
    // (4) and "as scheduled" (2). The C library makes the same number, but only from a pthread_t.
    let clock = (!tid << 3) | 6;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec that lives through the call; any clock number may be asked for.
    let answer = unsafe { libc::clock_gettime(clock, &mut time) };
    (tid > 0 && answer == 0).then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// The kernel's id of the calling thread.
pub fn current_tid() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

fn duration(time: Timespec) -> Duration {
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// How long one thread could have run but had no core: what its time off the CPU owes to others, not to waiting.
///
/// `/proc/self/task/<tid>/schedstat`, as of Linux 2.6.23; absent where the kernel was built without it.
#[derive(Debug)]
pub struct RunDelay(TaskFile);

impl RunDelay {
    /// For the calling thread.
    pub fn of_this_thread() -> RunDelay {
        RunDelay(TaskFile::of(current_tid(), "schedstat"))
    }

    /// The sum since the thread began.
    pub fn read(&self) -> Option<Duration> {
        parse_delay(self.0.read(&mut [0; 96])?)
    }
}

/// The same for another thread of this process, without a file that stays open.
pub fn run_delay_of(tid: i32) -> Option<Duration> {
    parse_delay(&std::fs::read(format!("/proc/self/task/{tid}/schedstat")).ok()?)
}

/// The second of three numbers: CPU time, run delay, time slices.
fn parse_delay(text: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(text).ok()?;
    text.split_ascii_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_threads_cpu_is_what_that_thread_reads_itself() {
        let (tell, told) = std::sync::mpsc::channel();
        let (let_go, may_go) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let before = thread_cpu();
            while thread_cpu() < before + Duration::from_millis(5) {}
            tell.send((current_tid(), thread_cpu())).expect("the test listens");
            let _ = may_go.recv();
            thread_cpu()
        });
        let (tid, early) = told.recv().expect("the thread tells");
        let seen = thread_cpu_of(tid).expect("the thread runs");
        drop(let_go);
        let late = thread.join().expect("no panic");
        assert!(early <= seen && seen <= late, "{early:?} <= {seen:?} <= {late:?}");
        assert!(late <= process_cpu());
    }

    #[test]
    fn a_thread_of_nobody_has_no_clock() {
        assert_eq!(thread_cpu_of(0), None);
        assert_eq!(thread_cpu_of(-1), None);
        assert_eq!(thread_cpu_of(1), None, "init is no thread of this process");
    }
}
