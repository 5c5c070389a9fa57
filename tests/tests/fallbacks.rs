//! The bound on reads that the primary answers in place of replicas: it holds while replicas are gone or behind, and
//! everybody finds them again when they are back.
//!
//! A relay holds back what the primary answers, so each read that has reached it stays there, and the primary's own
//! statistics say how many have.
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
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{NO_PINGS, SOON, builder_through, bulk, calls, get, set, until};
use highwater::{Client, Consistency, Error, ErrorKind, Reply, Route, Session};
use highwater_testkit::{Relay, Server, Topology};
use tokio::task::{JoinHandle, JoinSet};

const BOUND: usize = 8;
const CLIENTS: usize = 4;
const SESSIONS: usize = 64;
const READS: usize = 1000;

/// A primary behind a relay, and its replicas.
struct Stage {
    topology: Topology,
    front: Relay,
}

impl Stage {
    fn new(replicas: usize) -> Self {
        let topology = Topology::builder()
            .replicas(replicas)
            .primary_args(NO_PINGS)
            .start()
            .unwrap();
        let front = Relay::start(topology.primary().addr()).unwrap();
        Self { topology, front }
    }

    /// A client with a bound, that is patient with a primary whose answers are held back.
    async fn client(&self, bound: usize, wait: Duration) -> Client {
        builder_through(&self.front, &self.topology)
            .max_fallbacks(bound)
            .fallback_wait(wait)
            .response_timeout(4 * SOON)
            .connect()
            .await
            .unwrap()
    }

    /// Reads that have reached the primary.
    fn at_primary(&self) -> u64 {
        calls(self.topology.primary(), "get")
    }
}

fn waiting(client: &Client) -> usize {
    client.status().fallbacks.unwrap().waiting
}

fn places_taken(client: &Client) -> usize {
    client.status().fallbacks.unwrap().at_primary
}

fn read(client: &Client, session: &Session) -> JoinHandle<Result<Reply, Error>> {
    let (client, read) = (client.clone(), get("k", session));
    tokio::spawn(async move { client.call(read).await })
}

/// How many connections a server has taken since it was started.
fn accepted(server: &Server) -> u64 {
    let info = server.command(&["INFO", "stats"]).unwrap();
    let lines = info.text().unwrap().lines();
    let mut counts = lines.filter_map(|line| line.strip_prefix("total_connections_received:"));
    counts.next().unwrap().trim().parse().unwrap()
}

