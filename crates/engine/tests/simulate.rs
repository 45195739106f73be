//! The governor at work on a simulated machine (`forkright-simulator`), where each run is exact and repeatable: what it
//! makes of workloads of many shapes, and that no task is lost whatever happens.

use forkright_engine::choose::{Leave, Verdict, choose};
use forkright_engine::climb::Bearable;
use forkright_engine::governor::Governor;
use forkright_engine::machine::Machine;
use forkright_engine::plan::{Kind, Plan};
use forkright_simulator::oracle;
use forkright_simulator::simulation::{Driver, Outcome, run};
use forkright_simulator::workload::Phase::{self, *};
use forkright_simulator::workload::{Carriage, Server, Stream, Workload};
use forkright_simulator::world::World;
use proptest::prelude::*;

fn machine(cores: f64) -> Machine {
    Machine { cores, ..Machine::default() }
}

fn auto(work: &Workload, machine: &Machine) -> Outcome {
    limited(work, machine, None)
}

fn limited(work: &Workload, machine: &Machine, most: Option<u32>) -> Outcome {
    checked(oracle::auto(work, &World::exact(machine.clone()), most))
}

/// What was recorded of each choice gives the same again.
fn checked(outcome: Outcome) -> Outcome {
    for (_, verdict) in &outcome.verdicts {
        let record = serde_json::to_string(&verdict.case).expect("plain data");
        let again: Option<Verdict> = choose(serde_json::from_str(&record).expect("it was written so"));
        assert_eq!(again.as_ref(), Some(verdict));
    }
    outcome
}

