//! What shared memory promises: it never shrinks, and nothing beyond its end is ever mapped.
#![cfg(all(not(loom), not(miri)))]
#![allow(clippy::unwrap_used, reason = "to fail is to panic here")]

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};

use forkright_shm::{Access, Mapping, Memory};

const PAGE: u64 = 4096;

fn memory(len: u64) -> Memory {
    Memory::create("forkright-test", len).unwrap()
}

fn read(mapping: &Mapping) -> Vec<u8> {
    // SAFETY: the mapping is of `len` bytes and lives on, and no test here writes to it meanwhile.
    unsafe { std::slice::from_raw_parts(mapping.as_ptr(), mapping.len()) }.to_vec()
}

fn write(mapping: &Mapping, byte: u8) {
    assert!(!mapping.is_empty());
    // SAFETY: as above, and the mapping has a first byte.
    unsafe { mapping.as_ptr().write(byte) }
}

fn ours(fd: impl AsFd) -> OwnedFd {
    fd.as_fd().try_clone_to_owned().unwrap()
}

#[test]
fn what_is_written_shows_in_any_mapping_and_copy() {
    let memory = memory(3 * PAGE);
    let bytes: Vec<u8> = (0..2 * PAGE).map(|n| n as u8).collect();
    memory.write_at(&bytes, 100).unwrap();
    for access in [Access::Shared, Access::Private] {
        for (offset, len) in [(100, 2 * PAGE), (101, 1), (PAGE, PAGE), (PAGE - 1, 2), (2 * PAGE + 99, 1)] {
            let from = (offset - 100) as usize;
            let mapping = memory.map(offset, len, access).unwrap();
            assert_eq!(read(&mapping), bytes[from..from + len as usize], "{len} bytes at {offset}");
            let mut copy = vec![7; 9];
            memory.read_at(&mut copy, offset, len).unwrap();
            assert_eq!(copy, bytes[from..from + len as usize], "{len} bytes at {offset}");
        }
    }
}

#[test]
fn writes_to_a_shared_mapping_are_shared_and_to_a_private_one_are_not() {
    let memory = memory(PAGE);
    let seen = memory.map(0, 1, Access::Shared).unwrap();
    write(&memory.map(0, 1, Access::Shared).unwrap(), 1);
    assert_eq!(read(&seen), [1]);
    write(&memory.map(0, 1, Access::Private).unwrap(), 2);
    assert_eq!(read(&seen), [1]);
}

#[test]
fn nothing_beyond_the_end_is_mapped_or_copied() {
    let memory = memory(PAGE + 10);
    for (offset, len) in [(0, PAGE + 11), (PAGE + 10, 1), (u64::MAX, 2), (1, u64::MAX), (1 << 62, 1 << 62)] {
        for access in [Access::Shared, Access::Private] {
            let error = memory.map(offset, len, access).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{len} bytes at {offset}");
        }
        let error = memory.read_at(&mut Vec::new(), offset, len).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{len} bytes at {offset}");
    }
    assert_eq!(memory.map(0, PAGE + 10, Access::Private).unwrap().len() as u64, PAGE + 10);
}

#[test]
fn no_bytes_can_be_mapped_too() {
    let memory = memory(PAGE);
    assert!(memory.map(0, 0, Access::Private).unwrap().is_empty());
    assert!(memory.map(PAGE, 0, Access::Shared).unwrap().is_empty());
    assert!(memory.map(PAGE + 1, 0, Access::Shared).is_err());
}

#[test]
fn it_grows_and_never_shrinks() {
    let memory = memory(PAGE);
    memory.grow(3 * PAGE).unwrap();
    memory.grow(PAGE).unwrap();
    assert_eq!(memory.len().unwrap(), 3 * PAGE);
    let peer = File::from(ours(memory.fd()));
    assert!(peer.set_len(PAGE).is_err(), "a peer cannot cut it short either");
    assert_eq!(memory.len().unwrap(), 3 * PAGE);
}

#[test]
fn a_mapping_made_before_growth_stays_and_the_new_bytes_can_be_mapped() {
    let memory = memory(PAGE);
    memory.write_at(b"old", 0).unwrap();
    let old = memory.map(0, 3, Access::Shared).unwrap();
    memory.grow(2 * PAGE).unwrap();
    memory.write_at(b"new", 2 * PAGE - 3).unwrap();
    assert_eq!(read(&old), b"old");
    assert_eq!(read(&memory.map(2 * PAGE - 3, 3, Access::Private).unwrap()), b"new");
}

#[test]
fn a_copy_too_large_for_any_memory_is_an_error() {
    let memory = memory(0);
    memory.grow(1 << 62).unwrap();
    assert_eq!(memory.read_at(&mut Vec::new(), 0, 1 << 62).unwrap_err().kind(), ErrorKind::OutOfMemory);
    assert!(memory.map(0, 1 << 62, Access::Private).is_err());
}

#[test]
fn discarded_bytes_read_as_zero() {
    let memory = memory(3 * PAGE);
    memory.write_at(&[1; 3 * PAGE as usize], 0).unwrap();
    memory.discard(PAGE, PAGE).unwrap();
    let bytes = read(&memory.map(PAGE - 1, PAGE + 2, Access::Private).unwrap());
    assert_eq!((bytes[0], bytes[PAGE as usize + 1]), (1, 1));
    assert!(bytes[1..=PAGE as usize].iter().all(|&byte| byte == 0));
    assert_eq!(memory.len().unwrap(), 3 * PAGE);
}

#[test]
fn a_passed_on_descriptor_is_the_same_memory() {
    let memory = memory(PAGE);
    let peer = Memory::from_fd(ours(memory.fd())).unwrap();
    peer.write_at(b"hello", 7).unwrap();
    assert_eq!(read(&memory.map(7, 5, Access::Private).unwrap()), b"hello");
    memory.grow(2 * PAGE).unwrap();
    assert_eq!(peer.len().unwrap(), 2 * PAGE);
}

#[test]
fn a_descriptor_that_could_shrink_is_refused() {
    let unsealed = rustix::fs::memfd_create("unsealed", rustix::fs::MemfdFlags::ALLOW_SEALING).unwrap();
    let file = OwnedFd::from(File::open(std::env::current_exe().unwrap()).unwrap());
    let pipe = rustix::pipe::pipe().unwrap().0;
    for fd in [unsealed, file, pipe] {
        assert_eq!(Memory::from_fd(fd).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}

#[test]
fn it_does_not_outlive_an_exec() {
    let flags = rustix::io::fcntl_getfd(memory(PAGE).fd()).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
}
