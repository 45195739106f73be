//! The worker processes of one pool, and the messages between them and this process.
//!
//! Whoever submits pushes under one short lock; whoever waits collects (see `lead`); a death is reported by
//! the warden's thread. No lock is held while a recipient is told anything, and recipients know nothing of
//! this file. Nothing here runs Python.
//!
//! **Invariant:** a parcel is in exactly one place: the backlog, one seat's queue, or delivered.

mod deadline;
mod dismissal;
mod lead;
#[cfg(test)]
mod liar;
mod obituary;
mod resting;
mod seat;
mod tidying;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use forkright_shm::arena::Block;
use forkright_shm::bell::{Bell, Woken};
use forkright_shm::memory::Memory;
use rustix::process::Signal;

pub use self::deadline::{End, Terms};
use self::lead::Lead;
pub use self::lead::{Duty, Sleeper};
pub use self::obituary::Obituary;
pub use self::seat::answered;
use self::seat::{MOST_FRAMES, Said, Seat, Stage};
use crate::cores;
use crate::frame::up;
use crate::line;
use crate::oom::Kills;
use crate::payload::{Buffer, Cost, Payload, Stream};
use crate::ranked::Ranked;
use crate::share::{Portion, SHARED, Share};
use crate::state::{State, Wait};
use crate::store::{Held, Inbox, Leased, Store};
use crate::warden::{Death, Employer, Helper, Order, Program, Warden};

/// Starts that failed one after another before any worker became ready, after which the crew gives up. Workers that
/// started side by side fail once: what killed them may be one thing, such as the end of the zygote.
const MOST_FAILED_STARTS: u32 = 3;
/// Notes that wait for the user at most: each is about a function, and comes once from each worker.
const MOST_NOTES: usize = 1 << 10;
/// A sleeper looks up after this long even if nothing rang: what is in shared memory is not trusted.
const LOOK_UP: Duration = Duration::from_millis(500);
/// Who waits for an answer looks for so long before it sleeps: the answer to a tiny task is there by then, and to be woken
/// takes longer.
const LINGER: Duration = Duration::from_micros(20);

/// A function, ready to be sent: once to each worker that needs it.
pub struct Blob {
    /// Names it on every line.
    pub id: u64,
    /// What rebuilds it.
    pub payload: Payload,
    /// What the payload occupies.
    pub leases: Vec<Arc<dyn Leased>>,
}

/// One message to some worker, and who gets the answer.
pub struct Parcel {
    /// From [`Crew::next_id`].
    pub id: u64,
    /// Whose it is: where several share a crew, one of them may end without the others.
    pub owner: u32,
    /// What it belongs to for `forkright.worker_state`: a map or an executor; 0 where the whole crew does.
    pub job: u32,
    /// One of `frame::down`.
    pub kind: u32,
    /// What must have been sent before.
    pub function: Option<Arc<Blob>>,
    /// Stands before the payload in a chunk.
    pub flags: Option<u8>,
    /// The arguments or items.
    pub payload: Payload,
    /// What the payload occupies.
    pub leases: Vec<Arc<dyn Leased>>,
    /// Tasks in it.
    pub tasks: u32,
    /// What was asked for it.
    pub terms: Terms,
    /// Who gets the answer.
    pub recipient: Arc<dyn Recipient>,
}

impl Parcel {
    /// Whether it or its function occupies memory beyond its message.
    fn is_heavy(&self) -> bool {
        !self.leases.is_empty() || self.function.as_ref().is_some_and(|blob| !blob.leases.is_empty())
    }
}

/// The caller's side of a message. Called without locks held, from any thread: must not block, nor run Python.
pub trait Recipient: Send + Sync {
    /// The message goes into a worker's queue. False: it was cancelled, leave it out.
    fn send(&self) -> bool;
    /// It came back from the queue unstarted.
    fn recall(&self);
    /// It came back, and will never run.
    fn abandon(self: Arc<Self>);
    /// The answer. Comes exactly once, unless the message was cancelled.
    fn deliver(self: Arc<Self>, delivery: Delivery);
}

/// An answer.
pub enum Delivery {
    /// The worker ran it.
    Outcome {
        /// What the payload is.
        kind: Outcome,
        /// What it cost.
        cost: Cost,
        /// The answer itself, still pickled.
        parcel: Arrived,
        /// The worker's pid.
        pid: i32,
    },
    /// The worker died while it ran it.
    Died(Arc<Obituary>),
    /// It was ended, and its worker with it.
    Ended {
        /// The worker's pid.
        pid: i32,
        /// Why.
        end: End,
    },
    /// No worker can be had; it was not begun.
    Broken(Arc<Break>),
}

/// What an answer's payload holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The value, or the list of a chunk's values.
    Value,
    /// The exception.
    Error,
    /// A list of (flag, bytes) for a chunk, as some of its items failed.
    Mixed,
    /// Nothing was run; the payload says why, in words.
    Refused,
}

