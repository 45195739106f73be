//! Which plan to take: the candidates, and the choice among their forecasts. Pure: a [`Verdict`] is made from its
//! [`Case`] and nothing else, and keeps it. Called by `governor`, and by `replay` for a report's cases. Without it a
//! choice would be a side effect that nobody can question.

use serde::{Deserialize, Serialize};

use crate::forecast::{Bound, Forecast, Parts, Remaining, forecast};
use crate::machine::Machine;
use crate::plan::{Kind, Plan};
use crate::profile::Demand;
use crate::words;

/// The most threads that a choice considers, in one process or several together.
pub const MOST_THREADS: u32 = 256;
/// A change of plan must save this share of the time that is left ...
const WORTH_SHARE: f64 = 0.10;
/// ... and this many seconds, when it is the first that leaves the calling thread ...
const WORTH_LEAVING_SERIAL: f64 = 0.002;
/// ... or this many later.
const WORTH_CHANGING: f64 = 0.005;
/// Of the time already spent it must save this share: nobody notices what is less.
const WORTH_OF_SPENT: f64 = 0.03;
/// Waiting that is this small a share of a task is not worth a second thread beside it.
const NOISE: f64 = 0.2;
/// Forecasts this close to the best are as good: the simplest of them is taken.
const TIE_SHARE: f64 = 0.03;

/// Whether tasks may run in another process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Leave {
    /// They give the same result there.
    Yes,
    /// Nobody has looked yet: a choice takes it that they may, to see whether the question is worth asking.
    Unknown,
    /// They must stay here, for this reason: a full sentence without its full stop.
    No(String),
}

/// What a choice must respect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Constraints {
    /// Whether processes are allowed.
    pub may_leave: Leave,
    /// The plan in force: leaving it must be worth it.
    pub current: Plan,
    /// Seconds that the run has taken so far, if it is one with an end; 0 otherwise.
    pub spent: f64,
    /// Tasks that run in this process: they stay in it, whatever is chosen for the rest.
    pub here: u32,
}

/// Which of the candidates deserve a forecast: what a state of affairs leaves of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The most workers that the user allows.
    pub workers: Option<u32>,
    /// Whether there is a reason to look at worker processes.
    pub processes: bool,
    /// The most workers in worker processes, all together.
    pub room: u32,
    /// The most threads in each worker process.
    pub inside: u32,
    /// The most threads of this process.
    pub threads: u32,
    /// A number of threads to look at in any case: as many as may run now.
    pub extra: Option<u32>,
}

impl Limits {
    /// For work of which enough is known.
    pub fn of(demand: &Demand, machine: &Machine, workers: Option<u32>) -> Self {
        Self {
            workers,
            processes: true,
            room: workers.unwrap_or(MOST_THREADS.max(machine.width())).max(1),
            inside: if waits(demand) { MOST_THREADS } else { 1 },
            threads: MOST_THREADS,
            extra: None,
        }
    }

    fn admit(&self, plan: Plan) -> bool {
        match plan.leaves() {
            true => self.processes && plan.workers() <= self.room && plan.threads() <= self.inside,
            false => plan.threads() <= self.threads,
        }
    }
}

/// All that a choice is made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// What one task asks for, as far as it is known.
    pub demand: Demand,
    /// What things cost here.
    pub machine: Machine,
    /// What is left to do.
    pub remaining: Remaining,
    /// Which plans are looked at.
    pub limits: Limits,
    /// What must be respected.
    pub constraints: Constraints,
}

impl Case {
    /// The plans to choose from, the one in force among them.
    pub fn plans(&self) -> Vec<Plan> {
        let Self { limits, constraints, .. } = self;
        let mut plans = candidates(&self.machine, &self.remaining, limits.workers);
        plans.retain(|&plan| limits.admit(plan));
        let extra = limits.extra.and_then(|threads| Plan::in_threads(threads).ok());
        for plan in extra.into_iter().chain([constraints.current]) {
            if !plans.contains(&plan) {
                plans.push(plan);
            }
        }
        plans
    }
}

/// Whether a task waits. Of time off the CPU a little is noise: other programs, the meter itself.
pub(crate) fn waits(demand: &Demand) -> bool {
    demand.share(demand.waiting) > NOISE
}

/// Plans that were not considered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuledOut {
    /// Their kind.
    pub kind: Kind,
    /// Why.
    pub reason: String,
}

/// The plan taken, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The plan taken.
    pub plan: Plan,
    /// Its forecast in seconds from the moment of the choice.
    pub seconds: f64,
    /// What most of that is spent on.
    pub bound_by: Bound,
    /// The parts it is made of.
    pub parts: Parts,
    /// The forecasts it beat, the best first.
    pub beaten: Vec<Forecast>,
    /// What was ruled out, and why.
    pub ruled_out: Vec<RuledOut>,
    /// The whole of it in one sentence.
    pub sentence: String,
    /// What it was made from.
    pub case: Case,
}

