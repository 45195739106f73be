//! The choice over time: a state machine that sees what tasks do and says who may run them. Ticked by the
//! run's supervisor, up to once a millisecond; it has no clock and starts nothing itself. Without it a
//! choice would have to be made before anything is known, and a running task can't be moved.
//!
//! ```text
//!            first item waits          ┌───────── an item has finished ─────────┐
//!         ┌───────────────────▶ ramp ──┤  1, 4, 16 .. in flight, each tick      ▼
//!  probe ─┤  computes off the GIL      └─────────────────────────────────▶ judged by forecast,
//!  (1 in  ├───────────────────▶ cores ──────────────────────────────────▶  again every 10-50 ms
//!  flight)│  holds the GIL for 5 ms                                         │          ▲
//!         └───────────────────▶ press: warm the zygote, ask whether the ────┘          │
//!                               work may leave, start nothing more here ──▶ away ──────┘
//! ```
//!
//! - *Probe.* One item is in flight, inline in the caller, until its state is known: two that hold the GIL
//!   would only take turns, and neither could be moved any more.
//! - *Ramp.* While everything in flight waits, four times as many are let in with each tick. If there are more
//!   than `FREE_THREADS`, the ramp pauses at `PREPARING_THREADS` for about as long as processes take
//!   to start: whether items compute once their answers are in shows by then for the fast half of all
//!   servers, and items that do are better off in processes. Later as many are in flight as have been before,
//!   twice over: a server that collapses is not hammered.
//! - *Press.* Something holds the GIL or queues for it. Before any item has finished its length is taken to
//!   be twice what it has run so far, so that the forecast favours processes the longer it takes.
//! - *Away.* New items are held back for worker processes, except those so short that they end here before
//!   the first process is up. While an item still computes here, one process fewer is asked for.
//!
//! A change of plan must save 10 % and some milliseconds of what remains (`choose`), so noise does not
//! move work to and fro; means in the profile fade, so a workload that changes its nature is followed.

use serde::{Deserialize, Serialize};

use crate::choose::{Case, Constraints, Leave, Limits, MOST_THREADS, Verdict, choose, waits};
use crate::chunk;
use crate::climb::{Bearable, Climb, only_waits};
use crate::crowd::Crowd;
pub use crate::crowd::{Class, Running};
use crate::forecast::{Remaining, Zygote};
use crate::handovers::Handovers;
use crate::machine::Machine;
use crate::plan::Plan;
use crate::profile::{Demand, Profile};
use crate::replay::Given;

/// So many samples that tell nothing of the GIL mean that none will; so do a few milliseconds without any.
const SAMPLED: f64 = 8.0;
const UNSAMPLED: f64 = 0.020;
/// So many finished tasks tell how long they take, and so many how much of that was for their being the first.
const ENOUGH_FINISHED: u64 = 4;
const MANY_FINISHED: u64 = 16;
/// A task that has run for this share of what another one took is about to end, as is one that has run for its inverse.
const SOON: f64 = 0.5;
/// Threads that a ramp starts before any item has shown its second half.
pub(crate) const FREE_THREADS: u32 = 20;
/// Seconds of waiting after which a ramp lets in more, whatever comes after it: the fast half of all servers has answered.
const CURIOUS: f64 = 0.063;
/// Beside tasks of so many seconds it is nothing that a thread wakes up.
const LONG: f64 = 0.005;
/// Seconds of waiting after which tasks may do so for others that have not begun, however busy the machine is.
const STUCK: f64 = 1.0;
/// With each tick so many times as many are let in.
const STEP: u32 = 4;
/// Items in flight while processes are prepared ...
pub(crate) const PREPARING_THREADS: u32 = 4;
/// ... and seconds of sleep after which there may be twice as many: those that sleep mostly do nothing else.
const PATIENT: f64 = 0.004;
/// A GIL that is held for less than this share of the time is no reason to leave.
const IDLE: f64 = 0.5;
/// Seconds between judgements while things are new, and later.
const JUDGE_EARLY: f64 = 0.010;
pub(crate) const JUDGE_LATE: f64 = 0.050;
/// How long after a change things are new.
const NEW: f64 = 0.25;
/// A helper that is not up after this many times its usual start is not waited for.
const OVERDUE: f64 = 20.0;

