//! Pickling and unpickling from Rust: the plain C pickler for what it can do, `forkright._pickling` for the rest.
//! Puts large parts into shared memory. Decides nothing about where work goes.

use std::sync::{Arc, Mutex, PoisonError};

use forkright_engine::crew::Arrived;
use forkright_engine::payload::{BUFFER_LIMIT, INLINE_LIMIT, Payload, Stream};
use forkright_engine::store::{Lease, Store};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyException, PyOSError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use crate::recruit::Initializer;
use crate::window::Window;

const PROTOCOL: u8 = 5;
/// A stream with one of these must be made again with care: it names what only the caller's `__main__` has, or
/// the state of a random generator that all workers would share. As `forkright._pickling.SIGNS`.
const SIGNS: [&[u8]; 3] = [b"__main__", b"\x8c\x06random\x94\x8c\x06Random\x94", b"__randomstate_ctor"];

/// A pickled value and what it occupies in shared memory.
pub(crate) struct Encoded {
    pub(crate) payload: Payload,
    pub(crate) leases: Vec<Arc<Lease>>,
}

fn dumps(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    DUMPS.import(py, "_pickle", "dumps")
}

fn loads(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    LOADS.import(py, "_pickle", "loads")
}

/// Collects the out-of-band buffers that are worth a block; leaves the others in the stream.
#[pyclass(frozen, module = "forkright._core")]
pub(crate) struct Sink(Mutex<Vec<PyBuffer<u8>>>);

#[pymethods]
impl Sink {
    /// As pickle's `buffer_callback`: true keeps the buffer in the stream.
    fn __call__(&self, buffer: &Bound<'_, PyAny>) -> bool {
        // A buffer that is not contiguous has no raw view: pickle copies it into the stream.
        let Ok(raw) = buffer.call_method0("raw").and_then(|raw| PyBuffer::<u8>::get(&raw)) else {
            return true;
        };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if raw.len_bytes() < BUFFER_LIMIT || kept.len() == Payload::most_buffers() {
            return true;
        }
        kept.push(raw);
        false
    }
}

/// Whether plain pickling is sure to do, without buffers: small values of built-in types.
fn is_plain(value: &Bound<'_, PyAny>) -> bool {
    value.is_none()
        || value.is_exact_instance_of::<PyInt>()
        || value.is_exact_instance_of::<PyFloat>()
        || value.is_exact_instance_of::<PyBool>()
        || value.cast_exact::<PyString>().is_ok_and(|text| text.len().is_ok_and(|length| length < 1000))
}

fn are_plain(value: &Bound<'_, PyAny>) -> bool {
    match value.cast_exact::<PyTuple>() {
        Ok(tuple) => tuple.len() <= 8 && tuple.iter_borrowed().all(|item| is_plain(&item)),
        Err(_) => is_plain(value),
    }
}

/// Pickles a value, its large parts into `store`. `role` names it in errors ("the arguments of `f`"). Who will read it
/// has called `initializer`, which may have set globals that can't be pickled.
pub(crate) fn encode(
    value: &Bound<'_, PyAny>,
    store: &Arc<Store>,
    initializer: Option<&Initializer>,
    role: impl FnOnce() -> String,
) -> PyResult<Encoded> {
    let py = value.py();
    if are_plain(value) {
        let stream = dumps(py)?.call1((value, PROTOCOL))?;
        let stream = stream.cast::<PyBytes>()?.as_bytes().to_vec();
        return Ok(Encoded { payload: Payload::inline(stream), leases: Vec::new() });
    }
    let sink = Bound::new(py, Sink(Mutex::default()))?;
    let options = PyDict::new(py);
    options.set_item(intern!(py, "buffer_callback"), &sink)?;
    match dumps(py)?.call((value, PROTOCOL), Some(&options)) {
        Ok(stream) if !needs_care(stream.cast::<PyBytes>()?.as_bytes()) => {
            let buffers = std::mem::take(&mut *sink.get().0.lock().unwrap_or_else(PoisonError::into_inner));
            pack(py, stream.cast::<PyBytes>()?, &buffers, store)
        }
        // It needs care, or could not be pickled by reference.
        Ok(_) => encode_with_care(value, role(), store, initializer),
        Err(error) if error.is_instance_of::<PyException>(py) => {
            encode_with_care(value, role(), store, initializer)
        }
        // KeyboardInterrupt and the like travel on.
        Err(error) => Err(error),
    }
}

