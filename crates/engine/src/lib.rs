//! The engine of forkright: tasks, plans, forecast, choice, supervision. It knows neither Python nor the
//! GIL's address, and contains no unsafe code; the bindings translate for it and decide nothing.

#![forbid(unsafe_code)]

pub mod advice;
pub mod cache;
pub mod choose;
pub mod chunk;
pub mod climb;
pub mod cores;
pub mod crew;
mod crowd;
mod drag;
pub mod error;
pub mod estimate;
pub mod forecast;
pub mod frame;
pub mod governor;
mod handovers;
pub mod here;
mod kin;
pub mod line;
pub mod machine;
mod oom;
pub mod payload;
pub mod plan;
pub mod profile;
pub mod queue;
pub mod ranked;
pub mod replay;
pub mod share;
pub mod state;
pub mod store;
mod trend;
mod turn;
pub mod warden;
pub mod words;
