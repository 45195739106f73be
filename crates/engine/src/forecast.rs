//! How long the remaining tasks would take under a plan. A pure function of what a task asks for, the
//! machine, what remains and the plan; called for every candidate by `governor`, and again by anyone who
//! replays a report. Without it a choice could not be explained, nor checked against what happened.
//!
//! The model: each process is a closed queue in which its threads share one GIL (mean value analysis:
//! where they meet, a part of them waits), all processes share the cores, and this process pickles for
//! every task that leaves. Tasks run in waves of as many as there are workers; the last wave is a small one.

use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::plan::Plan;
use crate::profile::Demand;

/// The helper that forks worker processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Zygote {
    /// Not started.
    Cold,
    /// Starting.
    Warming,
    /// Up.
    Ready,
}

/// What is left to do, and what has been paid for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Remaining {
    /// Tasks that have not started.
    pub tasks: f64,
    /// Tasks that run in this process: they stay here.
    pub here: u32,
    /// Seconds for which those have run, on average.
    #[serde(default)]
    pub elapsed: f64,
    /// Tasks that run in worker processes: they stay there, half done on average.
    pub away: u32,
    /// Workers that are up already.
    pub already: Plan,
    /// Whether starting the first process includes starting the helper.
    pub zygote: Zygote,
    /// Seconds until a helper that is warming up is ready.
    pub warming: f64,
    /// Seconds until worker processes that are up have imported what the function needs.
    #[serde(default)]
    pub importing: f64,
}

impl Remaining {
    /// So many tasks of which none has started, with nothing on its way.
    pub fn fresh(tasks: f64, already: Plan, zygote: Zygote) -> Self {
        Self { tasks, here: 0, elapsed: 0.0, away: 0, already, zygote, warming: 0.0, importing: 0.0 }
    }
}

/// What the time under a plan is spent on mostly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// Tasks take turns with the GIL.
    Gil,
    /// Every core computes.
    Cores,
    /// Tasks run one after another on each worker: more workers would help.
    Workers,
    /// Starting workers.
    Start,
    /// Pickling in this process.
    Transport,
    /// The longest tasks, with the other workers idle.
    Straggler,
}

/// The parts of a forecast in seconds: `start` comes on top of the largest of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Parts {
    /// Starting the workers that are missing, and the first hop.
    pub start: f64,
    /// All GIL time, spread over the processes.
    pub gil: f64,
    /// All CPU time, spread over the cores.
    pub cores: f64,
    /// Waves of tasks that get in each other's way.
    pub waves: f64,
    /// Pickling and dispatching in this process.
    pub transport: f64,
    /// Waves of undisturbed tasks, the longest of them last.
    pub straggler: f64,
}

/// The predicted time to finish under a plan.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// The plan it is for.
    pub plan: Plan,
    /// Predicted seconds from now on.
    pub seconds: f64,
    /// What most of it is spent on.
    pub bound_by: Bound,
    /// The parts it is made of.
    pub parts: Parts,
}

/// Of a task that has run for as long as they take, so much is expected to be left.
const LEAST_LEFT: f64 = 0.1;

/// Predicts how long the remaining tasks take under `plan`.
pub fn forecast(demand: &Demand, machine: &Machine, remaining: &Remaining, plan: Plan) -> Forecast {
    let crew = Crew::new(demand, machine, plan);
    let wave = Plan::in_threads(remaining.here.max(1))
        .map_or(0.0, |here| Crew::new(demand, machine, here).wave(remaining.here.into()));
    // Those that have run for too long may run for as long again.
    let left = (1.0 - remaining.elapsed / wave.max(f64::MIN_POSITIVE)).abs().clamp(LEAST_LEFT, 1.0);
    let (mine, theirs) = (f64::from(remaining.here) * left, f64::from(remaining.away) / 2.0);
    let away = if remaining.away > 0 { demand.alone() / 2.0 } else { 0.0 };
    // Those that run end side by side, as they began.
    let ending = wave * left;
    let (tasks, beside) = match () {
        () if plan.leaves() => (remaining.tasks + theirs, ending),
        () if remaining.tasks > 0.0 => (remaining.tasks + mine, ending.max(away)),
        () => (0.0, ending.max(away)),
    };
    let every = remaining.tasks + mine + theirs;
    let parts = Parts {
        start: if remaining.tasks > 0.0 { start(demand, machine, remaining, plan) } else { 0.0 },
        gil: tasks * crew.gil / crew.processes,
        cores: every * crew.cpu / machine.cores.max(0.01),
        waves: crew.waves(tasks),
        transport: remaining.tasks * crew.transport,
        straggler: crew.straggler(tasks, demand.spread),
    };
    let work = [parts.gil, parts.cores, parts.waves, parts.transport, parts.straggler];
    let longest = work.into_iter().fold(0.0, f64::max);
    let seconds = (parts.start + longest).max(beside);
    let queued = crew.response(plan.threads()) > 1.1 * crew.alone();
    Forecast { plan, seconds, bound_by: bound_by(&parts, longest, queued), parts }
}

