//! The crews of worker processes: their making, and what a new worker is told about the caller as it is now.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use forkright_engine::crew::{Crew, Limits, Renewal, Spec};
use forkright_engine::warden::{Need, Program, Warden};
use forkright_shm::pid;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

use crate::collector::Collector;
use crate::functions::Functions;
use crate::ledger::Ledger;
use crate::outward::{Outward as _, import};

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

/// The crew that maps share, and the process it belongs to.
static SHARED: Mutex<Option<(u32, Arc<Staff>)>> = Mutex::new(None);

pub(crate) fn warden() -> Arc<Warden> {
    let mut warden = WARDEN.lock().unwrap_or_else(PoisonError::into_inner);
    if warden.0 != pid::current() {
        // The old one is left alone: its thread and its sockets are the parent's.
        std::mem::forget(std::mem::replace(&mut *warden, (pid::current(), Warden::new())));
    }
    Arc::clone(&warden.1)
}

fn spec(py: Python<'_>, initializer: Option<&Initializer>) -> PyResult<Spec> {
    let initializer = initializer.map(|initializer| &*initializer.0);
    let made = import(py, "forkright._spec")?.getattr("make")?.invoke((initializer,))?;
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

    /// The crew that maps share, of such a size from now on.
    pub(crate) fn shared(processes: u32, threads: u32) -> PyResult<Arc<Staff>> {
        let me = pid::current();
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((owner, staff)) = &*shared
            && *owner == me
            && staff.crew().broken().is_none()
        {
            staff.crew().resize(processes, threads);
            return Ok(Arc::clone(staff));
        }
        let staff = Staff::create(Limits { processes, threads, renewal: Renewal::default() }, None)?;
        match shared.replace((me, Arc::clone(&staff))) {
            Some((owner, old)) if owner == me => drop(old.crew().close()),
            // A forked child leaves its parent's alone.
            old => std::mem::forget(old),
        }
        Ok(staff)
    }

    /// Whether workers of the shared crew have what they need to call a function.
    pub(crate) fn knows(function: &Bound<'_, PyAny>) -> bool {
        let shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner).clone();
        shared.is_some_and(|(owner, staff)| {
            owner == pid::current() && staff.crew().ready() > 0 && staff.functions.know(function)
        })
    }

    /// The shared crew, if this process has one: to be closed at its end.
    pub(crate) fn take_shared() -> Option<Arc<Staff>> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.take_if(|(owner, _)| *owner == pid::current()).map(|(_, staff)| staff)
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
        let spec = spec(py, self.initializer())?;
        py.detach(|| self.crew().hire(count, spec))?;
        Ok(())
    }
}
