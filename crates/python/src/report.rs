//! What a map tells of itself, as JSON: plan, verdicts, tasks, what they cost, each worker's part. Python's
//! `Report` words it.

use forkright_engine::choose::{Leave, Verdict, foremost};
use forkright_engine::cores;
use forkright_engine::crew::Use;
use forkright_engine::here;
use forkright_engine::plan::Plan;
use forkright_engine::profile::{Demand, Evidence, Profile};
use forkright_engine::replay::{self, Given};
use forkright_meter::native::Hidden;
use forkright_meter::{Blame, Convoy, Part};
use pyo3::prelude::*;
use serde_json::{Map, Value, json};

use crate::governing::Governing;
use crate::ledger::{Ledger, Measured};
use crate::opening::Since;
use crate::progress::{Progress, Totals, Worker};

/// The version of the data's form: raised when a field changes its meaning. Until 2, `plan` was the last one in force.
const FORM: u32 = 3;

/// What a map has come to, or one function of an executor that chooses, to be worded if somebody asks.
pub(crate) struct Facts {
    chosen: bool,
    plan: Plan,
    /// Each with the seconds since the start.
    verdicts: Vec<(f64, Verdict)>,
    /// Which of them to tell of, see [`main_verdict`].
    told: Option<usize>,
    given: Given,
    shared: Option<bool>,
    draws: Option<String>,
    tasks: usize,
    done: usize,
    totals: Totals,
    profile: Profile,
    measured: Measured,
    wall: Option<f64>,
    since: Option<Since>,
}

impl Facts {
    pub(crate) fn of(
        progress: &Progress,
        tasks: usize,
        fixed: Option<Plan>,
        governing: Option<&Governing>,
        wall: Option<f64>,
        since: Option<Since>,
    ) -> Facts {
        let profile = progress.profile.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let verdicts = governing.map(Governing::verdicts).unwrap_or_default();
        let measured = progress.entry.measured();
        let demand = replay::demand(profile.demand(), seen(&measured));
        let totals = progress.totals();
        let told = main_verdict(&verdicts, &totals, wall);
        Facts {
            chosen: fixed.is_none(),
            plan: fixed.or(told.map(|told| verdicts[told].1.plan)).unwrap_or(Plan::SERIAL),
            told,
            given: match governing {
                Some(governing) => governing.given(demand, progress.refusal()),
                None => of_fixed(demand),
            },
            shared: governing.and_then(Governing::shared),
            draws: progress.draws.get().cloned(),
            verdicts,
            tasks,
            done: progress.done(),
            totals,
            profile,
            measured,
            wall,
            since,
        }
    }

    pub(crate) fn to_value(&self) -> Value {
        let Facts { totals, profile, measured, since, .. } = self;
        let verdict = |(at, verdict): &(f64, Verdict)| json!({ "at": at, "verdict": verdict });
        json!({
            "form": FORM,
            "function": &*measured.name,
            "chosen": self.chosen,
            "plan": self.plan,
            "verdicts": self.verdicts.iter().map(verdict).collect::<Vec<_>>(),
            "told": self.told,
            "given": self.given,
            "shared_state": self.shared,
            "draws": self.draws,
            "tasks": self.tasks,
            "done": self.done,
            "failed": totals.here.failed + totals.away.failed,
            "wall": self.wall,
            "cpu": totals.here.cpu + totals.away.cpu,
            "busy": totals.here.wall + totals.away.wall,
            "per_task": {
                "wall": profile.wall(),
                "cpu": profile.cpu(),
                "gil_held": profile.gil_cpu(),
                "off_gil": profile.off_cpu(),
                "waiting": profile.waiting(),
            },
            "reading": reading(measured),
            "blame": blame(&measured.blame),
            "convoys": convoys(std::slice::from_ref(measured)),
            "pickling": pickling(totals),
            "workers": workers(totals),
            "native": since.as_ref().and_then(|since| since.hidden.as_ref()).map(native),
            "meter": since.as_ref().map(meter),
        })
    }
}

/// The plan that did most of the work, if one was chosen; `wall` seconds after the start the map is over.
pub(crate) fn main_plan(governing: &Governing, progress: &Progress, wall: f64) -> Option<Plan> {
    let verdicts = governing.verdicts();
    main_verdict(&verdicts, &progress.totals(), Some(wall)).map(|told| verdicts[told].1.plan)
}

/// Which verdict to tell of, see [`foremost`].
fn main_verdict(verdicts: &[(f64, Verdict)], totals: &Totals, wall: Option<f64>) -> Option<usize> {
    let busy = |is_process: bool| -> f64 {
        totals.workers.iter().filter(|worker| worker.is_process == is_process).map(|worker| worker.busy).sum()
    };
    foremost(verdicts, busy(true) > busy(false), wall)
}

/// The report of a map that is over. Most are never read, and wording one takes longer than a small map.
#[pyclass(frozen, module = "forkright._core")]
pub(crate) struct MapReport(pub(crate) Facts);

#[pymethods]
impl MapReport {
    fn to_json(&self) -> String {
        self.0.to_value().to_string()
    }
}

