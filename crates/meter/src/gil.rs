//! The GIL of this process, found and read without asking the interpreter.
//!
//! The binding discovers it once, the sampler reads it at every tick. Where it can't be found the answer is
//! [`Unknown`] with the reason, and nothing that depends on the GIL is claimed.
//!
//! CPython keeps the GIL in a struct that begins, in every version with a GIL from 3.10 to 3.15, with the switch
//! interval, the thread state that took it last, and whether it is taken. The main interpreter's lies inside the
//! static object `_PyRuntime`, whose symbol every build exports. So a thread that holds the GIL knows all three
//! words and finds the struct by them: no table of offsets per version is needed, and what is found is known to be
//! right. From 3.13 on the runtime describes its own layout, which must then agree.

use std::ffi::c_void;
use std::fmt;

use crate::memory::{Memory, Own};

/// Bytes of CPython's `struct _gil_runtime_state` with its mutexes and conditions.
const SIZE: usize = 208;
const HOLDER: usize = 8;
const LOCKED: usize = 16;
const SWITCHES: usize = 24;

/// What a thread that holds the GIL knows of it.
#[derive(Debug, Clone, Copy)]
pub struct Evidence {
    /// Its thread state: what `PyThreadState_Get()` returns.
    pub thread_state: usize,
    /// `sys.getswitchinterval()`, in microseconds.
    pub switch_interval_us: u64,
    /// The running interpreter's `PY_VERSION_HEX`.
    pub version: u32,
}

/// Why the GIL can't be observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// No `_PyRuntime` is exported.
    NoRuntime,
    /// The C library does not say how large `_PyRuntime` is.
    NoSize,
    /// Nothing in `_PyRuntime` looks like a GIL that this thread holds.
    NoCandidate,
    /// Several places look like it.
    SeveralCandidates(usize),
    /// The layout that the interpreter declares does not lead to what was found.
    OffsetsDisagree,
    /// The interpreter is built to run without a GIL.
    FreeThreaded,
}

impl fmt::Display for Unknown {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unknown::NoRuntime => {
                out.write_str("this Python does not export _PyRuntime, where its GIL would be")
            }
            Unknown::NoSize => {
                out.write_str("the C library does not tell the size of Python's runtime state")
            }
            Unknown::NoCandidate => {
                out.write_str("no GIL that this thread holds was found in Python's runtime state")
            }
            Unknown::SeveralCandidates(count) => {
                write!(out, "{count} places in Python's runtime state look like its GIL")
            }
            Unknown::OffsetsDisagree => {
                out.write_str("the layout that Python declares does not match where its GIL seems to be")
            }
            Unknown::FreeThreaded => out.write_str("this Python is a free-threaded build"),
        }
    }
}

impl std::error::Error for Unknown {}

/// A GIL in some memory.
#[derive(Debug, Clone)]
pub struct Gil<M = Own> {
    memory: M,
    address: usize,
}

impl Gil {
    /// Finds the main interpreter's GIL in this process.
    ///
    /// # Safety
    ///
    /// The calling thread is attached to the main interpreter and stays so during the call, `evidence` is its own,
    /// and Python's library is never unloaded from this process.
    pub unsafe fn discover(evidence: Evidence) -> Result<Gil, Unknown> {
        // SAFETY: the name is a C string; looking up a symbol has no other requirement.
        let runtime = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_PyRuntime".as_ptr()) };
        if runtime.is_null() {
            return Err(Unknown::NoRuntime);
        }
        let size = symbol_size(runtime).ok_or(Unknown::NoSize)?;
        let start = runtime.expose_provenance();
        // SAFETY: the dynamic linker vouches for `size` bytes of static storage there, and the caller for the
        // library staying loaded.
        let memory = unsafe { Own::new(start..start.saturating_add(size)) };
        Gil::find(memory, start, size, evidence)
    }

    /// A GIL, or what a test made to look like one.
    ///
    /// # Safety
    ///
    /// The 208 bytes at `address` are never unmapped.
    #[doc(hidden)]
    pub unsafe fn at(address: usize) -> Gil {
        // SAFETY: the caller's promise.
        Gil { memory: unsafe { Own::new(address..address + SIZE) }, address }
    }
}

