//! What the comparisons share: closed loops of callers, interleaved rounds, ratios within one run.
//!
//! The machine is noisy, so throughput is never compared across runs: in each round every contender
//! runs once, each is divided by the plain client's figure of the same round, and the median of these
//! ratios counts.
//!
//! The programs: `side-by-side` measures times, `allocations` counts what is allocated (its allocator would
//! distort times), `chart` draws what replication delay does. `cargo xtask bench` and `cargo xtask chart` run them.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a bench that can't go on must stop"
)]

pub mod contenders;
pub mod cost;
pub mod data;
pub mod measure;
pub mod memory;
pub mod operation;
pub mod options;
pub mod placement;
pub mod report;
pub mod soak;
pub mod stage;

pub use measure::median;
