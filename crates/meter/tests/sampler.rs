//! What the sampler promises, with a GIL that the tests make themselves.

use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::Duration;

use forkright_meter::{
    Blame, Class, Gil, Glance, Look, Pace, Sampler, Slot, Standing, Tally, Unknown, View, Watch, clock,
};

/// How long a test waits for what must happen.
const WATCHDOG: Duration = Duration::from_secs(60);

/// Memory laid out as CPython lays out its GIL.
#[repr(C, align(8))]
struct FakeGil {
    interval: usize,
    holder: AtomicUsize,
    locked: AtomicU32,
    rest: [AtomicU32; 47],
}

impl FakeGil {
    fn new() -> &'static FakeGil {
        assert_eq!(size_of::<FakeGil>(), 208);
        Box::leak(Box::new(FakeGil {
            interval: 5_000,
            holder: AtomicUsize::new(0),
            locked: AtomicU32::new(0),
            rest: [const { AtomicU32::new(0) }; 47],
        }))
    }

    fn hold(&self, thread_state: usize) {
        self.locked.store(1, Ordering::Release);
        self.holder.store(thread_state, Ordering::Release);
    }

    fn seen(&'static self) -> Gil {
        assert_eq!(self.interval, 5_000);
        // SAFETY: leaked, so it stays.
        unsafe { Gil::at(std::ptr::from_ref(self).expose_provenance()) }
    }
}

/// A watch that tells of each tick and wants the pace that was set.
struct Bell {
    pace: Mutex<Pace>,
    ring: SyncSender<()>,
}

impl Watch for Bell {
    fn tick(&self, _: &Glance<'_>) -> Pace {
        // Full: nobody is listening at the moment.
        let _ = self.ring.try_send(());
        *self.pace.lock().expect("no panic")
    }
}

impl Bell {
    fn new(pace: Pace) -> (Arc<Bell>, Receiver<()>) {
        let (ring, rung) = sync_channel(1);
        (Arc::new(Bell { pace: Mutex::new(pace), ring }), rung)
    }

    fn hang(sampler: &Sampler, pace: Pace) -> (Arc<Bell>, Receiver<()>) {
        let (bell, rung) = Bell::new(pace);
        let watch: Weak<dyn Watch> = Arc::downgrade(&(Arc::clone(&bell) as Arc<dyn Watch>));
        sampler.watch(watch).expect("a thread");
        (bell, rung)
    }
}

/// Waits, tick by tick, until something is so.
fn until(rung: &Receiver<()>, what: &str, mut is_so: impl FnMut() -> bool) {
    let end = clock::monotonic() + WATCHDOG;
    loop {
        match rung.recv_timeout(end.saturating_sub(clock::monotonic())) {
            Ok(()) if is_so() => return,
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => panic!("never: {what}"),
            Err(RecvTimeoutError::Disconnected) => panic!("no ticks any more, and not: {what}"),
        }
    }
}

/// Has a worker run one task that does `work` until it is told to end, and waits until it was seen in `class` for a
/// while. Returns what was counted.
fn seen_as(
    class: Class,
    gil: Result<Gil, Unknown>,
    thread_state: usize,
    work: impl FnOnce() + Send + 'static,
    end: impl FnOnce(),
) -> Arc<Tally> {
    let sampler = Sampler::new(gil);
    let (_bell, rung) = Bell::hang(&sampler, Pace::Learning);
    let tally = Arc::new(Tally::default());
    let (say, said) = channel();
    let worker = {
        let (sampler, tally) = (Arc::clone(&sampler), Arc::clone(&tally));
        thread::spawn(move || {
            let slot = sampler.enter(thread_state);
            slot.begin(&tally);
            say.send(slot.view()).expect("the test listens");
            work();
            slot.end();
        })
    };
    let view: View = said.recv().expect("the worker begins");
    let is_so = || {
        let Standing { class: seen, streak } = view.standing();
        seen == class && streak > Duration::from_millis(5)
    };
    until(&rung, &format!("{class:?}"), is_so);
    end();
    worker.join().expect("no panic");
    assert!(tally.counts().of(class) > 1);
    tally
}

