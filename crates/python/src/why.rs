//! Measures a program that was not written for forkright: registers its threads with the recorder, tells where in the
//! program they are, and reads what was recorded. `forkright._why` puts it into programs and words what comes out.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use forkright_engine::advice::{self, Program};
use forkright_engine::cores;
use forkright_engine::machine::Machine;
use forkright_meter::account::{self, Account, Doing};
use forkright_meter::record::Record;
use forkright_meter::{Entry, Frames, Recorder, Resident, Sampler, Subject, clock, residents, wait_gone};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use serde_json::json;

use crate::meter;

/// How often threads are asked where they are, for so long, and how often later: each time somebody must give up the
/// GIL for it.
const ASK_FIRST: Duration = Duration::from_millis(20);
const FIRST: u32 = 50;
const ASK_LATER: Duration = Duration::from_millis(50);
/// Of so many times, once threads that Python did not start are looked for.
const NATIVE: u32 = 20;
/// Frames that are looked through for one of the program's own functions.
const DEPTH: usize = 64;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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
    (*process == std::process::id()).then(|| Arc::clone(recording))
}

/// One recording under way.
struct Recording {
    recorder: Arc<Recorder>,
    map: Map,
    /// The Python threads, by `threading.get_ident()`, which those that come later have again.
    threads: Mutex<HashMap<u64, Known>>,
    teller: Mutex<Option<Teller>>,
    /// The teller's, which is another one after each fork.
    guide: Mutex<Guide>,
    guests: Mutex<Guests>,
    /// How many threads are forking.
    pauses: Mutex<u32>,
}

/// Which files are the program's own.
struct Map {
    /// Where libraries are: what runs there is told as what called it.
    library: Vec<String>,
    /// Where the standard library is.
    standard: String,
    /// Files of the standard library in which a thread that waits is idle.
    rests: Vec<String>,
}

