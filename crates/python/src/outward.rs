//! Calls of Python code, from whatever thread: `invoke`, `invoke_method` and `import` stand for PyO3's methods, which
//! `clippy.toml` forbids here.
//!
//! A thread that asks for the GIL while the interpreter ends is ended by CPython before 3.14: `pthread_exit` unwinds its
//! stack. Rust's frames can't be unwound like that, and the process aborts. So the innermost of them holds the thread for
//! ever, as CPython 3.14 does; the process ends without it. PyO3 does the same where Rust itself takes the GIL.

#![allow(unsafe_code)]

use std::hint::black_box;

use pyo3::BoundObject;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple};

// PyO3 declares these as functions that can't unwind, and where both declarations meet, the compiler believes it: a call
// of them by name has no landing pad. So they are called by an address of which it knows nothing.
unsafe extern "C-unwind" {
    fn PyObject_Call(
        callable: *mut ffi::PyObject,
        arguments: *mut ffi::PyObject,
        options: *mut ffi::PyObject,
    ) -> *mut ffi::PyObject;
    fn PyImport_Import(name: *mut ffi::PyObject) -> *mut ffi::PyObject;
}

type Call = unsafe extern "C-unwind" fn(
    *mut ffi::PyObject,
    *mut ffi::PyObject,
    *mut ffi::PyObject,
) -> *mut ffi::PyObject;
type Import = unsafe extern "C-unwind" fn(*mut ffi::PyObject) -> *mut ffi::PyObject;

/// Holds a thread whose stack is being unwound.
struct Hold;

impl Drop for Hold {
    fn drop(&mut self) {
        loop {
            std::thread::park();
        }
    }
}

/// Runs `body`, and lets nothing unwind out of it.
fn held<T>(body: impl FnOnce() -> T) -> T {
    let hold = Hold;
    let value = body();
    std::mem::forget(hold);
    value
}

/// What can be called.
pub(crate) trait Outward<'py> {
    fn invoke_with<A: IntoPyObject<'py, Target = PyTuple>>(
        &self,
        arguments: A,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>>;

    fn invoke<A: IntoPyObject<'py, Target = PyTuple>>(&self, arguments: A) -> PyResult<Bound<'py, PyAny>> {
        self.invoke_with(arguments, None)
    }

    fn invoke_method<A: IntoPyObject<'py, Target = PyTuple>>(
        &self,
        name: &str,
        arguments: A,
    ) -> PyResult<Bound<'py, PyAny>>;
}

impl<'py> Outward<'py> for Bound<'py, PyAny> {
    fn invoke_with<A: IntoPyObject<'py, Target = PyTuple>>(
        &self,
        arguments: A,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py();
        let arguments = arguments.into_pyobject(py).map_err(Into::into)?.into_bound();
        let options = options.map_or(std::ptr::null_mut(), |options| options.as_ptr());
        // SAFETY: attached, as `py` proves. The three are alive for the call: an object, a tuple, and a dictionary or
        // null, which means none. What comes is a new reference, or null with an exception set.
        unsafe {
            let value = held(|| black_box(PyObject_Call as Call)(self.as_ptr(), arguments.as_ptr(), options));
            Bound::from_owned_ptr_or_err(py, value)
        }
    }

    fn invoke_method<A: IntoPyObject<'py, Target = PyTuple>>(
        &self,
        name: &str,
        arguments: A,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.getattr(PyString::intern(self.py(), name))?.invoke(arguments)
    }
}

/// The module of that name.
pub(crate) fn import<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let name = PyString::intern(py, name);
    // SAFETY: attached, as `py` proves, and `name` is alive for the call. What comes is a new reference, or null with an
    // exception set.
    unsafe {
        let module = held(|| black_box(PyImport_Import as Import)(name.as_ptr()));
        Bound::from_owned_ptr_or_err(py, module)
    }
}

/// A member of a module, looked up once.
pub(crate) fn member<'py>(
    py: Python<'py>,
    kept: &'py PyOnceLock<Py<PyAny>>,
    module: &str,
    name: &str,
) -> PyResult<&'py Bound<'py, PyAny>> {
    let found = kept.get_or_try_init(py, || PyResult::Ok(import(py, module)?.getattr(name)?.unbind()))?;
    Ok(found.bind(py))
}
