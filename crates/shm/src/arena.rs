//! Keeps large payloads in a memfd that this process owns: hands out blocks of it, recycles them, gives idle
//! pages back. Used by whoever sends payloads; the receiver maps a [`Block`] and never sees an arena.
//!
//! All bookkeeping is private memory of the owner: a peer can spoil the bytes of a block, never the arena. The
//! file cannot shrink (see `memory`), so a block that is given back becomes a hole in it: address space that
//! takes no memory. Free space is thus of two sorts: **idle** pages, about ten times cheaper to fill than fresh
//! ones, and **holes**.
//!
//! Reads no clock: callers say what time it is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::time::Duration;

use crate::memory::Memory;

/// Hands out page-aligned blocks of one growable [`Memory`].
#[derive(Debug)]
pub struct Arena {
    memory: Memory,
    /// Bytes of idle pages that `trim` leaves, however young.
    idle_cap: u64,
    page: u64,
    /// Length of the file, in whole pages. Only this process grows it.
    end: u64,
    /// Blocks handed out: exact length by offset.
    live: HashMap<u64, u64>,
    /// Whole pages of the blocks handed out.
    used: u64,
    free: FreeSpace,
}

/// Where a payload lies in the memory of its sender's arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Block {
    /// Its first byte: on a page.
    pub offset: u64,
    /// How many bytes.
    pub len: u64,
}

/// A block that was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// Where it is.
    pub block: Block,
    /// All of its pages were idle: there is memory behind them.
    pub recycled: bool,
}

impl Arena {
    /// An arena over all of `memory`, which nobody else allocates from or writes to. It gives idle pages back
    /// sooner than told to when there are more than `idle_cap` bytes of them.
    ///
    /// # Errors
    ///
    /// What the system says when asked for the length of `memory`.
    pub fn new(memory: Memory, idle_cap: usize) -> io::Result<Self> {
        let page = rustix::param::page_size() as u64;
        let end = memory.len()? / page * page;
        let mut free = FreeSpace::default();
        if end > 0 {
            free.give(0, Span { len: end, idle_since: None });
        }
        Ok(Self { memory, idle_cap: idle_cap as u64, page, end, live: HashMap::new(), used: 0, free })
    }

    /// Writes `parts` one after another into a new block.
    ///
    /// # Errors
    ///
    /// What the system says: mostly no memory left. The block is free again then.
    pub fn place(&mut self, parts: &[&[u8]], now: Duration) -> io::Result<Block> {
        let len = parts.iter().map(|part| part.len() as u64).sum();
        let Reserved { block, .. } = self.reserve(len)?;
        let mut offset = block.offset;
        for part in parts {
            if let Err(error) = self.memory.write_at(part, offset) {
                // Idle, not a hole: some of it may have been written.
                let freed = self.free(block, now);
                debug_assert!(freed, "the block was handed out just now");
                return Err(error);
            }
            offset += part.len() as u64;
        }
        Ok(block)
    }

    /// A block for somebody to write to later. Its bytes are zero or those of blocks before it.
    ///
    /// # Errors
    ///
    /// What the system says when asked for more room.
    pub fn reserve(&mut self, len: u64) -> io::Result<Reserved> {
        let room = self.room_for(len).ok_or(io::ErrorKind::OutOfMemory)?;
        let idle = self.free.idle;
        let offset = match self.free.take(room) {
            Some(offset) => offset,
            None => {
                self.grow(room)?;
                self.free.take(room).ok_or(io::ErrorKind::OutOfMemory)?
            }
        };
        self.used += room;
        self.live.insert(offset, len);
        Ok(Reserved { block: Block { offset, len }, recycled: idle - self.free.idle == room })
    }

    /// Takes a block back. `false` if it is not one that is handed out: blocks come back from peers, and a peer
    /// may send one twice or make one up.
    #[must_use = "a block that was not handed out tells of a broken peer"]
    pub fn free(&mut self, block: Block, now: Duration) -> bool {
        if self.live.get(&block.offset) != Some(&block.len) {
            return false;
        }
        self.live.remove(&block.offset);
        let room = self.room_for(block.len).unwrap_or(0);
        self.used -= room;
        self.free.give(block.offset, Span { len: room, idle_since: Some(now) });
        true
    }

