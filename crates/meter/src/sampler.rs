//! The thread that looks at the workers.
//!
//! The binding makes one per process and shares it: workers [`enter`](Sampler::enter) it, the engine's supervisor
//! [`watch`](Sampler::watch)es. Without it a running task would say nothing until it ends. The thread is started for
//! the first watch, owns no Python state, and costs nothing while nobody watches.

use std::collections::HashMap;
use std::mem;
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{io, process};

use crate::class::Class;
use crate::clock::Charge;
use crate::gil::{Gil, Unknown};
use crate::schedule::Schedule;
use crate::slot::{Glimpse, Seat, Seats, Slot};
use crate::task_file::TaskFile;
use crate::thread::{spawn_quiet, take_short_turns, wait_gone};
use crate::thrift::{self, Thrift};
use crate::watch::{Glance, Look, Pace, Watch};
use crate::{clock, descriptors, lock};

/// Threads looked at per tick: each costs about 2 µs, so of more than these a random choice is looked at.
const CROWD: usize = 16;

/// How late the kernel may end the thread's waits.
const SLACK: NonZeroU64 = NonZeroU64::new(1_000).expect("not zero");

/// Of more threads that are ready at once most queue for a core: asking for each would cost more than it tells.
const FEW: usize = 2;

/// For so long it leaves its core to threads that woke up when it did.
const AWAY: Duration = Duration::from_micros(50);
/// Back later than this after it left, it was given a core when another thread gave one up: no time like any other.
const LATE: Duration = Duration::from_micros(250);

/// A sampler of one GIL, or of the rest that can be told where that is unknown.
///
/// Dropping it ends its thread. In a process forked from the one that made it there is no such thread: there it may
/// only be dropped, and a new one made.
#[derive(Debug)]
pub struct Sampler {
    room: Arc<Room>,
    thread: Mutex<Option<JoinHandle<i32>>>,
    process: u32,
}

/// What measuring has cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// How often the workers were looked at.
    pub ticks: u64,
    /// CPU time of the sampler's thread, watches included.
    pub cpu: Duration,
    /// For how long somebody watched.
    pub wall: Duration,
}

impl Cost {
    /// What it has cost since `before`.
    pub fn since(&self, before: &Cost) -> Cost {
        Cost {
            ticks: self.ticks.saturating_sub(before.ticks),
            cpu: self.cpu.saturating_sub(before.cpu),
            wall: self.wall.saturating_sub(before.wall),
        }
    }
}

impl Sampler {
    /// A sampler that knows this much of the GIL. It starts no thread yet.
    pub fn new(gil: Result<Gil, Unknown>) -> Arc<Sampler> {
        Sampler::with(gil, false)
    }

    /// A sampler whose thread has a descriptor table of its own, so that it can look at programs which
    /// know nothing of it. Its watches must start no thread.
    pub fn apart(gil: Result<Gil, Unknown>) -> Arc<Sampler> {
        Sampler::with(gil, true)
    }

    fn with(gil: Result<Gil, Unknown>, apart: bool) -> Arc<Sampler> {
        let room = Arc::new(Room {
            gil,
            apart,
            seats: Arc::new(Seats::new()),
            arrivals: Mutex::default(),
            closed: AtomicBool::new(false),
            due: AtomicU64::new(u64::MAX),
            tid: AtomicI32::new(0),
            ticks: AtomicU64::new(0),
            watched: AtomicU64::new(0),
            spent: AtomicU64::new(0),
        });
        Arc::new(Sampler { room, thread: Mutex::default(), process: process::id() })
    }

    /// The GIL it reads, or why it can't.
    pub fn gil(&self) -> Result<&Gil, Unknown> {
        self.room.gil.as_ref().map_err(|unknown| *unknown)
    }

    /// Registers the calling thread, which runs Python with this thread state.
    pub fn enter(&self, thread_state: usize) -> Slot {
        match self.room.apart {
            true => self.enter_for(clock::current_tid(), thread_state),
            false => self.room.seats.enter(thread_state),
        }
    }

