//! Records a program that was not written for forkright: registers its threads with the recorder, and has a thread, the
//! teller, ask them where they are (`guide`). `forkright._why` puts it into programs.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use forkright_meter::record::Record;
use forkright_meter::thrift::{self, Thrift};
use forkright_meter::{Entry, Recorder, Resident, Sampler, Subject, clock, residents, wait_gone};
use forkright_shm::pid;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::guide::{Guide, Map};
use crate::meter;
use crate::outward::{Outward as _, import};

/// How often threads are asked where they are, for so long, and how often later: each time somebody must give up the
/// GIL for it. And the most that this may take of a core: with the sampler's own limits, 5 % at first and 1 % later.
const ASK_FIRST: Duration = Duration::from_millis(20);
const LIMIT_FIRST: f64 = 0.01;
const FIRST: u32 = 50;
const ASK_LATER: Duration = Duration::from_millis(50);
const LIMIT_LATER: f64 = 0.0025;
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The recording of this process, and the process it belongs to: a forked child begins its own.
static CURRENT: Mutex<Option<(u32, Arc<Recording>)>> = Mutex::new(None);

thread_local! {
    /// The thread's entry: it ends with the thread. No frame of ours may wait for that below the program's, as the
    /// interpreter ends daemon threads by unwinding their stacks.
    static OWN: RefCell<Option<Entry>> = const { RefCell::new(None) };
}

fn current() -> Option<Arc<Recording>> {
    let current = lock(&CURRENT);
    let (process, recording) = current.as_ref()?;
    (*process == pid::current()).then(|| Arc::clone(recording))
}

/// One recording under way.
pub(crate) struct Recording {
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) map: Map,
    /// The Python threads, by `threading.get_ident()`, which those that come later have again.
    pub(crate) threads: Mutex<HashMap<u64, Known>>,
    teller: Mutex<Option<Teller>>,
    guide: Mutex<Guide>,
    guests: Mutex<Guests>,
    /// How many threads are forking.
    pauses: Mutex<u32>,
}

/// A registered thread.
#[derive(Clone, Copy)]
pub(crate) struct Known {
    pub(crate) tid: i32,
    /// The recorder's number of it.
    pub(crate) thread: u32,
}

/// Threads that do not register themselves: those that were there before, that `_thread` starts, and that other
/// libraries start and have call into Python. They don't say when they end, either.
#[derive(Default)]
struct Guests {
    /// By their tids.
    seated: HashMap<i32, Guest>,
    /// Seen once: most register themselves a moment later.
    at_the_door: HashSet<i32>,
}

struct Guest {
    thread_state: Option<usize>,
    entry: Entry,
}

/// The thread that asks where the others are.
struct Teller {
    thread: JoinHandle<i32>,
    stop: Arc<(Mutex<bool>, Condvar)>,
}

/// Begins to record this process into `file`, with the calling thread as its first; ends what was recorded before.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "called in one place, by _why/inject")]
pub(crate) fn begin_recording(
    py: Python<'_>,
    file: &str,
    python: String,
    argv: Vec<String>,
    library: Vec<String>,
    standard: String,
    rests: Vec<String>,
    thorough: bool,
) -> PyResult<()> {
    end_recording(py)?;
    // Not the sampler that tasks are measured by, whose watches start threads.
    let sampler = Sampler::apart(meter::discover(py));
    let recorder = Recorder::begin(sampler, Path::new(file), &Subject { python, argv }, thorough)?;
    let recording = Arc::new(Recording {
        recorder,
        map: Map { library, standard, rests },
        threads: Mutex::default(),
        teller: Mutex::default(),
        guide: Mutex::default(),
        guests: Mutex::default(),
        pauses: Mutex::default(),
    });
    let entry = recording.enter(py)?;
    let name = name_of(py, ident(py)?)?.unwrap_or_else(|| "MainThread".to_owned());
    recording.name(entry.thread(), &name);
    OWN.set(Some(entry));
    recording.welcome(&others(py)?, true);
    recording.start_telling()?;
    *lock(&CURRENT) = Some((pid::current(), recording));
    Ok(())
}

/// Ends the recording of this process, if there is one. The thread that began it calls this.
#[pyfunction]
pub(crate) fn end_recording(py: Python<'_>) -> PyResult<()> {
    let recording = current();
    *lock(&CURRENT) = None;
    let Some(recording) = recording else { return Ok(()) };
    py.detach(|| recording.stop_telling());
    drop(OWN.take());
    let guests = std::mem::take(&mut *lock(&recording.guests));
    drop(guests);
    let guide = std::mem::take(&mut *lock(&recording.guide));
    drop(guide);
    py.detach(|| recording.recorder.end());
    Ok(())
}

