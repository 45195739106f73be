//! The life of a task, in one atomic word. Every change is a named transition that tells its caller
//! what to do next; nothing here knows Python or where the task runs.
//!
//! ```text
//!            send                    start
//! PENDING ─────────▶ SENT ─────────────────────┐
//!    │  ▲──recall──────┘                        ▼
//!    ├───────────────── start ──────────────▶ RUNNING ──finish──▶ FINISHED
//!    └──cancel──▶ CANCELLED ──acknowledge──▶ ACKNOWLEDGED
//! ```
//!
//! SENT means that a worker process has the task in its queue: to cancel it, its frame must be revoked
//! first (`recall`). A worker process does not report that it started, so `finish` is allowed from SENT.
//!
//! Two bits ride along. WAITED: somebody sleeps on this word as a futex, so the finisher must wake it.
//! WATCHED: callbacks or a condition exist, so the finisher must go the slow way round.

use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::futex;

const PENDING: u32 = 0;
const SENT: u32 = 1;
const RUNNING: u32 = 2;
const FINISHED: u32 = 3;
const CANCELLED: u32 = 4;
const ACKNOWLEDGED: u32 = 5;
const PHASE: u32 = 7;
const WAITED: u32 = 8;
const WATCHED: u32 = 16;

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not started, nowhere sent.
    Pending,
    /// In the queue of a worker process.
    Sent,
    /// Started by a worker of this process.
    Running,
    /// It has an outcome.
    Finished,
    /// Cancelled before it started; its waiters have not been told yet.
    Cancelled,
    /// Cancelled, and its waiters know.
    Acknowledged,
}

/// Whether a worker may run the task it took.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Run it.
    Go,
    /// It was cancelled: drop it, after telling its waiters.
    Cancelled,
    /// It already ran or was told of its cancellation: a mistake of the caller.
    Over,
}

/// What a request to cancel came to.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// Cancelled by this call: tell its waiters.
    Done,
    /// It had been cancelled before.
    Already,
    /// Its frame is in a worker's queue: revoke it, `recall`, and ask again.
    Sent,
    /// It runs or ran.
    TooLate,
}

/// Whether the task could be ended just so.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// It is over now.
    Done,
    /// It is watched, and not over yet: take the watchers' lock, `finish_watched`, and serve them.
    Watched,
    /// It was over before.
    Over,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The task is over.
    Over,
    /// The time is up, or the sleeper was nudged: look again.
    Again,
    /// A signal arrived: run the handlers, then look again.
    Interrupted,
}

/// What the word was when a sleeper announced itself.
#[derive(Clone, Copy)]
pub struct Ticket(u32);

/// The word.
#[derive(Default)]
pub struct State(AtomicU32);

impl State {
    /// The present phase.
    pub fn phase(&self) -> Phase {
        phase_of(self.0.load(Acquire))
    }

    /// Whether somebody watches it.
    pub fn is_watched(&self) -> bool {
        self.0.load(Acquire) & WATCHED != 0
    }

    /// Whether the task has an outcome or was cancelled.
    pub fn is_over(&self) -> bool {
        self.0.load(Acquire) & PHASE >= FINISHED
    }

    /// A worker of this process takes the task.
    pub fn start(&self) -> Start {
        match self.change(|phase| matches!(phase, PENDING | SENT), RUNNING) {
            Ok(_) => Start::Go,
            Err(CANCELLED) => Start::Cancelled,
            Err(_) => Start::Over,
        }
    }

    /// The task goes into a worker process's queue. False: it was cancelled meanwhile, leave it out.
    pub fn send(&self) -> bool {
        self.change(|phase| phase == PENDING, SENT).is_ok()
    }

    /// Its frame was revoked: it waits here again.
    pub fn recall(&self) {
        // Only the one who revoked the frame calls this, so a failure means that the task is over.
        let _ = self.change(|phase| phase == SENT, PENDING);
    }

    /// Cancels the task if nobody can have started it.
    pub fn cancel(&self) -> Cancel {
        match self.change(|phase| phase == PENDING, CANCELLED) {
            Ok(()) => Cancel::Done,
            Err(CANCELLED | ACKNOWLEDGED) => Cancel::Already,
            Err(SENT) => Cancel::Sent,
            Err(_) => Cancel::TooLate,
        }
    }

    /// The waiters of a cancelled task have been told. False: this had been done before.
    pub fn acknowledge(&self) -> bool {
        self.change(|phase| phase == CANCELLED, ACKNOWLEDGED).is_ok()
    }

    /// The task has its outcome, which the caller stored before. Leaves a watched task as it is.
    pub fn finish(&self) -> Finish {
        match self.change_word(|word| word & PHASE < FINISHED && word & WATCHED == 0, FINISHED) {
            Ok(()) => Finish::Done,
            Err(word) if word & PHASE < FINISHED => Finish::Watched,
            Err(_) => Finish::Over,
        }
    }

    /// The same for a watched task. False: it was over before.
    pub fn finish_watched(&self) -> bool {
        self.change(|phase| phase < FINISHED, FINISHED).is_ok()
    }

