//! The classes of commands, from the server's own COMMAND table.

use std::collections::HashMap;

use redis::Value;

use super::{
    Class,
    packed::{Arguments, Commands},
};
use crate::error::{Error, ErrorKind};

/// Longer names are of no command that any server has.
const MAX_NAME: usize = 40;

/// Commands that change what a connection is; whatever the server's table says of them.
const CONNECTION_STATE: &[&str] = &[
    "MULTI",
    "EXEC",
    "DISCARD",
    "WATCH",
    "UNWATCH",
    "SELECT",
    "RESET",
    "QUIT",
    "HELLO",
    "AUTH",
    "SUBSCRIBE",
    "UNSUBSCRIBE",
    "PSUBSCRIBE",
    "PUNSUBSCRIBE",
    "SSUBSCRIBE",
    "SUNSUBSCRIBE",
    "MONITOR",
    "SYNC",
    "PSYNC",
    "REPLCONF",
    "ASKING",
    "READONLY",
    "READWRITE",
];

/// Subcommands of CLIENT that change what a connection is, or hang on it.
const CLIENT_STATE: &[&str] = &[
    "REPLY",
    "TRACKING",
    "CACHING",
    "SETNAME",
    "SETINFO",
    "NO-EVICT",
    "NO-TOUCH",
    "CAPA",
    "IMPORT-SOURCE",
];

/// Commands whose cursor belongs to one process.
const CURSORS: &[&str] = &["SCAN", "HSCAN", "SSCAN", "ZSCAN"];

/// Commands that wait for something that others do.
const BLOCKING: &[&str] = &[
    "BLPOP",
    "BRPOP",
    "BRPOPLPUSH",
    "BLMOVE",
    "BLMPOP",
    "BZPOPMIN",
    "BZPOPMAX",
    "BZMPOP",
    "WAIT",
    "WAITAOF",
];

/// Reads of all servers since Redis 6.2: used where the server does not tell its table.
const READS: &[&str] = &[
    "GET",
    "MGET",
    "STRLEN",
    "GETRANGE",
    "SUBSTR",
    "EXISTS",
    "TYPE",
    "TTL",
    "PTTL",
    "EXPIRETIME",
    "PEXPIRETIME",
    "KEYS",
    "RANDOMKEY",
    "DBSIZE",
    "DUMP",
    "TOUCH",
    "LCS",
    "GETBIT",
    "BITCOUNT",
    "BITPOS",
    "BITFIELD_RO",
    "HGET",
    "HMGET",
    "HGETALL",
    "HKEYS",
    "HVALS",
    "HLEN",
    "HEXISTS",
    "HSTRLEN",
    "HRANDFIELD",
    "LRANGE",
    "LINDEX",
    "LLEN",
    "LPOS",
    "SMEMBERS",
    "SISMEMBER",
    "SMISMEMBER",
    "SCARD",
    "SRANDMEMBER",
    "SINTER",
    "SINTERCARD",
    "SUNION",
    "SDIFF",
    "ZRANGE",
    "ZRANGEBYSCORE",
    "ZRANGEBYLEX",
    "ZREVRANGE",
    "ZREVRANGEBYSCORE",
    "ZREVRANGEBYLEX",
    "ZSCORE",
    "ZMSCORE",
    "ZCARD",
    "ZCOUNT",
    "ZLEXCOUNT",
    "ZRANK",
    "ZREVRANK",
    "ZRANDMEMBER",
    "ZINTER",
    "ZINTERCARD",
    "ZUNION",
    "ZDIFF",
    "GEOPOS",
    "GEODIST",
    "GEOHASH",
    "GEOSEARCH",
    "GEORADIUS_RO",
    "GEORADIUSBYMEMBER_RO",
    "XRANGE",
    "XREVRANGE",
    "XLEN",
    "XREAD",
    "XPENDING",
    "PFCOUNT",
    "SORT_RO",
    "EVAL_RO",
    "EVALSHA_RO",
    "FCALL_RO",
];

/// A command's class by its name.
#[derive(Debug)]
pub(crate) struct CommandTable {
    /// Upper-case names, subcommands as `NAME|SUB`.
    classes: HashMap<Box<[u8]>, Class>,
    /// Commands whose class depends on their subcommand.
    containers: Vec<Box<[u8]>>,
}

impl Default for CommandTable {
    /// The static table.
    fn default() -> Self {
        let mut table = Self {
            classes: HashMap::new(),
            containers: Vec::new(),
        };
        for name in READS {
            table.classes.insert(name.as_bytes().into(), Class::Read);
        }
        table.add_fixed();
        table
    }
}

impl CommandTable {
    /// Reads the reply to COMMAND. Without one that makes sense, the static table serves.
    pub(crate) fn from_reply(reply: &Value) -> Self {
        let Value::Array(entries) = reply else {
            return Self::default();
        };
        let mut table = Self {
            classes: HashMap::with_capacity(entries.len()),
            containers: Vec::new(),
        };
        for entry in entries {
            table.add_entry(entry);
        }
        if !table.classes.contains_key(&b"GET"[..]) {
            return Self::default();
        }
        table.add_fixed();
        table
    }

