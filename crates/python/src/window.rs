//! Python's view of payload bytes, and ours of Python's buffers: one of the few places of this crate with
//! `unsafe`, since the buffer protocol is made of pointers.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::sync::Arc;

use forkright_engine::share::{Portion, Share, Sight};
use forkright_engine::store::Held;
use forkright_shm::mapping::Mapping;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyOSError;
use pyo3::ffi;
use pyo3::prelude::*;

use crate::outward::Outward as _;

/// Shared memory as an object with the buffer protocol.
#[pyclass(frozen, weakref, module = "forkright._core")]
pub(crate) struct Window(View);

enum View {
    /// A payload that arrived: writable, copied page by page when written. When the last object over it goes, its sender
    /// learns that the memory is free again. Dropped in this order: when the sender hears that, nothing here reads it.
    Payload { mapping: Mapping, _held: Arc<Held> },
    /// So many bytes of a share, from an offset: written to by all who have it, if at all.
    Shared { sight: Sight, offset: usize, len: usize },
}

impl Window {
    pub(crate) fn open<'py>(py: Python<'py>, held: &Arc<Held>) -> PyResult<Bound<'py, PyAny>> {
        let mapping = held.map().map_err(|error| {
            PyOSError::new_err(format!("what a worker put into shared memory can not be read: {error}"))
        })?;
        Ok(Bound::new(py, Window(View::Payload { mapping, _held: Arc::clone(held) }))?.into_any())
    }

    /// A part of a share. Its bounds may come from a peer.
    pub(crate) fn over<'py>(
        py: Python<'py>,
        share: Arc<Share>,
        portion: &Portion,
    ) -> PyResult<Bound<'py, PyAny>> {
        let end = portion.offset.checked_add(portion.len);
        if end.is_none_or(|end| end > share.mapping().len() as u64) {
            return Err(PyOSError::new_err("those bytes lie beyond the shared memory"));
        }
        let (offset, len) = (portion.offset as usize, portion.len as usize);
        Ok(Bound::new(py, Window(View::Shared { sight: Sight::of(share), offset, len }))?.into_any())
    }
}

#[pymethods]
impl Window {
    unsafe fn __getbuffer__(slf: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let (mapping, offset, len) = match &slf.get().0 {
            View::Payload { mapping, .. } => (mapping, 0, mapping.len()),
            View::Shared { sight, offset, len } => (sight.share().mapping(), *offset, *len),
        };
        let start = mapping.as_ptr().wrapping_add(offset).cast::<c_void>();
        let readonly = c_int::from(!mapping.is_writable());
        // SAFETY: the mapping has `len` bytes from `start`: it is one of a payload, or `over` has checked it. They can be
        // written to unless `readonly`. It lives as long as this object, which the view keeps alive; `view` comes from
        // CPython.
        let outcome =
            unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, len as isize, readonly, flags) };
        if outcome < 0 { Err(PyErr::fetch(slf.py())) } else { Ok(()) }
    }

    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {}
}

/// Copies buffers into memory that all processes see: the objects over it, in their order.
///
/// Unless `writable`, nobody can write to it ever after.
#[pyfunction]
pub(crate) fn share<'py>(
    py: Python<'py>,
    buffers: Vec<Bound<'py, PyAny>>,
    writable: bool,
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let raw = |buffer: &Bound<'py, PyAny>| PyBuffer::<u8>::get(&buffer.invoke_method("raw", ())?);
    let buffers = buffers.iter().map(raw).collect::<PyResult<Vec<_>>>()?;
    let parts: Vec<&[u8]> = buffers.iter().map(bytes_of).collect();
    let (share, offsets) = py.detach(|| Share::create(&parts, writable))?;
    let window = |(part, offset): (&&[u8], u64)| {
        Window::over(py, Arc::clone(&share), &share.portion(offset, part.len() as u64))
    };
    parts.iter().zip(offsets).map(window).collect()
}

/// A portion as Python has it: key, offset, length, the process that has it, and its descriptor there.
type Place = (u64, u64, u64, u32, u32);

/// Where in shared memory an object with the buffer protocol lies; none if it lies elsewhere.
#[pyfunction]
pub(crate) fn shared_place(py: Python<'_>, obj: &Bound<'_, PyAny>) -> Option<Place> {
    let mut view = MaybeUninit::<ffi::Py_buffer>::zeroed();
    // SAFETY: attached, as `py` proves. CPython fills the view, or fails and leaves it as it was; only one that was filled
    // is read and released.
    let (start, len) = unsafe {
        if ffi::PyObject_GetBuffer(obj.as_ptr(), view.as_mut_ptr(), ffi::PyBUF_STRIDES) != 0 {
            drop(PyErr::take(py));
            return None;
        }
        let found = view.assume_init_ref();
        let found = (found.buf as usize, found.len.unsigned_abs());
        ffi::PyBuffer_Release(view.as_mut_ptr());
        found
    };
    // Of a view that is not contiguous the first element counts.
    let (share, offset) = Share::around(start, 1)?;
    let Portion { key, offset, len, pid, fd } = share.portion(offset, len as u64);
    Some((key, offset, len, pid, fd))
}

/// An object over the shared memory that another process has at that place, and keeps meanwhile.
#[pyfunction]
pub(crate) fn open_shared(py: Python<'_>, place: Place) -> PyResult<Bound<'_, PyAny>> {
    let (key, offset, len, pid, fd) = place;
    let portion = Portion { key, offset, len, pid, fd };
    Window::over(py, Share::open(&portion, None)?, &portion)
}

/// The bytes of a contiguous buffer, to be copied into shared memory.
pub(crate) fn bytes_of(buffer: &PyBuffer<u8>) -> &[u8] {
    // SAFETY: a raw pickle buffer is contiguous and of `len_bytes` bytes, and the `PyBuffer` keeps it alive and
    // in place. Another thread may write into it meanwhile: the copy, made by the kernel, may then be mixed,
    // as with any pickler; no Rust code looks at the bytes.
    unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast::<u8>(), buffer.len_bytes()) }
}
