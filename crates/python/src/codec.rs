//! Pickling and unpickling from Rust: the plain C pickler for what it can do, `forkright._pickling` for the rest.
//! Puts large parts into shared memory. Decides nothing about where work goes.

use std::sync::{Arc, Mutex, PoisonError};

use forkright_engine::crew::{Arrived, ArrivedBuffer};
use forkright_engine::payload::{BUFFER_LIMIT, Buffer, INLINE_LIMIT, Payload, Stream};
use forkright_engine::share::Share;
use forkright_engine::store::{Leased, Store};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyException, PyOSError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use crate::outward::{Outward as _, import, member};
use crate::recruit::Initializer;
use crate::stream::Reducers;
use crate::window::Window;

pub(crate) const PROTOCOL: u8 = 5;
/// A stream with one of these must be made again with care: it names what only the caller's `__main__` has, or
/// the state of a random generator that all workers would share. As `forkright._pickling.SIGNS`.
const SIGNS: [&[u8]; 3] = [b"__main__", b"\x8c\x06random\x94\x8c\x06Random\x94", b"__randomstate_ctor"];

/// A pickled value and what it occupies in shared memory.
pub(crate) struct Encoded {
    pub(crate) payload: Payload,
    pub(crate) leases: Vec<Arc<dyn Leased>>,
}

fn dumps(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    member(py, &DUMPS, "_pickle", "dumps")
}

fn loads(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    member(py, &LOADS, "_pickle", "loads")
}

/// Collects the out-of-band buffers that are shared already or worth a block; leaves the others in the stream.
#[pyclass(frozen, module = "forkright._core")]
pub(crate) struct Sink {
    kept: Mutex<Vec<Kept>>,
    /// Whether it is the caller who will read them: that one has its own shares only.
    to_caller: bool,
}

/// A buffer that is not in the stream.
enum Kept {
    Apart(PyBuffer<u8>),
    Shared { share: Arc<Share>, offset: u64, len: u64 },
}

#[pymethods]
impl Sink {
    /// As pickle's `buffer_callback`: true keeps the buffer in the stream.
    fn append(&self, buffer: &Bound<'_, PyAny>) -> bool {
        // A buffer that is not contiguous has no raw view: pickle copies it into the stream.
        let Ok(raw) = buffer.invoke_method("raw", ()).and_then(|raw| PyBuffer::<u8>::get(&raw)) else {
            return true;
        };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == Payload::most_buffers() {
            return true;
        }
        let len = raw.len_bytes();
        if let Some((share, offset)) = Share::around(raw.buf_ptr() as usize, len)
            && (!self.to_caller || share.is_callers())
        {
            kept.push(Kept::Shared { share, offset, len: len as u64 });
            return false;
        }
        if len < BUFFER_LIMIT {
            return true;
        }
        kept.push(Kept::Apart(raw));
        false
    }

    fn clear(&self) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Sink {
    /// For what goes to the readers of a store.
    pub(crate) fn new<'py>(py: Python<'py>, store: &Store) -> PyResult<Bound<'py, Sink>> {
        Bound::new(py, Sink { kept: Mutex::default(), to_caller: store.is_workers() })
    }

    fn take(&self) -> Vec<Kept> {
        std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner))
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
        let stream = dumps(py)?.invoke((value, PROTOCOL))?;
        let stream = stream.cast::<PyBytes>()?.as_bytes().to_vec();
        return Ok(Encoded { payload: Payload::inline(stream), leases: Vec::new() });
    }
    let sink = Sink::new(py, store)?;
    let append = sink.getattr(intern!(py, "append"))?;
    let reducers = Reducers::current(py)?;
    let encoded = if reducers.suit(value)? {
        reducers.pickle(value, &append).map(|parts| {
            let care = parts.own().any(needs_care);
            (!care).then(|| pack(py, &parts.slices(), sink.get(), store))
        })
    } else {
        let options = PyDict::new(py);
        options.set_item(intern!(py, "buffer_callback"), append)?;
        dumps(py)?.invoke_with((value, PROTOCOL), Some(&options)).and_then(|stream| {
            let stream = stream.cast::<PyBytes>()?.as_bytes();
            Ok((!needs_care(stream)).then(|| pack(py, &[stream], sink.get(), store)))
        })
    };
    match encoded {
        Ok(Some(encoded)) => encoded,
        // It needs care, or could not be pickled by reference.
        Ok(None) => encode_with_care(value, role(), &sink, store, initializer),
        Err(error) if error.is_instance_of::<PyException>(py) => {
            encode_with_care(value, role(), &sink, store, initializer)
        }
        // KeyboardInterrupt and the like travel on.
        Err(error) => Err(error),
    }
}

