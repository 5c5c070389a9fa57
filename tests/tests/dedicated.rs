//! Connections of one's own: transactions, blocking commands, and what becomes of their marks.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod common;

use std::{
    task::{Context, Waker},
    time::{Duration, Instant},
};

use common::{NO_PINGS, SOON, blocked, bulk, in_doubt, info, quiet, written};
use highwater::{
    Client, Command, Consistency, Error, ErrorKind, History, Mark, Offset, Policy, Reason, Route, Scope,
    Session,
};
use highwater_testkit::{Relay, Topology, wait_until_async};
use redis::{AsyncCommands, Value, aio::ConnectionLike};

fn kind(error: &redis::RedisError) -> Option<ErrorKind> {
    Error::of(error).map(Error::kind)
}

/// The session's mark is where the primary is: nothing else writes there.
fn assert_marked(session: &Session, topology: &Topology) {
    assert!(!in_doubt(session));
    assert_eq!(written(session), Some(topology.primary().mark().unwrap()));
}

/// A session that depends on a history that no server here knows.
fn of_an_unknown_history() -> Session {
    let session = Session::new();
    session.add_written(&Mark {
        scope: Scope::default(),
        history: History::from_bytes([7; 20]),
        offset: Offset::at(99),
    });
    session
}

#[tokio::test(flavor = "multi_thread")]
async fn optimistic_locking_loses_no_increment() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = common::client(&topology).await;
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                let session = Session::new();
                let connection = client.dedicated(&session).await.unwrap();
                let mut seen = 0;
                for _ in 0..25 {
                    let (now,): (u32,) = redis::aio::transaction_async(
                        connection.clone(),
                        &["n"],
                        |mut connection, mut pipe| async move {
                            let n: Option<u32> = connection.get("n").await?;
                            pipe.set("n", n.unwrap_or(0) + 1)
                                .ignore()
                                .get("n")
                                .query_async(&mut connection)
                                .await
                        },
                    )
                    .await
                    .unwrap();
                    assert!(now > seen);
                    // The session reads what the transaction wrote, wherever it reads.
                    seen = client.with(&session).get("n").await.unwrap();
                    assert!(seen >= now);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let n: u32 = client
        .without_session()
        .at(Consistency::Primary)
        .get("n")
        .await
        .unwrap();
    assert_eq!(n, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transactions_mark_is_taken_after_exec_and_nothing_slips_into_it() {
    let topology = Topology::builder()
        .replicas(1)
        .primary_args(NO_PINGS)
        .delay(Duration::from_millis(200))
        .start()
        .unwrap();
    let client = common::client(&topology).await;
    let session = Session::new();
    let mut connection = client.dedicated(&session).await.unwrap();
    let queued = Value::SimpleString("QUEUED".into());

    let value = async |words: &[&str]| {
        let mut command = redis::Cmd::new();
        command.arg(words);
        connection.call(command).await.map(|reply| reply.value)
    };
    assert_eq!(value(&["MULTI"]).await.unwrap(), Value::Okay);
    assert_eq!(value(&["SET", "a", "1"]).await.unwrap(), queued);
    assert_eq!(value(&["GET", "a"]).await.unwrap(), queued);
    assert_eq!(
        session.marks(),
        Session::new().marks(),
        "nothing has been written yet"
    );
    assert_eq!(
        value(&["EXEC"]).await.unwrap(),
        Value::Array(vec![Value::Okay, bulk("1")]),
        "no INFO among the replies"
    );
    assert_marked(&session, &topology);
    let seen: Option<u32> = client.with(&session).get("a").await.unwrap();
    assert_eq!(seen, Some(1), "the replica is behind, and is not believed");

    // What is discarded leaves no mark; neither do EXEC and DISCARD out of place.
    let before = written(&session);
    for words in [&["MULTI"][..], &["SET", "a", "2"], &["DISCARD"]] {
        value(words).await.unwrap();
    }
    for word in ["EXEC", "DISCARD"] {
        assert_eq!(value(&[word]).await.unwrap_err().kind(), ErrorKind::Server);
    }
    assert_eq!(written(&session), before);
    // Redis lets a transaction go on after a second MULTI, Valkey does not. Either way EXEC ends it.
    value(&["MULTI"]).await.unwrap();
    assert_eq!(value(&["MULTI"]).await.unwrap_err().kind(), ErrorKind::Server);
    value(&["EXEC"]).await.ok();
    // After that the connection is in no transaction: writes are marked again.
    value(&["SET", "a", "3"]).await.unwrap();
    assert_marked(&session, &topology);

    // The same in pipelines by hand, also when they end in the middle of a transaction.
    let mut pipeline = redis::pipe();
    pipeline
        .set("b", 1)
        .cmd("MULTI")
        .set("c", 1)
        .get("c")
        .cmd("EXEC")
        .set("d", 1)
        .cmd("MULTI")
        .incr("d", 1);
    let values = connection
        .req_packed_commands(&pipeline, 0, pipeline.len())
        .await
        .unwrap();
    let executed = Value::Array(vec![Value::Okay, bulk("1")]);
    let expected = [
        Value::Okay,
        Value::Okay,
        queued.clone(),
        queued.clone(),
        executed,
        Value::Okay,
        Value::Okay,
        queued,
    ];
    assert_eq!(values, expected);
    assert_marked(&session, &topology);
    let exec: Vec<u32> = redis::cmd("EXEC").query_async(&mut connection).await.unwrap();
    assert_eq!(exec, [2]);
    assert_marked(&session, &topology);

    // A transaction that aborts, and one whose commands fail when they are executed.
    let mut pipeline = redis::pipe();
    pipeline.atomic().set("e", 1).cmd("NONSENSE");
    let aborted = pipeline.exec_async(&mut connection).await.unwrap_err();
    assert_eq!(aborted.code(), Some("EXECABORT"));
    assert!(!in_doubt(&session));
    let mut pipeline = redis::pipe();
    pipeline.atomic().set("e", 1).hget("e", "f");
    let failed = pipeline.exec_async(&mut connection).await.unwrap_err();
    assert_eq!(failed.into_server_errors().unwrap()[0].1.code(), "WRONGTYPE");
    assert_marked(&session, &topology);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connection_keeps_its_database_and_others_keep_theirs() {
    let topology = Topology::builder().start().unwrap();
    let client = common::client(&topology).await;
    let session = Session::new();
    let mut connection = client.dedicated(&session).await.unwrap();
    assert_eq!(connection.get_db(), 0);
    let () = redis::cmd("SELECT")
        .arg(3)
        .query_async(&mut connection)
        .await
        .unwrap();
    let () = connection.set("k", "of 3").await.unwrap();
    assert_eq!(connection.get_db(), 3);
    let none: Option<String> = client.with(&session).get("k").await.unwrap();
    assert_eq!(none, None);
    let mut pipeline = redis::pipe();
    pipeline.atomic().cmd("SELECT").arg(4).set("k", "of 4");
    pipeline.exec_async(&mut connection).await.unwrap();
    assert_eq!(connection.get_db(), 4);
    for words in [&["MULTI"][..], &["SELECT", "5"], &["EXEC"]] {
        redis::Cmd::new()
            .arg(words)
            .exec_async(&mut connection)
            .await
            .unwrap();
    }
    assert_eq!(connection.get_db(), 5);
    redis::cmd("SELECT")
        .arg("none")
        .exec_async(&mut connection)
        .await
        .unwrap_err();
    assert_eq!(connection.get_db(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_connection_can_do_is_refused_and_the_rest_points_here() {
    let topology = Topology::builder().start().unwrap();
    let client = common::client(&topology).await;
    let session = Session::new();
    let connection = client.dedicated(&session).await.unwrap();
    for words in [
        &["SUBSCRIBE", "c"][..],
        &["MONITOR"],
        &["RESET"],
        &["HELLO", "2"],
        &["CLIENT", "REPLY", "OFF"],
    ] {
        let mut command = redis::Cmd::new();
        command.arg(words);
        let error = connection.call(&command).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{words:?}");
        let error = client.call(&command).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{words:?}");
    }
    for words in [
        &["WATCH", "k"][..],
        &["MULTI"],
        &["SELECT", "0"],
        &["WAIT", "0", "0"],
    ] {
        let mut command = redis::Cmd::new();
        command.arg(words);
        let error = client.call(&command).await.unwrap_err();
        assert!(
            error.to_string().contains("client.dedicated(&session)"),
            "{error}"
        );
        connection.call(&command).await.unwrap();
        connection.call(redis::cmd("DISCARD")).await.ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dedicated_connections_are_bounded_and_close() {
    let topology = Topology::builder().start().unwrap();
    let client = common::builder(&topology)
        .max_dedicated(1)
        .connect()
        .await
        .unwrap();
    let session = Session::new();
    let first = client.dedicated(&session).await.unwrap();
    let clone = first.clone();
    drop(first);
    let (waiting, client_too) = (client.clone(), session.clone());
    let second = tokio::spawn(async move { waiting.dedicated(&client_too).await.map(drop) });
    // A clone keeps the place. The one in line is served when the connection is closed, not before.
    clone.call(redis::cmd("PING")).await.unwrap();
    let connected = || {
        info(topology.primary(), "clients", "connected_clients")
            .parse::<u32>()
            .unwrap()
    };
    let with_one = connected();
    assert!(!second.is_finished());
    drop(clone);
    second.await.unwrap().unwrap();
    wait_until_async(SOON, "both are closed", || connected() == with_one - 1)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_dropped_future_ends_the_connection_and_its_write_is_settled() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = common::client(&topology).await;
    let session = Session::new();
    let mut connection = client.dedicated(&session).await.unwrap();
    let () = redis::cmd("WATCH")
        .arg("k")
        .query_async(&mut connection)
        .await
        .unwrap();
    {
        // Polled once: it is sent, and on this runtime nobody can have answered it yet.
        let write = std::pin::pin!(connection.call(redis::cmd("INCR").arg("k").clone()));
        assert!(write.poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    assert!(in_doubt(&session), "the caller has gone: it may have happened");
    let error = connection.get::<_, Option<u32>>("k").await.unwrap_err();
    assert_eq!(kind(&error), Some(ErrorKind::Unavailable));
    assert!(
        error.to_string().contains("client.dedicated(&session)"),
        "{error}"
    );
    wait_until_async(SOON, "the write is settled", || !in_doubt(&session))
        .await
        .unwrap();
    let k: u32 = client.with(&session).get("k").await.unwrap();
    assert_eq!(k, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connections_write_is_in_doubt_until_it_can_not_land_any_more() {
    let topology = Topology::builder().start().unwrap();
    let relay = Relay::start(topology.primary().addr()).unwrap();
    let client = Client::builder()
        .primary(relay.url())
        .response_timeout(Duration::from_secs(1))
        .connect()
        .await
        .unwrap();
    let session = Session::new();
    let mut connection = client.dedicated(&session).await.unwrap();
    let () = connection.set("late-key", "before").await.unwrap();
    for words in [&["MULTI"][..], &["SET", "late-key", "late"]] {
        redis::Cmd::new()
            .arg(words)
            .exec_async(&mut connection)
            .await
            .unwrap();
    }
    assert!(!in_doubt(&session));
    // EXEC stays in the network until the client has given up.
    relay.hold_when(&b"*1\r\n$4\r\nEX"[..]);
    let exec = redis::cmd("EXEC");
    let (executed, held) = tokio::join!(exec.exec_async(&mut connection), relay.wait_held(SOON));
    held.expect("the rest is still on its way");
    let error = executed.unwrap_err();
    assert_eq!(kind(&error), Some(ErrorKind::InDoubt), "{error}");
    wait_until_async(SOON, "the write is settled", || !in_doubt(&session))
        .await
        .unwrap();
    relay.release();
    wait_until_async(SOON, "the old connection is gone", || relay.stats().live == 1)
        .await
        .unwrap();
    let value = topology.primary().command(&["GET", "late-key"]).unwrap();
    assert_eq!(value.text(), Some("before"), "a settled write has landed late");
    let error = redis::cmd("PING").exec_async(&mut connection).await.unwrap_err();
    assert_eq!(kind(&error), Some(ErrorKind::Unavailable));
}

#[tokio::test(flavor = "multi_thread")]
async fn blocking_commands_hold_nobody_up_and_leave_marks() {
    let topology = quiet(1);
    topology.relay(0).pause();
    let client = common::client(&topology).await;
    let consumer = Session::new();
    let (reader, of) = (client.clone(), consumer.clone());
    let popped =
        tokio::spawn(async move { reader.with(&of).blpop::<_, (String, String)>("jobs", 0.0).await });
    blocked(topology.primary(), 1).await;
    let producer = Session::new();
    let pushed: u32 = client.with(&producer).rpush("jobs", "one").await.unwrap();
    assert_eq!(pushed, 1);
    assert_eq!(popped.await.unwrap().unwrap(), ("jobs".into(), "one".into()));
    // The pop is a write of the consumer's: the replica has not even seen the push.
    assert_marked(&consumer, &topology);
    let reply = client
        .call(Command::new(redis::cmd("LLEN").arg("jobs")).session(&consumer))
        .await
        .unwrap();
    assert_eq!((reply.value, reply.route), (Value::Int(0), Route::Primary));

    // Reads that block: with the primary's proof, on a connection of their own.
    let (reader, of) = (client.clone(), consumer.clone());
    let read = tokio::spawn(async move {
        let command = redis::cmd("XREAD")
            .arg(&["BLOCK", "0", "STREAMS", "s", "$"])
            .clone();
        reader.call(Command::new(&command).session(&of)).await
    });
    blocked(topology.primary(), 1).await;
    let _: String = client
        .with(&producer)
        .xadd("s", "1-1", &[("f", "v")])
        .await
        .unwrap();
    let reply = read.await.unwrap().unwrap();
    assert_eq!(reply.route, Route::Primary);
    assert!(
        matches!(reply.value, Value::Map(ref streams) if streams.len() == 1),
        "{:?}",
        reply.value
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocking_command_may_take_the_time_that_it_asks_for() {
    let topology = Topology::builder().start().unwrap();
    let client = common::builder(&topology)
        .response_timeout(Duration::from_secs(2))
        .connect()
        .await
        .unwrap();
    let session = Session::new();
    let mut connections = [
        client.dedicated(&session).await.unwrap(),
        client.dedicated(&session).await.unwrap(),
    ];
    let [popping, waiting] = &mut connections;
    let mut shared = client.with(&session);
    let (mut wait, start) = (redis::cmd("WAIT"), Instant::now());
    let (nothing, nothing_here, acknowledged) = tokio::join!(
        shared.blpop::<_, Option<(String, String)>>("none", 2.5),
        popping.blpop::<_, Option<(String, String)>>("none", 2.5),
        wait.arg(1).arg(2500).query_async::<u32>(waiting),
    );
    assert_eq!((nothing.unwrap(), nothing_here.unwrap()), (None, None));
    assert_eq!(acknowledged.unwrap(), 0);
    assert!(
        start.elapsed() >= Duration::from_millis(2500),
        "it was the server's timeout, not ours"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn blocking_commands_wait_in_line_for_a_connection() {
    let topology = Topology::builder().start().unwrap();
    let client = common::builder(&topology)
        .max_blocking(1)
        .connect()
        .await
        .unwrap();
    let pop = |key: &'static str| {
        let client = client.clone();
        tokio::spawn(async move {
            client
                .with(&Session::new())
                .blpop::<_, (String, u32)>(key, 0.0)
                .await
        })
    };
    let first = pop("a");
    blocked(topology.primary(), 1).await;
    let second = pop("b");
    // It waits for the first one, not for its key.
    let _: u32 = client.without_session().rpush("b", 2).await.unwrap();
    assert_eq!(info(topology.primary(), "clients", "blocked_clients"), "1");
    assert!(!second.is_finished());
    let _: u32 = client.without_session().rpush("a", 1).await.unwrap();
    assert_eq!(first.await.unwrap().unwrap(), ("a".into(), 1));
    assert_eq!(second.await.unwrap().unwrap(), ("b".into(), 2));
    // The connection is kept for the next one.
    let opened = info(topology.primary(), "stats", "total_connections_received");
    let _: u32 = client.without_session().rpush("c", 3).await.unwrap();
    assert_eq!(pop("c").await.unwrap().unwrap(), ("c".into(), 3));
    assert_eq!(
        info(topology.primary(), "stats", "total_connections_received"),
        opened
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocking_command_that_is_given_up_takes_nothing() {
    let topology = Topology::builder().start().unwrap();
    let client = common::client(&topology).await;
    let session = Session::new();
    let (popping, of) = (client.clone(), session.clone());
    let pop = tokio::spawn(async move { popping.with(&of).blpop::<_, (String, String)>("jobs", 0.0).await });
    blocked(topology.primary(), 1).await;
    assert!(!in_doubt(&session), "nobody has been told anything");
    pop.abort();
    pop.await.unwrap_err();
    blocked(topology.primary(), 0).await;
    wait_until_async(SOON, "the pop is settled", || !in_doubt(&session))
        .await
        .unwrap();
    let _: u32 = client.with(&session).rpush("jobs", "one").await.unwrap();
    let left: Vec<String> = client.with(&session).lrange("jobs", 0, -1).await.unwrap();
    assert_eq!(left, ["one"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_primary_ends_a_wait_without_end() {
    let topology = Topology::builder().start().unwrap();
    let client = common::builder(&topology)
        .response_timeout(Duration::from_millis(200))
        .connect_timeout(Duration::from_millis(200))
        .connect()
        .await
        .unwrap();
    let session = Session::new();
    let popping = client.clone();
    let of = session.clone();
    let pop = tokio::spawn(async move { popping.with(&of).blpop::<_, (String, String)>("jobs", 0.0).await });
    blocked(topology.primary(), 1).await;
    topology.primary().pause().unwrap();
    let error = pop.await.unwrap().unwrap_err();
    assert_eq!(kind(&error), Some(ErrorKind::InDoubt), "{error}");
    topology.primary().resume().unwrap();
    wait_until_async(SOON, "the pop is settled", || !in_doubt(&session))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_primary_can_not_prove_follows_the_policy() {
    let topology = Topology::builder().start().unwrap();
    let client = common::client(&topology).await;
    let strict = common::builder(&topology)
        .on_unknown_history(Policy::Error)
        .connect()
        .await
        .unwrap();
    let mut mixed = redis::pipe();
    mixed.set("k", 1).get("k");
    let mut transaction = mixed.clone();
    transaction.atomic();
    let read = redis::cmd("GET").arg("k").clone();
    let write = redis::cmd("INCR").arg("k").clone();

    for command in [
        Command::from(&read),
        (&write).into(),
        (&mixed).into(),
        (&transaction).into(),
    ] {
        let session = of_an_unknown_history();
        let connection = client.dedicated(&session).await.unwrap();
        let reply = connection.call(command.clone()).await.unwrap();
        assert_eq!(
            (reply.route, reply.reason),
            (Route::Primary, Reason::UnknownHistory),
            "{command:?}"
        );
        let session = of_an_unknown_history();
        let reply = client.call(command.clone().session(&session)).await.unwrap();
        assert_eq!(
            (reply.route, reply.reason),
            (Route::Primary, Reason::UnknownHistory),
            "{command:?}"
        );
    }
    assert_eq!(client.status().anomalies.unknown_history, 8);

    // What has only been written can't be taken back, and says so; what was read is not given out.
    let session = of_an_unknown_history();
    let connection = strict.dedicated(&session).await.unwrap();
    let kind = |outcome: Result<highwater::Reply, Error>| outcome.map_err(|error| error.kind());
    let written = kind(connection.call(&write).await).unwrap();
    assert_eq!(written.reason, Reason::UnknownHistory);
    for command in [Command::from(&read), (&mixed).into(), (&transaction).into()] {
        assert_eq!(
            kind(connection.call(command.clone()).await),
            Err(ErrorKind::UnknownHistory),
            "{command:?}"
        );
        let shared = strict.call(command.session(&session)).await;
        assert_eq!(kind(shared), Err(ErrorKind::UnknownHistory));
    }
    for words in [&["MULTI"][..], &["GET", "k"]] {
        connection.call(redis::Cmd::new().arg(words)).await.unwrap();
    }
    assert_eq!(
        kind(connection.call(redis::cmd("EXEC")).await),
        Err(ErrorKind::UnknownHistory)
    );
    // A pipeline that ends in its middle leaves nobody who knows the connection's state.
    let mut pipeline = redis::pipe();
    pipeline.get("k").cmd("MULTI").set("k", 2);
    assert_eq!(
        kind(connection.call(&pipeline).await),
        Err(ErrorKind::UnknownHistory)
    );
    assert_eq!(kind(connection.call(&write).await), Err(ErrorKind::Unavailable));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_was_demoted_proves_nothing() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = common::client(&topology).await;
    let session = Session::new();
    let mut connection = client.dedicated(&session).await.unwrap();
    let () = connection.set("k", 1).await.unwrap();
    let port = topology.replica(0).port().to_string();
    topology
        .primary()
        .command(&["REPLICAOF", "127.0.0.1", &port])
        .unwrap();
    let error = connection.get::<_, Option<u32>>("k").await.unwrap_err();
    assert_eq!(kind(&error), Some(ErrorKind::Unavailable), "{error}");
    let mut pipeline = redis::pipe();
    pipeline.atomic().get("k");
    let error = pipeline.exec_async(&mut connection).await.unwrap_err();
    assert_eq!(kind(&error), Some(ErrorKind::Unavailable), "{error}");
    let error = connection.set::<_, _, ()>("k", 2).await.unwrap_err();
    assert_eq!(error.code(), Some("READONLY"));
    assert!(!in_doubt(&session));
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_scans_go_through_the_session() {
    let topology = Topology::builder().replicas(2).start().unwrap();
    let client = common::client(&topology).await;
    let session = Session::new();
    let mut connection = client.with(&session);
    let mut pipeline = redis::pipe();
    for n in 0..1000_u32 {
        pipeline
            .set(format!("scan:{n}"), n)
            .hset("h", n, n)
            .sadd("s", n)
            .zadd("z", n, n);
    }
    pipeline.exec_async(&mut connection).await.unwrap();
    let mut keys: Vec<String> = Vec::new();
    let mut scan = connection.scan_match("scan:*").await.unwrap();
    while let Some(key) = scan.next_item().await {
        keys.push(key.unwrap());
    }
    drop(scan);
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 1000);
    let mut members = std::collections::BTreeSet::<u32>::new();
    let mut scan = connection.sscan("s").await.unwrap();
    while let Some(member) = scan.next_item().await {
        members.insert(member.unwrap());
    }
    drop(scan);
    assert_eq!(members.len(), 1000);
    let mut fields = std::collections::BTreeMap::<u32, u32>::new();
    let mut scan = connection.hscan("h").await.unwrap();
    while let Some(pair) = scan.next_item().await {
        let (field, value): (u32, u32) = pair.unwrap();
        fields.insert(field, value);
    }
    drop(scan);
    assert_eq!(fields.len(), 1000);
    let mut scores = std::collections::BTreeMap::<u32, u32>::new();
    let mut scan = connection.zscan("z").await.unwrap();
    while let Some(pair) = scan.next_item().await {
        let (member, score): (u32, u32) = pair.unwrap();
        scores.insert(member, score);
    }
    drop(scan);
    assert_eq!(scores.len(), 1000);
    let routes = session.routes();
    assert_eq!(routes.replica, 0, "a cursor stays on one node");
    assert!(routes.primary > 8, "{routes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_that_a_replica_lacks_run_at_the_primary() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    if common::lacks(topology.primary(), "EVAL_RO") {
        return;
    }
    let client = common::client(&topology).await;
    let session = Session::new();
    let source = "return redis.call('GET', KEYS[1])";
    let sha: String = redis::cmd("SCRIPT")
        .arg("LOAD")
        .arg(source)
        .query_async(&mut client.with(&session))
        .await
        .unwrap();
    let () = client.with(&session).set("k", "v").await.unwrap();
    topology.wait_in_sync(SOON).unwrap();
    let ask = async |words: &[&str]| {
        let mut command = redis::Cmd::new();
        command.arg(words);
        client
            .call(Command::new(&command).session(&session))
            .await
            .unwrap()
    };
    // Hints may be old: until a replica answers.
    let deadline = Instant::now() + SOON;
    loop {
        let reply = ask(&["EVAL_RO", source, "1", "k"]).await;
        assert_eq!(reply.value, bulk("v"));
        if reply.route == Route::Replica {
            break;
        }
        assert!(Instant::now() < deadline);
    }
    // Having been run there, it is known there. Another one is not.
    assert_eq!(ask(&["EVALSHA_RO", &sha, "1", "k"]).await.route, Route::Replica);
    let other = "return {redis.call('GET', KEYS[1])}";
    let load = redis::Script::new(other);
    let other_sha = load.get_hash().to_owned();
    let () = redis::cmd("SCRIPT")
        .arg("LOAD")
        .arg(other)
        .query_async(&mut client.with(&session))
        .await
        .unwrap();
    topology.wait_in_sync(SOON).unwrap();
    let reply = ask(&["EVALSHA_RO", &other_sha, "1", "k"]).await;
    assert_eq!(
        (reply.value, reply.route, reply.reason),
        (Value::Array(vec![bulk("v")]), Route::Primary, Reason::Command)
    );
    // In transactions too; and the replica is none the worse for it.
    let mut pipeline = redis::pipe();
    pipeline
        .atomic()
        .cmd("EVALSHA_RO")
        .arg(&other_sha)
        .arg(1)
        .arg("k");
    let reply = client
        .call(Command::pipeline(&pipeline).session(&session))
        .await
        .unwrap();
    assert_eq!((reply.route, reply.reason), (Route::Primary, Reason::Command));
    assert_eq!(ask(&["GET", "k"]).await.route, Route::Replica);
    // What nobody has is an error of the server's.
    let missing = redis::cmd("EVALSHA_RO").arg("f".repeat(40)).arg(0).clone();
    let error = client
        .call(Command::new(&missing).session(&session))
        .await
        .unwrap_err();
    assert_eq!(
        error.server_error().and_then(redis::RedisError::code),
        Some("NOSCRIPT")
    );
}

/// redis-rs's own way: run, be told that it is missing, load, run again.
#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_is_missing_is_loaded_by_redis_rs() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = common::client(&topology).await;
    let session = Session::new();
    let script = redis::Script::new("redis.call('SET', KEYS[1], ARGV[1]); return ARGV[1]");
    let said: String = script
        .key("s")
        .arg("x")
        .invoke_async(&mut client.with(&session))
        .await
        .unwrap();
    assert_eq!(said, "x");
    let seen: String = client.with(&session).get("s").await.unwrap();
    assert_eq!(seen, "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_that_a_replica_lacks_run_at_the_primary() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = common::client(&topology).await;
    let session = Session::new();
    if common::lacks(topology.primary(), "FCALL_RO") {
        return;
    }
    topology.wait_in_sync(SOON).unwrap();
    // The replica does not get the library, and the session depends on nothing.
    topology.relay(0).pause();
    let library = "#!lua name=lib\nredis.register_function{function_name='one', callback=function() return 1 end, flags={'no-writes'}}";
    topology
        .primary()
        .command(&["FUNCTION", "LOAD", library])
        .unwrap();
    let call = redis::cmd("FCALL_RO").arg("one").arg(0).clone();
    let reply = client.call(Command::new(&call).session(&session)).await.unwrap();
    assert_eq!(
        (reply.value, reply.route, reply.reason),
        (Value::Int(1), Route::Primary, Reason::Command)
    );
    let missing = redis::cmd("FCALL_RO").arg("none").arg(0).clone();
    let error = client
        .call(Command::new(&missing).session(&session))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Server);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_can_be_asked_without_the_guarantee() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = common::client(&topology).await;
    let session = Session::new();
    topology.relay(0).pause();
    let () = client.with(&session).set("k", "new").await.unwrap();
    let mut replica = client.node(&topology.replica(0).addr().to_string()).unwrap();
    let old: Option<String> = replica.get("k").await.unwrap();
    assert_eq!(old, None, "as it stands there, whatever the session has seen");
    let role: Vec<Value> = redis::cmd("ROLE").query_async(&mut replica).await.unwrap();
    assert_eq!(role[0], bulk("slave"));
    let error = replica.set::<_, _, ()>("k", 1).await.unwrap_err();
    assert_eq!(error.code(), Some("READONLY"));
    let mut primary = client.primary_node();
    assert_eq!(primary.address(), topology.primary().addr().to_string());
    let (new, n): (String, u32) = redis::pipe()
        .atomic()
        .get("k")
        .incr("n", 1)
        .query_async(&mut primary)
        .await
        .unwrap();
    assert_eq!((new.as_str(), n), ("new", 1));
    for words in [&["MULTI"][..], &["BLPOP", "k", "0"]] {
        let error = primary.call(redis::Cmd::new().arg(words)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
    assert_eq!(client.node("nowhere:1").unwrap_err().kind(), ErrorKind::Config);
}