/// The plans worth a forecast: thread counts in powers of two, processes up to the cores, and both. Few tasks may have a
/// process each: three that share two cores take one and a half times as long as one, three that take turns twice.
pub fn candidates(machine: &Machine, remaining: &Remaining, max_workers: Option<u32>) -> Vec<Plan> {
    let unfinished = remaining.tasks + f64::from(remaining.here) + f64::from(remaining.away);
    let most = (unfinished.ceil() as u32).clamp(1, max_workers.unwrap_or(u32::MAX).max(1));
    let cores = machine.width();
    let threads: Vec<u32> = steps(most.min(MOST_THREADS), cores);
    let mut processes = steps(most.min(cores), cores);
    processes.extend(Some(most).filter(|&most| (cores + 1..2 * cores).contains(&most)));
    let mut plans: Vec<(u32, u32)> = threads.iter().map(|&threads| (0, threads)).collect();
    for &p in &processes {
        let inside = steps((most.min(MOST_THREADS.max(p)) / p).max(1), cores);
        plans.extend(inside.into_iter().map(|threads| (p, threads)));
    }
    plans.into_iter().filter_map(|(p, t)| Plan::new(p, t).ok()).collect()
}

/// 1, 2, 4 ... up to `most`, with `most` and `also` among them.
fn steps(most: u32, also: u32) -> Vec<u32> {
    let doubling = std::iter::successors(Some(1_u32), |n| n.checked_mul(2));
    let mut steps: Vec<u32> = doubling.take_while(|&n| n < most).collect();
    steps.extend([also.min(most), most]);
    steps.sort_unstable();
    steps.dedup();
    steps
}

/// Takes the plan with the best forecast that is allowed, unless staying is as good. None only when there
/// is no forecast of an allowed plan.
pub fn choose(case: Case) -> Option<Verdict> {
    let Case { demand, machine, remaining, constraints, .. } = &case;
    let of = |plan: Plan| forecast(demand, machine, remaining, plan);
    let forecasts: Vec<Forecast> = case.plans().into_iter().map(of).collect();
    let refusal = match &constraints.may_leave {
        Leave::Yes | Leave::Unknown => None,
        Leave::No(reason) => Some(reason.as_str()),
    };
    let allowed = |forecast: &&Forecast| refusal.is_none() || !forecast.plan.leaves();
    let mut taken = simplest_of_best(forecasts.iter().filter(allowed))?;
    let current = forecasts.iter().filter(allowed).find(|forecast| forecast.plan == constraints.current);
    if let Some(current) = current
        && !is_worth(current, taken, constraints.spent)
    {
        taken = current;
    }
    let mut beaten: Vec<Forecast> = forecasts.iter().filter(allowed).copied().collect();
    beaten.retain(|forecast| forecast.plan != taken.plan);
    beaten.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let mut ruled_out = Vec::new();
    if let Some(reason) = refusal {
        let kinds = [Kind::Processes, Kind::Hybrid].into_iter();
        let left = kinds.filter(|&kind| forecasts.iter().any(|forecast| forecast.plan.kind() == kind));
        ruled_out.extend(left.map(|kind| RuledOut { kind, reason: reason.to_owned() }));
    }
    let sentence = sentence(taken, &beaten, demand, &ruled_out, constraints.here);
    let Forecast { plan, seconds, bound_by, parts } = *taken;
    Some(Verdict { plan, seconds, bound_by, parts, beaten, ruled_out, sentence, case })
}

/// The best forecast, or the simplest of those that are as good.
pub(crate) fn simplest_of_best<'a>(
    forecasts: impl Iterator<Item = &'a Forecast> + Clone,
) -> Option<&'a Forecast> {
    let best = forecasts.clone().min_by(|a, b| a.seconds.total_cmp(&b.seconds))?;
    let ties = forecasts.filter(|forecast| forecast.seconds <= best.seconds * (1.0 + TIE_SHARE));
    ties.min_by_key(|forecast| simplicity(forecast.plan))
}

/// Whether `taken` saves enough to leave `current` for it.
fn is_worth(current: &Forecast, taken: &Forecast, spent: f64) -> bool {
    let (from, to) = (current.plan, taken.plan);
    // Letting workers of processes go costs nothing, and fewer tasks are then stuck behind each other.
    let shrinks = to.leaves() && to.processes() == from.processes() && to.threads() <= from.threads() / 2;
    if shrinks && taken.seconds <= current.seconds * (1.0 + TIE_SHARE) {
        return true;
    }
    let at_least = if from == Plan::SERIAL { WORTH_LEAVING_SERIAL } else { WORTH_CHANGING };
    let saved = current.seconds - taken.seconds;
    saved > at_least.max(WORTH_OF_SPENT * spent) && saved > WORTH_SHARE * current.seconds
}

