//! One worker process as its crew sees it: the line to it, what it was sent, what it has not answered yet.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use forkright_shm::memory::Memory;
use forkright_shm::ring::{Head, Position, PushError, Revocation, Standing};

use super::obituary::LastWords;
use super::{Blob, Limits, Parcel};
use crate::chunk;
use crate::estimate::Constant;
use crate::frame::{down, up};
use crate::here;
use crate::line::{self, Line};
use crate::oom::Kills;
use crate::payload::{Cost, Malformed, Payload};
use crate::share::Share;
use crate::store::{Inbox, Leased, Lent};

/// Functions a worker keeps. The caller decides which, so both sides agree without talking.
const FUNCTIONS_KEPT: usize = 128;
/// Frames that are taken from one worker at a time: more than its ring holds. One that writes as fast as it is read must
/// not keep the others from being heard.
pub(super) const MOST_FRAMES: u32 = 1 << 14;
/// Orders nothing: whoever reads it has the outcomes already.
static ANSWERED: AtomicU64 = AtomicU64::new(0);
/// An answer that was heard later than this after it was given lay there for somebody to come, s.
const LATE: f64 = 0.002;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Starting,
    Ready,
    /// It was told to end.
    Stopping,
}

pub(super) struct Inflight {
    pub(super) parcel: Parcel,
    position: Position,
    /// When its worker began it, if it has a limit.
    begun: Option<Instant>,
}

pub(super) struct Seat {
    pub(super) token: u64,
    pub(super) pid: i32,
    pub(super) stage: Stage,
    /// What the kernel had killed for want of memory when it started.
    pub(super) kills: Kills,
    last_words: LastWords,
    /// It is being killed: its place is free, and what it may still say of tasks that are over means nothing.
    pub(super) condemned: bool,
    /// It was ready once.
    pub(super) proven: bool,
    /// What it did to its ring makes no sense: it must go.
    corrupt: bool,
    /// Starts that had failed when it was ordered.
    pub(super) mishaps: u64,
    line: Line,
    pub(super) inflight: VecDeque<Inflight>,
    known: VecDeque<u64>,
    /// Those of them that occupy memory, to be forgotten when nobody has them any more.
    heavy: Vec<(u64, Weak<Blob>)>,
    lent: Lent,
    /// [`Share::times_lost`] when the worker was last told what is abandoned.
    times_lost: u64,
    inbox: Arc<Inbox>,
    threads: u32,
    share: u32,
    /// Whether it meters its tasks, for all of its crew.
    pub(super) metered: bool,
    /// Tasks it may still be sent before it is replaced.
    budget: Option<u32>,
    /// Seconds a message takes it, smoothed; unknown before the first answer.
    pace: Option<f64>,
    /// When it was ordered, if how soon it is ready tells what a start costs.
    ordered: Option<Instant>,
    /// When it was sent the only message that it has, if how soon it answers tells what a hop costs.
    alone: Option<Instant>,
    pub(super) tasks: u64,
    pub(super) busy: f64,
    pub(super) cpu: f64,
    /// Something was pushed since the bell was last rung.
    silent: bool,
    body: Vec<u8>,
}

/// What the worker said.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all that is said are answers, and a box for each would cost more"
)]
pub(super) enum Said {
    Ready,
    Unfit(Payload),
    Note(String),
    /// It has more memory than it may.
    Leaving,
    Answer {
        parcel: Parcel,
        kind: u32,
        cost: Cost,
        payload: Payload,
    },
}

/// The descriptors a new worker is handed: its line, its own payload memory, where it writes when it crashes.
pub(super) type Handed = [OwnedFd; 3];

/// Tasks that worker processes of all crews have finished.
pub fn answered() -> u64 {
    ANSWERED.load(Relaxed)
}