/// The largest part; of parts that are about equal, the one that explains most. `queued`: tasks that share a
/// process spend much of their time in its queue for the GIL.
fn bound_by(parts: &Parts, longest: f64, queued: bool) -> Bound {
    let close = |part: f64| part >= 0.9 * longest;
    match () {
        () if parts.start > longest => Bound::Start,
        () if close(parts.transport) => Bound::Transport,
        () if close(parts.cores) => Bound::Cores,
        () if queued => Bound::Gil,
        () if parts.straggler > 1.1 * parts.waves => Bound::Straggler,
        () => Bound::Workers,
    }
}

/// Seconds to start the workers that are not up yet.
fn start(demand: &Demand, machine: &Machine, remaining: &Remaining, plan: Plan) -> f64 {
    let already = remaining.already;
    let threads = |wanted: u32, up: u32| f64::from(wanted.saturating_sub(up)) * machine.thread_start;
    if !plan.leaves() {
        let up = if already.leaves() { 1 } else { already.threads() };
        return threads(plan.threads(), up);
    }
    let up = already.processes();
    let zygote = match remaining.zygote {
        _ if up > 0 => 0.0,
        Zygote::Cold => machine.zygote_start,
        Zygote::Warming => remaining.warming.clamp(0.0, machine.zygote_start),
        Zygote::Ready => 0.0,
    };
    let missing = f64::from(plan.processes().saturating_sub(up));
    let processes = machine.start_of(missing);
    // New ones import side by side, each on a core if there are enough; meanwhile those that are up go on.
    let imports = match up {
        0 => demand.modules * machine.module() * (missing / machine.cores.max(0.01)).max(1.0),
        _ => remaining.importing,
    };
    // A worker with one thread runs tasks on its main thread.
    let inside = if up > 0 { already.threads() } else { 1 };
    zygote + processes + imports + threads(plan.threads(), inside) + machine.hop
}

/// The workers of a plan and what a task costs them.
struct Crew {
    processes: f64,
    threads: u32,
    /// GIL time per task, with the cost of handing it to a thread.
    gil: f64,
    /// Time per task without the GIL, in or out of the CPU.
    rest: f64,
    /// CPU time per task, and with what moving it takes over the cores there are.
    cpu: f64,
    core: f64,
    /// Time of this process per task that leaves.
    transport: f64,
}

impl Crew {
    fn new(demand: &Demand, machine: &Machine, plan: Plan) -> Self {
        let (handing, drag) =
            if plan.threads() > 1 { (machine.thread_task, demand.drag.max(1.0)) } else { (0.0, 1.0) };
        let carrying = demand.bytes * machine.byte;
        let (transport, unpacking) = if plan.leaves() {
            let message = machine.process_task / demand.company.max(1.0);
            (message + demand.pickling_here + carrying, demand.pickling_there)
        } else {
            (0.0, 0.0)
        };
        Self {
            processes: f64::from(plan.processes().max(1)),
            threads: plan.threads(),
            gil: demand.held * drag + demand.blocked + handing + unpacking,
            rest: demand.off * drag + demand.waiting,
            cpu: demand.cpu() * drag + demand.programs,
            core: (demand.cpu() * drag + demand.programs + handing + unpacking + transport)
                / machine.cores.max(0.01),
            transport,
        }
    }

    fn alone(&self) -> f64 {
        self.gil + self.rest
    }

    fn workers(&self) -> f64 {
        self.processes * f64::from(self.threads)
    }