    /// One entry: name, arity, flags, keys…, and since Redis 7 the subcommands at place 9.
    fn add_entry(&mut self, entry: &Value) {
        let Value::Array(fields) = entry else { return };
        let (Some(name), Some(flags)) = (fields.first().and_then(text), fields.get(2)) else {
            return;
        };
        let name = name.to_ascii_uppercase();
        if name.len() <= MAX_NAME {
            self.classes.insert(name.clone().into(), class_of(flags));
        }
        if let Some(Value::Array(subcommands)) = fields.get(9)
            && !subcommands.is_empty()
            && !name.contains(&b'|')
        {
            self.containers.push(name.into());
            for subcommand in subcommands {
                self.add_entry(subcommand);
            }
        }
    }

    fn add_fixed(&mut self) {
        for (names, class) in [
            (CONNECTION_STATE, Class::ConnectionState),
            (CURSORS, Class::Cursor),
            (BLOCKING, Class::Blocking),
        ] {
            for name in names {
                self.classes.insert(name.as_bytes().into(), class);
            }
        }
        for subcommand in CLIENT_STATE {
            let name = format!("CLIENT|{subcommand}");
            self.classes
                .insert(name.into_bytes().into(), Class::ConnectionState);
        }
        if !self.containers.iter().any(|name| **name == *b"CLIENT") {
            self.containers.push(b"CLIENT"[..].into());
        }
    }

    /// The class of a unit of encoded commands: the most demanding one of its commands'. Those
    /// between MULTI and EXEC of a pipeline are told by `pipeline`.
    ///
    /// # Errors
    ///
    /// When there is nothing in it, or a command that a shared connection can't serve.
    pub(crate) fn classify(&self, packed: &[u8], pipeline: bool) -> Result<Class, Error> {
        let mut unit: Option<Class> = None;
        for arguments in Commands::new(packed) {
            let mut peek = arguments.clone();
            let name = peek.next().unwrap_or_default();
            // redis-rs puts these around an atomic pipeline.
            if pipeline && (name == b"MULTI" || name == b"EXEC") && peek.next().is_none() {
                continue;
            }
            let class = self.class(arguments);
            if matches!(class, Class::Blocking | Class::ConnectionState) {
                return Err(refused(name, class));
            }
            unit = Some(unit.map_or(class, |unit| unit.max(class)));
        }
        unit.ok_or_else(|| Error::new(ErrorKind::Unsupported, "an empty command or pipeline"))
    }

    fn class(&self, mut arguments: Arguments<'_>) -> Class {
        let mut buffer = [0; 2 * MAX_NAME + 1];
        let Some(len) = upper_case(arguments.next().unwrap_or_default(), &mut buffer) else {
            return Class::Write;
        };
        let name = buffer.get(..len).unwrap_or_default();
        // These block when they say so.
        if matches!(name, b"XREAD" | b"XREADGROUP") {
            let blocks = arguments
                .take_while(|argument| !argument.eq_ignore_ascii_case(b"STREAMS"))
                .any(|argument| argument.eq_ignore_ascii_case(b"BLOCK"));
            return match (blocks, name) {
                (true, _) => Class::Blocking,
                (false, b"XREAD") => Class::Read,
                _ => Class::Write,
            };
        }
        if self.containers.iter().any(|container| **container == *name) {
            let whole = buffer.get_mut(len..).and_then(|rest| {
                let (bar, rest) = rest.split_first_mut()?;
                *bar = b'|';
                upper_case(arguments.next()?, rest)
            });
            if let Some(class) = whole
                .and_then(|sub| buffer.get(..len + 1 + sub))
                .and_then(|name| self.classes.get(name))
            {
                return *class;
            }
        }
        let name = buffer.get(..len).unwrap_or_default();
        self.classes.get(name).copied().unwrap_or(Class::Write)
    }
}

/// A command that is a read for certain is flagged `readonly`; everything else may write.
fn class_of(flags: &Value) -> Class {
    let (Value::Array(flags) | Value::Set(flags)) = flags else {
        return Class::Write;
    };
    let has = |wanted: &[u8]| flags.iter().filter_map(text).any(|flag| flag == wanted);
    if has(b"blocking") && !has(b"readonly") {
        Class::Blocking
    } else if has(b"readonly") && !has(b"write") && !has(b"pubsub") {
        Class::Read
    } else {
        Class::Write
    }
}