/// What the caller sees now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Observation<'a> {
    /// Seconds since the run began.
    pub now: f64,
    /// Tasks known and not started.
    pub pending: u64,
    /// Tasks that have an outcome.
    pub done: u64,
    /// Tasks running in this process.
    pub running: &'a [Running],
    /// Tasks given to worker processes and not back.
    pub away: u64,
    /// CPU seconds, since the run began, of programs that this process started and that have ended, and of its threads that
    /// Python did not start.
    pub programs: f64,
    /// Whether more threads want a core than the machine has, those of others included. Asked for while the helper is cold.
    pub crowded: bool,
    /// How often this process's GIL has changed hands, where that can be told.
    pub handovers: Option<u64>,
    /// What is known of the function.
    pub profile: &'a Profile,
    /// The helper that forks workers.
    pub zygote: Zygote,
    /// Whether the work may leave: unknown until asked for.
    pub leave: &'a Leave,
    /// Worker processes that are up.
    pub processes_now: u32,
    /// Threads of this process that are up, the calling one included when it runs tasks.
    pub threads_now: u32,
}

/// How often to tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pace {
    /// About every millisecond.
    Learning,
    /// About every five.
    Steady,
}

/// What the caller should do until the next tick. All of it may change with each tick: in particular the
/// number of processes grows when what computed here has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Direction {
    /// Workers of this process that may run tasks at once.
    pub width: u32,
    /// Workers of this process worth having, whether or not they may run tasks yet: starting them takes time.
    pub ready: u32,
    /// Worker processes wanted, with the threads in each; those that are up are to get as many.
    pub away: Option<Plan>,
    /// Start the helper that forks workers.
    pub warm_zygote: bool,
    /// Find out whether the work may leave.
    pub ask_leave: bool,
    /// Start no new task in this process: it is held back for worker processes.
    pub hold: bool,
    /// The calling thread begins no further task and leaves them to threads of the pool.
    pub steps_back: bool,
    /// When to tick again.
    pub pace: Pace,
    /// Set when the plan changes, and once more when enough tasks have finished for a better forecast of it.
    pub verdict: Option<Verdict>,
}

/// The state machine of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Governor {
    machine: Machine,
    max_workers: Option<u32>,
    items: Option<u64>,
    /// The plan in force.
    plan: Plan,
    /// Workers let in here.
    width: u32,
    /// Processes are likely enough to prepare for them.
    pressed: bool,
    /// The last judgement was for processes, even if the work must not leave before somebody has looked.
    leaning: bool,
    /// When the helper was asked for.
    warmed: Option<f64>,
    /// When the first worker process was up.
    up: Option<f64>,
    changed: f64,
    judged: Option<f64>,
    /// What the last judgement knew; news bring the next one forward.
    knew: Knew,
    climb: Climb,
    handovers: Handovers,
    verdict: Option<Verdict>,
    /// The forecast of the plan in force was made when fewer tasks than this had finished, and is made again then.
    unfounded: Option<u64>,
}

/// What makes a judgement worth repeating at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Knew {
    finished: bool,
    pressed: bool,
    ready: bool,
    /// Whether the work may leave, once that is known.
    answer: Option<bool>,
    up: u32,
    ceiling: u32,
    thrashes: bool,
}

impl Governor {
    /// For a run of `items` tasks, if their number is known.
    pub fn new(machine: Machine, max_workers: Option<u32>, items: Option<u64>) -> Self {
        Self::after(Bearable::default(), machine, max_workers, items)
    }

