//! The governor at work on a simulated machine: cores shared fairly, one GIL per process with its switch
//! interval, workers that take time to start. No clock, no Python: each run is exact and repeatable.

use std::collections::VecDeque;

use forkright_engine::choose::{Leave, Verdict, choose};
use forkright_engine::forecast::Zygote;
use forkright_engine::governor::{Class, Direction, Governor, Observation, Pace, Running};
use forkright_engine::machine::Machine;
use forkright_engine::plan::{Kind, Plan};
use forkright_engine::profile::{Profile, Reading, Shares};
use proptest::prelude::*;

/// What a task does next, in seconds.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Gil(f64),
    Off(f64),
    Wait(f64),
    /// A trip to a worker process that had nothing to do: a wait that is not the task's own.
    Trip(f64),
}
use Phase::*;

impl Phase {
    fn seconds(self) -> f64 {
        match self {
            Gil(t) | Off(t) | Wait(t) | Trip(t) => t,
        }
    }
}

#[derive(Clone, Debug)]
struct Workload {
    tasks: Vec<Vec<Phase>>,
    /// Whether the number of tasks is known at the start.
    counted: bool,
    leave: Leave,
    /// Whether the meter can see the GIL.
    metered: bool,
    /// Whether the helper that forks workers ever comes up.
    forks: bool,
}

impl Workload {
    fn of(tasks: Vec<Vec<Phase>>) -> Self {
        Self { tasks, counted: true, leave: Leave::Yes, metered: true, forks: true }
    }

    fn same(count: usize, task: &[Phase]) -> Self {
        Self::of(vec![task.to_vec(); count])
    }
}

/// A task in a worker's hands.
struct Job {
    task: usize,
    phases: VecDeque<Phase>,
    left: f64,
    began: f64,
    cpu: f64,
    together: u32,
    seen: Option<(Class, f64)>,
}

struct Worker {
    process: usize,
    job: Option<Job>,
}

#[derive(Default)]
struct Gil {
    holder: Option<usize>,
    queue: VecDeque<usize>,
    /// Wall time until the holder must let go if somebody queues.
    quantum: f64,
}

enum Driver {
    Fixed(Plan),
    Auto(Box<Governor>),
}

struct Outcome {
    seconds: f64,
    here: usize,
    most_here: u32,
    /// The most tasks that ran at once, here and away.
    most: usize,
    plan: Plan,
    verdicts: Vec<(f64, Verdict)>,
    asked: bool,
}

struct Sim<'a> {
    machine: Machine,
    work: &'a Workload,
    now: f64,
    next: usize,
    finished: Vec<u32>,
    done: u64,
    workers: Vec<Worker>,
    gils: Vec<Gil>,
    threads_up: u32,
    thread_start: Option<f64>,
    zygote: Zygote,
    zygote_left: f64,
    process_left: Option<f64>,
    /// A thread that starts in a worker process.
    inside_start: Option<(usize, f64)>,
    asked_at: Option<f64>,
    leave: Leave,
    profile: Profile,
    direction: Direction,
    outcome: Outcome,
}

const EPSILON: f64 = 1e-12;