fn wait_on(futex: &AtomicU32) {
    while futex.load(Ordering::Acquire) == 0 {
        // SAFETY: the futex is alive, and no timeout is given.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                futex.as_ptr(),
                libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                0,
                std::ptr::null::<libc::timespec>(),
            )
        };
    }
}

fn wake(futex: &AtomicU32) {
    futex.store(1, Ordering::Release);
    // SAFETY: the futex is alive.
    unsafe { libc::syscall(libc::SYS_futex, futex.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1) };
}

fn spin_until(done: &AtomicBool) {
    while !done.load(Ordering::Acquire) {
        std::hint::spin_loop();
    }
}

fn flag() -> &'static AtomicBool {
    Box::leak(Box::default())
}

#[test]
fn a_thread_that_holds_the_gil_and_computes_is_seen_holding_it() {
    let (gil, done) = (FakeGil::new(), flag());
    gil.hold(77);
    let tally =
        seen_as(Class::Held, Ok(gil.seen()), 77, || spin_until(done), || done.store(true, Ordering::Release));
    for class in [Class::OffGil, Class::GilWait, Class::LockWait, Class::Io] {
        assert_eq!(tally.counts().of(class), 0);
    }
}

#[test]
fn a_thread_that_blocks_with_the_gil_is_seen_doing_so() {
    let gil = FakeGil::new();
    gil.hold(77);
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let work = move || assert_eq!(reader.read(&mut [0]).expect("the end"), 0);
    seen_as(Class::HeldBlocked, Ok(gil.seen()), 77, work, || drop(writer));
}

#[test]
fn a_thread_that_computes_beside_the_gil_is_seen_off_it() {
    let (gil, done) = (FakeGil::new(), flag());
    gil.hold(78);
    let tally = seen_as(
        Class::OffGil,
        Ok(gil.seen()),
        77,
        || spin_until(done),
        || done.store(true, Ordering::Release),
    );
    assert_eq!(tally.counts().of(Class::Held), 0);
}

#[test]
fn a_thread_that_took_the_gil_last_and_released_it_is_off_it() {
    let (gil, done) = (FakeGil::new(), flag());
    gil.hold(77);
    gil.locked.store(0, Ordering::Release);
    let tally = seen_as(
        Class::OffGil,
        Ok(gil.seen()),
        77,
        || spin_until(done),
        || done.store(true, Ordering::Release),
    );
    assert_eq!(tally.counts().of(Class::Held), 0);
}

#[test]
fn a_wait_inside_the_gil_is_told_from_one_elsewhere() {
    let gil = FakeGil::new();
    gil.hold(78);
    let inside = &gil.rest[46];
    seen_as(Class::GilWait, Ok(gil.seen()), 77, || wait_on(inside), || wake(inside));
    let outside: &'static AtomicU32 = Box::leak(Box::default());
    let tally = seen_as(Class::LockWait, Ok(gil.seen()), 77, || wait_on(outside), || wake(outside));
    assert_eq!(tally.counts().of(Class::GilWait), 0);
}

#[test]
fn reading_and_sleeping_are_told_also_where_the_gil_is_unknown() {
    for gil in [Ok(FakeGil::new().seen()), Err(Unknown::NoCandidate)] {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let work = move || assert_eq!(reader.read(&mut [0]).expect("the end"), 0);
        seen_as(Class::Io, gil.clone(), 77, work, || drop(writer));
        let done = flag();
        let work = || {
            while !done.load(Ordering::Acquire) {
                thread::sleep(Duration::from_millis(100));
            }
        };
        let tally = seen_as(Class::Sleep, gil, 77, work, || done.store(true, Ordering::Release));
        assert_eq!(tally.counts().of(Class::Held), 0);
    }
}

#[test]
fn where_the_gil_is_unknown_computing_and_waiting_are_too() {
    let (done, futex) = (flag(), &*Box::leak(Box::<AtomicU32>::default()));
    let blind = || Err(Unknown::FreeThreaded);
    let tally =
        seen_as(Class::Unknown, blind(), 77, || spin_until(done), || done.store(true, Ordering::Release));
    assert_eq!(tally.share(Class::Held), None);
    assert_eq!(tally.held_share_of_cpu(), None);
    seen_as(Class::Unknown, blind(), 77, || wait_on(futex), || wake(futex));
    assert_eq!(Sampler::new(blind()).gil().map(|_| ()), Err(Unknown::FreeThreaded));
}

