//! Carries frames of any length from one producer to one consumer, in order, through shared words. Used for
//! tasks one way and outcomes the other; wakes nobody (see `bell`) and knows nothing of what frames mean.
//!
//! # Layout
//!
//! ```text
//! | shape            | head                  | tail                  | frames: `capacity` bytes, a circle     |
//! | 128 bytes        | 128 bytes             | 128 bytes             | claim | kind,len | id | extra | body… | …
//! | written once     | the consumer's        | the producer's        | the claim is decided by both
//! ```
//!
//! Head and tail are **positions**: words counted since the beginning of time, so that the frames in the ring
//! are `head..tail` and a position is never used twice. A frame lies at its position modulo the capacity and
//! wraps around the end of the circle at any of its words.
//!
//! The **claim** of a frame goes from QUEUED to CLAIMED (by the consumer, before it reads the body) or to
//! REVOKED (by the producer), by compare-exchange: exactly one side gets the frame.
//!
//! # What a peer can do
//!
//! Die anywhere: a frame becomes visible with one store of the tail, its space free with one store of the head.
//! Scribble: each word is read once, checked against what this side knows for itself, then used. What fails the
//! check is [`Corrupt`], for good, and costs no more than the ring. Words that pass may still be wrong: a body
//! is input, to be parsed with care.

use std::fmt;

use crate::region::{Region, WORD};
use crate::sync::{Ordering, Word};

/// What a frame says about itself, for the other end to interpret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// What sort of frame it is.
    pub kind: u32,
    /// What it is about.
    pub id: u64,
    /// Whatever else fits a word.
    pub extra: u64,
}

/// Where a frame lies in the life of its ring. Later frames have greater ones; none is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

/// What became of an attempt to take a frame back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Revocation {
    /// The consumer will never get it.
    Revoked,
    /// The consumer has it, or had it.
    Taken,
}

/// Whose a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Standing {
    /// Nobody's yet.
    Queued,
    /// The consumer's. Also said of every frame that the consumer has passed: whether it was revoked before
    /// that, its producer must remember.
    Taken,
    /// The producer's again.
    Revoked,
}

/// Failure returned by [`Producer::push`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushError {
    /// There is no room now. There may be, once the consumer has popped.
    Full,
    /// There will never be room: the body is longer than [`Producer::max_body`].
    TooLarge,
    /// The consumer's words make no sense.
    Corrupt(Corrupt),
}

/// The peer's words make no sense: give the ring up, and the peer with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt(&'static str);

/// Bytes that head and tail keep from each other: two cache lines, since x86-64 fetches lines in pairs.
const LINE: usize = 128;
/// Bytes before the frames.
const HEADER: usize = 3 * LINE;
/// Words before the body of a frame.
const FRAME_HEAD: u64 = 4;
/// The smallest circle; it holds bodies of four words.
const MIN_CAPACITY: usize = 256;
/// The greatest circle: the length of a body fits 32 bits, and so does all of it on a 32-bit machine.
const MAX_CAPACITY: usize = 1 << 30;
/// First half of the shape word; changes whenever the layout does.
const LAYOUT: u64 = 0xf04b_0001 << 32;

const QUEUED: u64 = 1;
const CLAIMED: u64 = 2;
const REVOKED: u64 = 3;

/// Bytes of a region that a ring of `capacity` takes.
///
/// # Panics
///
/// If `capacity` is not a power of two from 256 to 2^30.
#[must_use]
pub const fn bytes_for(capacity: usize) -> usize {
    assert!(
        capacity.is_power_of_two() && capacity >= MIN_CAPACITY && capacity <= MAX_CAPACITY,
        "the capacity of a ring is a power of two from 256 to 2^30"
    );
    HEADER + capacity
}

/// The longest body that a ring of `capacity` carries: a quarter of it, less the head of the frame, so that one
/// frame never keeps the others waiting for an empty ring.
///
/// # Panics
///
/// If `capacity` is not a power of two from 256 to 2^30.
#[must_use]
pub const fn max_body(capacity: usize) -> usize {
    (bytes_for(capacity) - HEADER) / 4 - FRAME_HEAD as usize * WORD
}