impl<'a> Sim<'a> {
    fn run(work: &'a Workload, machine: &Machine, mut driver: Driver) -> Outcome {
        let direction = match &driver {
            Driver::Fixed(plan) => Direction {
                width: plan.threads(),
                ready: plan.threads(),
                away: plan.leaves().then_some(*plan),
                warm_zygote: plan.leaves(),
                ask_leave: false,
                hold: plan.leaves(),
                pace: Pace::Steady,
                verdict: None,
            },
            Driver::Auto(_) => Direction {
                width: 1,
                ready: 1,
                away: None,
                warm_zygote: false,
                ask_leave: false,
                hold: false,
                pace: Pace::Learning,
                verdict: None,
            },
        };
        let mut sim = Sim {
            machine: machine.clone(),
            work,
            now: 0.0,
            next: 0,
            finished: vec![0; work.tasks.len()],
            done: 0,
            workers: vec![Worker { process: 0, job: None }],
            gils: vec![Gil::default()],
            threads_up: 1,
            thread_start: None,
            zygote: Zygote::Cold,
            zygote_left: machine.zygote_start,
            process_left: None,
            inside_start: None,
            asked_at: None,
            leave: Leave::Unknown,
            profile: Profile::default(),
            direction,
            outcome: Outcome {
                seconds: 0.0,
                here: 0,
                most_here: 0,
                most: 0,
                plan: Plan::SERIAL,
                verdicts: Vec::new(),
                asked: false,
            },
        };
        let mut tick = 0.001;
        let mut ticked = 0.0;
        let mut jitter = 1_u32;
        let mut steps = 0_u64;
        while sim.done < work.tasks.len() as u64 {
            sim.dispatch();
            let ticking = matches!(driver, Driver::Auto(_));
            let step = sim.step(if ticking { tick - sim.now } else { f64::INFINITY });
            assert!(step.is_finite(), "nothing runs and nothing will: {:?}", sim.direction);
            sim.advance(step.max(0.0));
            steps += 1;
            assert!(steps < 10_000_000, "it never ends: {} s, {:?}", sim.now, sim.direction);
            if let Driver::Auto(governor) = &mut driver
                && sim.now >= tick - EPSILON
            {
                sim.tick(governor, sim.now - ticked);
                ticked = sim.now;
                // As the meter does: half to one and a half periods, so as not to beat with the tasks.
                jitter = jitter.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let period = if sim.direction.pace == Pace::Learning { 0.001 } else { 0.005 };
                tick = sim.now + period * (0.5 + f64::from(jitter >> 8) / f64::from(1 << 24));
            }
        }
        assert!(sim.finished.iter().all(|&times| times == 1), "each task runs exactly once");
        sim.outcome.seconds = sim.now;
        if let Driver::Auto(governor) = &driver {
            sim.outcome.plan = governor.plan();
        }
        sim.outcome
    }

    fn running_in(&self, process: usize) -> u32 {
        self.workers.iter().filter(|worker| worker.process == process && worker.job.is_some()).count() as u32
    }

    fn threads_of(&self, process: usize) -> u32 {
        self.workers.iter().filter(|worker| worker.process == process).count() as u32
    }

    fn processes_up(&self) -> u32 {
        self.gils.len() as u32 - 1
    }

    /// Starts what the direction asks for and hands out tasks.
    fn dispatch(&mut self) {
        if self.direction.warm_zygote && self.zygote == Zygote::Cold {
            self.zygote = Zygote::Warming;
        }
        if let Some(plan) = self.direction.away {
            if self.zygote == Zygote::Cold {
                self.zygote = Zygote::Warming;
            }
            let missing = self.processes_up() < plan.processes();
            if self.zygote == Zygote::Ready && missing && self.process_left.is_none() {
                self.process_left = Some(self.machine.process_start);
            }
            let short = (1..self.gils.len()).find(|&process| self.threads_of(process) < plan.threads());
            if self.inside_start.is_none() {
                self.inside_start = short.map(|process| (process, self.machine.thread_start));
            }
        }
        for worker in 0..self.workers.len() {
            if self.next == self.work.tasks.len() {
                return;
            }
            let process = self.workers[worker].process;
            let wanted = if process == 0 {
                !self.direction.hold && self.running_in(0) < self.direction.width
            } else {
                self.direction.away.is_some_and(|plan| {
                    process <= plan.processes() as usize && self.running_in(process) < plan.threads()
                })
            };
            if wanted && self.workers[worker].job.is_none() {
                self.begin(worker);
            }
        }
        let lacking = !self.direction.hold && self.running_in(0) < self.direction.width;
        let more = self.threads_up < self.direction.width && self.next < self.work.tasks.len();
        if lacking && more && self.thread_start.is_none() {
            self.thread_start = Some(self.machine.thread_start);
        }
    }

