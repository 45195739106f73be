//! The stream of a pickle that holds large parts: those are not copied together, but written one after another where they
//! are going. Used by `codec` for values in which it sees one; others are pickled sooner in one piece.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use pyo3::buffer::PyBuffer;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyList, PySet, PyTuple, PyType};

use crate::outward::{Outward as _, import, member};
use crate::window::bytes_of;

/// Bytes from which on a copy costs more than what keeps it from being made.
const LARGE: usize = 64 << 10;
/// How deep containers are looked into, and how many of the items of each: those of a map are alike.
const DEPTH: u32 = 3;
const WIDTH: usize = 8;

/// What a pickler writes to.
#[pyclass(frozen, module = "forkright._core")]
pub(crate) struct Stream(Mutex<Vec<Part>>);

enum Part {
    Small(Vec<u8>),
    /// An object of the value itself, as the pickler hands on what is larger than its frames.
    Large(PyBuffer<u8>),
}

impl Part {
    fn bytes(&self) -> &[u8] {
        match self {
            Part::Small(bytes) => bytes,
            Part::Large(buffer) => bytes_of(buffer),
        }
    }
}

#[pymethods]
impl Stream {
    fn write(&self, bytes: &Bound<'_, PyAny>) -> PyResult<usize> {
        let buffer = PyBuffer::<u8>::get(bytes)?;
        let length = buffer.len_bytes();
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if length >= LARGE {
            parts.push(Part::Large(buffer));
        } else if let Some(Part::Small(before)) = parts.last_mut() {
            before.extend_from_slice(bytes_of(&buffer));
        } else {
            parts.push(Part::Small(bytes_of(&buffer).to_vec()));
        }
        Ok(length)
    }
}

/// A stream in its parts.
pub(crate) struct Parts(Vec<Part>);

impl Parts {
    pub(crate) fn slices(&self) -> Vec<&[u8]> {
        self.0.iter().map(Part::bytes).collect()
    }

    /// What the pickler itself wrote.
    pub(crate) fn own(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter_map(|part| match part {
            Part::Small(bytes) => Some(bytes.as_slice()),
            Part::Large(_) => None,
        })
    }
}

/// What pickles values with large parts, as far as the modules that are loaded can have made any.
pub(crate) struct Reducers {
    table: Py<PyAny>,
    /// Types of values that are worth it.
    wide: Py<PySet>,
}

impl Reducers {
    /// Those for the modules that are loaded by now.
    pub(crate) fn current(py: Python<'_>) -> PyResult<Reducers> {
        static MADE: PyOnceLock<Mutex<Option<Reducers>>> = PyOnceLock::new();
        static MODULES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
        static COUNT: AtomicUsize = AtomicUsize::new(usize::MAX);
        let modules = MODULES
            .get_or_try_init(py, || {
                PyResult::Ok(import(py, "sys")?.getattr("modules")?.cast_into::<PyDict>()?.unbind())
            })?
            .bind(py)
            .len();
        let made = MADE.get_or_init(py, Mutex::default);
        let copy =
            |made: &Reducers| Reducers { table: made.table.clone_ref(py), wide: made.wide.clone_ref(py) };
        if COUNT.load(Relaxed) == modules
            && let Some(made) = &*made.lock().unwrap_or_else(PoisonError::into_inner)
        {
            return Ok(copy(made));
        }
        let (table, wide) = import(py, "forkright._reducers")?.getattr("table")?.invoke(())?.extract()?;
        let new = Reducers { table, wide };
        let before = made.lock().unwrap_or_else(PoisonError::into_inner).replace(copy(&new));
        drop(before);
        COUNT.store(modules, Relaxed);
        Ok(new)
    }

    /// Whether a value has parts that are better not copied together.
    pub(crate) fn suit(&self, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.look(value, DEPTH)
    }

    fn look(&self, value: &Bound<'_, PyAny>, depth: u32) -> PyResult<bool> {
        if let Ok(bytes) = value.cast_exact::<PyBytes>() {
            return Ok(bytes.as_bytes().len() >= LARGE);
        }
        if let Ok(bytes) = value.cast_exact::<PyByteArray>() {
            return Ok(bytes.len() >= LARGE);
        }
        let any = |items: &mut dyn Iterator<Item = Bound<'_, PyAny>>| -> PyResult<bool> {
            for item in items.take(WIDTH) {
                if depth > 0 && self.look(&item, depth - 1)? {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        if let Ok(items) = value.cast_exact::<PyTuple>() {
            return any(&mut items.iter());
        }
        if let Ok(items) = value.cast_exact::<PyList>() {
            return any(&mut items.iter());
        }
        if let Ok(items) = value.cast_exact::<PyDict>() {
            return any(&mut items.iter().map(|(_, item)| item));
        }
        let kind = value.get_type();
        if !self.wide.bind(value.py()).contains(&kind)? {
            return Ok(false);
        }
        // Of plain arrays only those whose own pickling copies them.
        if !is_array(&kind)? {
            return Ok(true);
        }
        let letter = value.getattr(intern!(value.py(), "dtype"))?.getattr(intern!(value.py(), "kind"))?;
        Ok(letter.eq("M")? || letter.eq("m")?)
    }

    /// Pickles a value; out-of-band buffers go to `append`.
    pub(crate) fn pickle<'py>(
        &self,
        value: &Bound<'py, PyAny>,
        append: &Bound<'py, PyAny>,
    ) -> PyResult<Parts> {
        static PICKLER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = value.py();
        let stream = Bound::new(py, Stream(Mutex::default()))?;
        let options = PyDict::new(py);
        options.set_item(intern!(py, "buffer_callback"), append)?;
        let pickler = member(py, &PICKLER, "_pickle", "Pickler")?
            .invoke_with((&stream, super::codec::PROTOCOL), Some(&options))?;
        pickler.setattr(intern!(py, "dispatch_table"), &self.table)?;
        pickler.invoke_method("dump", (value,))?;
        Ok(Parts(std::mem::take(&mut *stream.get().0.lock().unwrap_or_else(PoisonError::into_inner))))
    }
}

fn is_array(kind: &Bound<'_, PyType>) -> PyResult<bool> {
    Ok(kind.name()? == "ndarray")
}
