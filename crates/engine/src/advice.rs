//! What threads, processes or both would do for a program that was watched, on this machine and on others. Pure;
//! called for `forkright why`, which knows what the program's threads did but not how its work could be cut.
//!
//! So the work is taken to be divisible: the part in which more than the main thread was active (or all of it, if
//! nothing ever was) is cut into many equal tasks, and [`forecast`](crate::forecast) says how long those take. What
//! the main thread did alone stays as long as it was (Amdahl's law).

use serde::{Deserialize, Serialize};

use crate::choose::{self, candidates};
use crate::forecast::{Forecast, Remaining, Zygote, forecast};
use crate::machine::Machine;
use crate::plan::{Kind, Plan};
use crate::profile::{Demand, Evidence};
use crate::words;

/// Tasks per worker that the work is cut into: enough that it divides evenly among any number of them.
const TASKS: u32 = 32;
/// Threads that are worth a forecast for a program that waited in one: how many of its waits could go on side by side
/// is not known.
const THREADS_FOR_ONE: u32 = 16;
/// A gain below this is none.
const WORTH: f64 = 1.1;
/// Work below this, in seconds, is over before any plan could help.
const LITTLE: f64 = 0.02;
/// A part of the time from which on it is worth a word.
const NOTABLE: f64 = 0.1;

/// What was measured of a program.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// Seconds in which at most the main thread was active, beside others.
    pub serial: f64,
    /// Seconds of the rest.
    pub parallel: f64,
    /// Processes with active threads.
    pub processes: u32,
    /// Threads that were active at a time in the rest, in all processes together.
    pub threads: u32,
    /// What they asked for in the rest, all together: thread-seconds, without waits for the GIL.
    pub demand: Demand,
    /// Thread-seconds in the rest in which they waited for the GIL.
    pub gil_wait: f64,
    /// Thread-seconds in the rest in which they could have run but had no core.
    pub delay: f64,
}

/// How long the program would have taken.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// On so many cores.
    pub cores: u32,
    /// With its work done so.
    pub plan: Plan,
    /// This long, s.
    pub seconds: f64,
    /// That is so many times as fast as it was, or would have been with the machine to itself.
    pub speed_up: f64,
    /// Whether it is for this machine.
    pub here: bool,
}

/// The advice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Advice {
    /// All of it in one sentence.
    pub sentence: String,
    /// What would suit the program here; `None` if it did too little to say.
    pub plan: Option<Plan>,
    /// What it rests on.
    pub reasons: Vec<String>,
    /// The best of each kind on this machine, then the best of all on others.
    pub predictions: Vec<Prediction>,
}

/// What would suit `program` on `machine`, and what it would be worth with other numbers of cores.
pub fn advise(program: &Program, machine: &Machine, others: &[u32]) -> Advice {
    let took = program.serial + program.parallel;
    let demand = &program.demand;
    if program.parallel < LITTLE || demand.alone() <= 0.0 {
        let sentence =
            format!("its threads were active for {} only: too little to say", words::seconds(took));
        return Advice { sentence, plan: None, reasons: Vec::new(), predictions: Vec::new() };
    }
    let here = forecasts(program, machine);
    let undisturbed = program.undisturbed(machine);
    let best = best(&here);
    let mut predictions: Vec<Prediction> = Vec::new();
    for kind in [Kind::Serial, Kind::Threads, Kind::Processes, Kind::Hybrid] {
        let of_kind: Vec<Forecast> = here.iter().filter(|one| one.plan.kind() == kind).copied().collect();
        predictions.extend(
            self::best(&of_kind).map(|best| program.predict(undisturbed, machine.width(), true, &best)),
        );
    }
    for &cores in others {
        let machine = Machine { cores: f64::from(cores), ..machine.clone() };
        predictions.extend(
            self::best(&forecasts(program, &machine))
                .map(|best| program.predict(undisturbed, cores, false, &best)),
        );
    }
    let best = best.map(|best| program.predict(undisturbed, machine.width(), true, &best));
    let sentence = best.map_or_else(String::new, |best| sentence(program, &best));
    let mut reasons = reasons(program);
    reasons.retain(|reason| !sentence.contains(reason.as_str()));
    Advice { sentence, plan: best.map(|best| best.plan), reasons, predictions }
}

