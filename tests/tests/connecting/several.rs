//! Several connections to a node, and replicas by zone.

use std::collections::HashSet;

use highwater::{Client, ErrorKind, Route, Session};
use highwater_testkit::{Control, Server, Topology, wait_until_async};
use redis::AsyncCommands;

use crate::{SOON, common, get, read_from_a_replica, refusal};

/// The IDs of the client's connections at a server.
fn connections(server: &Server) -> Vec<String> {
    let list = server.command(&["CLIENT", "LIST"]).unwrap();
    list.text()
        .unwrap()
        .lines()
        .filter(|line| line.contains("name=highwater "))
        .filter_map(|line| Some(line.strip_prefix("id=")?.split(' ').next()?.to_owned()))
        .collect()
}

fn calls_of_get(server: &Server) -> u64 {
    let stats = server.command(&["INFO", "commandstats"]).unwrap();
    let line = stats
        .text()
        .unwrap()
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_get:calls="));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_connection_proves_by_itself() {
    let topology = Topology::builder().replicas(2).start().unwrap();
    let client = common::builder(&topology)
        .connections_per_node(3)
        .connect()
        .await
        .unwrap();
    wait_until_async(SOON, "three connections to each node", || {
        let status = client.status();
        status
            .replicas
            .iter()
            .chain([&status.primary])
            .all(|node| node.connections == 3)
    })
    .await
    .unwrap();
    assert_eq!(connections(topology.primary()).len(), 3);
    let tasks: Vec<_> = (0..64)
        .map(|caller| {
            let client = client.clone();
            tokio::spawn(async move {
                let session = Session::new();
                let mut connection = client.with(&session);
                for round in 0..50_u32 {
                    let () = connection.set(format!("key:{caller}"), round).await.unwrap();
                    let seen: u32 = connection.get(format!("key:{caller}")).await.unwrap();
                    assert_eq!(seen, round);
                }
                session.routes().replica
            })
        })
        .collect();
    let mut from_replicas = 0;
    for task in tasks {
        from_replicas += task.await.unwrap();
    }
    assert!(from_replicas > 0);
    for wrong in [0, highwater::defaults::MAX_CONNECTIONS_PER_NODE + 1] {
        let error = refusal(common::builder(&topology).connections_per_node(wrong)).await;
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("connections_per_node"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_loaded_connection_is_taken() {
    let topology = Topology::builder().replicas(0).start().unwrap();
    let primary = topology.primary();
    let client = common::builder(&topology)
        .connections_per_node(3)
        .connect()
        .await
        .unwrap();
    wait_until_async(SOON, "three connections", || {
        client.status().primary.connections == 3
    })
    .await
    .unwrap();
    let mut monitor = Control::connect(primary.port()).unwrap();
    monitor.command(&["MONITOR"]).unwrap();
    // Nothing is answered, so each write finds the connections of those before it busy. One after the
    // other: two that look at the same moment may take the same one.
    primary.pause().unwrap();
    let mut writes = Vec::new();
    for key in 0..3 {
        let writer = client.clone();
        writes.push(tokio::spawn(async move {
            writer.without_session().set::<_, _, ()>(key, "v").await
        }));
        wait_until_async(SOON, "the write is in flight", || {
            client.status().primary.in_flight > key
        })
        .await
        .unwrap();
    }
    primary.resume().unwrap();
    for write in writes {
        write.await.unwrap().unwrap();
    }
    let mut peers = HashSet::new();
    let mut writes = 0;
    while writes < 3 {
        // 1700000000.000000 [0 127.0.0.1:40000] "SET" "0" "v"
        let line = monitor.receive().unwrap();
        let line = line.text().unwrap().to_owned();
        if line.contains("\"SET\"") {
            writes += 1;
            peers.insert(line.split(['[', ']']).nth(1).unwrap().to_owned());
        }
    }
    assert_eq!(peers.len(), 3, "{peers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_one_of_several() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = common::builder(&topology)
        .connections_per_node(2)
        .connect()
        .await
        .unwrap();
    let both = || {
        let status = client.status();
        status.primary.connections == 2 && status.replicas[0].connections == 2
    };
    wait_until_async(SOON, "two connections to each node", both)
        .await
        .unwrap();
    let session = Session::new();
    for round in 1..=5_u64 {
        for server in [topology.primary(), topology.replica(0)] {
            let old = connections(server);
            server.command(&["CLIENT", "KILL", "ID", &old[0]]).unwrap();
            if server.port() == topology.replica(0).port() {
                // The primary is whole again, so the read is answered, whatever it finds at the replica.
                client.call(get("k", &session)).await.unwrap();
            }
            wait_until_async(SOON, "the lost one is made anew", || {
                let status = client.status();
                let node = match server.port() == topology.primary().port() {
                    true => &status.primary,
                    false => &status.replicas[0],
                };
                both() && node.disconnects == round
            })
            .await
            .unwrap();
        }
    }
    let () = client.with(&session).set("k", "v").await.unwrap();
    read_from_a_replica(&client, &topology, &session, "k").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_of_the_preferred_zone_come_first_if_they_have_caught_up() {
    let topology = Topology::builder().replicas(3).start().unwrap();
    let [near, far, farther] = [0, 1, 2].map(|place| topology.replica(place));
    let client = Client::builder()
        .primary(topology.primary().url())
        .replica_in_zone(far.url(), "zone-b")
        .replica_in_zone(near.url(), "zone-a")
        .replica(farther.url())
        .prefer_zone("zone-a")
        .connect()
        .await
        .unwrap();
    assert_eq!(client.status().replicas[1].zone.as_deref(), Some("zone-a"));
    let nobody = Session::new();
    for _ in 0..50 {
        assert_eq!(
            client.call(get("k", &nobody)).await.unwrap().route,
            Route::Replica
        );
    }
    assert_eq!([near, far, farther].map(calls_of_get), [50, 0, 0]);

    // The near one falls behind: the others serve those who depend on what it lacks, and it the rest.
    topology.relay(0).pause();
    let session = Session::new();
    let () = client.with(&session).set("k", "v").await.unwrap();
    let mark = topology.primary().mark().unwrap();
    topology.wait_applied(1, mark, SOON).unwrap();
    topology.wait_applied(2, mark, SOON).unwrap();
    tokio::time::timeout(SOON, async {
        while client.call(get("k", &session)).await.unwrap().route != Route::Replica {}
    })
    .await
    .unwrap();
    let before = [near, far, farther].map(calls_of_get);
    assert!(before[1] + before[2] > 0, "{before:?}");
    for _ in 0..10 {
        assert_eq!(
            client.call(get("k", &nobody)).await.unwrap().route,
            Route::Replica
        );
    }
    let after = [near, far, farther].map(calls_of_get);
    assert_eq!(
        (after[0], after[1] + after[2]),
        (before[0] + 10, before[1] + before[2])
    );
}
