//! A span of shared words: what `ring` and `bell` lay their fields out in. Knows nothing of what is in it.
//!
//! Everything shared is read and written as whole atomic words, so a peer that scribbles can hand us wrong
//! values but never a data race, and the same protocol runs over a file mapping, over the heap (tests, Miri)
//! and over loom's model of memory.

use std::fmt;
use std::sync::Arc;

#[cfg(not(loom))]
use crate::mapping::Mapping;
use crate::sync::Word;

/// Bytes in a word.
pub const WORD: usize = size_of::<u64>();

/// A span of shared words. Clones are the same span, which lives as long as the last of them.
#[derive(Clone)]
pub struct Region {
    backing: Arc<Backing>,
}

enum Backing {
    Heap(Box<[Word]>),
    #[cfg(not(loom))]
    Mapped(Mapping),
}

impl Region {
    /// `len` zero bytes of this process, rounded up to whole words: for two threads, tests and models.
    #[must_use]
    pub fn heap(len: usize) -> Self {
        let words = (0..len.div_ceil(WORD)).map(|_| Word::new(0)).collect();
        Self { backing: Arc::new(Backing::Heap(words)) }
    }

    /// The bytes of a mapping, cut down to whole words.
    ///
    /// # Panics
    ///
    /// If the mapping does not begin on a word: a caller lays regions out on page boundaries.
    #[cfg(not(loom))]
    #[must_use]
    pub fn mapped(mapping: Mapping) -> Self {
        assert!(mapping.as_ptr().cast::<Word>().is_aligned(), "a region must begin on a word of its memory");
        Self { backing: Arc::new(Backing::Mapped(mapping)) }
    }

    /// Its length in bytes, a whole number of words.
    #[must_use]
    pub fn len(&self) -> usize {
        self.words().len() * WORD
    }

    /// Whether it has no word at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words().is_empty()
    }

    pub(crate) fn words(&self) -> &[Word] {
        match &*self.backing {
            Backing::Heap(words) => words,
            #[cfg(not(loom))]
            Backing::Mapped(mapping) => {
                // SAFETY: `mapped` checked that the mapping begins on a word; it is `mapping.len()` bytes long
                // and stays mapped while `self.backing` owns it. Any bit pattern is a `Word`, and `Word` is
                // atomic, so this process and its peer may write it while the slice lives.
                unsafe { std::slice::from_raw_parts(mapping.as_ptr().cast::<Word>(), mapping.len() / WORD) }
            }
        }
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region").field("len", &self.len()).finish_non_exhaustive()
    }
}
