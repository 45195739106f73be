//! What is known of a worker that is gone: how it ended, why, and what it wrote as it crashed.

use std::os::fd::OwnedFd;

use forkright_shm::memory::Memory;
use rustix::process::Signal;

use crate::warden::Death;

/// Of what a crashing worker wrote, no more is kept: it may have written anything.
const MOST_WORDS: u64 = 64 << 10;

/// How a worker's process ended, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obituary {
    /// The process; 0 if there was none.
    pub pid: i32,
    /// How it ended.
    pub death: Death,
    /// Why, where that is known, as a sentence of its own.
    pub cause: Option<String>,
    /// What it wrote when it crashed; empty if nothing.
    pub last_words: String,
}

impl Obituary {
    /// How and why it ended, for people.
    pub fn words(&self) -> String {
        let how = words(self.death);
        self.cause.as_ref().map_or_else(|| how.clone(), |cause| format!("{how}; {cause}"))
    }
}

/// How a process ended, for people.
fn words(death: Death) -> String {
    match death {
        Death::Exited(code) => format!("it exited with code {code}"),
        Death::Killed(signal) => match Signal::from_named_raw(signal) {
            // Its debug form is `Signal::SEGV`.
            Some(named) => {
                let name = format!("{named:?}");
                format!(
                    "it was killed by SIG{} (signal {signal})",
                    name.trim_matches('"').rsplit(':').next().unwrap_or_default()
                )
            }
            None => format!("it was killed by signal {signal}"),
        },
        Death::Unknown => "it is gone; nobody could tell how".into(),
    }
}

/// Where a worker writes when it crashes, for this process to read after its death.
pub(super) struct LastWords(Memory);

impl LastWords {
    /// An empty page, and the worker's descriptor of it.
    pub(super) fn create() -> std::io::Result<(LastWords, OwnedFd)> {
        let memory = Memory::create("forkright-last-words", 0)?;
        let theirs = memory.fd().try_clone_to_owned()?;
        Ok((LastWords(memory), theirs))
    }

    pub(super) fn read(&self) -> String {
        let len = self.0.len().map_or(0, |len| len.min(MOST_WORDS));
        let mut bytes = Vec::new();
        match self.0.read_at(&mut bytes, 0, len) {
            Ok(()) => String::from_utf8_lossy(&bytes).trim_matches(['\0', '\n', ' ']).to_owned(),
            Err(_) => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn obituary(death: Death, cause: Option<&str>) -> Obituary {
        Obituary { pid: 5, death, cause: cause.map(str::to_owned), last_words: String::new() }
    }

    #[test]
    fn words_name_the_signal_and_the_cause() {
        assert_eq!(obituary(Death::Killed(11), None).words(), "it was killed by SIGSEGV (signal 11)");
        assert_eq!(
            obituary(Death::Exited(3), Some("somebody asked")).words(),
            "it exited with code 3; somebody asked"
        );
    }

    #[test]
    fn last_words_are_read_as_they_were_written_and_no_more_than_some() {
        let (words, theirs) = LastWords::create().expect("memory");
        assert_eq!(words.read(), "");
        rustix::io::write(&theirs, b"Fatal \xff error\n").expect("room");
        assert_eq!(words.read(), "Fatal \u{fffd} error");
        rustix::fs::ftruncate(&theirs, 1 << 40).expect("a sparse file");
        assert!(words.read().len() as u64 <= MOST_WORDS + 2);
    }
}
