//! Memory that is read at addresses somebody named.
//!
//! The GIL reader looks through this, so that it need not know whose memory it is, and so that a wrong address is an
//! answer (`None`) and not a crash.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Memory of some process.
pub trait Memory {
    /// The word of four bytes at `address`, if it can be read.
    fn read_u32(&self, address: usize) -> Option<u32>;

    /// The word of eight bytes at `address`, if it can be read.
    fn read_u64(&self, address: usize) -> Option<u64>;

    /// The word the size of a pointer at `address`, if it can be read.
    fn read_usize(&self, address: usize) -> Option<usize> {
        match size_of::<usize>() {
            4 => self.read_u32(address).map(|word| word as usize),
            _ => self.read_u64(address).map(|word| word as usize),
        }
    }
}

/// A stretch of this process's memory.
#[derive(Debug, Clone)]
pub struct Own {
    range: Range<usize>,
}

impl Own {
    /// The memory at `range`.
    ///
    /// # Safety
    ///
    /// Every byte of it stays mapped and readable for as long as this value or a clone of it exists.
    pub unsafe fn new(range: Range<usize>) -> Own {
        Own { range }
    }

    fn holds<T>(&self, address: usize) -> bool {
        address.is_multiple_of(align_of::<T>())
            && address >= self.range.start
            && address.checked_add(size_of::<T>()).is_some_and(|end| end <= self.range.end)
    }
}

impl Memory for Own {
    fn read_u32(&self, address: usize) -> Option<u32> {
        self.holds::<AtomicU32>(address).then(|| {
            // SAFETY: inside the range that `new` was promised to be readable, and aligned. Others may write the
            // word meanwhile; the load is one instruction, so it yields a word that was there.
            unsafe { &*std::ptr::with_exposed_provenance::<AtomicU32>(address) }.load(Ordering::Acquire)
        })
    }

    fn read_u64(&self, address: usize) -> Option<u64> {
        self.holds::<AtomicU64>(address).then(|| {
            // SAFETY: as in `read_u32`.
            unsafe { &*std::ptr::with_exposed_provenance::<AtomicU64>(address) }.load(Ordering::Acquire)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_or_astride_is_read() {
        let words: &'static [AtomicU64] = Box::leak(Box::new([1, 2, 3].map(AtomicU64::new)));
        let start = words.as_ptr().expose_provenance();
        // SAFETY: two words of a leaked slice.
        let memory = unsafe { Own::new(start..start + 16) };
        assert_eq!(memory.read_u64(start), Some(1));
        assert_eq!(memory.read_u64(start + 8), Some(2));
        assert_eq!(memory.read_u64(start + 16), None);
        assert_eq!(memory.read_u64(start - 8), None);
        assert_eq!(memory.read_u64(start + 4), None, "not aligned");
        assert_eq!(memory.read_u32(start + 12), Some(if cfg!(target_endian = "big") { 2 } else { 0 }));
        assert_eq!(memory.read_u32(start + 2), None, "not aligned");
        assert_eq!(memory.read_usize(usize::MAX - 7), None);
    }
}