fn encode_with_care(
    value: &Bound<'_, PyAny>,
    role: String,
    store: &Arc<Store>,
    initializer: Option<&Initializer>,
) -> PyResult<Encoded> {
    static ENCODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = value.py();
    let kept = PyList::empty(py);
    let initializer = initializer.map(|initializer| initializer.function(py)).transpose()?;
    let encode = ENCODE.import(py, "forkright._pickling", "encode")?;
    let stream = encode.call1((value, &kept, role, initializer))?;
    let raw = |buffer: Bound<'_, PyAny>| PyBuffer::<u8>::get(&buffer.call_method0("raw")?);
    let buffers = kept.iter().map(raw).collect::<PyResult<Vec<_>>>()?;
    pack(py, stream.cast::<PyBytes>()?, &buffers, store)
}

/// Puts a stream and its buffers where they travel best.
fn pack(
    py: Python<'_>,
    stream: &Bound<'_, PyBytes>,
    buffers: &[PyBuffer<u8>],
    store: &Arc<Store>,
) -> PyResult<Encoded> {
    let mut leases = Vec::new();
    let mut keep = |bytes: &[u8]| -> PyResult<_> {
        // Detached when it is long.
        let lease = if bytes.len() > 64 * INLINE_LIMIT {
            py.detach(|| store.keep_once(bytes))
        } else {
            store.keep_once(bytes)
        };
        let lease = lease.map_err(|error| no_memory(&error, bytes.len()))?;
        let block = lease.block();
        leases.push(lease);
        Ok(block)
    };
    let bytes = stream.as_bytes();
    let stream = if bytes.len() > INLINE_LIMIT {
        Stream::Stored(keep(bytes)?)
    } else {
        Stream::Inline(bytes.to_vec())
    };
    let mut blocks = Vec::with_capacity(buffers.len());
    for buffer in buffers {
        blocks.push(keep(crate::window::bytes_of(buffer))?);
    }
    Ok(Encoded { payload: Payload { stream, buffers: blocks }, leases })
}

fn no_memory(error: &std::io::Error, length: usize) -> PyErr {
    PyOSError::new_err(format!("no shared memory for {length} bytes on their way to a worker: {error}"))
}

/// Pickles what `forkright._pickling.<function>` made of a value: a function's description, an exception.
pub(crate) fn pack_bytes(stream: &Bound<'_, PyBytes>, store: &Arc<Store>) -> PyResult<Encoded> {
    pack(stream.py(), stream, &[], store)
}

/// Unpickles what arrived.
pub(crate) fn decode<'py>(py: Python<'py>, arrived: &Arrived) -> PyResult<Bound<'py, PyAny>> {
    let stream = stream_of(py, arrived)?;
    if arrived.buffers.is_empty() {
        return loads(py)?.call1((stream,));
    }
    let buffers = PyList::empty(py);
    for held in &arrived.buffers {
        buffers.append(Window::open(py, held)?)?;
    }
    let options = PyDict::new(py);
    options.set_item(intern!(py, "buffers"), buffers)?;
    loads(py)?.call((stream,), Some(&options))
}

pub(crate) fn stream_of<'py>(py: Python<'py>, arrived: &Arrived) -> PyResult<Bound<'py, PyAny>> {
    match &arrived.stored {
        None => Ok(PyBytes::new(py, &arrived.inline).into_any()),
        Some(held) => Window::open(py, held),
    }
}

/// The exception a worker pickled, its traceback as cause.
pub(crate) fn decode_exception(py: Python<'_>, arrived: &Arrived) -> PyResult<Py<PyAny>> {
    let stream = stream_of(py, arrived)?;
    let exception = py.import("forkright._pickling")?.getattr("decode_exception")?.call1((stream,))?;
    Ok(exception.unbind())
}

/// What the worker makes of an exception.
pub(crate) fn encode_exception(py: Python<'_>, error: PyErr, store: &Arc<Store>) -> PyResult<Encoded> {
    let stream =
        py.import("forkright._pickling")?.getattr("encode_exception")?.call1((error.into_value(py),))?;
    let stream =
        stream.cast_into::<PyBytes>().map_err(|_| PyTypeError::new_err("an exception is not bytes"))?;
    pack_bytes(&stream, store)
}

fn needs_care(stream: &[u8]) -> bool {
    SIGNS.iter().any(|sign| memchr::memmem::find(stream, sign).is_some())
}

/// One outcome of a chunk in which some failed: (true, value) or (false, exception), pickled apart.
pub(crate) fn decode_apart<'py>(outcome: &Bound<'py, PyAny>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let py = outcome.py();
    let failed = |error| crate::errors::undecodable(py, error, &format!("a result of `{name}`"));
    let (fine, stream): (bool, Bound<'_, PyBytes>) = outcome.extract().map_err(failed)?;
    if fine {
        return loads(py)?.call1((stream,)).map_err(failed);
    }
    let exception = py.import("forkright._pickling")?.getattr("decode_exception")?.call1((stream,))?;
    Err(PyErr::from_value(exception))
}
