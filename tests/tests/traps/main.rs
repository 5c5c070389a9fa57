//! What Redis and Valkey really do, and what highwater makes of it. `laws` asks the servers themselves, so that one
//! which breaks a law that proofs rest on is noticed; all else goes through the client. `docs/SERVERS.md` lists
//! law by law and trap by trap which test shows it.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

#[path = "../common/mod.rs"]
mod common;

mod clocks;
mod laws;
mod marks;
mod page;
mod replies;
mod resync;
mod roles;
mod wire;

use std::io::Write;

use highwater::{Client, ClientBuilder};
use highwater_testkit::{Server, Topology};

/// A primary with so many replicas, for tests to which it is all the same how a full resync loads its data. In this way it
/// takes no longer than it must: else the primary waits for an acknowledgement, and Valkey looks once a second
/// whether the data have come.
fn topology_of(replicas: usize) -> Topology {
    Topology::builder()
        .replicas(replicas)
        .primary_args(common::NO_PINGS)
        .primary_args(["--repl-diskless-sync", "no"])
        .replica_args(["--repl-diskless-load", "swapdb"])
        .start()
        .unwrap()
}

/// A client that gives no connection up because the machine is slow: some traps need one that stays.
async fn patient(builder: ClientBuilder) -> Client {
    builder
        .response_timeout(4 * common::SOON)
        .connect()
        .await
        .expect("the servers run")
}

/// One of the whole topology.
async fn client(topology: &Topology) -> Client {
    patient(common::builder(topology)).await
}

/// Whether the server has a command. Says so where it has not, since the test then shows nothing.
fn knows(server: &Server, command: &str) -> bool {
    let info = server.command(&["COMMAND", "INFO", command]).unwrap();
    let known = info
        .array()
        .is_some_and(|entries| entries.iter().any(|entry| entry.array().is_some()));
    if !known {
        skipped(&format!("this server has no {command}"));
    }
    known
}

/// Says why a part of a test was left out, also where the output of tests that pass is not shown.
fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}