    /// Seconds that a task takes while `together` of them run in one process. They queue for the GIL: a
    /// task that arrives there meets as many as are there on average with one task less (mean value
    /// analysis; right for bursts of varying length and for threads that take turns).
    fn response(&self, together: u32) -> f64 {
        let mut queued = 0.0;
        let mut response = 0.0;
        for n in 1..=together {
            let at_gil = self.gil * (1.0 + queued);
            response = at_gil + self.rest;
            queued = if response > 0.0 { f64::from(n) * at_gil / response } else { 0.0 };
        }
        response
    }

    /// Seconds for one round of `together` tasks spread over the processes.
    fn wave(&self, together: f64) -> f64 {
        let fullest = (together / self.processes).ceil() as u32;
        self.response(fullest.clamp(1, self.threads)).max(together * self.core)
    }

    /// Seconds for `tasks` tasks, in full waves and a rest.
    fn waves(&self, tasks: f64) -> f64 {
        let full = (tasks / self.workers()).floor();
        let rest = (tasks - full * self.workers()).max(0.0);
        let last = if rest < 1.0 { rest * self.alone() } else { self.wave(rest) };
        let whole = if full > 0.0 { full * self.wave(self.workers()) } else { 0.0 };
        whole + last
    }

    /// Seconds until the longest task ends if nothing is in anyone's way.
    fn straggler(&self, tasks: f64, spread: f64) -> f64 {
        let last = tasks.min(self.workers());
        (tasks / self.workers() + beyond(last, spread)) * self.alone()
    }
}