/// Stops every thread of the meter: the process is about to fork.
#[pyfunction]
pub(crate) fn pause_recording(py: Python<'_>) {
    if let Some(recording) = current() {
        // Without the GIL: the teller may be waiting for it, and another thread that forks for this one.
        py.detach(|| {
            let mut pauses = lock(&recording.pauses);
            *pauses += 1;
            if *pauses == 1 {
                recording.stop_telling();
                recording.recorder.pause();
            }
        });
    }
}

/// Goes on in the process that forked, a moment later: Python counts the threads once more after this, to warn of a fork
/// beside them.
#[pyfunction]
#[expect(unsafe_code, reason = "PyO3 has no safe name for it")]
pub(crate) fn resume_recording(py: Python<'_>) {
    let Some(recording) = current() else { return };
    let left = py.detach(|| {
        let mut pauses = lock(&recording.pauses);
        // One that began while another thread was forking has none to end.
        *pauses = pauses.saturating_sub(1);
        *pauses
    });
    if left > 0 {
        return;
    }
    // The main thread does what is pending between two of the program's instructions; a fork in another thread is one
    // beside threads in any case.
    let is_main = clock::current_tid() == pid::current() as i32;
    // SAFETY: attached, as the token proves; the function is there for good and takes its argument for nothing.
    let is_pending =
        is_main && unsafe { pyo3::ffi::Py_AddPendingCall(Some(go_on), std::ptr::null_mut()) } == 0;
    if !is_pending {
        recording.go_on(py);
    }
}

/// What is pending after a fork. Whatever comes of it, the program goes on as it would.
extern "C" fn go_on(_nothing: *mut std::ffi::c_void) -> std::ffi::c_int {
    Python::attach(|py| current().inspect(|recording| recording.go_on(py)));
    0
}

/// Registers the calling thread, until it ends, under this name; does nothing where nothing is recorded.
#[pyfunction]
pub(crate) fn enlist(py: Python<'_>, name: &Bound<'_, PyAny>) {
    let Some(recording) = current() else { return };
    let name = lossy(name);
    let own = clock::current_tid();
    let seated = lock(&recording.guests).seated.get(&own).map(|guest| guest.entry.thread());
    if let Some(thread) = seated {
        recording.name(thread, &name);
        return;
    }
    let known = OWN
        .with_borrow(|own| own.as_ref().filter(|entry| entry.is_of(&recording.recorder)).map(Entry::thread));
    let thread = match known {
        Some(thread) => thread,
        None => {
            // Nothing that measuring trips over may keep a thread from starting.
            let Ok(entry) = recording.enter(py) else { return };
            let thread = entry.thread();
            OWN.set(Some(entry));
            thread
        }
    };
    recording.name(thread, &name);
}

/// The text of what should be a string, whatever is in it; empty if it is none.
pub(crate) fn lossy(text: &Bound<'_, PyAny>) -> String {
    text.cast::<PyString>().map_or_else(|_| String::new(), |text| text.to_string_lossy().into_owned())
}

/// What `threading` calls a thread. Runs no Python code, as the program must not notice that it is asked.
pub(crate) fn name_of(py: Python<'_>, ident: u64) -> PyResult<Option<String>> {
    let active = import(py, "threading")?.getattr("_active")?.cast_into::<PyDict>()?;
    let Some(thread) = active.get_item(ident)? else { return Ok(None) };
    Ok(thread.getattr("_name").ok().map(|name| lossy(&name)))
}

impl Recording {
    fn enter(self: &Arc<Self>, py: Python<'_>) -> PyResult<Entry> {
        let ident: u64 = ident(py)?;
        let entry = self.recorder.enter(meter::thread_state(py));
        let known = Known { tid: clock::current_tid(), thread: entry.thread() };
        lock(&self.threads).insert(ident, known);
        Ok(entry)
    }

    /// Registers threads that have not done so themselves, `at_once` or at second sight, and takes leave of those that
    /// are no more. `present` are all there are.
    pub(crate) fn welcome(&self, present: &[Present], at_once: bool) {
        let own = clock::current_tid();
        let mut guests = lock(&self.guests);
        let mut threads = lock(&self.threads);
        guests.seated.retain(|tid, guest| {
            // With another thread state it comes back as another: what it did meanwhile was not seen.
            let stays = present.iter().any(|one| one.tid == *tid && one.thread_state == guest.thread_state);
            if !stays {
                threads.retain(|_, known| known.tid != *tid);
            }
            stays
        });
        guests.at_the_door.retain(|tid| present.iter().any(|one| one.tid == *tid));
        for &Present { ident, tid, thread_state } in present {
            let is_known = threads.get(&ident).is_some_and(|known| known.tid == tid);
            if tid == own || is_known {
                continue;
            }
            if !at_once && guests.at_the_door.insert(tid) {
                continue;
            }
            let entry = self.recorder.enter_guest(tid, thread_state);
            threads.insert(ident, Known { tid, thread: entry.thread() });
            guests.seated.insert(tid, Guest { thread_state, entry });
        }
    }