/// Makes an empty ring of `capacity` at `offset` bytes into `region`, before anybody opens an end of it.
///
/// # Panics
///
/// If `capacity` is not a power of two from 256 to 2^30, `offset` is not on a word or the region is too short.
pub fn initialise(region: &Region, offset: usize, capacity: usize) {
    let ring = Ring::lay_out(region, offset, capacity).expect("the region holds the ring");
    ring.head().store(0, Ordering::Relaxed);
    ring.tail().store(0, Ordering::Relaxed);
    // Relaxed: the peer opens the ring after it was started or sent the descriptor, which orders all of this.
    ring.shape().store(ring.expected_shape(), Ordering::Relaxed);
}

/// The end that writes frames. There is one per ring: a second one would garble frames, though not memory.
#[derive(Debug)]
pub struct Producer {
    ring: Ring,
    /// Our own position. Nobody else writes it, so this copy is always right.
    tail: u64,
    /// The consumer's position when we last looked: in `tail - capacity ..= tail`. It may lag, which only makes
    /// the ring look fuller.
    seen_head: u64,
}

impl Producer {
    /// Opens the ring of `capacity` at `offset` bytes into `region`, where its positions are now.
    ///
    /// # Errors
    ///
    /// [`Corrupt`] if there is no such ring.
    ///
    /// # Panics
    ///
    /// If `capacity` is not a power of two from 256 to 2^30.
    pub fn open(region: &Region, offset: usize, capacity: usize) -> Result<Self, Corrupt> {
        let (ring, head, tail) = Ring::open(region, offset, capacity)?;
        Ok(Self { ring, tail, seen_head: head })
    }

    /// Queues a frame whose body is `parts` one after another.
    ///
    /// # Errors
    ///
    /// [`PushError::Full`] may be over at any moment; the others stay. Nothing is queued then.
    pub fn push(&mut self, head: Head, parts: &[&[u8]]) -> Result<Position, PushError> {
        let len = parts.iter().fold(0usize, |len, part| len.saturating_add(part.len()));
        if len > self.max_body() {
            return Err(PushError::TooLarge);
        }
        let size = frame_words(len as u64);
        if self.free_words() < size {
            self.look_at_head().map_err(PushError::Corrupt)?;
            if self.free_words() < size {
                return Err(PushError::Full);
            }
        }

        let position = self.tail;
        let mut pen = self.ring.pen(position);
        pen.write_word(QUEUED);
        pen.write_word(u64::from(head.kind) << 32 | len as u64);
        pen.write_word(head.id);
        pen.write_word(head.extra);
        for part in parts {
            pen.write(part);
        }
        pen.finish();

        self.tail += size;
        self.ring.tail().store(self.tail, Ordering::Release); // WRITTEN
        Ok(Position(position))
    }

    /// Takes a frame back, unless the consumer has it. Its space is free once the consumer has skipped it.
    pub fn revoke(&mut self, position: Position) -> Revocation {
        if self.is_passed(position) {
            return Revocation::Taken;
        }
        // Relaxed: who gets the frame is all that is decided here, and a compare-exchange has one winner under
        // any ordering. What the frame holds is published by the tail.
        let claim = self.ring.claim(position.0).compare_exchange(
            QUEUED,
            REVOKED,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        match claim {
            Ok(_) | Err(REVOKED) => Revocation::Revoked,
            // Also for nonsense: a frame that may have been taken must not be run elsewhere.
            Err(_) => Revocation::Taken,
        }
    }

    /// Whose a frame is. `Taken` and `Revoked` stay; `Queued` may be over at any moment, unless the consumer is
    /// dead.
    pub fn standing(&self, position: Position) -> Standing {
        if self.is_passed(position) {
            return Standing::Taken;
        }
        match self.ring.claim(position.0).load(Ordering::Relaxed) {
            QUEUED => Standing::Queued,
            REVOKED => Standing::Revoked,
            _ => Standing::Taken,
        }
    }

    /// Whether the consumer has passed every frame. Stays true until the next push.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.ring.head().load(Ordering::Acquire) == self.tail // READ-DONE
    }

