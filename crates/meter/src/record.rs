//! What a recording consists of: one JSON object a line, so that one that was cut off by the death of its process is
//! worth all its whole lines.
//!
//! [`Recorder`](crate::Recorder) writes them, [`account`](crate::account) reads them. Moments are microseconds of the
//! monotonic clock, which all processes of a machine share.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::class::Class;

/// The version of this form, in [`Record::Process`]: a reader must not guess at another's.
pub const FORM: u32 = 1;

/// One line of a recording.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Record {
    /// Whose recording this is; the first line.
    Process {
        /// [`FORM`].
        form: u32,
        /// Its process id.
        pid: u32,
        /// That of the process that started it.
        parent: u32,
        /// When recording began.
        at: u64,
        /// `sys.version_info` as text.
        python: String,
        /// `sys.orig_argv` or what stands for it.
        argv: Vec<String>,
        /// Why the GIL can't be seen; empty if it can.
        gil: String,
    },
    /// A thread registers.
    Thread {
        /// Its number in this recording.
        thread: u32,
        /// The kernel's number of it.
        tid: i32,
        /// When.
        at: u64,
    },
    /// What a thread is called from now on.
    Name {
        /// Whose.
        thread: u32,
        /// The name.
        name: String,
    },
    /// A thread ends.
    Gone {
        /// Which.
        thread: u32,
        /// When.
        at: u64,
    },
    /// A stretch of time in which a thread was seen doing one thing. Successive ones of the same kind belong together.
    Run {
        /// Which thread.
        thread: u32,
        /// What it was doing.
        class: Class,
        /// From the look before the first of these ...
        from: u64,
        /// ... to the last of them.
        to: u64,
        /// How many looks.
        samples: u32,
        /// Of a wait for the GIL: the thread that held it, if it is one of ours.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        holder: Option<u32>,
    },
    /// A function that threads were seen in.
    Function {
        /// Its number in this recording.
        function: u32,
        /// Its qualified name.
        name: String,
        /// Its file.
        file: String,
        /// The line on which it begins.
        line: u32,
    },
    /// Where a thread was.
    Place {
        /// Which thread.
        thread: u32,
        /// In which function.
        function: u32,
        /// When.
        at: u64,
        /// Inside what waits for other threads or for work: if it waits for a lock there, it is idle.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        rests: bool,
    },
    /// What a thread has used since it registered.
    Clock {
        /// Which thread.
        thread: u32,
        /// When.
        at: u64,
        /// CPU time, µs.
        cpu: u64,
        /// Time in which it could have run but had no core, µs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        delay: Option<u64>,
    },
    /// What the whole process has used since recording began.
    Cost {
        /// When.
        at: u64,
        /// CPU time of all its threads, µs.
        cpu: u64,
        /// The part of it that measuring took, µs.
        meter: u64,
        /// How often the threads were looked at.
        ticks: u64,
        /// How often the GIL changed hands.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        switches: Option<u64>,
    },
    /// Threads that are no Python threads, of one name; the last line of a name counts.
    Native {
        /// Their name.
        name: String,
        /// How many.
        threads: u32,
        /// CPU time of them together, µs.
        cpu: u64,
    },
    /// Recording ended before the process did.
    End {
        /// When.
        at: u64,
    },
}

impl Record {
    /// Appends the line.
    pub(crate) fn write(&self, lines: &mut Vec<u8>) {
        // Writing to a vector can't fail, and none of the parts is a map with odd keys.
        if serde_json::to_writer(&mut *lines, self).is_ok() {
            lines.push(b'\n');
        }
    }

    /// The records of a recording, without the lines that are none: of one that was cut off the last is half a line.
    pub fn read(lines: &[u8]) -> impl Iterator<Item = Record> + '_ {
        lines.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
    }
}

/// A moment, as records have it.
pub(crate) fn microseconds(moment: Duration) -> u64 {
    moment.as_micros() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_recording_that_was_cut_off_is_worth_its_whole_lines(
            times in proptest::collection::vec((any::<u32>(), any::<u64>(), ".*"), 0..20), cut: usize,
        ) {
            let records: Vec<Record> = times
                .into_iter()
                .flat_map(|(thread, at, name)| [Record::Name { thread, name }, Record::Gone { thread, at }])
                .collect();
            let mut lines = Vec::new();
            let mut ends = Vec::new();
            for record in &records {
                record.write(&mut lines);
                ends.push(lines.len());
            }
            let cut = if lines.is_empty() { 0 } else { cut % (lines.len() + 1) };
            // A line without its end is whole all the same.
            let whole = ends.iter().filter(|end| **end <= cut + 1).count();
            let read: Vec<Record> = Record::read(&lines[..cut]).collect();
            prop_assert_eq!(read.as_slice(), &records[..whole]);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = Record::read(&bytes).count();
        }
    }
}
