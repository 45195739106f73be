//! What can go wrong in this crate, in the user's words. Returned by validation in `plan`; without it
//! every caller would word the same mistake differently.

use std::fmt;

/// A request that can't be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// A plan without a single worker.
    NoWorkers,
    /// A plan with more workers than anyone can mean.
    TooManyWorkers(u64),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoWorkers => f.write_str("a plan needs at least 1 worker: threads must be 1 or more"),
            Self::TooManyWorkers(workers) => {
                write!(f, "{workers} workers are more than the {} a plan can have", crate::plan::MOST_WORKERS)
            }
        }
    }
}

impl std::error::Error for Error {}