    /// The same after a run of the same function, of which so much is known.
    pub fn after(known: Bearable, machine: Machine, max_workers: Option<u32>, items: Option<u64>) -> Self {
        Self {
            machine,
            max_workers,
            items,
            plan: Plan::SERIAL,
            width: 1,
            pressed: false,
            leaning: false,
            warmed: None,
            up: None,
            changed: 0.0,
            judged: None,
            knew: Knew::default(),
            climb: Climb::after(known),
            handovers: Handovers::default(),
            verdict: None,
            unfounded: None,
        }
    }

    /// What is known of those whom tasks wait for.
    pub fn bearable(&self) -> Bearable {
        self.climb.known()
    }

    /// The plan in force.
    pub fn plan(&self) -> Plan {
        self.plan
    }

    /// The last judgement, whether or not it changed the plan, and when it was made; none while nothing was known.
    pub fn judgement(&self) -> Option<(f64, &Verdict)> {
        self.judged.zip(self.verdict.as_ref())
    }

    /// What a choice about the whole run would be made from, with this demand of a task.
    pub fn given(&self, demand: Option<Demand>, may_leave: Leave) -> Given {
        // What programs take is seen by nobody else.
        let programs = self.verdict.as_ref().map_or(0.0, |verdict| verdict.case.demand.programs);
        let demand = demand.map(|demand| Demand { programs, ..demand });
        Given { demand, machine: self.machine.clone(), workers: self.max_workers, may_leave }
    }

    /// What has been seen so far was no part of the work: nothing is known yet.
    pub fn start_over(&mut self) {
        self.pressed = false;
        self.leaning = false;
        self.warmed = None;
    }

    /// How many tasks may be under way, here or in other processes.
    fn most(&self) -> u32 {
        if self.plan.leaves() { self.plan.workers() } else { self.width }
    }

    /// What to do until the next tick.
    pub fn tick(&mut self, seen: &Observation<'_>) -> Direction {
        let crowd = Crowd::of(seen.running);
        let before = (self.plan, self.width);
        let most = self.most();
        let learning = seen.profile.tasks() == 0;
        self.up = if seen.processes_now > 0 { self.up.or(Some(seen.now)) } else { None };
        let computing = (crowd.off + crowd.gil).min(self.machine.width());
        self.handovers.watch(seen.now, seen.handovers, computing);
        let presses = crowd.ripe_held || self.handovers.are_too_many();
        self.pressed |= learning && seen.pending > 0 && self.could_leave(seen) && presses;
        self.climb.watch(seen, most, &crowd);
        let verdict = if self.is_due(seen) { self.judge(seen, &crowd) } else { None };
        self.widen(seen, &crowd);
        if (self.plan, self.width) != before {
            self.changed = seen.now;
        }
        self.climb.grow(seen, most, self.most());
        self.direct(seen, &crowd, verdict)
    }

    fn is_due(&mut self, seen: &Observation<'_>) -> bool {
        let knew = Knew {
            finished: seen.profile.tasks() > 0,
            pressed: self.pressed,
            ready: seen.zygote == Zygote::Ready,
            answer: (*seen.leave != Leave::Unknown).then(|| *seen.leave == Leave::Yes),
            up: seen.processes_now,
            ceiling: self.climb.ceiling(seen.now),
            thrashes: self.handovers.are_too_many(),
        };
        let pause = if seen.now - self.changed < NEW { JUDGE_EARLY } else { JUDGE_LATE };
        let due = knew != self.knew || self.judged.is_none_or(|at| seen.now - at >= pause);
        self.knew = knew;
        due
    }

