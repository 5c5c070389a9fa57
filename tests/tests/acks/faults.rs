//! What goes wrong while acknowledgements are waited for.

use std::{collections::HashSet, time::Duration};

use highwater::{Acks, Client, ErrorKind, Reason, Route, Session};
use highwater_testkit::{Relay, Topology};
use redis::Value;

use crate::{
    common::{
        SOON, blocked, builder, builder_through, bulk, calls, client, from_a_replica, get, in_doubt, quiet,
        set, until, written,
    },
    incr, of,
};

/// A client that reaches the primary through a relay, and has its connection for such writes already; and which clients the
/// server had before that.
async fn start() -> (Topology, Relay, Client, HashSet<String>) {
    let topology = quiet(1);
    let relay = Relay::start(topology.primary().addr()).unwrap();
    let client = builder_through(&relay, &topology)
        .response_timeout(SOON)
        .connect()
        .await
        .unwrap();
    let before = clients(&topology);
    client
        .call(set("k", "before", &Session::new()).acks(of(1)))
        .await
        .unwrap();
    (topology, relay, client, before)
}

/// Until some client waits at the server.
async fn someone_waits(topology: &Topology) {
    blocked(topology.primary(), 1).await;
}

/// The clients of the primary, by their numbers there.
fn clients(topology: &Topology) -> HashSet<String> {
    let list = topology.primary().command(&["CLIENT", "LIST"]).unwrap();
    let id = |line: &str| Some(line.strip_prefix("id=")?.split(' ').next()?.to_owned());
    list.text().unwrap().lines().filter_map(id).collect()
}

/// Has the server close the connections that it did not have then.
fn kill_newer(topology: &Topology, than: &HashSet<String>) {
    let newer = &clients(topology) - than;
    assert!(!newer.is_empty(), "there is one");
    for id in newer {
        topology
            .primary()
            .command(&["CLIENT", "KILL", "ID", &id])
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_future_that_is_dropped_leaves_doubt_until_its_write_has_a_place() {
    let (topology, relay, client, _before) = start().await;
    let session = Session::new();
    relay.hold_when(b"SET\r\n$4\r\ngone".to_vec());
    {
        let write = client.call(set("gone", "v", &session).acks(of(1)));
        tokio::select! {
            outcome = write => panic!("it is held: {outcome:?}"),
            held = relay.wait_held(SOON) => held.unwrap(),
        }
    }
    assert!(in_doubt(&session));
    relay.release();
    until("the write has a place", || !in_doubt(&session)).await;
    assert!(written(&session).is_some());
    from_a_replica(&client, &get("gone", &session), &bulk("v")).await;

    // While acknowledgements are waited for, it has one already.
    topology.relay(0).pause();
    let session = Session::new();
    {
        let write = client.call(set("gone", "w", &session).acks(of(1)));
        tokio::select! {
            outcome = write => panic!("nobody acknowledges: {outcome:?}"),
            () = until("it has its mark", || written(&session).is_some()) => {}
        }
    }
    assert!(!in_doubt(&session));
    topology.relay(0).resume();
    // The connection goes on for the others.
    client
        .call(set("k", "after", &session).acks(of(1)))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_leaves_writes_without_an_answer_in_doubt() {
    let (_topology, relay, client, _before) = start().await;
    let session = Session::new();
    // The server has it, and the client is not told.
    relay.hold_replies_when(b":7654321".to_vec());
    let write = highwater::Command::new(redis::cmd("INCRBY").arg("n").arg(7_654_321)).session(&session);
    let (outcome, ()) = tokio::join!(client.call(write.acks(of(1))), async {
        relay.wait_held(SOON).await.unwrap();
        relay.cut();
        relay.release();
    });
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InDoubt, "{error}");
    until("the doubt is settled", || !in_doubt(&session)).await;
    client.ready(SOON).await.unwrap();
    // On a connection of its own again.
    let reply = client.call(incr("n", &session).acks(of(1))).await.unwrap();
    assert_eq!(reply.value, Value::Int(7_654_322));
}

/// The shared connection lives, and settles what the other one has left.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_killed_alone_is_settled_and_replaced() {
    let (topology, relay, client, before) = start().await;
    let disconnects = client.status().primary.disconnects;
    for round in 0..3 {
        let session = Session::new();
        relay.hold_when(format!("SET\r\n$4\r\nk:{round:02}").into_bytes());
        let (outcome, ()) = tokio::join!(
            client.call(set(&format!("k:{round:02}"), "v", &session).acks(of(1))),
            async {
                relay.wait_held(SOON).await.unwrap();
                kill_newer(&topology, &before);
                // Its rest has nobody to go to.
                relay.release();
            }
        );
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InDoubt, "{error}");
        until("the doubt is settled", || !in_doubt(&session)).await;
        let exists = topology
            .primary()
            .command(&["EXISTS", &format!("k:{round:02}")])
            .unwrap();
        assert_eq!(exists.integer(), Some(0), "a settled write has landed late");
        let reply = client.call(set("k", "v", &session).acks(of(1))).await.unwrap();
        assert_eq!(reply.acks.unwrap().replicas, 1);
    }
    assert_eq!(
        client.status().primary.disconnects,
        disconnects,
        "the shared one stays"
    );
}

