//! The kinds of frames that travel on a line. A frame's head carries the kind, an id and one more number.

/// Caller to worker. The id is the message's, unless said otherwise.
pub mod down {
    /// Run a task. Extra: the function's id. Body: a payload of the tuple of its arguments.
    pub const TASK: u32 = 1;
    /// Run a task with keywords. Extra: the function's id. Body: a payload of (arguments, keywords).
    pub const KEYWORDS: u32 = 8;
    /// Run a task whose function travels with its arguments. Body: a payload of (function, arguments, keywords).
    pub const WHOLE: u32 = 2;
    /// Run a task in a context of its own. Extra: the function's id. Body: a payload of (what is set in the context,
    /// arguments, keywords).
    pub const WITHIN: u32 = 11;
    /// Run a chunk. Extra: the function's id. Body: one byte of [`super::chunk`] flags, then a payload of its items.
    pub const CHUNK: u32 = 3;
    /// Keep a function. Id: the function's. Body: a payload of what rebuilds it.
    pub const FUNCTION: u32 = 4;
    /// Forget a function. Id: the function's.
    pub const FORGET: u32 = 5;
    /// Blocks of the worker's arena are free again, and shares are not to be kept. Body: their keys, 8 bytes each.
    pub const RELEASE: u32 = 6;
    /// From now on so many threads run messages. Id: their number. Extra: see [`extent`].
    pub const THREADS: u32 = 9;
    /// Bytes of memory of its own after which the worker ends, once it has answered what it runs. Id: their number.
    pub const MEMORY: u32 = 10;
    /// End after what came before.
    pub const STOP: u32 = 7;
    /// Stands beside the kind of a task or chunk that has a limit: the worker says when it begins.
    pub const TIMED: u32 = 1 << 8;
    /// The bits that a kind itself takes.
    pub const KIND: u32 = 0xff;
    /// Shifted by so many bits stands beside it what map or executor a task or chunk is of.
    pub const JOB: u32 = 9;

    /// Whether the worker is to meter its tasks when it has several threads, and the cores that each thread of it may take.
    pub fn extent(metered: bool, share: u32) -> u64 {
        u64::from(metered) | u64::from(share) << 1
    }

    /// What [`extent`] put together.
    pub fn parse_extent(extra: u64) -> (bool, u32) {
        (extra & 1 == 1, u32::try_from(extra >> 1).unwrap_or(u32::MAX).max(1))
    }
}

/// Flags of a chunk.
pub mod chunk {
    /// Each item is a tuple of arguments.
    pub const STAR: u8 = 1;
    /// The first exception ends the chunk.
    pub const STOP_AT_ERROR: u8 = 2;
    /// Each item is a tuple of arguments with a dict of those that have names.
    pub const KEYWORDS: u8 = 4;
}

/// Worker to caller. The id is that of the message it answers.
pub mod up {
    /// The worker is ready.
    pub const READY: u32 = 17;
    /// The worker could not become ready. Body: a payload of the exception.
    pub const UNFIT: u32 = 18;
    /// A value: of a task, or the list of a chunk's. Body: cost, payload.
    pub const VALUE: u32 = 19;
    /// An exception. Body: cost, payload.
    pub const ERROR: u32 = 20;
    /// A chunk's outcomes one by one, as some failed. Body: cost, payload of a list of (flag, bytes).
    pub const MIXED: u32 = 21;
    /// Blocks of the caller's arena, and shares, are no longer in use here. Body: their keys, 8 bytes each.
    pub const RELEASE: u32 = 22;
    /// It was not run: its function would do otherwise here, and the caller does not want that. Body: cost, payload
    /// of the reason in words.
    pub const REFUSED: u32 = 23;
    /// A function does otherwise here; comes before its first answer. Body: the reason in words.
    pub const NOTE: u32 = 24;
    /// A message with a limit begins. Body: the time by the system's monotonic clock, in nanoseconds, 8 bytes.
    pub const BEGUN: u32 = 25;
    /// The worker has more memory than it may, and ends after what it runs.
    pub const LEAVING: u32 = 26;
}