impl<M: Memory> Gil<M> {
    /// Finds the GIL that the evidence describes in a runtime of `size` bytes at `start`.
    fn find(memory: M, start: usize, size: usize, evidence: Evidence) -> Result<Gil<M>, Unknown> {
        let layout = Layout::read(&memory, start, evidence.version)?;
        let first = start.next_multiple_of(align_of::<u64>());
        let last = (start + size).saturating_sub(SIZE);
        let is_candidate = |&address: &usize| held(&memory, address, &evidence);
        let mut candidates = (first..=last).step_by(align_of::<u64>()).filter(is_candidate);
        let address = candidates.next().ok_or(Unknown::NoCandidate)?;
        match candidates.count() {
            0 => {}
            others => return Err(Unknown::SeveralCandidates(1 + others)),
        }
        if layout.is_some_and(|layout| !layout.leads_to(&memory, address)) {
            return Err(Unknown::OffsetsDisagree);
        }
        Ok(Gil { memory, address })
    }

    /// Whether this still is the GIL: asked by a thread that holds it, with its own thread state and the current
    /// switch interval.
    pub fn check(&self, thread_state: usize, switch_interval_us: u64) -> bool {
        held(&self.memory, self.address, &Evidence { thread_state, switch_interval_us, version: 0 })
    }

    /// The thread state that holds the GIL now, to be compared and never to be followed: by the time anybody looks
    /// at it, it may be freed.
    pub fn holder(&self) -> Option<usize> {
        // In this order: a thread that takes the GIL sets `locked` before it writes its name, so the other way
        // round the previous holder would be blamed more often.
        match self.memory.read_u32(self.address + LOCKED)? {
            1 => self.memory.read_usize(self.address + HOLDER),
            _ => None,
        }
    }

    /// How often it has changed hands since the interpreter began.
    pub fn switches(&self) -> Option<u64> {
        self.memory.read_usize(self.address + SWITCHES).map(|word| word as u64)
    }

    /// Whether a thread that waits on the futex at `address` waits for this GIL.
    pub fn covers(&self, address: usize) -> bool {
        (self.address..self.address + SIZE).contains(&address)
    }
}

/// Whether the struct at `address` says what a thread that holds the GIL would expect of it.
fn held(memory: &impl Memory, address: usize, evidence: &Evidence) -> bool {
    memory.read_usize(address).map(|word| word as u64) == Some(evidence.switch_interval_us)
        && memory.read_usize(address + HOLDER) == Some(evidence.thread_state)
        && memory.read_u32(address + LOCKED) == Some(1)
}

/// Where Python 3.13+ says the GIL is (`_Py_DebugOffsets`, at the start of `_PyRuntime`): offsets in an interpreter.
struct Layout {
    id: usize,
    current: usize,
    own: usize,
    locked: usize,
    holder: usize,
}

impl Layout {
    /// The layout a runtime at `start` declares; `None` where it declares none that this crate can read.
    fn read(memory: &impl Memory, start: usize, version: u32) -> Result<Option<Layout>, Unknown> {
        if version < 0x030d_0000 {
            return Ok(None);
        }
        let word = |index: usize| memory.read_u64(start + 8 * index).ok_or(Unknown::OffsetsDisagree);
        if word(0)? != u64::from_ne_bytes(*b"xdebugpy") || word(1)? != u64::from(version) {
            return Err(Unknown::OffsetsDisagree);
        }
        if word(2)? != 0 {
            return Err(Unknown::FreeThreaded);
        }
        // 3.14 put the main thread's pointer in before these. What later versions do is not known, and the scan
        // needs no second opinion to be right.
        let moved = match version >> 16 {
            0x030d => 0,
            0x030e | 0x030f => 1,
            _ => return Ok(None),
        };
        let offset = |index: usize| word(index).map(|offset| offset as usize);
        Ok(Some(Layout {
            id: offset(7)?,
            current: offset(14 + moved)?,
            own: offset(15 + moved)?,
            locked: offset(17 + moved)?,
            holder: offset(18 + moved)?,
        }))
    }