impl Program {
    /// A demand in thread-seconds, from what was seen of the GIL or, where nothing could be, without it.
    pub fn demand(held: f64, blocked: f64, off: f64, waiting: f64, gil_is_known: bool) -> Demand {
        let gil = if gil_is_known { Evidence::Measured } else { Evidence::Assumed };
        Demand { held, blocked, off, waiting, gil, ..Demand::default() }
    }

    fn predict(&self, undisturbed: f64, cores: u32, here: bool, forecast: &Forecast) -> Prediction {
        let seconds = self.serial + forecast.seconds;
        let speed_up = (self.serial + undisturbed) / seconds;
        Prediction { cores, plan: forecast.plan, seconds, speed_up, here }
    }

    /// Seconds the parallel part would have taken with nothing else on the machine: what took cores away from it counts
    /// as far as that was not its own threads.
    fn undisturbed(&self, machine: &Machine) -> f64 {
        let all = self.demand.alone() + self.gil_wait + self.delay;
        let least = self.parallel * (1.0 - self.delay / all);
        let processes = if self.processes > 1 { self.processes } else { 0 };
        let threads = self.threads.div_ceil(processes.max(1)).max(1);
        let own = Plan::new(processes, threads).map_or(0.0, |plan| {
            let (demand, remaining) = self.cut(machine);
            let Forecast { seconds, parts, .. } = forecast(&demand, machine, &remaining, plan);
            seconds - parts.start
        });
        own.clamp(least, self.parallel)
    }

    /// The work as many tasks.
    fn cut(&self, machine: &Machine) -> (Demand, Remaining) {
        let tasks = f64::from(TASKS * self.most(machine));
        let already = Plan::SERIAL;
        let zygote = Zygote::Cold;
        (self.task(tasks), Remaining::fresh(tasks, already, zygote))
    }

    /// Workers that are worth a forecast.
    fn most(&self, machine: &Machine) -> u32 {
        match self.threads {
            0 | 1 => machine.width().max(THREADS_FOR_ONE),
            threads => machine.width().max(threads),
        }
    }

    /// The work as one of many equal tasks.
    fn task(&self, tasks: f64) -> Demand {
        let Demand { held, blocked, off, waiting, gil, .. } = self.demand;
        let [held, blocked, off, waiting] = [held, blocked, off, waiting].map(|sum| sum / tasks);
        Demand { held, blocked, off, waiting, gil, ..Demand::default() }
    }
}

fn forecasts(program: &Program, machine: &Machine) -> Vec<Forecast> {
    let (demand, remaining) = program.cut(machine);
    let most = program.most(machine);
    // One worker process beside an idle caller is what threads are, with more effort.
    let plans = candidates(machine, &remaining, Some(most)).into_iter().filter(|plan| plan.processes() != 1);
    plans.map(|plan| forecast(&demand, machine, &remaining, plan)).collect()
}

fn best(forecasts: &[Forecast]) -> Option<Forecast> {
    choose::simplest_of_best(forecasts.iter()).copied()
}

fn sentence(program: &Program, best: &Prediction) -> String {
    let times = || format!("{} times as fast", factor(best.speed_up));
    let cores = if best.cores == 1 { "1 core".to_owned() } else { format!("{} cores", best.cores) };
    let gains = best.speed_up >= WORTH;
    let threads = program.threads;
    match (program.processes, threads) {
        (0 | 1, 0 | 1) if gains => format!(
            "one thread did all the work: if that can be cut into independent calls, {} would be about {} on {cores}",
            best.plan,
            times(),
        ),
        (0 | 1, 0 | 1) => {
            "one thread did all the work, and on this machine more would not be faster".to_owned()
        }
        (0 | 1, _) if gains && best.plan.leaves() => {
            let share = program.gil_wait / (program.demand.alone() + program.gil_wait);
            let how = if share >= NOTABLE { "took turns on one GIL" } else { "share one GIL" };
            let plan = best.plan;
            format!(
                "the {threads} threads {how}: {plan} would be about {} on {cores}, their start included",
                times()
            )
        }
        (0 | 1, _) if gains => format!("{} would be about {} on {cores}", best.plan, times()),
        (0 | 1, _) => format!("its {threads} threads suit it: {}", words::mixture(&program.demand)),
        (processes, _) if gains => {
            format!("instead of {processes} processes, {} would be about {} on {cores}", best.plan, times())
        }
        (processes, _) if best.plan.leaves() => {
            format!("its {processes} processes suit it: each has a GIL of its own")
        }
        (processes, _) => {
            format!("{} would do as well as its {processes} processes, with less memory", best.plan)
        }
    }
}