    /// From now on the task is watched. False: it is over.
    ///
    /// The caller holds the lock under which watchers are kept, and whoever ends the task takes them under
    /// that lock after the transition: so each watcher is served exactly once.
    pub fn watch(&self) -> bool {
        self.0.fetch_or(WATCHED, AcqRel) & PHASE < FINISHED
    }

    /// Announces a sleeper. What happens to the word after this, a nudge included, [`State::wait_from`] notices.
    pub fn ticket(&self) -> Ticket {
        Ticket(self.0.fetch_or(WAITED, AcqRel) | WAITED)
    }

    /// Sleeps until the task is over, somebody nudges, a signal arrives or `limit` passes.
    pub fn wait_from(&self, ticket: Ticket, limit: Duration) -> Wait {
        if ticket.0 & PHASE >= FINISHED {
            return Wait::Over;
        }
        let limit = futex::Timespec {
            tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        };
        let woken = futex::wait(&self.0, futex::Flags::PRIVATE, ticket.0, Some(&limit));
        if self.is_over() {
            Wait::Over
        } else if woken == Err(Errno::INTR) {
            Wait::Interrupted
        } else {
            Wait::Again
        }
    }

    /// Both in one.
    pub fn wait(&self, limit: Duration) -> Wait {
        self.wait_from(self.ticket(), limit)
    }

    /// Wakes whoever sleeps in [`State::wait`] without ending the task.
    pub fn nudge(&self) {
        // Clearing the bit changes the word, so a sleeper on its way into the futex does not miss this.
        if self.0.fetch_and(!WAITED, AcqRel) & WAITED != 0 {
            self.wake();
        }
    }

    /// One transition: sets `next` if `allowed` holds for the present phase. `Err` has the phase that forbade it.
    fn change(&self, allowed: impl Fn(u32) -> bool, next: u32) -> Result<(), u32> {
        self.change_word(|word| allowed(word & PHASE), next).map_err(|word| word & PHASE)
    }

    /// The same with a say about the whole word. Wakes the sleepers when the task is over.
    fn change_word(&self, allowed: impl Fn(u32) -> bool, next: u32) -> Result<(), u32> {
        let mut word = self.0.load(Acquire);
        loop {
            if !allowed(word) {
                return Err(word);
            }
            let over = next >= FINISHED;
            let bits = word & if over { WATCHED } else { WATCHED | WAITED };
            match self.0.compare_exchange_weak(word, next | bits, AcqRel, Acquire) {
                Ok(_) => {
                    if over && word & WAITED != 0 {
                        self.wake();
                    }
                    return Ok(());
                }
                Err(now) => word = now,
            }
        }
    }

    fn wake(&self) {
        // Nothing to do about a failure: the word itself is valid, so the kernel has no reason for one.
        let _ = futex::wake(&self.0, futex::Flags::PRIVATE, i32::MAX as u32);
    }
}

impl AsRef<State> for State {
    fn as_ref(&self) -> &State {
        self
    }
}

fn phase_of(word: u32) -> Phase {
    match word & PHASE {
        PENDING => Phase::Pending,
        SENT => Phase::Sent,
        RUNNING => Phase::Running,
        FINISHED => Phase::Finished,
        CANCELLED => Phase::Cancelled,
        _ => Phase::Acknowledged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_started_task_can_not_be_cancelled() {
        let state = State::default();
        assert_eq!(state.start(), Start::Go);
        assert_eq!(state.cancel(), Cancel::TooLate);
        assert_eq!(state.start(), Start::Over);
    }

    #[test]
    fn a_cancelled_task_is_not_started_and_is_acknowledged_once() {
        let state = State::default();
        assert_eq!(state.cancel(), Cancel::Done);
        assert_eq!(state.cancel(), Cancel::Already);
        assert_eq!(state.start(), Start::Cancelled);
        assert!(state.acknowledge());
        assert!(!state.acknowledge());
        assert!(!state.send());
    }

    #[test]
    fn a_sent_task_is_cancelled_only_after_its_recall() {
        let state = State::default();
        assert!(state.send());
        assert_eq!(state.cancel(), Cancel::Sent);
        state.recall();
        assert!(matches!(state.cancel(), Cancel::Done));
    }

    #[test]
    fn a_watched_task_is_ended_only_by_one_who_knows() {
        let state = State::default();
        assert!(state.watch());
        assert_eq!(state.finish(), Finish::Watched);
        assert!(state.finish_watched());
        assert!(!state.watch());
        assert_eq!(state.finish(), Finish::Over);
    }

    #[test]
    fn exactly_one_of_start_and_cancel_wins() {
        for _ in 0..2000 {
            let state = Arc::new(State::default());
            let other = Arc::clone(&state);
            let canceller = std::thread::spawn(move || matches!(other.cancel(), Cancel::Done));
            let started = state.start() == Start::Go;
            assert_ne!(started, canceller.join().expect("the canceller ends"));
        }
    }

    #[test]
    fn a_sleeper_is_woken_by_the_finish() {
        let state = Arc::new(State::default());
        let other = Arc::clone(&state);
        let sleeper = std::thread::spawn(move || while other.wait(Duration::from_secs(30)) != Wait::Over {});
        let _ = state.finish();
        sleeper.join().expect("the sleeper ends");
    }
}