    /// Whether `address` is the GIL of the main interpreter (number 0) by this layout. Goes from the GIL back to the
    /// interpreter around it, since the way down would lead through other interpreters, which may be dying.
    fn leads_to(&self, memory: &impl Memory, address: usize) -> bool {
        let Some(interpreter) = address.checked_sub(self.own) else { return false };
        let at = |offset: usize| interpreter.checked_add(offset);
        at(self.locked) == Some(address + LOCKED)
            && at(self.holder) == Some(address + HOLDER)
            && at(self.id).and_then(|id| memory.read_u64(id)) == Some(0)
            && at(self.current).and_then(|current| memory.read_usize(current)) == Some(address)
    }
}

/// The size of the object that begins at `symbol`, as the dynamic linker knows it.
#[cfg(target_env = "gnu")]
fn symbol_size(symbol: *mut c_void) -> Option<usize> {
    const RTLD_DL_SYMENT: libc::c_int = 1;
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    let mut entry: *mut c_void = std::ptr::null_mut();
    // SAFETY: both are written to only; with this flag `entry` receives a pointer to the symbol table's entry.
    let found = unsafe { libc::dladdr1(symbol.cast_const(), info.as_mut_ptr(), &mut entry, RTLD_DL_SYMENT) };
    // SAFETY: all zeros is a valid `Dl_info` (null pointers), and the linker only writes valid ones over it.
    let info = unsafe { info.assume_init() };
    if found == 0 || entry.is_null() || info.dli_saddr != symbol {
        return None;
    }
    // SAFETY: the entry of a symbol of a library that is loaded: one of the ELF class of this process, in read-only
    // memory.
    let size = unsafe { (*entry.cast::<ElfSymbol>()).st_size } as usize;
    (size >= SIZE).then_some(size)
}

#[cfg(not(target_env = "gnu"))]
fn symbol_size(_: *mut c_void) -> Option<usize> {
    None
}

#[cfg(all(target_env = "gnu", target_pointer_width = "64"))]
type ElfSymbol = libc::Elf64_Sym;
#[cfg(all(target_env = "gnu", target_pointer_width = "32"))]
type ElfSymbol = libc::Elf32_Sym;

#[cfg(test)]
mod tests {
    use super::*;

    const START: usize = 0x10_0000;
    const STATE: usize = 0x7f00_0000_1000;
    const INTERVAL: u64 = 5_000;

    /// A made-up `_PyRuntime`.
    struct Runtime(Vec<u64>);

    impl Memory for Runtime {
        fn read_u32(&self, address: usize) -> Option<u32> {
            self.read_u64(address).map(|word| word as u32)
        }

        fn read_u64(&self, address: usize) -> Option<u64> {
            self.0.get(address.checked_sub(START)? / 8).copied()
        }
    }

    impl Runtime {
        fn with_gil_at(words: &[usize]) -> Runtime {
            let mut runtime = Runtime(vec![0; 2_000]);
            for &word in words {
                runtime.0[word..word + 3].copy_from_slice(&[INTERVAL, STATE as u64, 0xdead_beef_0000_0001]);
            }
            runtime
        }

        /// Declares an interpreter at word 400 whose GIL is at word 700.
        fn declaring(mut self, version: u32, moved: usize) -> Runtime {
            self.0[0] = u64::from_ne_bytes(*b"xdebugpy");
            self.0[1] = u64::from(version);
            self.0[7] = 16;
            self.0[14 + moved] = 24;
            let gil = 8 * (700 - 400);
            self.0[15 + moved..19 + moved].copy_from_slice(&[gil, 0, gil + 16, gil + 8]);
            self.0[403] = (START + 8 * 700) as u64;
            self
        }

        fn find(self, version: u32) -> Result<usize, Unknown> {
            let evidence = Evidence { thread_state: STATE, switch_interval_us: INTERVAL, version };
            let size = 8 * self.0.len();
            Gil::find(self, START, size, evidence).map(|gil| (gil.address - START) / 8)
        }
    }

