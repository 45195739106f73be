//! The crews of worker processes: their making, and what a new worker is told about the caller as it is now.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use forkright_engine::crew::{Crew, Limits, Renewal, Spec};
use forkright_engine::warden::{Need, Program, Warden};
use forkright_shm::pid;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

use crate::collector::Collector;
use crate::functions::Functions;
use crate::ledger::Ledger;
use crate::outward::{Outward as _, import};
use crate::run;

/// A `forkright._spec.Initializer`: what each worker calls first. It lives as long as workers may come.
#[derive(Clone)]
pub(crate) struct Initializer(Arc<Py<PyAny>>);

impl Initializer {
    pub(crate) fn new(made: Py<PyAny>) -> Initializer {
        Initializer(Arc::new(made))
    }

    /// What each worker calls first, itself.
    pub(crate) fn function(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.0.getattr(py, "function")
    }
}

/// What workers have that no other work shares: their beginning and their end.
#[derive(Clone, Default)]
pub(crate) struct Manner {
    pub(crate) initializer: Option<Initializer>,
    pub(crate) renewal: Renewal,
}

impl Manner {
    /// Whether the workers that all share would do.
    pub(crate) fn is_none(&self) -> bool {
        self.initializer.is_none() && self.renewal.is_none()
    }
}

/// A crew with all that sending to it needs.
pub(crate) struct Staff {
    pub(crate) collector: Arc<Collector>,
    pub(crate) functions: Functions,
    /// What the metered worker saw of submitted calls.
    pub(crate) ledger: Ledger,
    /// Whether one of its workers is metered: not where each has one thread and a GIL of its own.
    pub(crate) metered: bool,
}

/// Starts all workers of this process. A forked child has none of its threads and gets a new one.
static WARDEN: LazyLock<Mutex<(u32, Arc<Warden>)>> =
    LazyLock::new(|| Mutex::new((pid::current(), Warden::new())));

/// The crew that maps share.
static SHARED: Mutex<Option<Shared>> = Mutex::new(None);

/// Those before it whose workers are not all gone.
static RETIRED: Mutex<Vec<(u32, Arc<Staff>)>> = Mutex::new(Vec::new());

/// For how long shared workers may have nothing to do, in milliseconds.
static PATIENCE: AtomicU64 = AtomicU64::new(60_000);

struct Shared {
    /// The process it belongs to.
    owner: u32,
    staff: Arc<Staff>,
    /// What its workers were told of the caller, as `forkright._spec.surroundings` gives it.
    surroundings: Py<PyAny>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// For how long workers that maps share may have nothing to do from now on, in seconds; threads, too.
#[pyfunction]
pub(crate) fn keep_workers(seconds: f64) {
    let patience = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    PATIENCE.store(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX), Relaxed);
    run::set_patience(patience);
    if let Some(staff) = Staff::current() {
        staff.crew().set_patience(Some(patience));
    }
}

pub(crate) fn warden() -> Arc<Warden> {
    let mut warden = lock(&WARDEN);
    if warden.0 != pid::current() {
        // The old one is left alone: its thread and its sockets are the parent's.
        std::mem::forget(std::mem::replace(&mut *warden, (pid::current(), Warden::new())));
    }
    Arc::clone(&warden.1)
}

fn spec(py: Python<'_>, initializer: Option<&Initializer>, share: u32) -> PyResult<Spec> {
    let initializer = initializer.map(|initializer| &*initializer.0);
    let made = import(py, "forkright._spec")?.getattr("make")?.invoke((initializer, share))?;
    let bytes: Vec<u8> = made.get_item(0)?.extract()?;
    Ok(Spec {
        bytes: bytes.into(),
        program: program_of(&made.get_item(1)?)?,
        is_plain: made.get_item(2)?.extract()?,
    })
}

fn program_of(made: &Bound<'_, PyAny>) -> PyResult<Program> {
    let (command, single, circumstances) = made.extract()?;
    Ok(Program { command, single, circumstances })
}

/// Starts the zygote in the background.
pub(crate) fn warm(py: Python<'_>) -> PyResult<()> {
    let program = program_of(&import(py, "forkright._spec")?.getattr("program")?.invoke(())?)?;
    warden().warm(program).map_err(PyOSError::new_err)
}

/// Has what functions need that travel by value imported where workers are forked, so that those to come have it.
#[pyfunction]
pub(crate) fn prepare_by_value() {
    warden().prepare(Need::ByValue);
}

/// The same for what a `forkright.Process` needs.
#[pyfunction]
pub(crate) fn prepare_process() {
    warden().prepare(Need::Process);
}

impl Staff {
    pub(crate) fn create(limits: Limits, initializer: Option<Initializer>) -> PyResult<Arc<Staff>> {
        let crew = Crew::create(limits, warden())?;
        Ok(Arc::new(Staff {
            collector: Collector::new(crew),
            functions: Functions::new(initializer),
            ledger: Ledger::default(),
            metered: limits.threads > 1,
        }))
    }

