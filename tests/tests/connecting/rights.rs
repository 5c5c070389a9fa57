//! What a user may do on the server, and what becomes of it where something is refused.

use std::time::Duration;

use highwater::{Client, ClientBuilder, ErrorKind, MINIMAL_ACL, Reason, Route, Session};
use highwater_testkit::{Relay, Topology, wait_until_async};
use redis::AsyncCommands;

use crate::{SOON, bulk, get, read_from_a_replica, refusal, url_of};

/// Gives the user `app` these rights on all servers, and no others.
fn allow(topology: &Topology, rights: &str) {
    for server in topology.replicas().chain([topology.primary()]) {
        let mut command = vec!["ACL", "SETUSER", "app", "reset", "on", ">pw", "~*", "&*"];
        command.extend(rights.split_whitespace());
        server.command(&command).unwrap();
    }
}

fn builder(topology: &Topology) -> ClientBuilder {
    topology.replicas().fold(
        Client::builder().primary(url_of(topology.primary(), "app:pw")),
        |builder, replica| builder.replica(url_of(replica, "app:pw")),
    )
}

/// The minimal rights without one of them.
fn without(right: &str) -> String {
    assert!(
        MINIMAL_ACL.split_whitespace().any(|known| known == right),
        "{right}"
    );
    let others: Vec<_> = MINIMAL_ACL
        .split_whitespace()
        .filter(|other| *other != right)
        .collect();
    format!("{} +get +set", others.join(" "))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_minimal_rights_are_enough() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    allow(&topology, &format!("{MINIMAL_ACL} +get +set"));
    // Connections begin as the default user, who may do nothing at all.
    let client = {
        let url = |server| format!("{}/1", url_of(server, "app:pw"));
        Client::builder()
            .primary(url(topology.primary()))
            .replica(url(topology.replica(0)))
            .connect()
            .await
            .unwrap()
    };
    let status = client.status();
    assert!(status.proofs);
    for node in [&status.primary, &status.replicas[0]] {
        assert_eq!(
            (node.protocol, node.warnings.as_slice()),
            (Some("resp3"), &[][..])
        );
    }
    assert_eq!(status.replicas[0].proof_form, Some("tracking"));
    let session = Session::new();
    let () = client.with(&session).set("k", "v").await.unwrap();
    let reply = read_from_a_replica(&client, &topology, &session, "k").await;
    assert_eq!(reply.value, bulk("v"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_kill_and_command_there_are_warnings_only() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    for (right, word) in [("+client|kill", "CLIENT KILL"), ("+command", "COMMAND")] {
        allow(&topology, &without(right));
        let client = builder(&topology).connect().await.unwrap();
        let warnings = client.status().primary.warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(
            warnings[0].contains(word) && warnings[0].contains(right),
            "{warnings:?}"
        );
        let session = Session::new();
        let () = client.with(&session).set("k", right).await.unwrap();
        let reply = read_from_a_replica(&client, &topology, &session, "k").await;
        assert_eq!(reply.value, bulk(right));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_kill_lost_writes_wait_for_the_grace_time() {
    let topology = Topology::builder().replicas(0).start().unwrap();
    allow(&topology, &without("+client|kill"));
    let relay = Relay::start(topology.primary().addr()).unwrap();
    let url = format!("redis://app:pw@127.0.0.1:{}", relay.port());
    let mut outcomes = Vec::new();
    for grace in [Duration::from_millis(1), Duration::from_secs(3600)] {
        let client = Client::builder()
            .primary(url.as_str())
            .doubt_grace(grace)
            .response_timeout(Duration::from_secs(30))
            .connect()
            .await
            .unwrap();
        let session = Session::new();
        let () = client.with(&session).set("k", "before").await.unwrap();
        relay.hold_replies_after(0);
        let writing = {
            let (client, session) = (client.clone(), session.clone());
            tokio::spawn(async move { client.with(&session).set::<_, _, ()>("k", "lost").await })
        };
        relay.wait_held(SOON).await.unwrap();
        relay.cut();
        relay.release();
        let error = writing.await.unwrap().unwrap_err();
        assert_eq!(highwater::Error::of(&error).unwrap().kind(), ErrorKind::InDoubt);
        client.ready(SOON).await.unwrap();
        if grace < Duration::from_secs(1) {
            wait_until_async(SOON, "the doubt is settled", || {
                !session.marks().written().any(|mark| mark.offset.is_unknown())
            })
            .await
            .unwrap();
        }
        let reply = client.call(get("k", &session)).await.unwrap();
        outcomes.push((reply.value, reply.reason));
    }
    // The server had carried it out both times; only when that is known is it no longer in doubt.
    assert_eq!(
        outcomes,
        [(bulk("lost"), Reason::Unhealthy), (bulk("lost"), Reason::InDoubt)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_info_only_an_explicit_choice_goes_on() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    allow(&topology, &without("+info"));
    let error = refusal(builder(&topology)).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains(MINIMAL_ACL), "{error}");

    let client = builder(&topology)
        .primary_only_without_proofs()
        .connect()
        .await
        .unwrap();
    let status = client.status();
    assert!(!status.proofs && status.replicas.is_empty());
    let session = Session::new();
    let () = client.with(&session).set("k", "v").await.unwrap();
    for level in [
        highwater::Consistency::Eventual,
        highwater::Consistency::Monotonic,
    ] {
        let reply = client.call(get("k", &session).level(level)).await.unwrap();
        assert_eq!(reply.value, bulk("v"));
        assert_eq!((reply.route, reply.reason), (Route::Primary, Reason::PrimaryOnly));
    }

    let mut dedicated = client.dedicated(&session).await.unwrap();
    let () = dedicated.set("k", "x").await.unwrap();
    let seen: String = dedicated
        .at(highwater::Consistency::Monotonic)
        .get("k")
        .await
        .unwrap();
    assert_eq!(seen, "x");

    // Elsewhere, with proofs, the session is not taken for one that depends on nothing.
    topology.relay(0).pause();
    let () = client.with(&session).set("k", "w").await.unwrap();
    let proving = crate::common::client(&topology).await;
    let resumed = Session::resume(session.marks());
    let reply = proving.call(get("k", &resumed)).await.unwrap();
    assert_eq!((reply.value, reply.route), (bulk("w"), Route::Primary));
    assert_eq!(proving.status().anomalies.settled_doubts, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tracking_proofs_take_the_other_form() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    allow(&topology, &without("+client|tracking"));
    let error = refusal(builder(&topology)).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("+multi +exec"), "{error}");

    allow(
        &topology,
        &format!("{} +multi +exec", without("+client|tracking")),
    );
    let client = builder(&topology).connect().await.unwrap();
    let status = client.status();
    let replica = &status.replicas[0];
    assert_eq!(
        (replica.protocol, replica.proof_form),
        (Some("resp3"), Some("transaction"))
    );
    assert!(
        replica.warnings[0].contains("+client|tracking"),
        "{:?}",
        replica.warnings
    );
    let session = Session::new();
    let () = client.with(&session).set("k", "v").await.unwrap();
    let reply = read_from_a_replica(&client, &topology, &session, "k").await;
    assert_eq!(reply.value, bulk("v"));
}
