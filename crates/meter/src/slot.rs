//! A worker's place at the sampler: which task its thread runs, and what it was last seen doing.
//!
//! The worker marks its tasks on its [`Slot`]; the sampler looks at the seat behind it; anybody may ask a [`View`].

use std::cell::Cell;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::class::{self, Class, State};
use crate::clock::Charge;
use crate::gil::Gil;
use crate::tally::Tally;
use crate::task_file::TaskFile;
use crate::watch::Look;
use crate::{clock, lock};

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

    /// Runs `body`, which is not the doing of the thread's task, if it runs one.
    pub fn apart<T>(&self, body: impl FnOnce() -> T) -> T {
        let was_busy = self.seat.is_busy();
        self.end();
        let value = body();
        if was_busy {
            // Its tally is still the seat's.
            self.seat.task.fetch_add(1, Ordering::Release);
        }
        value
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
}

/// What a task was doing at one moment, before it is counted.
pub(crate) struct Glimpse {
    task: u64,
    tally: Arc<Tally>,
    pub(crate) class: Class,
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

    /// Looks what the thread is doing, if it runs a task. `syscall` is the sampler's file, if it keeps those.
    pub(crate) fn glimpse(&self, gil: Option<&Gil>, syscall: Option<&TaskFile>) -> Option<Glimpse> {
        // The tally is fixed before the look: a task that ends meanwhile was still the one running.
        let (task, tally) = {
            let desk = lock(&self.desk);
            (self.task.load(Ordering::Acquire), desk.tally.clone())
        };
        let tally = tally.filter(|_| task & 1 == 1)?;
        Some(Glimpse { task, tally, class: self.look(gil, syscall) })
    }

    /// See [`Charge::last_of`].
    pub(crate) fn last_charge(&self) -> Option<Charge> {
        Charge::last_of(self.tid)
    }

    /// Counts what was seen at that time. `blame` is asked who held the GIL if it waited for that.
    pub(crate) fn count(
        &self,
        Glimpse { task, tally, class }: Glimpse,
        now: Duration,
        blame: impl FnOnce() -> Option<Option<Arc<str>>>,
    ) -> Look {
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
        Look { slot: self.id, class }
    }

    fn look(&self, gil: Option<&Gil>, syscall: Option<&TaskFile>) -> Class {
        match self.look_once(gil, syscall) {
            Class::OffGil if !self.has_core() => Class::Ready,
            class => class,
        }
    }

    /// Whether the thread's clock goes on. The kernel calls a thread that waits for a core running, too.
    fn has_core(&self) -> bool {
        let read = || clock::thread_cpu_of(self.tid);
        // Its clock may not be had: then what the kernel says has to do.
        read().zip(read()).is_none_or(|(before, after)| after > before)
    }

    fn look_once(&self, gil: Option<&Gil>, syscall: Option<&TaskFile>) -> Class {
        let holds = |gil: &Gil| gil.holder() == Some(self.thread_state);
        match gil {
            Some(gil) if holds(gil) => match self.state(syscall) {
                // The kernel was asked a moment after the GIL: the thread may have released it to block, which is
                // no sin. It held it at the first look, in any case.
                Some(State::Futex(_) | State::Sleep | State::Call | State::Blocked) if holds(gil) => {
                    Class::HeldBlocked
                }
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
        let seat = Arc::new(Seat {
            id: self.count.fetch_add(1, Ordering::Relaxed),
            tid,
            thread_state,
            syscall,
            task: AtomicU64::new(0),
            desk: Mutex::new(Desk { tally: None, sight }),
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
