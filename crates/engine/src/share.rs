//! Memory that was put where all processes see it, once, for as long as anybody has it. Who has it keeps a descriptor;
//! the kernel counts, so neither a death nor a fork leaks or breaks anything.
//!
//! A buffer that lies in such memory is recognised by its address and travels as a [`Portion`]: whose descriptor it
//! is, where, and how long. The sender has it until the reader says that it let go; a worker opens the descriptor of
//! its caller's by `/proc`, and keeps it, since opening and mapping cost more than a task, until the caller says that nobody
//! there has it in [`Sight`] any more. What a worker sends back its caller has, and finds by its key: a worker is not
//! believed anything else.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use forkright_shm::mapping::Mapping;
use forkright_shm::memory::{Access, Memory};
use rustix::fs::{Mode, OFlags};
use rustix::process::{DumpableBehavior, dumpable_behavior};

use crate::store::{Held, Leased};

/// Each part begins at a multiple of this: what vector instructions like.
const ALIGNMENT: u64 = 64;

/// The highest bit, which no offset of a block has: names a share where others name a block.
pub const SHARED: u64 = 1 << 63;

/// One piece of memory, mapped into this process.
pub struct Share {
    /// What it is called in all processes.
    key: u64,
    memory: Memory,
    mapping: Mapping,
    /// In the process it was sent to: tells the sender when it is let go of.
    held: Option<Arc<Held>>,
    sights: AtomicUsize,
}

/// One use of a share by the program, as against its being on its way or kept.
pub struct Sight(Arc<Share>);

/// How often the last sight of a share went.
static LOST: AtomicU64 = AtomicU64::new(0);

/// A part of a share, as it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portion {
    /// Whose it is.
    pub key: u64,
    /// Its first byte in the share.
    pub offset: u64,
    /// How many bytes.
    pub len: u64,
    /// The sender's process, and the descriptor it has there.
    pub pid: u32,
    /// As above.
    pub fd: u32,
}

/// The shares that are mapped in this process.
#[derive(Default)]
struct Shares {
    by_address: BTreeMap<usize, Weak<Share>>,
    by_key: HashMap<u64, Weak<Share>>,
}

static SHARES: Mutex<Option<Shares>> = Mutex::new(None);

impl Share {
    /// Copies `parts` into memory of its own; also tells where in it each begins. Unless `writable`, nobody can write to
    /// it ever after.
    ///
    /// # Errors
    ///
    /// What the system says, or that it keeps other processes from this one's memory.
    pub fn create(parts: &[&[u8]], writable: bool) -> io::Result<(Arc<Share>, Vec<u64>)> {
        if dumpable_behavior()? != DumpableBehavior::Dumpable {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "this process is not dumpable, so no other may open its memory",
            ));
        }
        let mut len = 0_u64;
        let mut placed = Vec::with_capacity(parts.len());
        for part in parts {
            placed.push((len, *part));
            len = (len + part.len() as u64).next_multiple_of(ALIGNMENT);
        }
        // An empty one is a share, too.
        let memory = Memory::create_filled("forkright-share", len.max(1), &placed, writable)?;
        let key = RandomState::new().hash_one(std::process::id()) & !SHARED;
        let share = Share::admit(key, memory, None)?;
        Ok((share, placed.into_iter().map(|(offset, _)| offset).collect()))
    }

    /// The share that a portion is of: the one that is mapped here, else the sender's. What tells the sender that it is let
    /// go of, if anything does, is kept for as long as it is mapped here.
    ///
    /// # Errors
    ///
    /// What the system says, or that the sender has something else there.
    pub fn open(portion: &Portion, held: Option<Arc<Held>>) -> io::Result<Arc<Share>> {
        if let Some(known) = Share::find(portion.key) {
            return Ok(known);
        }
        let path = format!("/proc/{}/fd/{}", portion.pid, portion.fd);
        let open = |flags| rustix::fs::open(path.as_str(), flags | OFlags::CLOEXEC, Mode::empty());
        Share::admit(portion.key, Memory::from_fd(open(OFlags::RDWR)?)?, held)
    }

    /// The share of that key, if it is mapped here.
    pub fn find(key: u64) -> Option<Arc<Share>> {
        lock().as_ref()?.by_key.get(&key)?.upgrade()
    }

    /// The share in which those bytes lie, if any, and where in it.
    pub fn around(address: usize, len: usize) -> Option<(Arc<Share>, u64)> {
        let share = lock().as_ref()?.by_address.range(..=address).next_back()?.1.clone();
        // Without the lock: if nobody else has the share by now, its end takes it.
        let share = share.upgrade()?;
        let offset = address.checked_sub(share.mapping.as_ptr() as usize)?;
        let is_within = offset.checked_add(len).is_some_and(|end| end <= share.mapping.len());
        is_within.then_some((share, offset as u64))
    }

    fn admit(key: u64, memory: Memory, held: Option<Arc<Held>>) -> io::Result<Arc<Share>> {
        let access = if memory.is_writable()? { Access::Shared } else { Access::ReadOnly };
        let mapping = memory.map(0, memory.len()?, access)?;
        let share = Arc::new(Share { key, memory, mapping, held, sights: AtomicUsize::new(0) });
        let mut shares = lock();
        let shares = shares.get_or_insert_default();
        // Two threads may open it at once: both have a mapping of the same memory, and the later one is found.
        shares.by_address.insert(share.mapping.as_ptr() as usize, Arc::downgrade(&share));
        shares.by_key.insert(key, Arc::downgrade(&share));
        Ok(share)
    }

    /// How often the program has lost sight of a share: if that is as it was, none has been abandoned since.
    pub fn times_lost() -> u64 {
        LOST.load(Acquire)
    }

    /// Whether it came from the process that this one works for.
    pub fn is_callers(&self) -> bool {
        self.held.is_some()
    }

    /// Its bytes.
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// A part of it, to be sent.
    pub fn portion(&self, offset: u64, len: u64) -> Portion {
        let fd = self.memory.fd().as_raw_fd().unsigned_abs();
        Portion { key: self.key, offset, len, pid: std::process::id(), fd }
    }
}

impl Leased for Share {
    fn key(&self) -> u64 {
        SHARED | self.key
    }

    fn is_abandoned(&self) -> bool {
        self.sights.load(Acquire) == 0
    }
}

impl Sight {
    /// The program uses a share.
    pub fn of(share: Arc<Share>) -> Sight {
        share.sights.fetch_add(1, AcqRel);
        Sight(share)
    }

    /// What it uses.
    pub fn share(&self) -> &Share {
        &self.0
    }
}

impl Drop for Sight {
    fn drop(&mut self) {
        if self.0.sights.fetch_sub(1, AcqRel) == 1 {
            LOST.fetch_add(1, AcqRel);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut shares = lock();
        let Some(shares) = shares.as_mut() else { return };
        // Before it is unmapped, so that the address still means this one.
        shares.by_address.remove(&(self.mapping.as_ptr() as usize));
        if shares.by_key.get(&self.key).is_some_and(|other| other.strong_count() == 0) {
            shares.by_key.remove(&self.key);
        }
    }
}

fn lock() -> MutexGuard<'static, Option<Shares>> {
    SHARES.lock().unwrap_or_else(PoisonError::into_inner)
}
