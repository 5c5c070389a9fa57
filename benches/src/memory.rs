//! What is in memory for a connection, for a request in flight and for a cached entry. Needs the counting allocator, and so
//! is part of the program `allocations`.

use std::{future::Future, time::Duration};

use highwater::{CacheOptions, Client, Session};
use highwater_testkit::{Server, Topology};
use redis::AsyncCommands;
use serde::Serialize;

/// More connections a node, requests, or entries than before: what they take is the difference.
const CONNECTIONS: usize = 63;
const REQUESTS: usize = 4096;
const ENTRIES: usize = 50_000;
const PAYLOAD: usize = 100;
/// Time for what was closed to be given back.
const SETTLE: Duration = Duration::from_millis(300);

/// Bytes.
#[derive(Clone, Debug, Serialize)]
pub struct Memory {
    /// What was counted.
    pub what: &'static str,
    /// For each of them.
    pub bytes: f64,
    /// How many there were.
    pub count: usize,
}

/// Counts all of it. `live` says how many bytes are allocated now.
pub async fn memory(topology: &Topology, live: impl Fn() -> f64) -> Vec<Memory> {
    let mut all = Vec::new();
    let mut add = |what, bytes: f64, count: usize| {
        all.push(Memory {
            what,
            bytes: bytes / count as f64,
            count,
        });
    };
    let settled = async || {
        tokio::time::sleep(SETTLE).await;
        live()
    };
    let nodes = 1 + topology.replicas().len();

    let one = connect(topology, 1, false).await;
    let before = settled().await;
    let many = connect(topology, 1 + CONNECTIONS, false).await;
    let with_many = settled().await;
    // The same client once more, to take off what a client has that is no connection.
    let again = connect(topology, 1, false).await;
    let with_again = settled().await;
    add(
        "idle connection",
        (with_many - before) - (with_again - with_many),
        CONNECTIONS * nodes,
    );
    drop((many, again));
    settled().await;

    let before = settled().await;
    let mut plain = Vec::new();
    let opened = redis::Client::open(topology.primary().url()).unwrap();
    for _ in 0..CONNECTIONS {
        plain.push(opened.get_multiplexed_async_connection().await.unwrap());
    }
    add(
        "idle connection of redis-rs",
        settled().await - before,
        CONNECTIONS,
    );
    let plain_one = plain.pop().expect("one of them");
    drop(plain);

    let session = Session::new();
    let mut connection = one.with(&session);
    for number in 0..ENTRIES {
        let () = connection.set(key(number), vec![b'v'; PAYLOAD]).await.unwrap();
    }
    topology
        .wait_in_sync(Duration::from_secs(30))
        .expect("replication");

    for (what, count) in [
        ("request in flight", REQUESTS),
        ("request in flight, with a proof", REQUESTS),
    ] {
        let session = if what.ends_with("proof") {
            session.clone()
        } else {
            Session::new()
        };
        let bytes = in_flight(topology, count, &live, |number| {
            let mut connection = one.with(&session);
            async move { connection.get::<_, Vec<u8>>(key(number)).await.unwrap() }
        })
        .await;
        add(what, bytes, count);
    }
    let bytes = in_flight(topology, REQUESTS, &live, |number| {
        let mut connection = plain_one.clone();
        async move { connection.get::<_, Vec<u8>>(key(number)).await.unwrap() }
    })
    .await;
    add("request in flight of redis-rs", bytes, REQUESTS);
    let nothing = in_flight(topology, REQUESTS, &live, |_| async move {
        tokio::time::sleep(SETTLE / 2).await;
        vec![b'v'; PAYLOAD]
    })
    .await;
    add("of which the task that waits, about", nothing, REQUESTS);

    let cached = connect(topology, 1, true).await;
    let mut connection = cached.with(&session);
    // Maps and buffers of a cache that has begun.
    let _: Vec<u8> = connection.get(key(0)).await.unwrap();
    let before = settled().await;
    for number in 0..ENTRIES {
        let value: Vec<u8> = connection.get(key(number)).await.unwrap();
        assert_eq!(value.len(), PAYLOAD);
    }
    let after = settled().await;
    let stats = cached.cache_stats();
    let kept = usize::try_from(stats.entries).expect("a count");
    assert!(kept > ENTRIES * 9 / 10, "only {kept} entries are kept");
    let payload = (kept * (key(0).len() + PAYLOAD)) as f64;
    add(
        "cached entry, beyond key and value",
        after - before - payload,
        kept,
    );
    add(
        "the same, as the cache counts it",
        stats.weight as f64 - payload,
        kept,
    );
    all
}

fn key(number: usize) -> String {
    format!("mem:{number:012}")
}

async fn connect(topology: &Topology, connections: usize, cache: bool) -> Client {
    let builder = Client::builder()
        .primary(topology.primary().url())
        .replicas(topology.replicas().map(Server::url))
        .connections_per_node(connections)
        // The servers are stopped for a moment.
        .response_timeout(Duration::from_secs(20));
    let builder = if cache {
        builder.cache(CacheOptions::new(256 << 20))
    } else {
        builder
    };
    let client = builder.connect().await.expect("a client");
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    let all_up = || {
        let status = client.status();
        let nodes = std::iter::once(&status.primary).chain(&status.replicas);
        nodes.into_iter().all(|node| node.connections == connections)
    };
    while !all_up() {
        assert!(std::time::Instant::now() < deadline, "not all connections are up");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    client
}

/// Stops the servers, sends so many requests, a task each, and looks; then lets the servers answer.
async fn in_flight<F>(
    topology: &Topology,
    count: usize,
    live: &impl Fn() -> f64,
    make: impl Fn(usize) -> F,
) -> f64
where
    F: Future<Output = Vec<u8>> + Send + 'static,
{
    // Once before: buffers have their sizes then.
    for number in 0..count {
        tokio::spawn(make(number)).await.expect("a request");
        if number == 64 {
            break;
        }
    }
    let all: Vec<_> = (0..count).map(|number| tokio::spawn(make(number))).collect();
    for one in all {
        assert_eq!(one.await.expect("a request").len(), PAYLOAD);
    }
    let servers = || std::iter::once(topology.primary()).chain(topology.replicas());
    for server in servers() {
        server.pause().expect("it can be stopped");
    }
    let mut waiting = Vec::with_capacity(count);
    let before = live();
    for number in 0..count {
        waiting.push(tokio::spawn(make(number)));
    }
    tokio::time::sleep(SETTLE / 4).await;
    let bytes = live() - before;
    for server in servers() {
        server.resume().expect("it goes on");
    }
    for one in waiting {
        assert_eq!(one.await.expect("a request").len(), PAYLOAD);
    }
    bytes
}
