//! One run of a workload in a world, event by event. What the calling process does with chunks, worker processes and
//! readings is done here as `crates/python` does it; what is decided, the engine decides.
//!
//! Each process has one GIL, which its holder must let go after a switch interval if another wants it. Whoever computes
//! shares the cores fairly, the starting of workers included. One helper thread of the calling process pickles for the
//! workers and takes in their results, another finds out whether the work may leave; both need the GIL like any other.

use std::collections::VecDeque;
use std::ops::Range;

use forkright_engine::choose::{Leave, Verdict};
use forkright_engine::chunk;
use forkright_engine::forecast::Zygote;
use forkright_engine::governor::{Class, Direction, Governor, Observation, Pace, Running};
use forkright_engine::plan::Plan;
use forkright_engine::profile::{Pickling, Profile, Reading, Shares};

use crate::workload::{Phase, Stream, Workload};
use crate::world::World;

const EPSILON: f64 = 1e-12;
/// Events after which a run is taken to be endless.
const MOST_EVENTS: u64 = 5_000_000;
/// Items of a stream do not come sooner after one another.
const SOONEST: f64 = 1e-6;
/// Seconds between ticks of the meter, learning and steady.
const TICK: (f64, f64) = (0.001, 0.005);
/// Hand-overs of a GIL in a second where tasks drag each other down.
const DRAGGING: f64 = 30_000.0;
/// Workers of the calling process that run no tasks: who carries chunks, and who asks whether they may leave.
const CARRIER: usize = 1;
const ASKER: usize = 2;

/// Who says where tasks run.
pub enum Driver {
    /// A plan that stays.
    Fixed(Plan),
    /// The engine's choice.
    Auto(Box<Governor>),
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// From its start to its last result.
    pub seconds: f64,
    /// Tasks that ran in the calling process.
    pub here: usize,
    /// The most of them that ran at once.
    pub most_here: u32,
    /// The most chunks that ran at once, here and away.
    pub most: u32,
    /// The plan in the end.
    pub plan: Plan,
    /// The changes of plan, and when they were made.
    pub verdicts: Vec<(f64, Verdict)>,
    /// Whether anybody asked if the work may leave.
    pub asked: bool,
    /// How often each task got an outcome.
    pub finished: Vec<u32>,
    /// Tasks whose outcome is the death of their worker.
    pub lost: usize,
    /// Worker processes that were started.
    pub started: usize,
}

/// What a worker does, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Duty {
    /// Tasks in the calling process.
    Here,
    /// Tasks in a worker process.
    Away,
    /// Carries tasks to this process.
    Send(usize),
    /// Takes in results.
    Settle,
    /// Finds out whether the work may leave.
    Ask,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Before the tasks of a chunk begin: it travels, is unpickled, imports what it needs.
    Trip(f64),
    Before(f64),
    Task(Phase),
}

impl Step {
    fn seconds(self) -> f64 {
        match self {
            Self::Trip(t) | Self::Before(t) => t,
            Self::Task(phase) => phase.seconds(),
        }
    }

    fn wants_gil(self) -> bool {
        matches!(self, Self::Before(_) | Self::Task(Phase::Gil(_)))
    }
}

struct Job {
    duty: Duty,
    tasks: Range<usize>,
    steps: VecDeque<Step>,
    left: f64,
    began: f64,
    cpu: f64,
    /// Seconds that it was ready to run without a core.
    delay: f64,
    together: u32,
    seen: Option<(Class, f64)>,
}

struct Worker {
    process: usize,
    job: Option<Job>,
}

/// What a chunk took, as its worker's clocks tell it: seconds with a core or without need of one, on it, and for want of it.
struct Cost {
    wall: f64,
    cpu: f64,
    delay: f64,
}

struct Arrival {
    tasks: Range<usize>,
    /// Unless the worker died.
    cost: Option<Cost>,
}

/// A process, with its GIL. The first is the calling one.
#[derive(Default)]
struct Process {
    dead: bool,
    holder: Option<usize>,
    waiting: VecDeque<usize>,
    /// Seconds until the holder must let go if somebody waits.
    quantum: f64,
    /// Chunks that were sent and have not begun.
    queue: VecDeque<Range<usize>>,
    pace: Option<f64>,
    imported: bool,
    threads: u32,
    /// Seconds until another thread is up.
    thread: Option<f64>,
    running: u32,
    handovers: f64,
}