    fn begin(&mut self, worker: usize) {
        let task = self.next;
        self.next += 1;
        let mut phases: VecDeque<Phase> = self.work.tasks[task].iter().copied().collect();
        let process = self.workers[worker].process;
        if process > 0 {
            phases.push_front(Trip(self.machine.hop / 2.0));
        } else {
            self.outcome.here += 1;
        }
        self.workers[worker].job =
            Some(Job { task, phases, left: 0.0, began: self.now, cpu: 0.0, together: 1, seen: None });
        let together = self.running_in(process);
        let all = self.workers.iter().filter(|worker| worker.job.is_some()).count();
        self.outcome.most = self.outcome.most.max(all);
        self.outcome.most_here = self.outcome.most_here.max(self.running_in(0));
        let mates = self.workers.iter_mut().filter(|mate| mate.process == process);
        mates.filter_map(|mate| mate.job.as_mut()).for_each(|job| job.together = job.together.max(together));
        self.enter(worker);
    }

    /// Begins the next phase of a worker's task, or ends the task.
    fn enter(&mut self, worker: usize) {
        let process = self.workers[worker].process;
        let Some(job) = self.workers[worker].job.as_mut() else { return };
        match job.phases.front() {
            Some(phase) => {
                job.left = phase.seconds();
                if matches!(phase, Gil(_)) {
                    let gil = &mut self.gils[process];
                    gil.queue.push_back(worker);
                    self.pass_gil(process);
                }
            }
            None => {
                let job = self.workers[worker].job.take().expect("it was there a moment ago");
                self.finished[job.task] += 1;
                self.done += 1;
                let wall = self.now - job.began;
                self.profile.record(&Reading {
                    tasks: 1,
                    wall,
                    cpu: Some(job.cpu),
                    together: job.together,
                    sampled: process == 0,
                    ..Reading::default()
                });
            }
        }
    }

    fn pass_gil(&mut self, process: usize) {
        let gil = &mut self.gils[process];
        if gil.holder.is_none() {
            gil.holder = gil.queue.pop_front();
            gil.quantum = self.machine.switch_interval;
        }
    }

    fn class(&self, worker: usize) -> Option<Class> {
        let at = &self.workers[worker];
        Some(match at.job.as_ref()?.phases.front()? {
            Gil(_) if self.gils[at.process].holder == Some(worker) => Class::Held,
            Gil(_) => Class::GilWait,
            Off(_) => Class::OffGil,
            Wait(_) | Trip(_) => Class::Io,
        })
    }

    /// Jobs that need a core now, the starting of workers included.
    fn computing(&self) -> usize {
        let tasks = (0..self.workers.len())
            .filter(|&worker| matches!(self.class(worker), Some(Class::Held | Class::OffGil)))
            .count();
        tasks + usize::from(self.zygote == Zygote::Warming) + usize::from(self.process_left.is_some())
    }

    fn rate(&self) -> f64 {
        (self.machine.cores / self.computing().max(1) as f64).min(1.0)
    }

    /// Time until something happens.
    fn step(&self, until_tick: f64) -> f64 {
        let rate = self.rate();
        let mut step = until_tick;
        for worker in 0..self.workers.len() {
            let left = self.workers[worker].job.as_ref().map_or(0.0, |job| job.left);
            step = step.min(match self.class(worker) {
                Some(Class::Held | Class::OffGil) => left / rate,
                Some(Class::Io) => left,
                _ => f64::INFINITY,
            });
        }
        for gil in &self.gils {
            if gil.holder.is_some() && !gil.queue.is_empty() {
                step = step.min(gil.quantum);
            }
        }
        step = step.min(self.thread_start.unwrap_or(f64::INFINITY));
        step = step.min(self.inside_start.map_or(f64::INFINITY, |(_, left)| left));
        step = step.min(self.process_left.map_or(f64::INFINITY, |left| left / rate));
        if self.zygote == Zygote::Warming && self.work.forks {
            step = step.min(self.zygote_left / rate);
        }
        step
    }

