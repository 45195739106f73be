//! What several test files share: memory of both sorts, and a watchdog.
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use forkright_shm::{Access, Consumer, Memory, Producer, Region, ring};

/// Far beyond what any test takes: it ends a test that hangs, it measures nothing.
// Miri takes some thousand times as long.
const PATIENCE: Duration = Duration::from_secs(if cfg!(miri) { 3600 } else { 120 });

/// Runs `test`; a test that hangs ends the process with its name.
pub(crate) fn watched<T>(name: &str, test: impl FnOnce() -> T) -> T {
    let (done, wait) = mpsc::channel::<()>();
    let name = name.to_owned();
    thread::spawn(move || {
        if wait.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("`{name}` hangs");
            std::process::abort();
        }
    });
    let outcome = test();
    drop(done);
    outcome
}

pub(crate) fn mapped(len: usize) -> (Memory, Region) {
    let memory = Memory::create("forkright-test", len as u64).unwrap();
    let region = Region::mapped(memory.map(0, len as u64, Access::Shared).unwrap());
    (memory, region)
}

/// A heap and a memfd region: whatever is promised holds over both. Miri has no shared mappings.
pub(crate) fn regions(len: usize) -> Vec<Region> {
    if cfg!(miri) { vec![Region::heap(len)] } else { vec![Region::heap(len), mapped(len).1] }
}

/// Both ends of a fresh ring, at an offset so that nothing relies on starting at 0.
pub(crate) fn rings(capacity: usize) -> impl Iterator<Item = (Producer, Consumer)> {
    const OFFSET: usize = 256;
    regions(OFFSET + ring::bytes_for(capacity)).into_iter().map(move |region| {
        ring::initialise(&region, OFFSET, capacity);
        let producer = Producer::open(&region, OFFSET, capacity).unwrap();
        let consumer = Consumer::open(&region, OFFSET, capacity).unwrap();
        (producer, consumer)
    })
}

/// Bytes that tell which frame they belong to.
pub(crate) fn body_of(id: u64, len: usize) -> Vec<u8> {
    (0..len).map(|n| (id as u8).wrapping_mul(31).wrapping_add(n as u8)).collect()
}
