//! The governor, shown one moment after another.

use forkright_engine::choose::{Leave, Verdict};
use forkright_engine::forecast::Zygote;
use forkright_engine::governor::{Class, Direction, Governor, Observation, Running};
use forkright_engine::machine::Machine;
use forkright_engine::profile::{Profile, Reading, Shares};

/// What is seen of so many tasks that wait and of those that run here; nothing has left, nothing is known.
fn look<'a>(now: f64, pending: u32, running: &'a [Running], profile: &'a Profile) -> Observation<'a> {
    Observation {
        now,
        pending: pending.into(),
        done: 0,
        running,
        away: 0,
        programs: 0.0,
        crowded: false,
        handovers: None,
        profile,
        zygote: Zygote::Cold,
        leave: &Leave::Unknown,
        processes_now: 0,
        threads_now: running.len().max(1) as u32,
    }
}

/// Directs 24 tasks of which two run, one with the GIL and one without, and have it change hands so many times in each of
/// `ticks` milliseconds.
fn directed(each: u64, leave: &Leave, ticks: u32) -> Direction {
    let mut governor = Governor::new(Machine { cores: 2.0, ..Machine::default() }, None, Some(24));
    let mut profile = Profile::default();
    let mut last = None;
    for tick in 1..=ticks {
        let now = f64::from(tick) * 0.001;
        let task = |class, streak| Running { class, streak, elapsed: now, tasks: 1 };
        let running = [task(Class::Held, 0.0), task(Class::OffGil, now)];
        profile.sample(&Shares { held: 1, off_gil: 1, ..Shares::default() });
        last = Some(governor.tick(&Observation {
            handovers: Some(u64::from(tick) * each),
            leave,
            ..look(now, 22, &running, &profile)
        }));
    }
    last.expect("ticks")
}

#[test]
fn tasks_whose_gil_changes_hands_all_the_time_are_to_leave_before_any_has_finished() {
    let thrashing = directed(100, &Leave::Unknown, 12);
    assert!(thrashing.warm_zygote && thrashing.ask_leave);
    let taking_turns = directed(2, &Leave::Unknown, 12);
    assert!(!taking_turns.warm_zygote && !taking_turns.ask_leave);
}

#[test]
fn where_they_must_stay_they_run_one_after_another() {
    let stays = Leave::No("they must".to_owned());
    let thrashing = directed(100, &stays, 40);
    assert_eq!((thrashing.width, thrashing.away), (1, None));
    assert!(directed(2, &stays, 40).width >= 2, "taking turns is no reason for that");
}

#[test]
fn what_may_not_be_needed_is_made_ready_only_where_a_core_is_free() {
    let warms = |crowded: bool| {
        let mut governor = Governor::new(Machine { cores: 2.0, ..Machine::default() }, None, Some(60));
        let mut profile = Profile::default();
        (1..20).any(|tick| {
            let now = f64::from(tick) * 0.001;
            let running = [Running { class: Class::Io, streak: now, elapsed: now, tasks: 1 }; 4];
            profile.sample(&Shares { io: 4, ..Shares::default() });
            let seen = Observation { crowded, ..look(now, 56, &running, &profile) };
            governor.tick(&seen).warm_zygote
        })
    };
    assert!(warms(false) && !warms(true));
}

/// The widths of 60 requests that take 50 ms, of which four are in flight at first and then as many as may be; `limit` of
/// these get an answer every 50 ms, from 100 ms on. The others, after so long, are in the state `late`.
fn widths_of_requests(limit: usize, late: Class) -> Vec<u32> {
    let mut governor = Governor::new(Machine { cores: 2.0, ..Machine::default() }, None, Some(60));
    let mut profile = Profile::default();
    let (mut began, mut started, mut done) = (vec![0.0; 4], 4, 0);
    let mut widths = Vec::new();
    for tick in 1..250 {
        let now = f64::from(tick) * 0.001;
        let answered = if now < 0.1 { 4 } else { limit };
        if tick % 50 == 0 {
            for at in began.drain(..began.len().min(answered)) {
                done += 1;
                let waited = Reading { tasks: 1, wall: now - at, cpu: Some(0.001), ..Reading::default() };
                profile.record(&waited);
            }
        }
        let running: Vec<_> = began
            .iter()
            .map(|at| {
                let class = if now - at < 0.05 { Class::Io } else { late };
                Running { class, streak: 0.002, elapsed: now - at, tasks: 1 }
            })
            .collect();
        profile.sample(&Shares { io: running.len() as u64, ..Shares::default() });
        let direction = governor.tick(&Observation { done, ..look(now, 60 - started, &running, &profile) });
        while (began.len() as u32) < direction.width && started < 60 && tick >= 50 {
            began.push(now);
            started += 1;
        }
        widths.push(direction.width);
    }
    widths
}