/// By how much the longest of `count` tasks is longer than their mean, in means: about sqrt(2 ln k) standard deviations, at
/// most (k-1)/sqrt(2k-1) (Hartley and David, 1954), and here not longer than half of them together.
fn beyond(count: f64, spread: f64) -> f64 {
    if count <= 1.0 {
        return 0.0;
    }
    let others = count - 1.0;
    let deviations = (2.0 * count.ln()).sqrt().min(others / (2.0 * count - 1.0).sqrt());
    (deviations * spread).min(others / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(tasks: f64) -> Remaining {
        Remaining::fresh(tasks, Plan::SERIAL, Zygote::Cold)
    }

    fn seconds(demand: Demand, tasks: f64, processes: u32, threads: u32) -> f64 {
        let plan = Plan::new(processes, threads).expect("a plan of this test");
        forecast(&demand, &Machine::default(), &left(tasks), plan).seconds
    }

    fn within(value: f64, low: f64, high: f64) -> bool {
        (low..high).contains(&value)
    }

    #[test]
    fn new_processes_import_side_by_side_and_those_that_are_up_have() {
        let fits = Demand { held: 0.1, modules: 600.0, ..Demand::default() };
        let plain = Demand { modules: 0.0, ..fits };
        let import = 600.0 * Machine::default().module();
        let later = |processes| seconds(fits, 20.0, processes, 1) - seconds(plain, 20.0, processes, 1);
        assert!(within(later(2) / import, 0.99, 1.01) && within(later(4) / import, 1.99, 2.01));
        assert_eq!(seconds(fits, 20.0, 0, 2), seconds(plain, 20.0, 0, 2));
        let two = Plan::in_processes(2).expect("valid");
        let up = Remaining { already: two, importing: import / 2.0, ..left(20.0) };
        let of = |demand: &Demand| forecast(demand, &Machine::default(), &up, two).seconds;
        assert!(of(&fits) == of(&plain) && of(&fits) > import / 2.0 + 1.0);
    }

    #[test]
    fn threads_take_turns_where_processes_do_not() {
        let calc = Demand { held: 0.3, ..Demand::default() };
        assert!(within(seconds(calc, 4.0, 0, 1), 1.19, 1.21));
        assert!(within(seconds(calc, 4.0, 0, 2), 1.19, 1.22));
        assert!(within(seconds(calc, 4.0, 2, 1), 0.6, 0.7));
    }

    #[test]
    fn however_tasks_vary_side_by_side_is_sooner_than_one_after_another() {
        let varied = Demand { waiting: 0.1, spread: 20.0, ..Demand::default() };
        assert!(seconds(varied, 1.5, 0, 2) < 0.85 * seconds(varied, 1.5, 0, 1));
        assert!(seconds(varied, 20.0, 0, 20) < seconds(varied, 20.0, 0, 1));
        assert_eq!((beyond(1.0, 1.0), beyond(2.0, 20.0)), (0.0, 0.5));
        assert!(within(beyond(2.0, 0.5), 0.28, 0.29) && within(beyond(20.0, 1.0), 2.4, 2.5));
    }

    #[test]
    fn requests_wait_together() {
        let request = Demand { held: 0.0005, waiting: 0.1, ..Demand::default() };
        assert!(within(seconds(request, 20.0, 0, 20), 0.1, 0.115));
        assert!(within(seconds(request, 20.0, 0, 8), 0.3, 0.31));
        assert!(within(seconds(request, 20.0, 0, 1), 2.0, 2.02));
    }

    #[test]
    fn work_off_the_gil_uses_the_cores() {
        let hash = Demand { held: 0.001, off: 0.019, ..Demand::default() };
        assert!(within(seconds(hash, 32.0, 0, 2), 0.32, 0.35));
        let eight = forecast(&hash, &Machine::default(), &left(32.0), Plan::in_threads(8).expect("valid"));
        assert!(within(eight.seconds, 0.32, 0.35));
        assert_eq!(eight.bound_by, Bound::Cores);
    }

    #[test]
    fn pages_want_both() {
        let page = Demand { held: 0.02, waiting: 0.05, ..Demand::default() };
        let hybrid = seconds(page, 40.0, 2, 8);
        assert!(hybrid < 0.8 * seconds(page, 40.0, 0, 16), "threads take turns parsing");
        assert!(hybrid < 0.8 * seconds(page, 40.0, 2, 1), "processes wait one by one");
    }

    #[test]
    fn tasks_that_travel_together_share_what_a_message_costs() {
        let short = Demand { held: 20e-6, ..Demand::default() };
        let together = Demand { company: 500.0, ..short };
        let saved = seconds(short, 1e5, 2, 1) - seconds(together, 1e5, 2, 1);
        assert!(saved > 0.0, "{saved}");
        assert_eq!(seconds(short, 1e5, 0, 2), seconds(together, 1e5, 0, 2));
    }

    #[test]
    fn a_microsecond_is_not_worth_a_trip() {
        let tiny = Demand { held: 1e-6, ..Demand::default() };
        let serial = seconds(tiny, 1e6, 0, 1);
        assert!(serial < seconds(tiny, 1e6, 2, 1) && serial < seconds(tiny, 1e6, 0, 2));
    }

    #[test]
    fn what_runs_here_is_waited_for_wherever_the_rest_goes() {
        let demand = Demand { held: 1.0, ..Demand::default() };
        let plan = Plan::in_processes(2).expect("valid");
        let remaining = Remaining { here: 1, ..left(1.0) };
        assert!(forecast(&demand, &Machine::default(), &remaining, plan).seconds >= 1.0);
    }

    #[test]
    fn programs_that_tasks_wait_for_need_cores_too() {
        let compile = Demand { held: 0.001, waiting: 0.019, programs: 0.018, ..Demand::default() };
        assert!(within(seconds(compile, 36.0, 0, 2), 0.36, 0.37));
        let eight = forecast(&compile, &Machine::default(), &left(36.0), Plan::in_threads(8).expect("valid"));
        assert!(within(eight.seconds, 0.34, 0.37));
        assert_eq!(eight.bound_by, Bound::Cores);
    }

    #[test]
    fn tasks_that_drag_each_other_want_processes() {
        let query = Demand { held: 0.006, off: 0.034, ..Demand::default() };
        assert!(seconds(query, 24.0, 0, 2) < seconds(query, 24.0, 2, 1));
        let dragging = Demand { drag: 2.5, ..query };
        assert!(seconds(dragging, 24.0, 0, 1) < seconds(dragging, 24.0, 0, 2));
        assert!(
            (seconds(dragging, 24.0, 2, 1) - seconds(query, 24.0, 2, 1)).abs() < 1e-9,
            "alone in their processes"
        );
    }

    #[test]
    fn large_arguments_keep_work_here() {
        let heavy = Demand { held: 0.01, pickling_here: 0.02, bytes: 1e7, ..Demand::default() };
        assert!(seconds(heavy, 100.0, 2, 1) > seconds(heavy, 100.0, 0, 1));
    }
}
