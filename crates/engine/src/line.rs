//! The line between this process and one worker process: a ring each way and the worker's bell, in one memory.
//! Lays it out and gives each party its ends; what the frames mean is `frame`'s business.

use std::io;

use forkright_shm::bell::Bell;
use forkright_shm::memory::{Access, Memory};
use forkright_shm::region::Region;
use forkright_shm::ring::{self, Consumer, Producer};

/// Bytes of each ring. A body may take a quarter of it; longer streams travel in blocks.
const RING: usize = 256 << 10;
const BELL: usize = 0;
const DOWN: usize = 4096;

fn up() -> usize {
    (DOWN + ring::bytes_for(RING)).next_multiple_of(4096)
}

fn length() -> usize {
    (up() + ring::bytes_for(RING)).next_multiple_of(4096)
}

/// One party's ends.
pub struct Line {
    /// Writes to the other party.
    pub producer: Producer,
    /// Reads from the other party.
    pub consumer: Consumer,
    /// Rung by the caller's process when it wrote, heard by the worker.
    pub bell: Bell,
}

/// Makes the memory and takes the caller's ends.
pub fn create() -> io::Result<(Memory, Line)> {
    let memory = Memory::create("forkright-line", length() as u64)?;
    let region = Region::mapped(memory.map(0, length() as u64, Access::Shared)?);
    ring::initialise(&region, DOWN, RING);
    ring::initialise(&region, up(), RING);
    let producer = Producer::open(&region, DOWN, RING).map_err(io::Error::other)?;
    let consumer = Consumer::open(&region, up(), RING).map_err(io::Error::other)?;
    Ok((memory, Line { producer, consumer, bell: Bell::open(&region, BELL) }))
}

/// Takes the worker's ends of a memory it was handed.
pub fn join(memory: &Memory) -> io::Result<Line> {
    let region = Region::mapped(memory.map(0, length() as u64, Access::Shared)?);
    let producer = Producer::open(&region, up(), RING).map_err(io::Error::other)?;
    let consumer = Consumer::open(&region, DOWN, RING).map_err(io::Error::other)?;
    Ok(Line { producer, consumer, bell: Bell::open(&region, BELL) })
}

/// The bell by which workers call this process: one page for all workers of a crew.
pub fn create_bell() -> io::Result<(Memory, Bell)> {
    let memory = Memory::create("forkright-bell", 4096)?;
    let bell = open_bell(&memory)?;
    Ok((memory, bell))
}

/// The same bell, in a worker.
pub fn open_bell(memory: &Memory) -> io::Result<Bell> {
    Ok(Bell::open(&Region::mapped(memory.map(0, 4096, Access::Shared)?), BELL))
}
