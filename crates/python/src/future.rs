//! The Rust half of `forkright.Future`. Python's half is `class Future(FutureBase, concurrent.futures.Future)`:
//! these methods come first, and the names `concurrent.futures` looks at inside its own futures are here too.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forkright_engine::state::{Phase, Start};
use pyo3::PyTraverseError;
use pyo3::exceptions::PyTimeoutError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList};

use crate::call::Call;
use crate::errors;
use crate::outward::{Outward as _, member};

#[pyclass(subclass, frozen, weakref, module = "forkright._core")]
pub(crate) struct FutureBase {
    call: Arc<Call>,
}

thread_local! {
    /// The call the next future of this thread is the face of: cheaper than an argument, which would have to
    /// be a Python object.
    static NEXT: RefCell<Option<Arc<Call>>> = const { RefCell::new(None) };
}

/// A `forkright.Future` for a call.
pub(crate) fn face<'py>(py: Python<'py>, call: &Arc<Call>) -> PyResult<Bound<'py, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = member(py, &CLASS, "forkright._future", "Future")?;
    NEXT.set(Some(Arc::clone(call)));
    class.invoke(())
}

/// Seconds as `concurrent.futures` takes them: `None` waits for ever, negative ones not at all.
pub(crate) fn deadline(timeout: Option<f64>) -> PyResult<Option<Instant>> {
    let Some(seconds) = timeout else { return Ok(None) };
    if seconds.is_nan() {
        return Err(pyo3::exceptions::PyValueError::new_err("timeout is not a number"));
    }
    // Beyond what the clock can name is for ever.
    Ok(Duration::try_from_secs_f64(seconds.max(0.0)).ok().and_then(|limit| Instant::now().checked_add(limit)))
}

impl FutureBase {
    fn settle(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<()> {
        let (py, call) = (slf.py(), &slf.get().call);
        if !call.state.is_over() && !call.wait(py, deadline(timeout)?)? {
            return Err(PyTimeoutError::new_err(()));
        }
        match call.state.phase() {
            Phase::Cancelled | Phase::Acknowledged => Err(errors::cancelled(py)),
            _ => Ok(()),
        }
    }

    fn end(slf: &Bound<'_, Self>, outcome: Result<Py<PyAny>, Py<PyAny>>) -> PyResult<()> {
        let call = &slf.get().call;
        // Watchers get the Python object, so the call must know it.
        if call.finish_as(slf.as_any(), outcome) {
            return Ok(());
        }
        Err(errors::invalid_state(slf.as_any(), Self::_state(slf.get())))
    }
}

#[pymethods]
impl FutureBase {
    #[new]
    fn new() -> FutureBase {
        FutureBase { call: NEXT.take().unwrap_or_default() }
    }

    // Defined so that the standard library's __init__, which makes a lock and a list, does not run.
    fn __init__(&self) {}

    /// Whether the call is over: has returned, raised or been cancelled.
    fn done(&self) -> bool {
        self.call.is_over()
    }

    /// Whether it was cancelled.
    fn cancelled(&self) -> bool {
        matches!(self.call.state.phase(), Phase::Cancelled | Phase::Acknowledged)
    }

    /// Whether a worker runs it now.
    fn running(&self) -> bool {
        self.call.is_running()
    }

    /// Cancels the call unless a worker has begun it; whether it is cancelled.
    fn cancel(slf: &Bound<'_, Self>) -> bool {
        slf.get().call.cancel(slf.py(), slf.as_any())
    }

    /// Ends the call: cancelled if it has not begun; else its worker process is killed.
    fn kill(slf: &Bound<'_, Self>) -> bool {
        slf.get().call.kill(slf.py(), slf.as_any())
    }

    /// Waits for the end of the call; what it returned.
    ///
    /// Raises:
    ///     TimeoutError: If it takes longer than `timeout` seconds.
    ///     CancelledError: If it was cancelled.
    ///     BaseException: Whatever it raised.
    #[pyo3(signature = (timeout=None))]
    fn result(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        Self::settle(slf, timeout)?;
        let py = slf.py();
        slf.get().call.outcome(py).map_err(|error| PyErr::from_value(error.into_bound(py)))
    }

    /// Waits for the end of the call; what it raised, None if it returned. Raises as `result` if it is late or cancelled.
    #[pyo3(signature = (timeout=None))]
    fn exception(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<Option<Py<PyAny>>> {
        Self::settle(slf, timeout)?;
        Ok(slf.get().call.outcome(slf.py()).err())
    }

    /// Has `fn` called with this future when the call is over, or at once if it is.
    fn add_done_callback(slf: &Bound<'_, Self>, r#fn: &Bound<'_, PyAny>) {
        if !slf.get().call.add_callback(slf.as_any(), r#fn)
            && let Err(error) = r#fn.invoke((slf,))
        {
            errors::log_callback(slf.py(), slf.as_any(), error);
        }
    }

    fn set_running_or_notify_cancel(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let call = &slf.get().call;
        match call.state.start() {
            Start::Go => Ok(true),
            Start::Cancelled => {
                call.acknowledge(slf.py(), slf.as_any());
                Ok(false)
            }
            Start::Over => Err(errors::unexpected_state(slf.as_any(), Self::_state(slf.get()))),
        }
    }

    fn set_result(slf: &Bound<'_, Self>, result: Py<PyAny>) -> PyResult<()> {
        Self::end(slf, Ok(result))
    }

    fn set_exception(slf: &Bound<'_, Self>, exception: Py<PyAny>) -> PyResult<()> {
        Self::end(slf, Err(exception))
    }

    /// Whether it is over and has failed, as far as that is known without unpickling.
    fn _failed(&self, py: Python<'_>) -> bool {
        self.call.has_failed(py)
    }

    /// What the call cost: seconds of wall clock and CPU, in a dict; `None` while it is not known.
    fn reading<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(took) = self.call.took() else { return Ok(None) };
        let reading = PyDict::new(py);
        reading.set_item("wall", took.wall)?;
        reading.set_item("cpu", took.cpu)?;
        reading.set_item("decode", took.decode)?;
        reading.set_item("encode", took.encode)?;
        Ok(Some(reading))
    }

    // The names below are looked at by concurrent.futures and asyncio.

    #[getter]
    fn _state(&self) -> &'static str {
        match self.call.state.phase() {
            Phase::Pending | Phase::Sent => "PENDING",
            Phase::Running => "RUNNING",
            Phase::Finished => "FINISHED",
            Phase::Cancelled => "CANCELLED",
            Phase::Acknowledged => "CANCELLED_AND_NOTIFIED",
        }
    }

    #[getter]
    fn _result(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.over_outcome(py).and_then(Result::ok)
    }

    #[getter]
    fn _exception(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.over_outcome(py).and_then(Result::err)
    }

    #[getter]
    fn _condition(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        slf.get().call.condition(slf.as_any())
    }

    #[getter]
    fn _waiters(&self, py: Python<'_>) -> Py<PyList> {
        self.call.waiters(py)
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.call.traverse(&visit)
    }

    fn __clear__(&self) {
        self.call.clear();
    }
}

impl FutureBase {
    fn over_outcome(&self, py: Python<'_>) -> Option<Result<Py<PyAny>, Py<PyAny>>> {
        (self.call.state.phase() == Phase::Finished).then(|| self.call.outcome(py))
    }
}
