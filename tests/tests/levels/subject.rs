//! Sessions that write keys of two parts, whole, and read both parts at once.

use std::sync::Arc;

use highwater::{Command, ErrorKind, Reason, redis::Value};
use highwater_testkit::{Outcome, ReadReply, Route, Subject};

use crate::common::services::Services;

/// The keys of one round, as sessions of two clients use them.
pub(crate) struct Round {
    services: Arc<Services>,
    number: u64,
}

impl Round {
    /// Each round has keys of its own, whose versions begin at 1.
    pub(crate) fn new(services: &Arc<Services>, number: u64) -> Self {
        Self {
            services: Arc::clone(services),
            number,
        }
    }

    pub(crate) fn parts(&self, key: u64) -> [String; 2] {
        ["left", "right"].map(|part| format!("round:{}:key:{key}:{part}", self.number))
    }
}

/// The value of a part names it, so that a reply to somebody else's read is noticed.
pub(crate) fn value(part: &str, version: u64) -> String {
    format!("{part}={version}")
}

/// Which version of a part this is: none, or one that nobody writes if it is another key's value.
pub(crate) fn version(part: &str, value: &Value) -> Option<u64> {
    let Value::BulkString(value) = value else {
        assert_eq!(*value, Value::Nil);
        return None;
    };
    let version = || {
        let (of, version) = str::from_utf8(value).ok()?.split_once('=')?;
        version.parse().ok().filter(|_| of == part)
    };
    Some(version().unwrap_or(u64::MAX))
}

impl Subject for Round {
    async fn write(&self, session: usize, key: u64, version: u64) -> Outcome {
        let mut transaction = redis::pipe();
        transaction.atomic();
        for part in self.parts(key) {
            transaction.set(&part, value(&part, version)).ignore();
        }
        let command = Command::pipeline(&transaction).session(&self.services.sessions[session]);
        match self.services.clients[session % 2].call(command).await {
            Ok(reply) => {
                let Value::Array(replies) = reply.value else {
                    panic!("a transaction has replies");
                };
                assert_eq!(
                    replies.last(),
                    Some(&Value::Array(vec![Value::Okay, Value::Okay]))
                );
                Outcome::Acknowledged
            }
            Err(error) if error.kind() == ErrorKind::InDoubt => Outcome::InDoubt,
            Err(_) => Outcome::Refused,
        }
    }

    async fn read(&self, session: usize, key: u64) -> ReadReply {
        let parts = self.parts(key);
        let command = Command::new(redis::cmd("MGET").arg(&parts)).session(&self.services.sessions[session]);
        let Ok(reply) = self.services.clients[session % 2].call(command).await else {
            return ReadReply::failed();
        };
        let route = match reply.route {
            highwater::Route::Cache => Route::Cache,
            highwater::Route::Replica => Route::Replica,
            highwater::Route::Primary => Route::Primary,
            _ => Route::Unknown,
        };
        let Value::Array(values) = reply.value else {
            panic!("an array of values");
        };
        assert_eq!(values.len(), 2);
        let seen = ReadReply::parts([0, 1].map(|part| version(&parts[part], &values[part])), route);
        match reply.reason {
            Reason::PossiblyLost | Reason::UnknownHistory => seen.guarantees_lost(),
            _ => seen,
        }
    }

    async fn adopt(&self, session: usize, from: usize) {
        self.services.adopt(session, from).await;
    }
}
