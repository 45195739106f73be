//! Has the engine make the choice of a report again: for `forkright._replay`.

use forkright_engine::choose::{Case, choose};
use forkright_engine::replay::{Change, Given};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// The verdict of a case, both as JSON; `None` if no plan is allowed.
#[pyfunction]
pub(crate) fn choose_again(case: &str) -> PyResult<Option<String>> {
    let case: Case = serde_json::from_str(case).map_err(wrong)?;
    word(Some(case))
}

/// The verdict about a whole map of so many tasks on a machine with these changes, as JSON; `None` if too little was
/// measured.
#[pyfunction]
pub(crate) fn choose_elsewhere(given: &str, change: &str, tasks: u64) -> PyResult<Option<String>> {
    let given: Given = serde_json::from_str(given).map_err(wrong)?;
    let change: Change = serde_json::from_str(change).map_err(wrong)?;
    word(given.whole(&change, tasks))
}

fn word(case: Option<Case>) -> PyResult<Option<String>> {
    case.and_then(choose).map(|verdict| serde_json::to_string(&verdict).map_err(wrong)).transpose()
}

fn wrong(error: serde_json::Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}
