//! The thread states of threads that began before anybody measured.
//!
//! A thread that registers itself brings its thread state; for another's one must look into the interpreter. Its list
//! of thread states is reached by functions that every CPython exports. What is inside one is found as the GIL is, by
//! what the calling thread knows of its own: its two numbers lie side by side in it, in every version from 3.11 on.

use std::ffi::{CStr, c_void};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a thread state that are looked through; the smallest one, that of 3.12, has 288.
const LOOKED_THROUGH: usize = 256;
/// More than any list of them has: one that is longer is none.
const MOST: usize = 100_000;

/// A thread that has a thread state in the calling thread's interpreter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resident {
    /// `threading.get_ident()` there.
    pub ident: u64,
    /// The kernel's number of it.
    pub tid: i32,
    /// Its thread state; to be compared, never to be followed.
    pub thread_state: usize,
}

/// All threads of the calling thread's interpreter, itself included; `None` where that can't be told. `ident` and
/// `tid` are the caller's own.
///
/// # Safety
///
/// The calling thread is attached to its interpreter and stays so during the call: it holds the GIL.
pub unsafe fn residents(ident: u64, tid: i32) -> Option<Vec<Resident>> {
    type Get = unsafe extern "C" fn() -> *mut c_void;
    type Step = unsafe extern "C" fn(*mut c_void) -> *mut c_void;
    // SAFETY: CPython declares these as functions from nothing to a pointer, since 3.9 and for ever.
    let (current, interpreter): (Get, Get) = unsafe {
        (
            std::mem::transmute::<*mut c_void, Get>(symbol(c"PyThreadState_Get")?),
            std::mem::transmute::<*mut c_void, Get>(symbol(c"PyInterpreterState_Get")?),
        )
    };
    // SAFETY: and these as functions from a pointer to a pointer.
    let (head, next): (Step, Step) = unsafe {
        (
            std::mem::transmute::<*mut c_void, Step>(symbol(c"PyInterpreterState_ThreadHead")?),
            std::mem::transmute::<*mut c_void, Step>(symbol(c"PyThreadState_Next")?),
        )
    };
    // SAFETY: the caller is attached, so it has a thread state.
    let own = unsafe { current() };
    // SAFETY: its own thread state, which lives and has this many bytes.
    let own_words = unsafe { words(own) };
    let place = place(&own_words, ident, tid)?;
    let mut residents = Vec::new();
    // SAFETY: the caller is attached, so it has an interpreter.
    let mut state = unsafe { head(interpreter()) };
    while !state.is_null() {
        if residents.len() == MOST {
            return None;
        }
        // SAFETY: a thread state of this interpreter's list. A thread that ran Python takes its own out of it with the
        // GIL, which the caller holds meanwhile; one that has not run yet only adds its own, at the head.
        let words = unsafe { words(state) };
        // One that has not begun has no numbers yet; it registers itself.
        if let Ok(tid @ 1..) = i32::try_from(words[place + 1]) {
            residents.push(Resident { ident: words[place], tid, thread_state: state.expose_provenance() });
        }
        // SAFETY: as above.
        state = unsafe { next(state) };
    }
    let is_own = |resident: &Resident| resident.tid == tid && resident.thread_state == own as usize;
    residents.iter().any(is_own).then_some(residents)
}

/// What tells where in the program a thread is.
///
/// Not `sys._current_frames()`: that asks the threads of all interpreters, and those of one with a GIL of its own run
/// meanwhile, which corrupts the interpreter's memory.
#[derive(Debug, Clone, Copy)]
pub struct Frames(unsafe extern "C" fn(*mut c_void) -> *mut c_void);

impl Frames {
    /// The interpreter's way to tell, if it has one.
    pub fn find() -> Option<Frames> {
        let found = symbol(c"PyThreadState_GetFrame")?;
        // SAFETY: CPython declares it as a function from a pointer to a pointer, since 3.9.
        Some(Frames(unsafe {
            std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_void) -> *mut c_void>(found)
        }))
    }

    /// A new reference to the frame object of what the thread runs; null if it runs nothing.
    ///
    /// # Safety
    ///
    /// The thread state is one of [`residents`], which the calling thread has just asked for, and it has held the GIL
    /// since.
    pub unsafe fn of(self, thread_state: usize) -> *mut c_void {
        // SAFETY: the thread state lives, by the caller's promise, and its thread waits for the GIL or is the caller.
        unsafe { (self.0)(std::ptr::with_exposed_provenance_mut(thread_state)) }
    }
}

fn symbol(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: looking up a name has no requirement but that it is a C string.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

/// The first words of a thread state.
///
/// # Safety
///
/// There are [`LOOKED_THROUGH`] bytes at `state`, aligned for words, until this returns. Others may write them.
unsafe fn words(state: *const c_void) -> [u64; LOOKED_THROUGH / 8] {
    let first = state.cast::<AtomicU64>();
    // SAFETY: the caller's promise; each load is one instruction, so it yields a word that was there.
    std::array::from_fn(|index| unsafe { &*first.add(index) }.load(Ordering::Relaxed))
}

/// Where in a thread state its thread's two numbers are, if there is one such place.
fn place(own: &[u64], ident: u64, tid: i32) -> Option<usize> {
    let wanted = [ident, u64::try_from(tid).ok()?];
    let mut places = (0..own.len() - 1).filter(|&index| own[index..index + 2] == wanted);
    let place = places.next()?;
    places.next().is_none().then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_the_numbers_must_be_the_only_one() {
        let mut words = [0_u64; 32];
        assert_eq!(place(&words, 7, 9), None);
        words[19..21].copy_from_slice(&[7, 9]);
        assert_eq!(place(&words, 7, 9), Some(19));
        words[30..32].copy_from_slice(&[7, 9]);
        assert_eq!(place(&words, 7, 9), None);
        assert_eq!(place(&words, 7, -1), None);
    }

    #[test]
    fn without_python_there_are_none() {
        // SAFETY: the contract speaks of a Python that this process does not have.
        assert_eq!(unsafe { residents(1, 1) }, None);
    }
}
