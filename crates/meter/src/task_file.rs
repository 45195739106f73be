//! A file of the kernel's about one thread, read again and again.
//!
//! It is kept open, which makes a look three times as cheap, as long as descriptors are plenty: a program with a
//! thousand threads must not run out of them because it is measured.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use rustix::process::{Resource, getrlimit};

/// The part of the descriptors a process may have that measuring leaves alone is all but one in so many.
const SHARE: u64 = 4;

/// `/proc/self/task/<tid>/<name>`.
#[derive(Debug)]
pub(crate) struct TaskFile {
    path: String,
    kept: Option<File>,
}

impl TaskFile {
    /// Of the thread with this id.
    pub(crate) fn of(tid: i32, name: &str) -> TaskFile {
        let path = format!("/proc/self/task/{tid}/{name}");
        let most = getrlimit(Resource::Nofile).current;
        let kept = File::open(&path).ok().filter(|file| may_keep(file.as_raw_fd(), most));
        TaskFile { path, kept }
    }

    /// What it says now, if the thread is there and `/proc` is.
    pub(crate) fn read<'a>(&self, content: &'a mut [u8]) -> Option<&'a [u8]> {
        let length = match &self.kept {
            Some(file) => file.read_at(content, 0),
            None => File::open(&self.path).and_then(|file| file.read_at(content, 0)),
        };
        Some(&content[..length.ok()?])
    }
}

/// Whether a descriptor of this number leaves enough, of `most` there may be (`None`: as many as one likes), for the
/// program. The lowest free number is given out, so a low one says that few are in use.
fn may_keep(number: i32, most: Option<u64>) -> bool {
    most.is_none_or(|most| u64::try_from(number).is_ok_and(|number| number < most / SHARE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn descriptors_are_left_to_the_program() {
        assert!(may_keep(3, Some(1_024)) && may_keep(255, Some(1_024)));
        assert!(!may_keep(256, Some(1_024)) && !may_keep(3, Some(8)));
        assert!(may_keep(1_000_000, None));
    }

    #[test]
    fn a_file_that_is_not_kept_says_the_same() {
        let tid = clock::current_tid();
        let kept = TaskFile::of(tid, "comm");
        let opened = TaskFile { path: kept.path.clone(), kept: None };
        let (mut one, mut two) = ([0; 64], [0; 64]);
        assert!(kept.read(&mut one).is_some_and(|name| !name.is_empty()));
        assert_eq!(kept.read(&mut one), opened.read(&mut two));
        assert_eq!(TaskFile::of(-1, "comm").read(&mut one), None);
    }
}
