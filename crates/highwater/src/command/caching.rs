//! Which reads the near cache may keep: those whose reply depends on one key alone, by the server's own
//! table of commands, and on nothing else that changes without that key being written.

use redis::Value;

use super::{packed::Arguments, table::text};

/// Reads that the server's table does not give away: what they tell changes without a write of the key
/// (consumer groups, time, access statistics), or is of no use later.
const NEVER: &str = "\
    TTL PTTL TOUCH DUMP XPENDING XINFO XREAD OBJECT MEMORY PFCOUNT SORT_RO DEBUG WAIT";

/// Where the server does not tell its table: reads of one key that every server since Redis 6.2 has.
pub(super) const PLAIN: &str = "\
    GET STRLEN GETRANGE SUBSTR GETBIT BITCOUNT BITPOS BITFIELD_RO LRANGE LINDEX LLEN LPOS SMEMBERS SISMEMBER \
    SMISMEMBER SCARD ZRANGE ZRANGEBYSCORE ZRANGEBYLEX ZREVRANGE ZREVRANGEBYSCORE ZREVRANGEBYLEX ZSCORE ZMSCORE \
    ZCARD ZCOUNT ZLEXCOUNT ZRANK ZREVRANK GEOPOS GEODIST GEOHASH GEOSEARCH GEORADIUS_RO GEORADIUSBYMEMBER_RO \
    XRANGE XREVRANGE XLEN MGET";
/// Those of them that can show the fields of a hash, which can have a time to live of their own.
pub(super) const WITH_FIELDS: &str =
    "HGET HMGET HGETALL HKEYS HVALS HLEN HEXISTS HSTRLEN TYPE EXPIRETIME PEXPIRETIME";

/// Where a read's only key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyPlace {
    /// The argument that is the key; the name is argument 0.
    first: usize,
    /// The arguments behind it are keys as well, if there are any.
    more: bool,
    /// Each key has a reply of its own, that of a `GET`.
    each: bool,
    /// It can show the fields of a hash.
    may_have_fields: bool,
}

/// What a read asks for that may be kept.
#[derive(Clone, Debug)]
pub(crate) enum Target<'a, A> {
    /// One key's.
    One {
        key: &'a [u8],
        /// It can show the fields of a hash.
        may_have_fields: bool,
    },
    /// `MGET` of these keys: a `GET` of each.
    Each(A),
}

impl KeyPlace {
    /// The first argument, as in all commands of the static lists.
    pub(super) fn first(name: &str, may_have_fields: bool) -> Self {
        Self {
            first: 1,
            // The lists have no command of several keys, but for MGET.
            more: false,
            each: is_each(name.as_bytes()),
            may_have_fields,
        }
    }

    /// What an entry of the server's table says: name, arity, flags, first key, last key, step, categories,
    /// and since Redis 7 tips and key specifications.
    pub(super) fn of(fields: &[Value]) -> Option<Self> {
        let name = fields.first().and_then(text)?;
        // Of a subcommand, the command that it belongs to.
        let name = name.split(|byte| *byte == b'|').next()?;
        if NEVER
            .split_whitespace()
            .any(|never| name.eq_ignore_ascii_case(never.as_bytes()))
        {
            return None;
        }
        let has = |place: usize, word: &[u8]| strings(fields.get(place)).any(|text| text == word);
        if !has(2, b"readonly")
            || [
                &b"movablekeys"[..],
                b"may_replicate",
                b"blocking",
                b"module",
                b"noscript",
            ]
            .iter()
            .any(|flag| has(2, flag))
            || has(7, b"nondeterministic_output")
            // Before Redis 7, replies were also called random of which only the order can differ: HGETALL's.
            || (has(2, b"random") && !is_listed(name))
        {
            return None;
        }
        let (Some(Value::Int(first)), Some(Value::Int(last))) = (fields.get(3), fields.get(4)) else {
            return None;
        };
        let first = usize::try_from(*first).ok().filter(|first| *first > 0)?;
        let more = match usize::try_from(*last) {
            Ok(last) if last == first => false,
            Ok(_) => return None,
            Err(_) => true,
        };
        // More than one specification, or one that is not only read, says more than the places do.
        if let Some(Value::Array(specifications)) = fields.get(8) {
            let [only] = specifications.as_slice() else {
                return None;
            };
            if mentions(only, b"RW") || mentions(only, b"incomplete") || mentions(only, b"variable_flags") {
                return None;
            }
        }
        let of_one_type = [
            &b"@string"[..],
            b"@bitmap",
            b"@list",
            b"@set",
            b"@sortedset",
            b"@geo",
            b"@stream",
        ];
        Some(Self {
            first,
            more,
            each: is_each(name),
            // What is said to be of another type gets an error from a hash, and errors are not kept.
            may_have_fields: !of_one_type.iter().any(|category| has(6, category)),
        })
    }

    pub(super) fn target<'a, A: Arguments<'a>>(self, arguments: A) -> Option<Target<'a, A>> {
        let mut rest = arguments;
        if self.each {
            rest.next()?;
            return Some(Target::Each(rest));
        }
        let key = rest.nth(self.first)?;
        // `EXISTS` of two keys belongs to neither.
        if self.more && rest.next().is_some() {
            return None;
        }
        Some(Target::One {
            key,
            may_have_fields: self.may_have_fields,
        })
    }
}

/// In the static lists.
fn is_listed(name: &[u8]) -> bool {
    [PLAIN, WITH_FIELDS]
        .iter()
        .flat_map(|names| names.split_whitespace())
        .any(|listed| name.eq_ignore_ascii_case(listed.as_bytes()))
}

fn is_each(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"MGET")
}

/// The words of a flat list.
fn strings(list: Option<&Value>) -> impl Iterator<Item = &[u8]> {
    let (Some(Value::Array(list) | Value::Set(list)),) = (list,) else {
        return [].iter().filter_map(text as fn(&Value) -> Option<&[u8]>);
    };
    list.iter().filter_map(text as fn(&Value) -> Option<&[u8]>)
}

/// True when a nested reply has this word among its flags.
fn mentions(value: &Value, word: &[u8]) -> bool {
    match value {
        Value::Array(items) | Value::Set(items) => items.iter().any(|item| mentions(item, word)),
        Value::Map(pairs) => pairs
            .iter()
            .any(|(key, value)| text(key) == Some(b"flags") && mentions(value, word)),
        other => text(other) == Some(word),
    }
}
