//! Which functions were described for the workers of one pool, and whether the description still holds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use forkright_engine::crew::{Blob, Crew};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyBytes, PyCFunction, PyDict, PyFunction, PyTuple, PyType, PyWeakrefMethods, PyWeakrefReference,
};

use crate::codec;

/// Beyond this many the dead are cleared out.
const MANY: usize = 256;

#[derive(Default)]
pub(crate) struct Functions(Mutex<HashMap<usize, Known>>);

struct Known {
    /// Says that the address still means the same object.
    reference: Py<PyWeakrefReference>,
    described: Described,
}

/// A function that can be sent.
#[derive(Clone)]
pub(crate) struct Described {
    pub(crate) blob: Arc<Blob>,
    pub(crate) name: Arc<str>,
    watch: Arc<Py<PyTuple>>,
    volatile: bool,
}

impl Functions {
    /// What workers need to call `function`. `None` for callables that belong to one call, bound methods and
    /// such: they travel with its arguments.
    pub(crate) fn describe(&self, function: &Bound<'_, PyAny>, crew: &Crew) -> PyResult<Option<Described>> {
        let lasting = function.is_exact_instance_of::<PyFunction>()
            || function.is_exact_instance_of::<PyCFunction>()
            || function.is_instance_of::<PyType>();
        if !lasting {
            return Ok(None);
        }
        let address = function.as_ptr() as usize;
        if let Some(described) = self.find(function, address)
            && !described.volatile
            && holds(described.watch.bind(function.py()))?
        {
            return Ok(Some(described));
        }
        let old = self.find(function, address);
        let described = describe(function, crew, old.as_ref())?;
        let reference = PyWeakrefReference::new(function)?.unbind();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MANY {
            known.retain(|_, entry| entry.reference.bind(function.py()).upgrade().is_some());
        }
        known.insert(address, Known { reference, described: described.clone() });
        Ok(Some(described))
    }

    fn find(&self, function: &Bound<'_, PyAny>, address: usize) -> Option<Described> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = known.get(&address)?;
        let same = entry.reference.bind(function.py()).upgrade().is_some_and(|object| object.is(function));
        same.then(|| entry.described.clone())
    }
}

/// Describes a function afresh; the id stays if the content does, so that workers need not get it again.
pub(crate) fn describe(
    function: &Bound<'_, PyAny>,
    crew: &Crew,
    old: Option<&Described>,
) -> PyResult<Described> {
    let py = function.py();
    let made = py.import("forkright._functions")?.getattr("describe")?.call1((function,))?;
    let payload = made.getattr("payload")?.cast_into::<PyBytes>()?;
    let watch = Arc::new(made.getattr("watch")?.cast_into::<PyTuple>()?.unbind());
    let volatile = made.getattr("volatile")?.extract()?;
    if let Some(old) = old
        && old.blob.payload.tail() == payload.as_bytes()
    {
        return Ok(Described { blob: Arc::clone(&old.blob), name: Arc::clone(&old.name), watch, volatile });
    }
    let name: String = made.getattr("name")?.extract()?;
    let encoded = codec::pack_bytes(&payload, crew.store())?;
    let blob = Arc::new(Blob { id: crew.next_id(), payload: encoded.payload, leases: encoded.leases });
    Ok(Described { blob, name: name.into(), watch, volatile })
}

/// `forkright._functions.holds`, without the interpreter's overhead: this runs for each task.
fn holds(watch: &Bound<'_, PyTuple>) -> PyResult<bool> {
    for entry in watch.iter_borrowed() {
        let entry = entry.cast_exact::<PyTuple>()?;
        let holder = entry.get_borrowed_item(0)?;
        let (key, value) = (entry.get_borrowed_item(1)?, entry.get_borrowed_item(2)?);
        let same = if let Ok(names) = holder.cast_exact::<PyDict>() {
            match names.get_item(key)? {
                Some(found) => found.is(value),
                None => value.is_none(),
            }
        } else if key.is_none() {
            holder.getattr(intern!(watch.py(), "cell_contents")).is_ok_and(|found| found.is(value))
        } else {
            holder.getattr(key.cast::<pyo3::types::PyString>()?)?.is(value)
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}
