//! The caller's payload store: blocks of shared memory leased to parcels and workers. A lease is private to
//! this process, so a dead worker's leases end with its seat and nothing in shared memory counts references.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use forkright_shm::arena::{Arena, Block, Reserved};
use forkright_shm::mapping::Mapping;
use forkright_shm::memory::{Access, Memory};

use crate::estimate::Constant;
use crate::here;
use crate::share::{Portion, Share};

/// Idle memory a store keeps for reuse at most: recycled pages cost a tenth of fresh ones.
const IDLE_CAP: usize = 256 << 20;
/// Idle memory older than this goes back to the system.
const IDLE_AGE: Duration = Duration::from_secs(3);
/// How soon to look after idle memory again: later than its age, so that one look finds it old.
pub const TIDY: Duration = Duration::from_millis(3500);

/// Bytes from which on a copy takes long enough to tell what one of them costs, to be made through a mapping, and to
/// be looked for among those made before.
const LARGE: usize = 256 * 1024;
/// Copies that are looked for at most, before those that are gone are cleared out.
const MANY: usize = 64;

/// Memory this process writes and the other party reads.
pub struct Store {
    /// The same memory as the arena's, to write to without its lock.
    memory: Memory,
    arena: Mutex<Arena>,
    view: Mutex<View>,
    /// The copies that were made of large parts, by where those lie and how long they are.
    copies: Mutex<HashMap<(usize, usize), Weak<Lease>>>,
    /// It is a worker who writes.
    is_workers: bool,
    born: Instant,
}

/// A store's own mapping of its memory.
#[derive(Default)]
struct View {
    /// All of it, as long as it was when last mapped.
    whole: Option<Arc<Mapping>>,
    /// Blocks whose pages the mapping has, by offset, with how long they were: to populate them again costs half of what
    /// a copy does. One that is not true any more costs page faults.
    present: HashMap<u64, u64>,
}

impl Store {
    /// An empty store with memory of its own.
    pub fn create(name: &str) -> io::Result<Arc<Store>> {
        Store::over(Memory::create(name, 0)?, false)
    }

    /// A worker's store, over memory that it was handed to write in.
    pub fn of_worker(memory: Memory) -> io::Result<Arc<Store>> {
        Store::over(memory, true)
    }

    /// Whether its reader is the caller.
    pub fn is_workers(&self) -> bool {
        self.is_workers
    }

    fn over(memory: Memory, is_workers: bool) -> io::Result<Arc<Store>> {
        let ours = Memory::from_fd(memory.fd().try_clone_to_owned()?)?;
        let arena = Mutex::new(Arena::new(ours, IDLE_CAP)?);
        let (view, copies) = Default::default();
        Ok(Arc::new(Store { memory, arena, view, copies, is_workers, born: Instant::now() }))
    }

    /// Its memory, to be handed to a reader.
    pub fn share(&self) -> io::Result<OwnedFd> {
        self.memory.fd().try_clone_to_owned()
    }

    /// Copies `parts`, one after another, into a block.
    pub fn keep(self: &Arc<Self>, parts: &[&[u8]]) -> io::Result<Lease> {
        let len = parts.iter().map(|part| part.len() as u64).sum();
        let Reserved { block, recycled } = lock(&self.arena).reserve(len)?;
        let lease = Lease { block, store: Arc::clone(self) };
        self.discard_idle()?;
        // Outside the lock: a copy of 100 MB takes tens of milliseconds.
        let began = (len >= LARGE as u64).then(Instant::now);
        self.fill(lease.block, parts, began.is_some() && recycled)?;
        if let Some(began) = began {
            here::observe(Constant::Byte, began.elapsed().as_secs_f64() / len as f64);
        }
        Ok(lease)
    }