    /// Bytes there were free when the consumer was last looked at, heads of frames included. There may be more
    /// at any moment, never less until the next push.
    #[must_use]
    pub fn free_bytes(&self) -> usize {
        self.free_words() as usize * WORD
    }

    /// The longest body a frame may have.
    #[must_use]
    pub fn max_body(&self) -> usize {
        max_body(self.ring.capacity())
    }

    fn free_words(&self) -> u64 {
        self.ring.count() - (self.tail - self.seen_head)
    }

    /// Looks where the consumer is. Its position is input: it can only have gone forward, and not past ours.
    fn look_at_head(&mut self) -> Result<(), Corrupt> {
        let head = self.ring.head().load(Ordering::Acquire); // READ-DONE
        if !(self.seen_head..=self.tail).contains(&head) {
            return Err(Corrupt("its reader is at an impossible position"));
        }
        self.seen_head = head;
        Ok(())
    }

    /// Whether the consumer is done with the frame. If it is not, its words are still those of that frame: we
    /// alone reuse them, and only up to `seen_head`.
    fn is_passed(&self, position: Position) -> bool {
        debug_assert!(position.0 < self.tail, "a position of another ring");
        let head = self.ring.head().load(Ordering::Acquire); // READ-DONE
        position.0 < head.max(self.seen_head)
    }
}

/// The end that reads frames. There is one per ring: a second one would lose frames, though not memory.
#[derive(Debug)]
pub struct Consumer {
    ring: Ring,
    /// Our own position. Nobody else writes it, so this copy is always right.
    head: u64,
    /// The producer's position when we last looked: in `head ..= head + capacity`. It may lag, which only makes
    /// the ring look emptier.
    seen_tail: u64,
}

impl Consumer {
    /// Opens the ring of `capacity` at `offset` bytes into `region`, where its positions are now.
    ///
    /// # Errors
    ///
    /// [`Corrupt`] if there is no such ring.
    ///
    /// # Panics
    ///
    /// If `capacity` is not a power of two from 256 to 2^30.
    pub fn open(region: &Region, offset: usize, capacity: usize) -> Result<Self, Corrupt> {
        let (ring, head, tail) = Ring::open(region, offset, capacity)?;
        Ok(Self { ring, head, seen_tail: tail })
    }

    /// Claims the next frame that is not revoked and copies its body into `body`, replacing what is there.
    ///
    /// `None`: every frame that was queued when this call began has been popped or revoked. One queued since
    /// shows in [`is_empty`](Self::is_empty) or in the next call.
    ///
    /// # Errors
    ///
    /// [`Corrupt`] if the producer's words make no sense. They never will again.
    pub fn pop(&mut self, body: &mut Vec<u8>) -> Result<Option<Head>, Corrupt> {
        // One look per call: a producer that revokes as fast as we skip cannot keep us here.
        let mut looked = false;
        loop {
            if self.head == self.seen_tail {
                if looked {
                    return Ok(None);
                }
                self.look_at_tail()?;
                looked = true;
                continue;
            }
            let frame = self.ring.frame(self.head, self.seen_tail)?;
            let claimed = self.claim()?;
            if claimed {
                self.ring.copy_body(self.head, frame.len, body);
            }
            self.head += frame_words(frame.len as u64);
            self.ring.head().store(self.head, Ordering::Release); // READ-DONE
            if claimed {
                return Ok(Some(frame.head));
            }
        }
    }

