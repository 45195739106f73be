//! Puts the engine's governor to work on one map: shows it what is going on at each tick of the sampler, and
//! carries out what it directs. The tick runs on the sampler's thread, which must not wait for the GIL: what
//! needs Python is posted as an errand.

use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use forkright_engine::choose::{Leave, Verdict};
use forkright_engine::climb::Bearable;
use forkright_engine::cores;
use forkright_engine::forecast::Zygote;
use forkright_engine::governor::{self, Governor, Observation};
use forkright_engine::plan::Plan;
use forkright_engine::profile::{Demand, Pickling};
use forkright_engine::replay::Given;
use forkright_engine::warden::{Helper, Need};
use forkright_meter::{Counts, Glance, Pace, Watch, clock};
use forkright_shm::pid;
use pyo3::prelude::*;

use crate::hands::Hurry;
use crate::machine;
use crate::meter;
use crate::natives::Natives;
use crate::opening::{Opening, python_threads};
use crate::outward::{Outward as _, import};
use crate::pause::{self, Pause};
use crate::recruit::{self, Staff};
use crate::run::Run;
use crate::work::Sample;

/// A map's governor and what has come of it.
pub(crate) struct Governing {
    myself: Weak<Governing>,
    run: Weak<Run>,
    /// Taken at the first tick, where the report is to tell what measuring took.
    opening: Option<Arc<Opening>>,
    began: Duration,
    /// CPU time of programs that had ended then.
    children: Duration,
    inner: Mutex<Inner>,
    leave: Mutex<Leave>,
    /// What the caller says of state that its calls share with it.
    shared: Option<bool>,
    asked: AtomicBool,
    warmed: AtomicBool,
    /// The worker processes asked for last.
    away: Mutex<Option<Plan>>,
    watching: AtomicBool,
    /// Whether the caller is the main thread.
    main: bool,
    natives: Natives,
}

struct Inner {
    governor: Governor,
    counts: Counts,
    verdicts: Vec<(f64, Verdict)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Governing {
    /// Starts to watch a map whose items the caller begins to run inline; `bearable` as its governor is to know it, `shared`
    /// what the caller says of state that they share with it.
    pub(crate) fn begin(
        py: Python<'_>,
        run: &Arc<Run>,
        workers: Option<u32>,
        items: Option<u64>,
        bearable: Bearable,
        shared: Option<bool>,
        opening: Option<Arc<Opening>>,
    ) -> PyResult<Arc<Governing>> {
        let leave = match shared {
            Some(true) => Leave::No(format!(
                "`shared_state=True` says that `{}` shares state with this process",
                run.work.progress().name()
            )),
            _ => Leave::Unknown,
        };
        let machine = machine::machine(py);
        let governing = Arc::new_cyclic(|myself| Governing {
            myself: Weak::clone(myself),
            run: Arc::downgrade(run),
            opening,
            began: clock::monotonic(),
            children: clock::children_cpu(),
            inner: Mutex::new(Inner {
                governor: Governor::after(bearable, machine, workers, items),
                counts: run.work.progress().entry.tally.counts(),
                verdicts: Vec::new(),
            }),
            asked: AtomicBool::new(leave != Leave::Unknown),
            leave: Mutex::new(leave),
            shared,
            warmed: AtomicBool::new(false),
            away: Mutex::default(),
            watching: AtomicBool::new(false),
            main: clock::current_tid().cast_unsigned() == pid::current(),
            natives: Natives::default(),
        });
        governing.resume(py)?;
        Ok(governing)
    }

    /// Watches again if it had nothing to watch.
    pub(crate) fn resume(&self, py: Python<'_>) -> PyResult<()> {
        if !self.watching.swap(true, AcqRel) {
            meter::sampler(py).watch(Weak::clone(&self.myself) as Weak<dyn Watch>)?;
        }
        Ok(())
    }

    /// The verdicts so far, each with the seconds since the start: the changes of plan, or, where there was none,
    /// why the work stayed as it began.
    pub(crate) fn verdicts(&self) -> Vec<(f64, Verdict)> {
        let inner = lock(&self.inner);
        if inner.verdicts.is_empty() {
            return inner
                .governor
                .judgement()
                .map(|(at, verdict)| (at, verdict.clone()))
                .into_iter()
                .collect();
        }
        inner.verdicts.clone()
    }

    /// What the caller says of state that its calls share with it.
    pub(crate) fn shared(&self) -> Option<bool> {
        self.shared
    }

    /// See [`Governor::bearable`].
    pub(crate) fn bearable(&self) -> Bearable {
        lock(&self.inner).governor.bearable()
    }

    /// What a choice about the whole would be made from.
    pub(crate) fn given(&self, demand: Option<Demand>, refusal: Option<&str>) -> Given {
        let may_leave =
            refusal.map_or_else(|| lock(&self.leave).clone(), |reason| Leave::No(reason.to_owned()));
        lock(&self.inner).governor.given(demand, may_leave)
    }

    fn zygote(&self) -> Zygote {
        match recruit::warden().helper() {
            Helper::Ready => Zygote::Ready,
            Helper::Starting => Zygote::Warming,
            Helper::None if self.warmed.load(Acquire) => Zygote::Warming,
            Helper::None => Zygote::Cold,
        }
    }

    /// Starts the zygote and finds out whether the work may leave, in threads that can run Python.
    /// `beside`: one task computes meanwhile.
    fn prepare(self: &Arc<Self>, run: &Arc<Run>, warm: bool, ask: bool, beside: bool) {
        let warm = warm && !self.warmed.swap(true, AcqRel);
        let ask = ask && !self.asked.swap(true, AcqRel);
        if !warm && !ask {
            return;
        }
        let pause = self.pause(run, beside);
        let me = Arc::clone(self);
        let question = move |py: Python<'_>, run: &Arc<Run>| {
            let _pause = pause;
            let _hurry = beside.then(|| Hurry::begin(py));
            if me.starts_over(py, run, beside) {
                return;
            }
            let leave = may_leave(py, run, me.shared).unwrap_or_else(|error| Leave::No(error.to_string()));
            me.asked.store(leave != Leave::Unknown, Release);
            *lock(&me.leave) = leave;
        };
        if warm {
            // It takes longest, so it comes first, and has not to wait for the thread that the question needs.
            let aside = Arc::clone(self);
            run.attach(move |py, run| {
                let _hurry = beside.then(|| Hurry::begin(py));
                if aside.starts_over(py, run, beside) {
                    return;
                }
                if let Err(error) = recruit::warm(py) {
                    return run.fail(py, error);
                }
                if ask {
                    run.post_attached(py, question);
                }
            });
        } else if ask {
            run.post(question);
        }
    }

