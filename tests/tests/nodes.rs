//! Nodes that freeze and die: reads go on, writes say what is known of them.
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

use common::{NO_PINGS, SOON, bulk, calls, get, in_doubt, set, written};
use highwater::{Client, Command, ErrorKind, Reason, Route, Session};
use highwater_testkit::{Relay, Topology, wait_until_async};
use tokio::task::JoinSet;

const TIMEOUT: Duration = Duration::from_millis(1200);
/// A write's name on the wire.
const SET: &[u8] = b"$3\r\nSET\r\n";

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

#[tokio::test(flavor = "multi_thread")]
async fn writes_to_a_frozen_primary_are_in_doubt_and_so_are_their_sessions() {
    const WRITERS: usize = 8;
    let topology = Topology::builder()
        .replicas(1)
        .primary_args(NO_PINGS)
        .start()
        .unwrap();
    let client = client(&topology).await;
    let bystander = Session::new();
    client.call(set("bystander", "sees", &bystander)).await.unwrap();
    topology.wait_in_sync(SOON).unwrap();

    common::from_a_replica(&client, &get("bystander", &bystander), &bulk("sees")).await;

    topology.primary().pause().unwrap();
    let sessions: Vec<_> = (0..WRITERS).map(|_| Session::new()).collect();
    let mut writes = JoinSet::new();
    for (writer, session) in sessions.iter().enumerate() {
        let (client, session) = (client.clone(), session.clone());
        writes.spawn(async move { client.call(set(&format!("writer:{writer}"), "1", &session)).await });
    }
    // Who has not written is served by the replica all the while.
    while !writes.is_empty() {
        let reply = client.call(get("bystander", &bystander)).await.unwrap();
        assert_eq!((reply.value, reply.route), (bulk("sees"), Route::Replica));
        if let Some(outcome) = writes.try_join_next() {
            let error = outcome.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InDoubt, "{error}");
        }
    }
    for (writer, session) in sessions.iter().enumerate() {
        assert!(in_doubt(session));
        assert_eq!(written(session), None);
        // The primary does not answer, and nobody else may.
        let error = client
            .call(get(&format!("writer:{writer}"), session))
            .await
            .unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Disconnected),
            "{error}"
        );
    }
    topology.primary().resume().unwrap();
    // Back, the client makes sure that the old connection delivers nothing more, and looks.
    let settled = || sessions.iter().all(|session| !in_doubt(session));
    wait_until_async(SOON, "what was in doubt is settled", settled)
        .await
        .unwrap();
    for (writer, session) in sessions.iter().enumerate() {
        let key = format!("writer:{writer}");
        let outcome = topology.primary().command(&["GET", &key]).unwrap();
        topology.wait_applied(0, written(session).unwrap(), SOON).unwrap();
        let value = outcome.text().map_or(redis::Value::Nil, bulk);
        common::from_a_replica(&client, &get(&key, session), &value).await;
    }
}

