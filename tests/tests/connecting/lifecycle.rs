//! The beginning and the end of a client: lazily, ready, shut down, dropped.

use std::time::Duration;

use highwater::{Client, Command, Error, ErrorKind, Reason, Session};
use highwater_testkit::{Relay, Server, Topology, wait_until_async};
use redis::AsyncCommands;
use tokio::runtime::Handle;

use crate::{SOON, bulk, get};

/// Waits until this runtime has no task but those that the test itself has.
async fn no_task_is_left() {
    wait_until_async(SOON, "no task is left", || {
        Handle::current().metrics().num_alive_tasks() == 0
    })
    .await
    .unwrap();
}

fn connections(server: &Server) -> usize {
    let list = server.command(&["CLIENT", "LIST"]).unwrap();
    list.text().unwrap().matches("name=highwater ").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lazy_client_connects_when_the_server_comes() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let relay = Relay::start(topology.primary().addr()).unwrap();
    relay.refuse(true);
    let client = Client::builder()
        .primary(relay.url())
        .replica(topology.replica(0).url())
        .connect_lazy()
        .unwrap();
    // The first use waits for the first attempt, and learns what came of it.
    let error = client
        .call(get("k", &Session::new()).level(highwater::Consistency::Primary))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(!client.is_ready());
    let error = client.ready(Duration::from_millis(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    relay.refuse(false);
    client.ready(SOON).await.unwrap();
    assert!(client.is_ready());
    let session = Session::new();
    let () = client.with(&session).set("k", "v").await.unwrap();
    assert_eq!(client.call(get("k", &session)).await.unwrap().value, bulk("v"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_use_of_a_lazy_client_waits_for_the_connection() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = Client::builder()
        .primary(topology.primary().url())
        .replica(topology.replica(0).url())
        .connect_lazy()
        .unwrap();
    let session = Session::new();
    let () = client.with(&session).set("k", "v").await.unwrap();
    // By now the server's own table is there: XREAD without BLOCK is a read, JSON.GET is unknown.
    assert_eq!(client.call(get("k", &session)).await.unwrap().value, bulk("v"));
    crate::read_from_a_replica(&client, &topology, &session, "k").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_at_the_first_use() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let error = Client::builder()
        .primary("nonsense")
        .connect_lazy()
        .map(drop)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);

    topology
        .primary()
        .command(&["CONFIG", "SET", "requirepass", "s3cret"])
        .unwrap();
    let client = Client::builder()
        .primary(topology.primary().url())
        .connect_lazy()
        .unwrap();
    for error in [
        client.call(redis::cmd("GET").arg("k")).await.unwrap_err(),
        client.ready(SOON).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("put it into the URL"), "{error}");
    }
    let client = Client::builder()
        .primary(topology.replica(0).url())
        .connect_lazy()
        .unwrap();
    let error = client.ready(SOON).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(
        error.to_string().contains("is a replica, not the primary"),
        "{error}"
    );
    assert!(!client.is_ready());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_waits_for_what_is_in_flight() {
    for protocol in ["resp3", "resp2"] {
        let topology = Topology::builder().replicas(1).start().unwrap();
        let relay = Relay::start(topology.primary().addr()).unwrap();
        let client = Client::builder()
            .primary(format!("{}?protocol={protocol}", relay.url()))
            .replica(topology.replica(0).url())
            .response_timeout(Duration::from_secs(30))
            .connect()
            .await
            .unwrap();
        relay.pause();
        let session = Session::new();
        let writing = {
            let mut connection = client.with(&session);
            tokio::spawn(async move { connection.set::<_, _, ()>("k", "v").await })
        };
        wait_until_async(SOON, "the write is in flight", || {
            client.status().primary.in_flight == 1
        })
        .await
        .unwrap();
        let ending = {
            let client = client.clone();
            tokio::spawn(async move { client.shutdown().await })
        };
        wait_until_async(SOON, "the client takes no requests", || !client.is_ready())
            .await
            .unwrap();
        for error in [
            client.call(redis::cmd("GET").arg("k")).await.unwrap_err(),
            client
                .ready(SOON)
                .await
                .map_or_else(|error| error, |()| panic!("not ready")),
        ] {
            assert!(matches!(error.kind(), ErrorKind::Closed), "{error}");
        }
        let error = client
            .with(&session)
            .set::<_, _, ()>("k", "late")
            .await
            .unwrap_err();
        let error = Error::of(&error).unwrap();
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert!(error.to_string().contains("has been shut down"), "{error}");
        assert!(!ending.is_finished());

        relay.resume();
        writing.await.unwrap().unwrap();
        ending.await.unwrap().unwrap();
        assert!(session.marks().written().all(|mark| !mark.offset.is_unknown()));
        no_task_is_left().await;
        // Once more is no harm.
        client.shutdown().await.unwrap();
        wait_until_async(SOON, "the connections are closed", || {
            connections(topology.primary()) + connections(topology.replica(0)) == 0
        })
        .await
        .unwrap();
    }
}

/// A write whose caller has gone is waited for, too: the session learns where it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_waits_for_writes_that_nobody_waits_for() {
    let server = Server::start().unwrap();
    let relay = Relay::start(server.addr()).unwrap();
    let client = Client::builder()
        .primary(relay.url())
        .response_timeout(Duration::from_secs(30))
        .shutdown_timeout(SOON)
        .connect()
        .await
        .unwrap();
    relay.pause();
    let session = Session::new();
    let mut connection = client.with(&session);
    let write = tokio::spawn(async move { connection.set::<_, _, ()>("k", "v").await });
    wait_until_async(SOON, "the write is in flight", || {
        client.status().primary.in_flight == 1
    })
    .await
    .unwrap();
    write.abort();
    assert!(write.await.unwrap_err().is_cancelled());
    let ending = {
        let client = client.clone();
        tokio::spawn(async move { client.shutdown().await })
    };
    wait_until_async(SOON, "the connection takes no requests", || !client.is_ready())
        .await
        .unwrap();
    relay.resume();
    ending.await.unwrap().unwrap();
    let marks: Vec<_> = session.marks().written().collect();
    assert!(
        matches!(marks.as_slice(), [mark] if !mark.offset.is_unknown()),
        "{marks:?}"
    );
    no_task_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_has_an_end() {
    let server = Server::start().unwrap();
    let client = Client::builder()
        .primary(server.url())
        .response_timeout(Duration::from_secs(30))
        .shutdown_timeout(Duration::from_millis(50))
        .connect()
        .await
        .unwrap();
    server.pause().unwrap();
    let session = Session::new();
    let writing = {
        let mut connection = client.with(&session);
        tokio::spawn(async move { connection.set::<_, _, ()>("k", "v").await })
    };
    wait_until_async(SOON, "the write is in flight", || {
        client.status().primary.in_flight == 1
    })
    .await
    .unwrap();
    let error = client.shutdown().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    assert!(error.to_string().contains("cut off"), "{error}");
    let error = writing.await.unwrap().unwrap_err();
    assert_eq!(Error::of(&error).unwrap().kind(), ErrorKind::InDoubt);
    no_task_is_left().await;
}

/// Connections of callers' own, and commands that block, end with the client, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_ends_connections_of_callers_own() {
    let server = Server::start().unwrap();
    for answered in [true, false] {
        let client = Client::builder()
            .primary(server.url())
            .shutdown_timeout(if answered { SOON } else { Duration::from_millis(50) })
            .connect()
            .await
            .unwrap();
        let session = Session::new();
        let mut dedicated = client.dedicated(&session).await.unwrap();
        let () = dedicated.set("k", "v").await.unwrap();
        let blocking = {
            let (client, session) = (client.clone(), session.clone());
            let command = redis::cmd("BLPOP").arg("list").arg(0).to_owned();
            tokio::spawn(async move { client.call(Command::new(&command).session(&session)).await })
        };
        crate::common::blocked(&server, 1).await;
        let ending = {
            let client = client.clone();
            tokio::spawn(async move { client.shutdown().await })
        };
        wait_until_async(SOON, "the client takes no requests", || !client.is_ready())
            .await
            .unwrap();
        let error = dedicated.set::<_, _, ()>("k", "late").await.unwrap_err();
        assert_eq!(Error::of(&error).unwrap().kind(), ErrorKind::Closed);
        let error = client.dedicated(&session).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        if answered {
            server.command(&["RPUSH", "list", "element"]).unwrap();
            blocking.await.unwrap().unwrap();
            ending.await.unwrap().unwrap();
            assert!(session.marks().written().all(|mark| !mark.offset.is_unknown()));
        } else {
            let error = ending.await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Disconnected);
            let error = blocking.await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InDoubt);
        }
        no_task_is_left().await;
        wait_until_async(SOON, "the connections are closed", || connections(&server) == 0)
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_while_nothing_is_connected() {
    let client = Client::builder()
        .primary("redis://127.0.0.1:1")
        .replica("redis://127.0.0.1:1")
        .connect_lazy()
        .unwrap();
    client.shutdown().await.unwrap();
    no_task_is_left().await;
    let error = client.call(redis::cmd("GET").arg("k")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_last_handle_ends_everything() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = crate::common::builder(&topology)
        .connections_per_node(2)
        .connect()
        .await
        .unwrap();
    // A session in doubt has its sample taken by a task of its own.
    let session = Session::resume(highwater::Marks::in_doubt());
    let reply = client.call(get("k", &session)).await.unwrap();
    assert_ne!(reply.reason, Reason::InDoubt);
    let mut connection = client.with(&session);
    let mut dedicated = client.dedicated(&session).await.unwrap();
    let () = dedicated.set("k", "v").await.unwrap();
    drop((client, dedicated));
    assert!(Handle::current().metrics().num_alive_tasks() >= 4);
    let () = connection.set("k", "v").await.unwrap();
    drop(connection);
    no_task_is_left().await;
    wait_until_async(SOON, "the connections are closed", || {
        connections(topology.primary()) + connections(topology.replica(0)) == 0
    })
    .await
    .unwrap();

    // Also while it still tries to connect.
    let frozen = Server::start().unwrap();
    frozen.pause().unwrap();
    let client = Client::builder().primary(frozen.url()).connect_lazy().unwrap();
    drop(client);
    no_task_is_left().await;
}