    /// Registers another thread of this process with a sampler that is [apart](Sampler::apart).
    pub(crate) fn enter_for(&self, tid: i32, thread_state: usize) -> Slot {
        self.room.seats.enter_with(tid, thread_state, None)
    }

    /// Has `watch` called after every sampling, for the first time within about a millisecond, until it is done or
    /// dropped. Fails only where a thread is needed and can't be had.
    pub fn watch(&self, watch: Weak<dyn Watch>) -> io::Result<()> {
        let mut thread = lock(&self.thread);
        let thread = match &mut *thread {
            Some(thread) => thread,
            none => none.insert(self.start()?),
        };
        lock(&self.room.arrivals).push(watch);
        // To wake a thread takes longer than many a map.
        let soon = (clock::monotonic() + Pace::Learning.period().unwrap_or_default()).as_nanos() as u64;
        if self.room.due.load(Ordering::Acquire) > soon {
            thread.thread().unpark();
        }
        Ok(())
    }

    /// Ends the thread until [`Sampler::resume`]. For a fork, which should find as few threads as possible: when this
    /// returns the kernel counts the thread no more. Not to be called by a watch.
    pub fn pause(&self) {
        let Some(thread) = lock(&self.thread).take() else { return };
        self.room.closed.store(true, Ordering::Release);
        thread.thread().unpark();
        if let Ok(tid) = thread.join() {
            wait_gone(tid);
        }
        self.room.closed.store(false, Ordering::Release);
    }

    /// Goes on after a [`Sampler::pause`], with the same watches.
    pub fn resume(&self) -> io::Result<()> {
        let mut thread = lock(&self.thread);
        if thread.is_none() && !lock(&self.room.arrivals).is_empty() {
            *thread = Some(self.start()?);
        }
        Ok(())
    }

    fn start(&self) -> io::Result<JoinHandle<i32>> {
        let room = Arc::clone(&self.room);
        spawn_quiet("forkright-meter", move || run(&room))
    }

    /// What measuring has cost so far.
    pub fn cost(&self) -> Cost {
        let running = clock::thread_cpu_of(self.room.tid.load(Ordering::Relaxed)).unwrap_or_default();
        Cost {
            ticks: self.room.ticks.load(Ordering::Relaxed),
            cpu: running + Duration::from_nanos(self.room.spent.load(Ordering::Relaxed)),
            wall: Duration::from_nanos(self.room.watched.load(Ordering::Relaxed)),
        }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        let thread = self.thread.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        let Some(thread) = thread else { return };
        if process::id() != self.process {
            // The thread stayed in the process that this one was forked from; its handle is a name of nothing.
            mem::forget(thread);
            return;
        }
        self.room.closed.store(true, Ordering::Release);
        thread.thread().unpark();
        // A watch may have owned the last reference: then this is the thread itself, about to see that it's over.
        if thread.thread().id() != thread::current().id() {
            let _ = thread.join();
        }
    }
}

/// What the sampler and its thread share.
#[derive(Debug)]
struct Room {
    gil: Result<Gil, Unknown>,
    /// Whether the thread leaves the program's descriptors alone.
    apart: bool,
    seats: Arc<Seats>,
    arrivals: Mutex<Vec<Weak<dyn Watch>>>,
    closed: AtomicBool,
    /// When the thread looks for arrivals again, by itself, in nanoseconds of the monotonic clock; `u64::MAX` if never. It
    /// is told before they are taken, under their lock: who comes later sees it.
    due: AtomicU64,
    /// The thread's id, once it runs.
    tid: AtomicI32,
    ticks: AtomicU64,
    /// Nanoseconds during which somebody watched.
    watched: AtomicU64,
    /// Nanoseconds of CPU time that threads took which have been [paused](Sampler::pause).
    spent: AtomicU64,
}