#[test]
fn a_server_that_answers_more_requests_more_slowly_gets_fewer() {
    let widths = widths_of_requests(0, Class::Io);
    assert_eq!(widths.iter().max(), Some(&14));
    assert!(*widths.last().expect("ticks") <= 7, "{widths:?}");
    // As soon as answers are overdue, not only after twice the time.
    assert!(widths[130] <= 7, "{widths:?}");
}

#[test]
fn a_server_that_answers_most_of_them_in_time_keeps_them() {
    let widths = widths_of_requests(12, Class::Io);
    assert!(*widths.last().expect("ticks") >= 14, "{widths:?}");
}

#[test]
fn a_server_that_has_most_of_them_queue_gets_those_that_it_works_on() {
    let widths = widths_of_requests(6, Class::Io);
    assert_eq!(widths.iter().max(), Some(&14));
    assert_eq!(widths.last(), Some(&6), "{widths:?}");
}

#[test]
fn what_the_first_computed_is_no_reason_to_leave_while_others_are_about_to_tell() {
    let mut governor = Governor::new(Machine { cores: 2.0, ..Machine::default() }, None, Some(200));
    let mut profile = Profile::default();
    profile.sample(&Shares { held: 10, io: 40, ..Shares::default() });
    let mut tick = |now, done, leave, class, profile: &Profile| {
        let running = [Running { class, streak: 0.02, elapsed: now, tasks: 1 }; 3];
        let seen = Observation { done, leave, zygote: Zygote::Ready, ..look(now, 196, &running, profile) };
        governor.tick(&seen)
    };
    // It imported something, and then waited like the others.
    assert!(tick(0.01, 0, &Leave::Unknown, Class::Held, &profile).ask_leave);
    profile.record(&Reading { tasks: 1, wall: 0.05, cpu: Some(0.02), ..Reading::default() });
    assert_eq!(tick(0.05, 1, &Leave::Yes, Class::Io, &profile).away, None);
    // They take much longer: they may not tell for a while.
    assert!(tick(0.2, 1, &Leave::Yes, Class::Io, &profile).away.is_some());
}

#[test]
fn answers_that_queue_for_the_gil_are_not_a_slow_servers() {
    let widths = widths_of_requests(0, Class::GilWait);
    assert!(*widths.last().expect("ticks") >= 14, "{widths:?}");
}

#[test]
fn a_sleeper_that_has_just_begun_holds_no_others_back() {
    let mut governor = Governor::new(Machine { cores: 2.0, ..Machine::default() }, None, Some(40));
    let mut profile = Profile::default();
    let mut width = 1;
    for tick in 1..12 {
        let now = f64::from(tick) * 0.001;
        // The last of them has just begun, and computes for a moment.
        let class = |number: u32| if number + 1 == width && width > 1 { Class::Held } else { Class::Sleep };
        let task = |number| Running { class: class(number), streak: 0.0015, elapsed: now, tasks: 1 };
        let running: Vec<Running> = (0..width).map(task).collect();
        profile.sample(&Shares { io: width.into(), ..Shares::default() });
        width = width.max(governor.tick(&look(now, 40 - width, &running, &profile)).width).min(40);
    }
    assert!(width > 30, "{width}");
}

#[test]
fn what_waits_for_a_library_that_computes_is_not_joined_by_more() {
    let widest = |crowded: bool, streak: f64, ticks: u32| {
        let mut governor = Governor::new(Machine { cores: 2.0, ..Machine::default() }, None, Some(60));
        let mut profile = Profile::default();
        let mut width = 1;
        for tick in 1..ticks {
            let now = f64::from(tick) * 0.001;
            let locked = Running { class: Class::LockWait, streak: now.min(streak), elapsed: now, tasks: 1 };
            let running = vec![locked; width as usize];
            profile.sample(&Shares { lock_wait: width.into(), ..Shares::default() });
            let seen = Observation { crowded, ..look(now, 60 - width, &running, &profile) };
            width = width.max(governor.tick(&seen).width);
        }
        width
    };
    assert_eq!(widest(true, 1.0, 900), 2, "its threads have the cores");
    assert_eq!(widest(false, 0.003, 40), 1, "a lock that is held for a moment");
    assert_eq!(widest(false, 1.0, 40), 20, "they may wait for each other");
    assert_eq!(widest(true, 1.0, 1040), 20, "so they may on a busy machine");
}