    #[test]
    fn the_gil_is_found_by_what_its_holder_knows() {
        assert_eq!(Runtime::with_gil_at(&[45]).find(0x030b_07f0), Ok(45));
        assert_eq!(Runtime::with_gil_at(&[2_000 - SIZE / 8]).find(0x030c_01f0), Ok(2_000 - SIZE / 8));
    }

    #[test]
    fn none_or_several_candidates_are_unknown() {
        assert_eq!(Runtime::with_gil_at(&[]).find(0x030c_01f0), Err(Unknown::NoCandidate));
        let near_the_end = 2_000 - SIZE / 8 + 1;
        assert_eq!(Runtime::with_gil_at(&[near_the_end]).find(0x030c_01f0), Err(Unknown::NoCandidate));
        assert_eq!(
            Runtime::with_gil_at(&[45, 90, 700]).find(0x030c_01f0),
            Err(Unknown::SeveralCandidates(3))
        );
    }

    #[test]
    fn a_free_gil_or_another_holders_is_no_candidate() {
        for (word, other) in [(700, INTERVAL + 1), (701, 8), (702, 0), (702, u64::from(u32::MAX))] {
            let mut runtime = Runtime::with_gil_at(&[700]);
            runtime.0[word] = other;
            assert_eq!(runtime.find(0x030c_01f0), Err(Unknown::NoCandidate));
        }
    }

    #[test]
    fn where_python_declares_a_layout_it_must_lead_to_the_gil() {
        for (version, moved) in [(0x030d_00f0, 0), (0x030e_0af0, 1), (0x030f_02f0, 1)] {
            let declared = || Runtime::with_gil_at(&[700]).declaring(version, moved);
            assert_eq!(declared().find(version), Ok(700));
            let broken = [0, 1, 14 + moved, 15 + moved, 17 + moved, 18 + moved, 402, 403];
            for word in broken {
                let mut runtime = declared();
                runtime.0[word] ^= 0x80;
                assert_eq!(runtime.find(version), Err(Unknown::OffsetsDisagree), "{version:x}, word {word}");
            }
            assert_eq!(Runtime::with_gil_at(&[701]).declaring(version, moved).find(version), {
                Err(Unknown::OffsetsDisagree)
            });
        }
    }

    #[test]
    fn wild_offsets_are_a_disagreement_and_no_overflow() {
        for word in [7, 14, 15, 17, 18] {
            for wild in [u64::MAX, u64::MAX - 7, 1 << 63, (START + 8 * 700) as u64] {
                let mut runtime = Runtime::with_gil_at(&[700]).declaring(0x030d_00f0, 0);
                runtime.0[word] = wild;
                assert_eq!(runtime.find(0x030d_00f0), Err(Unknown::OffsetsDisagree), "word {word}: {wild:x}");
            }
        }
    }

    #[test]
    fn a_free_threaded_build_is_told_as_such() {
        let mut runtime = Runtime::with_gil_at(&[700]).declaring(0x030d_00f0, 0);
        runtime.0[2] = 1;
        assert_eq!(runtime.find(0x030d_00f0), Err(Unknown::FreeThreaded));
    }

    #[test]
    fn a_layout_of_the_future_is_left_alone() {
        assert_eq!(Runtime::with_gil_at(&[45]).declaring(0x0310_00f0, 7).find(0x0310_00f0), Ok(45));
    }

    #[test]
    fn a_gil_is_checked_by_its_holder_only() {
        let gil = Gil { memory: Runtime::with_gil_at(&[45]), address: START + 8 * 45 };
        assert!(gil.check(STATE, INTERVAL));
        assert!(!gil.check(STATE + 8, INTERVAL));
        assert!(!gil.check(STATE, INTERVAL + 1));
    }

    #[test]
    fn without_python_there_is_no_runtime() {
        let evidence = Evidence { thread_state: STATE, switch_interval_us: INTERVAL, version: 0x030c_01f0 };
        // SAFETY: the contract speaks of a Python that this process does not have.
        assert_eq!(unsafe { Gil::discover(evidence) }.map(|_| ()), Err(Unknown::NoRuntime));
    }
}
