//! Spans and events say where replies came from and why, and never a key, a value or a password.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

mod common;

use std::{
    io,
    sync::{Arc, Mutex},
};

use common::{SOON, fail_over, get, until};
use highwater::{Client, Command, Consistency, ErrorKind, History, Mark, Offset, Scope, Session};
use highwater_testkit::{Relay, Server, Topology};
use redis::AsyncCommands;
use tracing_subscriber::fmt::format::FmtSpan;

const KEY: &str = "k3y-of-ann";
const VALUE: &str = "v4lue-of-ann";
const PASSWORD: &str = "p4ssword-of-ann";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// The error's texts, unless they are the server's own.
fn text_of(error: &highwater::Error) -> String {
    if error.kind() == ErrorKind::Server {
        return String::new();
    }
    format!("{error} {error:?} {:?}", redis::RedisError::from(error.clone()))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_and_no_value_is_told_at_any_level() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(FmtSpan::FULL)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();

    let topology = Topology::builder().replicas(2).start().unwrap();
    let front = Relay::start(topology.primary().addr()).unwrap();
    let client = common::builder_through(&front, &topology)
        .response_timeout(SOON)
        .connect()
        .await
        .unwrap();
    let session = Session::new();
    let mut connection = client.with(&session);
    let mut errors = String::new();

    let () = connection.set(KEY, VALUE).await.unwrap();
    let _: String = connection.get(KEY).await.unwrap();
    topology.wait_in_sync(SOON).unwrap();
    let _: String = connection.get(KEY).await.unwrap();
    let _: (String,) = redis::pipe().get(KEY).query_async(&mut connection).await.unwrap();
    let () = redis::pipe()
        .atomic()
        .set(KEY, VALUE)
        .ignore()
        .query_async(&mut connection)
        .await
        .unwrap();
    let _: String = redis::Script::new("return redis.call('GET', KEYS[1])")
        .key(KEY)
        .invoke_async(&mut connection)
        .await
        .unwrap();

    // Commands that the server or the client refuses.
    for (command, kind) in [
        (redis::cmd("HGET").arg(KEY).arg(VALUE).clone(), ErrorKind::Server),
        (
            redis::cmd("NO-SUCH-COMMAND").arg(KEY).arg(VALUE).clone(),
            ErrorKind::Server,
        ),
        (redis::cmd("WATCH").arg(KEY).clone(), ErrorKind::Unsupported),
        (
            redis::cmd("WAIT").arg(KEY).arg(VALUE).clone(),
            ErrorKind::Unsupported,
        ),
    ] {
        let error = client
            .call(Command::new(&command).session(&session))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), kind);
        errors += &text_of(&error);
    }

    // A write in doubt, and a read whose connection is lost.
    for (command, kind) in [
        (redis::cmd("SET").arg(KEY).arg(VALUE).clone(), ErrorKind::InDoubt),
        (redis::cmd("GET").arg(KEY).clone(), ErrorKind::Disconnected),
    ] {
        until("the primary is there", || {
            client.status().primary.connection == "up"
        })
        .await;
        topology.primary().pause().unwrap();
        let asked = client.clone();
        let command = Command::new(&command)
            .session(&Session::new())
            .level(Consistency::Primary);
        let call = tokio::spawn(async move { asked.call(command).await });
        until("the command is under way", || {
            client.status().primary.in_flight == 1
        })
        .await;
        front.cut();
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), kind);
        errors += &text_of(&error);
        topology.primary().resume().unwrap();
    }
    until("the primary is there", || {
        client.status().primary.connection == "up"
    })
    .await;

    // Marks that can't be honoured, and a failover.
    for _ in 0..100 {
        let stranger = Session::new();
        let history = History::from_bytes([0xab; 20]);
        stranger.add_written(&Mark {
            scope: Scope::default(),
            history,
            offset: Offset::at(7),
        });
        let _ = client.call(get(KEY, &stranger)).await.unwrap();
    }
    fail_over(&client, &front, &topology, 0).await;
    front.refuse(true);
    until("the primary is gone", || {
        client.status().primary.connection == "down"
    })
    .await;
    let error = client
        .call(get(KEY, &Session::new()).level(Consistency::Primary))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    errors += &text_of(&error);

    // A password that the server does not take.
    let server = Server::start().unwrap();
    let url = format!("redis://ann:{PASSWORD}@127.0.0.1:{}", server.port());
    let error = Client::builder().primary(url).connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    errors += &text_of(&error);

    let log = log.text();
    for secret in [KEY, VALUE, PASSWORD] {
        assert!(!errors.contains(secret), "{errors}");
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None);
    }
    // What is told is there.
    for told in [
        r#"read{scope=default route="replica" reason="covered"}: highwater::route: close"#,
        r#"write{scope=default route="primary" reason="command"}: highwater::route: close"#,
        "read{scope=default error=Server}",
        "write{scope=default error=InDoubt}",
        "connection lost node=",
        "connected again node=",
        "history changed node=",
    ] {
        assert!(log.contains(told), "{told}");
    }
    // A hundred reads in a row with an unknown history are a few lines.
    let unmet: Vec<_> = log
        .lines()
        .filter(|line| line.contains("a session's marks can't be honoured"))
        .collect();
    assert!(!unmet.is_empty());
    let told: u64 = unmet.len() as u64;
    let suppressed: u64 = unmet
        .iter()
        .filter_map(|line| line.rsplit_once("suppressed=")?.1.parse::<u64>().ok())
        .sum();
    assert!(told + suppressed <= 102, "{told} told, {suppressed} suppressed");
}