    /// As [`keep`](Self::keep), of one part; a copy of the same bytes that is still leased is leased once more.
    pub fn keep_once(self: &Arc<Self>, part: &[u8]) -> io::Result<Arc<Lease>> {
        if part.len() < LARGE {
            return self.keep(&[part]).map(Arc::new);
        }
        let place = (part.as_ptr() as usize, part.len());
        let copy = lock(&self.copies).get(&place).and_then(Weak::upgrade);
        // What lies there may have been written to since, or be something else by now. To compare costs what to copy
        // does, and no memory; what differs mostly does so at its beginning.
        if let Some(copy) = copy
            && let Some(view) = lock(&self.view).over(&self.memory, copy.block)
            && view.holds(copy.block.offset as usize, part)
        {
            return Ok(copy);
        }
        let lease = Arc::new(self.keep(&[part])?);
        let mut copies = lock(&self.copies);
        if copies.len() >= MANY {
            copies.retain(|_, copy| copy.strong_count() > 0);
        }
        copies.insert(place, Arc::downgrade(&lease));
        Ok(lease)
    }

    /// Writes `parts` into a block: into fresh pages the kernel copies sooner than they can be mapped, into pages that
    /// are mapped a plain copy takes half as long.
    fn fill(&self, block: Block, parts: &[&[u8]], recycled: bool) -> io::Result<()> {
        let view = if recycled { self.populated(block) } else { None };
        let mut offset = block.offset;
        for part in parts {
            match &view {
                Some(view) => view.write(offset as usize, part),
                None => self.memory.write_at(part, offset)?,
            }
            offset += part.len() as u64;
        }
        Ok(())
    }

    /// A mapping that has the pages of a block. None: the system has no room for it, or cannot do that.
    fn populated(&self, block: Block) -> Option<Arc<Mapping>> {
        let mut view = lock(&self.view);
        let whole = view.over(&self.memory, block)?;
        if view.present.get(&block.offset).is_some_and(|&len| len >= block.len) {
            return Some(whole);
        }
        drop(view);
        whole.populate(block.offset as usize, block.len as usize).ok()?;
        lock(&self.view).present.insert(block.offset, block.len);
        Some(whole)
    }

    fn discard_idle(&self) -> io::Result<()> {
        if lock(&self.arena).trim(self.born.elapsed(), IDLE_AGE)? > 0 {
            lock(&self.view).present.clear();
        }
        Ok(())
    }

    /// Gives idle memory back to the system.
    pub fn trim(&self) {
        // Failing to punch a hole costs memory, not correctness; the next trim tries again.
        let _ = self.discard_idle();
    }

    /// Bytes in use and idle.
    pub fn usage(&self) -> (u64, u64) {
        let arena = lock(&self.arena);
        (arena.used(), arena.idle())
    }
}

