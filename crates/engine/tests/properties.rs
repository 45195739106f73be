//! What must hold for every forecast and every choice, whatever the figures.

use forkright_engine::choose::{Case, Constraints, Leave, Limits, Verdict, candidates, choose};
use forkright_engine::forecast::{Remaining, Zygote, forecast};
use forkright_engine::machine::Machine;
use forkright_engine::plan::Plan;
use forkright_engine::profile::{Demand, Evidence, Profile, Reading, Shares};
use forkright_engine::replay::{Change, Given};
use proptest::prelude::*;

/// Room for rounding.
const MORE: f64 = 1.0 + 1e-9;

/// Seconds from a microsecond to ten, or none at all.
fn seconds() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), (-6.0..1.0_f64).prop_map(|power| 10_f64.powf(power))]
}

fn demands() -> impl Strategy<Value = Demand> {
    let times = (seconds(), seconds(), seconds(), seconds(), seconds());
    (times, 0.0..4.0_f64, 0.0..2.0_f64, seconds(), 0.0..1e6_f64, 0.0..2e3_f64).prop_map(
        |((held, blocked, off, waiting, programs), drag, spread, pickling, bytes, modules)| Demand {
            held,
            blocked,
            off,
            waiting,
            programs,
            drag,
            spread,
            pickling_here: pickling / 10.0,
            pickling_there: pickling / 10.0,
            bytes,
            modules,
            company: 1.0,
            finished: 8,
            gil: Evidence::Measured,
        },
    )
}

fn machines() -> impl Strategy<Value = Machine> {
    (0.1..256.0_f64, 1e-4..1.0_f64, 1e-4..0.1_f64).prop_map(|(cores, zygote_start, process_start)| Machine {
        cores,
        zygote_start,
        process_start,
        ..Machine::default()
    })
}

fn plans() -> impl Strategy<Value = Plan> {
    (0..64_u32, 1..64_u32).prop_map(|(p, t)| Plan::new(p, t).expect("within the limits"))
}

fn remainders() -> impl Strategy<Value = Remaining> {
    let zygote = prop_oneof![Just(Zygote::Cold), Just(Zygote::Warming), Just(Zygote::Ready)];
    let here = (0..64_u32, 0.0..5.0_f64);
    (0..5000_u32, here, 0..64_u32, plans(), zygote, 0.0..0.1_f64, 0.0..2.0_f64).prop_map(
        |(tasks, (here, elapsed), away, already, zygote, warming, importing)| Remaining {
            elapsed,
            tasks: f64::from(tasks),
            here,
            away,
            already,
            zygote,
            warming,
            importing,
        },
    )
}

fn leaves() -> impl Strategy<Value = Leave> {
    prop_oneof![Just(Leave::Yes), Just(Leave::Unknown), Just(Leave::No("it must stay".into()))]
}

fn limits() -> impl Strategy<Value = Limits> {
    let most = || prop_oneof![Just(256_u32), 1..64_u32];
    let (workers, extra) = (prop::option::of(1..64_u32), prop::option::of(1..64_u32));
    (workers, any::<bool>(), most(), most(), most(), extra).prop_map(
        |(workers, processes, room, inside, threads, extra)| Limits {
            workers,
            processes,
            room,
            inside,
            threads,
            extra,
        },
    )
}

/// A choice about all plans that are worth it, from serial.
fn case(demand: Demand, machine: Machine, remaining: Remaining) -> Case {
    let limits = Limits::of(&demand, &machine, None);
    let constraints = Constraints { may_leave: Leave::Yes, current: Plan::SERIAL, spent: 0.0, here: 0 };
    Case { demand, machine, remaining, limits, constraints }
}

fn cases() -> impl Strategy<Value = Case> {
    let constraints = (leaves(), plans(), 0.0..10.0_f64, 0..64_u32)
        .prop_map(|(may_leave, current, spent, here)| Constraints { may_leave, current, spent, here });
    (demands(), machines(), remainders(), limits(), constraints).prop_map(
        |(demand, machine, remaining, limits, constraints)| Case {
            demand,
            machine,
            remaining,
            limits,
            constraints,
        },
    )
}

fn given() -> impl Strategy<Value = Given> {
    (demands(), machines(), prop::option::of(1..64_u32), leaves()).prop_map(
        |(demand, machine, workers, may_leave)| Given { demand: Some(demand), machine, workers, may_leave },
    )
}

