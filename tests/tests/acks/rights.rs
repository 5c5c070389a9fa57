//! What the user must be allowed.

use highwater::{Client, ErrorKind, MINIMAL_ACL, Session};
use highwater_testkit::Topology;

use crate::{
    common::{calls, lacks, set},
    of,
};

fn allow(topology: &Topology, rights: &str) {
    for server in topology.replicas().chain([topology.primary()]) {
        let command: Vec<_> = [
            "ACL", "SETUSER", "app", "reset", "on", ">pw", "~*", "&*", "+set", "+get",
        ]
        .into_iter()
        .chain(MINIMAL_ACL.split(' '))
        .chain(rights.split(' ').filter(|right| !right.is_empty()))
        .collect();
        server.command(&command).unwrap();
    }
}

async fn connect(topology: &Topology) -> Client {
    let url = format!("redis://app:pw@127.0.0.1:{}", topology.primary().port());
    Client::builder().primary(url).connect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_wait_nothing_is_written() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    allow(&topology, "");
    let client = connect(&topology).await;
    let session = Session::new();
    for _ in 0..20 {
        let error = client
            .call(set("k", "v", &session).acks(of(1)))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains("+wait"), "{error}");
    }
    assert_eq!(calls(topology.primary(), "set"), 0);
    assert!(session.marks().is_empty());
    // Other writes go on.
    client.call(set("k", "v", &session)).await.unwrap();
    // Allowed, it works without a new client.
    allow(&topology, "+wait");
    let deadline = std::time::Instant::now() + crate::common::SOON;
    while let Err(error) = client.call(set("k", "v", &session).acks(of(1))).await {
        assert!(
            error.kind() == ErrorKind::Config && std::time::Instant::now() < deadline,
            "{error}"
        );
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_to_ask_of_disks_is_one_of_its_own() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    if lacks(topology.primary(), "WAITAOF") {
        return;
    }
    allow(&topology, "+wait");
    let client = connect(&topology).await;
    let session = Session::new();
    let error = client
        .call(set("k", "v", &session).acks(of(1).fsynced_by_replicas()))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("+waitaof"), "{error}");
    assert_eq!(calls(topology.primary(), "set"), 0);
    client.call(set("k", "v", &session).acks(of(1))).await.unwrap();
}