/// Waits until the sampler has looked so many times more.
fn pass(sampler: &Sampler, rung: &Receiver<()>, ticks: u64) {
    let goal = sampler.cost().ticks + ticks;
    until(rung, "ticks", || sampler.cost().ticks >= goal);
}

#[test]
fn samples_go_to_the_function_that_runs_and_to_none_between_tasks() {
    let gil = FakeGil::new();
    gil.hold(77);
    let sampler = Sampler::new(Ok(gil.seen()));
    let (_bell, rung) = Bell::hang(&sampler, Pace::Learning);
    let slot = sampler.enter(77);
    let tallies: [Arc<Tally>; 2] = Default::default();
    let ticks = |enough: u64| pass(&sampler, &rung, enough);
    for round in 0..6 {
        let (runs, rests) = (&tallies[round % 2], &tallies[1 - round % 2]);
        let (running, resting) = (runs.samples(), rests.samples());
        slot.begin(runs);
        ticks(4);
        assert_eq!(rests.samples(), resting, "only a task that runs is counted");
        assert!(runs.samples() > running);
        slot.end();
        assert_eq!(slot.standing(), Standing { class: Class::Unknown, streak: Duration::ZERO });
        ticks(2);
        let idle = (runs.samples(), rests.samples());
        ticks(4);
        assert_eq!((runs.samples(), rests.samples()), idle, "between tasks nothing is counted");
    }
}

#[test]
fn what_a_thread_does_apart_from_its_task_is_not_counted_as_the_tasks() {
    let gil = FakeGil::new();
    gil.hold(77);
    let sampler = Sampler::new(Ok(gil.seen()));
    let (_bell, rung) = Bell::hang(&sampler, Pace::Learning);
    let slot = sampler.enter(77);
    let tally = Arc::new(Tally::default());
    let ticks = |enough: u64| pass(&sampler, &rung, enough);
    slot.begin(&tally);
    let counted = slot.apart(|| {
        ticks(2);
        let before = tally.samples();
        ticks(4);
        assert_eq!(tally.samples(), before);
        before
    });
    ticks(4);
    assert!(tally.samples() > counted, "the task goes on");
    slot.end();
    slot.apart(|| ());
    ticks(2);
    let counted = tally.samples();
    ticks(4);
    assert_eq!(tally.samples(), counted, "a thread that had no task gets none");
}

#[test]
fn a_new_task_of_the_same_function_has_no_past() {
    let gil = FakeGil::new();
    gil.hold(77);
    let sampler = Sampler::new(Ok(gil.seen()));
    let (_bell, rung) = Bell::hang(&sampler, Pace::Learning);
    let slot = sampler.enter(77);
    let tally = Arc::new(Tally::default());
    let long = Duration::from_millis(20);
    slot.begin(&tally);
    until(&rung, "a streak", || slot.standing().streak > long);
    slot.begin(&tally);
    let begun = clock::monotonic();
    let streak = slot.standing().streak;
    assert!(streak <= clock::monotonic() - begun, "{streak:?} cannot be longer than the task");
}

#[test]
fn a_crowd_is_sampled_by_chance_and_nobody_left_out() {
    let gil = FakeGil::new();
    let sampler = Sampler::new(Ok(gil.seen()));
    let tallies: Vec<Arc<Tally>> = (0..40).map(|_| Arc::default()).collect();
    // One thread may register more than once: each slot is looked at on its own.
    let slots: Vec<Slot> = tallies.iter().map(|_| sampler.enter(77)).collect();
    for (slot, tally) in slots.iter().zip(&tallies) {
        slot.begin(tally);
    }
    let (_bell, rung) = Bell::hang(&sampler, Pace::Learning);
    until(&rung, "everybody seen", || tallies.iter().all(|tally| tally.samples() >= 3));
    let sampled: u64 = tallies.iter().map(|tally| tally.samples()).sum();
    let ticks = sampler.cost().ticks;
    // The tick under way is counted after its samples.
    assert!(sampled <= 16 * (ticks + 1), "{sampled} samples in {ticks} ticks");
}