    fn look_for_natives(&self, run: &Arc<Run>, now: Duration) {
        if self.natives.look(now, &run.work.progress().tids())
            && let Some(me) = self.myself.upgrade()
        {
            run.attach(move |py, _| me.natives.know(python_threads(py)));
        }
    }

    /// Whether the caller's first task imports something: that is no part of the others, so nothing is known yet.
    fn starts_over(&self, py: Python<'_>, run: &Run, beside: bool) -> bool {
        let imports = beside && self.main && run.is_inline() && pause::main_is_importing(py).unwrap_or(false);
        if imports {
            lock(&self.inner).governor.start_over();
            lock(&run.work.progress().profile).forget_samples();
            self.warmed.store(false, Release);
            self.asked.store(false, Release);
        }
        imports
    }

    /// Has the caller, which computes in its first task, leave the GIL to what is prepared.
    fn pause(&self, run: &Run, beside: bool) -> Option<Pause> {
        if beside && self.main && run.is_inline() { Pause::ask() } else { None }
    }

    /// Has the worker processes of `plan` take part from now on, or none; there are to be `sharing` workers in the end.
    /// `beside`: one task computes meanwhile.
    fn send_away(&self, run: &Arc<Run>, plan: Option<Plan>, sharing: u32, beside: bool) {
        if std::mem::replace(&mut *lock(&self.away), plan) == plan {
            return;
        }
        let pause = self.pause(run, beside && plan.is_some());
        run.post(move |py, run| {
            let _pause = pause;
            let hurry = run.work.progress().is_quiet().then(|| Hurry::begin(py));
            let left = run.leave(py, plan, sharing);
            drop(hurry);
            if let Err(error) = left {
                run.fail(py, error);
            }
        });
    }
}