    /// Forecasts every candidate for what remains and takes the best. The verdict, if it is news.
    fn judge(&mut self, seen: &Observation<'_>, crowd: &Crowd) -> Option<Verdict> {
        let demand = self.demand(seen, crowd)?;
        let founds = self.unfounded.is_some_and(|enough| match enough {
            ENOUGH_FINISHED if seen.pending == 0 => demand.finished > 0,
            _ => demand.finished >= enough,
        });
        if seen.pending == 0 && !founds {
            return None;
        }
        // What comes as a stream travels one by one.
        let company = self.items.map_or(1.0, |_| chunk::company(demand.alone()));
        let demand = Demand { company, ..demand };
        self.judged = Some(seen.now);
        let remaining = Remaining { importing: self.until_imported(seen, &demand), ..self.remaining(seen) };
        let limits = self.limits(seen, crowd, &demand, &remaining);
        // In a run with an end, a change must be worth something of the whole.
        let spent = self.items.map_or(0.0, |_| seen.now);
        let may_leave = seen.leave.clone();
        let constraints =
            Constraints { may_leave, current: self.standing(&limits), spent, here: remaining.here };
        let machine = self.machine.clone();
        let verdict = choose(Case { demand, machine, remaining, limits, constraints })?;
        self.leaning = verdict.plan.leaves();
        self.pressed |= self.leaning;
        if self.leaning && (*seen.leave == Leave::Unknown || others_will_tell(seen, &demand)) {
            return None;
        }
        let moved = verdict.plan != self.plan;
        self.plan = verdict.plan;
        self.verdict = Some(verdict.clone());
        // A forecast that was little more than a guess is followed by a better one.
        if moved || founds {
            self.unfounded = [ENOUGH_FINISHED, MANY_FINISHED]
                .into_iter()
                .find(|&enough| seen.pending > 0 && demand.finished < enough);
        }
        (moved || founds).then_some(verdict)
    }

    /// The plan in force, with no more threads than may run now.
    fn standing(&self, limits: &Limits) -> Plan {
        let fewer = Plan::in_threads(self.plan.threads().min(limits.threads));
        if self.plan.leaves() { self.plan } else { fewer.unwrap_or(self.plan) }
    }

    /// Which plans are worth a look at this moment.
    fn limits(
        &self,
        seen: &Observation<'_>,
        crowd: &Crowd,
        demand: &Demand,
        remaining: &Remaining,
    ) -> Limits {
        let known = Limits::of(demand, &self.machine, self.max_workers);
        if seen.pending == 0 {
            // Nothing is left to choose for: the plan in force gets a forecast.
            return Limits { processes: false, threads: 0, ..known };
        }
        let learning = seen.profile.tasks() == 0;
        // What computes has nobody to spare.
        let least = if waits(demand) { 1 } else { self.machine.width() };
        let together = self.climb.ceiling(seen.now).max(least).min(known.room);
        let most = together.min(if learning { self.ramp(seen, crowd) } else { MOST_THREADS });
        // What has only been seen to wait has given no reason to leave.
        let suspect = self.pressed || !learning;
        // So many of them leave one GIL free most of the time.
        let idle = f64::from(together) * demand.share(demand.gil()) < IDLE;
        // What computes here ends one after another and leaves its place to a process: they get all the room. What waits
        // here in numbers keeps it for longer.
        let taken = if waits(demand) { remaining.here } else { 0 };
        // Whoever is asked for answers bears no more questions for their coming from several processes.
        let asking = if only_waits(demand) { crowd.waiting } else { 0 };
        Limits {
            processes: suspect && !idle,
            room: known.room.saturating_sub(taken).min(together.saturating_sub(asking)).max(1),
            inside: known.inside.min(if learning { FREE_THREADS } else { MOST_THREADS }),
            threads: most,
            // As many as may run now, where that lies between two steps.
            extra: Some(most).filter(|&most| f64::from(most) <= remaining.tasks + f64::from(remaining.here)),
            ..known
        }
    }

