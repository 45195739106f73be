//! Python exceptions for what can go wrong: the classes live in `forkright._errors`, or are the standard
//! library's where it has one. Nothing is imported before it is raised.

use forkright_engine::crew::{End, Obituary};
use pyo3::exceptions::{PyException, PyKeyboardInterrupt};
use pyo3::prelude::*;
use pyo3::types::{PyAny, PyTuple};

use crate::outward::{Outward as _, import};

fn make<'py>(
    py: Python<'py>,
    module: &str,
    name: &str,
    arguments: impl IntoPyObject<'py, Target = PyTuple>,
) -> Bound<'py, PyAny> {
    let made =
        import(py, module).and_then(|module| module.getattr(name)).and_then(|class| class.invoke(arguments));
    made.unwrap_or_else(|error| error.into_value(py).into_bound(py).into_any())
}

/// The task's future was cancelled.
pub(crate) fn cancelled(py: Python<'_>) -> PyErr {
    PyErr::from_value(make(py, "concurrent.futures", "CancelledError", ()))
}

pub(crate) fn invalid_state(future: &Bound<'_, PyAny>, state: &str) -> PyErr {
    let text = format!("{state}: {future:?}");
    PyErr::from_value(make(future.py(), "concurrent.futures", "InvalidStateError", (text,)))
}

pub(crate) fn unexpected_state(future: &Bound<'_, PyAny>, state: &str) -> PyErr {
    let _ = future;
    pyo3::exceptions::PyRuntimeError::new_err(format!("Future in unexpected state: {state}"))
}

/// The worker process died while it ran the task.
pub(crate) fn worker_died(py: Python<'_>, name: &str, obituary: &Obituary) -> PyErr {
    let Obituary { pid, death, last_words, .. } = obituary;
    let arguments = (name, pid, death.exit_code(), obituary.words(), last_words);
    PyErr::from_value(make(py, "forkright._errors", "WorkerDied", arguments))
}

/// The task was ended before it was done; `pid` is the worker process that was killed for it, 0 if none was.
pub(crate) fn ended(py: Python<'_>, name: &str, pid: i32, end: End) -> PyErr {
    let made = match end {
        End::TimedOut(limit) => {
            make(py, "forkright._errors", "TaskTimeoutError", (name, limit.as_secs_f64(), pid))
        }
        End::Killed => make(py, "forkright._errors", "TaskKilledError", (name, pid)),
    };
    PyErr::from_value(made)
}

/// No worker could be had.
pub(crate) fn broken(py: Python<'_>, reason: &str, cause: Option<Py<PyAny>>) -> PyErr {
    let error = PyErr::from_value(make(py, "forkright._errors", "BrokenWorkers", (reason,)));
    if let Some(cause) = cause {
        error.set_cause(py, Some(PyErr::from_value(cause.into_bound(py))));
    }
    error
}

/// Workers end before they are ready.
pub(crate) fn stillborn(py: Python<'_>, reason: &str, last_words: &str) -> PyErr {
    PyErr::from_value(make(py, "forkright._errors", "stillborn", (reason, last_words)))
}

/// What arrived could not be unpickled here.
pub(crate) fn undecodable(py: Python<'_>, error: PyErr, role: &str) -> PyErr {
    PyErr::from_value(make(py, "forkright._pickling", "undecodable", (error.into_value(py), role)))
}

/// Has what is no `Exception`, which passes through the pickler as it is, tell what was pickled.
pub(crate) fn name_pickled(py: Python<'_>, error: PyErr, role: &str) -> PyErr {
    if !error.is_instance_of::<PyException>(py) {
        let noted = error.value(py).invoke_method("add_note", (format!("raised while {role} was pickled"),));
        if let Err(failed) = noted {
            failed.write_unraisable(py, None);
        }
    }
    error
}

/// Has an error that a worker made without knowing the task's name tell it.
pub(crate) fn name_task(py: Python<'_>, error: &Py<PyAny>, name: &str) {
    let named = || -> PyResult<()> {
        let error = error.bind(py);
        let class = import(py, "forkright._pickling")?.getattr("UnpicklableError")?;
        if error.is_instance(&class)? && !error.str()?.to_string_lossy().contains(name) {
            error.invoke_method("add_note", (format!("the task was `{name}`"),))?;
        }
        Ok(())
    };
    if let Err(error) = named() {
        error.write_unraisable(py, None);
    }
}

/// As `concurrent.futures` reports a callback that raises.
pub(crate) fn log_callback(py: Python<'_>, future: &Bound<'_, PyAny>, error: PyErr) {
    let logged = import(py, "forkright._future").and_then(|module| {
        module.getattr("log_callback")?.invoke((future, error.value(py)))?;
        Ok(())
    });
    if let Err(error) = logged {
        error.write_unraisable(py, Some(future));
    }
}

/// An exception came out of something of ours that goes on: an interrupt is raised again, as soon as the main thread
/// looks, and others are shown.
pub(crate) fn put_off(py: Python<'_>, error: PyErr) {
    let again = error.is_instance_of::<PyKeyboardInterrupt>(py)
        && import(py, "_thread").and_then(|module| module.getattr("interrupt_main")?.invoke(())).is_ok();
    if !again {
        error.write_unraisable(py, None);
    }
}

/// A thread's initializer raised, as `concurrent.futures` reports it.
pub(crate) fn log_initializer(py: Python<'_>, error: PyErr) {
    let logged = import(py, "forkright._future").and_then(|module| {
        module.getattr("log_initializer")?.invoke((error.value(py),))?;
        Ok(())
    });
    if let Err(error) = logged {
        error.write_unraisable(py, None);
    }
}

/// What the tasks of a pool fail with whose threads can not be made ready.
pub(crate) fn broken_threads(py: Python<'_>, cause: &PyErr) -> PyErr {
    let cause = cause.clone_ref(py).into_value(py).into_any();
    broken(py, "a thread's initializer raised an exception", Some(cause))
}

/// How people know a callable.
pub(crate) fn name_of(function: &Bound<'_, PyAny>) -> String {
    let name = import(function.py(), "forkright._functions")
        .and_then(|module| module.getattr("name_of")?.invoke((function,))?.extract::<String>());
    name.unwrap_or_else(|_| function.get_type().to_string())
}
