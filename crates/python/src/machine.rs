//! Where what is measured of this machine is kept for the next process: tells the engine the file, which depends on the
//! interpreter, and has it saved at the end.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Once;

use crate::outward::import;
use forkright_engine::estimate::Constant;
use forkright_engine::machine::Machine;
use forkright_engine::{cache, cores, here};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::OnceExt;
use serde_json::{Value, json};

/// Characters of a host's name that tell it from others.
const NAME: usize = 64;

static OPENED: Once = Once::new();

/// What things cost here, as far as this process and those before it have measured it.
pub(crate) fn machine(py: Python<'_>) -> Machine {
    open(py);
    here::machine(&cores::usable())
}

/// Has what this process measured kept for the next one, if it measured anything.
pub(crate) fn keep(py: Python<'_>) {
    if here::has_news() {
        open(py);
        py.detach(here::save);
    }
}

/// What a choice goes by on this machine and where that is kept, as JSON.
#[pyfunction]
pub(crate) fn constants(py: Python<'_>) -> PyResult<String> {
    let machine = machine(py);
    let (known, file) = here::known();
    let mut found =
        serde_json::to_value(&machine).map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
    let Value::Object(fields) = &mut found else {
        return Err(PyRuntimeError::new_err("a machine has figures"));
    };
    fields.remove("cores");
    for value in fields.values_mut() {
        *value = json!({ "value": value, "measured": false, "seen": 0 });
    }
    for constant in Constant::ALL {
        let estimate = known.get(constant);
        if let Some(field) = fields.get_mut(constant.name()) {
            field["measured"] = json!(estimate.value.is_some());
            field["seen"] = json!(estimate.seen);
        }
    }
    Ok(json!({ "file": file, "constants": found }).to_string())
}

fn open(py: Python<'_>) {
    // Without a name for the file nothing is kept, which is no error.
    OPENED.call_once_py_attached(py, || here::keep_in(file(py).ok().flatten()));
}

/// One for each machine, version of Python, place where that is installed, and version of forkright.
fn file(py: Python<'_>) -> PyResult<Option<PathBuf>> {
    let Some(directory) = cache::directory(|name| std::env::var_os(name).map(PathBuf::from)) else {
        return Ok(None);
    };
    let system = rustix::system::uname();
    let tame = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let host: String = system.nodename().to_string_lossy().chars().map(tame).take(NAME).collect();
    let python = py.version_info();
    let (major, minor, patch) = (python.major, python.minor, python.patch);
    let mut installed = DefaultHasher::new();
    import(py, "sys")?.getattr("prefix")?.extract::<String>()?.hash(&mut installed);
    let installed = installed.finish();
    let own = env!("CARGO_PKG_VERSION");
    let name = format!("{host}-python{major}.{minor}.{patch}-{installed:016x}-forkright{own}.json");
    Ok(Some(directory.join(name)))
}
