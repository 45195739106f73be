//! What a worker is doing at one moment.
//!
//! The sampler asks at every tick, from two sources: who holds the GIL, and what the kernel says of a thread in
//! `/proc/self/task/<tid>/syscall`.

use serde::{Deserialize, Serialize};

/// What a worker that runs a task is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// It holds the GIL and computes.
    Held,
    /// It holds the GIL and waits for something else: everybody waits with it.
    HeldBlocked,
    /// It computes without the GIL.
    OffGil,
    /// It waits for the GIL.
    GilWait,
    /// It waits for another lock.
    LockWait,
    /// It is in some other system call: input, output.
    Io,
    /// It sleeps for a time it has chosen: a wait that is at nobody's cost.
    Sleep,
    /// It could run, without the GIL, but has no core.
    Ready,
    /// It can't be told.
    Unknown,
}

impl Class {
    /// Every class, in the order of a [`Counts`](crate::Counts).
    pub const ALL: [Class; 9] = [
        Class::Held,
        Class::HeldBlocked,
        Class::OffGil,
        Class::GilWait,
        Class::LockWait,
        Class::Io,
        Class::Sleep,
        Class::Ready,
        Class::Unknown,
    ];
}

/// What the kernel says of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// On a core or ready for one.
    Running,
    /// Waiting on the futex at this address.
    Futex(usize),
    /// Asleep until a time.
    Sleep,
    /// Blocked in another system call.
    Call,
    /// Blocked, but not in a system call: in a page fault, say.
    Blocked,
}

/// Reads the content of `/proc/self/task/<tid>/syscall`; `None` if it is none.
///
/// It is `running`, or the number of the system call, its six arguments, stack pointer and program counter in
/// hexadecimal, or `-1` and the two registers.
pub(crate) fn parse(content: &[u8]) -> Option<State> {
    let mut words = std::str::from_utf8(content).ok()?.split_ascii_whitespace();
    match words.next()? {
        "running" => Some(State::Running),
        "-1" => Some(State::Blocked),
        number => {
            let number: u32 = number.parse().ok()?;
            let argument = usize::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
            Some(match i64::from(number) {
                libc::SYS_futex => State::Futex(argument),
                libc::SYS_nanosleep | libc::SYS_clock_nanosleep => State::Sleep,
                _ => State::Call,
            })
        }
    }
}

/// The class of a thread that does not hold the GIL, or of which that isn't known (`waits_for_gil` is `None` then);
/// `waits_for_gil` tells whether a futex belongs to the GIL.
pub(crate) fn without_gil(state: Option<State>, waits_for_gil: Option<impl Fn(usize) -> bool>) -> Class {
    match (state, waits_for_gil) {
        (Some(State::Call), _) => Class::Io,
        (Some(State::Sleep), _) => Class::Sleep,
        (Some(State::Running), Some(_)) => Class::OffGil,
        (Some(State::Futex(address)), Some(waits_for_gil)) => match waits_for_gil(address) {
            true => Class::GilWait,
            false => Class::LockWait,
        },
        (Some(State::Running | State::Futex(_)), None) | (Some(State::Blocked) | None, _) => Class::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(number: i64, first: usize, rest: [usize; 7]) -> String {
        let rest = rest.map(|word| format!("{word:#x}")).join(" ");
        format!("{number} {first:#x} {rest}\n")
    }

    #[test]
    fn the_kernels_words_are_understood() {
        assert_eq!(parse(b"running\n"), Some(State::Running));
        assert_eq!(parse(b"-1 0x7ffc0a 0x55d1c2\n"), Some(State::Blocked));
        let futex = line(libc::SYS_futex, 0x7f00_1234, [0x80; 7]);
        assert_eq!(parse(futex.as_bytes()), Some(State::Futex(0x7f00_1234)));
        let read = line(libc::SYS_read, 3, [0; 7]);
        assert_eq!(parse(read.as_bytes()), Some(State::Call));
        let sleep = line(libc::SYS_clock_nanosleep, 1, [0; 7]);
        assert_eq!(parse(sleep.as_bytes()), Some(State::Sleep));
    }

    #[test]
    fn what_the_kernel_never_says_means_nothing() {
        let futex = libc::SYS_futex;
        let lines = ["", "\n", "runnin", "-2 0x0 0x0", "12", "12 7", "12 0x", "x 0x1", "99999999999999 0x0"];
        for line in lines.iter().map(ToString::to_string).chain([futex.to_string(), format!("{futex} 0xfg")])
        {
            assert_eq!(parse(line.as_bytes()), None, "{line:?}");
        }
        assert_eq!(parse(b"\xff\xfe"), None);
    }

    #[test]
    fn without_knowing_the_gil_only_other_calls_are_told() {
        let blind = |state| without_gil(state, None::<fn(usize) -> bool>);
        assert_eq!(blind(Some(State::Call)), Class::Io);
        assert_eq!(blind(Some(State::Sleep)), Class::Sleep);
        for state in [Some(State::Running), Some(State::Futex(8)), Some(State::Blocked), None] {
            assert_eq!(blind(state), Class::Unknown);
        }
    }

    proptest! {
        #[test]
        fn every_call_is_told_and_every_futex_address_kept(
            number in 0_i64..1_000, first: usize, rest: [usize; 7],
        ) {
            let state = parse(line(number, first, rest).as_bytes());
            let expected = match number {
                libc::SYS_futex => State::Futex(first),
                libc::SYS_nanosleep | libc::SYS_clock_nanosleep => State::Sleep,
                _ => State::Call,
            };
            prop_assert_eq!(state, Some(expected));
        }

        #[test]
        fn no_content_makes_it_panic(content: Vec<u8>) {
            parse(&content);
        }

        #[test]
        fn no_cut_line_makes_it_panic_or_invent_an_address(first: usize, rest: [usize; 7], at: usize) {
            let content = line(libc::SYS_futex, first, rest);
            let known = match parse(&content.as_bytes()[..at % content.len()]) {
                // Cut in the middle of a number, it is the beginning of that number.
                Some(State::Futex(address)) => format!("{first:x}").starts_with(&format!("{address:x}")),
                Some(State::Call) => at % content.len() > 0,
                other => other.is_none(),
            };
            prop_assert!(known);
        }

        #[test]
        fn a_futex_of_the_gil_is_the_gils_and_no_other(address: usize, gil: usize) {
            let waits_for_gil = |address| address == gil;
            let expected = if address == gil { Class::GilWait } else { Class::LockWait };
            prop_assert_eq!(without_gil(Some(State::Futex(address)), Some(waits_for_gil)), expected);
            prop_assert_eq!(without_gil(Some(State::Futex(gil)), Some(waits_for_gil)), Class::GilWait);
        }
    }
}
