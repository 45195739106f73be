//! The memory two processes share: a parent that submits tasks and a worker process that runs them.
//!
//! ```text
//!  parent                    one memfd per worker                     worker
//!  Producer ──▶ [ ring of frames: tasks ]                       ──▶ Consumer
//!  Consumer ◀── [ ring of frames: outcomes ]                    ◀── Producer
//!  Arena    ──▶ [ memfd of large payloads ]                     ──▶ Memory::map
//!  Bell     ◀── [ count, sleepers ]  struck after each publication
//! ```
//!
//! Two rules hold throughout. **A dead peer poisons nothing**: no lock lives in shared memory, every word
//! there is written by one side or decided by one compare-exchange. **Nothing read from shared memory is
//! trusted**: it is copied out first, then bounded, then used; nonsense becomes an error, never an access
//! out of bounds and never an endless loop. The protocol has its page in the crate's `README.md`.
//!
//! This crate starts no process, watches no process and knows no Python. It builds on Linux only.

#[cfg(not(loom))]
pub mod arena;
pub mod bell;
#[cfg(not(loom))]
pub mod mapping;
#[cfg(not(loom))]
pub mod memory;
#[cfg(not(loom))]
pub mod pid;
pub mod region;
pub mod ring;
mod sync;

#[cfg(not(loom))]
pub use arena::{Arena, Block, Reserved};
pub use bell::{Bell, Listener, Woken};
#[cfg(not(loom))]
pub use mapping::Mapping;
#[cfg(not(loom))]
pub use memory::{Access, Memory};
pub use region::Region;
pub use ring::{Consumer, Corrupt, Head, Position, Producer, PushError, Revocation, Standing};
