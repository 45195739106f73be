//! Tasks that end before they are done: because their time is up, or because somebody wants them killed.
//!
//! A worker says when it begins a task that has a limit. So a task that was not begun by now is not late before its
//! limit from now: the warden's thread looks no sooner than one can be late, and sleeps otherwise. What ends a task
//! ends its worker, with all that it started; whoever waits for the task is told at once, whoever waited behind it
//! runs elsewhere, and a replacement is ordered before the worker is dead.

use std::sync::atomic::Ordering::AcqRel;
use std::time::{Duration, Instant};

use super::{Break, Crew, Delivery, Post, Stage, Yard, send_back};

/// What was asked for a task beyond its being run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// How long it may run.
    pub limit: Option<Duration>,
    /// How often it is run again after its worker died under it.
    pub retries: u32,
    /// What waits with a higher one begins first.
    pub priority: i32,
}

/// Why a task was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It ran for longer than this.
    TimedOut(Duration),
    /// Somebody asked for it.
    Killed,
}

impl Crew {
    /// Ends the workers whose tasks are late. Returns when one may be late next.
    pub(super) fn end_late(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut post = Post::new();
        let mut yard = self.lock();
        // What has been answered is not late.
        let doomed = yard.hear(&mut post);
        let mut lost = Vec::new();
        for index in 0..yard.seats.len() {
            let late = yard.seats[index].late(now);
            for (id, limit, again) in &late {
                // One that is run again stays until its worker is dead: it must not run twice at a time.
                if !again {
                    yard.end(index, *id, End::TimedOut(*limit), &mut post);
                }
            }
            if !late.is_empty() {
                lost.push(yard.seats[index].token);
                yard.condemn(index);
            }
        }
        self.replace(&mut yard, &mut post);
        let next = yard.next_late(now);
        yard.alarm = next;
        self.delivering.fetch_add(1, AcqRel);
        drop(yard);
        for token in lost {
            self.warden.kill_with_kin(token);
        }
        self.kill_doomed(doomed);
        if self.deliver(post) > 0 {
            self.bell.strike_all();
        }
        next
    }

    /// Ends a task that a worker runs, and its worker. False: none runs it.
    pub fn kill(&self, id: u64) -> bool {
        let mut post = Post::new();
        let mut yard = self.lock();
        let doomed = yard.hear(&mut post);
        let running = yard.seats.iter().position(|seat| seat.has_taken(id) == Some(true));
        let token = running.map(|index| {
            yard.end(index, id, End::Killed, &mut post);
            yard.condemn(index);
            yard.seats[index].token
        });
        self.replace(&mut yard, &mut post);
        self.delivering.fetch_add(1, AcqRel);
        drop(yard);
        if let Some(token) = token {
            self.warden.kill_with_kin(token);
        }
        self.kill_doomed(doomed);
        self.deliver(post);
        self.bell.strike_all();
        token.is_some()
    }

    fn replace(&self, yard: &mut Yard, post: &mut Post) {
        for _ in 0..yard.wanted() {
            if let Err(error) = self.hire_one(yard) {
                yard.give_up(Break::Reason(format!("no worker can be started: {error}")), post);
            }
        }
        yard.pump();
    }

    /// Has the warden look when a task that was just taken may be late. Called when one with a limit came.
    pub(super) fn watch(&self, yard: &mut Yard, limit: Duration) {
        let Some(late) = Instant::now().checked_add(limit) else { return };
        if yard.alarm.is_none_or(|alarm| late < alarm) {
            self.call_at(yard, late);
            yard.alarm = Some(late);
        }
    }
}

impl Yard {
    /// A worker shall go: what waits in its queue goes elsewhere, and its place is free.
    fn condemn(&mut self, index: usize) {
        let seat = &mut self.seats[index];
        seat.stage = Stage::Stopping;
        seat.condemned = true;
        send_back(&mut self.backlog, seat.take_back(usize::MAX));
    }

    /// A task is over, whatever its worker still does.
    fn end(&mut self, index: usize, id: u64, end: End, post: &mut Post) {
        let seat = &mut self.seats[index];
        if let Some(parcel) = seat.forget(id) {
            self.outstanding -= 1;
            post.push((parcel.recipient, Delivery::Ended { pid: seat.pid, end }));
        }
    }

    fn next_late(&self, now: Instant) -> Option<Instant> {
        let running = self.seats.iter().filter(|seat| !seat.condemned).filter_map(|seat| seat.next_late(now));
        let waiting = self.backlog.iter().filter_map(|parcel| now.checked_add(parcel.terms.limit?));
        running.chain(waiting).min()
    }

    /// Something of a higher priority came: what workers have not begun lines up with it again.
    pub(super) fn line_up(&mut self, priority: i32) {
        for seat in self.seats.iter_mut().filter(|seat| seat.has_below(priority)) {
            send_back(&mut self.backlog, seat.take_back(usize::MAX));
        }
    }
}
