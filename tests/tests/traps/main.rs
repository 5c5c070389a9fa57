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

use highwater::{Client, ClientBuilder};
use highwater_testkit::Topology;

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