/// The guard's opinion, unless the caller answers for what is `shared`, and a try whether function and an item can be pickled, which tells what that costs.
fn may_leave(py: Python<'_>, run: &Run, shared: Option<bool>) -> PyResult<Leave> {
    let Some(Sample { function, arguments, result }) = run.work.sample(py)? else {
        return Ok(Leave::Unknown);
    };
    let functions = import(py, "forkright._functions")?;
    let called = functions.getattr("without_context")?.invoke((&function,))?;
    if !functions.getattr("importable")?.invoke((&called,))?.extract::<bool>()? {
        recruit::warden().prepare(Need::ByValue);
    }
    let known = Staff::knows(&called);
    let consider = import(py, "forkright._leave")?.getattr("consider")?;
    let considered = consider.invoke((function, arguments, result, shared.is_none()))?;
    // What pickling takes: seconds, and the bytes it comes to.
    type Tried = Option<(f64, f64)>;
    type Considered = (Option<String>, Tried, Tried, u32, Option<String>);
    let (reason, there, back, modules, draws): Considered = considered.extract()?;
    if let Some(draws) = draws {
        let _ = run.work.progress().draws.set(draws);
    }
    if let Some(reason) = reason {
        return Ok(Leave::No(reason));
    }
    let pickling = |(seconds, bytes)| Pickling { encode: Some(seconds), decode: None, bytes };
    let mut profile = lock(&run.work.progress().profile);
    profile.expect_imports(if known { 0.0 } else { modules.into() });
    if let Some(tried) = there.map(pickling) {
        profile.try_arguments(&tried);
    }
    if let Some(tried) = back.map(pickling) {
        profile.try_result(&tried);
    }
    Ok(Leave::Yes)
}

impl Watch for Governing {
    fn tick(&self, glance: &Glance<'_>) -> Pace {
        let now = glance.now;
        let Some(run) = self.run.upgrade() else { return Pace::Done };
        if let Some(opening) = &self.opening {
            opening.tick(glance);
        }
        let (work, progress) = (&run.work, run.work.progress());
        if work.is_over() {
            self.watching.store(false, Release);
            // What came between the look and the store has not been resumed for.
            if work.is_over() || self.watching.swap(true, AcqRel) {
                return Pace::Done;
            }
        }
        let running = progress.running(now.as_nanos() as u64);
        if Hurry::is_on() && !running.iter().any(|task| task.class.waits_elsewhere()) {
            // Our own errands take turns with the tasks on the GIL: what is seen now is our doing.
            lock(&self.inner).counts = progress.entry.tally.counts();
            return Pace::Learning;
        }
        if let Some(reason) = progress.refusal() {
            *lock(&self.leave) = Leave::No(reason.to_owned());
        }
        self.look_for_natives(&run, now);
        let (direction, sharing) = {
            let mut inner = lock(&self.inner);
            let counts = progress.entry.tally.counts();
            let mut profile = lock(&progress.profile);
            profile.sample(&meter::shares_since(&inner.counts, &counts));
            inner.counts = counts;
            let at = now.saturating_sub(self.began).as_secs_f64();
            let zygote = self.zygote();
            let observation = Observation {
                now: at,
                pending: work.pending() as u64,
                done: progress.done() as u64,
                running: &running,
                away: progress.away() as u64,
                programs: (clock::children_cpu().saturating_sub(self.children)
                    + self.natives.cpu(self.began, now))
                .as_secs_f64(),
                crowded: zygote == Zygote::Cold && cores::are_taken(),
                handovers: glance.switches,
                profile: &profile,
                zygote,
                leave: &lock(&self.leave).clone(),
                processes_now: run.processes(),
                threads_now: run.hands.alive() + u32::from(run.is_inline()),
            };
            let direction = inner.governor.tick(&observation);
            if let Some(verdict) = &direction.verdict {
                inner.verdicts.push((at, verdict.clone()));
            }
            (direction, inner.governor.plan().workers())
        };
        let Some(me) = self.myself.upgrade() else { return Pace::Done };
        let beside = running.len() == 1 && !running[0].class.waits_elsewhere();
        me.prepare(&run, direction.warm_zygote, direction.ask_leave, beside);
        run.set_width(direction.width, direction.hold);
        if direction.steps_back {
            run.step_back();
        }
        run.make_ready(direction.ready);
        me.send_away(&run, direction.away, sharing, beside);
        match direction.pace {
            governor::Pace::Learning => Pace::Learning,
            governor::Pace::Steady => Pace::Steady,
        }
    }
}
