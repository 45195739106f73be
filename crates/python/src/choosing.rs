//! An executor that chooses: one stream of work for each function submitted to it, each under a governor.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use forkright_engine::climb::Bearable;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use serde_json::Value;

use crate::call::Call;
use crate::errors;
use crate::functions::{Differing, kind_of};
use crate::future::face;
use crate::governing::Governing;
use crate::hands::Hands;
use crate::job;
use crate::memory::{self, Learned};
use crate::recruit::Manner;
use crate::report::Facts;
use crate::run::{Now, Run};
use crate::submissions::{Submissions, Submitted};
use crate::work::Work;

/// Functions beyond this many share what is known by nothing but their threads: the oldest idle ones are forgotten.
const MANY: usize = 64;
/// Threads end after this long without work.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Choosing {
    hands: Arc<Hands>,
    workers: Option<u32>,
    shared: Option<bool>,
    manner: Manner,
    /// What its calls belong to in worker processes.
    job: u32,
    streams: Mutex<HashMap<usize, Arc<Stream>>>,
    /// What became of those that have ended.
    ended: Mutex<Vec<Facts>>,
}

/// The calls of one function.
struct Stream {
    key: Py<PyAny>,
    work: Arc<Submissions>,
    run: Arc<Run>,
    /// What is known of how many may be in flight.
    bearable: Bearable,
    governing: Mutex<Option<Arc<Governing>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Choosing {
    pub(crate) fn new(
        workers: Option<u32>,
        shared: Option<bool>,
        prefix: String,
        initializer: Option<(Py<PyAny>, Py<PyTuple>)>,
        manner: Manner,
    ) -> Choosing {
        let hands = Hands::new(1, prefix, Some(PATIENCE), initializer);
        // Workers of its own are all its own.
        let job = if manner.is_none() { job::new() } else { 0 };
        Choosing { hands, workers, shared, manner, job, streams: Mutex::default(), ended: Mutex::default() }
    }

    pub(crate) fn hands(&self) -> &Arc<Hands> {
        &self.hands
    }

    pub(crate) fn submit<'py>(
        &self,
        function: &Bound<'py, PyAny>,
        arguments: &Bound<'py, PyTuple>,
        options: Option<&Bound<'py, PyDict>>,
        priority: i32,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = function.py();
        let call = Arc::new(Call::owned());
        let future = face(py, &call)?;
        if self.hands.is_broken() {
            return Err(errors::broken(py, "a thread's initializer raised an exception", None));
        }
        let stream = self.stream(function)?;
        stream.work.push(
            py,
            Submitted {
                call,
                function: function.clone().unbind(),
                arguments: arguments.clone().unbind(),
                options: options.map(|options| options.clone().unbind()),
                priority,
            },
        );
        stream.wake(py, self.workers, self.shared)?;
        Ok(future)
    }

    fn stream(&self, function: &Bound<'_, PyAny>) -> PyResult<Arc<Stream>> {
        let key = kind_of(function);
        // The stream holds the key, so its address means this object as long as the stream is here.
        let address = key.as_ptr() as usize;
        if let Some(stream) = lock(&self.streams).get(&address) {
            return Ok(Arc::clone(stream));
        }
        let work = Submissions::new(
            errors::name_of(function).into(),
            Differing::under_choice(self.shared),
            self.job,
        );
        let run = Run::new(Arc::clone(&work) as Arc<dyn Work>, Arc::clone(&self.hands));
        run.set_manner(self.manner.clone());
        run.set_width(1, false);
        let learned = memory::recall(function).unwrap_or_default();
        *lock(&work.progress().profile) = learned.profile;
        let (key, bearable) = (key.unbind(), learned.bearable);
        let stream = Arc::new(Stream { key, work, run, bearable, governing: Mutex::default() });
        let mut streams = lock(&self.streams);
        let idle = if streams.len() >= MANY {
            let idle = streams.iter().find(|(_, stream)| stream.work.is_over()).map(|(address, _)| *address);
            idle.and_then(|address| streams.remove(&address))
        } else {
            None
        };
        streams.insert(address, Arc::clone(&stream));
        drop(streams);
        if let Some(idle) = idle {
            self.bury(function.py(), &idle);
        }
        Ok(stream)
    }

    /// How the calls of this function run now; none of it has come if nothing is known.
    pub(crate) fn now(&self, function: &Bound<'_, PyAny>) -> Now {
        let address = kind_of(function).as_ptr() as usize;
        let stream = lock(&self.streams).get(&address).cloned();
        stream.map_or((0, 1, 0), |stream| stream.run.now())
    }

    /// Cancels the calls that have not started.
    pub(crate) fn cancel(&self, py: Python<'_>) {
        let streams: Vec<_> = lock(&self.streams).values().cloned().collect();
        for stream in streams {
            for submitted in stream.work.drain() {
                submitted.call.cancel_unseen(py);
            }
            stream.run.cancel_waiting(py);
        }
    }

    /// Kills the worker processes that run its calls.
    pub(crate) fn kill_running(&self) {
        let streams: Vec<_> = lock(&self.streams).values().cloned().collect();
        for stream in streams {
            stream.run.kill_running();
        }
    }

    /// Whether all that was submitted is over.
    pub(crate) fn is_over(&self) -> bool {
        lock(&self.streams).values().all(|stream| stream.work.is_over())
    }

    /// Ends threads and worker processes; nothing is under way.
    pub(crate) fn end(&self) {
        let streams: Vec<_> = lock(&self.streams).drain().map(|(_, stream)| stream).collect();
        Python::attach(|py| streams.iter().for_each(|stream| self.bury(py, stream)));
        self.hands.queue.close();
    }

    /// What is known of each function, for the report.
    pub(crate) fn reports(&self) -> Vec<Value> {
        let streams: Vec<_> = lock(&self.streams).values().cloned().collect();
        let mut reports: Vec<_> = lock(&self.ended).iter().map(Facts::to_value).collect();
        reports.extend(streams.iter().map(|stream| stream.facts().to_value()));
        reports
    }

    /// Ends what is known of a function, but for its report.
    fn bury(&self, py: Python<'_>, stream: &Stream) {
        stream.end(py);
        let facts = stream.facts();
        let mut ended = lock(&self.ended);
        if ended.len() >= MANY {
            ended.remove(0);
        }
        ended.push(facts);
    }
}

impl Stream {
    /// Has somebody take what waits: a thread, and the governor to watch it.
    fn wake(&self, py: Python<'_>, workers: Option<u32>, shared: Option<bool>) -> PyResult<()> {
        // Not under the lock: beginning runs Python, and another thread may come here meanwhile.
        let known = lock(&self.governing).clone();
        match known {
            Some(governing) => governing.resume(py)?,
            None => {
                let begun = Governing::begin(py, &self.run, workers, None, self.bearable, shared, None)?;
                lock(&self.governing).get_or_insert(begun);
            }
        }
        self.run.rouse(py)
    }

    fn facts(&self) -> Facts {
        let governing = lock(&self.governing).clone();
        let work: &dyn Work = &*self.work;
        let tasks = work.progress().done() + work.pending();
        Facts::of(work.progress(), tasks, None, governing.as_deref(), None, None)
    }

    /// Ends its workers and remembers what was learned.
    fn end(&self, py: Python<'_>) {
        self.run.end(py);
        if let Some(governing) = &*lock(&self.governing) {
            let profile = lock(&self.work.progress().profile).clone();
            memory::keep(self.key.bind(py), Learned { profile, bearable: governing.bearable() });
        }
    }
}
