//! What happens to reads whose marks the primary can't honour: by policy, and after failovers in a row.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

mod common;

use common::{SOON, fail_over, get, until};
use highwater::{
    Client, Continuity, ErrorKind, History, Mark, Offset, Policy, Reason, Route, Scope, Session,
};
use highwater_testkit::{Relay, Topology};
use redis::{AsyncCommands, Value};

fn stranger() -> Session {
    let session = Session::new();
    session.add_written(&Mark {
        scope: Scope::default(),
        history: History::from_bytes([0xab; 20]),
        offset: Offset::at(7),
    });
    session
}

async fn read(client: &Client, session: &Session) -> (Route, Reason) {
    let reply = client.call(get("k", session)).await.unwrap();
    (reply.route, reply.reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_history_is_answered_refused_or_waived_by_policy() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let with = async |policy| {
        common::builder(&topology)
            .on_unknown_history(policy)
            .connect()
            .await
            .unwrap()
    };

    let (client, session) = (with(Policy::Primary).await, stranger());
    for _ in 0..3 {
        assert_eq!(
            read(&client, &session).await,
            (Route::Primary, Reason::UnknownHistory)
        );
    }

    let (client, session) = (with(Policy::Error).await, stranger());
    for _ in 0..3 {
        let error = client.call(get("k", &session)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownHistory);
    }
    assert_eq!(session.continuity(), Continuity::UnknownHistory);

    let client = with(Policy::Proceed).await;
    let session = stranger();
    // Only the primary can say that it does not know the history.
    assert_eq!(
        read(&client, &session).await,
        (Route::Primary, Reason::UnknownHistory)
    );
    for session in [session, stranger()] {
        for _ in 0..3 {
            assert_eq!(
                read(&client, &session).await,
                (Route::Replica, Reason::UnknownHistory)
            );
        }
        assert_eq!(session.continuity(), Continuity::UnknownHistory);
        // Another primary may know it: the mark stays (invariant 4).
        assert_eq!(session.marks(), stranger().marks());
    }
    assert_eq!(client.status().anomalies.unknown_history, 7);

    // What the session depends on besides is honoured as ever.
    let session = stranger();
    topology.relay(0).pause();
    let () = client.with(&session).set("k", "new").await.unwrap();
    let reply = client.call(get("k", &session)).await.unwrap();
    assert_eq!(reply.value, Value::BulkString(b"new".to_vec()));
    assert_eq!(
        (reply.route, reply.reason),
        (Route::Primary, Reason::UnknownHistory)
    );
    topology.relay(0).resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_is_waived_once_and_the_session_goes_on() {
    for policy in [Policy::Primary, Policy::Proceed] {
        let topology = Topology::builder().replicas(2).start().unwrap();
        let front = Relay::start(topology.primary().addr()).unwrap();
        let client = common::builder_through(&front, &topology)
            .on_possibly_lost(policy)
            .connect()
            .await
            .unwrap();
        let () = client.without_session().set("k", "kept").await.unwrap();
        topology.wait_in_sync(SOON).unwrap();
        topology.relays().for_each(|relay| relay.pause());
        let lost = Session::new();
        let () = client.with(&lost).set("k", "lost").await.unwrap();
        let again = Session::resume(lost.marks());
        fail_over(&client, &front, &topology, 0).await;
        topology.relays().for_each(|relay| relay.resume());
        topology
            .wait_applied(1, topology.replica(0).mark().unwrap(), SOON)
            .unwrap();
        until("the replica is read from again", || {
            let replica = &client.status().replicas[1];
            replica.replication_link_up == Some(true) && replica.history == client.status().primary.history
        })
        .await;

        assert_eq!(read(&client, &lost).await, (Route::Primary, Reason::PossiblyLost));
        // Another session of the same mark: by now it is known what became of the history.
        let route = if policy == Policy::Proceed {
            Route::Replica
        } else {
            Route::Primary
        };
        assert_eq!(
            read(&client, &again).await,
            (route, Reason::PossiblyLost),
            "{policy:?}"
        );
        for session in [lost, again] {
            assert_eq!(session.continuity(), Continuity::PossiblyLost);
            // Reported once; then the session depends on the primary's history.
            let now: History = client.status().primary.history.unwrap().parse().unwrap();
            assert!(session.marks().written().all(|mark| mark.history == now));
            let reply = client.call(get("k", &session)).await.unwrap();
            assert_eq!(reply.value, Value::BulkString(b"kept".to_vec()));
            assert!(![Reason::PossiblyLost, Reason::UnknownHistory].contains(&reply.reason));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_from_two_promotions_ago_are_judged_by_remembered_edges() {
    let topology = Topology::builder().replicas(3).start().unwrap();
    let front = Relay::start(topology.primary().addr()).unwrap();
    let client = Client::builder()
        .primary(front.url())
        .replica(topology.replica(2).url())
        .connect()
        .await
        .unwrap();

    // One write that survives both promotions, and one that the first of them loses.
    let kept = Session::new();
    let () = client.with(&kept).set("k", "kept").await.unwrap();
    topology.wait_in_sync(SOON).unwrap();
    topology.relays().for_each(|relay| relay.pause());
    let lost = Session::new();
    let () = client.with(&lost).set("k", "lost").await.unwrap();
    let (first, kept_marks) = (client.status().primary.history, kept.marks());

    fail_over(&client, &front, &topology, 0).await;
    topology.relays().for_each(|relay| relay.resume());
    let second = client.status().primary.history;
    let between = Session::new();
    let () = client.with(&between).set("k2", "between").await.unwrap();
    let mark = topology.replica(0).mark().unwrap();
    for replica in [1, 2] {
        topology.wait_applied(replica, mark, SOON).unwrap();
    }
    fail_over(&client, &front, &topology, 1).await;
    let third = client.status().primary.history;
    assert!(first != second && second != third && first != third);
    topology
        .wait_applied(2, topology.replica(1).mark().unwrap(), SOON)
        .unwrap();
    until("the replica is in the third history", || {
        client.status().replicas[0].history == client.status().primary.history
    })
    .await;

    // No server knows the first history any more; the client remembers how it went on.
    let reply = client.call(get("k", &kept)).await.unwrap();
    assert_eq!(reply.value, Value::BulkString(b"kept".to_vec()));
    assert_eq!((reply.route, reply.reason), (Route::Replica, Reason::Covered));
    assert_eq!(kept.continuity(), Continuity::Intact);
    let reply = client.call(get("k2", &between)).await.unwrap();
    assert_eq!(reply.value, Value::BulkString(b"between".to_vec()));
    assert_eq!((reply.route, reply.reason), (Route::Replica, Reason::Covered));
    assert_eq!(between.continuity(), Continuity::Intact);
    assert_eq!(read(&client, &lost).await, (Route::Primary, Reason::PossiblyLost));
    assert_eq!(lost.continuity(), Continuity::PossiblyLost);

    // A client that has not seen the promotions can't tell, and says so.
    let newcomer = Client::builder().primary(front.url()).connect().await.unwrap();
    let session = Session::resume(kept_marks);
    assert_eq!(
        read(&newcomer, &session).await,
        (Route::Primary, Reason::UnknownHistory)
    );
}
