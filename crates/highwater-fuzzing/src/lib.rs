//! What highwater's fuzz targets check.
//!
//! Each module has a function `check` that takes bytes and panics when a property does not hold. The targets in
//! `fuzz/` hand it what libFuzzer makes up; `tests/replay.rs` hands it the corpora that are in the repository, so
//! that what was found once is looked at with every run of the tests, on a stable compiler. CONTRIBUTING.md says how
//! to run a target.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a finding is a panic"
)]

pub mod carrier;
pub mod command;
pub mod info;
pub mod reply;
pub mod token;
