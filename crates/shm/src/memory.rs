//! Anonymous shared memory: a memfd that can grow and cannot shrink. Used for rings, bells and payload arenas;
//! knows no layout.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::MapFlags;

use crate::mapping::Mapping;

/// How a piece of memory is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// What one process writes the others see: for rings and bells.
    Shared,
    /// A writable copy, made page by page as it is written to: for payloads. A page not yet written to still
    /// shows what the owner of the memory does to it, so the owner must not reuse it meanwhile.
    Private,
    /// Only to be read, also where the memory is sealed against writing.
    ReadOnly,
}

/// Anonymous memory that processes share by passing its file descriptor on.
///
/// It is sealed against shrinking: touching a mapping beyond the end of its file is SIGBUS, and no peer may be
/// able to cause us that.
#[derive(Debug)]
pub struct Memory {
    fd: OwnedFd,
}

impl Memory {
    /// Makes `len` zero bytes. `name` shows in `/proc/*/maps`; the descriptor is closed on exec.
    ///
    /// # Errors
    ///
    /// What the system says: mostly no descriptors or no memory left.
    pub fn create(name: &str, len: u64) -> io::Result<Self> {
        let memory = Self::open(name, len)?;
        // SEAL too: else a peer could add a seal that keeps the owner from writing.
        memory.seal(SealFlags::SHRINK | SealFlags::SEAL)?;
        Ok(memory)
    }

    /// Makes memory of `parts`, each at its offset, that is `len` bytes long for ever. Unless `writable`, nobody can
    /// write to it any more, its maker neither.
    ///
    /// # Errors
    ///
    /// What the system says: mostly no descriptors or no memory left.
    pub fn create_filled(name: &str, len: u64, parts: &[(u64, &[u8])], writable: bool) -> io::Result<Self> {
        let memory = Self::open(name, len)?;
        for (offset, part) in parts {
            memory.write_at(part, *offset)?;
        }
        let fixed = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        memory.seal(if writable { fixed } else { fixed | SealFlags::WRITE })?;
        Ok(memory)
    }

    fn open(name: &str, len: u64) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
            // Before Linux 6.3 that flag is unknown, since then it can be compulsory.
            Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags)?,
            other => other?,
        };
        rustix::fs::ftruncate(&fd, len)?;
        Ok(Self { fd })
    }

    fn seal(&self, seals: SealFlags) -> io::Result<()> {
        Ok(rustix::fs::fcntl_add_seals(&self.fd, seals)?)
    }

    /// Whether it is not sealed against writing.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn is_writable(&self) -> io::Result<bool> {
        Ok(!rustix::fs::fcntl_get_seals(&self.fd)?.contains(SealFlags::WRITE))
    }

    /// Takes over a descriptor that another process made with [`create`](Self::create).
    ///
    /// # Errors
    ///
    /// `InvalidData` if it is not sealed against shrinking or is too large to map.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let invalid = |why| io::Error::new(io::ErrorKind::InvalidData, why);
        match rustix::fs::fcntl_get_seals(&fd) {
            Ok(seals) if seals.contains(SealFlags::SHRINK) => {}
            Ok(_) => return Err(invalid("shared memory is not sealed against shrinking")),
            Err(_) => return Err(invalid("descriptor is not one of shared memory")),
        }
        let memory = Self { fd };
        if isize::try_from(memory.len()?).is_err() {
            return Err(invalid("shared memory is too large to map"));
        }
        Ok(memory)
    }

    /// Its descriptor, to pass on.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// How long it is now. Any process that has it may have grown it; none can have shrunk it.
    ///
    /// # Errors
    ///
    /// What the system says.
    #[expect(clippy::len_without_is_empty, reason = "asking costs a system call, and nobody asks for that")]
    pub fn len(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstat(&self.fd)?;
        Ok(u64::try_from(stat.st_size).unwrap_or(0))
    }

    /// Makes it at least `len` bytes long; the new ones are zero and take no memory until written to.
    ///
    /// # Errors
    ///
    /// What the system says, for instance that the process may not have files so large.
    pub fn grow(&self, len: u64) -> io::Result<()> {
        if self.len()? < len {
            rustix::fs::ftruncate(&self.fd, len)?;
        }
        Ok(())
    }

    /// Writes all of `bytes` from `offset`, without a mapping: over twice as fast as stores into fresh pages.
    /// Like a file it grows to hold them.
    ///
    /// # Errors
    ///
    /// What the system says; some of the bytes may have been written then.
    pub fn write_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match rustix::io::pwrite(&self.fd, bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = &bytes[written..];
                    offset += written as u64;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Copies `len` bytes from `offset` into `bytes`, replacing what is there: several times cheaper than a
    /// mapping up to some 128 KB, as there are no pages to fault in and to unmap.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the memory is not that long: the bounds may come from a peer, as with
    /// [`map`](Self::map). Else what the system says.
    pub fn read_at(&self, bytes: &mut Vec<u8>, offset: u64, len: u64) -> io::Result<()> {
        let len = self.bounded(offset, len)?;
        bytes.clear();
        // A peer can make its memory absurdly long, for nothing: that is an error here, not the end.
        bytes.try_reserve_exact(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        bytes.resize(len, 0);
        let mut done = 0;
        while done < len {
            match rustix::io::pread(&self.fd, &mut bytes[done..], offset + done as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => done += read,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Gives the whole pages within `len` bytes from `offset` back to the system; all those bytes read as zero
    /// from now on.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        loop {
            match rustix::fs::fallocate(&self.fd, flags, offset, len) {
                Err(Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    /// Maps `len` bytes from `offset`, neither of which need be whole pages.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the memory is not that long: the bounds are checked against the file itself, so they
    /// may come from a peer. Else what the system says.
    pub fn map(&self, offset: u64, len: u64, access: Access) -> io::Result<Mapping> {
        let len = self.bounded(offset, len)?;
        let flags = match access {
            Access::Shared => MapFlags::SHARED,
            // A payload is seldom written to by its reader: reserve no memory for the copies of all its pages. What is
            // sealed against writing can't be mapped as shared before Linux 6.7, and only to be read it is the same.
            Access::Private | Access::ReadOnly => MapFlags::PRIVATE | MapFlags::NORESERVE,
        };
        Mapping::new(&self.fd, offset, len, flags, access != Access::ReadOnly)
    }

    /// `len`, if the memory has that many bytes from `offset`.
    fn bounded(&self, offset: u64, len: u64) -> io::Result<usize> {
        let have = self.len()?;
        offset.checked_add(len).filter(|end| *end <= have).and_then(|_| usize::try_from(len).ok()).ok_or_else(
            || io::Error::new(io::ErrorKind::InvalidInput, "those bytes lie beyond the shared memory"),
        )
    }
}
