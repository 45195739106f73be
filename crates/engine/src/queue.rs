//! Work for the threads of this process. Jobs wait in *lanes*, one for each stream of work; a lane lets only so
//! many of its jobs run at a time (its *width*), which is how a choice is carried out. Generic over the job:
//! nothing here knows Python, so nothing is held while a job runs.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::ranked::Ranked;

/// Gives out the jobs of a lane one by one, where they are not simply queued: the chunks of a map.
pub trait Source<J>: Send + Sync {
    /// The next job, if any is left.
    fn take(&self) -> Option<J>;
    /// Whether none is left for good.
    fn is_exhausted(&self) -> bool;
}

/// Names a lane of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LaneId(u64);

struct Lane<J> {
    id: LaneId,
    jobs: Ranked<J>,
    source: Option<Arc<dyn Source<J>>>,
    width: u32,
    running: u32,
    urgent: bool,
}

/// What a worker thread gets.
pub enum Next<J> {
    /// Run this; then `done` with the lane.
    Run(LaneId, J),
    /// Nothing now: `sleep`.
    Nothing,
    /// The queue is closed and nothing is left: end.
    End,
}

struct Inner<J> {
    lanes: Vec<Lane<J>>,
    /// Where the search starts, so that no lane starves another.
    turn: usize,
    next_lane: u64,
    idle: usize,
    /// Wakes that are on their way to a sleeper.
    waking: usize,
    closed: bool,
}

/// The queue of one pool of threads.
pub struct Queue<J> {
    inner: Mutex<Inner<J>>,
    more: Condvar,
}

impl<J> Default for Queue<J> {
    fn default() -> Self {
        let inner = Inner { lanes: Vec::new(), turn: 0, next_lane: 0, idle: 0, waking: 0, closed: false };
        Queue { inner: Mutex::new(inner), more: Condvar::new() }
    }
}

impl<J> Queue<J> {
    fn lock(&self) -> MutexGuard<'_, Inner<J>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A lane of which `width` jobs may run at a time; fed by `source`, or by `push`.
    pub fn open_lane(&self, width: u32, source: Option<Arc<dyn Source<J>>>) -> LaneId {
        self.open(width, source, false)
    }

    /// A lane whose jobs go before all others, any number at a time.
    pub fn open_urgent_lane(&self) -> LaneId {
        self.open(u32::MAX, None, true)
    }

    fn open(&self, width: u32, source: Option<Arc<dyn Source<J>>>, urgent: bool) -> LaneId {
        let mut inner = self.lock();
        let id = LaneId(inner.next_lane);
        inner.next_lane += 1;
        inner.lanes.push(Lane { id, jobs: Ranked::default(), source, width, running: 0, urgent });
        id
    }

    /// Forgets a lane and gives back the jobs nobody took.
    pub fn close_lane(&self, id: LaneId) -> Vec<J> {
        let mut inner = self.lock();
        match inner.lanes.iter().position(|lane| lane.id == id) {
            Some(index) => inner.lanes.remove(index).jobs.drain().collect(),
            None => Vec::new(),
        }
    }

    /// Queues a job. True: no thread is free to take it soon, another would be useful.
    pub fn push(&self, id: LaneId, job: J) -> Result<bool, J> {
        self.push_ranked(id, 0, job)
    }