    /// Gives the pages back to the system that have been idle for `max_age`, and the longest idle of those
    /// beyond the cap. Says how many bytes. To be called now and then, and soon after large blocks are freed.
    ///
    /// # Errors
    ///
    /// What the system says; what was not given back stays idle.
    pub fn trim(&mut self, now: Duration, max_age: Duration) -> io::Result<u64> {
        let mut given = 0;
        while let Some((offset, span, since)) = self.free.longest_idle() {
            let excess = if now.saturating_sub(since) >= max_age {
                span.len
            } else {
                self.free.idle.saturating_sub(self.idle_cap).next_multiple_of(self.page).min(span.len)
            };
            if excess == 0 {
                break;
            }
            self.memory.discard(offset, excess)?;
            self.free.hollow(offset, excess);
            given += excess;
        }
        Ok(given)
    }

    /// Bytes of the pages handed out.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Bytes of the pages that are free but still take memory.
    #[must_use]
    pub fn idle(&self) -> u64 {
        self.free.idle
    }

    /// The memory, for passing on.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Adds a hole of at least `room` bytes at the end of the file.
    fn grow(&mut self, room: u64) -> io::Result<()> {
        // Twice as long at least: a hole takes no memory, and the search for a run of free spans that comes
        // before each growth stays rare.
        let end = self.end.checked_add(room.max(self.end)).ok_or(io::ErrorKind::OutOfMemory)?;
        self.memory.grow(end)?;
        self.free.give(self.end, Span { len: end - self.end, idle_since: None });
        self.end = end;
        Ok(())
    }

    /// Whole pages for `len` bytes; one for none, so that every block has an offset of its own.
    fn room_for(&self, len: u64) -> Option<u64> {
        len.max(1).checked_next_multiple_of(self.page)
    }
}

impl Block {
    /// The block as 16 bytes, for a frame.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.offset.to_ne_bytes());
        bytes[8..].copy_from_slice(&self.len.to_ne_bytes());
        bytes
    }

    /// The block that those 16 bytes stand for.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let [offset, len] = *bytes.as_chunks::<8>().0 else { unreachable!("16 bytes are two words") };
        Self { offset: u64::from_ne_bytes(offset), len: u64::from_ne_bytes(len) }
    }

    /// Whether it lies within a memory of `memory_len` bytes: for blocks that a peer sent.
    #[must_use]
    pub fn check(&self, memory_len: u64) -> bool {
        self.offset.checked_add(self.len).is_some_and(|end| end <= memory_len)
    }
}

/// A span of free pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    len: u64,
    /// When its longest idle page was freed; none for a hole.
    idle_since: Option<Duration>,
}

/// Neighbours that were freed within this time of each other become one span, as old as the older. Long enough
/// for the blocks of a batch, short against the age at which pages are given back. A guess, not measured.
const SAME_AGE: Duration = Duration::from_millis(250);

/// The free pages of an arena, found by place, by size and by age.
#[derive(Debug, Default)]
struct FreeSpace {
    /// Disjoint; neighbours that [`Span::join`] would join are one.
    by_offset: BTreeMap<u64, Span>,
    /// (hole, len, offset) of each span: idle ones first, then the smallest.
    by_size: BTreeSet<(bool, u64, u64)>,
    /// (since, offset) of each idle span.
    by_age: BTreeSet<(Duration, u64)>,
    /// Bytes of the idle spans.
    idle: u64,
}

impl FreeSpace {
    /// Takes `room` bytes: of the smallest idle span that has them, else of the smallest hole, else of several
    /// neighbours together. `None` if there are no such neighbours either.
    fn take(&mut self, room: u64) -> Option<u64> {
        let of_sort = |hole| self.by_size.range((hole, room, 0)..=(hole, u64::MAX, u64::MAX)).next();
        let offset = match of_sort(false).or_else(|| of_sort(true)) {
            Some(&(_, _, offset)) => offset,
            None => self.smallest_run(room)?,
        };
        let mut missing = room;
        while missing > 0 {
            let at = offset + (room - missing);
            let span = self.remove(at)?;
            let taken = span.len.min(missing);
            if taken < span.len {
                self.insert(at + taken, Span { len: span.len - taken, ..span });
            }
            missing -= taken;
        }
        Some(offset)
    }

