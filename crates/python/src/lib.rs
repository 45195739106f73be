//! The extension module `forkright._core`: translates between Python and the engine, and decides nothing.
//!
//! Map of the files: `call` and `future` are what people wait for. `pool` takes submitted calls; `run` keeps any
//! `work` going, which is a `batch` (a map) or `submissions` (the calls of one function, for an executor that is
//! `choosing`), with its `progress`; `governing` chooses meanwhile, with a `pause` of the caller where it prepares
//! a move. `hands` are the threads of this process, `recruit` the worker processes, `collector` looks after them;
//! `serve` is a worker process from the inside. A `job` tells whose call a thread runs. `codec`, `stream`, `functions` and `window` carry values, and
//! whatever calls Python code goes by `outward`; `meter` registers threads with the sampler, an `onlooker` has it
//! look where nobody chooses, a `ledger` keeps what was measured of each function, `memory` what the next map of it
//! starts with and an `opening` what was so before; a `glimpse` tells how far a map is; `report`, `errors` and `cli` speak to people; `why` records
//! programs that were not written for forkright, a `guide` knows where their threads are, and `account` tells what
//! came of it; `replay` makes the choice of a report again; `machine` says where what is measured of this one is
//! kept.
#![deny(unsafe_code)]

mod account;
mod batch;
mod call;
mod choosing;
mod cli;
mod codec;
mod collector;
mod errors;
mod functions;
mod future;
mod glimpse;
mod governing;
mod guide;
mod hands;
mod job;
mod ledger;
mod machine;
mod memory;
mod meter;
mod natives;
mod onlooker;
mod opening;
mod outward;
mod pause;
mod pool;
mod progress;
mod recruit;
mod replay;
mod report;
mod run;
mod serve;
mod stream;
mod submissions;
mod why;
mod window;
mod work;

use pyo3::prelude::*;

#[pymodule]
mod _core {
    #[pymodule_export]
    use super::account::account_recordings;
    #[pymodule_export]
    use super::cli::parse_command;
    #[pymodule_export]
    use super::codec::Sink;
    #[pymodule_export]
    use super::future::FutureBase;
    #[pymodule_export]
    use super::glimpse::Glimpse;
    #[pymodule_export]
    use super::job::current_job;
    #[pymodule_export]
    use super::machine::constants;
    #[pymodule_export]
    use super::pool::Pool;
    #[pymodule_export]
    use super::recruit::{keep_workers, prepare_by_value, prepare_process};
    #[pymodule_export]
    use super::replay::{choose_again, choose_elsewhere};
    #[pymodule_export]
    use super::report::MapReport;
    #[pymodule_export]
    use super::run::run_map;
    #[pymodule_export]
    use super::serve::Worker;
    #[pymodule_export]
    use super::why::{begin_recording, end_recording, enlist, pause_recording, resume_recording};
    #[pymodule_export]
    use super::window::{open_shared, share, shared_place};
    #[pymodule_export]
    use super::{
        answered, close_shared, cores_are_taken, cpu_count, die_with_parent, limits, meter_state,
        release_shared, take_share,
    };
    use pyo3::exceptions::PyImportError;
    use pyo3::prelude::*;

    #[pymodule_init]
    #[expect(unsafe_code, reason = "PyO3 has no safe name for the interpreter's id")]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        // SAFETY: attached, as the token of `module` proves; the current interpreter always has an id.
        let id = unsafe { pyo3::ffi::PyInterpreterState_GetID(pyo3::ffi::PyInterpreterState_Get()) };
        if id != 0 {
            // PyO3's types are static: two interpreters would share them.
            return Err(PyImportError::new_err(
                "forkright works in the main interpreter only, not in sub-interpreters",
            ));
        }
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}

/// Cores this process may use: the least of its affinity and its control groups' quotas.
#[pyfunction]
fn cpu_count() -> u32 {
    forkright_engine::cores::usable().usable
}

/// Whether more threads are ready to run than there are cores, on the whole machine; the one that asks counts.
#[pyfunction]
fn cores_are_taken() -> bool {
    forkright_engine::cores::are_taken()
}

/// Has this process, a worker, count no more cores than its share of them.
#[pyfunction]
fn take_share(cores: u32) {
    forkright_engine::cores::set_share(cores);
}

/// Tasks that worker processes of this process have finished.
#[pyfunction]
fn answered() -> u64 {
    forkright_engine::crew::answered()
}

/// What limits the cores, as JSON.
#[pyfunction]
fn limits() -> PyResult<String> {
    serde_json::to_string(&forkright_engine::cores::usable())
        .map_err(|error| pyo3::exceptions::PyRuntimeError::new_err(error.to_string()))
}

/// Why the GIL can not be seen from outside, in a sentence; empty if it can.
#[pyfunction]
#[pyo3(name = "meter")]
fn meter_state(py: Python<'_>) -> String {
    meter::sampler(py).gil().err().map_or_else(String::new, |reason| reason.to_string())
}

/// Has the kernel kill this process when its parent ends. False: the parent is gone already.
#[pyfunction]
fn die_with_parent(parent: i32) -> PyResult<bool> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(std::io::Error::from)?;
    // The parent may have ended before the call above.
    Ok(rustix::process::getppid().is_some_and(|now| now.as_raw_nonzero().get() == parent))
}

/// Ends the threads and worker processes that maps share; for the end of the interpreter.
///
/// Waits for threads without a limit, as the standard library's pools do: one that came back to a finished
/// interpreter would be torn down in the middle of our code. A second Ctrl-C ends the wait.
#[pyfunction]
#[pyo3(signature = (timeout))]
fn close_shared(py: Python<'_>, timeout: f64) -> PyResult<()> {
    let hands = run::take_common();
    hands.queue.close();
    while hands.alive() > 0 || run::STARTERS.load(std::sync::atomic::Ordering::Acquire) > 0 {
        py.detach(|| std::thread::sleep(std::time::Duration::from_millis(1)));
        py.check_signals()?;
    }
    let limit = std::time::Duration::try_from_secs_f64(timeout).unwrap_or_default();
    for staff in recruit::Staff::take_all() {
        staff.crew().close();
        py.detach(|| staff.crew().wait_vacated(limit));
        staff.crew().dismiss();
        staff.collector.join(py);
    }
    machine::keep(py);
    Ok(())
}

/// Ends the threads and worker processes that maps share, those that have something to do when that is done. Waits for
/// the others, `timeout` seconds at most.
#[pyfunction]
#[pyo3(signature = (timeout))]
fn release_shared(py: Python<'_>, timeout: f64) -> PyResult<()> {
    let until = future::deadline(Some(timeout))?;
    let hands = run::take_common();
    hands.hasten();
    recruit::Staff::retire_shared(py);
    let goes_on = || hands.is_idle() && hands.alive() > 0 || recruit::Staff::are_leaving();
    while goes_on() && until.is_none_or(|until| std::time::Instant::now() < until) {
        py.detach(|| std::thread::sleep(std::time::Duration::from_millis(1)));
        py.check_signals()?;
    }
    recruit::Staff::bury_retired(py);
    Ok(())
}
