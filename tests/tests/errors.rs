//! Errors say what to do next, and none invites to repeat a write in doubt.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

mod common;

use common::{SOON, get, until};
use highwater::{Client, Consistency, Error, ErrorKind, History, Mark, Offset, Policy, Scope, Session};
use highwater_testkit::{Relay, Topology};
use redis::{AsyncCommands, RedisError, RetryMethod};

fn no_repetition(error: &RedisError) {
    assert!(matches!(error.retry_method(), RetryMethod::NoRetry), "{error}");
    assert!(
        !error.is_connection_dropped() && !error.is_timeout() && !error.is_cluster_error(),
        "{error}"
    );
}

const KEY: &str = "the-key-of-the-write";

#[tokio::test(flavor = "multi_thread")]
async fn a_write_in_doubt_carries_no_hint_to_repeat_it() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let front = Relay::start(topology.primary().addr()).unwrap();
    let client = common::builder_through(&front, &topology)
        .response_timeout(SOON)
        .connect()
        .await
        .unwrap();
    for way in ["command", "pipeline", "transaction", "script"] {
        until("the primary is there", || {
            client.status().primary.connection == "up"
        })
        .await;
        // It goes out, and no further than its key.
        front.hold_when(KEY);
        let session = Session::new();
        let mut connection = client.with(&session);
        let write = tokio::spawn(async move {
            match way {
                "command" => connection.incr::<_, _, ()>(KEY, 1).await,
                "pipeline" => {
                    redis::pipe()
                        .get(KEY)
                        .incr(KEY, 1)
                        .query_async(&mut connection)
                        .await
                }
                "transaction" => {
                    redis::pipe()
                        .atomic()
                        .incr(KEY, 1)
                        .query_async(&mut connection)
                        .await
                }
                _ => {
                    redis::cmd("EVAL")
                        .arg("return redis.call('INCR', KEYS[1])")
                        .arg(1)
                        .arg(KEY)
                        .query_async(&mut connection)
                        .await
                }
            }
        });
        front.wait_held(SOON).await.unwrap();
        front.cut();
        let error = write.await.unwrap().unwrap_err();
        assert_eq!(Error::of(&error).unwrap().kind(), ErrorKind::InDoubt, "{way}");
        no_repetition(&error);
        assert!(
            session.marks().written().any(|mark| mark.offset.is_unknown()),
            "{way}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_in_practice_says_what_to_do_next() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let mut errors = vec![
        Client::builder().connect().await.unwrap_err(),
        Client::builder().primary("nonsense").connect().await.unwrap_err(),
        Client::builder()
            .primary("redis://127.0.0.1:1")
            .connect()
            .await
            .unwrap_err(),
        Client::builder()
            .primary(topology.replica(0).url())
            .connect()
            .await
            .unwrap_err(),
        Client::builder()
            .scope("")
            .primary(topology.primary().url())
            .connect()
            .await
            .unwrap_err(),
    ];
    let client = common::builder(&topology)
        .on_unknown_history(Policy::Error)
        .max_in_flight(1)
        .connect()
        .await
        .unwrap();
    errors.push(client.call(redis::cmd("WATCH").arg("k")).await.unwrap_err());
    errors.push(client.call(redis::cmd("GET")).await.unwrap_err());
    let stranger = Session::new();
    let history = History::from_bytes([0xab; 20]);
    stranger.add_written(&Mark {
        scope: Scope::default(),
        history,
        offset: Offset::at(7),
    });
    errors.push(client.call(get("k", &stranger)).await.unwrap_err());
    topology.primary().kill();
    until("the primary is gone", || {
        client.status().primary.connection == "down"
    })
    .await;
    let read = get("k", &Session::new()).level(Consistency::Primary);
    errors.push(client.call(read).await.unwrap_err());

    let kinds: Vec<_> = errors.iter().map(Error::kind).collect();
    assert_eq!(
        kinds,
        [
            ErrorKind::Config,
            ErrorKind::Config,
            ErrorKind::Unavailable,
            ErrorKind::Config,
            ErrorKind::Config,
            ErrorKind::Unsupported,
            ErrorKind::Server,
            ErrorKind::UnknownHistory,
            ErrorKind::Unavailable,
        ]
    );
    for error in errors {
        let (message, advice) = (error.to_string(), error.kind().advice());
        assert!(message.ends_with(advice), "{message}");
        assert_eq!(message.matches(advice).count(), 1, "{message}");
    }
}