struct Simulation<'a> {
    world: &'a World,
    work: &'a Workload,
    now: f64,
    next: usize,
    delivered: usize,
    done: u64,
    away: u64,
    workers: Vec<Worker>,
    processes: Vec<Process>,
    /// Chunks whose worker process died before they began.
    backlog: VecDeque<Range<usize>>,
    arrivals: Vec<Arrival>,
    zygote: Zygote,
    zygote_left: f64,
    /// Seconds of CPU until each process that starts is up.
    starting: Vec<f64>,
    fork_at: f64,
    deaths: VecDeque<f64>,
    asked_at: Option<f64>,
    /// The one task that computes in the calling process rests while it is found out whether the work may leave.
    rests: bool,
    leave: Leave,
    programs: f64,
    profile: Profile,
    direction: Direction,
    dice: u32,
    outcome: Outcome,
}

/// Runs it to its end.
pub fn run(work: &Workload, world: &World, driver: Driver) -> Outcome {
    run_until(work, world, driver, f64::INFINITY).expect("it has no limit")
}

/// Runs it to its end, unless it takes longer than `limit` seconds.
pub fn run_until(work: &Workload, world: &World, mut driver: Driver, limit: f64) -> Option<Outcome> {
    let mut simulation = Simulation::new(work, world, &driver);
    let (mut tick, mut ticked) = (TICK.0, 0.0);
    let mut events = 0_u64;
    while !simulation.is_over() {
        simulation.dispatch();
        let ticking = matches!(driver, Driver::Auto(_));
        simulation.advance(if ticking { tick } else { f64::INFINITY });
        if simulation.now > limit {
            return None;
        }
        events += 1;
        assert!(events < MOST_EVENTS, "it never ends: {} s, {:?}", simulation.now, simulation.direction);
        if let Driver::Auto(governor) = &mut driver
            && simulation.now >= tick - EPSILON
        {
            simulation.tick(governor, simulation.now - ticked);
            ticked = simulation.now;
            // As the meter does: half to one and a half periods, so as not to beat with the tasks.
            let period = if simulation.direction.pace == Pace::Learning { TICK.0 } else { TICK.1 };
            tick = simulation.now + period * (0.5 + simulation.throw());
        }
    }
    let mut outcome = simulation.outcome;
    outcome.seconds = simulation.now;
    if let Driver::Auto(governor) = &driver {
        outcome.plan = governor.plan();
    }
    Some(outcome)
}

impl<'a> Simulation<'a> {
    fn new(work: &'a Workload, world: &'a World, driver: &Driver) -> Self {
        let fixed = match driver {
            Driver::Fixed(plan) => Some(*plan),
            Driver::Auto(_) => None,
        };
        let away = fixed.filter(|plan| plan.leaves());
        let here = fixed.filter(|plan| !plan.leaves()).map_or(1, Plan::threads);
        let idle = || Worker { process: 0, job: None };
        Simulation {
            world,
            work,
            now: 0.0,
            next: 0,
            delivered: 0,
            done: 0,
            away: 0,
            workers: vec![idle(), idle(), idle()],
            processes: vec![Process { threads: 1, imported: true, ..Process::default() }],
            backlog: VecDeque::new(),
            arrivals: Vec::new(),
            zygote: Zygote::Cold,
            zygote_left: world.machine.zygote_start,
            starting: Vec::new(),
            fork_at: 0.0,
            deaths: work.deaths.iter().copied().collect(),
            asked_at: None,
            rests: false,
            leave: Leave::Unknown,
            programs: 0.0,
            profile: Profile::default(),
            direction: Direction {
                width: here,
                ready: here,
                away,
                warm_zygote: away.is_some(),
                ask_leave: false,
                hold: away.is_some(),
                steps_back: false,
                pace: Pace::Learning,
                verdict: None,
            },
            dice: 1,
            outcome: Outcome {
                seconds: 0.0,
                here: 0,
                most_here: 0,
                most: 0,
                plan: fixed.unwrap_or(Plan::SERIAL),
                verdicts: Vec::new(),
                asked: false,
                finished: vec![0; work.tasks.len()],
                lost: 0,
                started: 0,
            },
        }
    }

