//! A piece of a memfd mapped into this process, unmapped on drop. Made by `Memory::map`; knows no layout.

use std::ffi::c_void;
use std::io;
use std::os::fd::AsFd;
use std::ptr::{self, NonNull};

use rustix::mm::{Advice, MapFlags, ProtFlags};

/// Bytes of a [`Memory`](crate::Memory), mapped.
///
/// The bytes may change at any moment (another process writes them), so there is no `&[u8]` of it here: whoever
/// makes one answers for nobody writing meanwhile.
#[derive(Debug)]
pub struct Mapping {
    /// The page that holds the first byte; dangling if `mapped` is 0.
    base: NonNull<u8>,
    /// Whole length of the mapping from `base`, as munmap wants it.
    mapped: usize,
    /// Offset of the first byte from `base`: less than a page.
    lead: usize,
    /// Length that was asked for: `lead + len <= mapped`.
    len: usize,
    writable: bool,
}

// SAFETY: a mapping belongs to the process, not to a thread, and `Mapping` itself reads and writes none of it.
unsafe impl Send for Mapping {}
// SAFETY: as above: the shared methods only tell where it is.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes from `offset`. `Memory::map`, the one caller, has checked that the file has them.
    pub(crate) fn new(
        fd: impl AsFd,
        offset: u64,
        len: usize,
        flags: MapFlags,
        writable: bool,
    ) -> io::Result<Self> {
        if len == 0 {
            // mmap refuses an empty mapping, but an empty payload is a payload.
            return Ok(Self { base: NonNull::dangling(), mapped: 0, lead: 0, len: 0, writable });
        }
        let page = rustix::param::page_size() as u64;
        let lead = (offset % page) as usize;
        let mapped = len.checked_add(lead).ok_or(io::ErrorKind::OutOfMemory)?;
        let protection = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: a null hint lets the kernel choose an address that is free, so no memory in use is replaced.
        let base = unsafe {
            rustix::mm::mmap(ptr::null_mut(), mapped, protection, flags, fd, offset - lead as u64)?
        };
        let base = NonNull::new(base.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, mapped, lead, len, writable })
    }

    /// The first byte. Valid for reads of [`len`](Self::len) bytes while `self` lives, and for writes if it is
    /// [writable](Self::is_writable); dangling if that is 0.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.base.as_ptr().wrapping_add(self.lead)
    }

    /// How many bytes were asked for.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Gives the pages of `len` bytes from `offset` to the mapping at once: several times cheaper than to fault them in.
    ///
    /// # Errors
    ///
    /// What the system says: no memory left, or a kernel before 5.14.
    pub fn populate(&self, offset: usize, len: usize) -> io::Result<()> {
        self.assert_within(offset, len);
        assert!(self.writable, "the mapping is only to be read");
        let page = rustix::param::page_size();
        let lead = (self.lead + offset) % page;
        // SAFETY: the pages lie within the mapping, as was asserted, and to populate them changes no byte.
        let done = unsafe {
            let start = self.as_ptr().add(offset).sub(lead);
            rustix::mm::madvise(start.cast::<c_void>(), lead + len, Advice::LinuxPopulateWrite)
        };
        Ok(done?)
    }

    /// Copies `bytes` to `offset`.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        self.assert_within(offset, bytes.len());
        assert!(self.writable, "the mapping is only to be read");
        // SAFETY: the destination lies within the mapping, as was asserted, which is writable and no part of `bytes`,
        // since nobody makes a slice of it. Others may see some of the bytes before the rest.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.as_ptr().add(offset), bytes.len()) }
    }

    /// Whether `bytes` lie at `offset`.
    #[must_use]
    pub fn holds(&self, offset: usize, bytes: &[u8]) -> bool {
        self.assert_within(offset, bytes.len());
        // SAFETY: the bytes lie within the mapping, as was asserted. A peer that writes to them meanwhile breaks the
        // protocol, and can make the answer wrong, which it could make the bytes as well.
        let here = unsafe { std::slice::from_raw_parts(self.as_ptr().add(offset), bytes.len()) };
        here == bytes
    }

    fn assert_within(&self, offset: usize, len: usize) {
        assert!(offset <= self.len && len <= self.len - offset, "those bytes lie beyond the mapping");
    }

    /// Whether it can be written to.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Whether it is of no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.mapped > 0 {
            // SAFETY: `base` and `mapped` are what mmap was given and returned in `new`, nobody else unmaps
            // them, and whoever reads through `as_ptr` keeps `self` alive.
            let unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr().cast::<c_void>(), self.mapped) };
            debug_assert_eq!(unmapped, Ok(()), "a mapping of ours can be unmapped");
        }
    }
}
