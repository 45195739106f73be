//! A machine that only exists as numbers: cores shared fairly, one GIL per process with its switch interval, workers that
//! take time to start, and the engine's real governor at work on it. No clock and no Python, so each run is exact and
//! repeatable, and a laptop can tell what the choice would do on 256 cores.
//!
//! `workload` says what tasks ask for and `world` what things cost; `simulation` runs the one in the other, under a fixed
//! plan or under the governor. `oracle` knows the true costs and takes the best fixed plan; `recording` reads what was
//! measured of real workloads, `families` makes some up. `main` makes a study of all that. The engine's tests use it, too.

pub mod families;
pub mod oracle;
pub mod recording;
pub mod simulation;
pub mod workload;
pub mod world;