    /// The same for a job that begins before all of the lane whose priority is lower.
    pub fn push_ranked(&self, id: LaneId, priority: i32, job: J) -> Result<bool, J> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(job);
        }
        match inner.lanes.iter_mut().find(|lane| lane.id == id) {
            Some(lane) => lane.jobs.push(priority, job),
            None => return Err(job),
        }
        Ok(self.rouse(&mut inner))
    }

    /// A lane's source has something new. True: no thread is free to take it soon, another would be useful.
    pub fn poke(&self, id: LaneId) -> bool {
        let mut inner = self.lock();
        let open = inner.lanes.iter().any(|lane| lane.id == id && lane.running < lane.width);
        open && self.rouse(&mut inner)
    }

    /// How many more of a lane's jobs may run now than do.
    pub fn room(&self, id: LaneId) -> u32 {
        let inner = self.lock();
        let lane = inner.lanes.iter().find(|lane| lane.id == id);
        lane.map_or(0, |lane| lane.width.saturating_sub(lane.running))
    }

    /// How many of a lane's jobs may run at a time from now on. Returns how many more threads would be useful.
    pub fn set_width(&self, id: LaneId, width: u32) -> u32 {
        let mut inner = self.lock();
        let Some(lane) = inner.lanes.iter_mut().find(|lane| lane.id == id) else { return 0 };
        lane.width = width;
        let open = width.saturating_sub(lane.running);
        let asleep = (inner.idle - inner.waking) as u32;
        for _ in 0..open.min(asleep) {
            inner.waking += 1;
            self.more.notify_one();
        }
        open.saturating_sub(asleep)
    }

    /// Wakes a sleeper for something new; true if there is none to wake.
    fn rouse(&self, inner: &mut Inner<J>) -> bool {
        if inner.idle == inner.waking {
            return true;
        }
        inner.waking += 1;
        self.more.notify_one();
        false
    }

    /// The next job for a thread; `done` says which lane's job it has just finished.
    pub fn next(&self, done: Option<LaneId>) -> Next<J> {
        let mut inner = self.lock();
        if let Some(lane) = done.and_then(|id| inner.lanes.iter_mut().find(|lane| lane.id == id)) {
            lane.running -= 1;
        }
        if let Some((id, job)) = inner.lanes.iter_mut().filter(|lane| lane.urgent).find_map(Lane::take) {
            return Next::Run(id, job);
        }
        let count = inner.lanes.len();
        for step in 0..count {
            let index = (inner.turn + step) % count;
            if let Some((id, job)) = inner.lanes[index].take() {
                inner.turn = index;
                return Next::Run(id, job);
            }
        }
        inner.turn = inner.turn.wrapping_add(1);
        if inner.closed { Next::End } else { Next::Nothing }
    }

    /// Sleeps until there may be something to do, at most `limit`, which is asked once nothing that is stirred is missed any
    /// more. False: nothing came.
    pub fn sleep(&self, limit: impl FnOnce() -> Duration) -> bool {
        let mut inner = self.lock();
        if inner.closed || inner.lanes.iter().any(Lane::has_job) {
            return true;
        }
        inner.idle += 1;
        let (mut inner, timed) =
            self.more.wait_timeout(inner, limit()).unwrap_or_else(PoisonError::into_inner);
        inner.idle -= 1;
        let woken = inner.waking > 0;
        inner.waking -= usize::from(woken);
        woken || !timed.timed_out()
    }

    /// Has every sleeper look again.
    pub fn stir(&self) {
        // Whoever is about to sleep does so before, or asks for its limit after.
        drop(self.lock());
        self.more.notify_all();
    }

    /// Jobs that wait, those still in sources not counted.
    pub fn waiting(&self) -> usize {
        self.lock().lanes.iter().map(|lane| lane.jobs.len()).sum()
    }

    /// Jobs that run.
    pub fn running(&self) -> u32 {
        self.lock().lanes.iter().map(|lane| lane.running).sum()
    }

    /// Takes out all jobs that wait.
    pub fn drain(&self) -> Vec<J> {
        self.lock().lanes.iter_mut().flat_map(|lane| lane.jobs.drain()).collect()
    }

    /// No more jobs will come; threads end when none is left.
    pub fn close(&self) {
        self.lock().closed = true;
        self.more.notify_all();
    }
}

impl<J> Lane<J> {
    fn take(&mut self) -> Option<(LaneId, J)> {
        if self.running >= self.width {
            return None;
        }
        let job = self.jobs.pop().or_else(|| self.source.as_ref().and_then(|source| source.take()))?;
        self.running += 1;
        Some((self.id, job))
    }

    fn has_job(&self) -> bool {
        self.running < self.width
            && (!self.jobs.is_empty() || self.source.as_ref().is_some_and(|source| !source.is_exhausted()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<J>(next: Next<J>) -> Option<(LaneId, J)> {
        match next {
            Next::Run(id, job) => Some((id, job)),
            _ => None,
        }
    }

    #[test]
    fn a_lane_runs_no_more_jobs_at_a_time_than_its_width() {
        let queue = Queue::default();
        let lane = queue.open_lane(1, None);
        assert_eq!(queue.push(lane, 'a'), Ok(true));
        assert_eq!(queue.push(lane, 'b'), Ok(true));
        let (id, first) = run(queue.next(None)).expect("a job");
        assert_eq!(first, 'a');
        assert!(run(queue.next(None)).is_none());
        assert_eq!(run(queue.next(Some(id))).map(|(_, job)| job), Some('b'));
    }

    #[test]
    fn a_wider_lane_asks_for_more_threads() {
        let queue = Queue::default();
        let lane = queue.open_lane(1, None);
        for job in 0..5 {
            assert!(queue.push(lane, job).is_ok());
        }
        assert!(run(queue.next(None)).is_some());
        assert_eq!(queue.set_width(lane, 4), 3);
    }

    #[test]
    fn a_closed_queue_gives_out_what_waits_and_then_ends() {
        let queue = Queue::default();
        let lane = queue.open_lane(9, None);
        assert!(queue.push(lane, 1).is_ok());
        queue.close();
        assert_eq!(queue.push(lane, 2), Err(2));
        assert!(run(queue.next(None)).is_some());
        assert!(matches!(queue.next(None), Next::End));
    }

    #[test]
    fn a_sleeping_thread_is_woken_by_a_job() {
        let queue = Arc::new(Queue::default());
        let lane = queue.open_lane(1, None);
        let other = Arc::clone(&queue);
        let worker = std::thread::spawn(move || {
            loop {
                match other.next(None) {
                    Next::Run(_, job) => return job,
                    _ => drop(other.sleep(|| Duration::from_secs(30))),
                }
            }
        });
        assert!(queue.push(lane, 7).is_ok());
        assert_eq!(worker.join().expect("the worker ends"), 7);
    }
}