    fn advance(&mut self, step: f64) {
        let rate = self.rate();
        let classes: Vec<Option<Class>> = (0..self.workers.len()).map(|worker| self.class(worker)).collect();
        self.now += step;
        let mut over = Vec::new();
        for (index, class) in classes.into_iter().enumerate() {
            let Some(job) = self.workers[index].job.as_mut() else { continue };
            match class {
                Some(Class::Held | Class::OffGil) => {
                    job.left -= step * rate;
                    job.cpu += step * rate;
                }
                Some(Class::Io) => job.left -= step,
                _ => continue,
            }
            if job.left <= EPSILON {
                over.push(index);
            }
        }
        for gil in &mut self.gils {
            gil.quantum -= step;
        }
        for index in over {
            let process = self.workers[index].process;
            if self.gils[process].holder == Some(index) {
                self.gils[process].holder = None;
            }
            let job = self.workers[index].job.as_mut().expect("it ran a phase");
            if matches!(job.phases.pop_front(), Some(Trip(_))) {
                job.began = self.now;
            }
            self.enter(index);
            self.pass_gil(process);
        }
        for process in 0..self.gils.len() {
            let gil = &mut self.gils[process];
            if gil.quantum <= EPSILON && !gil.queue.is_empty() {
                gil.queue.extend(gil.holder.take());
                self.pass_gil(process);
            }
        }
        self.start(step, rate);
    }

