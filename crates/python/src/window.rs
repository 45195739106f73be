//! Python's view of payload bytes, and ours of Python's buffers: one of the few places of this crate with
//! `unsafe`, since the buffer protocol is made of pointers.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::sync::Arc;

use forkright_engine::store::Held;
use forkright_shm::mapping::Mapping;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyOSError;
use pyo3::ffi;
use pyo3::prelude::*;

/// A payload that arrived, as an object with the buffer protocol: writable, copied page by page when written.
/// When the last object over it goes, its sender learns that the memory is free again.
#[pyclass(frozen, weakref, module = "forkright._core")]
pub(crate) struct Window {
    // Dropped in this order: when the sender hears that the block is free, nothing here reads it.
    mapping: Mapping,
    _held: Arc<Held>,
}

impl Window {
    pub(crate) fn open<'py>(py: Python<'py>, held: &Arc<Held>) -> PyResult<Bound<'py, PyAny>> {
        let mapping = held.map().map_err(|error| {
            PyOSError::new_err(format!("what a worker put into shared memory can not be read: {error}"))
        })?;
        Ok(Bound::new(py, Window { mapping, _held: Arc::clone(held) })?.into_any())
    }
}

#[pymethods]
impl Window {
    unsafe fn __getbuffer__(slf: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let mapping = &slf.get().mapping;
        let (start, length) = (mapping.as_ptr().cast::<c_void>(), mapping.len() as isize);
        // SAFETY: the mapping covers `length` bytes from `start`, is writable (private), and lives as long as
        // this object, which the view keeps alive; `view` comes from CPython.
        let outcome = unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, length, 0, flags) };
        if outcome < 0 { Err(PyErr::fetch(slf.py())) } else { Ok(()) }
    }

    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {}
}

/// The bytes of a contiguous buffer, to be copied into shared memory.
pub(crate) fn bytes_of(buffer: &PyBuffer<u8>) -> &[u8] {
    // SAFETY: a raw pickle buffer is contiguous and of `len_bytes` bytes, and the `PyBuffer` keeps it alive and
    // in place. Another thread may write into it meanwhile: the copy, made by the kernel, may then be mixed,
    // as with any pickler; no Rust code looks at the bytes.
    unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast::<u8>(), buffer.len_bytes()) }
}