    /// Adds a free span, joined with its neighbours if they are of its sort and age.
    fn give(&mut self, mut offset: u64, mut span: Span) {
        if let Some((&before, &left)) = self.by_offset.range(..offset).next_back()
            && before + left.len == offset
            && let Some(joined) = left.join(span)
        {
            self.remove(before);
            (offset, span) = (before, joined);
        }
        let after = offset + span.len;
        if let Some(&right) = self.by_offset.get(&after)
            && let Some(joined) = span.join(right)
        {
            self.remove(after);
            span = joined;
        }
        self.insert(offset, span);
    }

    fn longest_idle(&self) -> Option<(u64, Span, Duration)> {
        let &(since, offset) = self.by_age.first()?;
        Some((offset, self.by_offset[&offset], since))
    }

    /// Makes a hole of the first `len` bytes of the span at `offset`.
    fn hollow(&mut self, offset: u64, len: u64) {
        if let Some(span) = self.remove(offset) {
            if len < span.len {
                self.insert(offset + len, Span { len: span.len - len, ..span });
            }
            self.give(offset, Span { len, idle_since: None });
        }
    }

    /// The smallest run of neighbours, idle or not, that has `room` bytes.
    fn smallest_run(&self, room: u64) -> Option<u64> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for (&offset, span) in &self.by_offset {
            match runs.last_mut() {
                Some((start, len)) if *start + *len == offset => *len += span.len,
                _ => runs.push((offset, span.len)),
            }
        }
        runs.into_iter().filter(|&(_, len)| len >= room).min_by_key(|&(_, len)| len).map(|(start, _)| start)
    }

    fn insert(&mut self, offset: u64, span: Span) {
        self.by_offset.insert(offset, span);
        self.by_size.insert((span.idle_since.is_none(), span.len, offset));
        if let Some(since) = span.idle_since {
            self.by_age.insert((since, offset));
            self.idle += span.len;
        }
    }

    fn remove(&mut self, offset: u64) -> Option<Span> {
        let span = self.by_offset.remove(&offset)?;
        self.by_size.remove(&(span.idle_since.is_none(), span.len, offset));
        if let Some(since) = span.idle_since {
            self.by_age.remove(&(since, offset));
            self.idle -= span.len;
        }
        Some(span)
    }
}

impl Span {
    /// The two as one, if they are of one sort and age.
    fn join(self, right: Self) -> Option<Self> {
        let idle_since = match (self.idle_since, right.idle_since) {
            (None, None) => None,
            (Some(left), Some(right)) if left.abs_diff(right) <= SAME_AGE => Some(left.min(right)),
            _ => return None,
        };
        Some(Self { len: self.len + right.len, idle_since })
    }
}