/// A client whose user may not kill connections.
async fn client_without_kill(topology: &Topology, relay: &Relay, grace: Duration) -> Client {
    for server in topology.replicas().chain([topology.primary()]) {
        server
            .command(&[
                "ACL",
                "SETUSER",
                "app",
                "on",
                ">secret",
                "~*",
                "&*",
                "+@all",
                "-client",
                "+client|tracking",
            ])
            .unwrap();
    }
    let url = |port: u16| format!("redis://app:secret@127.0.0.1:{port}");
    Client::builder()
        .primary(url(relay.port()))
        .replica(url(topology.replica(0).port()))
        .response_timeout(TIMEOUT)
        .doubt_grace(grace)
        .connect()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_in_doubt_reads_from_the_primary() {
    let topology = Topology::builder()
        .replicas(1)
        .primary_args(NO_PINGS)
        .start()
        .unwrap();
    let relay = Relay::start(topology.primary().addr()).unwrap();
    let client = client_without_kill(&topology, &relay, Duration::from_secs(3600)).await;
    topology.wait_in_sync(SOON).unwrap();
    let session = Session::new();
    relay.hold_when(SET);
    let error = client.call(set("k", "late", &session)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InDoubt, "{error}");
    let deadline = Instant::now() + SOON;
    while let Err(error) = client.call(get("k", &session)).await {
        assert!(Instant::now() < deadline, "the primary is back: {error}");
        tokio::task::yield_now().await;
    }
    let before = calls(topology.replica(0), "get");
    // The doubt travels with the token.
    let resumed = Session::resume(session.marks());
    for session in [&session, &resumed] {
        for _ in 0..10 {
            let reply = client.call(get("k", session)).await.unwrap();
            assert_eq!(reply.value, redis::Value::Nil);
            assert_eq!((reply.route, reply.reason), (Route::Primary, Reason::InDoubt));
            assert!(in_doubt(session));
        }
    }
    // It arrives after all, and the session that asked for it sees it at once.
    relay.release();
    wait_until_async(SOON, "the late write arrives", || {
        topology.primary().command(&["EXISTS", "k"]).unwrap().integer() == Some(1)
    })
    .await
    .unwrap();
    for session in [&session, &resumed] {
        let reply = client.call(get("k", session)).await.unwrap();
        assert_eq!((reply.value, reply.route), (bulk("late"), Route::Primary));
    }
    assert_eq!(
        calls(topology.replica(0), "get"),
        before,
        "the replica was not asked"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn where_kill_is_refused_time_settles() {
    let topology = Topology::builder()
        .replicas(1)
        .primary_args(NO_PINGS)
        .start()
        .unwrap();
    let relay = Relay::start(topology.primary().addr()).unwrap();
    let client = client_without_kill(&topology, &relay, TIMEOUT).await;
    let session = Session::new();
    relay.hold_replies_when(b"+OK".to_vec());
    let error = client.call(set("k", "done", &session)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InDoubt, "{error}");
    assert!(in_doubt(&session));
    relay.release();
    wait_until_async(SOON, "the grace time is over", || !in_doubt(&session))
        .await
        .unwrap();
    assert_eq!(written(&session), Some(topology.primary().mark().unwrap()));
    common::from_a_replica(&client, &get("k", &session), &bulk("done")).await;
}

/// A write that the network holds back while the client gives up: once the session is out of doubt, it
/// can't arrive any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_settled_only_when_it_can_arrive_no_more() {
    let topology = Topology::builder()
        .replicas(1)
        .primary_args(NO_PINGS)
        .start()
        .unwrap();
    let relay = Relay::start(topology.primary().addr()).unwrap();
    let client = Client::builder()
        .primary(relay.url())
        .replica(topology.replica(0).url())
        .response_timeout(TIMEOUT)
        .connect()
        .await
        .unwrap();
    for held_back in [true, false] {
        let session = Session::new();
        let key = format!("k:{held_back}");
        if held_back {
            relay.hold_when(b"$6\r\nINCRBY\r\n".to_vec());
        } else {
            // In the middle of the reply.
            relay.hold_replies_when(b":765".to_vec());
        }
        let write = Command::new(redis::cmd("INCRBY").arg(&key).arg(7_654_321)).session(&session);
        let error = client.call(write).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InDoubt, "{error}");
        wait_until_async(SOON, "the doubt is settled", || !in_doubt(&session))
            .await
            .unwrap();
        let mark = topology.primary().mark().unwrap();
        assert_eq!(written(&session), Some(mark));
        relay.release();
        // What the relay had is delivered, or has nobody to go to.
        let idle = || relay.stats().live <= 1;
        wait_until_async(SOON, "the old connection is gone", idle)
            .await
            .unwrap();
        assert_eq!(topology.primary().mark().unwrap(), mark, "nothing arrived");
        let value = if held_back {
            redis::Value::Nil
        } else {
            bulk("7654321")
        };
        common::from_a_replica(&client, &get(&key, &session), &value).await;
    }
}

/// The reply came, the sample after it did not: done, at a place that the primary's next proof tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_without_a_sample_is_done_and_placed_by_the_next_proof() {
    let topology = Topology::builder()
        .replicas(1)
        .primary_args(NO_PINGS)
        .start()
        .unwrap();
    let relay = Relay::start(topology.primary().addr()).unwrap();
    let client = Client::builder()
        .primary(relay.url())
        .replica(topology.replica(0).url())
        .response_timeout(TIMEOUT)
        .connect()
        .await
        .unwrap();
    let session = Session::new();
    relay.hold_replies_when(b":7654321\r\n".to_vec());
    let write = Command::new(redis::cmd("INCRBY").arg("k").arg(7_654_321)).session(&session);
    assert_eq!(
        client.call(write).await.unwrap().value,
        redis::Value::Int(7_654_321)
    );
    assert!(in_doubt(&session));
    let mark = topology.primary().mark().unwrap();
    topology.wait_applied(0, mark, SOON).unwrap();
    relay.release();
    let deadline = Instant::now() + SOON;
    let reply = loop {
        match client.call(get("k", &session)).await {
            Ok(reply) => break reply,
            Err(error) => assert!(Instant::now() < deadline, "the primary is back: {error}"),
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((reply.route, reply.reason), (Route::Primary, Reason::InDoubt));
    assert_eq!(reply.value, bulk("7654321"));
    assert_eq!(written(&session), Some(mark));
    common::from_a_replica(&client, &get("k", &session), &bulk("7654321")).await;
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
