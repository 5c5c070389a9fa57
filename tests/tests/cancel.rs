//! Callers that go away at any moment: their writes leave doubt until the connection settles it, and
//! nobody else notices.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod common;

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use common::{NO_PINGS, SOON, bulk, get, in_doubt, quiet, set, written};
use highwater::{Client, Command, Consistency, ErrorKind, Marks, Session};
use highwater_testkit::{Directions, Relay, Topology, wait_until_async};
use redis::AsyncCommands;

/// Polls a future so many times, and drops it. True when it was ready before.
fn poll_and_drop(future: impl Future, polls: usize) -> bool {
    let mut future = pin!(future);
    (0..polls).any(|_| {
        future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_ready()
    })
}

/// A client whose connection to the primary goes through a relay.
async fn relayed(topology: &Topology) -> (Relay, Client) {
    let relay = Relay::start(topology.primary().addr()).unwrap();
    let client = Client::builder()
        .primary(relay.url())
        .replica(topology.replica(0).url())
        .response_timeout(2 * SOON)
        .connect()
        .await
        .unwrap();
    (relay, client)
}

async fn settled(session: &Session) {
    wait_until_async(SOON, "the connection settles the write", || !in_doubt(session))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_write_is_in_doubt_until_its_connection_settles_it() {
    let topology = quiet(1);
    let (relay, client) = relayed(&topology).await;
    for polls in 0..5 {
        // Held on the way there (not applied), or on the way back (applied, and nobody knows).
        for directions in [Directions::ToTarget, Directions::ToClient] {
            let session = Session::new();
            let key = format!("k:{polls}:{directions:?}");
            let before = topology.primary().mark().unwrap();
            relay.impair(directions);
            relay.pause();
            assert!(!poll_and_drop(client.call(set(&key, "v", &session)), polls));
            assert_eq!(in_doubt(&session), polls > 0, "{polls} polls, {directions:?}");
            if polls > 0 && directions == Directions::ToClient {
                topology
                    .primary()
                    .wait_for(SOON, "the write has been applied", |info| {
                        info.applied() > before.offset
                    })
                    .unwrap();
                assert!(in_doubt(&session));
            }
            relay.resume();
            if polls == 0 {
                assert!(session.marks().is_empty());
                continue;
            }
            settled(&session).await;
            let after = topology.primary().mark().unwrap();
            assert!(after.offset > before.offset);
            assert_eq!(
                written(&session),
                Some(after),
                "exactly there: nobody else writes"
            );
            topology.wait_applied(0, after, SOON).unwrap();
            common::from_a_replica(&client, &get(&key, &session), &bulk("v")).await;
        }
    }
}

/// The same in the wild: nothing is held, and the drop meets the reply at any moment.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_dropped_at_any_moment_is_in_the_mark() {
    let topology = Topology::builder()
        .replicas(1)
        .delay(Duration::from_millis(20))
        .primary_args(NO_PINGS)
        .start()
        .unwrap();
    let client = common::client(&topology).await;
    for round in 0..300_usize {
        let session = Session::new();
        let key = format!("k:{round}");
        {
            let write = client.call(set(&key, "v", &session));
            let mut write = pin!(write);
            let mut polls = round % 6;
            poll_fn(|context| {
                if polls == 0 {
                    return Poll::Ready(());
                }
                polls -= 1;
                match write.as_mut().poll(context) {
                    Poll::Ready(outcome) => {
                        outcome.unwrap();
                        polls = 0;
                        Poll::Ready(())
                    }
                    Poll::Pending => {
                        std::thread::yield_now();
                        context.waker().wake_by_ref();
                        Poll::Pending
                    }
                }
            })
            .await;
        }
        let sent = round % 6 > 0;
        // In doubt or settled by now: either way the read shows the write if it has been sent.
        let reply = client.call(get(&key, &session)).await.unwrap();
        let expected = if sent { bulk("v") } else { redis::Value::Nil };
        assert_eq!(reply.value, expected, "round {round}, from {:?}", reply.route);
        assert_eq!(session.marks().is_empty(), !sent);
        settled(&session).await;
        assert_eq!(written(&session).is_some(), sent);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_dropped_while_it_waits_in_line_never_happens() {
    let topology = quiet(1);
    let relay = Relay::start(topology.primary().addr()).unwrap();
    let client = Client::builder()
        .primary(relay.url())
        .max_in_flight(1)
        .response_timeout(2 * SOON)
        .connect()
        .await
        .unwrap();
    relay.pause();
    let (first, second) = (Session::new(), Session::new());
    let write = tokio::spawn({
        let (client, first) = (client.clone(), first.clone());
        async move { client.call(set("first", "1", &first)).await }
    });
    wait_until_async(SOON, "the first write is applied", || {
        topology
            .primary()
            .command(&["EXISTS", "first"])
            .unwrap()
            .integer()
            == Some(1)
    })
    .await
    .unwrap();
    for polls in 0..4 {
        assert!(!poll_and_drop(client.call(set("second", "1", &second)), polls));
        assert!(second.marks().is_empty());
    }
    relay.resume();
    write.await.unwrap().unwrap();
    // The place in line was not lost with those who left it.
    for _ in 0..3 {
        let reply = client.call(get("second", &second)).await.unwrap();
        assert_eq!(reply.value, redis::Value::Nil);
    }
}

/// The bound on what is in flight makes callers wait, and fails nobody.
#[tokio::test(flavor = "multi_thread")]
async fn callers_wait_in_line_without_errors() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    for bound in [1, 2, 7] {
        let client = common::builder(&topology)
            .max_in_flight(bound)
            .connect()
            .await
            .unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for caller in 0..16_u32 {
            let client = client.clone();
            tasks.spawn(async move {
                let session = Session::new();
                let key = format!("caller:{caller}");
                for round in 0..100_u32 {
                    client
                        .call(set(&key, &round.to_string(), &session))
                        .await
                        .unwrap();
                    let reply = client.call(get(&key, &session)).await.unwrap();
                    assert_eq!(reply.value, bulk(&round.to_string()));
                }
            });
        }
        while let Some(outcome) = tasks.join_next().await {
            outcome.unwrap();
        }
    }
}

/// 100 callers who check every value, among callers who go away at any moment.
#[tokio::test(flavor = "multi_thread")]
async fn dropped_calls_shift_no_reply() {
    let topology = Topology::builder().replicas(2).start().unwrap();
    let client = common::client(&topology).await;
    let start = Arc::new(tokio::sync::Barrier::new(100));
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..100_u32 {
        let (client, start) = (client.clone(), Arc::clone(&start));
        tasks.spawn(async move {
            let session = Session::new();
            let key = format!("caller:{caller}");
            let junk = format!("junk:{caller}");
            start.wait().await;
            for round in 0..60_u32 {
                let value = format!("{caller}:{round}");
                poll_and_drop(client.call(set(&junk, &value, &session)), fastrand::usize(..4));
                client.call(set(&key, &value, &session)).await.unwrap();
                poll_and_drop(client.call(get(&junk, &session)), fastrand::usize(..4));
                let reply = client.call(get(&key, &session)).await.unwrap();
                assert_eq!(reply.value, bulk(&value), "from {:?}", reply.route);
                let mut pipeline = redis::pipe();
                pipeline
                    .cmd("ECHO")
                    .arg(&value)
                    .cmd("GET")
                    .arg(&key)
                    .cmd("STRLEN")
                    .arg(&key);
                poll_and_drop(
                    client.call(Command::pipeline(&pipeline).session(&session)),
                    fastrand::usize(..3),
                );
                let (echo, seen, len): (String, String, usize) =
                    pipeline.query_async(&mut client.with(&session)).await.unwrap();
                assert_eq!(
                    (echo.as_str(), seen.as_str(), len),
                    (value.as_str(), value.as_str(), value.len())
                );
            }
            settled(&session).await;
            assert!(written(&session).is_some());
        });
    }
    while let Some(outcome) = tasks.join_next().await {
        outcome.unwrap();
    }
    assert_eq!(
        client
            .status()
            .replicas
            .iter()
            .map(|replica| replica.disconnects)
            .sum::<u64>(),
        0
    );
}

/// Values that don't fit into a socket's buffer: writes get stuck half-way, replies come in many pieces,
/// and callers go away meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn large_values_shift_no_reply() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let (relay, client) = relayed(&topology).await;
    relay.fragment(256 * 1024, Duration::ZERO);
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..6_usize {
        let client = client.clone();
        tasks.spawn(async move {
            let session = Session::new();
            let key = format!("caller:{caller}");
            for round in 0..4_usize {
                let digit = char::from(b'a' + u8::try_from(caller * 4 + round).unwrap());
                let value = digit.to_string().repeat((1 << 20) * (1 + caller % 3) + round);
                poll_and_drop(
                    client.call(set(&format!("{key}:junk"), &value, &session)),
                    round % 3,
                );
                client.call(set(&key, &value, &session)).await.unwrap();
                poll_and_drop(client.call(get(&key, &session)), round % 3);
                let small = client.call(set(&format!("{key}:small"), "s", &session));
                let large = client.call(get(&key, &session));
                let (small, large) = tokio::join!(small, large);
                assert_eq!(small.unwrap().value, redis::Value::Okay);
                let large = large.unwrap();
                assert!(
                    large.value == bulk(&value),
                    "caller {caller}, round {round}, from {:?}",
                    large.route
                );
            }
            settled(&session).await;
        });
    }
    while let Some(outcome) = tasks.join_next().await {
        outcome.unwrap();
    }
}

