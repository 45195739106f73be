//! How values travel: a pickle stream and its out-of-band buffers, each inline or in a block of shared
//! memory. Writes and parses the bytes of a frame's body; knows neither pickle nor who reads them.
//!
//! A body is `[word: u32][buffer: 16 or 32 bytes]*[stream]`. The word's low bits count the buffers; its top bit says
//! that the first one is the stream, which then is not inline. A buffer is a block, or a portion of a share, of which the
//! key has its top bit set where a block has its offset.

use forkright_shm::arena::Block;

use crate::share::{Portion, SHARED};

/// Streams longer than this go to a block instead of the ring.
pub const INLINE_LIMIT: usize = 16 << 10;
/// Buffers shorter than this are not worth a block of their own: they stay in the stream.
pub const BUFFER_LIMIT: usize = 8 << 10;

const STREAM_IN_BLOCK: u32 = 1 << 31;
const MOST_BUFFERS: u32 = 1 << 10;

/// Where the pickle stream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stream {
    /// In the frame itself.
    Inline(Vec<u8>),
    /// In shared memory.
    Stored(Block),
}

/// One value on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// The pickle.
    pub stream: Stream,
    /// Its out-of-band buffers, in pickle's order.
    pub buffers: Vec<Buffer>,
}

/// Where an out-of-band buffer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buffer {
    /// In its sender's store.
    Stored(Block),
    /// Where its reader can have it, too.
    Shared(Portion),
}

/// A frame that does not parse: the other side is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Payload {
    /// A value without large parts.
    pub fn inline(stream: Vec<u8>) -> Payload {
        Payload { stream: Stream::Inline(stream), buffers: Vec::new() }
    }

    /// All blocks it occupies.
    pub fn blocks(&self) -> impl Iterator<Item = Block> + '_ {
        let stream = match &self.stream {
            Stream::Stored(block) => Some(*block),
            Stream::Inline(_) => None,
        };
        let buffers = self.buffers.iter().filter_map(|buffer| match buffer {
            Buffer::Stored(block) => Some(*block),
            Buffer::Shared(_) => None,
        });
        stream.into_iter().chain(buffers)
    }

    /// Bytes that travel.
    pub fn bytes(&self) -> u64 {
        self.blocks().map(|block| block.len).fold(self.tail().len() as u64, u64::saturating_add)
    }

    /// What stands before the inline stream.
    pub fn head(&self) -> Vec<u8> {
        let stored = matches!(self.stream, Stream::Stored(_));
        let count = self.buffers.len() as u32 + u32::from(stored);
        let mut head = Vec::with_capacity(4 + 32 * count as usize);
        head.extend((count | if stored { STREAM_IN_BLOCK } else { 0 }).to_le_bytes());
        if let Stream::Stored(block) = &self.stream {
            head.extend(block.to_bytes());
        }
        for buffer in &self.buffers {
            match buffer {
                Buffer::Stored(block) => head.extend(block.to_bytes()),
                Buffer::Shared(Portion { key, offset, len, pid, fd }) => {
                    head.extend(Block { offset: SHARED | key, len: *len }.to_bytes());
                    head.extend(offset.to_le_bytes());
                    head.extend([*pid, *fd].map(u32::to_le_bytes).as_flattened());
                }
            }
        }
        head
    }

    /// The inline stream, empty if it is in a block.
    pub fn tail(&self) -> &[u8] {
        match &self.stream {
            Stream::Inline(bytes) => bytes,
            Stream::Stored(_) => &[],
        }
    }

    /// Reads a body. Blocks are not looked at here: whoever maps one checks it against its memory.
    pub fn parse(body: &[u8]) -> Result<Payload, Malformed> {
        let (word, mut rest) = body.split_first_chunk::<4>().ok_or(Malformed)?;
        let word = u32::from_le_bytes(*word);
        let count = word & !STREAM_IN_BLOCK;
        if count > MOST_BUFFERS {
            return Err(Malformed);
        }
        let mut buffers = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let (block, after) = rest.split_first_chunk::<16>().ok_or(Malformed)?;
            let Block { offset: key, len } = Block::from_bytes(*block);
            rest = after;
            if key & SHARED == 0 {
                buffers.push(Buffer::Stored(Block { offset: key, len }));
                continue;
            }
            let (place, after) = rest.split_first_chunk::<16>().ok_or(Malformed)?;
            let Block { offset, len: owner } = Block::from_bytes(*place);
            let (pid, fd) = (owner as u32, (owner >> 32) as u32);
            buffers.push(Buffer::Shared(Portion { key: key & !SHARED, offset, len, pid, fd }));
            rest = after;
        }
        if word & STREAM_IN_BLOCK == 0 {
            return Ok(Payload { stream: Stream::Inline(rest.to_vec()), buffers });
        }
        if buffers.is_empty() || !rest.is_empty() {
            return Err(Malformed);
        }
        let Buffer::Stored(stream) = buffers.remove(0) else { return Err(Malformed) };
        Ok(Payload { stream: Stream::Stored(stream), buffers })
    }

    /// Whether more buffers than a frame can name came together; then they belong into the stream.
    pub fn most_buffers() -> usize {
        MOST_BUFFERS as usize - 1
    }
}

