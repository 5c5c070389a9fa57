//! What is counted, and what too few mean.

use highwater::{Command, Error, ErrorKind, Reason, Route, Session};
use highwater_testkit::Topology;
use redis::{AsyncCommands, RetryMethod, Value};

use crate::{
    common::{
        SOON, builder, bulk, calls, client, from_a_replica, get, in_doubt, lacks, quiet, set, until, written,
    },
    incr, of, soon,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_reply_says_how_many_have_acknowledged() {
    let topology = Topology::builder().replicas(2).start().unwrap();
    let client = client(&topology).await;
    let session = Session::new();
    for wanted in [0, 1, 2] {
        let reply = client
            .call(set("k", "v", &session).acks(of(wanted)))
            .await
            .unwrap();
        let acked = reply.acks.unwrap();
        assert!((wanted..=2).contains(&acked.replicas), "{acked:?}");
        assert!(!acked.fsynced_by_primary);
        assert_eq!((reply.value, reply.route), (Value::Okay, Route::Primary));
        assert_eq!(client.call(set("k", "v", &session)).await.unwrap().acks, None);
    }
    // What all have acknowledged, all show: an acknowledgement is of what has been applied.
    for round in 0..100 {
        let key = format!("k:{round}");
        let mut pipeline = redis::pipe();
        pipeline.atomic().set(&key, "x").incr("n", 1);
        let script = redis::cmd("EVAL")
            .arg("return redis.call('SET', KEYS[1], 'x')")
            .arg(1)
            .arg(&key)
            .to_owned();
        let command = match round % 3 {
            0 => Command::new(redis::cmd("SET").arg(&key).arg("x")),
            1 => Command::pipeline(&pipeline),
            _ => Command::new(&script),
        };
        // Without a session as well.
        let command = if round % 2 == 0 {
            command.session(&session)
        } else {
            command
        };
        let reply = client.call(command.acks(of(2))).await.unwrap();
        assert_eq!(reply.acks.map(|acked| acked.replicas), Some(2));
        for replica in topology.replicas() {
            assert_eq!(
                replica.command(&["GET", &key]).unwrap().text(),
                Some("x"),
                "round {round}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handle_has_all_its_writes_wait_and_none_of_its_reads() {
    let topology = quiet(1);
    let client = client(&topology).await;
    let session = Session::new();
    let mut durable = client.with(&session).acks(of(1));
    let () = durable.set("k", "v").await.unwrap();
    let ((), n): ((), u32) = redis::pipe()
        .set("k", "w")
        .incr("n", 1)
        .query_async(&mut durable)
        .await
        .unwrap();
    assert_eq!(n, 1);
    let waits = calls(topology.primary(), "wait");
    let seen: String = durable.get("k").await.unwrap();
    assert_eq!(seen, "w");
    let (seen,): (String,) = redis::pipe().get("k").query_async(&mut durable).await.unwrap();
    assert_eq!(seen, "w");
    let blocked: Option<()> = redis::cmd("XREAD")
        .arg("BLOCK")
        .arg(1)
        .arg("STREAMS")
        .arg("s")
        .arg("0")
        .query_async(&mut durable)
        .await
        .unwrap();
    assert_eq!(blocked, None);
    assert_eq!(calls(topology.primary(), "wait"), waits);
    // The replica that has acknowledged covers the mark at once.
    from_a_replica(&client, &get("k", &session), &bulk("w")).await;
    // An error reply is the caller's, with or without acknowledgements.
    let error = durable.lpush::<_, _, ()>("k", "x").await.unwrap_err();
    assert_eq!(error.code(), Some("WRONGTYPE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_is_an_error_of_a_write_that_has_happened() {
    let topology = quiet(2);
    let client = client(&topology).await;
    topology.relay(0).pause();
    let session = Session::new();
    let error = client.call(incr("n", &session).acks(soon(2))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooFewAcks, "{error}");
    assert!(error.to_string().contains("only 1 of 2 replicas"), "{error}");
    let applied = error.applied().unwrap();
    assert_eq!(
        (&applied.value, applied.reason),
        (&Value::Int(1), Reason::Command)
    );
    assert_eq!(applied.acks.unwrap().replicas, 1);
    assert_eq!(
        topology.primary().command(&["GET", "n"]).unwrap().text(),
        Some("1")
    );
    // Where it is, the session knows, and depends on it.
    assert!(!in_doubt(&session));
    assert_eq!(
        written(&session).unwrap().history,
        topology.primary().mark().unwrap().history
    );
    from_a_replica(&client, &get("n", &session), &bulk("1")).await;

    topology.relay(1).pause();
    let mut durable = client.with(&session).acks(soon(1));
    let error = durable.incr::<_, _, u32>("n", 1).await.unwrap_err();
    let own = Error::of(&error).unwrap();
    assert_eq!(own.kind(), ErrorKind::TooFewAcks);
    assert_eq!(own.applied().unwrap().value, Value::Int(2));
    assert!(matches!(error.retry_method(), RetryMethod::NoRetry));
    assert!(!error.is_connection_dropped() && !error.is_timeout());
    assert!(!in_doubt(&session));
    let reply = client.call(get("n", &session)).await.unwrap();
    assert_eq!((reply.value, reply.route), (bulk("2"), Route::Primary));
    // A transaction's, as a whole.
    let mut pipeline = redis::pipe();
    pipeline.atomic().incr("n", 1).incr("n", 1);
    let error = client
        .call(Command::pipeline(&pipeline).session(&session).acks(soon(1)))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooFewAcks);
    assert!(matches!(&error.applied().unwrap().value, Value::Array(replies) if replies.len() == 4));
    // What others want less of, they get.
    topology.relay(1).resume();
    let reply = client.call(incr("n", &session).acks(of(1))).await.unwrap();
    assert_eq!(reply.value, Value::Int(5));
    topology.relay(0).resume();
    let reply = client.call(incr("n", &session).acks(of(2))).await.unwrap();
    assert_eq!(reply.acks.unwrap().replicas, 2);
}

/// Replicas that have only received a write, or are frozen, have not acknowledged it.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_replica_acknowledges_nothing() {
    let topology = quiet(1);
    let client = builder(&topology).response_timeout(SOON).connect().await.unwrap();
    topology.replica(0).pause().unwrap();
    let session = Session::new();
    let error = client.call(incr("n", &session).acks(soon(1))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooFewAcks, "{error}");
    assert_eq!(error.applied().unwrap().acks.unwrap().replicas, 0);
    topology.replica(0).resume().unwrap();
    let reply = client.call(incr("n", &session).acks(of(1))).await.unwrap();
    assert_eq!(reply.value, Value::Int(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_disk_is_counted_by_itself() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    if lacks(topology.primary(), "WAITAOF") {
        let client = client(&topology).await;
        let error = client
            .call(set("k", "v", &Session::new()).acks(of(1).fsynced_by_primary()))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains("7.2"), "{error}");
        assert_eq!(
            topology.primary().command(&["EXISTS", "k"]).unwrap().integer(),
            Some(0)
        );
        return;
    }
    let client = client(&topology).await;
    let session = Session::new();
    // Nothing has an append-only file.
    let error = client
        .call(set("k", "v", &session).acks(soon(0).fsynced_by_primary()))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooFewAcks, "{error}");
    assert!(error.to_string().contains("appendonly"), "{error}");
    assert_eq!(
        topology.primary().command(&["GET", "k"]).unwrap().text(),
        Some("v")
    );
    let error = client
        .call(set("k", "v", &session).acks(soon(1).fsynced_by_replicas()))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooFewAcks, "{error}");
    let on = |server: &highwater_testkit::Server| {
        server
            .command(&["CONFIG", "SET", "appendfsync", "always"])
            .unwrap();
        server.command(&["CONFIG", "SET", "appendonly", "yes"]).unwrap();
    };
    on(topology.primary());
    let reply = client
        .call(set("k", "v", &session).acks(of(1).fsynced_by_primary()))
        .await
        .unwrap();
    let acked = reply.acks.unwrap();
    assert_eq!((acked.replicas, acked.fsynced_by_primary), (1, true));
    on(topology.replica(0));
    let reply = client
        .call(set("k", "v", &session).acks(of(1).fsynced_by_primary().fsynced_by_replicas()))
        .await
        .unwrap();
    let acked = reply.acks.unwrap();
    assert_eq!((acked.replicas, acked.fsynced_by_primary), (1, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_wait_is_refused_before_it_is_sent() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = client(&topology).await;
    let session = Session::new();
    client
        .call(Command::new(redis::cmd("RPUSH").arg("l").arg("a")))
        .await
        .unwrap();
    let pop = Command::new(redis::cmd("BLPOP").arg("l").arg(1)).session(&session);
    let error = client.call(pop.acks(of(1))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    let dedicated = client.dedicated(&session).await.unwrap();
    let error = dedicated
        .call(set("k", "v", &session).acks(of(1)))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert_eq!(
        topology.primary().command(&["LLEN", "l"]).unwrap().integer(),
        Some(1)
    );
    assert_eq!(
        topology.primary().command(&["EXISTS", "k"]).unwrap().integer(),
        Some(0)
    );
    // What was refused within a transaction has nothing to be acknowledged.
    let mut pipeline = redis::pipe();
    pipeline.atomic().set("k", "v").cmd("NONSENSE");
    let refused: redis::RedisResult<()> = pipeline
        .query_async(&mut client.with(&session).acks(soon(9)))
        .await;
    assert_eq!(refused.unwrap_err().code(), Some("EXECABORT"));
    until("all are answered", || client.status().primary.in_flight == 0).await;
}