/// A registered thread.
#[derive(Clone, Copy)]
struct Known {
    tid: i32,
    /// The recorder's number of it.
    thread: u32,
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
pub(crate) fn begin_recording(
    py: Python<'_>,
    file: &str,
    python: String,
    argv: Vec<String>,
    library: Vec<String>,
    standard: String,
    rests: Vec<String>,
) -> PyResult<()> {
    end_recording(py)?;
    // Not the sampler that tasks are measured by, whose watches start threads.
    let sampler = Sampler::apart(meter::discover(py));
    let recorder = Recorder::begin(sampler, Path::new(file), &Subject { python, argv })?;
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
    *lock(&CURRENT) = Some((std::process::id(), recording));
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
    let is_main = clock::current_tid() == std::process::id() as i32;
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
fn lossy(text: &Bound<'_, PyAny>) -> String {
    text.cast::<PyString>().map_or_else(|_| String::new(), |text| text.to_string_lossy().into_owned())
}

/// What `threading` calls a thread. Runs no Python code, as the program must not notice that it is asked.
fn name_of(py: Python<'_>, ident: u64) -> PyResult<Option<String>> {
    let active = py.import("threading")?.getattr("_active")?.cast_into::<PyDict>()?;
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
    fn welcome(&self, present: &[Present], at_once: bool) {
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

    fn name(&self, thread: u32, name: &str) {
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
struct Present {
    ident: u64,
    tid: i32,
    /// Where it can be told.
    thread_state: Option<usize>,
}

/// All of them.
#[expect(unsafe_code, reason = "the interpreter's structures are looked at from outside")]
fn others(py: Python<'_>) -> PyResult<Vec<Present>> {
    // SAFETY: this thread is attached, and the call does not detach it.
    if let Some(residents) = unsafe { residents(ident(py)?, clock::current_tid()) } {
        let present =
            |one: &Resident| Present { ident: one.ident, tid: one.tid, thread_state: Some(one.thread_state) };
        return Ok(residents.iter().map(present).collect());
    }
    let active = py.import("threading")?.getattr("_active")?.cast_into::<PyDict>()?;
    let told = |(ident, thread): (Bound<'_, PyAny>, Bound<'_, PyAny>)| {
        let tid = thread.getattr("_native_id").ok()?.extract().ok()?;
        Some(Present { ident: ident.extract().ok()?, tid, thread_state: None })
    };
    Ok(active.iter().filter_map(told).collect())
}

fn ident(py: Python<'_>) -> PyResult<u64> {
    py.import("_thread")?.call_method0("get_ident")?.extract()
}

/// What the teller does: asks, waits, asks again. Returns its thread's id.
fn tell(recording: &Recording, stop: &(Mutex<bool>, Condvar)) -> i32 {
    recording.recorder.be_teller();
    let mut count = 0;
    let mut stopped = lock(&stop.0);
    while !*stopped {
        let pause = if count < FIRST { ASK_FIRST } else { ASK_LATER };
        stopped = stop.1.wait_timeout(stopped, pause).unwrap_or_else(PoisonError::into_inner).0;
        if *stopped {
            break;
        }
        drop(stopped);
        count += 1;
        if count % NATIVE == 0 {
            recording.recorder.say_native();
        }
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

/// What is known of functions and of where threads were.
#[derive(Default)]
struct Guide {
    /// By the address of the code object, which is kept so that no other gets it.
    codes: HashMap<usize, Code>,
    count: u32,
    last: HashMap<u32, Last>,
}

struct Code {
    _kept: Py<PyAny>,
    told: Told,
}

/// What is told of a code object.
#[derive(Clone, Copy)]
struct Told {
    function: u32,
    home: Home,
    rest: Rest,
}

/// Whether a thread that waits in a piece of code is idle there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// It is.
    Here,
    /// It waits for something that matters.
    No,
    /// It depends on who called.
    Asks,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Home {
    Program,
    Library,
    Standard,
}

/// Where a thread was when it was last asked.
struct Last {
    function: u32,
    rests: bool,
    said: u64,
    /// When it was last known to be there still.
    known: u64,
    name: String,
}

impl Guide {
    fn nobody_moved(&mut self) {
        let now = now();
        self.last.values_mut().for_each(|last| last.known = now);
    }

    fn ask(&mut self, py: Python<'_>, recording: &Recording, moved: &[u32]) -> PyResult<()> {
        let present = others(py)?;
        recording.welcome(&present, false);
        let at = now();
        for last in self.last.iter_mut().filter(|(thread, _)| !moved.contains(thread)) {
            last.1.known = at;
        }
        for (ident, thread, frame) in self.frames(py, recording, present, moved) {
            let name = match name_of(py, ident)? {
                Some(name) => name,
                // One that `_thread` started is called by what it runs.
                None if !self.last.contains_key(&thread) => outermost(&frame)?,
                None => String::new(),
            };
            let (function, rests) = self.place(recording, frame)?;
            self.say(recording, thread, function, rests, at, name);
        }
        Ok(())
    }

    /// The frames of the threads that have moved or are new, with their idents and numbers.
    #[expect(unsafe_code, reason = "the interpreter's structures are looked at from outside")]
    fn frames<'py>(
        &self,
        py: Python<'py>,
        recording: &Recording,
        present: Vec<Present>,
        moved: &[u32],
    ) -> Vec<(u64, u32, Bound<'py, PyAny>)> {
        let Some(frames) = Frames::find() else { return Vec::new() };
        let threads = lock(&recording.threads);
        let wanted = present.into_iter().filter_map(|Present { ident, tid, thread_state }| {
            let Known { thread, .. } = *threads.get(&ident).filter(|known| known.tid == tid)?;
            let is_wanted = moved.contains(&thread) || !self.last.contains_key(&thread);
            Some((ident, thread, thread_state.filter(|_| is_wanted)?))
        });
        let told = wanted.filter_map(|(ident, thread, thread_state)| {
            // SAFETY: the thread states were asked for just now, and nothing that could give up the GIL has run since:
            // no Python code, and with the collector off no finalizer. What comes is a new reference or null.
            let frame = unsafe { Bound::from_owned_ptr_or_opt(py, frames.of(thread_state).cast()) };
            Some((ident, thread, frame?))
        });
        told.collect()
    }

    fn say(&mut self, recording: &Recording, thread: u32, function: u32, rests: bool, at: u64, name: String) {
        let recorder = &recording.recorder;
        let before = self.last.get(&thread);
        if let Some(&Last { function, rests, known, said, .. }) = before
            && known > said
        {
            // It was not asked for a while, as it did nothing: it was there all the time.
            recorder.say(&Record::Place { thread, function, at: known, rests });
        }
        if !name.is_empty() && before.is_none_or(|before| before.name != name) {
            recording.name(thread, &name);
        }
        recorder.say(&Record::Place { thread, function, at, rests });
        self.last.insert(thread, Last { function, rests, said: at, known: at, name });
    }

    /// The innermost function of the program's own, or of a library if there is none, and whether the thread is where
    /// threads that wait are idle.
    fn place(&mut self, recording: &Recording, innermost: Bound<'_, PyAny>) -> PyResult<(u32, bool)> {
        let (mut first, mut library, mut rests) = (None, None, None);
        let mut frame = innermost;
        for _ in 0..DEPTH {
            let Told { function, home, rest } = self.code(recording, &frame.getattr("f_code")?)?;
            first.get_or_insert(function);
            if rest != Rest::Asks {
                rests.get_or_insert(rest == Rest::Here);
            }
            match home {
                Home::Program => return Ok((function, rests.unwrap_or(false))),
                Home::Library => drop(library.get_or_insert(function)),
                Home::Standard => {}
            }
            frame = frame.getattr("f_back")?;
            if frame.is_none() {
                break;
            }
        }
        Ok((library.or(first).unwrap_or(0), rests.unwrap_or(false)))
    }

    fn code(&mut self, recording: &Recording, code: &Bound<'_, PyAny>) -> PyResult<Told> {
        let address = code.as_ptr() as usize;
        if let Some(Code { told, .. }) = self.codes.get(&address) {
            return Ok(*told);
        }
        let file = lossy(&code.getattr("co_filename")?);
        let name = lossy(&code.getattr("co_qualname")?);
        let line: u32 = code.getattr("co_firstlineno")?.extract().unwrap_or(0);
        let home = recording.map.home(&file);
        let rest = recording.map.rest(home, &file);
        let function = self.count;
        self.count += 1;
        recording.recorder.say(&Record::Function { function, name, file, line });
        let told = Told { function, home, rest };
        self.codes.insert(address, Code { _kept: code.clone().unbind(), told });
        Ok(told)
    }
}

/// The function in which a thread began.
fn outermost(frame: &Bound<'_, PyAny>) -> PyResult<String> {
    let mut frame = frame.clone();
    loop {
        let back = frame.getattr("f_back")?;
        if back.is_none() {
            return Ok(lossy(&frame.getattr("f_code")?.getattr("co_qualname")?));
        }
        frame = back;
    }
}

impl Map {
    fn rest(&self, home: Home, file: &str) -> Rest {
        let in_standard = || file.strip_prefix(&*self.standard).map(|name| name.trim_start_matches('/'));
        match home {
            Home::Program => Rest::No,
            _ if self.rests.iter().any(|rests| rests == file) => Rest::Here,
            // Whoever waits for several things at once does it there: a pool for its workers, a server for requests.
            Home::Standard if in_standard() == Some("selectors.py") => Rest::Asks,
            _ => Rest::No,
        }
    }

    fn home(&self, file: &str) -> Home {
        let inside = |folder: &str| {
            file.strip_prefix(folder).is_some_and(|rest| rest.starts_with(std::path::MAIN_SEPARATOR))
        };
        if self.library.iter().any(|folder| inside(folder)) {
            Home::Library
        } else if inside(&self.standard) || file.starts_with("<frozen ") {
            Home::Standard
        } else {
            Home::Program
        }
    }
}

fn now() -> u64 {
    clock::monotonic().as_micros() as u64
}

/// What came of the recordings and what would suit the program, as JSON; `others` are numbers of cores to predict for.
#[pyfunction]
pub(crate) fn account_recordings(
    py: Python<'_>,
    recordings: Vec<Vec<u8>>,
    others: Vec<u32>,
) -> PyResult<String> {
    py.detach(|| {
        let account = account::account(&recordings);
        let advice = advice::advise(&program(&account), &Machine::with_cores(&cores::usable()), &others);
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
