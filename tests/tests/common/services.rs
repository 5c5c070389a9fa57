//! Sessions of two clients, as a workload's subject.
#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use highwater::{Client, ClientBuilder, Command, ErrorKind, Marks, Reason, Session, SigningKey, TokenCodec};
use highwater_testkit::{Outcome, ReadReply, Route, Subject, Workload};

use super::written;

pub(crate) const MS: Duration = Duration::from_millis(1);
/// Tokens are issued and accepted at this time: their age is not what these tests are about.
const NOW: u64 = 1_800_000_000;
pub(crate) const SESSIONS: usize = 24;

/// Two clients with a codec each stand for two processes; sessions are at one or the other.
pub(crate) struct Services {
    pub(crate) clients: [Client; 2],
    codecs: [TokenCodec; 2],
    pub(crate) sessions: Vec<Session>,
}

impl Services {
    pub(crate) async fn start(builder: impl Fn() -> ClientBuilder) -> Self {
        let connect = async || builder().connect().await.unwrap();
        let codec = || TokenCodec::signed(SigningKey::new("a secret that both processes know").unwrap());
        Self {
            clients: [connect().await, connect().await],
            codecs: [codec(), codec()],
            sessions: (0..SESSIONS).map(|_| Session::new()).collect(),
        }
    }
}

impl Services {
    /// A write by the session, at this one of the clients.
    pub(crate) async fn write_at(&self, client: usize, session: usize, key: u64, version: u64) -> Outcome {
        let command = Command::new(redis::cmd("SET").arg(key).arg(version)).session(&self.sessions[session]);
        match self.clients[client].call(command).await {
            Ok(_) => Outcome::Acknowledged,
            Err(error) if error.kind() == ErrorKind::InDoubt => Outcome::InDoubt,
            Err(_) => Outcome::Refused,
        }
    }
}

impl Subject for Services {
    async fn write(&self, session: usize, key: u64, version: u64) -> Outcome {
        self.write_at(session % 2, session, key, version).await
    }

    async fn read(&self, session: usize, key: u64) -> ReadReply {
        let (client, session) = (&self.clients[session % 2], &self.sessions[session]);
        let mark = written(session);
        let command = Command::new(redis::cmd("GET").arg(key)).session(session);
        let Ok(reply) = client.call(command).await else {
            return ReadReply::failed();
        };
        let route = match reply.route {
            highwater::Route::Cache => Route::Cache,
            highwater::Route::Replica => Route::Replica,
            highwater::Route::Primary => Route::Primary,
            _ => Route::Unknown,
        };
        let seen = ReadReply::seen(redis::from_redis_value(reply.value).unwrap(), route).required(mark);
        match reply.reason {
            Reason::PossiblyLost | Reason::UnknownHistory => seen.guarantees_lost(),
            _ => seen,
        }
    }

    async fn adopt(&self, session: usize, from: usize) {
        let token = self.codecs[from % 2].encode(&self.sessions[from].marks(), NOW);
        let marks = self.codecs[session % 2].decode(token.as_bytes(), NOW);
        self.sessions[session].merge(&marks.unwrap_or_else(|_| Marks::in_doubt()));
    }
}

/// Runs `disturb` again and again while the workload runs, on a thread of its own.
pub(crate) async fn disturbed<T>(
    disturb: impl Fn(&AtomicBool) + Send + 'static,
    run: impl Future<Output = T>,
) -> T {
    let stop = Stop(Arc::default());
    let thread = std::thread::spawn({
        let stop = Arc::clone(&stop.0);
        move || {
            while !stop.load(Ordering::Relaxed) {
                disturb(&stop);
            }
        }
    });
    let outcome = run.await;
    drop(stop);
    thread.join().unwrap();
    outcome
}

/// Stops the disturbances also when the run has failed.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Time that a disturbance lasts, unless the run is over. Nothing waits for anything by it.
pub(crate) fn last(time: Duration, stop: &AtomicBool) {
    let _ = highwater_testkit::wait_until(time, "the run is over", || stop.load(Ordering::Relaxed));
}

/// What the sessions do.
pub(crate) fn workload(operations: u64) -> Workload {
    Workload::new()
        .sessions(SESSIONS)
        .keys_per_session(4)
        .writes(0.1)
        .own_reads(0.6)
        .adoptions(0.02)
        .operations(operations)
        .duration(Duration::from_secs(120))
}
