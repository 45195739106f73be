//! A worker's place at the sampler: which task its thread runs, and what it was last seen doing.
//!
//! The worker marks its tasks on its [`Slot`]; the sampler looks at the seat behind it; anybody may ask a [`View`].

use std::cell::Cell;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::class::{self, Class, State};
use crate::gil::Gil;
use crate::tally::Tally;
use crate::task_file::TaskFile;
use crate::watch::Look;
use crate::{clock, lock};

/// A thread's clock that was read longer ago than this tells nothing of the present.
const LATELY: Duration = Duration::from_millis(50);

/// What a worker was doing at the last tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// What it was doing; [`Class::Unknown`] also if it runs no task or its task was not seen yet.
    pub class: Class,
    /// For how long it had been seen doing nothing else, within its present task.
    pub streak: Duration,
}

/// A thread's registration with the sampler: it ends when dropped, which the thread does before its thread state
/// dies.
///
/// In a process forked from the one that made it a slot is good for nothing but being dropped.
#[derive(Debug)]
pub struct Slot {
    seat: Arc<Seat>,
    seats: Arc<Seats>,
    /// The address of the tally that the seat keeps alive: a comparison spares the lock.
    tally: Cell<usize>,
}

impl Slot {
    /// Marks that the thread runs a task of the function counted in `tally`, until [`Slot::end`] or the next begin.
    ///
    /// A task inside a task is marked by beginning it, and by beginning the outer one again afterwards.
    pub fn begin(&self, tally: &Arc<Tally>) {
        // Odd: busy. Only this thread writes it.
        let task = (self.seat.task.load(Ordering::Relaxed) + 1) | 1;
        if self.tally.get() == Arc::as_ptr(tally).addr() {
            self.seat.task.store(task, Ordering::Release);
            return;
        }
        let mut desk = lock(&self.seat.desk);
        // Under the lock, so that whoever sees this task under it also sees its tally.
        self.seat.task.store(task, Ordering::Release);
        let previous = desk.tally.replace(Arc::clone(tally));
        self.tally.set(Arc::as_ptr(tally).addr());
        drop(desk);
        drop(previous);
    }

    /// Marks that the thread runs no task.
    pub fn end(&self) {
        let task = self.seat.task.load(Ordering::Relaxed);
        self.seat.task.store(task + (task & 1), Ordering::Release);
    }

    /// What names it in a [`Glance`](crate::Glance): no other slot of its sampler ever has the same.
    pub fn id(&self) -> u64 {
        self.seat.id
    }

    /// What the thread was doing at the last tick.
    pub fn standing(&self) -> Standing {
        self.seat.standing()
    }

    /// The same for other threads to ask.
    pub fn view(&self) -> View {
        View(Arc::clone(&self.seat))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.end();
        self.seats.remove(&self.seat);
    }
}

/// A look at some thread's [`Slot`], also after its end.
#[derive(Debug, Clone)]
pub struct View(Arc<Seat>);

impl View {
    /// What the thread was doing at the last tick.
    pub fn standing(&self) -> Standing {
        self.0.standing()
    }

    /// The kernel's id of the thread, as [`clock::thread_cpu_of`] takes it.
    pub fn tid(&self) -> i32 {
        self.0.tid
    }
}

/// A registered thread.
#[derive(Debug)]
pub(crate) struct Seat {
    id: u64,
    tid: i32,
    /// Its thread state: compared with the GIL's holder, never followed; 0 if it isn't known.
    thread_state: usize,
    /// Its `/proc/…/syscall`; a sampler that is [apart](crate::Sampler::apart) has it with its own files.
    syscall: Option<TaskFile>,
    /// Which task it runs: odd while it runs one, and another number for each.
    task: AtomicU64,
    desk: Mutex<Desk>,
}

/// What worker and sampler hand each other.
#[derive(Debug)]
struct Desk {
    /// The tally of the present task, or of the last one.
    tally: Option<Arc<Tally>>,
    sight: Sight,
    progress: Progress,
}

/// How far the thread's CPU clock had come when it was last read.
#[derive(Debug, Clone, Copy)]
struct Progress {
    at: Duration,
    cpu: Duration,
    /// What is owed to [`Class::OffGil`], in samples.
    owed: f64,
}