    /// What a task asks for: as measured, or guessed from those that run.
    fn demand(&self, seen: &Observation<'_>, crowd: &Crowd) -> Option<Demand> {
        let profile = seen.profile;
        let programs = if seen.done > 0 { seen.programs / seen.done as f64 } else { 0.0 };
        let handing = self.handovers.drag(self.machine.width());
        let Some(known) = profile.demand_ahead(seen.pending as f64).map(|known| {
            // What waits is slow for other reasons.
            let drag = if waits(&known) { 1.0 } else { profile.drag(crowd.all, crowd.shortest).max(handing) };
            Demand { drag, ..known }.with_programs(programs, profile.together(), self.machine.cores)
        }) else {
            let thrashes = self.handovers.are_too_many();
            let ripe = crowd.ripe_held || crowd.ripe_off || crowd.ripe_wait || thrashes;
            return ripe.then(|| Demand { drag: handing, ..profile.guess(2.0 * crowd.longest) });
        };
        let waits = known.share(known.waiting) > 0.8;
        let sampled = profile.held().is_some() || profile.samples() >= SAMPLED;
        if !waits && !sampled && seen.now < UNSAMPLED {
            return None;
        }
        // One that has run for much longer than the others took counts as one of its own, which does what is seen now.
        let usual = known.alone() * known.drag.max(1.0);
        let odd = Crowd::odd(seen.running, usual).filter(|_| !crowd.queues);
        Some(odd.map_or(known, |longest| profile.with_another(&known, 2.0 * longest)))
    }

    fn remaining(&self, seen: &Observation<'_>) -> Remaining {
        let here = seen.running.len() as u32;
        let began = seen.done + u64::from(here) + seen.away;
        let tasks = match self.items {
            Some(items) => items.saturating_sub(began).max(seen.pending),
            // Of an input without an end in sight, expect as much again as it has given.
            None => seen.pending.max(seen.done),
        };
        let already = if seen.processes_now > 0 {
            Plan::new(seen.processes_now, self.plan.threads())
        } else {
            Plan::in_threads(seen.threads_now.max(1))
        };
        Remaining {
            tasks: tasks as f64,
            here,
            elapsed: mean(seen.running.iter().map(|task| task.elapsed / f64::from(task.tasks.max(1)))),
            away: u32::try_from(seen.away).unwrap_or(u32::MAX),
            already: already.unwrap_or(Plan::SERIAL),
            zygote: seen.zygote,
            warming: self.until_zygote(seen),
            importing: 0.0,
        }
    }

    /// Lets more workers in here, or fewer.
    fn widen(&mut self, seen: &Observation<'_>, crowd: &Crowd) {
        if self.plan.leaves() {
            self.width = 1;
            return;
        }
        let learning = seen.profile.tasks() == 0;
        let thrashes = self.handovers.are_too_many();
        if seen.profile.lacks_alone()
            && !thrashes
            && seen.profile.demand().is_some_and(|demand| !waits(&demand))
        {
            // One that has the process to itself tells whether the others pay.
            self.width = 1;
            return;
        }
        let limit = if learning { self.ramp(seen, crowd) } else { self.plan.threads() };
        if !learning || thrashes {
            self.width = self.width.min(limit);
        }
        let ripe = crowd.ripe_wait || crowd.ripe_off || !learning;
        if crowd.is_calm() && ripe {
            let crowded = crowd.all.saturating_mul(STEP).max(if learning { 1 } else { self.width });
            self.width = self.width.max(crowded.min(limit));
        }
        if !learning {
            self.width = self.width.max(limit.min(self.machine.width()));
        }
    }