fn reasons(program: &Program) -> Vec<String> {
    let mut reasons = vec![words::mixture(&program.demand)];
    let all = program.demand.alone() + program.gil_wait;
    let waited = program.gil_wait / all;
    if waited >= NOTABLE {
        reasons.push(format!("threads spent {} of their time waiting for the GIL", words::percent(waited)));
    }
    if program.demand.blocked >= NOTABLE * all {
        let share = words::percent(program.demand.blocked / all);
        reasons.push(format!("{share} of the time the GIL was held by a thread that itself waited"));
    }
    if program.delay >= NOTABLE * (all + program.delay) {
        reasons.push(format!(
            "threads could have run but had no core for {} of their time: what is predicted has the machine to itself",
            words::percent(program.delay / (all + program.delay)),
        ));
    }
    let took = program.serial + program.parallel;
    if program.serial >= NOTABLE * took {
        reasons.push(format!(
            "for {} of {} only the main thread was active: nothing but changing it makes that shorter",
            words::seconds(program.serial),
            words::seconds(took),
        ));
    }
    reasons
}

/// How many times as fast, in two figures.
fn factor(ratio: f64) -> String {
    if ratio < 9.95 { format!("{ratio:.1}") } else { format!("{ratio:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn two_cores() -> Machine {
        Machine::default()
    }

    fn threads(count: u32, parallel: f64, demand: Demand, gil_wait: f64) -> Program {
        Program { serial: 0.0, parallel, processes: 1, threads: count, demand, gil_wait, delay: 0.0 }
    }

    fn speed_up(advice: &Advice, cores: u32) -> f64 {
        let best = advice.predictions.iter().filter(|one| one.cores == cores);
        best.map(|one| one.speed_up).fold(0.0, f64::max)
    }

    #[test]
    fn threads_that_take_turns_should_be_processes() {
        let turns = threads(2, 2.0, Program::demand(2.0, 0.0, 0.0, 0.0, true), 2.0);
        let advice = advise(&turns, &two_cores(), &[4, 16]);
        assert_eq!(advice.plan, Plan::in_processes(2).ok());
        assert_eq!(
            advice.sentence,
            "the 2 threads took turns on one GIL: 2 processes would be about 1.9 times as fast on 2 cores, \
             their start included"
        );
        assert!(
            advice
                .reasons
                .iter()
                .any(|reason| reason == "threads spent 50 % of their time waiting for the GIL")
        );
        assert!(speed_up(&advice, 2) > 1.8 && speed_up(&advice, 4) > 3.4 && speed_up(&advice, 16) > 8.0);
    }

    #[test]
    fn threads_that_wait_or_compute_off_the_gil_are_left_alone() {
        let waits = threads(20, 1.0, Program::demand(0.05, 0.0, 0.0, 19.0, true), 0.1);
        let hashes = threads(2, 1.0, Program::demand(0.02, 0.0, 1.9, 0.0, true), 0.0);
        for program in [waits, hashes] {
            let advice = advise(&program, &two_cores(), &[]);
            assert!(
                advice.sentence.starts_with(&format!("its {} threads suit it", program.threads)),
                "{advice:?}"
            );
            assert_eq!(advice.plan.map(Plan::kind), Some(Kind::Threads));
            assert!(
                advice.reasons.iter().all(|reason| !advice.sentence.contains(reason)),
                "said twice: {advice:?}"
            );
        }
    }

    #[test]
    fn one_thread_is_told_what_it_would_take() {
        let alone = threads(1, 4.0, Program::demand(4.0, 0.0, 0.0, 0.0, true), 0.0);
        let advice = advise(&alone, &two_cores(), &[]);
        assert!(advice.sentence.starts_with("one thread did all the work: if that can be cut"), "{advice:?}");
        assert_eq!(advice.plan, Plan::in_processes(2).ok());
    }

    #[test]
    fn what_the_main_thread_does_alone_stays() {
        let half = Program { serial: 2.0, ..threads(2, 2.0, Program::demand(2.0, 0.0, 0.0, 0.0, true), 2.0) };
        let advice = advise(&half, &two_cores(), &[64]);
        assert!(speed_up(&advice, 64) < 2.0, "Amdahl: {advice:?}");
        assert!(advice.reasons.iter().any(|reason| reason.contains("2 s of 4 s only the main thread")));
    }

    #[test]
    fn processes_that_have_a_gil_each_are_left_alone() {
        let demand = Program::demand(4.0, 0.0, 0.0, 0.0, true);
        let pool = Program { serial: 0.1, processes: 2, ..threads(2, 2.0, demand, 0.0) };
        let advice = advise(&pool, &two_cores(), &[]);
        assert_eq!(advice.sentence, "its 2 processes suit it: each has a GIL of its own");
    }

    #[test]
    fn what_others_took_of_the_cores_is_no_gain() {
        let hash = Program::demand(0.0, 0.0, 2.0, 0.0, true);
        let crowded = Program { delay: 2.0, ..threads(2, 2.0, hash, 0.0) };
        let advice = advise(&crowded, &two_cores(), &[]);
        assert!(advice.sentence.starts_with("its 2 threads suit it"), "{advice:?}");
        assert!(advice.reasons.iter().any(|reason| reason.contains("had no core for 50 % of their time:")));
        let eight = Program { delay: 6.0, ..threads(8, 1.0, hash, 0.0) };
        let advice = advise(&eight, &Machine { cores: 2.0, ..two_cores() }, &[8]);
        assert!(speed_up(&advice, 8) > 3.0, "its own threads were in the way: {advice:?}");
    }

    #[test]
    fn where_the_gil_is_unknown_the_advice_says_so() {
        let blind = threads(2, 2.0, Program::demand(2.0, 0.0, 0.0, 0.0, false), 0.0);
        let advice = advise(&blind, &two_cores(), &[]);
        assert!(advice.reasons[0].contains("nothing is known of the GIL"), "{advice:?}");
    }

    #[test]
    fn a_program_that_did_nothing_gets_no_advice() {
        let idle = threads(0, 0.001, Demand::default(), 0.0);
        let advice = advise(&idle, &two_cores(), &[4]);
        assert_eq!((advice.plan, advice.predictions.len()), (None, 0));
        assert!(advice.sentence.contains("too little to say"));
    }

    proptest! {
        #[test]
        fn predictions_are_finite_and_never_beat_the_work_over_the_workers(
            held in 0.0..100.0_f64, off in 0.0..100.0_f64, waiting in 0.0..100.0_f64, count in 1_u32..64, cores in 1_u32..256,
        ) {
            let parallel = ((held + off + waiting) / f64::from(count)).max(held);
            let program = threads(count, parallel, Program::demand(held, 0.0, off, waiting, true), 0.0);
            let advice = advise(&program, &Machine { cores: f64::from(cores), ..Machine::default() }, &[1, 1000]);
            for one in &advice.predictions {
                let least = (held + off + waiting) / f64::from(one.plan.workers());
                prop_assert!(one.seconds.is_finite() && one.seconds >= 0.999 * least, "{one:?} {least}");
                prop_assert!(one.speed_up.is_finite() && one.speed_up > 0.0);
            }
            prop_assert!(!advice.sentence.is_empty());
        }

        #[test]
        fn more_cores_never_make_the_best_prediction_worse(held in 0.1..100.0_f64, off in 0.0..100.0_f64, count in 2_u32..64) {
            let program = threads(count, held, Program::demand(held, 0.0, off, 0.0, true), held);
            let advice = advise(&program, &two_cores(), &[2, 4, 8, 16]);
            let best: Vec<f64> = [2, 4, 8, 16].map(|cores| speed_up(&advice, cores)).into();
            prop_assert!(best.is_sorted_by(|a, b| *b >= 0.95 * a), "{best:?}");
        }
    }
}