/// The write has happened and is marked; only the count is missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_ends_during_the_wait_is_no_doubt_about_the_write() {
    let (topology, _relay, client, before) = start().await;
    topology.relay(0).pause();
    let session = Session::new();
    let (outcome, ()) = tokio::join!(client.call(incr("n", &session).acks(of(1))), async {
        someone_waits(&topology).await;
        until("it has its mark", || written(&session).is_some()).await;
        kill_newer(&topology, &before);
    });
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooFewAcks, "{error}");
    assert!(
        error.to_string().contains("not known whether 1 replica"),
        "{error}"
    );
    let applied = error.applied().unwrap();
    assert_eq!((&applied.value, applied.acks), (&Value::Int(1), None));
    assert!(!in_doubt(&session));
}

/// `-UNBLOCKED`, and the end of the connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_is_demoted_during_the_wait_counts_for_nothing() {
    let (topology, _relay, client, _before) = start().await;
    topology.relay(0).pause();
    let session = Session::new();
    let (outcome, ()) = tokio::join!(client.call(incr("n", &session).acks(of(1))), async {
        someone_waits(&topology).await;
        topology.primary().replicaof("127.0.0.1", 1).unwrap();
    });
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooFewAcks, "{error}");
    assert_eq!(error.applied().unwrap().acks, None);
    assert!(!in_doubt(&session));
    // No acknowledgement is invented there, whatever becomes of more writes.
    for _ in 0..20 {
        client.call(incr("n", &session).acks(of(1))).await.unwrap_err();
    }
    assert_eq!(
        topology.primary().command(&["GET", "n"]).unwrap().text(),
        Some("1")
    );
}

/// The shared connection's watchdog finds a frozen node dead, however long acknowledgements may be waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_primary_ends_a_long_wait() {
    let topology = quiet(1);
    let client = builder(&topology)
        .response_timeout(Duration::from_millis(1200))
        .connect()
        .await
        .unwrap();
    topology.relay(0).pause();
    let session = Session::new();
    let patient = Acks::replicas(1, Duration::from_secs(3600));
    let (outcome, ()) = tokio::join!(client.call(incr("n", &session).acks(patient)), async {
        someone_waits(&topology).await;
        topology.primary().pause().unwrap();
    });
    let error = outcome.unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::TooFewAcks | ErrorKind::InDoubt),
        "{error}"
    );
    // Not the wait's own end.
    assert!(error.to_string().contains("other connections"), "{error}");
    topology.primary().resume().unwrap();
    until("what was in doubt is settled", || !in_doubt(&session)).await;
}

/// A wait that is longer than the usual patience is no silence.
#[tokio::test(flavor = "multi_thread")]
async fn the_watchdog_allows_for_the_wait() {
    let topology = quiet(1);
    let client = builder(&topology)
        .response_timeout(Duration::from_millis(400))
        .connect()
        .await
        .unwrap();
    topology.relay(0).pause();
    let session = Session::new();
    let longer = Acks::replicas(1, Duration::from_millis(1500));
    let error = client.call(incr("n", &session).acks(longer)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooFewAcks, "{error}");
    assert_eq!(
        error.applied().unwrap().acks.map(|acked| acked.replicas),
        Some(0),
        "{error}"
    );
}

/// A client that has gone on to a promoted replica has such writes acknowledged there.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_failover_the_new_primary_counts() {
    let topology = quiet(2);
    let client = client(&topology).await;
    let session = Session::new();
    client
        .call(set("k", "before", &session).acks(of(2)))
        .await
        .unwrap();
    topology.primary().kill();
    topology.promote(0).unwrap();
    topology
        .replica(1)
        .wait_for(SOON, "the other replica follows", |info| info.link_up)
        .unwrap();
    let deadline = std::time::Instant::now() + SOON;
    let reply = loop {
        match client.call(set("k", "after", &session).acks(of(1))).await {
            Ok(reply) => break reply,
            Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
        }
        let _ = client.call(get("k", &session)).await;
    };
    assert_eq!(reply.acks.unwrap().replicas, 1);
    assert_eq!(
        topology.replica(1).command(&["GET", "k"]).unwrap().text(),
        Some("after")
    );
    let reply = client.call(get("k", &session)).await.unwrap();
    assert!(matches!(reply.route, Route::Primary | Route::Replica));
    assert!(
        !matches!(reply.reason, Reason::PossiblyLost | Reason::UnknownHistory),
        "{:?}",
        reply.reason
    );
    assert!(calls(topology.replica(0), "wait") > 0);
}