    fn is_over(&self) -> bool {
        match self.work.stream {
            Some(stream) => self.delivered >= stream.stop.min(self.work.tasks.len()),
            None => self.done >= self.work.tasks.len() as u64,
        }
    }

    /// Between 0 and 1, the same in each run.
    fn throw(&mut self) -> f64 {
        self.dice = self.dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(self.dice >> 8) / f64::from(1 << 24)
    }

    /// Items that are known by now.
    fn known(&self) -> usize {
        let all = self.work.tasks.len();
        self.work.stream.map_or(all, |stream| self.given(stream).min(self.delivered + stream.window).min(all))
    }

    /// Items that a stream has had the time to give.
    fn given(&self, stream: Stream) -> usize {
        ((self.now + EPSILON) / stream.every.max(SOONEST)) as usize + 1
    }

    fn pending(&self) -> usize {
        self.known() - self.next
    }

    fn processes_up(&self) -> u32 {
        self.processes[1..].iter().filter(|process| !process.dead).count() as u32
    }

    fn computes(&self, duty: Duty) -> bool {
        matches!(duty, Duty::Here | Duty::Away)
    }

    /// Starts what the direction asks for and hands out tasks.
    fn dispatch(&mut self) {
        self.bury();
        let ready = self.direction.ready.max(self.direction.width);
        let calling = &mut self.processes[0];
        let lacking = !self.direction.hold && calling.threads < ready && self.next < self.work.tasks.len();
        if lacking && calling.thread.is_none() {
            calling.thread = Some(self.world.machine.thread_start);
        }
        self.start_processes();
        self.carry();
        let queued = self.processes.iter().any(|process| !process.queue.is_empty());
        let parts = self.taking_part();
        for at in 0..self.workers.len() {
            if at == CARRIER || at == ASKER || self.workers[at].job.is_some() {
                continue;
            }
            match self.workers[at].process {
                0 => self.begin_here(at),
                process if queued && parts[process] => self.begin_away(at, process),
                _ => {}
            }
        }
    }

    /// Which processes may begin something: no more than the plan has.
    fn taking_part(&self) -> Vec<bool> {
        let mut left = self.direction.away.map_or(u32::MAX, |plan| plan.processes());
        let part = |process: &Process| {
            let takes = !process.dead && left > 0;
            left -= u32::from(takes);
            takes
        };
        std::iter::once(true).chain(self.processes[1..].iter().map(part)).collect()
    }

    fn start_processes(&mut self) {
        let plan = self.direction.away;
        if (plan.is_some() || self.direction.warm_zygote) && self.zygote == Zygote::Cold {
            self.zygote = Zygote::Warming;
        }
        let missing = self.missing();
        if missing > 0 && self.zygote == Zygote::Ready && self.now >= self.fork_at - EPSILON {
            self.starting.push(self.world.machine.process_start);
            self.fork_at = self.now + self.world.fork;
        }
        let Some(plan) = plan else { return };
        for process in &mut self.processes[1..] {
            if !process.dead && process.threads < plan.threads() && process.thread.is_none() {
                process.thread = Some(self.world.machine.thread_start);
            }
        }
    }

    /// Worker processes that would have something to do.
    fn missing(&self) -> u32 {
        let backlog = u32::from(!self.backlog.is_empty());
        let wanted = self.direction.away.map_or(backlog, |plan| plan.processes());
        let here = self.processes_up() + self.starting.len() as u32;
        let work = self.pending() + self.backlog.len() + self.away as usize;
        wanted.min(u32::try_from(work).unwrap_or(u32::MAX)).saturating_sub(here)
    }