fn text(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(text) => Some(text),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

/// Writes `name` in upper case to the front of `buffer`; `None` when it is too long to be a name.
fn upper_case(name: &[u8], buffer: &mut [u8]) -> Option<usize> {
    if name.len() > MAX_NAME {
        return None;
    }
    let room = buffer.get_mut(..name.len())?;
    room.copy_from_slice(name);
    room.make_ascii_uppercase();
    Some(name.len())
}

fn refused(name: &[u8], class: Class) -> Error {
    let name = String::from_utf8_lossy(name.get(..name.len().min(MAX_NAME)).unwrap_or_default()).into_owned();
    let why = if class == Class::Blocking {
        "blocks its connection"
    } else {
        "changes its connection's state"
    };
    Error::new(
        ErrorKind::Unsupported,
        format!("{name} {why}, and this one is shared: use a redis-rs connection of your own for it"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(table: &CommandTable, command: &str) -> Option<Class> {
        let mut words = command.split(' ');
        let mut cmd = redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            cmd.arg(word);
        });
        table.classify(&cmd.get_packed_command(), false).ok()
    }

    /// A table as a server gives it: name and flags, with subcommands.
    fn server_table() -> CommandTable {
        let flags = |flags: &[&str]| {
            Value::Array(
                flags
                    .iter()
                    .map(|flag| Value::SimpleString((*flag).into()))
                    .collect(),
            )
        };
        let entry = |name: &str, with: &[&str], subcommands: Vec<Value>| {
            let mut fields = vec![Value::BulkString(name.into()), Value::Int(2), flags(with)];
            fields.resize(9, Value::Int(0));
            fields.push(Value::Array(subcommands));
            Value::Array(fields)
        };
        CommandTable::from_reply(&Value::Array(vec![
            entry("get", &["readonly", "fast"], vec![]),
            entry("set", &["write", "denyoom"], vec![]),
            entry("newread", &["readonly"], vec![]),
            entry("newblock", &["write", "blocking"], vec![]),
            entry("xread", &["readonly", "blocking"], vec![]),
            entry(
                "object",
                &[],
                vec![
                    entry("object|encoding", &["readonly"], vec![]),
                    entry("object|help", &[], vec![]),
                ],
            ),
            entry("client", &[], vec![entry("client|list", &["admin"], vec![])]),
        ]))
    }

    #[test]
    fn the_servers_flags_decide() {
        let table = server_table();
        assert_eq!(class(&table, "get k"), Some(Class::Read));
        assert_eq!(class(&table, "NewRead k"), Some(Class::Read));
        assert_eq!(class(&table, "SET k v"), Some(Class::Write));
        assert_eq!(class(&table, "NEWBLOCK k"), None);
        assert_eq!(class(&table, "OBJECT encoding k"), Some(Class::Read));
        assert_eq!(class(&table, "OBJECT HELP"), Some(Class::Write));
        assert_eq!(class(&table, "CLIENT LIST"), Some(Class::Write));
        assert_eq!(class(&table, "CLIENT TRACKING ON"), None);
    }

    #[test]
    fn the_static_table_serves_where_there_is_no_other() {
        let table = CommandTable::from_reply(&Value::Nil);
        assert_eq!(class(&table, "HGETALL k"), Some(Class::Read));
        assert_eq!(class(&table, "SCAN 0"), Some(Class::Cursor));
        for write in [
            "EVAL x 0",
            "SORT k",
            "GEORADIUS k 1 1 1 m",
            "UNHEARD_OF k",
            "GETEX k",
            "PUBLISH c m",
        ] {
            assert_eq!(class(&table, write), Some(Class::Write), "{write}");
        }
        for refused in [
            "MULTI",
            "select 1",
            "BLPOP k 0",
            "WAIT 1 0",
            "SUBSCRIBE c",
            "client reply off",
        ] {
            assert_eq!(class(&table, refused), None, "{refused}");
        }
    }

    #[test]
    fn stream_reads_block_when_they_say_so() {
        for table in [server_table(), CommandTable::default()] {
            assert_eq!(class(&table, "XREAD COUNT 1 STREAMS block 0"), Some(Class::Read));
            assert_eq!(class(&table, "XREAD block 5 STREAMS s 0"), None);
            assert_eq!(
                class(&table, "XREADGROUP GROUP g c STREAMS s >"),
                Some(Class::Write)
            );
        }
    }

    #[test]
    fn one_write_makes_a_unit_a_write() {
        let table = CommandTable::default();
        let mut pipeline = redis::pipe();
        pipeline.cmd("GET").arg("a").cmd("HGETALL").arg("b");
        assert_eq!(
            table.classify(&pipeline.get_packed_pipeline(), true).unwrap(),
            Class::Read
        );
        pipeline.atomic().cmd("SET").arg("a").arg(1);
        assert_eq!(
            table.classify(&pipeline.get_packed_pipeline(), true).unwrap(),
            Class::Write
        );
        pipeline.cmd("WATCH").arg("a");
        assert!(table.classify(&pipeline.get_packed_pipeline(), true).is_err());
        assert!(table.classify(b"", true).is_err());
        assert!(
            table
                .classify(&redis::Cmd::new().get_packed_command(), false)
                .is_err()
        );
    }
}