/// Why a crew can have no workers.
pub enum Break {
    /// In words.
    Reason(String),
    /// Workers end before they are ready: in words, and what the last one wrote as it crashed.
    Stillborn(String, String),
    /// The exception a worker's start ended with, pickled.
    Unfit(Arrived),
}

impl Break {
    /// The reason in words, where it is not what the user's own initializer raised.
    pub fn words(&self) -> Option<&str> {
        match self {
            Break::Reason(words) | Break::Stillborn(words, _) => Some(words),
            Break::Unfit(_) => None,
        }
    }
}

/// A payload as it arrived: a pickled value, or words.
pub struct Arrived {
    /// The stream, where it came inline.
    pub inline: Vec<u8>,
    /// The stream, where it is in shared memory.
    pub stored: Option<Arc<Held>>,
    /// Its out-of-band buffers.
    pub buffers: Vec<ArrivedBuffer>,
}

/// An out-of-band buffer as it arrived.
pub enum ArrivedBuffer {
    /// In a block of its sender's.
    Stored(Arc<Held>),
    /// In a share, which is mapped here. None: the sender must not be believed that there is one.
    Here(Option<Arc<Share>>, Portion),
    /// In a share of the caller's, which is told when it is let go of here.
    Callers(Arc<Held>, Portion),
}

impl Arrived {
    /// The words of a payload that holds words.
    pub fn words(&self) -> String {
        String::from_utf8_lossy(&self.inline).into_owned()
    }

    /// Bytes that travelled.
    pub fn bytes(&self) -> u64 {
        let buffers = self.buffers.iter().filter_map(|buffer| match buffer {
            ArrivedBuffer::Stored(held) => Some(held),
            ArrivedBuffer::Here(..) | ArrivedBuffer::Callers(..) => None,
        });
        let held = self.stored.iter().chain(buffers).map(|held| held.len());
        // Their lengths are what the sender says.
        held.fold(self.inline.len() as u64, u64::saturating_add)
    }

    /// Takes charge of the blocks of a payload that came by `inbox`'s owner.
    pub fn receive(payload: Payload, inbox: &Arc<Inbox>) -> Arrived {
        let (inline, stored) = match payload.stream {
            Stream::Inline(bytes) => (bytes, None),
            Stream::Stored(block) => (Vec::new(), Some(Arc::new(inbox.hold(block)))),
        };
        let receive = |buffer| match buffer {
            Buffer::Stored(block) => ArrivedBuffer::Stored(Arc::new(inbox.hold(block))),
            Buffer::Shared(portion) if inbox.is_callers() => {
                let held = inbox.hold(Block { offset: SHARED | portion.key, len: portion.len });
                ArrivedBuffer::Callers(Arc::new(held), portion)
            }
            // It was sent to this worker before, so it is mapped here for as long as the worker has it.
            Buffer::Shared(portion) => ArrivedBuffer::Here(Share::find(portion.key), portion),
        };
        Arrived { inline, stored, buffers: payload.buffers.into_iter().map(receive).collect() }
    }
}

/// What workers are started with.
#[derive(Clone)]
pub struct Spec {
    /// Handed to the worker as it is.
    pub bytes: Arc<[u8]>,
    /// What to execute for a zygote.
    pub program: Program,
    /// Whether workers do nothing for this program in particular before they are ready: what a start takes is then what it
    /// takes on this machine.
    pub is_plain: bool,
}

/// Size and habits of a crew.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Worker processes at most.
    pub processes: u32,
    /// Threads in each.
    pub threads: u32,
    /// Workers among which the cores are shared: as many as that makes, or more where others are to come.
    pub sharing: u32,
    /// What ends a worker's time.
    pub renewal: Renewal,
}

impl Limits {
    /// The cores that each thread of a worker may take for what it starts in turn, as those of BLAS or more workers.
    pub fn share(&self) -> u32 {
        let workers = self.processes.max(1).saturating_mul(self.threads.max(1));
        (cores::usable().usable / workers.max(self.sharing)).max(1)
    }
}

/// After what a worker is replaced by a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Renewal {
    /// Tasks that it was sent.
    pub tasks: Option<u32>,
    /// Bytes of memory of its own, looked at between messages.
    pub memory: Option<u64>,
}

impl Renewal {
    /// Whether workers live as long as their crew.
    pub fn is_none(&self) -> bool {
        *self == Renewal::default()
    }
}

/// A worker's part in the work, for reports.
#[derive(Clone, Debug)]
pub struct Use {
    /// Its process.
    pub pid: i32,
    /// Tasks it finished.
    pub tasks: u64,
    /// Seconds it was busy.
    pub busy: f64,
    /// CPU seconds of its tasks.
    pub cpu: f64,
}