#[test]
fn the_caller_leaves_long_computations_without_the_gil_to_other_threads() {
    let steps_back = |cpu: f64, class: Class| {
        let mut governor = Governor::new(Machine { cores: 2.0, ..Machine::default() }, None, Some(400));
        let mut profile = Profile::default();
        let mut direction = None;
        for tick in 1..100 {
            let now = f64::from(tick) * 0.001;
            let running = vec![Running { class, streak: now, elapsed: now, tasks: 1 }; 2];
            match class {
                Class::OffGil => profile.sample(&Shares { off_gil: 2, ..Shares::default() }),
                _ => profile.sample(&Shares { held: 1, gil_wait: 1, ..Shares::default() }),
            }
            if tick % 10 == 0 {
                profile.record(&Reading { tasks: 1, wall: cpu, cpu: Some(cpu), ..Reading::default() });
            }
            let done = u64::from(tick / 10u32);
            direction = Some(governor.tick(&Observation { done, ..look(now, 300, &running, &profile) }));
        }
        direction.expect("ticks").steps_back
    };
    assert!(steps_back(0.02, Class::OffGil));
    assert!(!steps_back(0.001, Class::OffGil), "they would be over before a thread is awake");
    assert!(!steps_back(0.02, Class::Held), "one at a time computes anyway");
}

/// What is said when `items` wait like this and the first has ended after 20 ms: the most that may run at once, and the
/// verdicts.
fn waits(class: Class, items: u32) -> (u32, Vec<Verdict>) {
    let mut governor = Governor::new(Machine { cores: 2.0, ..Machine::default() }, None, Some(items.into()));
    let mut profile = Profile::default();
    let (mut width, mut verdicts) = (1, Vec::new());
    for tick in 1..40 {
        let now = f64::from(tick) * 0.001;
        let done = u32::from(tick >= 20);
        if tick == 20 {
            profile.record(&Reading { tasks: 1, wall: now, cpu: Some(0.0001), ..Reading::default() });
        }
        let in_flight = width.min(items - done);
        let running = vec![Running { class, streak: now, elapsed: now, tasks: 1 }; in_flight as usize];
        profile.sample(&Shares { io: in_flight.into(), ..Shares::default() });
        let pending = items - done - in_flight;
        let direction =
            governor.tick(&Observation { done: done.into(), ..look(now, pending, &running, &profile) });
        width = width.max(direction.width);
        verdicts.extend(direction.verdict);
    }
    (width, verdicts)
}

#[test]
fn a_guess_is_followed_by_a_forecast_even_if_all_have_begun() {
    let (_, verdicts) = waits(Class::Io, 6);
    let finished: Vec<u64> = verdicts.iter().map(|verdict| verdict.case.demand.finished).collect();
    assert_eq!(finished, [0, 1]);
    assert_eq!(verdicts[0].plan, verdicts[1].plan);
    assert!(verdicts[1].seconds < 0.005, "they are nearly over: {}", verdicts[1].seconds);
}

#[test]
fn a_forecast_is_made_again_when_more_is_known() {
    let mut governor = Governor::new(Machine { cores: 2.0, ..Machine::default() }, None, Some(100));
    let mut profile = Profile::default();
    let mut finished = Vec::new();
    for done in 0..60_u32 {
        let now = f64::from(done) * 0.02;
        let running = [Running { class: Class::OffGil, streak: 0.01, elapsed: 0.01, tasks: 1 }; 2];
        profile.sample(&Shares { off_gil: 20, ..Shares::default() });
        if done > 0 {
            profile.record(&Reading { tasks: 1, wall: 0.04, cpu: Some(0.04), ..Reading::default() });
        }
        let seen = Observation { done: done.into(), ..look(now, 98 - done, &running, &profile) };
        finished.extend(governor.tick(&seen).verdict.map(|verdict| verdict.case.demand.finished));
    }
    // Not at once: judged is each 50 ms.
    assert!(matches!(finished[..], [0, 4, 16..20]), "{finished:?}");
}

#[test]
fn tasks_that_sleep_burden_nobody_and_all_may_run_at_once() {
    assert_eq!(waits(Class::Sleep, 40).0, 40);
    assert!((9..=20).contains(&waits(Class::Io, 40).0), "a server may not bear more");
}