/// The functions of an executor with a fixed plan.
pub(crate) fn of_ledger(ledger: &Ledger, plan: Option<Plan>) -> Vec<Value> {
    let function = |measured: Measured| {
        json!({
            "form": FORM,
            "function": &*measured.name,
            "chosen": false,
            "plan": plan,
            "verdicts": [],
            "given": of_fixed(seen(&measured)),
            "tasks": measured.cost.tasks,
            "done": measured.cost.tasks,
            "failed": measured.cost.failed,
            "wall": null,
            "cpu": measured.cost.cpu,
            "busy": measured.cost.wall,
            "reading": reading(&measured),
            "blame": blame(&measured.blame),
            "convoys": convoys(&[measured]),
            "workers": [],
        })
    };
    ledger.measured().into_iter().map(function).collect()
}

/// An executor's: its workers, and for each function what was measured, and chosen if that was to be done.
pub(crate) fn of_pool(
    plan: Option<Plan>,
    uses: &[Use],
    is_process: bool,
    functions: Vec<Value>,
    wall: f64,
    since: Option<&Since>,
) -> String {
    // With a fixed plan the workers' own sums have the functions' tasks in them.
    let sum = |name: &str| match plan {
        // Of nothing the sum is -0.0.
        None => 0.0 + functions.iter().filter_map(|function| function[name].as_f64()).sum::<f64>(),
        Some(_) => 0.0,
    };
    let tasks = uses.iter().map(|using| using.tasks).sum::<u64>() + sum("done") as u64;
    let worker = |using: &Use| Worker {
        id: using.pid,
        is_process,
        tasks: using.tasks,
        busy: using.busy,
        cpu: using.cpu,
    };
    let all = |name: &str| -> Vec<Value> {
        functions.iter().filter_map(|function| function[name].as_array()).flatten().cloned().collect()
    };
    let mut rows: Vec<Value> = uses.iter().map(|using| row(&worker(using))).collect();
    rows.extend(all("workers"));
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
        "convoys": all("convoys"),
        "native": since.and_then(|since| since.hidden.as_ref()).map(native),
        "meter": since.map(meter),
        "functions": functions,
    });
    report.to_string()
}

/// What one task asks for, as its samples tell; none where a part is not known.
fn seen(measured: &Measured) -> Option<Demand> {
    let (reading, cost) = (&measured.reading, &measured.cost);
    let [held, blocked, off, io, locks] =
        [reading.held, reading.held_blocked, reading.off_gil, reading.io, reading.lock_wait];
    let each = |part: Option<Part>| Some(part?.share * cost.wall / cost.tasks.max(1) as f64);
    Some(Demand {
        held: each(held)?,
        blocked: each(blocked)?,
        off: each(off)?,
        waiting: each(io)? + each(locks)?,
        gil: Evidence::Measured,
        ..Demand::default()
    })
}

/// For a choice about what ran under a fixed plan: nobody asked whether it may leave.
fn of_fixed(demand: Option<Demand>) -> Given {
    let machine = here::machine(&cores::usable());
    Given { demand, machine, workers: None, may_leave: Leave::Unknown }
}

/// Where the time of measured tasks went: each part in seconds, as a share of the wall time with the share's standard
/// error, and the samples it rests on; null where it isn't known.
fn reading(measured: &Measured) -> Value {
    let reading = &measured.reading;
    let part = |(name, part): (&str, Option<Part>)| {
        let known = part.map(|part| {
            json!({
                "seconds": part.seconds,
                "share": part.share,
                "error": part.error,
                "samples": part.samples,
            })
        });
        (name.to_owned(), json!(known))
    };
    let mut parts: Map<String, Value> = reading.parts().into_iter().map(part).collect();
    parts.insert("wall".into(), json!(reading.wall));
    parts.insert("stands_for".into(), json!(measured.stands_for));
    parts.insert("cpu".into(), json!(reading.cpu));
    parts.insert("samples".into(), json!(reading.samples));
    Value::Object(parts)
}

/// Which functions' holding made this one wait for the GIL, and how often that was seen.
fn blame(blame: &[Blame]) -> Vec<Value> {
    blame.iter().map(|blame| json!({ "by": blame.by.as_deref(), "samples": blame.samples })).collect()
}

fn convoys(functions: &[Measured]) -> Vec<Value> {
    let convoy = |measured: &Measured| {
        let Convoy { hog, wait, off_gil, during } = measured.convoy.as_ref()?;
        let hog = hog.as_deref();
        let starved = &*measured.name;
        Some(json!({ "starved": starved, "hog": hog, "wait": wait, "off_gil": off_gil, "during": during }))
    };
    functions.iter().filter_map(convoy).collect()
}

/// CPU time of threads that Python did not start.
fn native(hidden: &Hidden) -> Value {
    let thread = |thread: &forkright_meter::native::Thread| json!({ "id": thread.tid, "name": thread.name, "cpu": thread.cpu.as_secs_f64() });
    json!({
        "cpu": hidden.cpu.as_secs_f64(),
        "threads": hidden.threads.iter().map(thread).collect::<Vec<_>>(),
        "libraries": hidden.libraries,
    })
}

/// What measuring took, and what it could not see.
fn meter(since: &Since) -> Value {
    let took = since.meter.map(|(cost, wall)| {
        let cpu = cost.cpu.as_secs_f64();
        let share = if wall > 0.0 { cpu / wall } else { 0.0 };
        json!({ "ticks": cost.ticks, "cpu": cpu, "wall": wall, "share": share })
    });
    json!({ "unknown": since.unknown, "took": took })
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