    /// Whether no frame is queued, revoked ones aside. May be over at any moment; "not empty" stays true until
    /// the next pop.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ring.tail().load(Ordering::Acquire) == self.head // WRITTEN
    }

    /// The longest body a frame may have.
    #[must_use]
    pub fn max_body(&self) -> usize {
        max_body(self.ring.capacity())
    }

    /// Takes the frame at our position: `false` if its producer took it back before.
    fn claim(&self) -> Result<bool, Corrupt> {
        // Relaxed: as in `Producer::revoke`.
        let claim = self.ring.claim(self.head).compare_exchange(
            QUEUED,
            CLAIMED,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        match claim {
            Ok(_) => Ok(true),
            Err(REVOKED) => Ok(false),
            Err(_) => Err(Corrupt("a frame is neither queued nor revoked")),
        }
    }

    /// Looks where the producer is. Its position is input: it can only have gone forward, and not lapped us.
    fn look_at_tail(&mut self) -> Result<(), Corrupt> {
        let tail = self.ring.tail().load(Ordering::Acquire); // WRITTEN
        if !(self.seen_tail..=self.head + self.ring.count()).contains(&tail) {
            return Err(Corrupt("its writer is at an impossible position"));
        }
        self.seen_tail = tail;
        Ok(())
    }
}

/// Where the words of a ring are. Bounded once, in `lay_out`.
#[derive(Debug)]
struct Ring {
    region: Region,
    /// Index of the first word; `HEADER + capacity` bytes from there are within `region`.
    start: usize,
    /// Words of the circle, less one: `count` is a power of two.
    mask: u64,
}

/// A frame as its own words describe it, checked.
struct Frame {
    head: Head,
    /// In `0..=max_body`, and the frame ends at or before the tail.
    len: usize,
}

impl Ring {
    fn lay_out(region: &Region, offset: usize, capacity: usize) -> Result<Self, Corrupt> {
        let end = offset.checked_add(bytes_for(capacity));
        if !offset.is_multiple_of(WORD) || end.is_none_or(|end| end > region.len()) {
            return Err(Corrupt("the memory is too small for it"));
        }
        Ok(Self { region: region.clone(), start: offset / WORD, mask: (capacity / WORD) as u64 - 1 })
    }

    /// The ring with its head and tail, all of it checked.
    fn open(region: &Region, offset: usize, capacity: usize) -> Result<(Self, u64, u64), Corrupt> {
        let ring = Self::lay_out(region, offset, capacity)?;
        if ring.shape().load(Ordering::Relaxed) != ring.expected_shape() {
            return Err(Corrupt("it was never made, or by another version"));
        }
        let tail = ring.tail().load(Ordering::Acquire); // WRITTEN
        let head = ring.head().load(Ordering::Acquire); // READ-DONE
        // Half of all positions would last for centuries; the other half keeps sums from overflowing.
        let sound = tail <= u64::MAX / 2 && tail.checked_sub(head).is_some_and(|used| used <= ring.count());
        if sound { Ok((ring, head, tail)) } else { Err(Corrupt("its ends are at impossible positions")) }
    }

    /// Reads what the frame at `position` says of itself, once, and checks that it ends before `tail`.
    fn frame(&self, position: u64, tail: u64) -> Result<Frame, Corrupt> {
        let [kind_and_len, id, extra] = [1, 2, 3].map(|n| self.word(position + n).load(Ordering::Relaxed));
        let len = kind_and_len as u32 as usize;
        if len > max_body(self.capacity()) || position + frame_words(len as u64) > tail {
            return Err(Corrupt("a frame has an impossible length"));
        }
        Ok(Frame { head: Head { kind: (kind_and_len >> 32) as u32, id, extra }, len })
    }

    fn copy_body(&self, position: u64, len: usize, body: &mut Vec<u8>) {
        body.clear();
        body.resize(len, 0);
        let circle = self.circle();
        let first = ((position + FRAME_HEAD) & self.mask) as usize;
        let (straight, wrapped) = body.split_at_mut(len.min((circle.len() - first) * WORD));
        load(&circle[first..], straight);
        load(circle, wrapped);
    }