    /// The crew that maps share, of such a size from now on. A new one if workers would find other surroundings than the
    /// caller's, as they are now: the old one's end when they have nothing to do.
    pub(crate) fn shared(py: Python<'_>, limits: Limits) -> PyResult<Arc<Staff>> {
        let me = pid::current();
        let kept = lock(&SHARED)
            .as_ref()
            .filter(|shared| shared.owner == me)
            .map(|shared| (Arc::clone(&shared.staff), shared.surroundings.clone_ref(py)));
        let before = kept.as_ref().map(|(_, surroundings)| surroundings.bind(py));
        let changed = import(py, "forkright._spec")?.getattr("changed_surroundings")?.invoke((before,))?;
        if let Some((staff, _)) = &kept
            && changed.is_none()
            && staff.crew().broken().is_none()
        {
            staff.crew().resize(limits.processes, limits.threads, limits.sharing);
            return Ok(Arc::clone(staff));
        }
        let surroundings = match kept {
            Some((_, surroundings)) if changed.is_none() => surroundings,
            _ => changed.unbind(),
        };
        let staff = Staff::create(limits, None)?;
        staff.crew().set_patience(Some(Duration::from_millis(PATIENCE.load(Relaxed))));
        let shared = Shared { owner: me, staff: Arc::clone(&staff), surroundings };
        let old = lock(&SHARED).replace(shared);
        Staff::retire(py, old);
        Ok(staff)
    }

    /// Has the workers of a crew that was shared end, each when it has nothing to do.
    fn retire(py: Python<'_>, old: Option<Shared>) {
        match old {
            Some(Shared { owner, staff, .. }) if owner == pid::current() => {
                if staff.crew().broken().is_some() {
                    let _ = staff.crew().close();
                } else {
                    staff.crew().set_patience(Some(Duration::ZERO));
                }
                lock(&RETIRED).push((owner, staff));
            }
            // A forked child leaves its parent's alone.
            old => std::mem::forget(old),
        }
        Staff::bury_retired(py);
    }

    /// As if the surroundings had changed.
    pub(crate) fn retire_shared(py: Python<'_>) {
        let old = lock(&SHARED).take();
        Staff::retire(py, old);
    }

    /// Whether workers of retired crews that have nothing to do are still there.
    pub(crate) fn are_leaving() -> bool {
        let me = pid::current();
        lock(&RETIRED).iter().any(|(owner, staff)| {
            *owner == me && staff.crew().outstanding() == 0 && !staff.crew().pids().is_empty()
        })
    }

    /// Lets go of the retired crews whose workers are gone.
    pub(crate) fn bury_retired(py: Python<'_>) {
        let me = pid::current();
        let is_over = |(owner, staff): &mut (u32, Arc<Staff>)| {
            // A map that still has it may have more to do.
            *owner == me && Arc::strong_count(staff) == 1 && staff.crew().pids().is_empty()
        };
        let over: Vec<_> = lock(&RETIRED).extract_if(.., is_over).collect();
        for (_, staff) in over {
            staff.crew().close();
            staff.crew().dismiss();
            staff.collector.join(py);
        }
    }

    /// The shared crew, if this process has one.
    fn current() -> Option<Arc<Staff>> {
        let shared = lock(&SHARED);
        let mine = shared.as_ref().filter(|shared| shared.owner == pid::current());
        mine.map(|shared| Arc::clone(&shared.staff))
    }

    /// Whether workers of the shared crew have what they need to call a function.
    pub(crate) fn knows(function: &Bound<'_, PyAny>) -> bool {
        Staff::current().is_some_and(|staff| staff.crew().ready() > 0 && staff.functions.know(function))
    }

    /// The shared crews of this process, retired ones, too: to be closed at its end.
    pub(crate) fn take_all() -> Vec<Arc<Staff>> {
        let me = pid::current();
        let current = lock(&SHARED).take_if(|shared| shared.owner == me).map(|shared| shared.staff);
        let retired = std::mem::take(&mut *lock(&RETIRED));
        let (mine, others): (Vec<_>, Vec<_>) = retired.into_iter().partition(|(owner, _)| *owner == me);
        std::mem::forget(others);
        mine.into_iter().map(|(_, staff)| staff).chain(current).collect()
    }

    pub(crate) fn crew(&self) -> &Arc<Crew> {
        &self.collector.crew
    }

    pub(crate) fn initializer(&self) -> Option<&Initializer> {
        self.functions.initializer()
    }

    /// Starts workers that find the caller's directory, environment and paths as they are now.
    pub(crate) fn hire(&self, py: Python<'_>, count: u32) -> PyResult<()> {
        if count == 0 {
            return Ok(());
        }
        let spec = spec(py, self.initializer(), self.crew().share())?;
        py.detach(|| self.crew().hire(count, spec))?;
        Ok(())
    }
}