/// Fewer processes before fewer workers: a thread costs less memory and surprises nobody.
fn simplicity(plan: Plan) -> (u32, u32) {
    (plan.processes(), plan.workers())
}

/// "2 processes: 98 % of the time holds the GIL, so threads would take turns; they should take 1.3 s, ..."
fn sentence(
    taken: &Forecast,
    beaten: &[Forecast],
    demand: &Demand,
    ruled_out: &[RuledOut],
    here: u32,
) -> String {
    let plan = taken.plan;
    let beside = if plan.leaves() && here > 0 { " beside this one" } else { "" };
    let mixture = words::mixture(demand);
    let many = if plan.workers() == 1 { "it" } else { "they" };
    let why = match plan.kind() {
        Kind::Serial if ruled_out.is_empty() => format!("{mixture}, and more workers would not save enough"),
        // Of processes it says below why they were not asked.
        Kind::Serial => format!("{mixture}, and threads would not save enough"),
        Kind::Threads if demand.share(demand.waiting) >= 0.5 => {
            format!("{mixture}, which threads do side by side")
        }
        Kind::Threads => format!("{mixture}, so threads compute side by side"),
        Kind::Processes => format!("{mixture}, so threads would take turns"),
        Kind::Hybrid => format!("{mixture}, so threads wait side by side and processes compute side by side"),
    };
    // One rival of each other kind tells more than the same kind with one worker more.
    let mut rivals: Vec<&Forecast> = Vec::new();
    for forecast in beaten {
        let kind = forecast.plan.kind();
        if kind != plan.kind() && rivals.iter().all(|rival| rival.plan.kind() != kind) {
            rivals.push(forecast);
        }
    }
    let rivals = rivals.iter().map(|rival| format!(", {} {}", rival.plan, words::seconds(rival.seconds)));
    let guess = if demand.finished == 0 { "by a guess " } else { "" };
    let mut text =
        format!("{plan}{beside}: {why}; {guess}{many} should take {}", words::seconds(taken.seconds));
    text.extend(rivals);
    if let Some(out) = ruled_out.first() {
        text += &format!("; processes are ruled out: {}", out.reason);
    }
    text
}

