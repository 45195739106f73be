//! What a map tells of itself, as JSON: plan, verdicts, tasks, what they cost, each worker's part. Python's
//! `Report` words it.

use forkright_engine::crew::Use;
use forkright_engine::plan::Plan;
use serde_json::{Value, json};

use crate::governing::Governing;
use crate::progress::{Totals, Worker};
use crate::work::Work;

/// The version of the data's form: raised when a field changes its meaning.
const FORM: u32 = 1;

pub(crate) fn of_work(
    work: &dyn Work,
    tasks: usize,
    fixed: Option<Plan>,
    governing: Option<&Governing>,
    wall: Option<f64>,
) -> String {
    let progress = work.progress();
    let totals = progress.totals();
    let profile = progress.profile.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    let verdicts: Vec<Value> = governing
        .map(Governing::verdicts)
        .unwrap_or_default()
        .iter()
        .map(|(at, verdict)| json!({ "at": at, "verdict": verdict }))
        .collect();
    let plan = fixed.or_else(|| governing?.verdicts().last().map(|(_, verdict)| verdict.plan));
    let report = json!({
        "form": FORM,
        "function": &*progress.name,
        "chosen": fixed.is_none(),
        "plan": plan.unwrap_or(Plan::SERIAL),
        "verdicts": verdicts,
        "tasks": tasks,
        "done": progress.done(),
        "failed": totals.here.failed + totals.away.failed,
        "wall": wall,
        "cpu": totals.here.cpu + totals.away.cpu,
        "busy": totals.here.wall + totals.away.wall,
        "per_task": {
            "wall": profile.wall(),
            "cpu": profile.cpu(),
            "gil_held": profile.gil_cpu(),
            "off_gil": profile.off_cpu(),
            "waiting": profile.waiting(),
        },
        "pickling": pickling(&totals),
        "workers": workers(&totals),
    });
    report.to_string()
}

/// An executor's: its workers, and for each function what was chosen.
pub(crate) fn of_pool(
    plan: Option<Plan>,
    uses: &[Use],
    is_process: bool,
    functions: Vec<String>,
    wall: f64,
) -> String {
    let functions: Vec<Value> =
        functions.iter().filter_map(|report| serde_json::from_str(report).ok()).collect();
    let sum = |name: &str| functions.iter().filter_map(|function| function[name].as_f64()).sum::<f64>();
    let tasks = uses.iter().map(|using| using.tasks).sum::<u64>() + sum("done") as u64;
    let worker = |using: &Use| Worker {
        id: using.pid,
        is_process,
        tasks: using.tasks,
        busy: using.busy,
        cpu: using.cpu,
    };
    let mut rows: Vec<Value> = uses.iter().map(|using| row(&worker(using))).collect();
    rows.extend(functions.iter().filter_map(|function| function["workers"].as_array()).flatten().cloned());
    let report = json!({
        "form": FORM,
        "function": null,
        "chosen": plan.is_none(),
        "plan": plan,
        "verdicts": [],
        "tasks": tasks,
        "done": tasks,
        "wall": wall,
        "cpu": uses.iter().map(|using| using.cpu).sum::<f64>() + sum("cpu"),
        "busy": uses.iter().map(|using| using.busy).sum::<f64>() + sum("busy"),
        "workers": rows,
        "functions": functions,
    });
    report.to_string()
}

fn pickling(totals: &Totals) -> Value {
    json!({
        "encode": totals.encode,
        "decode": totals.decode,
        "bytes_out": totals.bytes_out,
        "bytes_back": totals.bytes_back,
    })
}

fn workers(totals: &Totals) -> Vec<Value> {
    totals.workers.iter().map(row).collect()
}

fn row(worker: &Worker) -> Value {
    json!({
        "kind": if worker.is_process { "process" } else { "thread" },
        "id": worker.id,
        "tasks": worker.tasks,
        "busy": worker.busy,
        "cpu": worker.cpu,
    })
}
