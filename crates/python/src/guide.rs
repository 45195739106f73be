//! Where in the program its threads are: asks them, knows functions by their code, and tells the recorder. Called by
//! the teller's thread of a recording (`why`).

use std::collections::HashMap;

use forkright_meter::record::Record;
use forkright_meter::{Frames, clock};
use pyo3::prelude::*;

use crate::why::{Known, Present, Recording, lock, lossy, name_of, others};

/// Frames that are looked through for one of the program's own functions.
const DEPTH: usize = 64;

/// Which files are the program's own.
pub(crate) struct Map {
    /// Where libraries are: what runs there is told as what called it.
    pub(crate) library: Vec<String>,
    /// Where the standard library is.
    pub(crate) standard: String,
    /// Files of the standard library in which a thread that waits is idle.
    pub(crate) rests: Vec<String>,
}

/// What is known of functions and of where threads were. It outlives the teller, which is another one after each fork.
#[derive(Default)]
pub(crate) struct Guide {
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
    /// Nobody has done anything since they were last asked.
    pub(crate) fn nobody_moved(&mut self) {
        let now = now();
        self.last.values_mut().for_each(|last| last.known = now);
    }

    /// Asks the threads that have moved, and those nobody has asked yet, where they are, and tells the recorder.
    pub(crate) fn ask(&mut self, py: Python<'_>, recording: &Recording, moved: &[u32]) -> PyResult<()> {
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