    fn pen(&self, position: u64) -> Pen<'_> {
        Pen { circle: self.circle(), mask: self.mask, position, pending: [0; WORD], filled: 0 }
    }

    /// The claim of the frame at `position`: its first word.
    fn claim(&self, position: u64) -> &Word {
        self.word(position)
    }

    fn word(&self, position: u64) -> &Word {
        &self.circle()[(position & self.mask) as usize]
    }

    fn circle(&self) -> &[Word] {
        let first = self.start + HEADER / WORD;
        &self.region.words()[first..first + self.count() as usize]
    }

    fn shape(&self) -> &Word {
        &self.region.words()[self.start]
    }

    fn expected_shape(&self) -> u64 {
        LAYOUT | self.count()
    }

    fn head(&self) -> &Word {
        &self.region.words()[self.start + LINE / WORD]
    }

    fn tail(&self) -> &Word {
        &self.region.words()[self.start + 2 * LINE / WORD]
    }

    fn count(&self) -> u64 {
        self.mask + 1
    }

    fn capacity(&self) -> usize {
        self.count() as usize * WORD
    }
}

/// Writes bytes into the circle as words.
struct Pen<'r> {
    circle: &'r [Word],
    mask: u64,
    /// Where the next whole word goes.
    position: u64,
    /// Bytes that do not make a word yet; zero beyond `filled`.
    pending: [u8; WORD],
    /// In `0..WORD`.
    filled: usize,
}

impl Pen<'_> {
    fn write_word(&mut self, word: u64) {
        self.circle[(self.position & self.mask) as usize].store(word, Ordering::Relaxed);
        self.position += 1;
    }

    fn write(&mut self, mut bytes: &[u8]) {
        if self.filled > 0 {
            let (now, later) = bytes.split_at(bytes.len().min(WORD - self.filled));
            self.pending[self.filled..self.filled + now.len()].copy_from_slice(now);
            self.filled += now.len();
            bytes = later;
            if self.filled < WORD {
                return;
            }
            self.finish();
        }
        let (words, rest) = bytes.as_chunks::<WORD>();
        let first = (self.position & self.mask) as usize;
        let (straight, wrapped) = words.split_at(words.len().min(self.circle.len() - first));
        store(&self.circle[first..], straight);
        store(self.circle, wrapped);
        self.position += words.len() as u64;
        self.pending[..rest.len()].copy_from_slice(rest);
        self.filled = rest.len();
    }

    /// Writes out the bytes that are pending, filled up with zeros.
    fn finish(&mut self) {
        if self.filled > 0 {
            self.write_word(u64::from_ne_bytes(self.pending));
            self.pending = [0; WORD];
            self.filled = 0;
        }
    }
}

// Relaxed in both: the tail publishes what a frame holds, the head that it was read.

fn store(words: &[Word], values: &[[u8; WORD]]) {
    for (word, value) in words.iter().zip(values) {
        word.store(u64::from_ne_bytes(*value), Ordering::Relaxed);
    }
}

fn load(words: &[Word], bytes: &mut [u8]) {
    let (whole, rest) = bytes.as_chunks_mut::<WORD>();
    for (word, value) in words.iter().zip(&mut *whole) {
        *value = word.load(Ordering::Relaxed).to_ne_bytes();
    }
    if !rest.is_empty() {
        rest.copy_from_slice(&words[whole.len()].load(Ordering::Relaxed).to_ne_bytes()[..rest.len()]);
    }
}

/// Words of a frame with a body of `len` bytes.
const fn frame_words(len: u64) -> u64 {
    FRAME_HEAD + len.div_ceil(WORD as u64)
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the ring is full"),
            Self::TooLarge => f.write_str("the frame is too large for the ring"),
            Self::Corrupt(corrupt) => corrupt.fmt(f),
        }
    }
}

impl std::error::Error for PushError {}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the ring is corrupt: {}", self.0)
    }
}

impl std::error::Error for Corrupt {}
