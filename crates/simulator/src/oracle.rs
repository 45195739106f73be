//! Who knows the true costs: runs the workload under every plan worth it and takes the best. What auto takes longer than
//! that is its regret.

use std::sync::Arc;

use forkright_engine::choose::Leave;
use forkright_engine::governor::Governor;
use forkright_engine::plan::Plan;

use crate::simulation::{Driver, Outcome, run, run_until};
use crate::workload::{Phase, Workload};
use crate::world::World;

/// The most threads of one process that are tried.
const MOST_THREADS: u32 = 256;
/// The most workers in worker processes, all together.
const MOST_WORKERS: u32 = 1024;

/// Seconds of which nobody takes notice.
const UNNOTICED: f64 = 0.002;

/// Plans that differ by a smaller share are as good.
const ALIKE: f64 = 1e-6;

/// Auto beside the best fixed plan.
#[derive(Clone, Debug)]
pub struct Regret {
    /// What auto did.
    pub taken: Outcome,
    /// The best fixed plan.
    pub best: Plan,
    /// Its seconds, the start of its workers among them.
    pub seconds: f64,
}

impl Regret {
    /// Auto's time over that of the best fixed plan.
    pub fn ratio(&self) -> f64 {
        self.taken.seconds / self.seconds
    }

    /// By what share the forecast was wrong that was in force for the longest: how long the rest would take, against how
    /// long it took. Guesses don't count. As `benchmarks/choice/score.py` has it for real runs.
    pub fn forecast_error(&self) -> Option<f64> {
        let founded = self.taken.verdicts.iter().filter(|(_, verdict)| verdict.case.demand.finished > 0);
        let made: Vec<(f64, f64)> = founded.map(|(at, verdict)| (*at, verdict.seconds)).collect();
        forecast_error(&made, self.taken.seconds)
    }
}

/// Forecasts, each with the moment at which it was made, against the end.
fn forecast_error(made: &[(f64, f64)], end: f64) -> Option<f64> {
    let ends = made.iter().skip(1).map(|(at, _)| *at).chain([end]);
    let ((at, seconds), _) = made
        .iter()
        .zip(ends)
        .max_by(|((one, _), to), ((other, _), until)| (to - one).total_cmp(&(until - other)))?;
    let left = end - at;
    (left > UNNOTICED).then(|| (seconds - left).abs() / left)
}

/// Runs it under auto.
pub fn auto(work: &Workload, world: &World, most: Option<u32>) -> Outcome {
    let items = work.counted.then_some(work.tasks.len() as u64);
    let governor = Governor::new(world.believed.clone(), most, items);
    run(work, world, Driver::Auto(Box::new(governor)))
}

/// Runs it under a plan that stays.
pub fn fixed(work: &Workload, world: &World, plan: Plan) -> f64 {
    run(work, world, Driver::Fixed(plan)).seconds
}

/// The best fixed plan, with the workers it starts paid for.
pub fn best(work: &Workload, world: &World) -> (Plan, f64) {
    let mut best = (Plan::SERIAL, fixed(work, world, Plan::SERIAL));
    for plan in plans(work, world.machine.width()) {
        // Whatever takes longer is not the best.
        if let Some(outcome) = run_until(work, world, Driver::Fixed(plan), best.1)
            && outcome.seconds < best.1 * (1.0 - ALIKE)
        {
            best = (plan, outcome.seconds);
        }
    }
    best
}

/// Auto and the best fixed plan.
pub fn regret(work: &Workload, world: &World) -> Regret {
    let (best, seconds) = best(work, world);
    Regret { taken: auto(work, world, None), best, seconds }
}

/// The plans that may be the best, serial apart. Threads beyond the cores, and several in one worker process, are of use
/// only to what waits.
fn plans(work: &Workload, cores: u32) -> Vec<Plan> {
    let tasks = u32::try_from(work.tasks.len()).unwrap_or(u32::MAX);
    let doubling = |most: u32| std::iter::successors(Some(2_u32), move |n| (2 * n <= most).then_some(2 * n));
    let waits = does_wait(work);
    let mut plans: Vec<(u32, u32)> = Vec::new();
    // The most likely first: what takes longer than the best so far is not run to its end.
    if work.leave == Leave::Yes {
        let inside: Vec<u32> = if waits { vec![8, 4, 16, 2, 32, 1] } else { vec![1, 2] };
        let mut processes: Vec<u32> = [cores].into_iter().chain(doubling(cores.saturating_sub(1))).collect();
        processes.push(1);
        processes.extend(Some(tasks).filter(|&tasks| (cores + 1..2 * cores).contains(&tasks)));
        plans.extend(processes.iter().flat_map(|&p| inside.iter().map(move |&t| (p, t))));
        plans.retain(|&(p, t)| p * t <= MOST_WORKERS && p <= tasks && p * t < 2 * tasks.max(1));
    }
    let most = if waits { MOST_THREADS } else { (2 * cores).min(MOST_THREADS) };
    plans.extend([cores.max(2), tasks.min(most)].into_iter().chain(doubling(most)).map(|t| (0, t)));
    plans.sort_unstable();
    plans.dedup();
    plans
        .into_iter()
        .rev()
        .filter_map(|(p, t)| Plan::new(p, t).ok())
        .filter(|plan| plan.workers() > 1 || plan.leaves())
        .collect()
}

fn does_wait(work: &Workload) -> bool {
    let mut seen: Option<&Arc<[Phase]>> = None;
    work.tasks.iter().any(|task| {
        let is_new = seen.is_none_or(|before| !Arc::ptr_eq(before, task));
        seen = Some(task);
        let elsewhere = |phase: &Phase| matches!(phase, Phase::Wait(_) | Phase::Sleep(_) | Phase::Program(_));
        let (away, all) = task.iter().fold((0.0, 0.0), |(away, all), phase| {
            (away + if elsewhere(phase) { phase.seconds() } else { 0.0 }, all + phase.seconds())
        });
        is_new && away > 0.02 * all
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forecast_that_was_in_force_for_the_longest_counts() {
        let error = forecast_error(&[(0.0, 5.0), (0.2, 0.4), (0.95, 0.1)], 1.0).expect("there were some");
        assert!((error - 0.5).abs() < 1e-9);
        assert_eq!(forecast_error(&[], 1.0), None);
        assert_eq!(forecast_error(&[(0.01, 0.5)], 0.011), None, "nobody notices a millisecond");
    }

    #[test]
    fn the_oracle_takes_what_suits() {
        let world = |cores| World::exact(forkright_engine::machine::Machine { cores, ..Default::default() });
        let (calc, hash, wait) = ([Phase::Gil(0.1)], [Phase::Off(0.1)], [Phase::Wait(0.1)]);
        let of = |task: &[Phase], cores| best(&Workload::same(64, task), &world(cores));
        let found = [of(&calc, 8.0), of(&hash, 8.0), of(&wait, 2.0)];
        assert_eq!(found[0].0.processes(), 8);
        assert!((8..=16).contains(&found[1].0.threads()) && !found[1].0.leaves(), "{found:?}");
        assert!(found[2].0.workers() >= 64, "{found:?}");
        assert!(found[0].1 < 0.95 && found[1].1 < 0.85 && found[2].1 < 0.15, "{found:?}");
        assert_eq!(of(&calc, 1.0).0, Plan::SERIAL);
    }
}
