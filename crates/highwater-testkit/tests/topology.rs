//! Topologies of real servers.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use highwater_testkit::{ErrorKind, Mark, Role, Topology};

const SOON: Duration = Duration::from_secs(15);

#[test]
fn replicas_are_in_sync_when_it_has_started() {
    let topology = Topology::builder().replicas(2).start().unwrap();
    let primary = topology.primary().info_replication().unwrap();
    assert_eq!(primary.connected_replicas, 2);
    for replica in topology.replicas() {
        let info = replica.info_replication().unwrap();
        assert_eq!(
            (info.role, info.replid, info.link_up),
            (Role::Replica, primary.replid, true)
        );
    }
    topology.primary().command(&["SET", "key", "value"]).unwrap();
    topology.wait_in_sync(SOON).unwrap();
    for replica in topology.replicas() {
        assert_eq!(replica.command(&["GET", "key"]).unwrap().text(), Some("value"));
    }
}

#[test]
fn relays_are_independent() {
    let topology = Topology::builder().replicas(2).start().unwrap();
    topology.relay(0).pause();
    topology.primary().command(&["SET", "key", "value"]).unwrap();
    let mark = topology.primary().mark().unwrap();
    topology.wait_applied(1, mark, SOON).unwrap();
    assert!(!topology.replica(0).info_replication().unwrap().covers(mark));
    let error = topology
        .wait_applied(0, mark, Duration::from_millis(20))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("replica 0 has applied"), "{error}");
}

#[test]
fn a_primary_may_be_alone() {
    let topology = Topology::builder().start().unwrap();
    topology.wait_in_sync(SOON).unwrap();
    assert_eq!(
        topology
            .wait_applied(0, topology.primary().mark().unwrap(), SOON)
            .unwrap_err()
            .kind(),
        ErrorKind::Usage
    );
}

#[test]
fn arguments_reach_the_servers_and_delays_come_after_the_first_sync() {
    let topology = Topology::builder()
        .replicas(1)
        .delay(Duration::from_secs(3600))
        .primary_args(["--repl-backlog-size", "64kb"])
        .replica_args(["--repl-diskless-load", "swapdb"])
        .start()
        .unwrap();
    let load = topology
        .replica(0)
        .command(&["CONFIG", "GET", "repl-diskless-load"])
        .unwrap();
    assert_eq!(load.array().unwrap()[1].text(), Some("swapdb"));
    let backlog = topology
        .primary()
        .command(&["CONFIG", "GET", "repl-backlog-size"])
        .unwrap();
    assert_eq!(backlog.array().unwrap()[1].text(), Some("65536"));
    topology.primary().command(&["SET", "key", "value"]).unwrap();
    let mark = topology.primary().mark().unwrap();
    assert!(!topology.replica(0).info_replication().unwrap().covers(mark));
    topology.relay(0).heal();
    topology.wait_applied(0, mark, SOON).unwrap();
}

#[test]
fn a_restarted_replica_comes_back_through_its_relay() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    // Redis 8 takes a second connection for a full resync.
    let before = topology.relay(0).stats().accepted;
    topology.replica(0).kill();
    topology.primary().command(&["SET", "key", "value"]).unwrap();
    topology.replica(0).restart().unwrap();
    topology.wait_in_sync(SOON).unwrap();
    assert_eq!(
        topology.replica(0).command(&["GET", "key"]).unwrap().text(),
        Some("value")
    );
    assert!(topology.relay(0).stats().accepted > before);
}

#[test]
fn a_promoted_replica_takes_the_others_over() {
    let topology = Topology::builder().replicas(2).start().unwrap();
    topology.primary().command(&["SET", "key", "value"]).unwrap();
    topology.wait_in_sync(SOON).unwrap();
    let before = topology.primary().mark().unwrap();
    topology.primary().kill();
    topology.promote(0).unwrap();
    topology.replica(0).command(&["SET", "key", "newer"]).unwrap();
    let info = topology.replica(0).info_replication().unwrap();
    assert_eq!((info.role, info.replid2), (Role::Primary, Some(before.history)));
    assert_ne!(info.replid, before.history);
    topology
        .wait_applied(1, Mark::new(info.replid, info.applied()), SOON)
        .unwrap();
    assert_eq!(
        topology.replica(1).command(&["GET", "key"]).unwrap().text(),
        Some("newer")
    );
}