fn verdict(case: Case) -> Verdict {
    choose(case).expect("serial is always allowed")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_forecast_is_a_time(d in demands(), m in machines(), r in remainders(), plan in plans()) {
        let seconds = forecast(&d, &m, &r, plan).seconds;
        prop_assert!(seconds.is_finite() && seconds >= 0.0);
    }

    #[test]
    fn no_plan_beats_its_work_over_its_workers(d in demands(), m in machines(), r in remainders(), plan in plans()) {
        let seconds = forecast(&d, &m, &r, plan).seconds * MORE;
        prop_assert!(seconds >= r.tasks * d.alone() / f64::from(plan.workers()));
        prop_assert!(seconds >= r.tasks * d.gil() / f64::from(plan.processes().max(1)));
        prop_assert!(seconds >= r.tasks * d.cpu() / m.cores);
    }

    #[test]
    fn more_tasks_never_take_less_time(
        d in demands(), m in machines(), r in remainders(), plan in plans(), more in 0..1000_u32
    ) {
        let longer = Remaining { tasks: r.tasks + f64::from(more), ..r };
        prop_assert!(forecast(&d, &m, &longer, plan).seconds * MORE >= forecast(&d, &m, &r, plan).seconds);
    }

    #[test]
    fn more_of_anything_per_task_never_takes_less_time(
        d in demands(), m in machines(), r in remainders(), plan in plans(), more in seconds(), which in 0..6
    ) {
        // Those that have run for too long are another matter: it is not known then how long they take.
        let r = Remaining { elapsed: 0.0, ..r };
        let mut heavier = d;
        let part = match which {
            0 => &mut heavier.held,
            1 => &mut heavier.blocked,
            2 => &mut heavier.off,
            3 => &mut heavier.waiting,
            4 => &mut heavier.pickling_here,
            _ => &mut heavier.pickling_there,
        };
        *part += more;
        prop_assert!(forecast(&heavier, &m, &r, plan).seconds * MORE >= forecast(&d, &m, &r, plan).seconds);
    }

    #[test]
    fn more_cores_are_never_slower(
        d in demands(), m in machines(), r in remainders(), plan in plans(), more in 0.0..64.0_f64
    ) {
        let larger = Machine { cores: m.cores + more, ..m.clone() };
        prop_assert!(forecast(&d, &larger, &r, plan).seconds <= forecast(&d, &m, &r, plan).seconds * MORE);
    }

    #[test]
    fn a_warm_start_is_never_slower(d in demands(), m in machines(), r in remainders(), plan in plans()) {
        let cold = forecast(&d, &m, &Remaining { zygote: Zygote::Cold, ..r }, plan).seconds;
        let warm = forecast(&d, &m, &Remaining { zygote: Zygote::Ready, ..r }, plan).seconds;
        prop_assert!(warm <= cold * MORE);
    }

    #[test]
    fn more_waiting_never_makes_fewer_threads_better(
        d in demands(), m in machines(), r in remainders(), few in 1..32_u32, times in 2..8_u32, more in seconds()
    ) {
        // Tasks of equal length: a spread of a longer task is more seconds, and shifts the last wave.
        let even = Demand { spread: 0.0, ..d };
        let rounds = f64::from(few * times) * (r.tasks / f64::from(few * times)).ceil();
        let fresh = Remaining { tasks: rounds, here: 0, away: 0, already: Plan::SERIAL, ..r };
        let gain = |demand: &Demand| {
            let of = |threads| forecast(demand, &m, &fresh, Plan::in_threads(threads).expect("valid")).seconds;
            of(few) - of(few * times)
        };
        let waits = Demand { waiting: even.waiting + more, ..even };
        let (before, after) = (gain(&even), gain(&waits));
        prop_assert!(before <= 0.0 || after > -1e-9, "{before} {after}");
    }

    #[test]
    fn pure_python_gains_nothing_from_threads(held in 1e-6..1.0_f64, tasks in 1..2000_u32, threads in 2..64_u32) {
        let d = Demand { held, gil: Evidence::Measured, ..Demand::default() };
        let r = Remaining::fresh(f64::from(tasks), Plan::SERIAL, Zygote::Ready);
        let of = |plan| forecast(&d, &Machine::default(), &r, plan).seconds;
        prop_assert!(of(Plan::in_threads(threads).expect("valid")) >= of(Plan::SERIAL));
    }

    #[test]
    fn a_choice_is_allowed_near_the_best_and_explained(
        d in demands(), m in machines(), r in remainders(), free in any::<bool>(), spent in 0.0..10.0_f64
    ) {
        let mut case = case(d, m, r);
        case.constraints.may_leave = if free { Leave::Yes } else { Leave::No("it must stay".into()) };
        case.constraints.spent = spent;
        let verdict = verdict(case.clone());
        let forecasts = case.plans().into_iter().map(|plan| forecast(&case.demand, &case.machine, &r, plan));
        let allowed = forecasts.filter(|forecast| free || !forecast.plan.leaves());
        let best = allowed.map(|forecast| forecast.seconds).fold(f64::INFINITY, f64::min);
        prop_assert!(free || !verdict.plan.leaves());
        prop_assert!(verdict.plan == Plan::SERIAL || verdict.seconds <= best * 1.0301);
        let slack = (0.03 * spent).max(0.1 * verdict.seconds).max(0.002);
        prop_assert!(verdict.seconds <= best * 1.0301 + slack * MORE);
        let names_plan = verdict.sentence.starts_with(&verdict.plan.to_string());
        prop_assert!(names_plan && !verdict.sentence.contains('\n'));
        prop_assert!(verdict.beaten.iter().all(|forecast| forecast.plan != verdict.plan));
    }

    #[test]
    fn a_choice_taken_is_kept_while_nothing_changes(d in demands(), m in machines(), r in remainders()) {
        let mut case = case(d, m, r);
        let mut again = || {
            case.constraints.current = verdict(case.clone()).plan;
            case.constraints.current
        };
        again();
        prop_assert_eq!(again(), again());
    }

    #[test]
    fn a_verdict_made_again_from_its_record_is_the_same(case in cases()) {
        let verdict = verdict(case);
        let text = serde_json::to_string(&verdict).expect("plain data");
        let recorded: Verdict = serde_json::from_str(&text).expect("it was written so");
        prop_assert_eq!(&recorded, &verdict);
        prop_assert_eq!(choose(recorded.case), Some(verdict));
    }

    #[test]
    fn what_is_chosen_keeps_to_the_limits(case in cases()) {
        let (limits, current) = (case.limits, case.constraints.current);
        let plan = verdict(case).plan;
        let within = if plan.leaves() {
            limits.processes && plan.workers() <= limits.room && plan.threads() <= limits.inside
        } else {
            plan.threads() <= limits.threads || Some(plan.threads()) == limits.extra
        };
        prop_assert!(within || plan == current);
    }

    #[test]
    fn more_cores_never_make_work_longer_whichever_plan_is_chosen(given in given(), tasks in 1..5000_u64, double in 0..9_u32) {
        // Doubled, so that each number of processes that was looked at is looked at again.
        let seconds = |double: u32| {
            let change = Change { cores: Some(f64::from(1_u32 << double)), ..Change::default() };
            verdict(given.whole(&change, tasks).expect("something was measured")).seconds
        };
        let (few, many) = (seconds(double), seconds(double + 1));
        // The simplest of what is as good is taken, and leaving serial must save 10 % and 2 ms.
        prop_assert!(many <= few * 1.031 / 0.9 + 0.0021, "{few} {many}");
    }

    #[test]
    fn work_that_holds_the_gil_gains_as_many_times_as_there_are_processes_at_most(
        held in 1e-4..1.0_f64, tasks in 1..5000_u64, cores in 1..512_u32, start in 1e-4..0.05_f64
    ) {
        let demand = Some(Demand { held, gil: Evidence::Measured, ..Demand::default() });
        let machine = Machine { process_start: start, ..Machine::default() };
        let given = Given { demand, machine, workers: None, may_leave: Leave::Yes };
        let change = Change { cores: Some(f64::from(cores)), ..Change::default() };
        let verdict = verdict(given.whole(&change, tasks).expect("something was measured"));
        let serial = held * tasks as f64;
        // A few tasks more than cores may share them.
        let few = if tasks < 2 * u64::from(cores) { tasks } else { 0 };
        prop_assert!(verdict.plan.threads() == 1 && u64::from(verdict.plan.processes()) <= few.max(cores.into()));
        prop_assert!(verdict.seconds * f64::from(verdict.plan.workers()) * MORE >= serial);
        prop_assert!(verdict.seconds <= serial * MORE);
    }

    #[test]
    fn a_dearer_start_of_processes_never_makes_work_shorter(given in given(), tasks in 1..5000_u64, more in 1.0..100.0_f64) {
        let process_start = given.machine.process_start;
        let dear = Change { process_start: Some(process_start * more), ..Change::default() };
        let seconds = |change: Change| verdict(given.whole(&change, tasks).expect("something was measured")).seconds;
        let (cheap, dear) = (seconds(Change::default()), seconds(dear));
        prop_assert!(cheap <= dear * 1.031 / 0.9 + 0.0021, "{cheap} {dear}");
    }

    #[test]
    fn what_must_stay_stays_on_every_machine(given in given(), tasks in 1..5000_u64, cores in 1..4096_u32) {
        let given = Given { may_leave: Leave::No("it must stay".into()), ..given };
        let change = Change { cores: Some(f64::from(cores)), ..Change::default() };
        let verdict = verdict(given.whole(&change, tasks).expect("something was measured"));
        prop_assert!(!verdict.plan.leaves() && verdict.beaten.iter().all(|forecast| !forecast.plan.leaves()));
    }

    #[test]
    fn no_more_workers_are_chosen_than_were_allowed(given in given(), tasks in 1..5000_u64, cores in 1..4096_u32) {
        let change = Change { cores: Some(f64::from(cores)), ..Change::default() };
        let workers = verdict(given.whole(&change, tasks).expect("something was measured")).plan.workers();
        prop_assert!(given.workers.is_none_or(|most| workers <= most));
    }

    #[test]
    fn candidates_keep_the_limits(m in machines(), r in remainders(), most in 1..100_u32) {
        for plan in candidates(&m, &r, Some(most)) {
            prop_assert!(plan.workers() <= most && plan.processes() < 2 * m.width().max(1));
        }
    }

    #[test]
    fn a_profile_stays_within_what_was_measured(
        readings in prop::collection::vec((1..20_u64, seconds(), 0.0..1.0_f64, 1..9_u32, any::<bool>()), 1..50),
        samples in prop::collection::vec((0..20_u64, 0..20_u64, 0..20_u64, 0..20_u64), 0..50)
    ) {
        let mut profile = Profile::default();
        let mut longest = 0.0_f64;
        for (at, &(tasks, wall, share, together, sampled)) in readings.iter().enumerate() {
            if let Some(&(held, off_gil, gil_wait, io)) = samples.get(at) {
                profile.sample(&Shares { held, off_gil, gil_wait, io, ..Shares::default() });
            }
            let sum = wall * tasks as f64;
            profile.record(&Reading { tasks, wall: sum, cpu: Some(sum * share), together, sampled, ..Reading::default() });
            longest = longest.max(wall);
        }
        let demand = profile.demand().expect("something was recorded");
        prop_assert!(demand.alone() >= 0.0 && demand.alone() <= longest * MORE);
        prop_assert!(profile.held().is_none_or(|held| (0.0..=1.0).contains(&held)));
        prop_assert!(profile.guess(1.0).alone() > 0.999);
        let text = serde_json::to_string(&profile).expect("plain data");
        prop_assert!(serde_json::from_str::<Profile>(&text).is_ok());
    }
}

