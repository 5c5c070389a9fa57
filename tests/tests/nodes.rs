//! Nodes that freeze and die: reads go on. (What becomes of writes is in `doubt`.)
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use common::{SOON, bulk, get, set};
use highwater::{Client, Reason, Route, Session};
use highwater_testkit::{Relay, Topology, wait_until_async};
use tokio::task::JoinSet;

const TIMEOUT: Duration = Duration::from_millis(1200);

/// Callers that read their own key again and again until they are told to stop. Any error and any
/// wrong value ends the test.
struct Readers {
    stop: Arc<AtomicBool>,
    reads: Arc<AtomicU64>,
    slow: Arc<AtomicU64>,
    tasks: JoinSet<()>,
}

impl Readers {
    const COUNT: u64 = 16;

    async fn start(client: &Client, topology: &Topology) -> Self {
        let mut readers = Self {
            stop: Arc::default(),
            reads: Arc::default(),
            slow: Arc::default(),
            tasks: JoinSet::new(),
        };
        let mut sessions = Vec::new();
        for reader in 0..Self::COUNT {
            let session = Session::new();
            let key = format!("reader:{reader}");
            client.call(set(&key, &key, &session)).await.unwrap();
            sessions.push((session, key));
        }
        topology.wait_in_sync(SOON).unwrap();
        for (session, key) in sessions {
            let client = client.clone();
            let (stop, reads, slow) = (
                Arc::clone(&readers.stop),
                Arc::clone(&readers.reads),
                Arc::clone(&readers.slow),
            );
            readers.tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    let reply = client.call(get(&key, &session)).await.unwrap();
                    assert_eq!(reply.value, bulk(&key));
                    slow.fetch_add(u64::from(start.elapsed() > TIMEOUT / 2), Ordering::Relaxed);
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        readers
    }

    /// Waits until the readers have done so many reads more.
    async fn go_on(&self, more: u64) {
        let goal = self.reads.load(Ordering::Relaxed) + more;
        let goes_on = || self.reads.load(Ordering::Relaxed) >= goal || self.tasks.is_empty();
        wait_until_async(SOON, "reads go on", goes_on).await.unwrap();
    }

    /// Stops; returns how many reads were slow.
    async fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(outcome) = self.tasks.join_next().await {
            outcome.unwrap();
        }
        self.slow.load(Ordering::Relaxed)
    }
}

async fn client(topology: &Topology) -> Client {
    common::builder(topology)
        .response_timeout(TIMEOUT)
        .connect()
        .await
        .unwrap()
}

fn connection(client: &Client, replica: usize) -> &'static str {
    client.status().replicas[replica].connection
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_replica_costs_each_caller_one_timeout_at_most() {
    let topology = Topology::builder().replicas(2).start().unwrap();
    let client = client(&topology).await;
    let readers = Readers::start(&client, &topology).await;
    readers.go_on(500).await;
    topology.replica(0).pause().unwrap();
    wait_until_async(SOON, "the frozen replica counts as dead", || {
        connection(&client, 0) == "down"
    })
    .await
    .unwrap();
    readers.go_on(2000).await;
    assert_eq!(connection(&client, 1), "up");
    topology.replica(0).resume().unwrap();
    wait_until_async(SOON, "the replica is used again", || {
        connection(&client, 0) == "up"
    })
    .await
    .unwrap();
    readers.go_on(500).await;
    let slow = readers.stop().await;
    assert!(slow <= Readers::COUNT, "{slow} slow reads");
    // Nobody was in need of the primary for long: the other replica was there.
    let status = client.status();
    let from = |route| {
        status
            .reads
            .iter()
            .filter(|count| count.route == route)
            .map(|count| count.count)
            .sum::<u64>()
    };
    assert!(from("replica") > from("primary"), "{:?}", status.reads);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_replicas_cost_no_errors() {
    let topology = Topology::builder().replicas(2).start().unwrap();
    let client = client(&topology).await;
    let readers = Readers::start(&client, &topology).await;
    readers.go_on(500).await;
    topology.replica(0).kill();
    readers.go_on(500).await;
    topology.replica(1).kill();
    wait_until_async(SOON, "both are noticed", || {
        (0..2).all(|replica| connection(&client, replica) == "down")
    })
    .await
    .unwrap();
    readers.go_on(500).await;
    let session = Session::new();
    client.call(set("k", "v", &session)).await.unwrap();
    let reply = client.call(get("k", &session)).await.unwrap();
    assert_eq!(
        (reply.value, reply.route, reply.reason),
        (bulk("v"), Route::Primary, Reason::Unhealthy)
    );

    topology.replica(0).restart().unwrap();
    let mut route = Route::Primary;
    let deadline = Instant::now() + SOON;
    while route != Route::Replica && Instant::now() < deadline {
        let reply = client.call(get("k", &session)).await.unwrap();
        assert_eq!(reply.value, bulk("v"));
        route = reply.route;
    }
    assert_eq!(
        route,
        Route::Replica,
        "a restarted replica is used again: {:?}",
        client.status()
    );
    readers.stop().await;
}

/// Frozen, dead and slow nodes in turn, with the connection cut in the middle of everything.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_shift_no_reply() {
    let topology = Topology::builder().replicas(2).start().unwrap();
    let relays: Vec<_> = topology
        .replicas()
        .map(|replica| Relay::start(replica.addr()).unwrap())
        .collect();
    let client = relays
        .iter()
        .fold(
            Client::builder().primary(topology.primary().url()),
            |builder, relay| builder.replica(relay.url()),
        )
        .response_timeout(TIMEOUT)
        .connect()
        .await
        .unwrap();
    let readers = Readers::start(&client, &topology).await;
    for round in 0..20 {
        let relay = &relays[round % 2];
        let disconnects = client.status().replicas[round % 2].disconnects;
        if round % 4 < 2 {
            relay.cut();
        } else {
            // Cut in the middle of a reply.
            relay.hold_replies_after(1 + round * 7);
            relay.wait_held(SOON).await.unwrap();
            relay.cut();
            relay.release();
        }
        wait_until_async(SOON, "the cut is noticed and mended", || {
            let status = &client.status().replicas[round % 2];
            status.disconnects > disconnects && status.connection == "up"
        })
        .await
        .unwrap();
        readers.go_on(50).await;
    }
    readers.stop().await;
}
