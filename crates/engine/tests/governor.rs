//! The governor, shown one moment after another.

use forkright_engine::choose::Leave;
use forkright_engine::forecast::Zygote;
use forkright_engine::governor::{Class, Direction, Governor, Observation, Running};
use forkright_engine::machine::Machine;
use forkright_engine::profile::{Profile, Shares};

/// Directs 24 tasks of which two run, one with the GIL and one without, and have it change hands so many times in each of
/// `ticks` milliseconds.
fn directed(each: u64, leave: &Leave, ticks: u32) -> Direction {
    let mut governor = Governor::new(Machine { cores: 2.0, ..Machine::default() }, None, Some(24));
    let mut profile = Profile::default();
    let mut last = None;
    for tick in 1..=ticks {
        let now = f64::from(tick) * 0.001;
        let task = |class, streak| Running { class, streak, elapsed: now };
        let running = [task(Class::Held, 0.0), task(Class::OffGil, now)];
        profile.sample(&Shares { held: 1, off_gil: 1, ..Shares::default() });
        last = Some(governor.tick(&Observation {
            now,
            pending: 22,
            done: 0,
            running: &running,
            away: 0,
            programs: 0.0,
            handovers: Some(u64::from(tick) * each),
            profile: &profile,
            zygote: Zygote::Cold,
            leave,
            processes_now: 0,
            threads_now: 2,
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
