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

use common::{
    SOON, blocked, bulk, calls, from_a_replica, get, in_doubt, quiet, rejected, set, until, written,
};
use highwater::{
    Client, ClientBuilder, Command, ErrorKind, History, MAX_MARKS, Mark, Offset, Reason, Reply, Route, Scope,
    Session,
};
use highwater_testkit::{Relay, Topology};
use redis::Value;
use tokio::task::JoinSet;

const TIMEOUT: Duration = Duration::from_millis(1200);

/// A client whose connection to the primary goes through the relay, with a short patience.
fn builder(topology: &Topology, relay: &Relay) -> ClientBuilder {
    Client::builder()
        .primary(relay.url())
        .replica(topology.replica(0).url())
        .response_timeout(TIMEOUT)
}

/// One whose user may not close other connections.
fn builder_without_kill(topology: &Topology, relay: &Relay) -> ClientBuilder {
    for server in topology.replicas().chain([topology.primary()]) {
        let rights = [
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
        ];
        server.command(&rights).unwrap();
    }
    let url = |port: u16| format!("redis://app:secret@127.0.0.1:{port}");
    Client::builder()
        .primary(url(relay.port()))
        .replica(url(topology.replica(0).port()))
        .response_timeout(TIMEOUT)
}

fn start() -> (Topology, Relay) {
    let topology = quiet(1);
    let relay = Relay::start(topology.primary().addr()).unwrap();
    (topology, relay)
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
    until("the client is connected anew", || {
        let primary = client.status().primary;
        primary.disconnects > before && primary.connection == "up"
    })
    .await;
}

