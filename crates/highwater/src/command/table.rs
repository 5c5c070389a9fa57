//! The classes of commands, from the server's own COMMAND table.

use std::collections::HashMap;

use redis::Value;

use super::{
    Class, Look, Unit,
    caching::{self, KeyPlace, Target},
    look::block,
    packed::{Arguments, Commands},
};
use crate::error::{Error, ErrorKind};

/// Longer names are of no command that any server has.
const MAX_NAME: usize = 40;

/// Commands that change what a connection is, or hang on it; whatever the server's table says of them.
const CONNECTION_STATE: &str = "\
    MULTI EXEC DISCARD WATCH UNWATCH SELECT RESET QUIT HELLO AUTH SUBSCRIBE UNSUBSCRIBE PSUBSCRIBE PUNSUBSCRIBE \
    SSUBSCRIBE SUNSUBSCRIBE MONITOR SYNC PSYNC REPLCONF ASKING READONLY READWRITE CLIENT|REPLY CLIENT|TRACKING \
    CLIENT|CACHING CLIENT|SETNAME CLIENT|SETINFO CLIENT|NO-EVICT CLIENT|NO-TOUCH CLIENT|CAPA \
    CLIENT|IMPORT-SOURCE SCRIPT|DEBUG WAIT WAITAOF";

/// Those of them that would take from a connection what proofs and replies rest on: the protocol, the
/// tracking, one reply for each command.
const NEVER: &str = "\
    RESET QUIT HELLO SUBSCRIBE UNSUBSCRIBE PSUBSCRIBE PUNSUBSCRIBE SSUBSCRIBE SUNSUBSCRIBE MONITOR SYNC PSYNC \
    REPLCONF CLIENT|REPLY CLIENT|TRACKING CLIENT|CACHING SCRIPT|DEBUG";

/// Commands whose cursor belongs to one process.
const CURSORS: &str = "SCAN HSCAN SSCAN ZSCAN CLUSTERSCAN";

/// Commands that wait for something that others do.
const BLOCKING: &str = "BLPOP BRPOP BRPOPLPUSH BLMOVE BLMPOP BZPOPMIN BZPOPMAX BZMPOP";

/// Reads of all servers since Redis 6.2: used where the server does not tell its table.
const READS: &str = "\
    GET MGET STRLEN GETRANGE SUBSTR EXISTS TYPE TTL PTTL EXPIRETIME PEXPIRETIME KEYS RANDOMKEY DBSIZE DUMP TOUCH LCS \
    GETBIT BITCOUNT BITPOS BITFIELD_RO HGET HMGET HGETALL HKEYS HVALS HLEN HEXISTS HSTRLEN HRANDFIELD LRANGE LINDEX \
    LLEN LPOS SMEMBERS SISMEMBER SMISMEMBER SCARD SRANDMEMBER SINTER SINTERCARD SUNION SDIFF ZRANGE ZRANGEBYSCORE \
    ZRANGEBYLEX ZREVRANGE ZREVRANGEBYSCORE ZREVRANGEBYLEX ZSCORE ZMSCORE ZCARD ZCOUNT ZLEXCOUNT ZRANK ZREVRANK \
    ZRANDMEMBER ZINTER ZINTERCARD ZUNION ZDIFF GEOPOS GEODIST GEOHASH GEOSEARCH GEORADIUS_RO GEORADIUSBYMEMBER_RO \
    XRANGE XREVRANGE XLEN XREAD XPENDING PFCOUNT SORT_RO EVAL_RO EVALSHA_RO FCALL_RO";

/// These block when they say so.
const BLOCK_IF_ASKED: [&[u8]; 2] = [b"XREAD", b"XREADGROUP"];

/// A command's class by its name.
#[derive(Debug)]
pub(crate) struct CommandTable {
    /// Upper-case names, subcommands as `NAME|SUB`.
    entries: HashMap<Box<[u8]>, Entry, foldhash::fast::RandomState>,
    /// Those with [short names](short) whose entry says all: nearly all that is sent.
    short: HashMap<u64, Entry, foldhash::fast::RandomState>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    class: Class,
    /// The class depends on the subcommand.
    container: bool,
    /// Not even a connection of one's own can serve it.
    never: bool,
    /// Its replies depend on one key alone: where that is.
    key: Option<KeyPlace>,
}