#[test]
fn threads_may_come_and_go_while_they_are_sampled() {
    let gil = FakeGil::new();
    let sampler = Sampler::new(Ok(gil.seen()));
    let (_bell, rung) = Bell::hang(&sampler, Pace::Learning);
    let tallies: Arc<[Arc<Tally>; 3]> = Arc::default();
    let stop = flag();
    let rounds: &'static AtomicU64 = Box::leak(Box::default());
    let workers: Vec<_> = (1..=3_usize)
        .map(|number| {
            let (sampler, tallies) = (Arc::clone(&sampler), Arc::clone(&tallies));
            thread::spawn(move || {
                while !stop.load(Ordering::Acquire) {
                    let slot = sampler.enter(8 * number);
                    for task in 0..50 {
                        slot.begin(&tallies[task / 10 % 3]);
                        gil.hold(8 * number);
                        slot.end();
                    }
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let churn = |goal: u64| move || rounds.load(Ordering::Relaxed) >= goal;
    until(&rung, "many registrations", churn(5_000));
    until(&rung, "samples of them", || tallies.iter().all(|tally| tally.samples() > 0));
    stop.store(true, Ordering::Release);
    workers.into_iter().for_each(|worker| worker.join().expect("no panic"));
    let before: Vec<u64> = tallies.iter().map(|tally| tally.samples()).collect();
    let ticks = sampler.cost().ticks;
    until(&rung, "ticks with nobody there", || sampler.cost().ticks > ticks + 3);
    let after: Vec<u64> = tallies.iter().map(|tally| tally.samples()).collect();
    // One tick may have been under way when the last thread left.
    assert!(after.iter().sum::<u64>() <= before.iter().sum::<u64>() + 1, "{before:?} {after:?}");
}

/// Waits until the thread of a sampler waits for ever: on a futex, with no timeout.
fn until_parked(tid: i32) {
    let end = clock::monotonic() + WATCHDOG;
    loop {
        let line =
            std::fs::read_to_string(format!("/proc/self/task/{tid}/syscall")).expect("the thread lives");
        let words: Vec<&str> = line.split_whitespace().collect();
        if words[0] == libc::SYS_futex.to_string() && words[4] == "0x0" {
            return;
        }
        assert!(clock::monotonic() < end, "never parked: {line}");
        thread::yield_now();
    }
}

/// Waits until a thread has ended.
fn until_gone(tid: i32) {
    let end = clock::monotonic() + WATCHDOG;
    // Joined threads may still be on their way out of the kernel.
    while clock::thread_cpu_of(tid).is_some() {
        assert!(clock::monotonic() < end, "thread {tid} stays");
        thread::yield_now();
    }
}

/// Tells which thread it is called on, and is done after some ticks.
struct Witness {
    ticks: AtomicU64,
    last: u64,
    tell: SyncSender<(i32, u64)>,
}

impl Watch for Witness {
    fn tick(&self, _: &Glance<'_>) -> Pace {
        if self.ticks.fetch_add(1, Ordering::Relaxed) + 1 < self.last {
            return Pace::Learning;
        }
        let mut mask = std::mem::MaybeUninit::<libc::sigset_t>::zeroed();
        let blocked = (1..32).filter(|signal| {
            // SAFETY: asked for no change, the call writes the mask, which is then read.
            unsafe {
                libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), mask.as_mut_ptr());
                libc::sigismember(mask.as_ptr(), *signal) == 1
            }
        });
        let blocked = blocked.count() as u64;
        self.tell.send((clock::current_tid(), blocked)).expect("the test listens");
        Pace::Done
    }
}

fn witness(sampler: &Sampler, last: u64) -> (i32, u64) {
    let (tell, told) = sync_channel(1);
    let witness: Arc<dyn Watch> = Arc::new(Witness { ticks: AtomicU64::new(0), last, tell });
    sampler.watch(Arc::downgrade(&witness)).expect("a thread");
    told.recv_timeout(WATCHDOG).expect("it is called as often as it wants")
}

#[test]
fn nobody_watching_costs_no_tick_and_watching_again_works() {
    let sampler = Sampler::new(Err(Unknown::NoRuntime));
    assert_eq!(sampler.cost().ticks, 0);
    let mut ticks = 0;
    for last in [1, 7, 1, 3] {
        let (tid, _) = witness(&sampler, last);
        until_parked(tid);
        ticks += last;
        let cost = sampler.cost();
        assert_eq!(cost.ticks, ticks, "as many ticks as were wanted");
        // Parked: it can't have ticked in the meantime, nor used any time.
        until_parked(tid);
        assert_eq!(sampler.cost(), cost);
    }
}

#[test]
fn a_watch_that_is_dropped_is_not_waited_for() {
    let sampler = Sampler::new(Err(Unknown::NoRuntime));
    let (tid, _) = witness(&sampler, 1);
    let (bell, rung) = Bell::hang(&sampler, Pace::Steady);
    rung.recv_timeout(WATCHDOG).expect("a tick");
    drop(bell);
    until_parked(tid);
}

#[test]
fn no_signal_is_delivered_to_the_samplers_thread() {
    let mask = || {
        let mut mask = std::mem::MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: asked for no change, the call writes the mask, which is then read.
        unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), mask.as_mut_ptr());
            libc::sigismember(mask.as_ptr(), libc::SIGINT)
        }
    };
    let before = mask();
    let sampler = Sampler::new(Err(Unknown::NoRuntime));
    let (tid, blocked) = witness(&sampler, 1);
    assert_eq!(blocked, 29, "all but SIGKILL and SIGSTOP");
    assert_eq!(mask(), before, "the caller's own mask is as it was");
    let name = std::fs::read_to_string(format!("/proc/self/task/{tid}/comm")).expect("the thread lives");
    assert_eq!(name.trim(), "forkright-meter");
}

