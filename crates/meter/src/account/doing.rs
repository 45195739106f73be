//! What a thread of a program can be doing.

use serde::Serialize;

use crate::class::Class;

/// What a thread of a program can be doing: a [`Class`], or [`Doing::Idle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Doing {
    /// Computes with the GIL.
    Held,
    /// Waits for something else with the GIL.
    HeldBlocked,
    /// Computes without the GIL.
    OffGil,
    /// Waits for the GIL.
    GilWait,
    /// Waits for a lock that somebody holds.
    LockWait,
    /// Input, output, sleep.
    Io,
    /// Waits for work, or for other threads to end.
    Idle,
    /// Could run, without the GIL, but has no core.
    RunDelay,
    /// Can't be told.
    Unknown,
}

impl Doing {
    /// All of them, in the order in which timelines number them.
    pub const ALL: [Doing; 9] = [
        Doing::Held,
        Doing::HeldBlocked,
        Doing::OffGil,
        Doing::GilWait,
        Doing::LockWait,
        Doing::Io,
        Doing::Idle,
        Doing::RunDelay,
        Doing::Unknown,
    ];

    /// The name of the part that it is.
    pub(super) fn name(self) -> &'static str {
        match self {
            Doing::Held => "held",
            Doing::HeldBlocked => "held_blocked",
            Doing::OffGil => "off_gil",
            Doing::GilWait => "gil_wait",
            Doing::LockWait => "lock_wait",
            Doing::Io => "io",
            Doing::Idle => "idle",
            Doing::RunDelay => "run_delay",
            Doing::Unknown => "unknown",
        }
    }

    pub(super) fn of(class: Class, rests: bool) -> Doing {
        match class {
            Class::Held => Doing::Held,
            Class::HeldBlocked => Doing::HeldBlocked,
            Class::OffGil => Doing::OffGil,
            Class::GilWait => Doing::GilWait,
            Class::LockWait | Class::Io | Class::Sleep if rests => Doing::Idle,
            Class::LockWait => Doing::LockWait,
            Class::Io | Class::Sleep => Doing::Io,
            Class::Ready => Doing::RunDelay,
            Class::Unknown => Doing::Unknown,
        }
    }
}
