//! Commands, and what the client's answers to them mean.

use highwater::{Command, Consistency, Continuity, Error, ErrorKind, Reason, Reply, Session};
use redis::{Cmd, Pipeline, Value, cmd};
use std::time::Duration;

use super::keys::{name, version};
use crate::operation::{Key, Level, Outcome, Route, Said};

/// The same commands in several shapes, which take different ways through the client.
pub(super) fn write(
    shape: u32,
    key: Key,
    value: &str,
    look_at: Option<Key>,
    witness: Option<&str>,
) -> Command {
    // With a witness, both are written at once or neither is.
    let mut set = cmd(if witness.is_some() { "MSET" } else { "SET" });
    set.arg(name(key)).arg(value);
    if let Some(witness) = witness {
        set.arg(witness).arg("");
    }
    match (shape, look_at) {
        (0, _) => {
            let mut eval = cmd("EVAL");
            match witness {
                None => eval.arg("return redis.call('SET', KEYS[1], ARGV[1])").arg(1),
                Some(_) => eval
                    .arg("return redis.call('MSET', KEYS[1], ARGV[1], KEYS[2], '')")
                    .arg(2),
            };
            eval.arg(name(key)).arg(witness).arg(value);
            Command::new(&eval)
        }
        (1 | 2, Some(other)) => {
            let mut pipeline = Pipeline::new();
            if shape == 1 {
                pipeline.atomic();
            }
            pipeline.add_command(set);
            pipeline.cmd("GET").arg(name(other));
            Command::pipeline(&pipeline)
        }
        _ => Command::new(&set),
    }
}

pub(super) fn read(shape: u32, keys: &[Key]) -> Command {
    let get = |key: &Key| {
        let mut get = Cmd::new();
        get.arg("GET").arg(name(*key));
        get
    };
    match (keys, shape) {
        ([key], _) => Command::new(&get(key)),
        (_, 0) => {
            let mut pipeline = Pipeline::new();
            keys.iter().for_each(|key| {
                pipeline.add_command(get(key));
            });
            Command::pipeline(&pipeline)
        }
        (_, 1) => {
            let mut pipeline = Pipeline::new();
            pipeline.atomic();
            keys.iter().for_each(|key| {
                pipeline.add_command(get(key));
            });
            Command::pipeline(&pipeline)
        }
        _ => Command::new(cmd("MGET").arg(keys.iter().map(|key| name(*key)).collect::<Vec<_>>())),
    }
}

/// The versions in the reply to [`read`], or to the reads in [`write()`]; `None` when one of them is an error.
pub(super) fn versions(reply: &Value, count: usize) -> Option<Vec<u64>> {
    let Value::Array(replies) = reply else {
        return version(reply).map(|version| vec![version]);
    };
    // Of a transaction, the reply to EXEC is all.
    let replies = match replies.last() {
        Some(Value::Array(executed)) => executed,
        _ => replies,
    };
    let reads = replies.get(replies.len().checked_sub(count)?..)?;
    reads.iter().map(version).collect()
}

/// What a reply says of the session's marks.
pub(super) fn said(reply: &Reply) -> Said {
    match reply.reason {
        Reason::PossiblyLost => Said::Lost,
        Reason::UnknownHistory => Said::Unknown,
        _ => Said::Nothing,
    }
}

/// What an error says of them.
pub(super) fn said_by(error: &Error) -> Said {
    match (error.kind(), error.reason()) {
        (ErrorKind::PossiblyLost, _) | (_, Some(Reason::PossiblyLost)) => Said::Lost,
        (ErrorKind::UnknownHistory, _) | (_, Some(Reason::UnknownHistory)) => Said::Unknown,
        _ => Said::Nothing,
    }
}

/// What the session says of them, when nobody has waited for the reply.
pub(super) fn said_unheard(session: &Session) -> Said {
    match session.continuity() {
        Continuity::PossiblyLost => Said::Lost,
        _ => Said::Nothing,
    }
}

pub(super) fn route(reply: &Reply) -> Route {
    match reply.route {
        highwater::Route::Cache => Route::Cache,
        highwater::Route::Replica => Route::Replica,
        _ => Route::Primary,
    }
}

/// What became of a write that failed.
pub(super) fn outcome(error: &Error) -> Outcome {
    match error.kind() {
        // Carried out; what it read is not given out.
        ErrorKind::PossiblyLost | ErrorKind::UnknownHistory => Outcome::Acknowledged,
        ErrorKind::Config
        | ErrorKind::Unavailable
        | ErrorKind::Overloaded
        | ErrorKind::Closed
        | ErrorKind::Unsupported => Outcome::Refused,
        ErrorKind::Server => {
            let code = error
                .server_error()
                .and_then(|error| error.code().map(str::to_owned));
            refused(code.as_deref().unwrap_or_default())
        }
        _ => Outcome::InDoubt,
    }
}

/// What became of a write that was answered with an error of this code.
fn refused(code: &str) -> Outcome {
    match code {
        "READONLY" | "LOADING" | "MASTERDOWN" | "EXECABORT" => Outcome::Refused,
        _ => Outcome::InDoubt,
    }
}

/// What became of a write by its reply.
pub(super) fn outcome_of(reply: &Value) -> Outcome {
    let of = |value: &Value| match value {
        Value::ServerError(error) => refused(error.code()),
        _ => Outcome::Acknowledged,
    };
    let Value::Array(replies) = reply else {
        return of(reply);
    };
    // Of a transaction, which is answered by MULTI, twice QUEUED, and EXEC, what EXEC says.
    let first = match replies.as_slice() {
        [_, _, _, Value::Array(executed)] => executed.first(),
        [_, _, _, refused] => Some(refused),
        pipeline => pipeline.first(),
    };
    first.map_or(Outcome::InDoubt, of)
}

pub(super) fn consistency(level: Level) -> Consistency {
    match level {
        Level::Primary => Consistency::Primary,
        Level::Monotonic => Consistency::Monotonic,
        Level::ReadYourWrites => Consistency::ReadYourWrites,
        Level::Bounded(bound) => Consistency::BoundedStaleness(Duration::from_millis(bound)),
        Level::Eventual => Consistency::Eventual,
    }
}
