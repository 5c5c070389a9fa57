//! Every way to connect, each against real servers: addresses, passwords, rights, TLS, RESP2, several
//! connections, and the beginning and end of a client.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't go on must stop, in its helpers too"
)]

#[path = "../common/mod.rs"]
mod common;

mod addresses;
mod lifecycle;
mod resp2;
mod rights;
mod several;
mod tls;

use std::time::Duration;

use common::note;
use highwater::{Client, Command, Error, Reply, Session, redis::Value};
use highwater_testkit::{Server, Topology};

const SOON: Duration = Duration::from_secs(10);

fn get(key: &str, session: &Session) -> Command {
    Command::new(redis::cmd("GET").arg(key)).session(session)
}

fn bulk(text: &str) -> Value {
    Value::BulkString(text.into())
}

/// `redis://USER:PASSWORD@127.0.0.1:PORT`
fn url_of(server: &Server, login: &str) -> String {
    format!("redis://{login}@127.0.0.1:{}", server.port())
}

/// Why connecting fails.
async fn refusal(builder: highwater::ClientBuilder) -> Error {
    builder.connect().await.map(drop).unwrap_err()
}

/// Writes and reads under one session until a replica answers, and returns that answer.
async fn read_from_a_replica(client: &Client, topology: &Topology, session: &Session, key: &str) -> Reply {
    topology.wait_in_sync(SOON).unwrap();
    tokio::time::timeout(SOON, async {
        loop {
            let reply = client.call(get(key, session)).await.unwrap();
            if reply.route == highwater::Route::Replica {
                return reply;
            }
        }
    })
    .await
    .expect("a replica that is in sync answers")
}
