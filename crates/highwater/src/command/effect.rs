//! What a write's reply says of whether it has changed anything, and so is in the replication stream.

use redis::Value;

use super::{Look, Unit, packed::Commands};

/// What a reply must be for its command to have changed data.
#[derive(Clone, Copy)]
enum Sign {
    /// Any that is no error.
    Any,
    Ok,
    /// A number above zero.
    Count,
    /// A string: what was taken away, or the name of what was added.
    Found,
}

/// The common commands whose replies say it. Tried on each supported server by `acks::unchanged` of the test suite; of
/// others nobody claims anything (`SMOVE` from a set to itself says 1).
const SIGNS: [(Sign, &[&str]); 4] = [
    (
        Sign::Any,
        &[
            "APPEND",
            "DECR",
            "DECRBY",
            "GETSET",
            "HINCRBY",
            "HINCRBYFLOAT",
            "HSET",
            "INCR",
            "INCRBY",
            "INCRBYFLOAT",
            "LPUSH",
            "RPUSH",
        ],
    ),
    (Sign::Ok, &["HMSET", "LSET", "MSET", "PSETEX", "SET", "SETEX"]),
    (
        Sign::Count,
        &[
            "DEL", "EXPIRE", "HDEL", "HSETNX", "LPUSHX", "LREM", "MSETNX", "PERSIST", "PEXPIRE", "PFADD",
            "RPUSHX", "SADD", "SETNX", "SREM", "UNLINK", "ZADD", "ZREM",
        ],
    ),
    (Sign::Found, &["GETDEL", "LPOP", "RPOP", "SPOP", "XADD"]),
];

/// True if the reply shows that the unit has changed data, and that nothing behind the change has found something
/// unchanged: what the unit rests on is in the stream then, up to the unit's own last change.
pub(crate) fn shows_change(packed: &[u8], unit: Unit, looks: &[Look], reply: &Value) -> bool {
    let changed = |look: &Look, reply: &Value| {
        packed
            .get(look.span.clone())
            .is_some_and(|one| changes(one, reply))
    };
    match (unit, reply) {
        // All of it happens at one point of the stream.
        (Unit::Transaction, Value::Array(replies)) => match replies.last() {
            Some(Value::Array(replies)) => looks
                .iter()
                .zip(replies)
                .any(|(look, reply)| changed(look, reply)),
            _ => false,
        },
        (Unit::Pipeline, Value::Array(replies)) if looks.len() > 1 && replies.len() == looks.len() => {
            let last = looks
                .iter()
                .zip(replies)
                .rfind(|(look, reply)| !look.reads && !matches!(reply, Value::ServerError(_)));
            last.is_some_and(|(look, reply)| changed(look, reply))
        }
        _ => match looks {
            [look] => changed(look, reply),
            _ => false,
        },
    }
}

fn changes(command: &[u8], reply: &Value) -> bool {
    let Some(mut arguments) = Commands::first(command) else {
        return false;
    };
    let name = arguments.next().unwrap_or_default();
    let is = |other: &&str| name.eq_ignore_ascii_case(other.as_bytes());
    let Some((sign, _)) = SIGNS.iter().find(|(_, names)| names.iter().any(is)) else {
        return false;
    };
    match sign {
        // `SET` with a moment that has passed changes nothing on Valkey, and says OK.
        Sign::Ok if is(&"SET") => {
            *reply == Value::Okay
                && !arguments.skip(2).any(|option| {
                    option.eq_ignore_ascii_case(b"EXAT") || option.eq_ignore_ascii_case(b"PXAT")
                })
        }
        Sign::Any => !matches!(reply, Value::ServerError(_)),
        Sign::Ok => *reply == Value::Okay,
        Sign::Count => matches!(reply, Value::Int(1..)),
        Sign::Found => matches!(reply, Value::BulkString(_)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, CommandTable};

    fn shows(command: &Command, reply: &Value) -> bool {
        let looks = CommandTable::from_reply(&Value::Nil)
            .look(&command.packed, command.unit)
            .unwrap();
        shows_change(&command.packed, command.unit, &looks, reply)
    }

    fn one(words: &str, reply: &Value) -> bool {
        let mut command = redis::Cmd::new();
        command.arg(words.split(' ').collect::<Vec<_>>());
        shows(&Command::new(&command), reply)
    }

    #[test]
    fn a_reply_says_whether_anything_has_changed() {
        let bulk = Value::BulkString(b"x".to_vec());
        for (words, reply, changed) in [
            ("SET k v", Value::Okay, true),
            ("set k v NX", Value::Okay, true),
            ("SET k v NX", Value::Nil, false),
            ("SET k v NX GET", bulk.clone(), false),
            ("SET k v exat 1", Value::Okay, false),
            ("SET exat pxat", Value::Okay, true),
            ("INCR k", Value::Int(0), true),
            ("DEL k", Value::Int(1), true),
            ("DEL k", Value::Int(0), false),
            ("SADD k m", Value::Int(0), false),
            ("LPOP k", bulk.clone(), true),
            ("LPOP k", Value::Nil, false),
            ("LTRIM k 0 1", Value::Okay, false),
            ("ZADD k INCR 1 m", Value::Double(1.0), false),
            ("EVAL script 0", Value::Okay, false),
        ] {
            assert_eq!(one(words, &reply), changed, "{words}: {reply:?}");
        }
    }

    #[test]
    fn of_several_the_last_write_counts_and_of_a_transaction_any() {
        let error = || redis::parse_redis_value(b"-ERR no\r\n").unwrap();
        let none = || Value::Int(0);
        let unit = |atomic: bool| {
            let mut pipeline = redis::pipe();
            if atomic {
                pipeline.atomic();
            }
            pipeline.set("k", "v").del("none").get("k");
            Command::pipeline(&pipeline)
        };
        let read = || Value::BulkString(b"v".to_vec());
        let pipeline = unit(false);
        for (replies, changed) in [
            (vec![Value::Okay, none(), read()], false),
            (vec![Value::Okay, Value::Int(1), read()], true),
            (vec![Value::Okay, error(), read()], true),
            (vec![error(), error(), read()], false),
        ] {
            assert_eq!(
                shows(&pipeline, &Value::Array(replies.clone())),
                changed,
                "{replies:?}"
            );
            let queued = || Value::SimpleString("QUEUED".to_owned());
            let transaction = Value::Array(vec![
                Value::Okay,
                queued(),
                queued(),
                queued(),
                Value::Array(replies.clone()),
            ]);
            let any = replies.first() == Some(&Value::Okay);
            assert_eq!(shows(&unit(true), &transaction), any, "{replies:?}");
        }
        let refused = Value::Array(vec![Value::Okay, error(), error()]);
        assert!(!shows(&unit(true), &refused));
    }
}