/// A client can't work without the runtime that it was made on, and says so at once.
#[test]
fn a_client_without_its_runtime_fails_and_does_not_hang() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let first = runtime();
    let client = first.block_on(common::client(&topology));
    let session = Session::new();
    first.block_on(client.call(set("k", "v", &session))).unwrap();
    drop(first);
    runtime().block_on(async {
        for session in [session, Session::new(), Session::resume(Marks::in_doubt())] {
            for command in [get("k", &session), set("k", "w", &session)] {
                let outcome = tokio::time::timeout(SOON, client.call(command))
                    .await
                    .expect("an answer");
                let error = outcome.unwrap_err();
                assert!(
                    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Disconnected),
                    "{error}"
                );
            }
            assert!(!in_doubt(&session));
        }
    });
}

/// Commands that would leave the shared connection in another state, or with a reply too few.
#[tokio::test(flavor = "multi_thread")]
async fn no_unit_of_commands_spoils_the_shared_connection() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = common::client(&topology).await;
    let mut half_open = redis::pipe();
    half_open.cmd("MULTI").cmd("SET").arg("k").arg(1);
    let mut closing = redis::pipe();
    closing.cmd("GET").arg("k").cmd("EXEC");
    let mut reopened = redis::pipe();
    reopened
        .atomic()
        .cmd("SET")
        .arg("k")
        .arg(1)
        .cmd("EXEC")
        .cmd("MULTI");
    let mut with_nothing = redis::pipe();
    with_nothing
        .cmd("SET")
        .arg("k")
        .arg(1)
        .add_command(redis::Cmd::new());
    let mut state = redis::pipe();
    state.cmd("GET").arg("k").cmd("CLIENT").arg("TRACKING").arg("OFF");
    for (what, unit) in [
        ("MULTI without EXEC", half_open),
        ("EXEC without MULTI", closing),
        ("EXEC and MULTI in a transaction", reopened),
        ("an empty command in a pipeline", with_nothing),
        ("tracking off", state),
        ("an empty pipeline", redis::pipe()),
    ] {
        let session = Session::new();
        let outcome =
            tokio::time::timeout(SOON, client.call(Command::pipeline(&unit).session(&session))).await;
        if let Err(error) = outcome.unwrap_or_else(|_| panic!("{what}: no answer")) {
            assert!(
                matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Server),
                "{what}: {error}"
            );
        }
        for level in [
            Consistency::ReadYourWrites,
            Consistency::Primary,
            Consistency::Monotonic,
        ] {
            for round in 0..3_u32 {
                let mut connection = client.with(&session).at(level);
                let () = connection
                    .set("mine", round)
                    .await
                    .unwrap_or_else(|error| panic!("{what}: {error}"));
                let seen: u32 = connection
                    .get("mine")
                    .await
                    .unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(seen, round, "{what}");
            }
        }
        assert!(!in_doubt(&session), "{what}");
    }
    let error = client.call(redis::Cmd::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}