/// What was seen of a task.
#[derive(Debug, Clone, Copy)]
struct Sight {
    task: u64,
    class: Class,
    first: Duration,
    last: Duration,
}

impl Seat {
    fn standing(&self) -> Standing {
        let sight = lock(&self.desk).sight;
        if sight.task == self.task.load(Ordering::Acquire) {
            Standing { class: sight.class, streak: sight.last.saturating_sub(sight.first) }
        } else {
            Standing { class: Class::Unknown, streak: Duration::ZERO }
        }
    }

    fn is_busy(&self) -> bool {
        self.task.load(Ordering::Acquire) & 1 == 1
    }

    /// Names it: no other seat of its sampler ever has the same.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Opens its `/proc/…/syscall` for a sampler that keeps it.
    pub(crate) fn open(&self) -> TaskFile {
        TaskFile::of(self.tid, "syscall")
    }

    /// Whether this thread has that thread state.
    pub(crate) fn is(&self, thread_state: usize) -> bool {
        self.thread_state == thread_state
    }

    /// The name of the function whose task it runs.
    pub(crate) fn runs(&self) -> Option<Arc<str>> {
        let desk = lock(&self.desk);
        desk.tally.as_ref().filter(|_| self.is_busy()).map(|tally| Arc::clone(tally.name()))
    }

    /// Looks what the thread is doing and counts it, if it runs a task. `blame` is asked who held the GIL if it
    /// waits for that. `syscall` is the sampler's file, if it keeps those.
    pub(crate) fn sample(
        &self,
        gil: Option<&Gil>,
        now: Duration,
        syscall: Option<&TaskFile>,
        blame: impl FnOnce() -> Option<Option<Arc<str>>>,
    ) -> Option<Look> {
        // The tally is fixed before the look: a task that ends meanwhile was still the one running.
        let (task, tally) = {
            let desk = lock(&self.desk);
            (self.task.load(Ordering::Acquire), desk.tally.clone())
        };
        let tally = tally.filter(|_| task & 1 == 1)?;
        let class = self.look(gil, now, syscall);
        tally.count(class);
        if class == Class::GilWait
            && let Some(by) = blame()
        {
            tally.blame_on(by.as_ref());
        }
        let mut desk = lock(&self.desk);
        let seen = desk.sight;
        let first = if seen.task == task && seen.class == class { seen.first } else { now };
        desk.sight = Sight { task, class, first, last: now };
        Some(Look { slot: self.id, class })
    }

    fn look(&self, gil: Option<&Gil>, now: Duration, syscall: Option<&TaskFile>) -> Class {
        let class = self.look_once(gil, syscall);
        let mut desk = lock(&self.desk);
        let waits = |class| matches!(class, Class::Io | Class::LockWait);
        if waits(class) && waits(desk.sight.class) {
            // Its clock stands still.
            return class;
        }
        let Some(cpu) = clock::thread_cpu_of(self.tid) else { return class };
        let computed = desk.progress.advance(now, cpu);
        match class {
            Class::OffGil if !desk.progress.has_core(computed) => Class::Ready,
            class => class,
        }
    }

    fn look_once(&self, gil: Option<&Gil>, syscall: Option<&TaskFile>) -> Class {
        let holds = |gil: &Gil| gil.holder() == Some(self.thread_state);
        match gil {
            Some(gil) if holds(gil) => match self.state(syscall) {
                // The kernel was asked a moment after the GIL: the thread may have released it to block, which is
                // no sin. It held it at the first look, in any case.
                Some(State::Futex(_) | State::Call | State::Blocked) if holds(gil) => Class::HeldBlocked,
                _ => Class::Held,
            },
            _ => {
                match class::without_gil(self.state(syscall), gil.map(|gil| |address| gil.covers(address))) {
                    // It may be the holder, for all that is known.
                    Class::OffGil if self.thread_state == 0 => Class::Unknown,
                    class => class,
                }
            }
        }
    }

    fn state(&self, syscall: Option<&TaskFile>) -> Option<State> {
        let mut content = [0; 256];
        class::parse(syscall.or(self.syscall.as_ref())?.read(&mut content)?)
    }
}

