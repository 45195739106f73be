//! What is known of tasks of one function while they run: who runs them, what they cost so far. Shared by the
//! threads that run them, the one that sends them away and the governor that watches.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use forkright_engine::governor::Running;
use forkright_engine::payload::Cost;
use forkright_engine::profile::{Pickling, Profile, Reading};
use forkright_engine::state::State;
use forkright_meter::{Slot, View, clock};

use crate::ledger::Entry;
use crate::meter::{self, Spent};
use crate::onlooker::Onlooker;
use crate::pause;

pub(crate) struct Progress {
    /// Tells its messages from others' in the crew they share.
    pub(crate) owner: u32,
    /// Threads of this process that may run tasks.
    pub(crate) width: AtomicU32,
    /// Nudged when something came that a coordinator or the caller waits for.
    pub(crate) word: Arc<State>,
    pub(crate) profile: Mutex<Profile>,
    pub(crate) entry: Entry,
    /// Has tasks looked at that no governor watches.
    pub(crate) onlooker: OnceLock<Arc<Onlooker>>,
    /// Tasks that have their outcome; those in worker processes.
    done: AtomicUsize,
    away: AtomicUsize,
    /// Threads of this process that run tasks now.
    here: AtomicU32,
    /// Whether any task has begun.
    begun: AtomicBool,
    /// Why a worker would not run them, once one has said so.
    refusal: OnceLock<String>,
    /// What the user may like to know of the random numbers that tasks draw.
    pub(crate) draws: OnceLock<String>,
    stations: Mutex<Vec<Arc<Station>>>,
    totals: Mutex<Totals>,
}

/// A thread of this process that runs tasks: what the meter may ask.
struct Station {
    view: View,
    /// When its chunk began, in nanoseconds of the monotonic clock; 0 while it runs none.
    began: AtomicU64,
    /// Tasks of that chunk.
    tasks: AtomicU32,
    /// For how long the thread had paused then.
    paused: AtomicU64,
}

impl Station {
    /// So many tasks begin at `now`. Returns for how long the thread had paused by then.
    fn mark(&self, tasks: usize, now: Duration) -> u64 {
        let now = now.as_nanos() as u64;
        let paused = pause::taken(self.view.tid(), now);
        self.tasks.store(u32::try_from(tasks).unwrap_or(u32::MAX), Release);
        self.paused.store(paused, Release);
        self.began.store(now.max(1), Release);
        paused
    }
}

/// What sending a message took.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sent {
    pub(crate) seconds: f64,
    pub(crate) bytes: f64,
    /// Threads of the worker process that run tasks side by side.
    pub(crate) threads: u32,
}

/// Sums for the report.
#[derive(Clone, Default)]
pub(crate) struct Totals {
    pub(crate) here: Cost,
    pub(crate) away: Cost,
    pub(crate) encode: f64,
    pub(crate) decode: f64,
    pub(crate) bytes_out: f64,
    pub(crate) bytes_back: f64,
    pub(crate) workers: Vec<Worker>,
}

/// One worker's part.
#[derive(Clone)]
pub(crate) struct Worker {
    /// A pid for a process, a thread id for a thread of this one.
    pub(crate) id: i32,
    pub(crate) is_process: bool,
    pub(crate) tasks: u64,
    pub(crate) busy: f64,
    pub(crate) cpu: f64,
}