#[cfg(all(test, not(loom), not(miri)))]
#[allow(clippy::unwrap_used, reason = "to fail is to panic here")]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;

    use proptest::prelude::*;

    use super::*;
    use crate::memory::Access;

    const PAGE: u64 = 4096;
    const NOW: Duration = Duration::from_secs(100);
    const CAP: usize = 1 << 20;

    fn arena() -> Arena {
        arena_with_cap(CAP)
    }

    fn arena_with_cap(idle_cap: usize) -> Arena {
        let arena = Arena::new(Memory::create("forkright-test", 0).unwrap(), idle_cap).unwrap();
        assert_eq!(arena.page, PAGE, "these tests count pages of 4 KiB");
        arena
    }

    fn read(arena: &Arena, block: Block) -> Vec<u8> {
        let mapping = arena.memory().map(block.offset, block.len, Access::Private).unwrap();
        // SAFETY: the mapping is of `len` bytes, and nobody writes to the block while this copies it.
        unsafe { std::slice::from_raw_parts(mapping.as_ptr(), mapping.len()) }.to_vec()
    }

    /// Bytes of memory that the file takes.
    fn resident(arena: &Arena) -> u64 {
        File::from(arena.memory().fd().try_clone_to_owned().unwrap()).metadata().unwrap().blocks() * 512
    }

    /// What holds of an arena at any time.
    fn check(arena: &Arena) {
        let mut spans: Vec<(u64, u64)> =
            arena.free.by_offset.iter().map(|(&offset, span)| (offset, span.len)).collect();
        let blocks = arena.live.iter().map(|(&offset, &len)| (offset, len.max(1).next_multiple_of(PAGE)));
        spans.extend(blocks);
        spans.sort_unstable();
        let mut end = 0;
        for (offset, len) in spans {
            assert_eq!(offset, end, "blocks and free spans neither overlap nor leave gaps");
            assert!(len > 0 && len.is_multiple_of(PAGE));
            end += len;
        }
        assert_eq!(end, arena.end);
        assert!(end <= arena.memory.len().unwrap());

        let free = &arena.free;
        assert_eq!(free.by_size.len(), free.by_offset.len());
        assert!(free.by_offset.iter().all(|(&offset, span)| {
            let by_age = span.idle_since.is_none_or(|since| free.by_age.contains(&(since, offset)));
            by_age && free.by_size.contains(&(span.idle_since.is_none(), span.len, offset))
        }));
        let idle = free.by_offset.values().filter(|span| span.idle_since.is_some());
        assert_eq!(idle.clone().count(), free.by_age.len());
        assert_eq!(idle.map(|span| span.len).sum::<u64>(), arena.idle());
        let mut lengths = 0;
        for len in arena.live.values() {
            lengths += len.max(&1).next_multiple_of(PAGE);
        }
        assert_eq!(lengths, arena.used());
    }

    #[test]
    fn a_payload_is_read_back_as_it_was_placed() {
        let mut arena = arena();
        let parts: [&[u8]; 4] = [b"one", b"", &[7; 5000], b"end"];
        let block = arena.place(&parts, NOW).unwrap();
        assert_eq!(read(&arena, block), parts.concat());
        assert!(block.offset.is_multiple_of(PAGE));
    }

    #[test]
    fn an_empty_payload_is_a_payload() {
        let mut arena = arena();
        let (first, second) = (arena.place(&[], NOW).unwrap(), arena.place(&[b""], NOW).unwrap());
        assert_ne!(first.offset, second.offset);
        assert_eq!(read(&arena, second), b"");
        assert!(arena.free(first, NOW) && arena.free(second, NOW));
        check(&arena);
    }

    #[test]
    fn a_block_that_is_not_handed_out_is_not_freed() {
        let mut arena = arena();
        let block = arena.reserve(5000).unwrap().block;
        for made_up in [
            Block { offset: block.offset + PAGE, len: PAGE },
            Block { offset: u64::MAX, len: u64::MAX },
            Block { len: block.len + 1, ..block },
        ] {
            assert!(!arena.free(made_up, NOW));
        }
        assert!(arena.free(block, NOW));
        assert!(!arena.free(block, NOW), "nor is one freed twice");
        check(&arena);
    }

    #[test]
    fn idle_pages_are_recycled_before_fresh_ones() {
        let mut arena = arena();
        let blocks: Vec<_> = (0..9).map(|_| arena.reserve(4 * PAGE).unwrap().block).collect();
        assert!(arena.free(blocks[5], NOW));
        assert!(arena.free.by_offset.len() > 1, "there is a hole as well");
        let again = arena.reserve(3 * PAGE).unwrap();
        assert_eq!((again.block.offset, again.recycled), (blocks[5].offset, true));
        assert!(!arena.reserve(4 * PAGE).unwrap().recycled, "one idle page is not enough");
    }

    #[test]
    fn the_pages_of_neighbours_make_one_block() {
        let mut arena = arena();
        let blocks: Vec<_> = (0..8).map(|_| arena.reserve(PAGE).unwrap().block).collect();
        let end = arena.end;
        // Of different ages, so that they stay separate spans.
        for (block, age) in blocks.into_iter().zip(0..) {
            assert!(arena.free(block, NOW + Duration::from_secs(age)));
        }
        assert_eq!(arena.reserve(end).unwrap().block, Block { offset: 0, len: end });
        check(&arena);
        assert_eq!(arena.end, end);
    }

    #[test]
    fn idle_pages_are_given_back_once_they_are_old() {
        let mut arena = arena();
        let age = Duration::from_secs(2);
        let old = arena.place(&[&[1; 10 * PAGE as usize]], NOW).unwrap();
        let kept = arena.place(&[&[2; PAGE as usize]], NOW).unwrap();
        let young = arena.place(&[&[3; 10 * PAGE as usize]], NOW).unwrap();
        assert!(arena.free(old, NOW) && arena.free(young, NOW + age));
        assert_eq!(arena.trim(NOW + age - Duration::from_nanos(1), age).unwrap(), 0);
        assert_eq!(arena.trim(NOW + age, age).unwrap(), 10 * PAGE);
        assert_eq!((arena.idle(), resident(&arena)), (10 * PAGE, 11 * PAGE));
        assert_eq!(read(&arena, kept), [2; PAGE as usize]);
        check(&arena);
    }

    #[test]
    fn idle_pages_beyond_the_cap_are_given_back_at_once() {
        let mut arena = arena_with_cap(4 * PAGE as usize + 1);
        let block = arena.place(&[&[1; 10 * PAGE as usize]], NOW).unwrap();
        assert!(arena.free(block, NOW));
        assert_eq!(arena.trim(NOW, Duration::from_secs(9)).unwrap(), 6 * PAGE);
        assert_eq!((arena.idle(), resident(&arena)), (4 * PAGE, 4 * PAGE));
        check(&arena);
    }

    #[test]
    fn repeating_the_same_work_does_not_lengthen_the_file() {
        let mut arena = arena();
        let mut ends = Vec::new();
        for round in 0..50 {
            let now = NOW + Duration::from_secs(round);
            let blocks: Vec<_> =
                (1..40).map(|pages| arena.reserve(pages * 3 % 17 * PAGE).unwrap().block).collect();
            for block in blocks {
                assert!(arena.free(block, now));
            }
            arena.trim(now, Duration::from_secs(3)).unwrap();
            ends.push(arena.end);
        }
        assert!(ends.iter().all(|end| *end == ends[0]), "{ends:?}");
    }

    #[test]
    fn more_than_there_can_be_is_an_error_and_nothing_else() {
        let mut arena = arena();
        let block = arena.place(&[b"kept"], NOW).unwrap();
        for len in [u64::MAX, u64::MAX / 2, u64::MAX - PAGE] {
            assert!(arena.reserve(len).is_err());
        }
        assert_eq!(read(&arena, block), b"kept");
        check(&arena);
    }

    #[test]
    fn a_block_outside_of_the_memory_is_told() {
        assert!(Block { offset: 10, len: 90 }.check(100));
        assert!(!Block { offset: 10, len: 91 }.check(100));
        assert!(!Block { offset: u64::MAX, len: 2 }.check(100));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Place { len: usize },
        Free { which: usize },
        Trim { age: u64 },
        Pass { millis: u64 },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            5 => (0..16 * PAGE as usize).prop_map(|len| Step::Place { len }),
            4 => (0usize..32).prop_map(|which| Step::Free { which }),
            1 => (0u64..3).prop_map(|age| Step::Trim { age }),
            1 => (0u64..1000).prop_map(|millis| Step::Pass { millis }),
        ]
    }

    proptest! {
        #[test]
        fn blocks_keep_their_bytes_and_all_space_comes_back(steps in prop::collection::vec(step(), 0..200)) {
            let mut arena = arena_with_cap(8 * PAGE as usize);
            let (mut now, mut most, mut blocks) = (NOW, 0, Vec::<(Block, u8)>::new());
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Place { len } => {
                        let bytes = vec![n as u8; len];
                        let (left, right) = bytes.split_at(len / 3);
                        blocks.push((arena.place(&[left, right], now).unwrap(), n as u8));
                    }
                    Step::Free { which } if which < blocks.len() => {
                        let (block, byte) = blocks.swap_remove(which);
                        prop_assert!(read(&arena, block).iter().all(|&found| found == byte));
                        prop_assert!(arena.free(block, now));
                    }
                    Step::Free { .. } => {}
                    Step::Trim { age } => {
                        arena.trim(now, Duration::from_secs(age)).unwrap();
                        prop_assert!(arena.idle() <= 8 * PAGE);
                    }
                    Step::Pass { millis } => now += Duration::from_millis(millis),
                }
                check(&arena);
                most = most.max(arena.used());
                prop_assert!(resident(&arena) <= arena.used() + arena.idle());
            }
            // Twice for the doubling, and what fragmentation can cost with blocks of up to 16 pages.
            prop_assert!(arena.end <= 8 * most, "{} bytes of file for {most} in use", arena.end);
            for (block, byte) in blocks {
                prop_assert!(read(&arena, block).iter().all(|&found| found == byte));
                prop_assert!(arena.free(block, now));
            }
            arena.trim(now, Duration::ZERO).unwrap();
            prop_assert_eq!((arena.used(), arena.idle(), resident(&arena)), (0, 0, 0));
            if arena.end > 0 {
                let whole = Span { len: arena.end, idle_since: None };
                prop_assert_eq!(arena.free.by_offset, BTreeMap::from([(0, whole)]));
            }
        }
    }
}