impl Default for CommandTable {
    /// The static table.
    fn default() -> Self {
        let mut table = Self {
            entries: HashMap::default(),
            short: HashMap::default(),
        };
        table.set(READS, Class::Read);
        table.set_fixed();
        for (names, may_have_fields) in [(caching::PLAIN, false), (caching::WITH_FIELDS, true)] {
            for name in names.split_whitespace() {
                if let Some(entry) = table.entries.get_mut(name.as_bytes()) {
                    entry.key = Some(KeyPlace::first(name, may_have_fields));
                }
            }
        }
        table.set_short();
        table
    }
}

impl CommandTable {
    /// Reads the reply to COMMAND. Without one that makes sense, the static table serves.
    pub(crate) fn from_reply(reply: &Value) -> Self {
        let Value::Array(commands) = reply else {
            return Self::default();
        };
        let mut table = Self {
            entries: HashMap::default(),
            short: HashMap::default(),
        };
        for command in commands {
            table.add(command);
        }
        if !table.entries.contains_key(&b"GET"[..]) {
            return Self::default();
        }
        table.set_containers();
        table.set_fixed();
        table.set_short();
        table
    }

    /// Before Redis 7 the table has no subcommands, and MEMORY as a whole is a read there: its others than
    /// USAGE are about the node that is asked, and go where they go with newer servers.
    fn set_containers(&mut self) {
        if self
            .entries
            .get(&b"MEMORY"[..])
            .is_some_and(|entry| !entry.container)
        {
            self.entries.remove(&b"MEMORY"[..]);
            self.set("MEMORY|USAGE", Class::Read);
        }
    }

    /// One command: name, arity, flags, keys…, and since Redis 7 the subcommands at place 9.
    fn add(&mut self, command: &Value) {
        let Value::Array(fields) = command else { return };
        let (Some(name), Some(flags)) = (fields.first().and_then(text), fields.get(2)) else {
            return;
        };
        let subcommands = match fields.get(9) {
            Some(Value::Array(subcommands)) if !name.contains(&b'|') => subcommands.as_slice(),
            _ => &[],
        };
        if name.len() <= MAX_NAME {
            let entry = Entry {
                class: class_of(flags),
                container: !subcommands.is_empty(),
                never: false,
                key: KeyPlace::of(fields),
            };
            self.entries.insert(name.to_ascii_uppercase().into(), entry);
        }
        for subcommand in subcommands {
            self.add(subcommand);
        }
    }

    fn set_fixed(&mut self) {
        self.set(CONNECTION_STATE, Class::ConnectionState);
        self.set(CURSORS, Class::Cursor);
        self.set(BLOCKING, Class::Blocking);
        for name in NEVER.split_whitespace() {
            if let Some(entry) = self.entries.get_mut(name.as_bytes()) {
                entry.never = true;
            }
        }
    }

    fn set_short(&mut self) {
        let says_all = |name: &[u8], entry: &Entry| !entry.container && !BLOCK_IF_ASKED.contains(&name);
        let named = self
            .entries
            .iter()
            .filter_map(|(name, entry)| Some((short(name).filter(|_| says_all(name, entry))?, *entry)));
        self.short = named.collect();
    }

    fn set(&mut self, names: &str, class: Class) {
        for name in names.split_whitespace() {
            self.entries.insert(
                name.as_bytes().into(),
                Entry {
                    class,
                    container: false,
                    never: false,
                    key: None,
                },
            );
            if let Some((container, _)) = name.split_once('|') {
                let write = Entry {
                    class: Class::Write,
                    container: true,
                    never: false,
                    key: None,
                };
                self.entries
                    .entry(container.as_bytes().into())
                    .or_insert(write)
                    .container = true;
            }
        }
    }

    /// The class of a unit of encoded commands: the most demanding one of its commands'.
    ///
    /// # Errors
    ///
    /// When there is nothing in it, or a command that changes the state of a shared connection.
    pub(crate) fn classify(&self, packed: &[u8], unit: Unit) -> Result<Class, Error> {
        if unit == Unit::Single {
            let arguments = Commands::first(packed).ok_or_else(nothing)?;
            return Ok(self.shared(&arguments)?.class);
        }
        let mut whole: Option<Class> = None;
        let mut commands = Commands::new(packed);
        // redis-rs puts MULTI and EXEC around an atomic pipeline. Anywhere else they would leave the
        // shared connection in a transaction, or end that of others.
        let atomic = unit == Unit::Transaction;
        if atomic {
            commands.next();
        }
        while let Some(arguments) = commands.next() {
            if atomic && commands.is_empty() {
                break;
            }
            let entry = self.shared(&arguments)?;
            let class = if atomic {
                in_transaction(entry.class, arguments)
            } else {
                entry.class
            };
            whole = Some(whole.map_or(class, |whole| whole.max(class)));
        }
        whole.ok_or_else(nothing)
    }