/// What running a message cost, as its worker measured it. Seconds are kept as nanoseconds on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Tasks that ran.
    pub tasks: u32,
    /// Those that raised.
    pub failed: u32,
    /// From start to end of the function, s.
    pub wall: f64,
    /// CPU of the thread that ran it, s. Short tasks are measured in groups, so one may carry its neighbours'.
    pub cpu: f64,
    /// Time in which the thread could have run but had no core, s; measured with the CPU time.
    pub delay: f64,
    /// Unpickling the arguments, s.
    pub decode: f64,
    /// Pickling the result, s.
    pub encode: f64,
    /// What the worker's own meter saw of the function's tasks since it last said so; none where nobody looks.
    pub seen: Option<Seen>,
}

/// Bytes of a `Cost` on the wire.
pub const COST_BYTES: usize = 88;

/// Samples of a function's tasks by class, in the meter's order.
pub type Seen = [u32; 9];

impl Cost {
    /// For a frame.
    pub fn to_bytes(&self) -> [u8; COST_BYTES] {
        let mut bytes = [0; COST_BYTES];
        bytes[0..4].copy_from_slice(&self.tasks.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.failed.to_le_bytes());
        for (index, seconds) in
            [self.wall, self.cpu, self.delay, self.decode, self.encode].into_iter().enumerate()
        {
            let nanoseconds = (seconds * 1e9) as u64;
            bytes[8 + 8 * index..16 + 8 * index].copy_from_slice(&nanoseconds.to_le_bytes());
        }
        if let Some(seen) = self.seen {
            bytes[48..52].copy_from_slice(&1_u32.to_le_bytes());
            for (index, count) in seen.into_iter().enumerate() {
                bytes[52 + 4 * index..56 + 4 * index].copy_from_slice(&count.to_le_bytes());
            }
        }
        bytes
    }

    /// From a frame: the cost and what follows it.
    pub fn parse(body: &[u8]) -> Result<(Cost, &[u8]), Malformed> {
        let (bytes, rest) = body.split_first_chunk::<COST_BYTES>().ok_or(Malformed)?;
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let seconds = |index: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[8 + 8 * index..16 + 8 * index]);
            u64::from_le_bytes(number) as f64 * 1e-9
        };
        let cost = Cost {
            tasks: word(0),
            failed: word(4),
            wall: seconds(0),
            cpu: seconds(1),
            delay: seconds(2),
            decode: seconds(3),
            encode: seconds(4),
            seen: (word(48) == 1).then(|| std::array::from_fn(|index| word(52 + 4 * index))),
        };
        Ok((cost, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block() -> impl Strategy<Value = Block> {
        (0..SHARED, any::<u64>()).prop_map(|(offset, len)| Block { offset, len })
    }

    fn buffer() -> impl Strategy<Value = Buffer> {
        let portion = (0..SHARED, any::<u64>(), any::<u64>(), any::<u32>(), any::<u32>())
            .prop_map(|(key, offset, len, pid, fd)| Buffer::Shared(Portion { key, offset, len, pid, fd }));
        prop_oneof![block().prop_map(Buffer::Stored), portion]
    }

    proptest! {
        #[test]
        fn a_payload_arrives_as_it_was_sent(
            inline in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..100)),
            first in block(),
            buffers in proptest::collection::vec(buffer(), 0..5),
        ) {
            let stream = inline.map_or(Stream::Stored(first), Stream::Inline);
            let sent = Payload { stream, buffers };
            let body = [sent.head().as_slice(), sent.tail()].concat();
            prop_assert_eq!(Payload::parse(&body), Ok(sent));
        }

        #[test]
        fn a_cost_arrives_as_it_was_sent(
            (tasks, failed) in any::<(u32, u32)>(),
            nanoseconds in proptest::array::uniform5(0_u64..1 << 50),
            seen in proptest::option::of(proptest::array::uniform9(any::<u32>())),
            rest in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            let [wall, cpu, delay, decode, encode] = nanoseconds.map(|nanoseconds| nanoseconds as f64 * 1e-9);
            let sent = Cost { tasks, failed, wall, cpu, delay, decode, encode, seen };
            let body = [sent.to_bytes().as_slice(), &rest].concat();
            let (came, left) = Cost::parse(&body).expect("it was written by the other half");
            prop_assert_eq!(left, rest);
            prop_assert_eq!((came.tasks, came.failed, came.seen), (tasks, failed, seen));
            prop_assert!((came.wall - wall).abs() < 2e-9 && (came.cpu - cpu).abs() < 2e-9);
            prop_assert!((came.delay - delay).abs() < 2e-9 && (came.decode - decode).abs() < 2e-9);
            prop_assert!((came.encode - encode).abs() < 2e-9);
        }

        #[test]
        fn any_bytes_parse_or_are_malformed(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Payload::parse(&body);
            let _ = Cost::parse(&body);
        }
    }
}