/// The worker processes of one pool.
pub struct Crew {
    yard: Mutex<Yard>,
    lead: Lead,
    bell: Bell,
    bell_memory: Memory,
    store: Arc<Store>,
    warden: Arc<Warden>,
    ids: AtomicU64,
    notes: Arc<Notes>,
    /// Threads that have taken answers out of the yard and not yet told all recipients.
    delivering: AtomicUsize,
    myself: Weak<Crew>,
}

/// What workers noted about functions, until somebody tells the user. Each is here before the answer it is about.
#[derive(Default)]
pub struct Notes {
    waiting: AtomicBool,
    texts: Mutex<Vec<String>>,
}

struct Yard {
    limits: Limits,
    backlog: Ranked<Parcel>,
    /// When the warden looks for tasks that are late.
    alarm: Option<Instant>,
    /// Large payloads have travelled since the warden was last asked to tidy up; when it will.
    untidy: bool,
    tidying: Option<Instant>,
    /// For how long workers may have nothing to do, when something came or went last, and when the warden looks.
    patience: Option<Duration>,
    used: Instant,
    resting: Option<Instant>,
    /// Not all that ever came had the same priority.
    ranked: bool,
    seats: Vec<Seat>,
    /// Workers that are gone, for the report.
    former: Vec<Use>,
    outstanding: usize,
    spec: Option<Spec>,
    /// Attempts in a row in which no worker became ready, and the deaths in them.
    failed_starts: u32,
    stillborn: u32,
    /// All attempts that failed so.
    mishaps: u64,
    /// A worker had more to say than was taken at once.
    unheard: bool,
    closing: bool,
    /// It was closed when no worker needed to be told to stop: nobody collects, perhaps, who would tell those that come later.
    unattended: bool,
    /// What every worker is sent, those that start yet included.
    dismissed: Option<Signal>,
    broken: Option<Arc<Break>>,
    notes: Arc<Notes>,
    /// Nudged when the last seat is empty.
    vacated: Arc<State>,
}

/// Deliveries to make once the lock is free.
type Post = Vec<(Arc<dyn Recipient>, Delivery)>;

/// What was taken back from a worker is the next again of its priority.
fn send_back(backlog: &mut Ranked<Parcel>, parcels: Vec<Parcel>) {
    for parcel in parcels.into_iter().rev() {
        backlog.restore(parcel.terms.priority, parcel);
    }
}

/// Tokens are unique in the process: the warden serves all crews.
static TOKENS: AtomicU64 = AtomicU64::new(1);

impl Crew {
    /// A crew without workers yet.
    pub fn create(limits: Limits, warden: Arc<Warden>) -> io::Result<Arc<Crew>> {
        let (bell_memory, bell) = line::create_bell()?;
        let store = Store::create("forkright-arguments")?;
        let notes = Arc::<Notes>::default();
        let yard = Yard {
            limits,
            backlog: Ranked::default(),
            alarm: None,
            untidy: false,
            tidying: None,
            patience: None,
            used: Instant::now(),
            resting: None,
            ranked: false,
            seats: Vec::new(),
            former: Vec::new(),
            outstanding: 0,
            spec: None,
            failed_starts: 0,
            stillborn: 0,
            mishaps: 0,
            unheard: false,
            closing: false,
            unattended: false,
            dismissed: None,
            broken: None,
            notes: Arc::clone(&notes),
            vacated: Arc::default(),
        };
        Ok(Arc::new_cyclic(|myself| Crew {
            yard: Mutex::new(yard),
            lead: Lead::default(),
            bell,
            bell_memory,
            store,
            warden,
            ids: AtomicU64::new(1),
            notes,
            delivering: AtomicUsize::new(0),
            myself: Weak::clone(myself),
        }))
    }

    /// Where large arguments are put before their parcel is submitted.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// What workers noted about functions.
    pub fn notes(&self) -> &Notes {
        &self.notes
    }