    /// What the table says of a command on a shared connection.
    fn shared<'a>(&self, arguments: &impl Arguments<'a>) -> Result<Entry, Error> {
        // A command without a name gets no reply: the next caller's would be taken for it.
        let name = arguments.clone().next().ok_or_else(nothing)?;
        let entry = self.entry(arguments.clone());
        if entry.class == Class::ConnectionState {
            return Err(refused(name, entry.never));
        }
        Ok(entry)
    }

    /// Looks at the commands of a unit that goes to a connection of one's own.
    ///
    /// # Errors
    ///
    /// When there is nothing in it, or a command that no connection of this crate can serve.
    pub(crate) fn look(&self, packed: &[u8], unit: Unit) -> Result<Vec<Look>, Error> {
        let atomic = unit == Unit::Transaction;
        let mut commands = Commands::new(packed);
        if atomic {
            commands.next();
        }
        let mut looks = Vec::new();
        let mut start = packed.len() - commands.left();
        while let Some(arguments) = commands.next() {
            let end = packed.len() - commands.left();
            let span = std::mem::replace(&mut start, end)..end;
            if atomic && commands.is_empty() {
                break;
            }
            let Some(name) = arguments.clone().next() else {
                return Err(nothing());
            };
            let entry = self.entry(arguments.clone());
            if entry.never {
                return Err(refused(name, true));
            }
            let class = if atomic {
                in_transaction(entry.class, arguments.clone())
            } else {
                entry.class
            };
            looks.push(Look::new(span, class, arguments));
        }
        if looks.is_empty() {
            return Err(nothing());
        }
        Ok(looks)
    }

    /// What a single command with these arguments asks of one key, or `MGET` of several, when that may be kept in the near
    /// cache.
    pub(crate) fn cacheable<'a, A: Arguments<'a>>(&self, arguments: A) -> Option<Target<'a, A>> {
        let entry = self.entry(arguments.clone());
        if entry.class != Class::Read || entry.container {
            return None;
        }
        entry.key?.target(arguments)
    }

    fn entry<'a>(&self, mut arguments: impl Arguments<'a>) -> Entry {
        let of = |class| Entry {
            class,
            container: false,
            never: false,
            key: None,
        };
        let name = arguments.next().unwrap_or_default();
        if let Some(entry) = short(name).and_then(|name| self.short.get(&name)) {
            return *entry;
        }
        let mut buffer = [0; 2 * MAX_NAME + 1];
        let Some(len) = upper_case(name, &mut buffer) else {
            return of(Class::Write);
        };
        let name = buffer.get(..len).unwrap_or_default();
        if BLOCK_IF_ASKED.contains(&name) {
            return of(match (block(arguments), name) {
                (Some(_), _) => Class::Blocking,
                (None, b"XREAD") => Class::Read,
                _ => Class::Write,
            });
        }
        let Some(entry) = self.entries.get(name).copied() else {
            return of(Class::Write);
        };
        if !entry.container {
            return entry;
        }
        let sub = buffer.get_mut(len..).and_then(|rest| {
            let (bar, rest) = rest.split_first_mut()?;
            *bar = b'|';
            upper_case(arguments.next()?, rest)
        });
        sub.and_then(|sub| buffer.get(..len + 1 + sub))
            .and_then(|name| self.entries.get(name))
            .copied()
            .unwrap_or(entry)
    }
}