    /// How many may run here before any has finished.
    fn ramp(&self, seen: &Observation<'_>, crowd: &Crowd) -> u32 {
        let most = self.max_workers.unwrap_or(MOST_THREADS).clamp(1, MOST_THREADS);
        let limit = match () {
            () if self.handovers.are_too_many() => 1,
            () if crowd.off > 0 => crowd.waiting + self.machine.width(),
            // They wait for others that have no core, as a library's threads ...
            () if crowd.locked > crowd.waiting / 2 && seen.crowded && crowd.longest < STUCK => {
                self.machine.width()
            }
            // ... or for each other.
            () if crowd.locked > crowd.waiting / 2 => FREE_THREADS,
            () if crowd.sleeping == crowd.all && (!self.could_leave(seen) || crowd.longest >= CURIOUS) => {
                MOST_THREADS
            }
            () if crowd.waiting == crowd.all && crowd.longest >= CURIOUS => 2 * FREE_THREADS,
            // What they wait for may be followed by computing: the others then had better be elsewhere, and what is
            // prepared meanwhile would queue for the GIL behind them all. Where they only wait, the last of them start
            // no later for it.
            () if is_many(seen, crowd) => self.curious(seen, crowd),
            () => FREE_THREADS,
        };
        limit.min(most)
    }

    /// How many may wait here before it is known whether they compute afterwards, and how long whoever they wait for takes
    /// for a few. Those that sleep burden nobody: half of what one core would do of all, and more the longer they do.
    fn curious(&self, seen: &Observation<'_>, crowd: &Crowd) -> u32 {
        // Some that have just begun may compute yet.
        if crowd.sleeping < crowd.waiting.max(crowd.all.div_ceil(2)) {
            return PREPARING_THREADS;
        }
        let all = (seen.pending + u64::from(crowd.all)) as f64;
        let share = (all / (2.0 * self.machine.cores)).max(PREPARING_THREADS.into());
        ((share * (1.0 + crowd.longest / PATIENT)) as u32).min(2 * FREE_THREADS)
    }

    fn direct(&mut self, seen: &Observation<'_>, crowd: &Crowd, verdict: Option<Verdict>) -> Direction {
        // The ramp will pause before all have started. While they wait the GIL is free for preparations; once
        // they compute, nobody else gets a turn.
        let pausing = seen.profile.tasks() == 0
            && crowd.ripe_wait
            && is_many(seen, crowd)
            && crowd.all >= self.ramp(seen, crowd);
        let wanted = self.pressed || self.plan.leaves();
        let prepare = (wanted || pausing) && self.could_leave(seen) && seen.pending > 0;
        // What may not be needed is only made ready on a core that nobody else wants: the programs that tasks wait for do.
        let warm_zygote = prepare && seen.zygote == Zygote::Cold && (wanted || !seen.crowded);
        if (warm_zygote || prepare && seen.zygote != Zygote::Cold) && self.warmed.is_none() {
            self.warmed = Some(seen.now);
        }
        let hold = prepare && self.leaning && self.should_hold(seen, crowd) || self.is_full(seen);
        // One may begin here before the next tick.
        let here = crowd.all.max(u32::from(!hold && seen.pending > 0));
        let away =
            (self.plan.leaves() && self.could_leave(seen)).then(|| self.crew(seen, crowd, here)).flatten();
        let ready = if pausing { FREE_THREADS.min(self.max_workers.unwrap_or(u32::MAX)) } else { 0 };
        Direction {
            width: self.width,
            ready: ready.max(self.width),
            away,
            warm_zygote,
            ask_leave: prepare && *seen.leave == Leave::Unknown,
            hold,
            steps_back: self.steps_back(seen),
            pace: if seen.now - self.changed < NEW { Pace::Learning } else { Pace::Steady },
            verdict,
        }
    }

    /// Whether the calling thread has no need to take part any more. As the main thread it frees large arrays by returning
    /// their memory to the system each time (glibc's main arena), which threads that are as fast to reach do not: of NumPy's
    /// a fifth of the time. What is short is done sooner than a thread wakes up.
    fn steps_back(&self, seen: &Observation<'_>) -> bool {
        let computes = |demand: Demand| demand.off > demand.gil() && demand.alone() >= LONG;
        !self.plan.leaves() && self.plan.threads() > 1 && seen.profile.demand().is_some_and(computes)
    }

