//! Which functions were described for the workers of one pool, and whether the description still holds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use forkright_engine::crew::{Blob, Crew};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyBytes, PyCFunction, PyDict, PyFunction, PyTuple, PyType, PyWeakrefMethods, PyWeakrefReference,
};

use crate::codec;
use crate::outward::{Outward as _, import};
use crate::recruit::Initializer;

pub(crate) struct Functions {
    known: Arc<Mutex<HashMap<(usize, Differing), Known>>>,
    /// What the workers that they are described for call first.
    initializer: Option<Initializer>,
}

struct Known {
    /// Says that the address still means the same object.
    reference: Py<PyWeakrefReference>,
    described: Described,
}

/// What a worker does with a function that reads other values, or runs other code, there than here.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Differing {
    /// It runs, and the caller is told.
    Warn,
    /// It does not run.
    Refuse,
    /// It runs, and nothing is compared: the caller answers for it.
    Ignore,
}

impl Differing {
    /// Where it is chosen what leaves; `shared` is what the caller says of shared state.
    pub(crate) fn under_choice(shared: Option<bool>) -> Differing {
        if shared == Some(false) { Differing::Ignore } else { Differing::Refuse }
    }

    /// Where all leaves.
    pub(crate) fn under_plan(shared: Option<bool>) -> Differing {
        if shared == Some(false) { Differing::Ignore } else { Differing::Warn }
    }
}

/// How closely to look whether a description still holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// At what it watches: cheap enough for each call.
    Watched,
    /// At all that the function reads.
    Whole,
}

/// A function that can be sent.
#[derive(Clone)]
pub(crate) struct Described {
    pub(crate) blob: Arc<Blob>,
    pub(crate) name: Arc<str>,
    /// The worker compares what it reads there.
    pub(crate) checked: bool,
    volatile: bool,
    basis: Arc<Basis>,
}

/// What a description rests on.
struct Basis {
    watch: Py<PyTuple>,
    /// `forkright._functions.survey` of it.
    survey: Py<PyAny>,
}

impl Functions {
    pub(crate) fn new(initializer: Option<Initializer>) -> Functions {
        Functions { known: Arc::default(), initializer }
    }

    pub(crate) fn initializer(&self) -> Option<&Initializer> {
        self.initializer.as_ref()
    }

    /// What workers need to call `function`. `None` for callables that belong to one call, bound methods and
    /// such: they travel with its arguments.
    pub(crate) fn describe(
        &self,
        function: &Bound<'_, PyAny>,
        crew: &Crew,
        differing: Differing,
        look: Look,
    ) -> PyResult<Option<Described>> {
        if !is_lasting(function) {
            return Ok(None);
        }
        let described = match self.find(function, differing) {
            Some(old) if look == Look::Watched && holds(old.basis.watch.bind(function.py()))? => {
                if !old.volatile {
                    return Ok(Some(old));
                }
                let survey = old.basis.survey.bind(function.py()).clone();
                self.describe_as(function, crew, differing, Some(&old), Some(survey))?
            }
            old => self.describe_as(function, crew, differing, old.as_ref(), None)?,
        };
        let key = (function.as_ptr() as usize, differing);
        let known = Known { reference: self.reference(function, key)?, described: described.clone() };
        let before = lock(&self.known).insert(key, known);
        // Without the lock: what it held may run Python code as it goes.
        drop(before);
        Ok(Some(described))
    }

    /// Says that the address still means the same object. What is known of it goes with it: what it captured is watched,
    /// and must not be kept by that.
    fn reference(
        &self,
        function: &Bound<'_, PyAny>,
        key: (usize, Differing),
    ) -> PyResult<Py<PyWeakrefReference>> {
        let all = Arc::downgrade(&self.known);
        let forget = move |_: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| {
            let gone = all.upgrade().and_then(|all| lock(&all).remove(&key));
            drop(gone);
        };
        let forget = PyCFunction::new_closure(function.py(), None, None, forget)?;
        Ok(PyWeakrefReference::new_with(function, forget)?.unbind())
    }