    /// The process of the plan with most room for another chunk.
    fn roomiest(&self) -> Option<usize> {
        let most = self.direction.away.map_or(u32::MAX, |plan| plan.processes()) as usize;
        let alive = (1..self.processes.len()).filter(|&at| !self.processes[at].dead).take(most);
        let under_way = |process: &Process| process.queue.len() + process.running as usize;
        let room = alive.filter_map(|at| {
            let process = &self.processes[at];
            let room = chunk::depth(process.threads, process.pace).saturating_sub(under_way(process));
            (room > 0).then_some((under_way(process) as f64 / f64::from(process.threads), at))
        });
        room.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, at)| at)
    }

    /// Has chunks carried to worker processes, and results from them.
    fn carry(&mut self) {
        while let Some(at) = self.roomiest().filter(|_| !self.backlog.is_empty()) {
            let chunk = self.backlog.pop_front().expect("it is not empty");
            self.processes[at].queue.push_back(chunk);
        }
        if self.workers[CARRIER].job.is_some() {
            return;
        }
        let (world, carriage) = (self.world, self.work.carriage);
        let machine = &world.machine;
        if let Some(plan) = self.direction.away
            && self.pending() > 0
            && let Some(at) = self.roomiest()
        {
            let tasks = self.take(plan.workers());
            let each = carriage.here / 2.0 + carriage.bytes * machine.byte;
            let gil = machine.process_task + each * tasks.len() as f64;
            return self.begin(CARRIER, Duty::Send(at), tasks, [Step::Task(Phase::Gil(gil))].into());
        }
        if !self.arrivals.is_empty() {
            let tasks: usize = self.arrivals.iter().map(|arrival| arrival.tasks.len()).sum();
            let gil = carriage.here / 2.0 * tasks as f64;
            self.begin(CARRIER, Duty::Settle, 0..0, [Step::Task(Phase::Gil(gil))].into());
        }
    }

    fn take(&mut self, workers: u32) -> Range<usize> {
        let left = self.pending();
        let size = match self.work.stream {
            Some(_) => 1,
            None => chunk::size(left, workers, self.profile.wall(), self.profile.tasks()),
        };
        let tasks = self.next..self.next + size;
        self.next += size;
        tasks
    }

    fn begin_here(&mut self, at: usize) {
        let running = self.processes[0].running;
        if self.direction.hold || running >= self.direction.width || self.pending() == 0 {
            return;
        }
        let tasks = self.take(self.direction.width);
        self.outcome.here += tasks.len();
        let steps = self.steps(&tasks);
        self.begin(at, Duty::Here, tasks, steps);
    }

    fn begin_away(&mut self, at: usize, process: usize) {
        let full = self.direction.away.is_some_and(|plan| self.processes[process].running >= plan.threads());
        if full {
            return;
        }
        let own = self.processes[process].queue.pop_front();
        let stolen = || {
            let longest = (1..self.processes.len()).max_by_key(|&other| self.processes[other].queue.len())?;
            (!self.processes[longest].queue.is_empty()).then_some(longest)
        };
        let (tasks, waited) = match own {
            Some(tasks) => (tasks, false),
            None => match stolen() {
                Some(other) => (self.processes[other].queue.pop_back().expect("it is not empty"), true),
                None => return,
            },
        };
        let mut steps = VecDeque::new();
        if waited || self.processes[process].pace.is_none() {
            steps.push_back(Step::Trip(self.world.machine.hop / 2.0));
        }
        let new = !std::mem::replace(&mut self.processes[process].imported, true);
        let imports = if new { self.work.modules * self.world.machine.module() } else { 0.0 };
        steps.push_back(Step::Before(imports + self.work.carriage.there * tasks.len() as f64));
        steps.append(&mut self.steps(&tasks));
        self.begin(at, Duty::Away, tasks, steps);
    }

    fn steps(&self, tasks: &Range<usize>) -> VecDeque<Step> {
        let mut phases: Vec<Phase> = Vec::new();
        for &phase in self.work.tasks[tasks.clone()].iter().flat_map(|task| task.iter()) {
            if !phases.last_mut().is_some_and(|last| last.absorb(phase)) {
                phases.push(phase);
            }
        }
        phases.into_iter().map(Step::Task).collect()
    }

    fn begin(&mut self, at: usize, duty: Duty, tasks: Range<usize>, steps: VecDeque<Step>) {
        let process = self.workers[at].process;
        let mut together = 1;
        if self.computes(duty) {
            self.processes[process].running += 1;
            together = self.processes[process].running;
            let all = self.processes.iter().map(|process| process.running).sum();
            self.outcome.most = self.outcome.most.max(all);
            self.outcome.most_here = self.outcome.most_here.max(self.processes[0].running);
        }
        let (began, cpu, delay, left) = (self.now, 0.0, 0.0, 0.0);
        self.workers[at].job =
            Some(Job { duty, tasks, steps, left, began, cpu, delay, together, seen: None });
        self.enter(at);
    }

    /// Begins the next step of a worker's job, or ends the job.
    fn enter(&mut self, at: usize) {
        let process = self.workers[at].process;
        let Some(job) = self.workers[at].job.as_mut() else { return };
        let Some(step) = job.steps.front() else { return self.end(at) };
        job.left = step.seconds();
        if step.wants_gil() {
            self.processes[process].waiting.push_back(at);
            self.pass_gil(process);
        }
    }

    fn pass_gil(&mut self, process: usize) {
        let (quantum, rests) = (self.world.machine.switch_interval, self.rests);
        let process = &mut self.processes[process];
        if process.holder.is_none() && !process.waiting.is_empty() {
            process.holder = process.waiting.pop_front();
            process.handovers += 1.0;
            let is_alone = rests && process.holder == Some(ASKER);
            process.quantum = if is_alone { f64::INFINITY } else { quantum };
        }
    }

    fn end(&mut self, at: usize) {
        let process = self.workers[at].process;
        let Some(job) = self.workers[at].job.take() else { return };
        let (took, tasks) = (self.now - job.began, job.tasks.len());
        let cost = Cost { wall: took - job.delay, cpu: job.cpu, delay: job.delay };
        if self.computes(job.duty) {
            let together = self.processes[process].running.max(job.together);
            self.processes[process].running -= 1;
            if job.duty == Duty::Here {
                self.finish(&job.tasks);
                self.profile.record(&Reading {
                    tasks: tasks as u64,
                    wall: cost.wall,
                    delay: Some(cost.delay),
                    cpu: Some(cost.cpu),
                    together,
                    sampled: true,
                    first: job.tasks.start == 0,
                    ..Reading::default()
                });
                return;
            }
        }
        match job.duty {
            Duty::Here => {}
            Duty::Away => {
                let took = took + self.work.carriage.there * tasks as f64;
                let process = &mut self.processes[process];
                process.pace = Some(chunk::paced(process.pace, took));
                self.arrivals.push(Arrival { tasks: job.tasks, cost: Some(cost) });
            }
            Duty::Send(to) => {
                self.away += tasks as u64;
                let dead = self.processes[to].dead;
                let queue = if dead { &mut self.backlog } else { &mut self.processes[to].queue };
                queue.push_back(job.tasks);
            }
            Duty::Settle => self.settle(),
            Duty::Ask => {
                self.leave = self.work.leave.clone();
                // The time in which the tasks rested counts nowhere.
                let rested = if self.rests { self.now - job.began } else { 0.0 };
                self.rests = false;
                let jobs = self.workers.iter_mut().filter(|worker| worker.process == 0);
                for job in jobs.filter_map(|worker| worker.job.as_mut()) {
                    let rests = job.steps.front().is_some_and(|step| step.wants_gil());
                    job.began += if rests { rested } else { 0.0 };
                }
            }
        }
    }

    fn settle(&mut self) {
        let carriage = self.work.carriage;
        let threads = self.direction.away.map_or(1, Plan::threads);
        for Arrival { tasks, cost } in std::mem::take(&mut self.arrivals) {
            self.away -= tasks.len() as u64;
            self.finish(&tasks);
            let Some(Cost { wall, cpu, delay }) = cost else { continue };
            let half = |bytes: f64| Pickling {
                encode: Some(carriage.here / 2.0 * tasks.len() as f64),
                decode: Some(carriage.there / 2.0 * tasks.len() as f64),
                bytes: bytes * tasks.len() as f64,
            };
            let back = half(0.0);
            self.profile.record(&Reading {
                tasks: tasks.len() as u64,
                wall,
                delay: Some(delay),
                cpu: Some(cpu),
                together: threads,
                sampled: false,
                arguments: Some(half(carriage.bytes)),
                results: Some(Pickling { encode: back.decode, decode: back.encode, ..back }),
                ..Reading::default()
            });
        }
    }

    /// They have their outcome.
    fn finish(&mut self, tasks: &Range<usize>) {
        self.done += tasks.len() as u64;
        for task in tasks.clone() {
            self.outcome.finished[task] += 1;
        }
        while self.outcome.finished.get(self.delivered).is_some_and(|&times| times > 0) {
            self.delivered += 1;
        }
    }

    /// Kills a worker process whose time has come: what it runs dies with it, what it has not begun comes back.
    fn bury(&mut self) {
        if self.deaths.front().is_none_or(|&at| self.now < at - EPSILON) {
            return;
        }
        self.deaths.pop_front();
        let alive = (1..self.processes.len()).filter(|&at| !self.processes[at].dead);
        let Some(victim) = alive.max_by_key(|&at| self.processes[at].running) else { return };
        let queue = std::mem::take(&mut self.processes[victim].queue);
        self.backlog.extend(queue);
        self.processes[victim] = Process { dead: true, ..Process::default() };
        for worker in self.workers.iter_mut().filter(|worker| worker.process == victim) {
            if let Some(job) = worker.job.take() {
                self.outcome.lost += job.tasks.len();
                self.arrivals.push(Arrival { tasks: job.tasks, cost: None });
            }
        }
    }

    fn class(&self, at: usize) -> Option<Class> {
        let worker = &self.workers[at];
        let step = worker.job.as_ref()?.steps.front()?;
        Some(match step {
            _ if step.wants_gil() && self.processes[worker.process].holder == Some(at) => Class::Held,
            _ if step.wants_gil() => Class::GilWait,
            Step::Task(Phase::Off(_)) => Class::OffGil,
            Step::Task(Phase::Sleep(_)) => Class::Sleep,
            _ => Class::Io,
        })
    }

    /// The workers whose task waits, in the order in which the tasks were given out.
    fn waiting(&self) -> Vec<usize> {
        let first = |at: &usize| self.workers[*at].job.as_ref().map(|job| job.tasks.start);
        let waits = |at: &usize| {
            let step = self.workers[*at].job.as_ref().and_then(|job| job.steps.front());
            matches!(step, Some(Step::Task(Phase::Wait(_))))
        };
        let mut waiting: Vec<usize> = (0..self.workers.len()).filter(waits).collect();
        waiting.sort_by_key(first);
        waiting
    }

    fn is_on_core(&self, at: usize, class: Option<Class>) -> bool {
        matches!(class, Some(Class::Held | Class::OffGil)) || self.runs_program(at)
    }

    fn runs_program(&self, at: usize) -> bool {
        let step = self.workers[at].job.as_ref().and_then(|job| job.steps.front());
        matches!(step, Some(Step::Task(Phase::Program(_))))
    }

    /// Goes on until something happens, or until then.
    fn advance(&mut self, until: f64) {
        let drag = self.work.drag;
        let classes: Vec<Option<Class>> = (0..self.workers.len()).map(|at| self.class(at)).collect();
        let mut computing = self.starting.len() + usize::from(self.zygote == Zygote::Warming);
        let mut crowds = vec![0_u32; self.processes.len()];
        for (at, class) in classes.iter().enumerate() {
            computing += usize::from(self.is_on_core(at, *class));
            let wants_core = matches!(class, Some(Class::Held | Class::OffGil | Class::GilWait));
            crowds[self.workers[at].process] += u32::from(wants_core && at != CARRIER && at != ASKER);
        }
        let rate = (self.world.machine.cores / computing.max(1) as f64).min(1.0);
        // How fast each goes through its step.
        let mut speeds: Vec<f64> = (0..self.workers.len())
            .map(|at| match classes[at] {
                Some(Class::Held | Class::OffGil) if drag > 1.0 && crowds[self.workers[at].process] > 1 => {
                    rate / drag
                }
                Some(Class::Held | Class::OffGil) => rate,
                Some(Class::Io) if self.runs_program(at) => rate,
                Some(Class::Io | Class::Sleep) => 1.0,
                _ => 0.0,
            })
            .collect();
        if let Some(server) = self.work.server {
            let waiting = self.waiting();
            for (at, speed) in waiting.iter().zip(server.speeds(waiting.len())) {
                speeds[*at] = speed;
            }
        }
        let step = self.step(&speeds, rate, until).max(0.0);
        assert!(step.is_finite(), "nothing runs and nothing will: {:?}", self.direction);
        self.now += step;
        for (process, crowd) in self.processes.iter_mut().zip(crowds) {
            process.quantum -= step;
            process.handovers += if drag > 1.0 && crowd > 1 { DRAGGING * step } else { 0.0 };
        }
        let mut over = Vec::new();
        for (at, speed) in speeds.into_iter().enumerate().filter(|(_, speed)| *speed > 0.0) {
            let computes = matches!(classes[at], Some(Class::Held | Class::OffGil));
            let Some(job) = self.workers[at].job.as_mut() else { continue };
            job.left -= step * speed;
            if computes {
                job.cpu += step * rate;
                job.delay += step * (1.0 - rate);
            }
            if job.left <= EPSILON {
                over.push(at);
            }
        }
        for at in over {
            self.step_over(at);
        }
        for process in 0..self.processes.len() {
            let this = &mut self.processes[process];
            if this.quantum <= EPSILON && !this.waiting.is_empty() {
                this.waiting.extend(this.holder.take());
                self.pass_gil(process);
            }
        }
        self.start(step, rate);
    }

    /// Seconds until something happens.
    fn step(&self, speeds: &[f64], rate: f64, until: f64) -> f64 {
        let mut step = until - self.now;
        for (worker, speed) in self.workers.iter().zip(speeds).filter(|(_, speed)| **speed > 0.0) {
            step = step.min(worker.job.as_ref().map_or(f64::INFINITY, |job| job.left / speed));
        }
        for process in &self.processes {
            if process.holder.is_some() && !process.waiting.is_empty() {
                step = step.min(process.quantum);
            }
            step = step.min(process.thread.unwrap_or(f64::INFINITY));
        }
        for left in &self.starting {
            step = step.min(left / rate);
        }
        if self.zygote == Zygote::Warming && self.work.forks {
            step = step.min(self.zygote_left / rate);
        }
        if self.zygote == Zygote::Ready && self.missing() > 0 {
            step = step.min(self.fork_at - self.now);
        }
        if let Some(at) = self.deaths.front() {
            step = step.min(at - self.now);
        }
        if let Some(stream) = self.work.stream {
            let given = self.given(stream);
            if given < self.work.tasks.len() {
                step = step.min(given as f64 * stream.every.max(SOONEST) - self.now);
            }
        }
        step
    }

    /// A worker's step is over.
    fn step_over(&mut self, at: usize) {
        let process = self.workers[at].process;
        if self.processes[process].holder == Some(at) {
            self.processes[process].holder = None;
        }
        let Some(job) = self.workers[at].job.as_mut() else { return };
        match job.steps.pop_front() {
            Some(Step::Trip(_) | Step::Before(_)) => (job.began, job.cpu, job.delay) = (self.now, 0.0, 0.0),
            Some(Step::Task(Phase::Program(took))) if process == 0 => self.programs += took,
            _ => {}
        }
        self.enter(at);
        self.pass_gil(process);
    }

    fn start(&mut self, step: f64, rate: f64) {
        for at in 0..self.processes.len() {
            let Some(left) = self.processes[at].thread.as_mut() else { continue };
            *left -= step;
            if *left <= EPSILON {
                self.processes[at].thread = None;
                self.processes[at].threads += 1;
                self.workers.push(Worker { process: at, job: None });
            }
        }
        self.starting.iter_mut().for_each(|left| *left -= step * rate);
        for _ in self.starting.extract_if(.., |left| *left <= EPSILON) {
            self.workers.push(Worker { process: self.processes.len(), job: None });
            self.processes.push(Process { threads: 1, ..Process::default() });
            self.outcome.started += 1;
        }
        if self.zygote == Zygote::Warming {
            self.zygote_left -= if self.work.forks { step * rate } else { 0.0 };
            if self.zygote_left <= EPSILON {
                self.zygote = Zygote::Ready;
            }
        }
    }

    /// What the meter and the supervisor do.
    fn tick(&mut self, governor: &mut Governor, since: f64) {
        let mut shares = Shares::default();
        let mut running = Vec::new();
        let asking = self.workers[ASKER].job.is_some();
        for at in 0..self.workers.len() {
            let Some(class) = self.class(at).filter(|_| at != CARRIER && at != ASKER) else { continue };
            if self.workers[at].process > 0 {
                continue;
            }
            let mistaken = self.world.noise > 0.0 && self.throw() < self.world.noise;
            let class = match class {
                Class::Io | Class::Sleep => class,
                _ if !self.work.metered => Class::Unknown,
                Class::Held if mistaken => Class::OffGil,
                Class::OffGil if mistaken => Class::Held,
                class => class,
            };
            let now = self.now;
            let Some(job) = self.workers[at].job.as_mut() else { continue };
            let streak = match job.seen {
                Some((before, streak)) if before == class => streak + since,
                _ => 0.0,
            };
            job.seen = Some((class, streak));
            let tasks = job.tasks.len() as u32;
            running.push(Running { class, streak, elapsed: now - job.began, tasks });
            *match class {
                Class::Held => &mut shares.held,
                Class::HeldBlocked => &mut shares.held_blocked,
                Class::OffGil => &mut shares.off_gil,
                Class::GilWait => &mut shares.gil_wait,
                Class::LockWait => &mut shares.lock_wait,
                Class::Io | Class::Sleep => &mut shares.io,
                Class::Unknown => &mut shares.unknown,
            } += 1;
        }
        // What the caller is asked meanwhile is its own doing, not that of the tasks.
        if asking && !running.iter().any(|task| task.class.waits_elsewhere()) {
            return;
        }
        self.profile.sample(&shares);
        if self.world.question <= 0.0 && self.asked_at.is_some_and(|at| self.now - at >= 0.001) {
            self.leave = self.work.leave.clone();
        }
        let busy = (0..self.workers.len()).filter(|&at| self.is_on_core(at, self.class(at))).count();
        let crowded = busy as f64 >= self.world.machine.cores;
        let direction = governor.tick(&Observation {
            crowded,
            programs: self.programs,
            handovers: self.work.metered.then_some(self.processes[0].handovers as u64),
            now: self.now,
            pending: self.pending() as u64,
            done: self.done,
            running: &running,
            away: self.away,
            profile: &self.profile,
            zygote: self.zygote,
            leave: &self.leave,
            processes_now: self.processes_up(),
            threads_now: self.processes[0].threads,
        });
        assert!(direction.width >= 1);
        if direction.away.is_some() {
            assert_eq!(self.leave, Leave::Yes, "nothing leaves before it may");
        }
        if direction.ask_leave && self.asked_at.is_none() {
            self.rests = running.len() == 1 && !running[0].class.waits_elsewhere();
            self.ask();
        }
        if let Some(verdict) = direction.verdict.clone() {
            self.outcome.verdicts.push((self.now, verdict));
        }
        self.direction = direction;
    }

    /// Begins to find out whether the work may leave, and what carrying it would cost.
    fn ask(&mut self) {
        self.asked_at = Some(self.now);
        self.outcome.asked = true;
        self.profile.expect_imports(self.work.modules);
        let carriage = self.work.carriage;
        let half = Pickling { encode: Some(carriage.here / 2.0), decode: None, bytes: carriage.bytes };
        self.profile.try_arguments(&half);
        self.profile.try_result(&Pickling { encode: Some(carriage.there / 2.0), bytes: 0.0, ..half });
        if self.world.question > 0.0 {
            let steps = [Step::Task(Phase::Gil(self.world.question))].into();
            self.begin(ASKER, Duty::Ask, 0..0, steps);
            let calling = &mut self.processes[0];
            if self.rests && calling.holder != Some(ASKER) {
                calling.waiting.retain(|&at| at != ASKER);
                calling.waiting.push_front(ASKER);
                calling.quantum = 0.0;
            }
        }
    }
}
