//! What each consistency level promises and what it allows: the promises under load and faults, each with 100,000
//! reads that were at risk, and the anomalies one by one, made to happen. `docs/GUARANTEE.md` is the text of both.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

#[path = "../common/mod.rs"]
mod common;

mod allowed;
mod mixed;
mod promises;
mod stage;
mod subject;