/// Reads; a busy machine may make the client give up on its connection once more.
async fn read(client: &Client, key: &str, session: &Session) -> Reply {
    let deadline = Instant::now() + SOON;
    until("the primary is connected", || {
        client.status().primary.connections > 0
    })
    .await;
    loop {
        match client.call(get(key, session)).await {
            Ok(reply) => return reply,
            Err(error) => assert!(Instant::now() < deadline, "the primary is back: {error}"),
        }
        // Not over and over: beyond so many a second, reads in doubt share a sample, and replicas answer.
        until("the primary is connected", || {
            client.status().primary.connections > 0
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_to_a_frozen_primary_are_in_doubt_and_so_are_their_sessions() {
    const WRITERS: usize = 8;
    let topology = quiet(1);
    let client = common::builder(&topology)
        .response_timeout(TIMEOUT)
        .connect()
        .await
        .unwrap();
    let bystander = Session::new();
    client.call(set("bystander", "sees", &bystander)).await.unwrap();
    topology.wait_in_sync(SOON).unwrap();

    from_a_replica(&client, &get("bystander", &bystander), &bulk("sees")).await;

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
    until("what was in doubt is settled", settled).await;
    for (writer, session) in sessions.iter().enumerate() {
        let key = format!("writer:{writer}");
        let outcome = topology.primary().command(&["GET", &key]).unwrap();
        topology.wait_applied(0, written(session).unwrap(), SOON).unwrap();
        let value = outcome.text().map_or(redis::Value::Nil, bulk);
        from_a_replica(&client, &get(&key, session), &value).await;
    }
}

/// A write that the network holds back while the client gives up, or whose reply it does: once the session is out of
/// doubt, it can't arrive any more, as its connection has been closed at the server.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_settled_only_when_it_can_arrive_no_more() {
    let (topology, relay) = start();
    let client = builder(&topology, &relay).connect().await.unwrap();
    for held_back in [true, false] {
        let session = Session::new();
        let key = format!("k:{held_back}");
        topology.primary().command(&["SET", &key, "1"]).unwrap();
        if held_back {
            // In the middle of the command.
            relay.hold_when(b"$6\r\nINCRBY\r\n".to_vec());
        } else {
            // In the middle of the reply.
            relay.hold_replies_when(b":765".to_vec());
        }
        let write = Command::new(redis::cmd("INCRBY").arg(&key).arg(7_654_321)).session(&session);
        let error = client.call(write).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InDoubt, "{error}");
        until("the doubt is settled", || !in_doubt(&session)).await;
        // Held to where the primary was after the old connection.
        let mark = topology.primary().mark().unwrap();
        assert_eq!(written(&session), Some(mark));
        // The partition heals. What the relay had is delivered, or has nobody to go to.
        relay.release();
        until("the old connection is gone", || relay.stats().live <= 1).await;
        let value = if held_back { "1" } else { "7654322" };
        let there = topology.primary().command(&["GET", &key]).unwrap();
        assert_eq!(there.text(), Some(value), "a settled write has landed late");
        assert_eq!(topology.primary().mark().unwrap(), mark, "nothing arrived");
        from_a_replica(&client, &get(&key, &session), &bulk(value)).await;
    }
}

/// Where the server may not close the old connection, the rest of the write may land for as long as the grace time
/// lasts. Then the session sees it, as it reads from the primary all the while.
#[tokio::test(flavor = "multi_thread")]
async fn while_a_write_may_still_land_its_session_reads_from_the_primary() {
    let (topology, relay) = start();
    let client = builder_without_kill(&topology, &relay)
        .doubt_grace(Duration::from_secs(3600))
        .connect()
        .await
        .unwrap();
    topology.wait_in_sync(SOON).unwrap();
    let session = Session::new();
    give_up_on_a_write(&client, &relay, &session).await;
    let before = calls(topology.replica(0), "get");
    // The doubt travels with the token.
    let resumed = Session::resume(session.marks());
    for session in [&session, &resumed] {
        for _ in 0..10 {
            let reply = read(&client, "late-key", session).await;
            assert_eq!(reply.value, Value::Nil);
            assert_eq!((reply.route, reply.reason), (Route::Primary, Reason::InDoubt));
            assert!(in_doubt(session));
        }
    }
    relay.release();
    until("the write lands late", || {
        topology.primary().command(&["GET", "late-key"]).unwrap().text() == Some("late")
    })
    .await;
    for session in [&session, &resumed] {
        let reply = read(&client, "late-key", session).await;
        assert_eq!(
            (reply.value, reply.route, reply.reason),
            (bulk("late"), Route::Primary, Reason::InDoubt)
        );
    }
    assert_eq!(
        calls(topology.replica(0), "get"),
        before,
        "the replica was not asked"
    );
}

/// Once the grace time is over, the next sample settles.
#[tokio::test(flavor = "multi_thread")]
async fn where_the_server_may_not_close_it_only_time_settles() {
    let (topology, relay) = start();
    let client = builder_without_kill(&topology, &relay)
        .doubt_grace(2 * TIMEOUT)
        .connect()
        .await
        .unwrap();
    for held_back in [true, false] {
        let session = Session::new();
        if held_back {
            give_up_on_a_write(&client, &relay, &session).await;
        } else {
            relay.hold_replies_when(b"+OK".to_vec());
            let error = client.call(set("late-key", "done", &session)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InDoubt, "{error}");
            assert!(in_doubt(&session));
        }
        relay.release();
        until("the grace time is over", || !in_doubt(&session)).await;
        assert_eq!(written(&session), Some(topology.primary().mark().unwrap()));
        let value = bulk(if held_back { "late" } else { "done" });
        from_a_replica(&client, &get("late-key", &session), &value).await;
    }
}

/// Nobody asks over and over to close what may not be closed: each lost connection is asked after once.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_may_not_be_closed_is_asked_after_once() {
    const LOST: u64 = 20;
    let (topology, relay) = start();
    let client = builder_without_kill(&topology, &relay).connect().await.unwrap();
    let stats = topology.primary().command(&["INFO", "commandstats"]).unwrap();
    if !stats.text().unwrap().contains("cmdstat_client|") {
        common::note("left out: the server counts no subcommands");
        return;
    }
    let session = Session::new();
    for _ in 0..LOST {
        let mut connection = client.with(&session);
        let pop = redis::cmd("BLPOP").arg("nothing").arg(0).to_owned();
        let mut waiting = Box::pin(async move { pop.query_async::<Value>(&mut connection).await });
        tokio::select! {
            outcome = &mut waiting => panic!("{outcome:?}"),
            () = blocked(topology.primary(), 1) => {}
        }
        drop(waiting);
        blocked(topology.primary(), 0).await;
    }
    let refused = || rejected(topology.primary(), "client|kill");
    assert!(in_doubt(&session), "only time settles");
    until("all have been asked after", || refused() >= LOST).await;
    client.call(set("k", "v", &session)).await.unwrap();
    // One more finds out what the user may do.
    assert!(refused() <= LOST + 2, "{}", refused());
}

/// The reply came, the sample after it did not: done, at a place that the primary's next proof tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_without_a_sample_is_done_and_placed_by_the_next_proof() {
    let topology = quiet(1);
    let relay = Relay::start(topology.primary().addr()).unwrap();
    let client = builder(&topology, &relay).connect().await.unwrap();
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
    let reply = read(&client, "k", &session).await;
    assert_eq!((reply.route, reply.reason), (Route::Primary, Reason::InDoubt));
    assert_eq!(reply.value, bulk("7654321"));
    assert_eq!(written(&session), Some(mark));
    from_a_replica(&client, &get("k", &session), &bulk("7654321")).await;
}

/// A session that has no room for a write's mark does not know what it depends on, and does not forget that.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_for_whose_mark_there_is_no_room_is_read_all_the_same() {
    let topology = quiet(1);
    let client = Client::builder()
        .primary(topology.primary().url())
        .replica(topology.replica(0).url())
        .connect()
        .await
        .unwrap();
    let session = Session::new();
    for number in 0..MAX_MARKS {
        session.add_written(&Mark {
            scope: Scope::new(&format!("other-{number}")).unwrap(),
            history: History::from_bytes([7; 20]),
            offset: Offset::at(1),
        });
    }
    topology.relay(0).pause();
    for round in 0..3 {
        let value = round.to_string();
        client.call(set("k", &value, &session)).await.unwrap();
        let reply = read(&client, "k", &session).await;
        assert_eq!((reply.route, reply.value), (Route::Primary, bulk(&value)));
    }
    // Once it has been settled, there is room: replicas answer again.
    topology.relay(0).resume();
    from_a_replica(&client, &get("k", &session), &bulk("2")).await;
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
    until("the client is connected anew", || {
        client.status().primary.connection == "up"
    })
    .await;
    let reply = read(&client, "late-key", &session).await;
    assert_eq!(reply.route, Route::Primary);
    assert!(
        matches!(reply.reason, Reason::PossiblyLost | Reason::UnknownHistory),
        "{:?}",
        reply.reason
    );
    assert_ne!(session.continuity(), highwater::Continuity::Intact);
}
