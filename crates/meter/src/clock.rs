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

/// CPU time that programs have used which this process started, and whose end it has been told of.
pub fn children_cpu() -> Duration {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is a rusage that lives through the call.
    if unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()) } != 0 {
        return Duration::ZERO;
    }
    // SAFETY: all zeros are a rusage, and the call has filled it.
    let usage = unsafe { usage.assume_init() };
    let time = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1_000);
    time(usage.ru_utime) + time(usage.ru_stime)
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

/// When a thread got its core, lost it, or, while it has it, was charged for it last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Charge {
    /// Which core. Each has a clock of its own, which does not count what interrupts and other machines take.
    core: u32,
    at: Duration,
}

impl Charge {
    /// Of a thread of this process. `None` where the kernel doesn't tell (`/proc/self/task/<tid>/sched`; before
    /// Linux 6.15 only with `CONFIG_SCHED_DEBUG`, which distributions have).
    pub(crate) fn last_of(tid: i32) -> Option<Charge> {
        let read = |name| std::fs::read(format!("/proc/self/task/{tid}/{name}")).ok();
        Some(Charge { core: parse_core(&read("stat")?)?, at: parse_charged(&read("sched")?)? })
    }

    /// Whether it was on the same core at the same time as another, so that one thread made room for the other.
    pub(crate) fn meets(self, other: Charge) -> bool {
        self.core == other.core && self.at.abs_diff(other.at) <= MOMENT
    }
}

/// One turn on a core begins within this time of the end of the one before.
const MOMENT: Duration = Duration::from_micros(3);

/// The 39th of the numbers; the second is a name in parentheses, which may contain any.
fn parse_core(stat: &[u8]) -> Option<u32> {
    let name = stat.iter().rposition(|byte| *byte == b')')?;
    std::str::from_utf8(&stat[name + 1..]).ok()?.split_ascii_whitespace().nth(36)?.parse().ok()
}

/// A line `se.exec_start : 18150550.913411`, in milliseconds.
fn parse_charged(text: &[u8]) -> Option<Duration> {
    let line = text.split(|byte| *byte == b'\n').find(|line| line.starts_with(b"se.exec_start "))?;
    let (whole, fraction) = std::str::from_utf8(line).ok()?.rsplit_once(' ')?.1.split_once('.')?;
    let nanoseconds = Duration::from_nanos(fraction.parse().ok().filter(|_| fraction.len() == 6)?);
    Duration::from_millis(whole.parse().ok()?).checked_add(nanoseconds)
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
    fn the_schedulers_words_are_understood() {
        let sched = b"python (1, #threads: 1)\n---\nse.exec_start            :      18150550.913411\nse.vruntime : 1.0\n";
        assert_eq!(parse_charged(sched), Some(Duration::from_nanos(18_150_550_913_411)));
        assert_eq!(parse_charged(b"se.exec_start : 12\n"), None);
        assert_eq!(parse_charged(b"se.exec_start : 12.34\n"), None);
        let numbers: Vec<String> = (4..=52).map(|number| number.to_string()).collect();
        assert_eq!(parse_core(format!("1 (a) 7) S {}", numbers.join(" ")).as_bytes()), Some(39));
        assert_eq!(parse_core(b"1 (a) S 4"), None);
    }

    #[test]
    fn a_threads_charges_meet_only_where_one_made_room_for_the_other() {
        assert_eq!(Charge::last_of(-1), None);
        let charge = |core, micros| Charge { core, at: Duration::from_micros(micros) };
        assert!(charge(1, 1_000).meets(charge(1, 1_002)) && charge(1, 1_002).meets(charge(1, 1_000)));
        assert!(!charge(1, 1_000).meets(charge(0, 1_000)) && !charge(1, 1_000).meets(charge(1, 1_020)));
    }

    #[test]
    fn a_thread_of_nobody_has_no_clock() {
        assert_eq!(thread_cpu_of(0), None);
        assert_eq!(thread_cpu_of(-1), None);
        assert_eq!(thread_cpu_of(1), None, "init is no thread of this process");
    }
}