#[test]
fn a_watch_that_panics_harms_nobody_else() {
    struct Broken;
    impl Watch for Broken {
        fn tick(&self, _: &Glance<'_>) -> Pace {
            panic!("on purpose")
        }
    }
    let sampler = Sampler::new(Err(Unknown::NoRuntime));
    let broken: Arc<dyn Watch> = Arc::new(Broken);
    sampler.watch(Arc::downgrade(&broken)).expect("a thread");
    witness(&sampler, 5);
}

#[test]
fn a_watch_may_have_others_watch_from_its_tick() {
    struct Herald(Arc<Sampler>, Arc<dyn Watch>);
    impl Watch for Herald {
        fn tick(&self, _: &Glance<'_>) -> Pace {
            self.0.watch(Arc::downgrade(&self.1)).expect("there is a thread");
            Pace::Done
        }
    }
    let sampler = Sampler::new(Err(Unknown::NoRuntime));
    let (tell, told) = sync_channel(1);
    let witness = Arc::new(Witness { ticks: AtomicU64::new(0), last: 2, tell });
    let herald: Arc<dyn Watch> = Arc::new(Herald(Arc::clone(&sampler), witness));
    sampler.watch(Arc::downgrade(&herald)).expect("a thread");
    told.recv_timeout(WATCHDOG).expect("the other one is called");
}

#[test]
fn a_watch_may_own_the_last_of_the_sampler() {
    struct Owner(Mutex<Option<Arc<Sampler>>>, SyncSender<i32>);
    impl Watch for Owner {
        fn tick(&self, _: &Glance<'_>) -> Pace {
            drop(self.0.lock().expect("no panic").take());
            self.1.send(clock::current_tid()).expect("the test listens");
            Pace::Learning
        }
    }
    let (tell, told) = sync_channel(1);
    let owner = Arc::new(Owner(Mutex::default(), tell));
    let mut owned = owner.0.lock().expect("no panic");
    let sampler = Sampler::new(Err(Unknown::NoRuntime));
    let watch: Weak<dyn Watch> = Arc::downgrade(&(Arc::clone(&owner) as Arc<dyn Watch>));
    sampler.watch(watch).expect("a thread");
    *owned = Some(sampler);
    drop(owned);
    let tid = told.recv_timeout(WATCHDOG).expect("a tick that drops the sampler returns");
    until_gone(tid);
}