impl Progress {
    /// So far the clock has come now; returns the part of the time since it was last read that it ran, if that is not
    /// too long ago to say anything of this moment.
    fn advance(&mut self, now: Duration, cpu: Duration) -> Option<f64> {
        let (passed, ran) = (now.saturating_sub(self.at), cpu.saturating_sub(self.cpu));
        (self.at, self.cpu) = (now, cpu);
        (passed <= LATELY).then(|| ran.as_secs_f64() / passed.as_secs_f64().max(1e-9))
    }

    /// Whether a thread that is ready is to be taken to compute. The kernel calls both running; and to look whether it
    /// has a core at this very moment would mislead, as it may be the sampler that has just taken it away. So of all
    /// such looks as many count as computing as there was time that the thread computed.
    fn has_core(&mut self, computed: Option<f64>) -> bool {
        let Some(computed) = computed else { return true };
        self.owed += computed.min(1.0);
        let has = self.owed >= 1.0;
        self.owed -= f64::from(u8::from(has));
        has
    }
}

/// All registered threads.
#[derive(Debug)]
pub(crate) struct Seats {
    list: Mutex<Vec<Arc<Seat>>>,
    /// How many there have ever been.
    count: AtomicU64,
    /// In a fork the lock may be held for ever by a thread that isn't there.
    process: u32,
}

impl Seats {
    pub(crate) fn new() -> Seats {
        Seats { list: Mutex::default(), count: AtomicU64::new(0), process: process::id() }
    }

    /// Registers the calling thread.
    pub(crate) fn enter(self: &Arc<Self>, thread_state: usize) -> Slot {
        let tid = clock::current_tid();
        self.enter_with(tid, thread_state, Some(TaskFile::of(tid, "syscall")))
    }

    /// Registers a thread, for a sampler that opens `/proc/…/syscall` itself if there is none here.
    pub(crate) fn enter_with(
        self: &Arc<Self>,
        tid: i32,
        thread_state: usize,
        syscall: Option<TaskFile>,
    ) -> Slot {
        let sight = Sight { task: 0, class: Class::Unknown, first: Duration::ZERO, last: Duration::ZERO };
        let progress = Progress { at: Duration::ZERO, cpu: Duration::ZERO, owed: 0.5 };
        let seat = Arc::new(Seat {
            id: self.count.fetch_add(1, Ordering::Relaxed),
            tid,
            thread_state,
            syscall,
            task: AtomicU64::new(0),
            desk: Mutex::new(Desk { tally: None, sight, progress }),
        });
        lock(&self.list).push(Arc::clone(&seat));
        Slot { seat, seats: Arc::clone(self), tally: Cell::new(0) }
    }

    fn remove(&self, seat: &Arc<Seat>) {
        if process::id() != self.process {
            return;
        }
        let mut list = lock(&self.list);
        if let Some(index) = list.iter().position(|other| Arc::ptr_eq(other, seat)) {
            list.swap_remove(index);
        }
    }

    /// Adds the threads that run a task to `busy`.
    pub(crate) fn collect_busy(&self, busy: &mut Vec<Arc<Seat>>) {
        busy.extend(lock(&self.list).iter().filter(|seat| seat.is_busy()).cloned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fresh() -> Progress {
        Progress { at: Duration::ZERO, cpu: Duration::ZERO, owed: 0.5 }
    }

    proptest! {
        #[test]
        fn as_many_looks_count_as_computing_as_there_was_time_that_it_computed(
            parts in proptest::collection::vec(0.0..=1.0_f64, 1..200),
        ) {
            let mut progress = fresh();
            let counted = parts.iter().filter(|part| progress.has_core(Some(**part))).count();
            let computed: f64 = parts.iter().sum();
            prop_assert!((counted as f64 - computed).abs() <= 1.0, "{counted} of {computed}");
        }
    }

    #[test]
    fn a_clock_that_was_read_long_ago_takes_no_core_away() {
        let mut progress = fresh();
        let early = progress.advance(Duration::from_secs(1), Duration::from_millis(10));
        assert!(early.is_none() && progress.has_core(early));
        let soon = progress.advance(Duration::from_millis(1_010), Duration::from_millis(10));
        assert!(soon == Some(0.0) && !progress.has_core(soon));
    }
}