    fn start(&mut self, step: f64, rate: f64) {
        if let Some(left) = self.thread_start.as_mut() {
            *left -= step;
            if *left <= EPSILON {
                self.thread_start = None;
                self.threads_up += 1;
                self.workers.push(Worker { process: 0, job: None });
            }
        }
        if let Some((process, left)) = self.inside_start.as_mut() {
            *left -= step;
            if *left <= EPSILON {
                self.workers.push(Worker { process: *process, job: None });
                self.inside_start = None;
            }
        }
        if let Some(left) = self.process_left.as_mut() {
            *left -= step * rate;
            if *left <= EPSILON {
                self.process_left = None;
                self.workers.push(Worker { process: self.gils.len(), job: None });
                self.gils.push(Gil::default());
            }
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
        for worker in 0..self.workers.len() {
            let Some(class) = self.class(worker) else { continue };
            if self.workers[worker].process > 0 {
                continue;
            }
            let class = match class {
                Class::Io => Class::Io,
                _ if !self.work.metered => Class::Unknown,
                class => class,
            };
            let job = self.workers[worker].job.as_mut().expect("it has a class");
            let streak = match job.seen {
                Some((before, streak)) if before == class => streak + since,
                _ => 0.0,
            };
            job.seen = Some((class, streak));
            running.push(Running { class, streak, elapsed: self.now - job.began });
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
        self.profile.sample(&shares);
        if self.asked_at.is_some_and(|at| self.now - at >= 0.001) {
            self.leave = self.work.leave.clone();
        }
        let away = self.workers.iter().filter(|worker| worker.process > 0 && worker.job.is_some()).count();
        let direction = governor.tick(&Observation {
            programs: 0.0,
            handovers: None,
            now: self.now,
            pending: (self.work.tasks.len() - self.next) as u64,
            done: self.done,
            running: &running,
            away: away as u64,
            profile: &self.profile,
            zygote: self.zygote,
            leave: &self.leave,
            processes_now: self.processes_up(),
            threads_now: self.threads_up,
        });
        assert!(direction.width >= 1);
        if direction.away.is_some() {
            assert_eq!(self.leave, Leave::Yes, "nothing leaves before it may");
        }
        if direction.ask_leave && self.asked_at.is_none() {
            self.asked_at = Some(self.now);
            self.outcome.asked = true;
        }
        if let Some(verdict) = direction.verdict.clone() {
            let record = serde_json::to_string(&verdict.case).expect("plain data");
            let again = choose(serde_json::from_str(&record).expect("it was written so"));
            assert_eq!(again.as_ref(), Some(&verdict), "what was recorded gives the same again");
            self.outcome.verdicts.push((self.now, verdict));
        }
        self.direction = direction;
    }
}

fn machine(cores: f64) -> Machine {
    Machine { cores, ..Machine::default() }
}

fn auto(work: &Workload, machine: &Machine) -> Outcome {
    limited(work, machine, None)
}

fn limited(work: &Workload, machine: &Machine, most: Option<u32>) -> Outcome {
    let items = work.counted.then_some(work.tasks.len() as u64);
    Sim::run(work, machine, Driver::Auto(Box::new(Governor::new(machine.clone(), most, items))))
}

fn fixed(work: &Workload, machine: &Machine, plan: Plan) -> f64 {
    Sim::run(work, machine, Driver::Fixed(plan)).seconds
}

/// The best fixed plan, with the workers it starts paid for.
fn best(work: &Workload, machine: &Machine) -> (Plan, f64) {
    let cores = machine.width();
    let most = work.tasks.len().min(256) as u32;
    let mut plans = vec![(0, 1), (0, cores), (0, most)];
    plans.extend([2, 4, 8, 16, 32, 64].map(|threads| (0, threads)));
    if work.leave == Leave::Yes {
        plans.extend(
            [1, 2, cores / 2, cores].iter().flat_map(|&p| [1, 2, 4, 8, 16, 32].map(|t| (p.max(1), t))),
        );
    }
    let plans = plans.into_iter().filter_map(|(p, t)| Plan::new(p, t).ok());
    let timed = plans.map(|plan| (plan, fixed(work, machine, plan)));
    timed.min_by(|a, b| a.1.total_cmp(&b.1)).expect("there are plans")
}

/// Auto's time over the best fixed plan's, printed with what happened on the way.
fn regret(name: &str, work: &Workload, cores: f64) -> (f64, Outcome) {
    let machine = machine(cores);
    let taken = auto(work, &machine);
    let (plan, seconds) = best(work, &machine);
    let regret = taken.seconds / seconds;
    println!(
        "{name} on {cores} cores: auto {:.3} s ({} here, ends as {}), best {seconds:.3} s ({plan}): {regret:.2}",
        taken.seconds, taken.here, taken.plan
    );
    for (at, verdict) in &taken.verdicts {
        println!("    {:.0} ms: {}", at * 1e3, verdict.sentence);
    }
    (regret, taken)
}

#[test]
fn two_long_pure_python_items_run_on_two_cores() {
    let (regret, taken) = regret("2 calc", &Workload::same(2, &[Gil(0.3)]), 2.0);
    assert!(regret <= 1.02, "{regret}");
    assert!(taken.seconds < 0.4 && taken.most_here == 1);
}

#[test]
fn four_long_pure_python_items_run_on_two_cores() {
    let (regret, taken) = regret("4 calc", &Workload::same(4, &[Gil(0.3)]), 2.0);
    assert!(regret <= 1.1, "{regret}");
    assert_eq!(taken.most_here, 1, "two that hold the GIL never run in one process");
}

#[test]
fn twenty_requests_are_in_flight_at_once() {
    let work = Workload::same(20, &[Gil(0.0005), Wait(0.1), Gil(0.0005)]);
    let (regret, taken) = regret("20 requests", &work, 2.0);
    assert!(regret <= 1.1, "{regret}");
    assert_eq!(taken.most_here, 20);
    assert!(taken.verdicts.first().is_some_and(|(_, verdict)| verdict.plan.kind() == Kind::Threads));
    assert!(!taken.asked, "what only waits is not examined");
}

#[test]
fn hashing_runs_on_threads_up_to_the_cores() {
    for cores in [2.0, 8.0] {
        let work = Workload::same(64, &[Gil(0.001), Off(0.02)]);
        let (regret, taken) = regret("hash", &work, cores);
        assert!(regret <= 1.15, "{regret}");
        assert_eq!(taken.plan.kind(), Kind::Threads);
    }
}

#[test]
fn pages_end_in_processes_with_threads() {
    let (regret, taken) = regret("pages", &Workload::same(40, &[Wait(0.05), Gil(0.02)]), 2.0);
    assert!(regret <= 1.25, "{regret}");
    assert!(taken.verdicts.iter().any(|(_, verdict)| verdict.plan.leaves()));
}

#[test]
fn many_pages_end_in_processes_with_threads() {
    for cores in [2.0, 8.0] {
        let (regret, taken) = regret("many pages", &Workload::same(400, &[Wait(0.05), Gil(0.02)]), cores);
        assert!(regret <= 1.25, "{regret}");
        assert_eq!(taken.plan.kind(), Kind::Hybrid);
    }
}

#[test]
fn microseconds_stay_where_they_are() {
    let (regret, taken) = regret("tiny", &Workload::same(100_000, &[Gil(1e-6)]), 2.0);
    assert!(regret <= 1.01, "{regret}");
    assert!(!taken.asked && taken.verdicts.is_empty());
}

#[test]
fn a_thousand_short_items_go_to_processes() {
    for cores in [2.0, 8.0] {
        let (regret, taken) = regret("short", &Workload::same(1000, &[Gil(0.001)]), cores);
        assert!(regret <= 1.1, "{regret}");
        assert!(taken.here > 20, "the caller works while processes start");
    }
}

#[test]
fn a_slow_first_item_does_not_hold_up_the_rest() {
    let mut tasks = vec![vec![Gil(0.5)]];
    tasks.extend(vec![vec![Gil(0.004)]; 100]);
    let (regret, taken) = regret("slow first", &Workload::of(tasks), 2.0);
    assert!(regret <= 1.1, "{regret}");
    assert!(taken.here < 5);
}

#[test]
fn a_slow_item_in_the_middle_does_not_hold_up_the_rest() {
    let mut tasks = vec![vec![Gil(0.002)]; 5];
    tasks.push(vec![Gil(0.8)]);
    tasks.extend(vec![vec![Gil(0.004)]; 100]);
    let (regret, _) = regret("slow sixth", &Workload::of(tasks), 2.0);
    assert!(regret <= 1.1, "{regret}");
}

#[test]
fn without_a_view_of_the_gil_computing_goes_to_processes_and_waiting_to_threads() {
    let mut calc = Workload::same(8, &[Gil(0.2)]);
    calc.metered = false;
    let (calc_regret, taken) = regret("calc, blind", &calc, 2.0);
    assert!(calc_regret <= 1.15, "{calc_regret}");
    assert!(
        taken.verdicts.iter().any(|(_, verdict)| verdict.sentence.contains("nothing is known of the GIL"))
    );
    let mut requests = Workload::same(20, &[Wait(0.1)]);
    requests.metered = false;
    assert!(regret("requests, blind", &requests, 2.0).0 <= 1.1);
}

#[test]
fn work_that_must_stay_stays_and_says_why() {
    let mut work = Workload::same(20, &[Gil(0.05)]);
    work.leave = Leave::No("`count` appends to the global list `seen`".into());
    let (regret, taken) = regret("captive", &work, 2.0);
    assert!(regret <= 1.02, "{regret}");
    assert_eq!(taken.here, 20);
}

#[test]
fn many_requests_climb_to_many_threads() {
    let work = Workload::same(600, &[Gil(0.0002), Wait(0.2)]);
    let (regret, taken) = regret("600 requests", &work, 2.0);
    assert!(regret <= 1.35, "{regret}");
    assert!(taken.most_here >= 200);
}

#[test]
fn waits_too_short_to_be_seen_climb_too() {
    let (regret, _) = regret("short waits", &Workload::same(2000, &[Wait(0.0005)]), 2.0);
    // Some milliseconds of 20 go to finding out, round by round, how many may be in flight.
    assert!(regret <= 1.6, "{regret}");
}

#[test]
fn a_workload_that_changes_its_nature_is_followed() {
    let mut tasks = vec![vec![Wait(0.02), Gil(0.0002)]; 300];
    tasks.extend(vec![vec![Gil(0.01)]; 200]);
    let (waits_first, taken) = regret("waits, then computes", &Workload::of(tasks.clone()), 2.0);
    assert!(waits_first <= 1.25, "{waits_first}");
    assert!(taken.plan.leaves());
    tasks.reverse();
    let (computes_first, _) = regret("computes, then waits", &Workload::of(tasks), 2.0);
    assert!(computes_first <= 1.4, "{computes_first}");
}

#[test]
fn one_core_gets_no_processes() {
    let (regret, taken) = regret("one core", &Workload::same(20, &[Gil(0.05)]), 1.0);
    assert!(regret <= 1.01, "{regret}");
    assert!(!taken.asked);
}

#[test]
fn no_more_tasks_run_at_once_than_was_allowed() {
    let shapes: [&[Phase]; 3] = [&[Gil(0.02)], &[Wait(0.05), Gil(0.01)], &[Wait(0.05)]];
    for shape in shapes {
        let work = Workload::same(60, shape);
        for most in [1, 2, 3, 8] {
            let taken = limited(&work, &machine(8.0), Some(most));
            assert!(taken.most <= most as usize, "{} of {most}: {shape:?}", taken.most);
        }
    }
}

#[test]
fn processes_that_never_come_are_not_waited_for_for_ever() {
    let work = Workload { forks: false, ..Workload::same(10, &[Gil(0.2)]) };
    let taken = auto(&work, &machine(4.0));
    assert_eq!(taken.here, 10);
    assert!(taken.seconds < 10.0 * 0.2 + 2.0, "{}", taken.seconds);
}

#[test]
fn an_input_without_a_length_is_served_as_well() {
    let work = Workload { counted: false, ..Workload::same(200, &[Gil(0.01)]) };
    let (regret, _) = regret("uncounted", &work, 2.0);
    assert!(regret <= 1.15, "{regret}");
}

fn phase() -> impl Strategy<Value = Phase> {
    // Seconds from 10 µs to 0.1 s, all orders of magnitude alike.
    (0..3, -5.0..-1.0_f64).prop_map(|(kind, power)| {
        let seconds = 10_f64.powf(power);
        match kind {
            0 => Gil(seconds),
            1 => Off(seconds),
            _ => Wait(seconds),
        }
    })
}

fn workload() -> impl Strategy<Value = Workload> {
    let tasks = prop::collection::vec(prop::collection::vec(phase(), 1..4), 1..4);
    (tasks, 1..120_usize, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(shapes, count, counted, metered, free)| Workload {
            tasks: (0..count).map(|at| shapes[at % shapes.len()].clone()).collect(),
            counted,
            metered,
            forks: true,
            leave: if free { Leave::Yes } else { Leave::No("it must stay".into()) },
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_task_runs_once_and_never_much_later_than_one_by_one(work in workload(), cores in 0..5_u32) {
        let machine = machine(f64::from(1 << cores));
        let taken = auto(&work, &machine);
        let serial = fixed(&work, &machine, Plan::SERIAL);
        prop_assert!(taken.seconds <= 1.15 * serial + 0.1, "{} {serial}", taken.seconds);
        if work.leave != Leave::Yes {
            prop_assert_eq!(taken.here, work.tasks.len());
        }
    }
}
