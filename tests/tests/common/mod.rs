//! What the integration tests share.
#![allow(dead_code, reason = "each test file uses a part")]

use highwater::{Client, ClientBuilder};
use highwater_testkit::Topology;

/// A builder for a client of the whole topology.
pub(crate) fn builder(topology: &Topology) -> ClientBuilder {
    topology
        .replicas()
        .fold(Client::builder().primary(topology.primary().url()), |builder, replica| {
            builder.replica(replica.url())
        })
}

/// A client of the whole topology.
pub(crate) async fn client(topology: &Topology) -> Client {
    builder(topology).connect().await.expect("the servers run")
}