/// The thread: parked while nobody watches, sampling while somebody does. After the last one it looks for another once
/// more, within a millisecond: small maps come one after another, and waking it would be dear. Returns its id.
fn run(room: &Room) -> i32 {
    // Refused only by kernels that don't know it; then ticks come some 50 µs late.
    let _ = rustix::thread::set_current_timer_slack(Some(SLACK));
    take_short_turns();
    let tid = clock::current_tid();
    let mut files = room.apart.then(|| Files { kept: descriptors::separate(), ..Files::default() });
    room.tid.store(tid, Ordering::Relaxed);
    let eager = Pace::Learning.period().unwrap_or_default();
    let mut schedule = Schedule::new(clock::monotonic().as_nanos() as u64 ^ tid as u64);
    let mut watches: Vec<Weak<dyn Watch>> = Vec::new();
    let (mut crowd, mut looks) = (Vec::new(), Vec::new());
    let mut before = Duration::ZERO;
    let mut thrift = Thrift::begin(clock::thread_cpu());
    let mut parked = true;
    while !room.closed.load(Ordering::Acquire) {
        let now = clock::monotonic();
        let is_over = watches.is_empty() && now >= schedule.next();
        let due = if is_over { u64::MAX } else { schedule.next().as_nanos() as u64 };
        room.due.store(due, Ordering::Release);
        let mut arrivals = mem::take(&mut *lock(&room.arrivals));
        if !arrivals.is_empty() {
            if watches.is_empty() {
                before = now;
            }
            if mem::take(&mut parked) {
                schedule.begin(now, eager);
            } else {
                schedule.hasten(now, eager);
            }
            watches.append(&mut arrivals);
        } else if is_over {
            parked = true;
            thread::park();
            continue;
        }
        if now < schedule.next() {
            // Ended early by arrivals and by closing, for which it looks again.
            thread::park_timeout(schedule.next() - now);
        } else {
            let (now, holder) = sample(room, &mut crowd, &mut looks, &mut schedule, files.as_mut());
            room.ticks.fetch_add(1, Ordering::Relaxed);
            room.watched.fetch_add((now - before).as_nanos() as u64, Ordering::Relaxed);
            before = now;
            let switches = room.gil.as_ref().ok().and_then(Gil::switches);
            let pace = tick(&mut watches, &Glance { now, holder, switches, looks: &looks });
            let per_tick = thrift.tick(clock::thread_cpu());
            match pace.period() {
                Some(period) => schedule.advance(now, thrift::stretch(period, per_tick, pace.limit())),
                None => schedule.begin(now, eager),
            }
        }
    }
    // Also those that came too late for a look.
    watches.append(&mut *lock(&room.arrivals));
    watches.retain(|watch| {
        let rest = |watch: Arc<dyn Watch>| catch_unwind(AssertUnwindSafe(|| watch.rest())).unwrap_or(false);
        watch.upgrade().is_some_and(rest)
    });
    // For the thread that goes on, if one does.
    lock(&room.arrivals).append(&mut watches);
    room.spent.fetch_add(clock::thread_cpu().as_nanos() as u64, Ordering::Relaxed);
    room.tid.store(0, Ordering::Relaxed);
    tid
}

/// The files of a sampler that is apart: none of the program's threads may close them.
#[derive(Default)]
struct Files {
    by_seat: HashMap<u64, TaskFile>,
    /// Whether they may stay open: not where the program has the same descriptors.
    kept: bool,
    looks: usize,
}

impl Files {
    fn of(&mut self, seat: &Seat) -> &TaskFile {
        self.by_seat.entry(seat.id()).or_insert_with(|| seat.open())
    }

    /// After a tick: closes the files of threads that are not busy any more, once in as many ticks as there are files.
    fn tidy(&mut self, busy: &[Arc<Seat>]) {
        self.looks += 1;
        if !self.kept {
            self.by_seat.clear();
        } else if self.looks > self.by_seat.len() {
            self.looks = 0;
            self.by_seat.retain(|id, _| busy.iter().any(|seat| seat.id() == *id));
        }
    }
}

