//! Layers of the user's own around the command stack.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

mod common;

use std::{
    error::Error as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use common::{SOON, get, until};
use highwater::{Client, ClientBuilder, Command, CommandService, Consistency, ErrorKind, Session};
use highwater_testkit::Topology;
use redis::{AsyncCommands, RetryMethod};
use tower::{
    BoxError, Service, ServiceBuilder, ServiceExt, layer::layer_fn, limit::ConcurrencyLimitLayer,
    load_shed::LoadShedLayer, service_fn, timeout::TimeoutLayer,
};

fn set(key: &str, value: u32, session: &Session) -> Command {
    Command::new(redis::cmd("SET").arg(key).arg(value)).session(session)
}

fn builder(topology: &Topology) -> ClientBuilder {
    common::builder(topology).response_timeout(SOON)
}

/// The kinds of errors that a command ends with, each way in.
async fn each_way(client: &Client, command: &Command, session: &Session) -> Vec<ErrorKind> {
    let direct = client.call(command.clone()).await.unwrap_err();
    let service = client.clone().oneshot(command.clone()).await.unwrap_err();
    let write = client.with(session).set::<_, _, ()>("k", 1).await.unwrap_err();
    assert!(matches!(write.retry_method(), RetryMethod::NoRetry));
    vec![
        direct.kind(),
        service.kind(),
        highwater::Error::of(&write).unwrap().kind(),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_times_out_is_in_doubt_until_its_connection_settles_it() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let impatient = builder(&topology)
        .layer(TimeoutLayer::new(Duration::from_millis(50)))
        .connect()
        .await
        .unwrap();
    let patient = builder(&topology).connect().await.unwrap();
    let session = Session::new();

    topology.primary().pause().unwrap();
    let kinds = each_way(&impatient, &set("k", 1, &session), &session).await;
    assert_eq!(kinds, [ErrorKind::InDoubt; 3]);
    assert!(session.marks().written().any(|mark| mark.offset.is_unknown()));
    let read = get("k", &Session::new()).level(Consistency::Primary);
    let error = impatient.call(read).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(redis::RedisError::from(error).is_timeout());
    topology.primary().resume().unwrap();

    // Nobody waits for the writes any more, and still the session learns where they are.
    until("the doubt is settled", || {
        session.marks().written().count() > 0
            && session.marks().written().all(|mark| !mark.offset.is_unknown())
    })
    .await;
    let seen: u32 = patient.with(&session).get("k").await.unwrap();
    assert_eq!(seen, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn shed_load_is_overload() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = builder(&topology)
        .layer(LoadShedLayer::new())
        .layer(ConcurrencyLimitLayer::new(1))
        .connect()
        .await
        .unwrap();
    topology.primary().pause().unwrap();
    let (first, session) = (client.clone(), Session::new());
    let mark = session.clone();
    let first = tokio::spawn(async move { first.call(set("k", 7, &mark)).await });
    until("the first command is under way", || {
        client.status().primary.in_flight == 1
    })
    .await;
    let other = Session::new();
    let kinds = each_way(&client, &set("k", 8, &other), &other).await;
    assert_eq!(kinds, [ErrorKind::Overloaded; 3]);
    // Nothing was sent, so nothing is in doubt.
    assert!(other.marks().is_empty());
    topology.primary().resume().unwrap();
    first.await.unwrap().unwrap();
    let seen: u32 = client.with(&session).get("k").await.unwrap();
    assert_eq!(seen, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layers_own_error_is_the_source() {
    let topology = Topology::builder().start().unwrap();
    let broken = layer_fn(|_: CommandService| {
        service_fn(|_: Command| async { Err::<highwater::Reply, BoxError>("the fuse has blown".into()) })
    });
    let client = builder(&topology).layer(broken).connect().await.unwrap();
    let session = Session::new();
    let kinds = each_way(&client, &set("k", 1, &session), &session).await;
    assert_eq!(kinds, [ErrorKind::Layer; 3]);
    let error = client.call(get("k", &session)).await.unwrap_err();
    assert_eq!(error.source().unwrap().to_string(), "the fuse has blown");
    assert!(error.to_string().contains("the fuse has blown"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_in_goes_through_the_layers_the_first_being_the_outermost() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let count = Arc::new(AtomicUsize::new(0));
    let named = |name: &'static str| {
        let (order, count) = (Arc::clone(&order), Arc::clone(&count));
        ServiceBuilder::new()
            .map_request(move |command: Command| {
                order.lock().unwrap().push(name);
                count.fetch_add(1, SeqCst);
                command
            })
            .into_inner()
    };
    let mut client = builder(&topology)
        .layer(named("outer"))
        .layer(named("inner"))
        .connect()
        .await
        .unwrap();
    let session = Session::new();
    client.call(set("k", 1, &session)).await.unwrap();
    assert_eq!(*order.lock().unwrap(), ["outer", "inner"]);
    let () = client.with(&session).set("k", 2).await.unwrap();
    let () = redis::pipe()
        .set("k", 3)
        .ignore()
        .query_async(&mut client.with(&session))
        .await
        .unwrap();
    let _: u32 = client.without_session().get("k").await.unwrap();
    let reply = Service::call(&mut client, get("k", &session)).await.unwrap();
    assert_eq!(reply.value, redis::Value::BulkString(b"3".to_vec()));
    assert_eq!(count.load(SeqCst), 2 * 5);
    // The server's own errors, and the client's, pass through as they are.
    let error = client
        .call(redis::cmd("HGET").arg("k").arg("f"))
        .await
        .unwrap_err();
    assert_eq!(error.server_error().unwrap().code(), Some("WRONGTYPE"));
    let error = client.call(redis::cmd("WATCH").arg("k")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}