/// What runs in this thread between two looks at its clocks, from [`Progress::begin`] to [`Progress::end`].
pub(crate) struct Stint {
    station: Arc<Station>,
    together: u32,
    first: bool,
    began: Duration,
    paused: u64,
    spent: Spent,
    /// Tasks that have ended, and those of them that raised.
    tasks: u32,
    failed: u32,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Progress {
    pub(crate) fn new(name: Arc<str>) -> Progress {
        static OWNERS: AtomicU32 = AtomicU32::new(1);
        Progress {
            owner: OWNERS.fetch_add(1, Relaxed),
            width: AtomicU32::new(1),
            word: Arc::default(),
            profile: Mutex::default(),
            entry: Entry::new(name),
            onlooker: OnceLock::new(),
            done: AtomicUsize::new(0),
            away: AtomicUsize::new(0),
            here: AtomicU32::new(0),
            begun: AtomicBool::new(false),
            refusal: OnceLock::new(),
            draws: OnceLock::new(),
            stations: Mutex::default(),
            totals: Mutex::default(),
        }
    }

    /// What the user called.
    pub(crate) fn name(&self) -> &Arc<str> {
        self.entry.name()
    }

    pub(crate) fn done(&self) -> usize {
        self.done.load(Acquire)
    }

    pub(crate) fn away(&self) -> usize {
        self.away.load(Acquire)
    }

    /// Threads of this process that run tasks now.
    pub(crate) fn here(&self) -> u32 {
        self.here.load(Acquire)
    }

    pub(crate) fn totals(&self) -> Totals {
        lock(&self.totals).clone()
    }

    /// Whether one task at most runs in this process. More may wait now and all compute a moment later.
    pub(crate) fn is_quiet(&self) -> bool {
        self.here() <= 1
    }

    /// Seconds a task takes, as far as known, and of how many that is known.
    pub(crate) fn pace(&self) -> (Option<f64>, u64) {
        let profile = lock(&self.profile);
        (profile.wall(), profile.tasks())
    }

    /// What the tasks in this process are doing at `now`, in nanoseconds of the monotonic clock.
    pub(crate) fn running(&self, now: u64) -> Vec<Running> {
        let stations = lock(&self.stations);
        let busy = stations.iter().filter_map(|station| match station.began.load(Acquire) {
            0 => None,
            began => {
                let (class, streak) = meter::class(&station.view);
                let paused =
                    pause::taken(station.view.tid(), now).saturating_sub(station.paused.load(Acquire));
                let elapsed = now.saturating_sub(began).saturating_sub(paused) as f64 * 1e-9;
                Some(Running { class, streak, elapsed, tasks: station.tasks.load(Acquire) })
            }
        });
        busy.collect()
    }

    /// The threads of this process that have run tasks.
    pub(crate) fn tids(&self) -> Vec<i32> {
        lock(&self.stations).iter().map(|station| station.view.tid()).collect()
    }

    fn station(&self, slot: &Slot) -> Arc<Station> {
        let view = slot.view();
        let mut stations = lock(&self.stations);
        if let Some(station) = stations.iter().find(|station| station.view.tid() == view.tid()) {
            return Arc::clone(station);
        }
        let (began, paused, tasks) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU32::new(1));
        let station = Arc::new(Station { view, began, tasks, paused });
        stations.push(Arc::clone(&station));
        station
    }

    /// So many tasks begin in this thread, one after another.
    pub(crate) fn begin(&self, slot: &Slot, tasks: usize) -> Stint {
        let station = self.station(slot);
        let together = self.here.fetch_add(1, AcqRel) + 1;
        slot.begin(&self.entry.tally);
        if let Some(onlooker) = self.onlooker.get() {
            onlooker.stir();
        }
        let began = clock::monotonic();
        let paused = station.mark(tasks, began);
        let first = !self.begun.swap(true, AcqRel);
        Stint { station, together, first, began, paused, spent: meter::spent(), tasks: 0, failed: 0 }
    }

    /// So many tasks of the stint have ended, of which `failed` raised.
    pub(crate) fn count(&self, stint: &mut Stint, tasks: u32, failed: u32) {
        stint.tasks += tasks;
        stint.failed += failed;
        self.done.fetch_add(tasks as usize, AcqRel);
    }

    /// The pace with what the stint has shown until now. None if it has lasted for long enough to be read.
    pub(crate) fn pace_within(&self, stint: &Stint, now: Duration) -> Option<(Option<f64>, u64)> {
        let lasted = now.saturating_sub(stint.began);
        let (seconds, seen) = self.pace();
        let (before, fresh) = (seen as f64, f64::from(stint.tasks));
        let sum = seconds.map_or(0.0, |seconds| seconds * before) + lasted.as_secs_f64();
        let weight = fresh + if seconds.is_some() { before } else { 0.0 };
        let seconds = (weight > 0.0).then(|| sum / weight);
        (lasted < meter::CPU_GRAIN).then_some((seconds, seen + u64::from(stint.tasks)))
    }

    /// So many more tasks begin within the stint.
    pub(crate) fn prolong(&self, slot: &Slot, stint: &Stint, tasks: usize, now: Duration) {
        slot.begin(&self.entry.tally);
        stint.station.mark(tasks, now);
    }