fn encode_with_care(
    value: &Bound<'_, PyAny>,
    role: String,
    sink: &Bound<'_, Sink>,
    store: &Arc<Store>,
    initializer: Option<&Initializer>,
) -> PyResult<Encoded> {
    static ENCODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = value.py();
    sink.get().clear();
    let initializer = initializer.map(|initializer| initializer.function(py)).transpose()?;
    let encode = member(py, &ENCODE, "forkright._pickling", "encode")?;
    let stream = encode.invoke((value, sink, role, initializer))?;
    pack(py, &[stream.cast::<PyBytes>()?.as_bytes()], sink.get(), store)
}

/// Puts a stream, which may be in parts, and the buffers that were kept out of it where they travel best.
pub(crate) fn pack(py: Python<'_>, stream: &[&[u8]], sink: &Sink, store: &Arc<Store>) -> PyResult<Encoded> {
    let mut leases: Vec<Arc<dyn Leased>> = Vec::new();
    let mut keep = |parts: &[&[u8]]| -> PyResult<_> {
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        let copy = || match parts {
            [part] => store.keep_once(part),
            _ => store.keep(parts).map(Arc::new),
        };
        // Detached when it is long.
        let lease = if length > 64 * INLINE_LIMIT { py.detach(copy) } else { copy() };
        let lease = lease.map_err(|error| no_memory(&error, length))?;
        let block = lease.block();
        leases.push(lease);
        Ok(block)
    };
    let length = stream.iter().map(|part| part.len()).sum::<usize>();
    let stream =
        if length > INLINE_LIMIT { Stream::Stored(keep(stream)?) } else { Stream::Inline(stream.concat()) };
    let kept = sink.take();
    let mut buffers = Vec::with_capacity(kept.len());
    let mut shares: Vec<Arc<dyn Leased>> = Vec::new();
    for buffer in kept {
        buffers.push(match buffer {
            Kept::Apart(bytes) => Buffer::Stored(keep(&[crate::window::bytes_of(&bytes)])?),
            Kept::Shared { share, offset, len } => {
                let portion = share.portion(offset, len);
                shares.push(share);
                Buffer::Shared(portion)
            }
        });
    }
    leases.append(&mut shares);
    Ok(Encoded { payload: Payload { stream, buffers }, leases })
}

fn no_memory(error: &std::io::Error, length: usize) -> PyErr {
    PyOSError::new_err(format!("no shared memory for {length} bytes on their way to a worker: {error}"))
}

/// Pickles what `forkright._pickling.<function>` made of a value: a function's description, an exception.
pub(crate) fn pack_bytes(stream: &Bound<'_, PyBytes>, store: &Arc<Store>) -> PyResult<Encoded> {
    pack(stream.py(), &[stream.as_bytes()], Sink::new(stream.py(), store)?.get(), store)
}

/// Unpickles what arrived.
pub(crate) fn decode<'py>(py: Python<'py>, arrived: &Arrived) -> PyResult<Bound<'py, PyAny>> {
    let stream = stream_of(py, arrived)?;
    if arrived.buffers.is_empty() {
        return loads(py)?.invoke((stream,));
    }
    let options = PyDict::new(py);
    options.set_item(intern!(py, "buffers"), buffers_of(py, arrived)?)?;
    loads(py)?.invoke_with((stream,), Some(&options))
}

/// Its out-of-band buffers, as objects with the buffer protocol.
pub(crate) fn buffers_of<'py>(py: Python<'py>, arrived: &Arrived) -> PyResult<Bound<'py, PyList>> {
    let open = |buffer: &ArrivedBuffer| match buffer {
        ArrivedBuffer::Stored(held) => Window::open(py, held),
        ArrivedBuffer::Here(Some(share), portion) => Window::over(py, Arc::clone(share), portion),
        ArrivedBuffer::Here(None, _) => {
            Err(PyOSError::new_err("a worker named shared memory that it was not sent"))
        }
        ArrivedBuffer::Callers(held, portion) => {
            let share = held.open(portion).map_err(|error| {
                PyOSError::new_err(format!("its shared memory can not be opened: {error}"))
            })?;
            Window::over(py, share, portion)
        }
    };
    PyList::new(py, arrived.buffers.iter().map(open).collect::<PyResult<Vec<_>>>()?)
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
    let exception = import(py, "forkright._pickling")?.getattr("decode_exception")?.invoke((stream,))?;
    Ok(exception.unbind())
}

/// What the worker makes of an exception.
pub(crate) fn encode_exception(py: Python<'_>, error: PyErr, store: &Arc<Store>) -> PyResult<Encoded> {
    let stream =
        import(py, "forkright._pickling")?.getattr("encode_exception")?.invoke((error.into_value(py),))?;
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
        return loads(py)?.invoke((stream,)).map_err(failed);
    }
    let exception = import(py, "forkright._pickling")?.getattr("decode_exception")?.invoke((stream,))?;
    Err(PyErr::from_value(exception))
}