impl View {
    /// A mapping in which the block lies; none if there is no room for one.
    fn over(&mut self, memory: &Memory, block: Block) -> Option<Arc<Mapping>> {
        if self.whole.as_ref().is_none_or(|whole| !block.check(whole.len() as u64)) {
            let len = memory.len().ok()?;
            *self = View {
                whole: Some(Arc::new(memory.map(0, len, Access::Shared).ok()?)),
                present: HashMap::new(),
            };
        }
        self.whole.clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What another process reads, and has been sent by its key.
pub trait Leased: Send + Sync {
    /// Names it, where the reader says that it has let go of it.
    fn key(&self) -> u64;

    /// Whether the program has lost interest, so that a reader shall not keep it.
    fn is_abandoned(&self) -> bool {
        false
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

impl Leased for Lease {
    fn key(&self) -> u64 {
        self.block.offset
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // False would mean that somebody freed it before: a lease is the only one who can.
        let _ = lock(&self.store.arena).free(self.block, self.store.born.elapsed());
    }
}

/// What another process may still read, counted for each time that it was sent.
#[derive(Default)]
pub struct Lent(HashMap<u64, (Arc<dyn Leased>, u32)>);

impl Lent {
    /// It is sent once more.
    pub fn add(&mut self, lease: &Arc<dyn Leased>) {
        self.0.entry(lease.key()).or_insert_with(|| (Arc::clone(lease), 0)).1 += 1;
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the reader shall not keep any longer, by key.
    pub fn abandoned(&self) -> Vec<u64> {
        self.0.iter().filter(|(_, (leased, _))| leased.is_abandoned()).map(|(key, _)| *key).collect()
    }

    /// The reader has let go of it once. It may say so of anything.
    pub fn give_back(&mut self, key: u64) {
        if let Some((_, count)) = self.0.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&key);
            }
        }
    }
}

/// Memory the other party writes and this one reads, with what is to be reported as no longer in use.
pub struct Inbox {
    memory: Memory,
    /// It is the caller who writes, whose descriptors may be opened.
    is_callers: bool,
    released: Mutex<Vec<u64>>,
    /// The caller's shares that are kept for the next task that gets them, by key.
    kept: Mutex<HashMap<u64, Arc<Share>>>,
}

impl Inbox {
    /// Over memory that a worker allocates in.
    pub fn of_worker(memory: Memory) -> Arc<Inbox> {
        Arc::new(Inbox { memory, is_callers: false, released: Mutex::default(), kept: Mutex::default() })
    }

    /// Over memory that the caller allocates in.
    pub fn of_caller(memory: Memory) -> Arc<Inbox> {
        Arc::new(Inbox { memory, is_callers: true, released: Mutex::default(), kept: Mutex::default() })
    }

    /// Whether its descriptors may be opened.
    pub fn is_callers(&self) -> bool {
        self.is_callers
    }

    /// What was let go of since the last call, by key.
    pub fn take_released(&self) -> Vec<u64> {
        std::mem::take(&mut *lock(&self.released))
    }

    /// Whether there are any: cheap enough for every message.
    pub fn has_released(&self) -> bool {
        !lock(&self.released).is_empty()
    }

    /// Whether anything that arrived is still read here, or let go of and not reported.
    pub fn is_in_use(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1 || self.has_released()
    }

    /// The caller is not interested in a share any more.
    pub fn forget(&self, key: u64) {
        drop(lock(&self.kept).remove(&key));
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

    /// The caller's share that arrived; kept until it is to be forgotten.
    pub fn open(self: &Arc<Self>, portion: &Portion) -> io::Result<Arc<Share>> {
        let share = Share::open(portion, Some(Arc::clone(self)))?;
        lock(&self.inbox.kept).insert(self.block.offset, Arc::clone(&share));
        Ok(share)
    }

    /// Its bytes, as a private copy-on-write view. Fails if the sender named what its memory does not have.
    pub fn map(&self) -> io::Result<Mapping> {
        self.inbox.memory.map(self.block.offset, self.block.len, Access::Private)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.inbox.released).push(self.block.offset);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "to fail is to panic here")]
mod tests {
    use super::*;

    fn store() -> Arc<Store> {
        Store::create("forkright-test").unwrap()
    }

    fn read(store: &Store, lease: &Lease) -> Vec<u8> {
        let mut bytes = Vec::new();
        store.memory.read_at(&mut bytes, lease.block.offset, lease.block.len).unwrap();
        bytes
    }

    #[test]
    fn the_same_bytes_are_stored_once_while_they_are_leased() {
        let store = store();
        let mut bytes = vec![1; LARGE];
        let first = store.keep_once(&bytes).unwrap();
        let second = store.keep_once(&bytes).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(store.usage().0, LARGE as u64);
        // What was written to since is not the same.
        bytes[LARGE - 1] = 2;
        let third = store.keep_once(&bytes).unwrap();
        assert_ne!(third.block, first.block);
        assert_eq!(read(&store, &third), bytes);
        drop((first, second, third));
        assert_eq!(store.usage().0, 0);
    }

    #[test]
    fn recycled_pages_hold_what_was_written_to_them_last() {
        let store = store();
        for round in 0..4 {
            let bytes = vec![round; 3 * LARGE + 5];
            let (start, end) = bytes.split_at(LARGE / 2);
            let lease = store.keep(&[start, end]).unwrap();
            assert_eq!(read(&store, &lease), bytes);
            // Longer than what was there before, and behind it as well.
            let other = store.keep(&[&bytes, &bytes]).unwrap();
            assert_eq!(read(&store, &other), [bytes.clone(), bytes].concat());
        }
    }

    #[test]
    fn what_was_sent_twice_is_lent_until_it_was_given_back_twice() {
        let store = store();
        let lease: Arc<dyn Leased> = Arc::new(store.keep(&[b"bytes"]).unwrap());
        let offset = lease.key();
        let mut lent = Lent::default();
        lent.add(&lease);
        lent.add(&lease);
        drop(lease);
        lent.give_back(offset);
        lent.give_back(offset + 1);
        assert!(store.usage().0 > 0);
        lent.give_back(offset);
        lent.give_back(offset);
        assert_eq!(store.usage().0, 0);
    }
}
