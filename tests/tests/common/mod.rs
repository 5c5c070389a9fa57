//! What the integration tests share.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]
#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod services;

use std::{
    io::Write,
    time::{Duration, Instant},
};

use highwater::{Client, ClientBuilder, Command, Marks, Reply, Route, Session};
use highwater_testkit::{Mark, Relay, Server, Topology, wait_until_async};

/// Long enough for anything that happens at all, also on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Primaries with this don't move their offset by themselves.
pub(crate) const NO_PINGS: [&str; 2] = ["--repl-ping-replica-period", "3600"];

/// Says something even of a test that passes, whose output is not shown.
pub(crate) fn note(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}

/// True, with a word on it, where the server has no such command to test.
pub(crate) fn lacks(server: &Server, command: &str) -> bool {
    let lacks = !server.knows(command).expect("the server runs");
    if lacks {
        note(&format!(
            "left out: this {} has no {command}",
            server.kind().program()
        ));
    }
    lacks
}

/// A primary and its replicas, whose offsets only writes move.
pub(crate) fn quiet(replicas: usize) -> Topology {
    Topology::builder()
        .replicas(replicas)
        .primary_args(NO_PINGS)
        .start()
        .expect("servers")
}

/// A builder for a client of the whole topology.
pub(crate) fn builder(topology: &Topology) -> ClientBuilder {
    topology.replicas().fold(
        Client::builder().primary(topology.primary().url()),
        |builder, replica| builder.replica(replica.url()),
    )
}

/// A client of the whole topology.
pub(crate) async fn client(topology: &Topology) -> Client {
    builder(topology).connect().await.expect("the servers run")
}

/// A builder for a client that reaches the primary through a relay, so that it can be cut off or moved.
pub(crate) fn builder_through(front: &Relay, topology: &Topology) -> ClientBuilder {
    topology
        .replicas()
        .fold(Client::builder().primary(front.url()), |builder, replica| {
            builder.replica(replica.url())
        })
}

/// `GET key` under the session.
pub(crate) fn get(key: &str, session: &Session) -> Command {
    Command::new(redis::cmd("GET").arg(key)).session(session)
}

/// `SET key value` under the session.
pub(crate) fn set(key: &str, value: &str, session: &Session) -> Command {
    Command::new(redis::cmd("SET").arg(key).arg(value)).session(session)
}

/// Reads until a replica answers: where a read goes is up to hints, which may be old for a moment. Every
/// reply on the way must have this value.
pub(crate) async fn from_a_replica(client: &Client, read: &Command, value: &redis::Value) -> Reply {
    let deadline = Instant::now() + SOON;
    loop {
        let reply = client.call(read.clone()).await.expect("reads work");
        assert_eq!(reply.value, *value, "{read:?} from {:?}", reply.route);
        if reply.route == Route::Replica {
            return reply;
        }
        assert!(
            Instant::now() < deadline,
            "no replica answers: {:?}",
            client.status()
        );
        tokio::task::yield_now().await;
    }
}

/// A bulk reply.
pub(crate) fn bulk(text: &str) -> redis::Value {
    redis::Value::BulkString(text.as_bytes().to_vec())
}

/// The one place that the session's writes are at, if there is exactly one and it is known.
pub(crate) fn written(session: &Session) -> Option<Mark> {
    place(&session.marks())
}

/// The one place that the writes of these marks are at, if there is exactly one and it is known.
pub(crate) fn place(marks: &Marks) -> Option<Mark> {
    let mut written = marks.written();
    let (mark, None) = (written.next()?, written.next()) else {
        return None;
    };
    let history = mark
        .history
        .to_string()
        .parse()
        .expect("it prints what servers print");
    Some(Mark::new(history, mark.offset.position()?))
}

/// True when some write of the session has no known place.
pub(crate) fn in_doubt(session: &Session) -> bool {
    session.marks().written().any(|mark| mark.offset.is_unknown())
}

/// A field of one of the server's INFO sections, if it has it.
fn field(server: &Server, section: &str, field: &str) -> Option<String> {
    let info = server.command(&["INFO", section]).expect("the server runs");
    let line = info
        .text()?
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    Some(line?.trim().to_owned())
}

/// A field of one of the server's INFO sections.
pub(crate) fn info(server: &Server, section: &str, name: &str) -> String {
    field(server, section, name).unwrap()
}

/// Until so many clients block at the server.
pub(crate) async fn blocked(server: &Server, clients: u32) {
    until(&format!("{clients} blocked clients"), || {
        info(server, "clients", "blocked_clients") == clients.to_string()
    })
    .await;
}

/// One of the server's counts of a command.
fn count(server: &Server, command: &str, what: &str) -> u64 {
    let counts = field(server, "commandstats", &format!("cmdstat_{command}")).unwrap_or_default();
    let count = counts
        .split(',')
        .find_map(|count| count.strip_prefix(what)?.strip_prefix('='));
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// How often a server has carried out a command since its statistics were last reset.
pub(crate) fn calls(server: &Server, command: &str) -> u64 {
    count(server, command, "calls")
}

/// How often it has refused it.
pub(crate) fn rejected(server: &Server, command: &str) -> u64 {
    count(server, command, "rejected_calls")
}

/// Polls a condition of the client's until it holds.
pub(crate) async fn until(what: &str, condition: impl FnMut() -> bool) {
    wait_until_async(SOON, what, condition).await.unwrap();
}

/// Moves the client's primary to a promoted replica, and waits until the client is in its history.
pub(crate) async fn fail_over(client: &Client, front: &Relay, topology: &Topology, to: usize) {
    let before = client.status().primary.history;
    topology.promote(to).unwrap();
    front.set_target(topology.replica(to).addr());
    front.cut();
    until("the client follows the promoted replica", || {
        let primary = client.status().primary;
        primary.history.is_some() && primary.history != before && primary.role == Some("primary")
    })
    .await;
}