/// Between MULTI and EXEC nothing blocks.
fn in_transaction<'a>(class: Class, mut arguments: impl Arguments<'a>) -> Class {
    if class != Class::Blocking {
        return class;
    }
    match arguments.next() {
        Some(name) if name.eq_ignore_ascii_case(b"XREAD") => Class::Read,
        _ => Class::Write,
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

pub(super) fn text(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(text) => Some(text),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

/// A name of up to eight bytes as one word, in upper case.
fn short(name: &[u8]) -> Option<u64> {
    // A shorter one must not be taken for one that ends with zeros.
    let last = name.last()?;
    let upper = name.iter().rev().map(|byte| u64::from(byte.to_ascii_uppercase()));
    (name.len() <= size_of::<u64>() && *last != 0).then(|| upper.fold(0, |word, byte| word << 8 | byte))
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

fn nothing() -> Error {
    Error::new(ErrorKind::Unsupported, "an empty command or pipeline")
}

fn refused(name: &[u8], never: bool) -> Error {
    let name = String::from_utf8_lossy(name.get(..name.len().min(MAX_NAME)).unwrap_or_default()).into_owned();
    let message = if never {
        format!("{name} would take from its connection what replies and proofs rest on")
    } else {
        format!("{name} belongs to its connection's state, and this one is shared")
    };
    Error::new(ErrorKind::Unsupported, message)
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
        table.classify(&cmd.get_packed_command(), Unit::Single).ok()
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

    /// Redis 6.2's has seven fields a command, no subcommands, and does not say what blocks.
    #[test]
    fn a_table_without_subcommands_will_do() {
        let entry = |name: &str, flags: &[&str]| {
            let flags = flags.iter().map(|flag| Value::SimpleString((*flag).into()));
            let mut fields = vec![
                Value::BulkString(name.into()),
                Value::Int(-2),
                Value::Array(flags.collect()),
            ];
            fields.resize(7, Value::Int(0));
            Value::Array(fields)
        };
        let table = CommandTable::from_reply(&Value::Array(vec![
            entry("get", &["readonly", "fast"]),
            entry("object", &["readonly", "random"]),
            entry("memory", &["readonly", "random", "movablekeys"]),
            entry("xinfo", &["readonly", "random"]),
            entry("xgroup", &["write", "denyoom"]),
            entry("blpop", &["write", "noscript"]),
            entry("xreadgroup", &["write", "movablekeys"]),
            entry("client", &["admin", "noscript", "random", "loading", "stale"]),
        ]));
        for (command, expected) in [
            ("GET k", Some(Class::Read)),
            ("OBJECT ENCODING k", Some(Class::Read)),
            ("XINFO STREAM k", Some(Class::Read)),
            ("MEMORY USAGE k", Some(Class::Read)),
            ("MEMORY PURGE", Some(Class::Write)),
            ("MEMORY", Some(Class::Write)),
            ("XGROUP CREATE k g 0", Some(Class::Write)),
            ("BLPOP k 0", Some(Class::Blocking)),
            ("XREADGROUP GROUP g c BLOCK 0 STREAMS k >", Some(Class::Blocking)),
            (
                "XREADGROUP GROUP streams c BLOCK 0 STREAMS k >",
                Some(Class::Blocking),
            ),
            (
                "XREADGROUP GROUP g Streams COUNT 1 block 0 STREAMS k >",
                Some(Class::Blocking),
            ),
            ("XREADGROUP GROUP block block STREAMS block >", Some(Class::Write)),
            ("CLIENT LIST", Some(Class::Write)),
            ("CLIENT REPLY OFF", None),
            ("EVAL_RO x 0", Some(Class::Write)),
        ] {
            assert_eq!(class(&table, command), expected, "{command}");
        }
    }

    #[test]
    fn the_servers_flags_decide() {
        let table = server_table();
        assert_eq!(class(&table, "get k"), Some(Class::Read));
        assert_eq!(class(&table, "NewRead k"), Some(Class::Read));
        assert_eq!(class(&table, "SET k v"), Some(Class::Write));
        assert_eq!(class(&table, "NEWBLOCK k"), Some(Class::Blocking));
        assert_eq!(class(&table, "OBJECT encoding k"), Some(Class::Read));
        assert_eq!(class(&table, "OBJECT HELP"), Some(Class::Write));
        assert_eq!(class(&table, "CLIENT LIST"), Some(Class::Write));
        assert_eq!(class(&table, "CLIENT TRACKING ON"), None);
    }

    #[test]
    fn the_static_table_serves_where_there_is_no_other() {
        let table = CommandTable::from_reply(&Value::Nil);
        assert_eq!(class(&table, "HGETALL k"), Some(Class::Read));
        assert_eq!(class(&table, "hget k f"), Some(Class::Read));
        assert_eq!(class(&table, "GET\0 k"), Some(Class::Write));
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
        assert_eq!(class(&table, "BLPOP k 0"), Some(Class::Blocking));
        for refused in ["MULTI", "select 1", "WAIT 1 0", "SUBSCRIBE c", "client reply off"] {
            assert_eq!(class(&table, refused), None, "{refused}");
        }
    }

    #[test]
    fn stream_reads_block_when_they_say_so() {
        for table in [server_table(), CommandTable::default()] {
            assert_eq!(class(&table, "XREAD COUNT 1 STREAMS block 0"), Some(Class::Read));
            assert_eq!(class(&table, "XREAD block 5 STREAMS s 0"), Some(Class::Blocking));
            assert_eq!(
                class(&table, "XREADGROUP GROUP g c STREAMS s >"),
                Some(Class::Write)
            );
        }
    }

    #[test]
    fn transactions_by_hand_are_refused_in_pipelines() {
        let table = CommandTable::default();
        for names in [
            &["MULTI", "PING"][..],
            &["MULTI", "PING", "EXEC"],
            &["PING", "EXEC"],
        ] {
            let mut pipeline = redis::pipe();
            for name in names {
                pipeline.cmd(name);
            }
            assert!(
                table
                    .classify(&pipeline.get_packed_pipeline(), Unit::Pipeline)
                    .is_err()
            );
            pipeline.atomic();
            assert!(
                table
                    .classify(&pipeline.get_packed_pipeline(), Unit::Transaction)
                    .is_err()
            );
        }
    }

    #[test]
    fn one_write_makes_a_unit_a_write() {
        let table = CommandTable::default();
        let class =
            |pipeline: &redis::Pipeline, unit| table.classify(&pipeline.get_packed_pipeline(), unit).ok();
        let mut pipeline = redis::pipe();
        pipeline.cmd("GET").arg("a").cmd("HGETALL").arg("b");
        assert_eq!(class(&pipeline, Unit::Pipeline), Some(Class::Read));
        pipeline.atomic();
        assert_eq!(class(&pipeline, Unit::Transaction), Some(Class::Read));
        pipeline.cmd("SET").arg("a").arg(1);
        assert_eq!(class(&pipeline, Unit::Transaction), Some(Class::Write));
        pipeline.cmd("WATCH").arg("a");
        assert_eq!(class(&pipeline, Unit::Transaction), None);
        assert!(table.classify(b"", Unit::Pipeline).is_err());
        assert!(
            table
                .classify(&redis::Cmd::new().get_packed_command(), Unit::Single)
                .is_err()
        );
    }

    #[test]
    fn in_a_transaction_nothing_blocks() {
        let table = CommandTable::default();
        let mut pipeline = redis::pipe();
        pipeline
            .atomic()
            .cmd("XREAD")
            .arg("BLOCK")
            .arg(0)
            .arg("STREAMS")
            .arg("s")
            .arg(0);
        let packed = pipeline.get_packed_pipeline();
        assert_eq!(table.classify(&packed, Unit::Transaction).unwrap(), Class::Read);
        pipeline.cmd("BLPOP").arg("l").arg(0);
        let packed = pipeline.get_packed_pipeline();
        assert_eq!(table.classify(&packed, Unit::Transaction).unwrap(), Class::Write);
        let looks = table.look(&packed, Unit::Transaction).unwrap();
        assert!(looks.iter().all(|look| look.patience.is_zero()));
    }

    #[test]
    fn a_connection_of_ones_own_serves_what_leaves_its_proofs_whole() {
        for table in [server_table(), CommandTable::default()] {
            let look = |command: &str| {
                let mut cmd = redis::Cmd::new();
                command.split(' ').for_each(|word| {
                    cmd.arg(word);
                });
                table.look(&cmd.get_packed_command(), Unit::Single)
            };
            for served in [
                "WATCH k",
                "MULTI",
                "SELECT 1",
                "WAIT 1 0",
                "BLPOP k 0",
                "CLIENT setname x",
            ] {
                assert!(look(served).is_ok(), "{served}");
            }
            for refused in [
                "RESET",
                "HELLO 2",
                "subscribe c",
                "MONITOR",
                "CLIENT reply OFF",
                "CLIENT TRACKING OFF",
            ] {
                assert!(look(refused).is_err(), "{refused}");
            }
        }
    }

    #[test]
    fn looks_know_where_their_commands_are() {
        let table = CommandTable::default();
        let mut pipeline = redis::pipe();
        pipeline.cmd("GET").arg("a").cmd("SET").arg("b").arg("c");
        for unit in [Unit::Pipeline, Unit::Transaction] {
            let packed = pipeline.get_packed_pipeline();
            let looks = table.look(&packed, unit).unwrap();
            assert_eq!(looks.len(), 2);
            let parts: Vec<_> = looks
                .iter()
                .map(|look| packed[look.span.clone()].to_vec())
                .collect();
            let expected: Vec<_> = pipeline.cmd_iter().map(redis::Cmd::get_packed_command).collect();
            assert_eq!(parts, expected);
            pipeline.atomic();
        }
    }
}
