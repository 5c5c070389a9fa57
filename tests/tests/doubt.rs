//! Writes whose connection was lost before their reply: in doubt, until nothing can happen to them any more.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod common;

use std::time::{Duration, Instant};

use common::{SOON, bulk, get, in_doubt, set};
use highwater::{Client, ClientBuilder, ErrorKind, Reason, Reply, Route, Session};
use highwater_testkit::{Relay, Topology, wait_until_async};
use redis::Value;

/// A client whose connection to the primary goes through the relay, with a short patience.
fn builder(topology: &Topology, relay: &Relay) -> ClientBuilder {
    Client::builder()
        .primary(relay.url())
        .replica(topology.replica(0).url())
        .response_timeout(Duration::from_secs(1))
}

/// The beginning of the write, up to its key.
const WRITE: &[u8] = b"SET\r\n$8\r\nlate-key";

/// Sends a write that the relay holds in its middle until the client has given up on the connection: the
/// network may deliver the rest whenever it likes. Returns once there is a new connection.
async fn give_up_on_a_write(client: &Client, relay: &Relay, session: &Session) {
    let before = client.status().primary.disconnects;
    relay.hold_when(WRITE);
    let (written, held) = tokio::join!(
        client.call(set("late-key", "late", session)),
        relay.wait_held(SOON)
    );
    held.expect("the rest is on its way, and stays there");
    let error = written.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InDoubt, "{error}");
    wait_until_async(SOON, "the client is connected anew", || {
        let primary = client.status().primary;
        primary.disconnects > before && primary.connection == "up"
    })
    .await
    .unwrap();
}

/// Reads; a busy machine may make the client give up on its connection once more.
async fn read(client: &Client, session: &Session) -> Reply {
    let deadline = Instant::now() + SOON;
    loop {
        match client.call(get("late-key", session)).await {
            Ok(reply) => return reply,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_the_network_still_holds_can_not_land_after_it_was_settled() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let relay = Relay::start(topology.primary().addr()).unwrap();
    let client = builder(&topology, &relay).connect().await.unwrap();
    let session = Session::new();
    let other = Session::new();
    client.call(set("late-key", "before", &other)).await.unwrap();

    give_up_on_a_write(&client, &relay, &session).await;
    wait_until_async(SOON, "the write is settled", || !in_doubt(&session))
        .await
        .unwrap();
    assert_eq!(
        session.marks().written().count(),
        1,
        "held to where the primary was after the old connection"
    );
    // The partition heals. The old connection is closed at the server: nothing comes of the rest.
    relay.release();
    wait_until_async(SOON, "the old connection is gone", || relay.stats().live == 1)
        .await
        .unwrap();
    let at_the_primary = topology.primary().command(&["GET", "late-key"]).unwrap();
    assert_eq!(
        at_the_primary.text(),
        Some("before"),
        "a settled write has landed late"
    );
    topology.wait_in_sync(SOON).unwrap();
    common::from_a_replica(&client, &get("late-key", &session), &bulk("before")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_server_may_not_close_it_only_time_settles() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let rights = [
        "ACL",
        "SETUSER",
        "app",
        "on",
        ">pw",
        "~*",
        "+@all",
        "-client",
        "+client|tracking",
    ];
    topology.primary().command(&rights).unwrap();
    let relay = Relay::start(topology.primary().addr()).unwrap();
    let url = relay.url().replace("redis://", "redis://app:pw@");
    let with_grace = |grace| {
        let builder = builder(&topology, &relay)
            .primary(url.as_str())
            .doubt_grace(grace);
        async move { builder.connect().await.unwrap() }
    };

    // As long as the grace time lasts, the rest may land: then it is seen, at the primary.
    let client = with_grace(Duration::from_secs(3600)).await;
    let session = Session::new();
    give_up_on_a_write(&client, &relay, &session).await;
    assert!(in_doubt(&session));
    let reply = read(&client, &session).await;
    assert_eq!(
        (reply.value, reply.route, reply.reason),
        (Value::Nil, Route::Primary, Reason::InDoubt)
    );
    relay.release();
    wait_until_async(SOON, "the write lands late", || {
        topology.primary().command(&["GET", "late-key"]).unwrap().text() == Some("late")
    })
    .await
    .unwrap();
    let reply = read(&client, &session).await;
    assert_eq!(
        (reply.value, reply.route, reply.reason),
        (bulk("late"), Route::Primary, Reason::InDoubt)
    );
    drop(client);

    // Once it is over, the next sample settles.
    let client = with_grace(Duration::from_millis(300)).await;
    let session = Session::new();
    give_up_on_a_write(&client, &relay, &session).await;
    relay.release();
    wait_until_async(SOON, "the grace time is over", || !in_doubt(&session))
        .await
        .unwrap();
    topology.wait_in_sync(SOON).unwrap();
    common::from_a_replica(&client, &get("late-key", &session), &bulk("late")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_the_doubt_is_reported_as_a_possible_loss() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let relay = Relay::start(topology.primary().addr()).unwrap();
    let client = builder(&topology, &relay)
        .response_timeout(2 * SOON)
        .connect()
        .await
        .unwrap();
    let session = Session::new();
    relay.hold_when(WRITE);
    let waiting = client.call(set("late-key", "late", &session));
    let (killed, written) = tokio::join!(
        async {
            relay.wait_held(SOON).await.unwrap();
            // Saved and restarted: a new process, a new history that grew out of the old one.
            topology.primary().shutdown_with_save().unwrap();
            topology.primary().restart().unwrap();
        },
        waiting
    );
    let () = killed;
    assert_eq!(written.unwrap_err().kind(), ErrorKind::InDoubt);
    relay.release();
    wait_until_async(SOON, "the client is connected anew", || {
        client.status().primary.connection == "up"
    })
    .await
    .unwrap();
    let reply = read(&client, &session).await;
    assert_eq!(reply.route, Route::Primary);
    assert!(
        matches!(reply.reason, Reason::PossiblyLost | Reason::UnknownHistory),
        "{:?}",
        reply.reason
    );
    assert_ne!(session.continuity(), highwater::Continuity::Intact);
}
