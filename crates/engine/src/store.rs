//! The caller's payload store: blocks of shared memory leased to parcels and workers. A lease is private to
//! this process, so a dead worker's leases end with its seat and nothing in shared memory counts references.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use forkright_shm::arena::{Arena, Block};
use forkright_shm::mapping::Mapping;
use forkright_shm::memory::{Access, Memory};

use crate::estimate::Constant;
use crate::here;

/// Idle memory a store keeps for reuse at most: recycled pages cost a tenth of fresh ones.
const IDLE_CAP: usize = 256 << 20;
/// Idle memory older than this goes back to the system.
const IDLE_AGE: Duration = Duration::from_secs(3);

/// Bytes from which on a copy takes long enough to tell what one of them costs.
const WORTH_TIMING: u64 = 256 * 1024;

/// Memory this process writes and the other party reads.
pub struct Store {
    /// The same memory as the arena's, to write to without its lock.
    memory: Memory,
    arena: Mutex<Arena>,
    born: Instant,
}

impl Store {
    /// An empty store with memory of its own.
    pub fn create(name: &str) -> io::Result<Arc<Store>> {
        Store::over(Memory::create(name, 0)?)
    }

    /// A store over memory that was handed to this process to write in.
    pub fn over(memory: Memory) -> io::Result<Arc<Store>> {
        let ours = Memory::from_fd(memory.fd().try_clone_to_owned()?)?;
        let arena = Mutex::new(Arena::new(ours, IDLE_CAP)?);
        Ok(Arc::new(Store { memory, arena, born: Instant::now() }))
    }

    /// Its memory, to be handed to a reader.
    pub fn share(&self) -> io::Result<OwnedFd> {
        self.memory.fd().try_clone_to_owned()
    }

    /// Copies `parts`, one after another, into a block.
    pub fn keep(self: &Arc<Self>, parts: &[&[u8]]) -> io::Result<Lease> {
        let len = parts.iter().map(|part| part.len() as u64).sum();
        let lease = {
            let mut arena = self.lock();
            let block = arena.reserve(len)?;
            arena.trim(self.born.elapsed(), IDLE_AGE)?;
            Lease { block, store: Arc::clone(self) }
        };
        // Outside the lock: a copy of 100 MB takes tens of milliseconds.
        let mut offset = lease.block.offset;
        let began = (len >= WORTH_TIMING).then(Instant::now);
        for part in parts {
            self.memory.write_at(part, offset)?;
            offset += part.len() as u64;
        }
        if let Some(began) = began {
            here::observe(Constant::Byte, began.elapsed().as_secs_f64() / len as f64);
        }
        Ok(lease)
    }

    /// Gives idle memory back to the system.
    pub fn trim(&self) {
        // Failing to punch a hole costs memory, not correctness; the next trim tries again.
        let _ = self.lock().trim(self.born.elapsed(), IDLE_AGE);
    }

    /// Bytes in use and idle.
    pub fn usage(&self) -> (u64, u64) {
        let arena = self.lock();
        (arena.used(), arena.idle())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arena> {
        self.arena.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to a block; the block is free again when the last holder drops it.
pub struct Lease {
    block: Block,
    store: Arc<Store>,
}

impl Lease {
    /// Where it is.
    pub fn block(&self) -> Block {
        self.block
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // False would mean that somebody freed it before: a lease is the only one who can.
        let _ = self.store.lock().free(self.block, self.store.born.elapsed());
    }
}

/// Memory the other party writes and this one reads, with the blocks to be reported as no longer in use.
pub struct Inbox {
    memory: Memory,
    released: Mutex<Vec<u64>>,
}

impl Inbox {
    /// Over memory the other party allocates in.
    pub fn over(memory: Memory) -> Arc<Inbox> {
        Arc::new(Inbox { memory, released: Mutex::default() })
    }

    /// The blocks let go since the last call, by offset.
    pub fn take_released(&self) -> Vec<u64> {
        std::mem::take(&mut *self.released.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether there are any: cheap enough for every message.
    pub fn has_released(&self) -> bool {
        !self.released.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Takes charge of a block that arrived.
    pub fn hold(self: &Arc<Self>, block: Block) -> Held {
        Held { block, inbox: Arc::clone(self) }
    }
}

/// A block that arrived; dropping it tells the sender, in time, that it can be used again.
pub struct Held {
    block: Block,
    inbox: Arc<Inbox>,
}

impl Held {
    /// How long it is, as its sender says.
    pub fn len(&self) -> u64 {
        self.block.len
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.block.len == 0
    }

    /// Its bytes, as a private copy-on-write view. Fails if the sender named what its memory does not have.
    pub fn map(&self) -> io::Result<Mapping> {
        self.inbox.memory.map(self.block.offset, self.block.len, Access::Private)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.inbox.released.lock().unwrap_or_else(PoisonError::into_inner).push(self.block.offset);
    }
}