#[test]
fn a_watch_is_told_of_the_end_even_before_the_first_look() {
    struct Rest(AtomicU64);
    impl Watch for Rest {
        fn tick(&self, _: &Glance<'_>) -> Pace {
            Pace::Steady
        }
        fn rest(&self) -> bool {
            self.0.fetch_add(1, Ordering::Relaxed);
            true
        }
    }
    for _ in 0..50 {
        let sampler = Sampler::apart(Err(Unknown::NoRuntime));
        let watch = Arc::new(Rest(AtomicU64::new(0)));
        sampler.watch(Arc::downgrade(&(Arc::clone(&watch) as Arc<dyn Watch>))).expect("a thread");
        sampler.pause();
        sampler.resume().expect("a thread");
        sampler.pause();
        assert_eq!(watch.0.load(Ordering::Relaxed), 2);
    }
}

#[test]
fn dropping_the_sampler_ends_its_thread() {
    let sampler = Sampler::new(Err(Unknown::NoRuntime));
    let (parked, _) = witness(&sampler, 1);
    drop(sampler);
    until_gone(parked);
    let sampler = Sampler::new(Err(Unknown::NoRuntime));
    let (ticking, _) = witness(&sampler, 1);
    let (_bell, _rung) = Bell::hang(&sampler, Pace::Steady);
    drop(sampler);
    until_gone(ticking);
}

#[test]
fn a_forked_child_drops_what_it_inherits_without_waiting() {
    let sampler = Sampler::new(Err(Unknown::NoRuntime));
    let (_bell, rung) = Bell::hang(&sampler, Pace::Learning);
    let slot = sampler.enter(77);
    slot.begin(&Arc::default());
    until(&rung, "a tick", || true);
    // SAFETY: the child only drops, which takes no lock but the allocator's (whole after a fork), and leaves by
    // `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: both may be called after a fork; the alarm ends a child that would hang.
        unsafe { libc::alarm(30) };
        drop(slot);
        drop(sampler);
        // SAFETY: as above.
        unsafe { libc::_exit(0) };
    }
    assert!(child > 0);
    let mut status = -1;
    // SAFETY: waits for this test's own child.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0, "the child left as it wanted to");
    let ticks = sampler.cost().ticks;
    until(&rung, "the parent's thread ticks on", || sampler.cost().ticks > ticks);
}

#[test]
fn threads_that_share_a_core_are_told_from_those_that_have_one() {
    let gil = FakeGil::new();
    let sampler = Sampler::new(Ok(gil.seen()));
    let done = flag();
    let (say, said) = channel();
    let workers: Vec<_> = (0..2)
        .map(|number| {
            let (sampler, say) = (Arc::clone(&sampler), say.clone());
            thread::spawn(move || {
                let mut one = rustix::thread::CpuSet::new();
                one.set(0);
                rustix::thread::sched_setaffinity(None, &one).expect("the first core is ours");
                let slot = sampler.enter(0x1000 * (number + 1));
                let tally = Arc::new(Tally::default());
                slot.begin(&tally);
                say.send(Arc::clone(&tally)).expect("the test listens");
                spin_until(done);
            })
        })
        .collect();
    let tallies: Vec<Arc<Tally>> = said.iter().take(2).collect();
    let (_bell, rung) = Bell::hang(&sampler, Pace::Learning);
    let enough = || tallies.iter().all(|tally| tally.samples() >= 400);
    until(&rung, "four hundred looks at each", enough);
    done.store(true, Ordering::Release);
    for (worker, tally) in workers.into_iter().zip(tallies) {
        worker.join().expect("no panic");
        let counts = tally.counts();
        let part = |class| counts.of(class) as f64 / counts.samples() as f64;
        assert!(part(Class::OffGil) > 0.05 && part(Class::Ready) > 0.2, "{counts:?}");
        assert!(part(Class::OffGil) + part(Class::Ready) > 0.99, "{counts:?}");
    }
}