/// Of the verdicts of a map, each with the second it is from, the last one for the plan that did most of the work. What
/// is chosen for the few tasks at the end is not what its user asks for. While it runs, and where no end is known, it is
/// the one in force. `wall`: how long the map took, s. None without verdicts.
///
/// `left`: most of the work was done in worker processes. Workers tell that, not the plans, as tasks go on where they are
/// when the plan has changed. Of the plans for that side it is the one that was in force for longest.
pub fn foremost(verdicts: &[(f64, Verdict)], left: bool, wall: Option<f64>) -> Option<usize> {
    let last = verdicts.len().checked_sub(1)?;
    let Some(wall) = wall else { return Some(last) };
    let ends = verdicts.iter().skip(1).map(|(at, _)| *at).chain([wall]);
    let mut in_force: Vec<(Plan, f64, usize)> = Vec::new();
    for (index, ((at, verdict), end)) in verdicts.iter().zip(ends).enumerate() {
        if verdict.plan.leaves() != left {
            continue;
        }
        match in_force.iter_mut().find(|(plan, ..)| *plan == verdict.plan) {
            Some(known) => *known = (known.0, known.1 + (end - at), index),
            None => in_force.push((verdict.plan, end - at, index)),
        }
    }
    let longest = in_force.into_iter().max_by(|one, other| one.1.total_cmp(&other.1));
    Some(longest.map_or(last, |(_, _, index)| index))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::Zygote;
    use crate::profile::Evidence;

    fn verdict(demand: Demand, tasks: f64, current: Plan, may_leave: Leave) -> Verdict {
        let machine = Machine::default();
        let zygote = Zygote::Ready;
        let remaining = Remaining::fresh(tasks, current, zygote);
        let limits = Limits::of(&demand, &machine, None);
        let constraints = Constraints { may_leave, current, spent: 0.0, here: 0 };
        choose(Case { demand, machine, remaining, limits, constraints }).expect("serial is always allowed")
    }

    fn measured(demand: Demand) -> Demand {
        Demand { gil: Evidence::Measured, finished: 4, ..demand }
    }

    #[test]
    fn the_foremost_verdict_is_that_of_the_plan_which_did_most_of_the_work() {
        let calc = measured(Demand { held: 0.3, ..Demand::default() });
        let one = verdict(calc, 8.0, Plan::SERIAL, Leave::Yes);
        let history = |plans: &[(f64, Plan)]| -> Vec<(f64, Verdict)> {
            plans.iter().map(|(at, plan)| (*at, Verdict { plan: *plan, ..one.clone() })).collect()
        };
        let processes = Plan::in_processes(2).expect("valid");
        let threads = |count: u32| Plan::in_threads(count).expect("valid");
        assert_eq!(foremost(&[], false, Some(1.0)), None);

        // It begins here, is done by processes whose forecast is renewed, and the last tasks run here.
        let left = history(&[
            (0.01, threads(2)),
            (0.1, processes),
            (0.5, processes),
            (0.9, Plan::SERIAL),
            (0.95, threads(4)),
        ]);
        assert_eq!(foremost(&left, true, Some(1.0)), Some(2));
        // Processes were chosen for long and did little: of the plans for this process one was in force for longest.
        assert_eq!(foremost(&left, false, Some(1.0)), Some(0));
        // Nobody knows yet what comes.
        assert_eq!(foremost(&left, true, None), Some(4));

        // A plan that comes again has all of its time.
        let here = history(&[(0.0, threads(8)), (0.4, Plan::SERIAL), (0.8, threads(8)), (0.9, threads(3))]);
        assert_eq!(foremost(&here, false, Some(1.0)), Some(2));
        assert_eq!(foremost(&here, false, Some(2.0)), Some(3));
        // No verdict was for where the work was done: it went on where it had begun.
        assert_eq!(foremost(&here, true, Some(1.0)), Some(3));
    }

    #[test]
    fn candidates_stay_within_workers_cores_and_tasks() {
        let remaining = Remaining::fresh(20.0, Plan::SERIAL, Zygote::Cold);
        let plans = candidates(&Machine::default(), &remaining, Some(6));
        assert!(plans.iter().all(|plan| plan.workers() <= 6 && plan.processes() <= 2));
        assert!(plans.contains(&Plan::SERIAL));
        let plans = candidates(&Machine::default(), &remaining, None);
        assert!(plans.contains(&Plan::in_threads(20).expect("valid")));
    }

    #[test]
    fn a_few_more_tasks_than_cores_share_them() {
        let calc = measured(Demand { held: 0.3, ..Demand::default() });
        let taken = |tasks: f64| verdict(calc, tasks, Plan::SERIAL, Leave::Yes).plan;
        let processes = |count: u32| Plan::in_processes(count).expect("valid");
        assert_eq!([3.0, 4.0, 5.0].map(taken), [processes(3), processes(2), processes(2)]);
    }

    #[test]
    fn the_verdict_says_why_in_one_sentence() {
        let calc = measured(Demand { held: 0.3, waiting: 0.006, ..Demand::default() });
        let guessed = verdict(Demand { finished: 0, ..calc }, 8.0, Plan::SERIAL, Leave::Yes);
        assert!(guessed.sentence.contains("; by a guess they should take 1.2 s"), "{}", guessed.sentence);
        let verdict = verdict(calc, 8.0, Plan::SERIAL, Leave::Yes);
        assert_eq!(verdict.plan, Plan::in_processes(2).expect("valid"));
        assert!(verdict.sentence.starts_with("2 processes: 98 % of the time holds the GIL, so threads would take turns; they should take 1.2 s"), "{}", verdict.sentence);
        assert!(verdict.ruled_out.is_empty());
    }

    #[test]
    fn what_must_stay_stays_and_the_verdict_says_why() {
        let calc = measured(Demand { held: 0.3, ..Demand::default() });
        let reason = "`count` appends to the global list `seen`";
        let verdict = verdict(calc, 8.0, Plan::SERIAL, Leave::No(reason.into()));
        assert_eq!(verdict.plan, Plan::SERIAL);
        assert!(verdict.sentence.ends_with(&format!("processes are ruled out: {reason}")));
        assert!(verdict.sentence.contains(", and threads would not save enough; "), "{}", verdict.sentence);
        let short = self::verdict(measured(Demand { held: 1e-5, ..calc }), 8.0, Plan::SERIAL, Leave::Yes);
        assert!(short.sentence.contains(", and more workers would not save enough; "), "{}", short.sentence);
        assert_eq!(verdict.ruled_out, [RuledOut { kind: Kind::Processes, reason: reason.into() }]);
        assert!(verdict.beaten.iter().all(|forecast| !forecast.plan.leaves()));
    }

    #[test]
    fn a_small_gain_does_not_change_the_plan() {
        let request = measured(Demand { held: 0.001, waiting: 0.01, ..Demand::default() });
        let sixteen = Plan::in_threads(16).expect("valid");
        let reason = Leave::No("it must stay".into());
        assert_eq!(verdict(request, 1000.0, sixteen, reason).plan, sixteen);
    }

    #[test]
    fn of_equals_the_simplest_is_taken() {
        let hash = measured(Demand { held: 0.001, off: 0.02, ..Demand::default() });
        assert_eq!(verdict(hash, 32.0, Plan::SERIAL, Leave::Yes).plan, Plan::in_threads(2).expect("valid"));
    }
}