/// What may happen to a queue by priority.
#[derive(Clone, Debug)]
enum Move {
    Push(i32),
    Pop,
    /// The one taken last comes back.
    Restore,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => (-2..3).prop_map(Move::Push),
        2 => Just(Move::Pop),
        1 => Just(Move::Restore),
    ];
    prop::collection::vec(one, 0..120)
}

proptest! {
    #[test]
    fn what_waits_is_taken_by_priority_and_then_as_it_came(moves in moves()) {
        let mut queue = forkright_engine::ranked::Ranked::default();
        // Lowest key first: (priority downwards, number of arrival).
        let mut model: Vec<(i32, usize)> = Vec::new();
        let mut taken: Vec<(i32, usize)> = Vec::new();
        for (number, step) in moves.into_iter().enumerate() {
            match step {
                Move::Push(priority) => {
                    queue.push(priority, (-priority, number));
                    model.push((-priority, number));
                }
                Move::Pop => {
                    let expected = model.iter().copied().min();
                    model.retain(|entry| Some(*entry) != expected);
                    prop_assert_eq!(queue.pop(), expected);
                    taken.extend(expected);
                }
                Move::Restore => {
                    // In order of return: what was taken last goes before what was taken earlier only if it is due.
                    if let Some(entry) = taken.pop()
                        && model.iter().all(|other| other.0 != entry.0 || *other > entry)
                    {
                        queue.restore(-entry.0, entry);
                        model.push(entry);
                    }
                }
            }
            prop_assert_eq!(queue.len(), model.len());
            prop_assert_eq!(queue.is_empty(), model.is_empty());
        }
        model.sort_unstable();
        prop_assert_eq!(queue.drain().collect::<Vec<_>>(), model);
    }

    #[test]
    fn what_is_taken_out_leaves_the_order_of_the_rest(
        priorities in prop::collection::vec(-2..3, 0..40),
        owner in 0..3usize,
    ) {
        let mut queue = forkright_engine::ranked::Ranked::default();
        for (number, priority) in priorities.iter().enumerate() {
            queue.push(*priority, (-priority, number));
        }
        let all: Vec<(i32, usize)> = queue.iter().copied().collect();
        prop_assert!(all.is_sorted());
        let (meant, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|entry| entry.1 % 3 == owner);
        prop_assert_eq!(queue.extract(|entry| entry.1 % 3 == owner), meant);
        if let Some(middle) = rest.get(rest.len() / 2).copied() {
            prop_assert_eq!(queue.remove(|entry| *entry == middle), Some(middle));
        }
        prop_assert_eq!(queue.len(), rest.len().saturating_sub(1));
    }
}