/// Many sessions of several clients read what they have just written, and no replica has it. Then all replicas come
/// back at once.
async fn herd(lose: impl Fn(&Topology), bring_back: impl Fn(&Topology)) {
    let stage = Stage::new(2);
    let topology = &stage.topology;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(stage.client(BOUND, 4 * SOON).await);
    }
    let mut sessions = Vec::new();
    lose(topology);
    for number in 0..CLIENTS * SESSIONS {
        let (session, key) = (Session::new(), format!("k{number}"));
        clients[number % CLIENTS]
            .call(set(&key, &key, &session))
            .await
            .unwrap();
        sessions.push((session, key));
    }
    let before = stage.at_primary();
    stage.front.pause();
    let ended = Arc::new(AtomicUsize::new(0));
    let mut reads = JoinSet::new();
    for number in 0..CLIENTS * READS {
        // Sessions go from process to process.
        let (session, key) = &sessions[number % sessions.len()];
        let (client, read, key) = (
            clients[(number / 7) % CLIENTS].clone(),
            get(key, session),
            key.clone(),
        );
        let ended = Arc::clone(&ended);
        reads.spawn(async move {
            let reply = client.call(read).await.unwrap();
            assert_eq!(reply.value, bulk(&key), "{:?}", reply.route);
            ended.fetch_add(1, Ordering::Relaxed);
            reply.route
        });
    }
    until("all reads are at the primary or in line", || {
        let here: usize = clients
            .iter()
            .map(|client| waiting(client) + places_taken(client))
            .sum();
        here == CLIENTS * READS
    })
    .await;
    let most = u64::try_from(CLIENTS * BOUND).unwrap();
    until("the primary has what it may have", || {
        stage.at_primary() - before >= most
    })
    .await;
    // More would have come with these: they travel together.
    assert_eq!(stage.at_primary() - before, most, "the bound is not kept");
    assert_eq!(ended.load(Ordering::Relaxed), 0);

    bring_back(topology);
    let served = CLIENTS * (READS - BOUND);
    until("all others have been answered by replicas", || {
        ended.load(Ordering::Relaxed) == served || reads.is_empty()
    })
    .await;
    assert_eq!(stage.at_primary() - before, most);
    for client in &clients {
        let status = client.status().fallbacks.unwrap();
        assert_eq!(
            (status.waiting, status.at_primary, status.refused),
            (0, BOUND, 0),
            "{status:?}"
        );
    }
    stage.front.resume();
    let mut routes = [0; 2];
    while let Some(route) = reads.join_next().await {
        routes[usize::from(route.unwrap() == Route::Primary)] += 1;
    }
    assert_eq!(routes, [served, CLIENTS * BOUND]);
    for replica in topology.replicas() {
        // A connection a client, some that came too early, and the test's own.
        let accepted = accepted(replica);
        assert!(
            accepted < 40,
            "{accepted} connections to a replica that came back"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_herd_finds_dead_replicas_again() {
    herd(
        |topology| topology.replicas().for_each(Server::kill),
        |topology| {
            std::thread::scope(|scope| {
                for replica in topology.replicas() {
                    scope.spawn(|| replica.restart().unwrap());
                }
            });
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_herd_finds_replicas_again_that_were_behind() {
    herd(
        |topology| topology.relays().for_each(|relay| relay.pause()),
        |topology| topology.relays().for_each(|relay| relay.resume()),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_place_in_time_a_read_is_refused_and_nothing_else_is() {
    let stage = Stage::new(1);
    stage.topology.replica(0).kill();
    let hasty = stage.client(2, Duration::ZERO).await;
    let patient = stage.client(2, Duration::from_millis(30)).await;
    for client in [&hasty, &patient] {
        let session = Session::new();
        client.call(set("k", "v", &session)).await.unwrap();
        let (gets, sets) = (stage.at_primary(), calls(stage.topology.primary(), "set"));
        stage.front.pause();
        let mut others = vec![read(client, &session), read(client, &session)];
        until("both places are taken", || places_taken(client) == 2).await;
        let error = client.call(get("k", &session)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
        assert!(error.to_string().contains("max_fallbacks"), "{error}");

        // These are not fallbacks.
        let (caller, write) = (client.clone(), set("k", "v", &Session::new()));
        others.push(tokio::spawn(async move { caller.call(write).await }));
        let (caller, own) = (client.clone(), get("k", &session).level(Consistency::Primary));
        others.push(tokio::spawn(async move { caller.call(own).await }));
        until("they have reached the primary", || {
            stage.at_primary() == gets + 3 && calls(stage.topology.primary(), "set") == sets + 1
        })
        .await;
        stage.front.resume();
        for other in others {
            assert_eq!(other.await.unwrap().unwrap().route, Route::Primary);
        }
        let status = client.status().fallbacks.unwrap();
        assert_eq!(
            (status.max, status.waiting, status.refused),
            (2, 0, 1),
            "{status:?}"
        );
        // There is room again.
        client.call(get("k", &session)).await.unwrap();
    }
    assert_eq!(hasty.status().fallbacks.unwrap().waited, 0);
    assert_eq!(patient.status().fallbacks.unwrap().waited, 1);
    assert!(common::client(&stage.topology).await.status().fallbacks.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_who_go_away_leave_the_line_and_load_nobody_more() {
    let stage = Stage::new(1);
    stage.topology.replica(0).kill();
    let client = stage.client(BOUND, 4 * SOON).await;
    let session = Session::new();
    client.call(set("k", "v", &session)).await.unwrap();
    let before = stage.at_primary();
    let bound = u64::try_from(BOUND).unwrap();
    stage.front.pause();
    let first: Vec<_> = (0..3 * BOUND).map(|_| read(&client, &session)).collect();
    until("the line forms", || waiting(&client) == 2 * BOUND).await;
    until("the places are taken", || stage.at_primary() == before + bound).await;
    for gone in first {
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
    }
    assert_eq!(waiting(&client), 0);
    // What was asked for them is still to be answered, so their places are not free yet.
    let second: Vec<_> = (0..BOUND).map(|_| read(&client, &session)).collect();
    until("others are in line", || waiting(&client) == BOUND).await;
    assert_eq!(places_taken(&client), BOUND);
    assert_eq!(stage.at_primary(), before + bound);
    stage.front.resume();
    for other in second {
        assert_eq!(other.await.unwrap().unwrap().value, bulk("v"));
    }
    until("all places are free", || places_taken(&client) == 0).await;
}

/// Those who wait must leave room for writes among what is in flight.
#[tokio::test(flavor = "multi_thread")]
async fn the_line_is_no_longer_than_half_of_what_may_be_in_flight() {
    let stage = Stage::new(1);
    stage.topology.replica(0).kill();
    let client = builder_through(&stage.front, &stage.topology)
        .max_fallbacks(1)
        .fallback_wait(4 * SOON)
        .max_in_flight(10)
        .response_timeout(4 * SOON)
        .connect()
        .await
        .unwrap();
    let session = Session::new();
    client.call(set("k", "v", &session)).await.unwrap();
    let before = calls(stage.topology.primary(), "set");
    stage.front.pause();
    let reads: Vec<_> = (0..9).map(|_| read(&client, &session)).collect();
    until("the line is full", || {
        client.status().fallbacks.unwrap().refused == 3
    })
    .await;
    assert_eq!(waiting(&client), 5);
    let writer = client.clone();
    let write = tokio::spawn(async move { writer.call(set("k", "w", &Session::new())).await });
    until("a write goes by", || {
        calls(stage.topology.primary(), "set") == before + 1
    })
    .await;
    stage.front.resume();
    write.await.unwrap().unwrap();
    let mut answered = 0;
    for read in reads {
        match read.await.unwrap() {
            Ok(_) => answered += 1,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Overloaded),
        }
    }
    assert_eq!(answered, 6);
}