#[test]
fn a_watch_is_told_who_was_seen_doing_what_and_who_held_the_gil() {
    struct Reader(SyncSender<(Option<usize>, Vec<Look>)>);
    impl Watch for Reader {
        fn tick(&self, glance: &Glance<'_>) -> Pace {
            let _ = self.0.try_send((glance.holder, glance.looks.to_vec()));
            Pace::Learning
        }
    }
    let gil = FakeGil::new();
    gil.hold(0x1000);
    let sampler = Sampler::new(Ok(gil.seen()));
    let idle = sampler.enter(0x2000);
    let busy = sampler.enter(0x1000);
    assert_ne!(idle.id(), busy.id());
    busy.begin(&Arc::default());
    let (tell, told) = sync_channel(1);
    let reader: Arc<dyn Watch> = Arc::new(Reader(tell));
    sampler.watch(Arc::downgrade(&reader)).expect("a thread");
    let (holder, looks) = told.recv_timeout(WATCHDOG).expect("a tick");
    assert_eq!(holder, Some(0x1000));
    let [Look { slot, class }] = looks[..] else { panic!("one runs a task: {looks:?}") };
    assert_eq!(slot, busy.id());
    assert!(matches!(class, Class::Held | Class::HeldBlocked), "{class:?}");
}

#[test]
fn who_waits_for_the_gil_blames_the_function_that_holds_it() {
    let gil = FakeGil::new();
    gil.hold(0x1000);
    let sampler = Sampler::new(Ok(gil.seen()));
    let (_bell, rung) = Bell::hang(&sampler, Pace::Learning);
    let (hog, waits) = (Arc::new(Tally::named("hog".into())), Arc::new(Tally::named("waits".into())));
    let inside = &gil.rest[46];
    let waiter = {
        let (sampler, waits) = (Arc::clone(&sampler), Arc::clone(&waits));
        thread::spawn(move || {
            let slot = sampler.enter(0x2000);
            slot.begin(&waits);
            wait_on(inside);
        })
    };
    // Nobody's task holds it at first: a thread that runs none.
    until(&rung, "a wait for no task", || waits.blame().iter().any(|blame| blame.by.is_none()));
    let slot = sampler.enter(0x1000);
    slot.begin(&hog);
    until(&rung, "a wait for the hog", || {
        waits.blame().iter().any(|blame| blame.by.as_deref() == Some("hog") && blame.samples > 3)
    });
    // Free between two holders: that wait is nobody's.
    gil.locked.store(0, Ordering::Release);
    until(&rung, "the last tick that saw the hog", || true);
    let told = waits.blame();
    let before = waits.counts().of(Class::GilWait);
    until(&rung, "waits for nobody", || waits.counts().of(Class::GilWait) > before + 3);
    // One tick may have been under way.
    let blamed = |blame: &[Blame]| blame.iter().map(|blame| blame.samples).sum::<u64>();
    assert!(blamed(&waits.blame()) <= blamed(&told) + 1, "{told:?} {:?}", waits.blame());
    assert!(hog.blame().is_empty(), "who does not wait blames nobody");
    wake(inside);
    waiter.join().expect("no panic");
}

#[test]
fn dear_ticks_are_made_fewer_until_they_cost_what_they_may() {
    /// Uses 2 ms of CPU at each tick.
    struct Dear(SyncSender<()>);
    impl Watch for Dear {
        fn tick(&self, _: &Glance<'_>) -> Pace {
            let begun = clock::thread_cpu();
            while clock::thread_cpu() < begun + Duration::from_millis(2) {}
            let _ = self.0.try_send(());
            Pace::Learning
        }
    }
    let sampler = Sampler::new(Err(Unknown::NoRuntime));
    let (ring, rung) = sync_channel(1);
    let dear: Arc<dyn Watch> = Arc::new(Dear(ring));
    sampler.watch(Arc::downgrade(&dear)).expect("a thread");
    until(&rung, "its cost is known", || sampler.cost().ticks >= 30);
    let before = sampler.cost();
    until(&rung, "some more ticks", || sampler.cost().ticks >= before.ticks + 20);
    let cost = sampler.cost().since(&before);
    let share = cost.cpu.as_secs_f64() / cost.wall.as_secs_f64();
    assert!(share < 0.1, "5 % were allowed, and as much again for chance: {share} {cost:?}");
}