/// Looks at the busy workers, or at some of them; returns when it did, and who held the GIL then.
///
/// A thread that is ready and has no core may have woken up as the sampler did, which has its core now: above all one
/// that is being given the GIL. So when the sampler sees such a thread, it leaves the core for a moment and looks again.
/// Without that, of two threads that took turns on the GIL, with a core for each, 4 % of the looks found one without a
/// core, which it was without for 0.7 % of the time. A second look that comes late is forgotten: of two threads that slept
/// and computed in turn, such looks found the moment at which one gave up the GIL, and 2 % of the time was missed.
fn sample(
    room: &Room,
    crowd: &mut Vec<Arc<Seat>>,
    looks: &mut Vec<Look>,
    schedule: &mut Schedule,
    mut files: Option<&mut Files>,
) -> (Duration, Option<usize>) {
    let gil = room.gil.as_ref().ok();
    looks.clear();
    room.seats.collect_busy(crowd);
    let size = crowd.len();
    if size > CROWD {
        for index in 0..CROWD {
            crowd.swap(index, index + schedule.below(size - index));
        }
    }
    let mut look = || {
        // Whom others wait for is asked before each of them is looked at: later it may be somebody else.
        let (now, holder) = (clock::monotonic(), gil.and_then(Gil::holder));
        let glimpse = |seat: &Arc<Seat>| seat.glimpse(gil, files.as_mut().map(|files| files.of(seat)));
        let mut glimpses: Vec<_> = crowd.iter().take(CROWD).map(glimpse).collect();
        let woken = find_displaced(crowd, &mut glimpses);
        (now, holder, glimpses, woken)
    };
    let (mut now, mut holder, mut glimpses, woken) = look();
    if woken {
        thread::sleep(AWAY);
        let again = look();
        if again.0.saturating_sub(now) <= LATE {
            (now, holder, glimpses, _) = again;
        }
    }
    let holding = holder.and_then(|holder| crowd.iter().find(|seat| seat.is(holder)));
    // Asked when somebody waits, once: the holder goes on meanwhile.
    let mut name = None;
    looks.extend(crowd.iter().zip(glimpses).filter_map(|(seat, glimpse)| {
        Some(seat.count(glimpse?, now, || {
            // Whoever released the GIL a moment ago and wants it back does not wait for itself.
            holder.filter(|holder| !seat.is(*holder))?;
            Some(name.get_or_insert_with(|| holding.and_then(|seat| seat.runs())).clone())
        }))
    }));
    if let Some(files) = files {
        files.tidy(crowd);
    }
    crowd.clear();
    (now, holder)
}

/// Of the threads that are ready, finds those that had a core until the sampler took it: they computed. Returns whether
/// any of the others may have woken up just now.
fn find_displaced(crowd: &[Arc<Seat>], glimpses: &mut [Option<Glimpse>]) -> bool {
    let mut ready: Vec<_> = crowd
        .iter()
        .zip(glimpses)
        .filter_map(|(seat, glimpse)| {
            Some((seat, glimpse.as_mut().filter(|seen| seen.class == Class::Ready)?))
        })
        .collect();
    if ready.is_empty() || ready.len() > FEW {
        return false;
    }
    // Not every kernel tells. Then there is nothing to be learned by looking again.
    let Some(own) = Charge::last_of(clock::current_tid()) else { return false };
    let mut woken = false;
    for (seat, glimpse) in &mut ready {
        if seat.last_charge().is_some_and(|charge| charge.meets(own)) {
            glimpse.class = Class::OffGil;
        } else {
            woken = true;
        }
    }
    woken
}

/// Calls the watches, forgets those that are done or gone, and returns the most eager pace.
fn tick(watches: &mut Vec<Weak<dyn Watch>>, glance: &Glance<'_>) -> Pace {
    let mut pace = Pace::Done;
    watches.retain(|watch| {
        let wanted = watch.upgrade().map_or(Pace::Done, |watch| {
            catch_unwind(AssertUnwindSafe(|| watch.tick(glance))).unwrap_or(Pace::Done)
        });
        pace = pace.min(wanted);
        wanted != Pace::Done
    });
    pace
}