impl Seat {
    pub(super) fn create(token: u64, limits: &Limits, metered: bool) -> io::Result<(Seat, Handed)> {
        let Limits { threads, renewal, .. } = *limits;
        let (memory, mut line) = line::create()?;
        let outbox = Memory::create("forkright-results", 0)?;
        // A worker begins with one thread; whatever comes later, this comes first.
        let share = limits.share();
        let head = Head { kind: down::THREADS, id: threads.into(), extra: down::extent(metered, share) };
        let memory_limit = renewal.memory.map(|bytes| Head { kind: down::MEMORY, id: bytes, extra: 0 });
        for head in [head].into_iter().chain(memory_limit) {
            line.producer.push(head, &[]).map_err(|_| io::Error::other("a new ring takes nothing"))?;
        }
        let (last_words, words) = LastWords::create()?;
        let handed = [memory.fd().try_clone_to_owned()?, outbox.fd().try_clone_to_owned()?, words];
        let seat = Seat {
            token,
            pid: 0,
            stage: Stage::Starting,
            kills: Kills::default(),
            last_words,
            condemned: false,
            proven: false,
            corrupt: false,
            mishaps: 0,
            line,
            inflight: VecDeque::new(),
            known: VecDeque::new(),
            heavy: Vec::new(),
            lent: Lent::default(),
            times_lost: 0,
            inbox: Inbox::of_worker(outbox),
            threads,
            share,
            metered,
            budget: renewal.tasks,
            pace: None,
            ordered: None,
            alone: None,
            tasks: 0,
            busy: 0.0,
            cpu: 0.0,
            silent: false,
            body: Vec::new(),
        };
        Ok((seat, handed))
    }

    /// What its worker wrote when it crashed.
    pub(super) fn last_words(&self) -> String {
        self.last_words.read()
    }

    /// Nothing is in the way of its start: how long it takes from now on is what a start costs.
    pub(super) fn time_start(&mut self) {
        self.ordered = Some(Instant::now());
    }

    /// Whether large payloads are on their way to its worker or back, or kept there.
    pub(super) fn has_payloads(&self) -> bool {
        !self.lent.is_empty() || self.inbox.is_in_use()
    }

    pub(super) fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// How many messages it can take now. One per thread runs, at least one more waits ready.
    pub(super) fn room(&self) -> usize {
        if self.stage == Stage::Stopping || self.budget == Some(0) {
            return 0;
        }
        let depth = chunk::depth(self.threads, self.pace);
        let depth = self.budget.map_or(depth, |budget| depth.min(self.inflight.len() + budget as usize));
        depth.saturating_sub(self.inflight.len())
    }

    /// Threads that run messages.
    pub(super) fn threads(&self) -> u32 {
        self.threads
    }

    /// Threads with nothing to do.
    pub(super) fn idle(&self) -> usize {
        match self.stage {
            Stage::Ready => (self.threads as usize).saturating_sub(self.inflight.len()),
            _ => 0,
        }
    }