    /// What has a worker compare what a callable reads that travels otherwise. Left out where it would have to be
    /// pickled for each call.
    pub(crate) fn check(
        &self,
        function: &Bound<'_, PyAny>,
        crew: &Crew,
        differing: Differing,
    ) -> Option<Arc<Blob>> {
        let function = kind_of(function);
        if self.find(&function, differing).is_some_and(|known| known.volatile) {
            return None;
        }
        let described = self.describe(&function, crew, differing, Look::Watched).ok()??;
        (described.checked && !described.volatile).then_some(described.blob)
    }

    /// Describes a callable afresh, also one that belongs to one call.
    pub(crate) fn describe_afresh(
        &self,
        function: &Bound<'_, PyAny>,
        crew: &Crew,
        differing: Differing,
    ) -> PyResult<Described> {
        self.describe_as(function, crew, differing, None, None)
    }

    /// The id stays if the content does, so that workers need not get it again.
    fn describe_as(
        &self,
        function: &Bound<'_, PyAny>,
        crew: &Crew,
        differing: Differing,
        old: Option<&Described>,
        survey: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Described> {
        let py = function.py();
        let functions = import(py, "forkright._functions")?;
        let initializer = self.initializer().map(|initializer| initializer.function(py)).transpose()?;
        let sink = codec::Sink::new(py, crew.store())?;
        let made = functions.getattr("describe")?.invoke((function, initializer, &sink))?;
        let survey = match survey {
            Some(survey) => survey,
            None if differing == Differing::Ignore => {
                (PyDict::new(py), PyTuple::empty(py)).into_pyobject(py)?.into_any()
            }
            None => functions.getattr("survey")?.invoke((function,))?,
        };
        let strict = differing == Differing::Refuse;
        let (payload, watch, checked): (Bound<'_, PyBytes>, Bound<'_, PyTuple>, bool) =
            functions.getattr("parcel")?.invoke((&made, &survey, strict))?.extract()?;
        let basis = Arc::new(Basis { watch: watch.unbind(), survey: survey.unbind() });
        let volatile = made.getattr("volatile")?.extract()?;
        let encoded = codec::pack(py, &[payload.as_bytes()], sink.get(), crew.store())?;
        if let Some(old) = old
            && old.blob.payload == encoded.payload
        {
            return Ok(Described { volatile, basis, ..old.clone() });
        }
        let name: String = made.getattr("name")?.extract()?;
        let blob = Arc::new(Blob { id: crew.next_id(), payload: encoded.payload, leases: encoded.leases });
        Ok(Described { blob, name: name.into(), checked, volatile, basis })
    }

    /// Whether a function has been described.
    pub(crate) fn know(&self, function: &Bound<'_, PyAny>) -> bool {
        let all = [Differing::Warn, Differing::Refuse, Differing::Ignore];
        all.into_iter().any(|differing| self.find(function, differing).is_some())
    }

    fn find(&self, function: &Bound<'_, PyAny>, differing: Differing) -> Option<Described> {
        let known = lock(&self.known);
        let entry = known.get(&(function.as_ptr() as usize, differing))?;
        let same = entry.reference.bind(function.py()).upgrade().is_some_and(|object| object.is(function));
        same.then(|| entry.described.clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a callable is no object made for one call.
fn is_lasting(function: &Bound<'_, PyAny>) -> bool {
    function.is_exact_instance_of::<PyFunction>()
        || function.is_exact_instance_of::<PyCFunction>()
        || function.is_instance_of::<PyType>()
}

/// What calls must have in common to be expected to behave alike: the function of a method, whatever its object;
/// the function of a partial; the class of another callable object.
pub(crate) fn kind_of<'py>(function: &Bound<'py, PyAny>) -> Bound<'py, PyAny> {
    if is_lasting(function) {
        return function.clone();
    }
    let inner = function.getattr("__func__").or_else(|_| function.getattr("func"));
    inner.unwrap_or_else(|_| function.get_type().into_any())
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
            // A weak reference to a function.
            holder.invoke(())?.getattr(key.cast::<pyo3::types::PyString>()?)?.is(value)
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}