    /// It is over.
    pub(crate) fn end(&self, slot: &Slot, stint: Stint) -> Cost {
        let Stint { tasks, failed, .. } = stint;
        let spent = meter::spent().since(stint.spent);
        let now = clock::monotonic();
        let wall = now.saturating_sub(stint.began);
        let paused =
            pause::taken(stint.station.view.tid(), now.as_nanos() as u64).saturating_sub(stint.paused);
        let paused = Duration::from_nanos(paused);
        let cost = Cost {
            tasks,
            failed,
            cpu: spent.cpu,
            delay: spent.delay,
            wall: wall.saturating_sub(paused).as_secs_f64(),
            ..Cost::default()
        };
        stint.station.began.store(0, Release);
        slot.end();
        let together = self.here.fetch_sub(1, AcqRel).max(stint.together);
        lock(&self.profile).record(&Reading {
            tasks: tasks.into(),
            failed: failed.into(),
            wall: undelayed(&cost),
            delay: meter::tells_delay().then_some(cost.delay),
            cpu: Some(cost.cpu),
            together,
            sampled: true,
            first: stint.first,
            ..Reading::default()
        });
        self.entry.here(&cost);
        lock(&self.totals).add(false, stint.station.view.tid(), &cost);
        cost
    }

    /// Tasks left for a worker process.
    pub(crate) fn send(&self, tasks: usize, sent: Sent) {
        self.away.fetch_add(tasks, AcqRel);
        let mut totals = lock(&self.totals);
        totals.encode += sent.seconds;
        totals.bytes_out += sent.bytes;
    }

    /// They came back unstarted.
    pub(crate) fn recall(&self, tasks: usize) {
        self.away.fetch_sub(tasks, AcqRel);
    }

    /// A worker would not run them, for this reason: no more may be sent.
    pub(crate) fn refuse(&self, tasks: usize, reason: String) {
        let _ = self.refusal.set(reason);
        self.recall(tasks);
    }

    /// Why no more tasks may be sent to workers, if so.
    pub(crate) fn refusal(&self) -> Option<&str> {
        self.refusal.get().map(String::as_str)
    }

    /// They are back from wherever they were, and so many of them are done or failed.
    pub(crate) fn arrive(&self, tasks: usize, done: usize) {
        self.away.fetch_sub(tasks, AcqRel);
        self.done.fetch_add(done, AcqRel);
    }

    /// They will not run.
    pub(crate) fn drop_out(&self, tasks: usize) {
        self.done.fetch_add(tasks, AcqRel);
    }

    /// What those that came back cost. `decode` and `bytes` are of the results, as far as known here.
    pub(crate) fn learn(&self, cost: &Cost, pid: i32, sent: Sent, decode: Option<f64>, bytes: f64) {
        let arguments = Pickling { encode: Some(sent.seconds), decode: Some(cost.decode), bytes: sent.bytes };
        let results = Pickling { encode: Some(cost.encode), decode, bytes };
        lock(&self.profile).record(&Reading {
            tasks: cost.tasks.into(),
            failed: cost.failed.into(),
            wall: undelayed(cost),
            delay: meter::tells_delay().then_some(cost.delay),
            cpu: (cost.cpu > 0.0).then_some(cost.cpu),
            together: sent.threads.max(1),
            sampled: false,
            first: false,
            arguments: Some(arguments),
            results: Some(results),
        });
        self.entry.away(cost);
        let mut totals = lock(&self.totals);
        totals.add(true, pid, cost);
        totals.decode += decode.unwrap_or(0.0);
        totals.bytes_back += bytes;
    }
}

/// Seconds the tasks took, less those in which they had no core: that says something of the machine, not of them.
fn undelayed(cost: &Cost) -> f64 {
    (cost.wall - cost.delay).max(cost.cpu)
}

impl Totals {
    fn add(&mut self, is_process: bool, id: i32, cost: &Cost) {
        let sum = if is_process { &mut self.away } else { &mut self.here };
        sum.tasks += cost.tasks;
        sum.failed += cost.failed;
        sum.wall += cost.wall;
        sum.cpu += cost.cpu;
        let found = self.workers.iter().position(|worker| worker.id == id && worker.is_process == is_process);
        let index = found.unwrap_or_else(|| {
            self.workers.push(Worker { id, is_process, tasks: 0, busy: 0.0, cpu: 0.0 });
            self.workers.len() - 1
        });
        let worker = &mut self.workers[index];
        worker.tasks += u64::from(cost.tasks);
        worker.busy += cost.wall;
        worker.cpu += cost.cpu;
    }
}
