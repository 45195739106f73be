//! Where the measuring of a map or a pool begins: what the meter had cost until then, and what each thread of the
//! process had used. At the end the report tells of the difference.
//!
//! It is taken at the sampler's next tick, on the sampler's thread: work that is over sooner pays nothing for it.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use forkright_meter::native::{Hidden, Snapshot};
use forkright_meter::{Cost, Glance, Pace, Sampler, Watch, clock};
use pyo3::prelude::*;

use crate::meter;
use crate::outward::{Outward as _, import};

/// CPU time of native threads that is worth a line: at least this, and this part of the time since the opening.
const LEAST: Duration = Duration::from_millis(10);
const LEAST_SHARE: f64 = 0.01;

pub(crate) struct Opening {
    sampler: Arc<Sampler>,
    taken: OnceLock<Taken>,
}

struct Taken {
    now: Duration,
    cost: Cost,
    /// CPU time of the whole process.
    cpu: Duration,
    threads: Snapshot,
}

/// What came since the opening.
pub(crate) struct Since {
    /// Why the GIL can't be seen, if so.
    pub(crate) unknown: Option<String>,
    /// What the meter took, and in how many seconds; none where it had no occasion to look.
    pub(crate) meter: Option<(Cost, f64)>,
    /// What went to threads that Python did not start.
    pub(crate) hidden: Option<Hidden>,
}

impl Opening {
    /// One that somebody else takes at the sampler's next tick.
    pub(crate) fn new(py: Python<'_>) -> Arc<Opening> {
        Arc::new(Opening { sampler: meter::sampler(py), taken: OnceLock::new() })
    }

    /// One that is taken at the next tick.
    pub(crate) fn begin(py: Python<'_>) -> Arc<Opening> {
        let opening = Opening::new(py);
        let weak: Weak<Opening> = Arc::downgrade(&opening);
        // Where no thread can be had nothing is measured.
        let _ = opening.sampler.watch(weak);
        opening
    }

    pub(crate) fn since(&self, py: Python<'_>) -> Since {
        let unknown = self.sampler.gil().err().map(|unknown| unknown.to_string());
        let Some(taken) = self.taken.get() else { return Since { unknown, meter: None, hidden: None } };
        let wall = clock::monotonic().saturating_sub(taken.now);
        let least = LEAST.max(wall.mul_f64(LEAST_SHARE));
        // All threads together may have used less: to look at each would take longer than many a map.
        let hidden = (clock::process_cpu().saturating_sub(taken.cpu) >= least)
            .then(|| Snapshot::take().since(&taken.threads).hidden(&python_threads(py), least))
            .flatten();
        let cost = self.sampler.cost().since(&taken.cost);
        Since { unknown, meter: Some((cost, wall.as_secs_f64())), hidden }
    }
}

impl Watch for Opening {
    fn tick(&self, glance: &Glance<'_>) -> Pace {
        let taken = || Taken {
            now: glance.now,
            cost: self.sampler.cost(),
            cpu: clock::process_cpu(),
            threads: Snapshot::take(),
        };
        self.taken.get_or_init(taken);
        Pace::Done
    }
}

/// The kernel's ids of the threads that Python knows.
pub(crate) fn python_threads(py: Python<'_>) -> Vec<i32> {
    let ids = || -> PyResult<Vec<i32>> {
        let threads = import(py, "threading")?.invoke_method("enumerate", ())?;
        let id = |thread: PyResult<Bound<'_, PyAny>>| thread?.getattr("native_id")?.extract::<Option<i32>>();
        Ok(threads.try_iter()?.map(id).collect::<PyResult<Vec<_>>>()?.into_iter().flatten().collect())
    };
    // Without the list all threads would look native: better none.
    let mut known = ids().unwrap_or_else(|_| forkright_meter::native::tids());
    known.push(clock::current_tid());
    known
}
