//! highwater, as a handler of requests uses it.

use std::collections::HashMap;

use highwater::{Client, Consistency, Session, SessionConnection};
use redis::AsyncCommands;

use super::{Caller, redis_rs::pipeline};

/// A caller with a connection for each of its sessions, or with one that belongs to none. It clones the connection for
/// each use, as callers of the other clients do.
#[derive(Debug)]
pub(super) struct Highwater {
    connections: Vec<SessionConnection>,
    session: usize,
}

impl Highwater {
    pub(super) fn new(client: &Client, sessions: &[Session], level: Option<Consistency>) -> Self {
        let mut connections: Vec<_> = sessions.iter().map(|session| client.with(session)).collect();
        if connections.is_empty() {
            connections.push(client.without_session());
        }
        if let Some(level) = level {
            connections = connections
                .into_iter()
                .map(|connection| connection.at(level))
                .collect();
        }
        Self {
            connections,
            session: 0,
        }
    }

    fn connection(&self) -> SessionConnection {
        self.connections[self.session].clone()
    }
}

impl Caller for Highwater {
    type Bytes = Vec<u8>;

    async fn get(&mut self, key: &str) -> Vec<u8> {
        self.connection().get(key).await.unwrap()
    }

    async fn set(&mut self, key: &str, value: &[u8]) {
        let () = self.connection().set(key, value).await.unwrap();
    }

    async fn get_all(&mut self, keys: &[String]) -> Vec<Vec<u8>> {
        pipeline(keys).query_async(&mut self.connection()).await.unwrap()
    }

    async fn hash(&mut self, key: &str) -> HashMap<String, String> {
        self.connection().hgetall(key).await.unwrap()
    }

    fn turn_to(&mut self, session: usize) {
        self.session = session;
    }
}