    /// Pushes a message, and the function it needs if the worker lacks it. Gives it back if it does not fit now.
    #[expect(
        clippy::result_large_err,
        reason = "a box for each message would cost more than the move of a few"
    )]
    pub(super) fn hand(&mut self, parcel: Parcel) -> Result<(), Parcel> {
        let is_known = parcel.function.as_ref().is_none_or(|blob| self.known.contains(&blob.id));
        if let Some(blob) = &parcel.function
            && !self.teach(blob)
        {
            return Err(parcel);
        }
        if !parcel.recipient.send() {
            return Ok(());
        }
        let function = parcel.function.as_ref().map_or(0, |blob| blob.id);
        let timed = if parcel.terms.limit.is_some() { down::TIMED } else { 0 };
        let kind = parcel.kind | timed | parcel.job << down::JOB;
        let head = Head { kind, id: parcel.id, extra: function };
        let flags = parcel.flags.as_slice();
        match self.push(head, &[flags, &parcel.payload.head(), parcel.payload.tail()]) {
            Some(position) => {
                self.lease(&parcel.leases);
                let is_alone = self.stage == Stage::Ready && self.inflight.is_empty();
                self.alone = (is_alone && is_known).then(Instant::now);
                self.budget = self.budget.map(|budget| budget.saturating_sub(parcel.tasks));
                self.inflight.push_back(Inflight { parcel, position, begun: None });
                self.silent = true;
                if self.budget == Some(0) {
                    self.stop();
                }
                Ok(())
            }
            None => {
                parcel.recipient.recall();
                Err(parcel)
            }
        }
    }

    /// Where the frame is now; none if it does not fit, or never will as the ring is corrupt.
    fn push(&mut self, head: Head, parts: &[&[u8]]) -> Option<Position> {
        let pushed = self.line.producer.push(head, parts);
        self.corrupt |= matches!(pushed, Err(PushError::Corrupt(_)));
        pushed.ok()
    }

    fn teach(&mut self, blob: &Arc<Blob>) -> bool {
        if self.known.contains(&blob.id) {
            return true;
        }
        let head = Head { kind: down::FUNCTION, id: blob.id, extra: 0 };
        if self.push(head, &[&blob.payload.head(), blob.payload.tail()]).is_none() {
            return false;
        }
        self.lease(&blob.leases);
        self.known.push_back(blob.id);
        if !blob.leases.is_empty() {
            self.heavy.push((blob.id, Arc::downgrade(blob)));
        }
        if self.known.len() > FUNCTIONS_KEPT
            && let Some(oldest) = self.known.front().copied()
        {
            self.forget_function(oldest);
        }
        true
    }

    fn forget_function(&mut self, id: u64) {
        self.known.retain(|known| *known != id);
        self.heavy.retain(|(heavy, _)| *heavy != id);
        // If this does not fit the worker keeps one function more.
        let _ = self.push(Head { kind: down::FORGET, id, extra: 0 }, &[]);
    }

    fn lease(&mut self, leases: &[Arc<dyn Leased>]) {
        leases.iter().for_each(|lease| self.lent.add(lease));
    }

    /// Has so many of its threads run messages from now on. What is sent meanwhile runs on as many as before.
    pub(super) fn set_threads(&mut self, threads: u32, share: u32) {
        let extra = down::extent(self.metered, share);
        let head = Head { kind: down::THREADS, id: threads.into(), extra };
        if (threads, share) != (self.threads, self.share) && self.push(head, &[]).is_some() {
            (self.threads, self.share) = (threads, share);
            self.silent = true;
        }
    }

    /// Asks the worker to end after what it has.
    pub(super) fn stop(&mut self) {
        if self.stage != Stage::Stopping
            && self.push(Head { kind: down::STOP, id: 0, extra: 0 }, &[]).is_some()
        {
            self.stage = Stage::Stopping;
            self.silent = true;
        }
    }

    /// Tells the worker which of its blocks are free again, and which of our functions and shares it shall not keep.
    pub(super) fn release(&mut self) {
        while let Some((id, _)) = self.heavy.iter().find(|(_, blob)| blob.strong_count() == 0) {
            self.forget_function(*id);
            self.silent = true;
        }
        if !self.lent.is_empty() && self.times_lost != Share::times_lost() {
            self.release_abandoned();
        }
        if self.inbox.has_released() {
            let released = self.inbox.take_released();
            self.push_released(&released);
        }
    }

    /// Also what was abandoned before it got it.
    pub(super) fn release_abandoned(&mut self) {
        self.times_lost = Share::times_lost();
        let abandoned = self.lent.abandoned();
        self.push_released(&abandoned);
    }

    fn push_released(&mut self, keys: &[u64]) {
        for some in keys.chunks(1024) {
            let bytes: Vec<u8> = some.iter().flat_map(|key| key.to_le_bytes()).collect();
            // A full ring: the worker keeps these until it ends.
            let _ = self.push(Head { kind: down::RELEASE, id: 0, extra: 0 }, &[&bytes]);
            self.silent = true;
        }
    }

    /// Wakes the worker if something was pushed.
    pub(super) fn ring(&mut self) {
        if std::mem::take(&mut self.silent) {
            if self.inflight.len() > 1 {
                self.line.bell.strike_all();
            } else {
                self.line.bell.strike();
            }
        }
    }

    pub(super) fn has_news(&self) -> bool {
        self.corrupt || !self.line.consumer.is_empty()
    }

    /// The next thing the worker said, if that is among its next `frames`. `Err`: it talks nonsense and must go.
    pub(super) fn hear(&mut self, frames: &mut u32) -> Result<Option<Said>, Malformed> {
        if self.corrupt {
            return Err(Malformed);
        }
        loop {
            if *frames == 0 {
                return Ok(None);
            }
            *frames -= 1;
            let Some(head) = self.line.consumer.pop(&mut self.body).map_err(|_| Malformed)? else {
                return Ok(None);
            };
            match head.kind {
                up::READY => {
                    self.proven = true;
                    if self.stage == Stage::Starting {
                        self.stage = Stage::Ready;
                        if let Some(ordered) = self.ordered.take() {
                            here::observe(Constant::ProcessStart, ordered.elapsed().as_secs_f64());
                        }
                    }
                    return Ok(Some(Said::Ready));
                }
                // One that was ready has no say in whether there can be others.
                up::UNFIT if !self.proven => {
                    return Ok(Some(Said::Unfit(Payload::parse(&self.body)?)));
                }
                up::RELEASE => {
                    let body = std::mem::take(&mut self.body);
                    for offset in body.as_chunks::<8>().0 {
                        self.lent.give_back(u64::from_le_bytes(*offset));
                    }
                    self.body = body;
                }
                up::BEGUN => self.begin(head.id),
                up::LEAVING => return Ok(Some(Said::Leaving)),
                up::NOTE => return Ok(Some(Said::Note(String::from_utf8_lossy(&self.body).into_owned()))),
                kind @ (up::VALUE | up::ERROR | up::MIXED | up::REFUSED) => {
                    let (mut cost, rest) = Cost::parse(&self.body)?;
                    let payload = Payload::parse(rest)?;
                    let index = self.inflight.iter().position(|sent| sent.parcel.id == head.id);
                    let Some(Inflight { parcel, .. }) = index.and_then(|index| self.inflight.remove(index))
                    else {
                        if self.condemned {
                            continue;
                        }
                        return Err(Malformed);
                    };
                    cost.tasks = cost.tasks.min(parcel.tasks);
                    cost.failed = cost.failed.min(cost.tasks);
                    // What was refused says nothing of the pace.
                    if kind != up::REFUSED {
                        self.learn(&cost);
                    }
                    return Ok(Some(Said::Answer { parcel, kind, cost, payload }));
                }
                _ => return Err(Malformed),
            }
        }
    }

    fn learn(&mut self, cost: &Cost) {
        self.tasks += u64::from(cost.tasks);
        ANSWERED.fetch_add(cost.tasks.into(), Relaxed);
        let took = cost.wall + cost.decode + cost.encode;
        self.busy += took;
        self.cpu += cost.cpu;
        let hop = self.alone.take().map(|sent| sent.elapsed().as_secs_f64() - took);
        if let Some(hop) = hop.filter(|&hop| hop < LATE) {
            here::observe(Constant::Hop, hop);
        }
        self.pace = Some(chunk::paced(self.pace, took));
    }

    /// Takes back what its worker has not started, from the end of its queue, at most `most` messages.
    pub(super) fn take_back(&mut self, most: usize) -> Vec<Parcel> {
        let mut parcels = Vec::new();
        for index in (0..self.inflight.len()).rev() {
            if parcels.len() == most {
                break;
            }
            if self.line.producer.revoke(self.inflight[index].position) != Revocation::Revoked {
                break;
            }
            parcels.extend(self.remove(index));
        }
        parcels.reverse();
        parcels
    }

    /// Forgets a message that was revoked.
    fn remove(&mut self, index: usize) -> Option<Parcel> {
        let sent = self.inflight.remove(index)?;
        for lease in &sent.parcel.leases {
            self.lent.give_back(lease.key());
        }
        self.budget = self.budget.map(|budget| budget + sent.parcel.tasks);
        sent.parcel.recipient.recall();
        Some(sent.parcel)
    }

    /// The worker says that it begins a message: it did so at the time in the body, or now if that makes no sense.
    fn begin(&mut self, id: u64) {
        let (now, clock) = (Instant::now(), monotonic());
        let told =
            self.body.first_chunk().map_or(clock, |bytes| Duration::from_nanos(u64::from_le_bytes(*bytes)));
        if let Some(sent) = self.inflight.iter_mut().find(|sent| sent.parcel.id == id) {
            sent.begun = now.checked_sub(clock.saturating_sub(told)).or(Some(now));
        }
    }

    /// The messages that have run for longer than they may: id, limit, and whether they are run again.
    pub(super) fn late(&self, now: Instant) -> Vec<(u64, Duration, bool)> {
        let late = |sent: &Inflight| {
            let limit = sent.parcel.terms.limit?;
            let ran = now.saturating_duration_since(sent.begun?);
            (ran >= limit).then_some((sent.parcel.id, limit, sent.parcel.terms.retries > 0))
        };
        if self.condemned { Vec::new() } else { self.inflight.iter().filter_map(late).collect() }
    }

    /// When one may be late: one that has not begun may begin now.
    pub(super) fn next_late(&self, now: Instant) -> Option<Instant> {
        let late = |sent: &Inflight| sent.begun.unwrap_or(now).checked_add(sent.parcel.terms.limit?);
        self.inflight.iter().filter_map(late).min()
    }

    /// A message that runs, but that nobody waits for any more.
    pub(super) fn forget(&mut self, id: u64) -> Option<Parcel> {
        let index = self.inflight.iter().position(|sent| sent.parcel.id == id)?;
        self.inflight.remove(index).map(|sent| sent.parcel)
    }

    /// Whether it was sent something of a lower priority that it may not have begun.
    pub(super) fn has_below(&self, priority: i32) -> bool {
        self.inflight.back().is_some_and(|sent| sent.parcel.terms.priority < priority)
    }

    /// Takes one message back if its worker has not started it.
    pub(super) fn revoke(&mut self, id: u64) -> Option<Parcel> {
        let index = self.inflight.iter().position(|sent| sent.parcel.id == id)?;
        if self.line.producer.revoke(self.inflight[index].position) != Revocation::Revoked {
            return None;
        }
        self.remove(index)
    }

    /// Takes back all messages of `owner` that its worker has not started.
    pub(super) fn revoke_all(&mut self, owner: u32) -> Vec<Parcel> {
        let theirs = self.inflight.iter().filter(|sent| sent.parcel.owner == owner);
        let ids: Vec<u64> = theirs.map(|sent| sent.parcel.id).collect();
        ids.into_iter().filter_map(|id| self.revoke(id)).collect()
    }

    /// Whether it was sent something of `owner`'s that is not answered.
    pub(super) fn has_of(&self, owner: u32) -> bool {
        self.inflight.iter().any(|sent| sent.parcel.owner == owner)
    }

    /// Whether all that is not answered is `owner`'s.
    pub(super) fn has_only(&self, owner: u32) -> bool {
        self.inflight.iter().all(|sent| sent.parcel.owner == owner)
    }

    /// Whether the worker has taken the message. `None`: it is not here.
    pub(super) fn has_taken(&self, id: u64) -> Option<bool> {
        let sent = self.inflight.iter().find(|sent| sent.parcel.id == id)?;
        Some(self.line.producer.standing(sent.position) == Standing::Taken)
    }

    /// Messages not started.
    pub(super) fn queued(&self) -> usize {
        let waiting = |sent: &&Inflight| self.line.producer.standing(sent.position) == Standing::Queued;
        self.inflight.iter().rev().take_while(waiting).count()
    }

    /// Of these, the ones that a worker with nothing to do would begin sooner.
    pub(super) fn surplus(&self) -> usize {
        let queued = self.queued();
        match self.stage {
            Stage::Ready => {
                let running = self.inflight.len() - queued;
                queued.saturating_sub((self.threads as usize).saturating_sub(running))
            }
            _ => queued,
        }
    }

    /// What remains of a dead worker: the messages it had not started, and those it had.
    pub(super) fn bury(mut self) -> (Vec<Parcel>, Vec<Parcel>) {
        let (mut waiting, mut running) = (Vec::new(), Vec::new());
        for sent in std::mem::take(&mut self.inflight) {
            if self.line.producer.standing(sent.position) == Standing::Taken {
                running.push(sent.parcel);
            } else {
                sent.parcel.recipient.recall();
                waiting.push(sent.parcel);
            }
        }
        (waiting, running)
    }
}

/// The clock that workers have, too.
fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}