    pub(crate) fn name(&self, thread: u32, name: &str) {
        self.recorder.say(&Record::Name { thread, name: name.to_owned() });
    }

    fn start_telling(self: &Arc<Self>) -> std::io::Result<()> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let (told, recording) = (Arc::clone(&stop), Arc::clone(self));
        let thread = forkright_meter::spawn_quiet("forkright-teller", move || tell(&recording, &told))?;
        *lock(&self.teller) = Some(Teller { thread, stop });
        Ok(())
    }

    /// Goes on after a pause, unless a fork is under way or it goes on already. Without threads to measure with, the
    /// rest is not measured.
    fn go_on(self: &Arc<Self>, py: Python<'_>) {
        py.detach(|| {
            let pauses = lock(&self.pauses);
            if *pauses == 0 && lock(&self.teller).is_none() && self.recorder.resume().is_ok() {
                let _ = self.start_telling();
            }
        });
    }

    /// To be called without the GIL, which the teller may be waiting for.
    fn stop_telling(&self) {
        let Some(Teller { thread, stop }) = lock(&self.teller).take() else { return };
        *lock(&stop.0) = true;
        stop.1.notify_all();
        if let Ok(tid) = thread.join() {
            wait_gone(tid);
        }
    }
}

/// A Python thread.
pub(crate) struct Present {
    pub(crate) ident: u64,
    pub(crate) tid: i32,
    /// Where it can be told.
    pub(crate) thread_state: Option<usize>,
}

/// All of them.
#[expect(unsafe_code, reason = "the interpreter's structures are looked at from outside")]
pub(crate) fn others(py: Python<'_>) -> PyResult<Vec<Present>> {
    // SAFETY: this thread is attached, and the call does not detach it.
    if let Some(residents) = unsafe { residents(ident(py)?, clock::current_tid()) } {
        let present =
            |one: &Resident| Present { ident: one.ident, tid: one.tid, thread_state: Some(one.thread_state) };
        return Ok(residents.iter().map(present).collect());
    }
    let active = import(py, "threading")?.getattr("_active")?.cast_into::<PyDict>()?;
    let told = |(ident, thread): (Bound<'_, PyAny>, Bound<'_, PyAny>)| {
        let tid = thread.getattr("_native_id").ok()?.extract().ok()?;
        Some(Present { ident: ident.extract().ok()?, tid, thread_state: None })
    };
    Ok(active.iter().filter_map(told).collect())
}

fn ident(py: Python<'_>) -> PyResult<u64> {
    import(py, "_thread")?.invoke_method("get_ident", ())?.extract()
}

/// What the teller does: asks, waits, asks again. Returns its thread's id.
fn tell(recording: &Recording, stop: &(Mutex<bool>, Condvar)) -> i32 {
    recording.recorder.be_teller();
    let mut count = 0;
    let mut thrift = Thrift::begin(clock::thread_cpu());
    let mut stopped = lock(&stop.0);
    while !*stopped {
        let (pause, limit) = if count < FIRST { (ASK_FIRST, LIMIT_FIRST) } else { (ASK_LATER, LIMIT_LATER) };
        let pause = thrift::stretch(pause, thrift.tick(clock::thread_cpu()), limit);
        stopped = stop.1.wait_timeout(stopped, pause).unwrap_or_else(PoisonError::into_inner).0;
        if *stopped {
            break;
        }
        drop(stopped);
        count += 1;
        let moved = recording.recorder.take_moved();
        if moved.is_empty() {
            lock(&recording.guide).nobody_moved();
        } else {
            // At the interpreter's end there is nobody to ask any more.
            // What could not be told is not worth a word on the program's standard error.
            let _ = Python::try_attach(|py| {
                without_collection(py, || lock(&recording.guide).ask(py, recording, &moved))
            });
        }
        stopped = lock(&stop.0);
    }
    drop(stopped);
    clock::current_tid()
}

/// Runs `body` without Python's garbage collector, which would run the program's finalizers in this thread.
#[expect(unsafe_code, reason = "PyO3 has no safe name for it")]
fn without_collection<T>(_attached: Python<'_>, body: impl FnOnce() -> T) -> T {
    // SAFETY: this thread is attached, as the token proves.
    let was_on = unsafe { pyo3::ffi::PyGC_Disable() } == 1;
    let made = body();
    if was_on {
        // SAFETY: as above.
        unsafe { pyo3::ffi::PyGC_Enable() };
    }
    made
}