/// Auto's time over the best fixed plan's, printed with what happened on the way.
fn regret(name: &str, work: &Workload, cores: f64) -> (f64, Outcome) {
    let found = oracle::regret(work, &World::exact(machine(cores)));
    let (ratio, taken) = (found.ratio(), checked(found.taken));
    println!(
        "{name} on {cores} cores: auto {:.3} s ({} here, ends as {}), best {:.3} s ({}): {ratio:.2}",
        taken.seconds, taken.here, taken.plan, found.seconds, found.best
    );
    for (at, verdict) in &taken.verdicts {
        println!("    {:.0} ms: {}", at * 1e3, verdict.sentence);
    }
    assert!(taken.finished.iter().all(|&times| times == 1), "each task runs exactly once");
    (ratio, taken)
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

/// The one that runs here when the choice is made counts as one of them, and then ends.
#[test]
fn a_limit_of_two_workers_leaves_room_for_two_processes() {
    for (tasks, seconds) in [(20, 0.1), (200, 0.01), (6, 0.3)] {
        let work = Workload::same(tasks, &[Gil(seconds)]);
        let (taken, free) = (limited(&work, &machine(2.0), Some(2)), auto(&work, &machine(2.0)));
        assert!(taken.most <= 2);
        assert!(taken.seconds <= 1.05 * free.seconds, "{tasks}: {} s, {} s", taken.seconds, free.seconds);
    }
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
fn one_core_gets_threads_when_the_waits_come() {
    let computes = [[Gil(0.01)], [Off(0.01)]];
    for first in computes {
        let tasks = vec![first.to_vec(); 100].into_iter().chain(vec![vec![Wait(0.01), Gil(0.0003)]; 100]);
        let (regret, taken) = regret("computes, then waits", &Workload::of(tasks), 1.0);
        assert!(regret <= 1.5, "{regret}");
        assert!(taken.most_here >= 4);
    }
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
        // A thread of a worker queues for its GIL before it can begin to wait: more of them would help than are forecast.
        assert!(regret <= 1.4, "{regret}");
        assert!(taken.verdicts.iter().any(|(_, verdict)| verdict.plan.kind() == Kind::Hybrid));
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
    // 20, 40, 80 and 160 are in flight first: all at once would be as fast, where nobody is the slower for it.
    assert!(regret <= 2.4, "{regret}");
    assert!(taken.most_here >= 160);
}

/// 600 requests of 50 ms to one that works on six at once.
fn requests(shares: bool, strain: f64) -> Workload {
    let server = Server { limit: 6, shares, strain };
    Workload { server: Some(server), ..Workload::same(600, &[Gil(0.0002), Wait(0.05)]) }
}

#[test]
fn a_server_that_slows_down_is_not_hammered() {
    for shares in [false, true] {
        let (regret, taken) = regret("600 requests to a weak server", &requests(shares, 1.0 / 6.0), 2.0);
        assert!(regret <= 1.25, "{regret}");
        assert_eq!(taken.most_here, 20, "never more than were let in before it was known");
    }
}

#[test]
fn requests_that_must_stay_do_not_hammer_a_server_either() {
    for shares in [false, true] {
        let leave = Leave::No("it appends to a list".into());
        let work = Workload { leave, ..requests(shares, 1.0 / 6.0) };
        let (regret, taken) = regret("600 requests that must stay", &work, 2.0);
        assert!(regret <= 1.25, "{regret}");
        assert_eq!(taken.most_here, 20, "never more than were let in before it was known");
    }
}

#[test]
fn a_server_that_has_requests_queue_is_kept_busy() {
    for shares in [false, true] {
        let (regret, _) = regret("600 requests to a small server", &requests(shares, 0.0), 2.0);
        assert!(regret <= 1.1, "{regret}");
    }
}

/// Runs it under auto, by a governor that has learned so much of whom its tasks wait for.
fn after(work: &Workload, known: &str) -> Outcome {
    let known: Bearable = serde_json::from_str(known).expect("plain data");
    let world = World::exact(machine(2.0));
    let governor = Governor::after(known, world.believed.clone(), None, Some(work.tasks.len() as u64));
    checked(run(work, &world, Driver::Auto(Box::new(governor))))
}

#[test]
fn what_a_server_did_not_bear_is_remembered() {
    let taken = after(&requests(true, 1.0 / 6.0), r#"{"most": 20, "enough": 6}"#);
    assert!(taken.most_here <= 9, "a half more is tried: {}", taken.most_here);
}

#[test]
fn a_server_that_has_recovered_gets_more_again() {
    let taken = after(&Workload::same(2000, &[Gil(0.0002), Wait(0.05)]), r#"{"most": 20, "enough": 6}"#);
    assert!(taken.most_here >= 60, "{}", taken.most_here);
}

#[test]
fn tasks_that_grow_are_not_begun_by_the_dozen_while_they_look_short() {
    let tasks = (0..200).map(|at| vec![Gil(0.0001 * f64::from(at))]);
    let (regret, taken) = regret("growing", &Workload::of(tasks), 8.0);
    assert!(regret <= 1.45, "{regret}");
    assert!(taken.here <= 60, "{}", taken.here);
}

#[test]
fn tasks_that_sleep_are_soon_all_in_flight() {
    let (regret, taken) =
        regret("sleeping", &Workload::same(40, &[Sleep(0.02), Gil(50e-6), Off(50e-6)]), 2.0);
    assert!(regret <= 2.0, "{regret}");
    assert!(taken.most_here >= 30);
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
    // Of a hundred threads that waited, each has taken something that computes before that is known.
    assert!(waits_first <= 1.5, "{waits_first}");
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
            let said: Vec<_> =
                taken.verdicts.iter().map(|(at, verdict)| format!("{at:.3} {}", verdict.plan)).collect();
            assert!(taken.most <= most, "{} of {most}: {shape:?}, {said:?}", taken.most);
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
            counted,
            metered,
            leave: if free { Leave::Yes } else { Leave::No("it must stay".into()) },
            ..Workload::of((0..count).map(|at| shapes[at % shapes.len()].clone()))
        },
    )
}

/// The same, with all that can go wrong on the way.
fn troubled() -> impl Strategy<Value = Workload> {
    let carriage = (0.0..0.002_f64, 0.0..0.002_f64, 0.0..1e7_f64);
    let deaths = prop::collection::vec(0.0..3.0_f64, 0..6);
    (workload(), carriage, deaths, 0.0..100.0_f64, 1.0..4.0_f64).prop_map(
        |(work, (here, there, bytes), mut deaths, modules, drag)| {
            deaths.sort_by(f64::total_cmp);
            Workload { carriage: Carriage { here, there, bytes }, deaths, modules, drag, ..work }
        },
    )
}

fn worlds() -> impl Strategy<Value = World> {
    let costs = (0.0005..0.2_f64, 0.01..0.3_f64, 0.0..0.02_f64, 0.0..0.05_f64, 0.0..0.1_f64);
    (0..8_u32, any::<bool>(), costs).prop_map(
        |(cores, known, (process_start, zygote_start, fork, question, noise))| {
            let believed = machine(f64::from(1 << cores));
            let machine = Machine { process_start, zygote_start, ..believed.clone() };
            let believed = if known { machine.clone() } else { believed };
            World { machine, believed, fork, question, noise }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_task_runs_once_and_never_much_later_than_one_by_one(work in workload(), cores in 0..5_u32) {
        let machine = machine(f64::from(1 << cores));
        let taken = auto(&work, &machine);
        prop_assert!(taken.finished.iter().all(|&times| times == 1));
        let serial = oracle::fixed(&work, &World::exact(machine), Plan::SERIAL);
        prop_assert!(taken.seconds <= 1.15 * serial + 0.1, "{} {serial}", taken.seconds);
        if work.leave != Leave::Yes {
            prop_assert_eq!(taken.here, work.tasks.len());
        }
    }

    #[test]
    fn every_task_has_one_outcome_whatever_dies(work in troubled(), world in worlds()) {
        let taken = checked(oracle::auto(&work, &world, None));
        prop_assert!(taken.finished.iter().all(|&times| times == 1));
        prop_assert!(work.deaths.is_empty() || taken.started > 0 || taken.lost == 0);
        if work.deaths.is_empty() || work.leave != Leave::Yes {
            prop_assert_eq!(taken.lost, 0, "only a death costs a task");
        }
    }

    #[test]
    fn slow_and_endless_iterables_are_served_as_far_as_they_are_read(
        work in troubled(), world in worlds(), every in 0.0..0.02_f64, window in 1..40_usize, share in 0.0..1.0_f64
    ) {
        let stop = (share * work.tasks.len() as f64) as usize;
        let work = Workload { counted: false, stream: Some(Stream { every, window, stop }), ..work };
        let taken = checked(oracle::auto(&work, &world, None));
        prop_assert!(taken.finished[..stop].iter().all(|&times| times == 1), "all that were asked for");
        prop_assert!(taken.finished[stop..].iter().all(|&times| times <= 1), "and none twice");
        let read = taken.finished.iter().rposition(|&times| times > 0).map_or(0, |last| last + 1);
        prop_assert!(read < stop + window.max(1), "{read} of {stop} and {window}");
    }

    #[test]
    fn a_fixed_plan_gives_every_task_one_outcome_whatever_dies(
        work in troubled(), world in worlds(), processes in 0..9_u32, threads in 1..9_u32
    ) {
        let plan = Plan::new(processes, threads).expect("small");
        let taken = forkright_simulator::simulation::run(&work, &world, forkright_simulator::simulation::Driver::Fixed(plan));
        prop_assert!(taken.finished.iter().all(|&times| times == 1));
        prop_assert!(taken.most <= plan.workers());
    }
}

#[test]
fn what_sleeps_for_longer_than_before_is_not_done_one_by_one() {
    let tasks = [vec![vec![Sleep(0.001)]; 200], vec![vec![Sleep(0.05)]; 100]].concat();
    let taken = auto(&Workload::of(tasks.clone()), &machine(2.0));
    assert!(taken.plan.threads() >= 40, "{}", taken.plan);
    let waits = tasks.iter().map(|task| task.iter().map(|phase| Wait(phase.seconds())).collect());
    let taken = auto(&Workload::of(waits), &machine(2.0));
    assert!(taken.plan.threads() >= 4, "{}", taken.plan);
}

#[test]
fn what_was_enough_for_an_earlier_map_does_not_hold_this_one_back() {
    let work = Workload::same(600, &[Gil(0.0002), Wait(0.05)]);
    for known in [r#"{"most": 1, "enough": 4}"#, r#"{"most": 0, "enough": null}"#] {
        assert!(after(&work, known).most_here >= 30, "{known}");
    }
}