    /// An id for the next parcel or blob.
    pub fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Yard> {
        self.yard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a parcel; its recipient gets the answer. Returns how many more workers the crew could use now (if
    /// any, the caller should `hire` with a fresh spec), and whether messages wait for room or behind others: then somebody
    /// must collect, so the background thread should exist.
    pub fn submit(&self, parcel: Parcel) -> (u32, bool) {
        let mut yard = self.lock();
        if let Some(broken) = &yard.broken {
            let broken = Arc::clone(broken);
            drop(yard);
            parcel.recipient.deliver(Delivery::Broken(broken));
            return (0, false);
        }
        yard.outstanding += 1;
        yard.note_use();
        let Terms { limit, priority, .. } = parcel.terms;
        yard.ranked |= priority != 0;
        yard.untidy |= parcel.is_heavy();
        if yard.ranked {
            yard.line_up(priority);
        }
        yard.backlog.push(priority, parcel);
        yard.pump();
        if let Some(limit) = limit {
            self.watch(&mut yard, limit);
        }
        self.tidy_later(&mut yard);
        let waits = yard.has_waiting();
        let wanted = yard.wanted();
        drop(yard);
        if waits {
            self.lead.want();
        }
        (wanted, waits)
    }

    /// How many more messages the workers would take at once, those still to be hired included.
    pub fn appetite(&self) -> usize {
        let yard = self.lock();
        if yard.broken.is_some() {
            // Whoever submits learns why.
            return 1;
        }
        let room: usize = yard.seats.iter().map(Seat::room).sum();
        let to_come = yard.places() * yard.limits.threads;
        (room + to_come as usize).saturating_sub(yard.backlog.len())
    }

    /// How many more workers would have something to do.
    pub fn wanted(&self) -> u32 {
        self.lock().wanted()
    }

    /// Whether messages wait for room or behind others.
    pub fn has_waiting(&self) -> bool {
        self.lock().has_waiting()
    }

    /// Starts `count` workers, within the limits.
    pub fn hire(&self, count: u32, spec: Spec) -> io::Result<()> {
        let mut yard = self.lock();
        yard.spec = Some(spec);
        for _ in 0..count {
            if yard.places() == 0 || yard.broken.is_some() {
                break;
            }
            self.hire_one(&mut yard)?;
        }
        yard.pump();
        yard.note_use();
        self.rest_later(&mut yard);
        Ok(())
    }

    fn hire_one(&self, yard: &mut Yard) -> io::Result<()> {
        let Some(spec) = yard.spec.clone() else { return Ok(()) };
        let token = TOKENS.fetch_add(1, Relaxed);
        // One worker's readings stand for all of them: if it is gone, the next one's do.
        let metered = !yard.seats.iter().any(|seat| seat.metered && seat.stage != Stage::Stopping);
        let (mut seat, [line, results, last_words]) = Seat::create(token, &yard.limits, metered)?;
        let bell = self.bell_memory.fd().try_clone_to_owned()?;
        let fds = vec![line, results, self.store.share()?, bell, last_words];
        let order = Order {
            token,
            spec: spec.bytes.to_vec(),
            fds,
            output: output(),
            employer: self.myself.clone() as Weak<dyn Employer>,
        };
        seat.mishaps = yard.mishaps;
        // Orders are served one after another.
        let is_next = !yard.seats.iter().any(|seat| seat.stage == Stage::Starting);
        if is_next && spec.is_plain && self.warden.helper() == Helper::Ready {
            seat.time_start();
        }
        self.warden.start(spec.program, order).map_err(io::Error::other)?;
        yard.seats.push(seat);
        Ok(())
    }

    /// Kills workers that talk nonsense or must go for another reason, without what they started.
    fn kill_doomed(&self, doomed: Vec<u64>) {
        for token in doomed {
            self.warden.signal(token, Signal::KILL);
        }
    }

    /// Takes all that workers have said, delivers it, refills their queues. Returns the number delivered.
    pub fn collect(&self) -> usize {
        let (post, doomed) = {
            let mut yard = self.lock();
            let mut post = Post::new();
            let doomed = yard.hear(&mut post);
            if std::mem::take(&mut yard.unheard) {
                // Nobody may sleep yet.
                self.bell.strike();
            }
            yard.balance();
            yard.pump();
            self.tidy_later(&mut yard);
            if !post.is_empty() {
                yard.note_use();
            }
            if yard.backlog.is_empty() && yard.outstanding == 0 && yard.closing {
                yard.stop_all();
            }
            self.delivering.fetch_add(1, AcqRel);
            (post, doomed)
        };
        self.kill_doomed(doomed);
        self.deliver(post)
    }

    /// Tells the recipients, without the lock. It was counted in `delivering` under the lock: the crew must not seem
    /// finished before its last recipient knows, or nobody would be there for what that one wants done.
    fn deliver(&self, post: Post) -> usize {
        let count = post.len();
        for (recipient, delivery) in post {
            recipient.deliver(delivery);
        }
        self.delivering.fetch_sub(1, AcqRel);
        count
    }

    /// Whether `collect` would find something: a few loads.
    pub fn has_news(&self) -> bool {
        self.lock().seats.iter().any(Seat::has_news)
    }

    /// Waits until `done`, at most `limit`, collecting meanwhile as leader or following the leader.
    /// `word` is what the leader wakes when `done` may have become true.
    pub fn wait(&self, word: &Sleeper, done: &dyn Fn() -> bool, limit: Duration) -> Wait {
        let end = Instant::now() + limit;
        loop {
            if done() {
                return Wait::Over;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Wait::Again;
            }
            let ticket = (**word).as_ref().ticket();
            if self.lead.take_or_follow(word) {
                let outcome = self.lead_until(done, end);
                self.lead.resign();
                return outcome;
            }
            let outcome =
                if done() { Wait::Over } else { (**word).as_ref().wait_from(ticket, left.min(LOOK_UP)) };
            self.lead.leave(word);
            if outcome == Wait::Interrupted {
                return outcome;
            }
        }
    }

    fn lead_until(&self, done: &dyn Fn() -> bool, end: Instant) -> Wait {
        loop {
            let listening = self.bell.listen();
            let collected = self.collect();
            if done() {
                return Wait::Over;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Wait::Again;
            }
            if collected > 0 || self.linger() {
                continue;
            }
            if listening.wait(Some(left.min(LOOK_UP))) == Woken::Interrupted {
                return Wait::Interrupted;
            }
        }
    }

    /// Looks whether an answer comes at once; makes room for others on its core meanwhile.
    fn linger(&self) -> bool {
        let began = Instant::now();
        while began.elapsed() < LINGER {
            if self.has_news() {
                return true;
            }
            std::thread::yield_now();
        }
        false
    }

    /// The background thread's life: sleeps until it is needed, leads while it is. Returns when there may be
    /// something else to do (`also` holds, or nothing happened for `limit`), or when it is dismissed.
    pub fn serve(&self, limit: Duration, also: &dyn Fn() -> bool) -> Duty {
        let duty = self.lead.stand_by(limit, also);
        if duty == Duty::Lead {
            let enough = || also() || !self.lead.is_wanted() || self.is_settled();
            let _ = self.lead_until(&enough, Instant::now() + limit);
            let wants = self.lead.wants();
            if self.is_settled() {
                self.lead.unwant(wants);
            }
            self.lead.resign();
        }
        duty
    }

    fn is_settled(&self) -> bool {
        let yard = self.lock();
        yard.outstanding == 0 && (!yard.closing || yard.seats.is_empty())
    }

    /// From now on somebody collects even while nobody waits for a result.
    pub fn attend(&self) {
        self.lead.want();
    }

    /// Wakes the background thread, wherever it sleeps.
    pub fn call(&self) {
        self.lead.call();
        self.bell.strike_all();
    }

    /// Ends the background thread.
    pub fn dismiss(&self) {
        self.lead.dismiss();
        self.bell.strike_all();
    }

    /// Takes a message back if no worker has started it. Its recipient is recalled, not told anything else.
    pub fn revoke(&self, id: u64) -> bool {
        let mut yard = self.lock();
        let waiting = yard.backlog.remove(|parcel| parcel.id == id);
        let parcel = waiting.or_else(|| yard.seats.iter_mut().find_map(|seat| seat.revoke(id)));
        yard.outstanding -= usize::from(parcel.is_some());
        parcel.is_some()
    }

    /// Takes back all messages of `owner` no worker has started; their recipients are told that they will not run.
    pub fn abandon_waiting(&self, owner: u32) {
        let mut yard = self.lock();
        let mut waiting = yard.backlog.extract(|parcel| parcel.owner == owner);
        for seat in &mut yard.seats {
            waiting.extend(seat.revoke_all(owner));
        }
        yard.outstanding -= waiting.len();
        drop(yard);
        for parcel in waiting {
            parcel.recipient.abandon();
        }
    }

    /// Whether a worker has started the message; false also if it is not here any more.
    pub fn is_running(&self, id: u64) -> bool {
        self.lock().seats.iter().find_map(|seat| seat.has_taken(id)).unwrap_or(false)
    }

    /// No more parcels will come: workers end when all is done. Returns whether they do without anybody who collects; those
    /// that take their places, if they die, are seen off by the warden's thread then.
    pub fn close(&self) -> bool {
        let mut yard = self.lock();
        yard.closing = true;
        if yard.outstanding == 0 {
            yard.stop_all();
        }
        let end_alone =
            yard.backlog.is_empty() && yard.seats.iter().all(|seat| seat.stage == Stage::Stopping);
        yard.unattended = end_alone;
        drop(yard);
        self.lead.want();
        end_alone
    }

    /// Kills the workers that run messages of `owner`, but those that run another's beside them.
    pub fn kill_running(&self, owner: u32) {
        let mut post = Post::new();
        let mut yard = self.lock();
        // What has been answered does not run any more.
        let mut doomed = yard.hear(&mut post);
        let mut waiting = Vec::new();
        for seat in yard.seats.iter_mut().filter(|seat| seat.has_of(owner)) {
            // What it might still begin goes elsewhere.
            waiting.extend(seat.take_back(usize::MAX));
            if seat.has_only(owner) {
                seat.stage = Stage::Stopping;
                doomed.push(seat.token);
            }
        }
        send_back(&mut yard.backlog, waiting);
        yard.pump();
        self.delivering.fetch_add(1, AcqRel);
        drop(yard);
        self.kill_doomed(doomed);
        self.deliver(post);
    }

    /// Signals every worker, or those that have something to do.
    pub fn signal(&self, signal: Signal, busy: bool) {
        let yard = self.lock();
        let meant = yard.seats.iter().filter(|seat| !busy || !seat.inflight.is_empty());
        let tokens: Vec<u64> = meant.map(|seat| seat.token).collect();
        drop(yard);
        for token in tokens {
            self.warden.signal(token, signal);
        }
    }

    /// Waits until the last worker is gone, at most `limit`.
    pub fn wait_vacated(&self, limit: Duration) -> Wait {
        let word: Sleeper = Arc::clone(&self.lock().vacated) as Sleeper;
        self.wait(&word, &|| self.is_vacated(&self.lock()), limit)
    }

    /// Why no worker could be had, if so.
    pub fn broken(&self) -> Option<Arc<Break>> {
        self.lock().broken.clone()
    }

    /// Whether it was closed, has nothing left to do and no worker left.
    pub fn is_finished(&self) -> bool {
        let yard = self.lock();
        yard.closing && yard.outstanding == 0 && self.is_vacated(&yard)
    }

    fn is_vacated(&self, yard: &Yard) -> bool {
        yard.seats.is_empty() && self.delivering.load(Acquire) == 0
    }

    /// Messages not delivered yet.
    pub fn outstanding(&self) -> usize {
        self.lock().outstanding
    }

    /// Pids of the workers that have a process.
    pub fn pids(&self) -> Vec<i32> {
        self.lock().seats.iter().map(|seat| seat.pid).filter(|pid| *pid != 0).collect()
    }

    /// As [`Limits::share`], now.
    pub fn share(&self) -> u32 {
        self.lock().limits.share()
    }

    /// Workers that are ready for work.
    pub fn ready(&self) -> u32 {
        self.lock().seats.iter().filter(|seat| seat.stage == Stage::Ready).count() as u32
    }

    /// What each worker did so far, those that are gone included.
    pub fn uses(&self) -> Vec<Use> {
        let yard = self.lock();
        yard.former.iter().cloned().chain(yard.seats.iter().map(usage)).collect()
    }

    /// Allows more or fewer workers, with so many threads each; `sharing` as in [`Limits`]. Processes beyond the limit end
    /// after their work.
    pub fn resize(&self, processes: u32, threads: u32, sharing: u32) {
        let mut yard = self.lock();
        yard.limits = Limits { processes, threads, sharing, ..yard.limits };
        let share = yard.limits.share();
        let Yard { seats, backlog, .. } = &mut *yard;
        for seat in seats {
            // Behind these it would be read when the few threads there are have come to their end.
            let waiting = if threads > seat.threads() { seat.take_back(usize::MAX) } else { Vec::new() };
            seat.set_threads(threads, share);
            send_back(backlog, waiting);
        }
        yard.pump();
        let serving = yard.seats.iter().filter(|seat| seat.stage != Stage::Stopping).count();
        let surplus = serving.saturating_sub(processes as usize);
        for seat in yard.seats.iter_mut().rev().filter(|seat| seat.stage != Stage::Stopping).take(surplus) {
            seat.stop();
            seat.ring();
        }
    }
}

impl Notes {
    fn add(&self, text: String) {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        if texts.len() < MOST_NOTES {
            texts.push(text);
        }
        drop(texts);
        self.waiting.store(true, Release);
    }

    /// Takes those there are; costs one load if there are none.
    pub fn take(&self) -> Vec<String> {
        if !self.waiting.load(Acquire) {
            return Vec::new();
        }
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.store(false, Release);
        std::mem::take(&mut *texts)
    }
}

impl Yard {
    /// Workers that may still be had.
    fn places(&self) -> u32 {
        let taken = self.seats.iter().filter(|seat| !seat.condemned).count();
        self.limits.processes.saturating_sub(taken as u32)
    }

    fn wanted(&self) -> u32 {
        let places = self.places();
        let is_over = self.dismissed.is_some() || self.closing && self.outstanding == 0;
        if places == 0 || self.broken.is_some() || is_over {
            return 0;
        }
        // Processes before threads: two messages in one process take turns on its GIL.
        let serving = self.seats.iter().filter(|seat| seat.stage != Stage::Stopping).count();
        (self.outstanding.saturating_sub(serving) as u32).min(places)
    }

    fn has_waiting(&self) -> bool {
        // One behind another may have to go elsewhere, to a worker that is not ready yet or that is done sooner.
        let threads = self.limits.threads as usize;
        let elsewhere = self.limits.processes > 1;
        !self.backlog.is_empty() || elsewhere && self.seats.iter().any(|seat| seat.inflight.len() > threads)
    }

    /// Hands the backlog to the seats with room, the least loaded first.
    fn pump(&mut self) {
        while !self.backlog.is_empty() {
            let least = self
                .seats
                .iter_mut()
                .filter(|seat| seat.room() > 0)
                .min_by_key(|seat| (seat.inflight.len(), seat.stage != Stage::Ready));
            let Some(seat) = least else { break };
            let Some(parcel) = self.backlog.pop() else { break };
            let before = seat.inflight.len();
            match seat.hand(parcel) {
                // Not handed over, though not refused: it had been cancelled.
                Ok(()) => self.outstanding -= usize::from(seat.inflight.len() == before),
                Err(parcel) => {
                    self.backlog.restore(parcel.terms.priority, parcel);
                    break;
                }
            }
        }
        for seat in &mut self.seats {
            seat.release();
            seat.ring();
        }
    }

    /// Moves messages that wait behind others to workers with nothing to do, from the longest queue first.
    fn balance(&mut self) {
        while self.backlog.is_empty() {
            let idle: usize = self.seats.iter().map(Seat::idle).sum();
            if idle == 0 {
                return;
            }
            // What a worker that starts has waits, too; but it will be the first there.
            let richest =
                self.seats.iter_mut().max_by_key(|seat| (seat.surplus(), seat.stage == Stage::Ready));
            let Some(richest) = richest else { return };
            let surplus = richest.surplus();
            let taken = richest.take_back(surplus.div_ceil(2).max(idle.min(surplus)));
            if taken.is_empty() {
                return;
            }
            for parcel in taken {
                self.backlog.push(parcel.terms.priority, parcel);
            }
            self.pump();
        }
    }

    /// Takes what the workers said. Returns the tokens of those that talk nonsense.
    fn hear(&mut self, post: &mut Post) -> Vec<u64> {
        let mut doomed = Vec::new();
        let mut unfit = None;
        for seat in &mut self.seats {
            let mut frames = MOST_FRAMES;
            loop {
                match seat.hear(&mut frames) {
                    Ok(None) => break,
                    Ok(Some(Said::Ready)) => (self.failed_starts, self.stillborn) = (0, 0),
                    Ok(Some(Said::Unfit(payload))) => {
                        unfit = Some(Break::Unfit(Arrived::receive(payload, seat.inbox())));
                        seat.stage = Stage::Stopping;
                    }
                    Ok(Some(Said::Leaving)) => {
                        // It ends by itself: what it has not begun runs elsewhere.
                        seat.stage = Stage::Stopping;
                        send_back(&mut self.backlog, seat.take_back(usize::MAX));
                    }
                    Ok(Some(Said::Note(text))) => self.notes.add(text),
                    Ok(Some(Said::Answer { parcel, kind, cost, payload })) => {
                        self.outstanding -= 1;
                        let kind = match kind {
                            up::VALUE => Outcome::Value,
                            up::ERROR => Outcome::Error,
                            up::REFUSED => Outcome::Refused,
                            _ => Outcome::Mixed,
                        };
                        self.untidy |= payload.blocks().next().is_some();
                        let arrived = Arrived::receive(payload, seat.inbox());
                        let delivery = Delivery::Outcome { kind, cost, parcel: arrived, pid: seat.pid };
                        post.push((parcel.recipient, delivery));
                    }
                    Err(_) => {
                        seat.stage = Stage::Stopping;
                        doomed.push(seat.token);
                        break;
                    }
                }
            }
            self.unheard |= frames == 0;
        }
        if let Some(reason) = unfit {
            self.give_up(reason, post);
        }
        doomed
    }

    /// Something came or went.
    fn note_use(&mut self) {
        if self.patience.is_some() {
            self.used = Instant::now();
        }
    }

    /// Whether no worker takes anything more.
    fn is_stopping(&self) -> bool {
        self.seats.iter().all(|seat| seat.stage == Stage::Stopping)
    }

    fn stop_all(&mut self) {
        for seat in &mut self.seats {
            seat.stop();
            seat.ring();
        }
    }

    /// What is known of the death of a worker.
    fn look_into(&mut self, seat: &Seat, pid: i32, death: Death, reason: Option<String>) -> Obituary {
        let is_kill = death == Death::Killed(Signal::KILL.as_raw());
        let memory = || if is_kill { seat.kills.suspicion() } else { None };
        let cause = match self.dismissed {
            Some(_) => Some("the executor was told to end its workers".into()),
            None => reason.or_else(|| {
                let suspicion = memory()?;
                for other in &mut self.seats {
                    other.kills.forget_one();
                }
                Some(suspicion)
            }),
        };
        // What it forked writes there, too.
        let last_words = if death.is_crash() { seat.last_words() } else { String::new() };
        Obituary { pid, death, cause, last_words }
    }

    /// A worker ended before it was ready. What died in the same attempt died of the same, and counts once.
    fn count_stillborn(&mut self, is_first: bool, obituary: &Obituary, post: &mut Post) {
        self.stillborn += 1;
        if !is_first {
            return;
        }
        self.mishaps += 1;
        self.failed_starts += 1;
        if self.failed_starts >= MOST_FAILED_STARTS && self.broken.is_none() {
            let last = match (obituary.pid, &obituary.cause) {
                (0, Some(cause)) => format!("the last one could not be started: {cause}"),
                (pid, _) => format!("the last one was process {pid}: {}", obituary.words()),
            };
            let reason = format!(
                "{} worker processes in {MOST_FAILED_STARTS} attempts ended before they were ready; {last}",
                self.stillborn
            );
            self.give_up(Break::Stillborn(reason, obituary.last_words.clone()), post);
        }
    }

    /// No worker can be had: everything fails with the reason that has not begun. What runs comes to its end.
    fn give_up(&mut self, reason: Break, post: &mut Post) {
        let reason = Arc::new(reason);
        self.broken = Some(Arc::clone(&reason));
        let sent: Vec<_> = self.seats.iter_mut().flat_map(|seat| seat.take_back(usize::MAX)).collect();
        for parcel in self.backlog.drain().chain(sent) {
            self.outstanding -= 1;
            post.push((parcel.recipient, Delivery::Broken(Arc::clone(&reason))));
        }
        self.stop_all();
    }
}

impl Employer for Crew {
    fn due(&self) -> Option<Instant> {
        self.end_late().into_iter().chain(self.tidy()).chain(self.rest()).min()
    }

    fn started(&self, token: u64, pid: i32) {
        let mut yard = self.lock();
        if let Some(seat) = yard.seats.iter_mut().find(|seat| seat.token == token) {
            seat.pid = pid;
            seat.kills = Kills::around(pid);
        }
        if let Some(signal) = yard.dismissed {
            drop(yard);
            self.send_away(token, signal);
        }
    }

    fn ended(&self, token: u64, pid: i32, death: Death, reason: Option<String>) {
        let mut post = Post::new();
        let mut yard = self.lock();
        // What it said before it died still counts.
        let _ = yard.hear(&mut post);
        if let Some(index) = yard.seats.iter().position(|seat| seat.token == token) {
            let seat = yard.seats.swap_remove(index);
            let (is_stillborn, was) = (!seat.proven, usage(&seat));
            let is_first = seat.mishaps == yard.mishaps;
            let obituary = Arc::new(yard.look_into(&seat, pid, death, reason));
            if was.tasks > 0 {
                yard.former.push(was);
            }
            let (waiting, running) = seat.bury();
            send_back(&mut yard.backlog, waiting);
            let mut again = None;
            for mut parcel in running {
                if parcel.terms.retries > 0 && yard.broken.is_none() {
                    parcel.terms.retries -= 1;
                    parcel.recipient.recall();
                    again = again.into_iter().chain(parcel.terms.limit).min();
                    yard.backlog.restore(parcel.terms.priority, parcel);
                    continue;
                }
                yard.outstanding -= 1;
                post.push((parcel.recipient, Delivery::Died(Arc::clone(&obituary))));
            }
            if is_stillborn {
                yard.count_stillborn(is_first, &obituary, &mut post);
            }
            for _ in 0..yard.wanted() {
                if let Err(error) = self.hire_one(&mut yard) {
                    yard.give_up(Break::Reason(format!("no worker can be started: {error}")), &mut post);
                }
            }
            yard.pump();
            if yard.unattended && !yard.is_stopping() {
                yard.patience = Some(Duration::ZERO);
                self.rest_later(&mut yard);
            }
            if let Some(limit) = again {
                self.watch(&mut yard, limit);
            }
        }
        let vacated = yard.seats.is_empty().then(|| (Arc::clone(&yard.vacated), yard.closing));
        self.delivering.fetch_add(1, AcqRel);
        drop(yard);
        self.deliver(post);
        if let Some((vacated, closing)) = vacated {
            // Whoever tells others at this moment is about to be done, and would wake nobody.
            while closing && self.delivering.load(Acquire) > 0 {
                std::thread::yield_now();
            }
            vacated.nudge();
        }
        // The leader may wait for one of these, or for the last worker to be gone.
        self.bell.strike_all();
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        // The last owner is gone: nobody can ask for anything any more.
        self.signal(Signal::KILL, false);
    }
}

fn usage(seat: &Seat) -> Use {
    Use { pid: seat.pid, tasks: seat.tasks, busy: seat.busy, cpu: seat.cpu }
}

/// The caller's descriptors 1 and 2 as they are now.
fn output() -> [Option<OwnedFd>; 2] {
    use std::os::fd::AsFd;
    [std::io::stdout().as_fd().try_clone_to_owned().ok(), std::io::stderr().as_fd().try_clone_to_owned().ok()]
}
