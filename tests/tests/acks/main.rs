//! Writes that wait until replicas have acknowledged them.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

#[path = "../common/mod.rs"]
mod common;

mod counts;
mod faults;
mod loss;
mod rights;
mod sharing;
mod unchanged;

use std::time::Duration;

use common::SOON;
use highwater::{Acks, Command, Session};

/// Long enough for any replica that lives.
fn of(replicas: u32) -> Acks {
    Acks::replicas(replicas, SOON)
}

/// Not waited for in vain for long.
fn soon(replicas: u32) -> Acks {
    Acks::replicas(replicas, Duration::from_millis(30))
}

fn incr(key: &str, session: &Session) -> Command {
    Command::new(redis::cmd("INCR").arg(key)).session(session)
}
