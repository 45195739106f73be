//! Reads what was recorded of a program, and has the engine advise: for `forkright._why.data`.

use forkright_engine::advice::{self, Program};
use forkright_meter::account::{self, Account, Doing};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use serde_json::json;

use crate::machine;

/// What came of the recordings and what would suit the program, as JSON; `others` are numbers of cores to predict for.
#[pyfunction]
pub(crate) fn account_recordings(
    py: Python<'_>,
    recordings: Vec<Vec<u8>>,
    others: Vec<u32>,
) -> PyResult<String> {
    let machine = machine::machine(py);
    py.detach(|| {
        let account = account::account(&recordings);
        let advice = advice::advise(&program(&account), &machine, &others);
        let states: Vec<Doing> = Doing::ALL.to_vec();
        serde_json::to_string(&json!({ "account": account, "advice": advice, "states": states }))
    })
    .map_err(|error| PyRuntimeError::new_err(error.to_string()))
}

/// The account in the engine's words.
fn program(account: &Account) -> Program {
    let work = &account.work;
    let seconds = |doing: Doing| work.seconds.get(&doing).copied().unwrap_or(0.0);
    let gil_is_known = account.processes.iter().all(|process| process.gil.is_empty());
    // What can't be told computes, as far as anybody knows.
    let held = seconds(Doing::Held) + seconds(Doing::Unknown);
    let waiting = seconds(Doing::Io) + seconds(Doing::LockWait);
    Program {
        serial: work.serial,
        parallel: work.parallel,
        processes: work.processes,
        threads: work.workers,
        demand: Program::demand(
            held,
            seconds(Doing::HeldBlocked),
            seconds(Doing::OffGil),
            waiting,
            gil_is_known,
        ),
        gil_wait: seconds(Doing::GilWait),
        delay: work.delay,
    }
}