    /// The processes that can be of use now: what computes here occupies a core, what runs here a worker. Tasks
    /// that share a process wait most of the time: what computes here is over before they all do, and the first
    /// process must not have taken them all by then.
    fn crew(&self, seen: &Observation<'_>, crowd: &Crowd, here: u32) -> Option<Plan> {
        let occupied = if self.plan.threads() > 1 { 0 } else { crowd.computing() };
        let tasks = u32::try_from(seen.pending + seen.away).unwrap_or(u32::MAX);
        // Those on their way from here to there are in neither number.
        let unfinished = self
            .items
            .map_or(u64::from(tasks) + u64::from(occupied), |items| items.saturating_sub(seen.done));
        // The last few share the cores: one that waited for its own would leave another idle in the end.
        let cores = match self.machine.width() {
            cores if unfinished < 2 * u64::from(cores) => self.plan.processes(),
            cores => cores.saturating_sub(occupied).max(1),
        };
        let useful = self.plan.processes().min(cores).min(tasks.max(1));
        let up = seen.processes_now.min(self.plan.processes());
        let room = self.max_workers.unwrap_or(u32::MAX).saturating_sub(here);
        let threads = self.plan.threads().min(room);
        let most = room.checked_div(threads)?;
        Plan::new(useful.max(up).min(most), threads).ok()
    }

    /// Whether an item started here now would still run when a process could have taken it.
    fn should_hold(&self, seen: &Observation<'_>, crowd: &Crowd) -> bool {
        let demand = self.demand(seen, crowd);
        let length = demand.map_or(0.0, |demand| demand.alone());
        if seen.processes_now > 0 && self.plan.leaves() {
            let until = demand.map_or(0.0, |demand| self.until_imported(seen, &demand));
            return until <= 0.0 || length > until;
        }
        let overdue = self.warmed.is_some_and(|at| seen.now - at > OVERDUE * self.machine.zygote_start);
        let imports = demand.map_or(0.0, |demand| demand.modules * self.machine.module());
        let until = self.until_zygote(seen) + self.machine.process_start + imports;
        !overdue && length > until
    }

    /// Whether worker processes that no longer take part still run as many tasks as may run at all.
    fn is_full(&self, seen: &Observation<'_>) -> bool {
        let busy = seen.away.min(seen.processes_now.into());
        !self.plan.leaves() && self.max_workers.is_some_and(|most| busy >= most.into())
    }

    /// Seconds until the helper can fork.
    fn until_zygote(&self, seen: &Observation<'_>) -> f64 {
        let start = self.machine.zygote_start;
        match (seen.zygote, self.warmed) {
            (Zygote::Ready, _) => 0.0,
            (Zygote::Cold, _) | (Zygote::Warming, None) => start,
            (Zygote::Warming, Some(at)) => (start - (seen.now - at)).max(0.0),
        }
    }

    /// Seconds until worker processes that are up have imported what the function needs.
    fn until_imported(&self, seen: &Observation<'_>, demand: &Demand) -> f64 {
        let done = self.up.map(|at| at + demand.modules * self.machine.module());
        done.filter(|_| seen.processes_now > 0).map_or(0.0, |at| (at - seen.now).max(0.0))
    }

    fn could_leave(&self, seen: &Observation<'_>) -> bool {
        let refused = matches!(seen.leave, Leave::No(_));
        !refused && self.machine.width() > 1 && self.max_workers != Some(1)
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    values.sum::<f64>() / count
}

/// Whether others that began with the first to end are about to: its imports may have been part of what that one took.
fn others_will_tell(seen: &Observation<'_>, demand: &Demand) -> bool {
    let first = demand.alone();
    let soon =
        |task: &Running| task.class.waits_elsewhere() && (SOON * first..first / SOON).contains(&task.elapsed);
    demand.finished < ENOUGH_FINISHED && seen.running.iter().any(soon)
}

/// Whether there are more tasks than a ramp starts.
fn is_many(seen: &Observation<'_>, crowd: &Crowd) -> bool {
    seen.pending + u64::from(crowd.all) > u64::from(FREE_THREADS)
}
