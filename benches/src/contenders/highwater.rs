//! highwater, as a handler of requests uses it.

use std::collections::HashMap;

use highwater::{Client, Consistency, Session, SessionConnection};
use redis::AsyncCommands;

use super::{Caller, redis_rs::pipeline};

/// A caller with its sessions; without any, it belongs to none.
#[derive(Debug)]
pub(super) struct Highwater {
    client: Client,
    sessions: Vec<Session>,
    session: usize,
    level: Option<Consistency>,
}

impl Highwater {
    pub(super) fn new(client: Client, sessions: Vec<Session>, level: Option<Consistency>) -> Self {
        Self {
            client,
            sessions,
            session: 0,
            level,
        }
    }

    fn connection(&self) -> SessionConnection {
        let connection = match self.sessions.get(self.session) {
            Some(session) => self.client.with(session),
            None => self.client.without_session(),
        };
        match self.level {
            Some(level) => connection.at(level),
            None => connection,
        }
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
