//! What is compared: commands in groups, each run on an empty database in this order.

/// One command.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) arguments: Vec<Vec<u8>>,
    pub(crate) compare: Compare,
}

/// What must be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    /// The reply.
    Reply,
    /// The reply, whose elements come in any order. Marked with `~`.
    Unordered,
    /// The type of the reply: it tells of times, of chance or of the connection. Marked with `?`.
    Type,
}

/// Commands that are alike.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) lines: Vec<Line>,
}

impl Line {
    fn new(arguments: &[&[u8]]) -> Self {
        Self {
            arguments: arguments.iter().map(|argument| argument.to_vec()).collect(),
            compare: Compare::Reply,
        }
    }

    fn parse(line: &str) -> Self {
        let (compare, line) = match line.split_at(2) {
            ("~ ", rest) => (Compare::Unordered, rest),
            ("? ", rest) => (Compare::Type, rest),
            _ => (Compare::Reply, line),
        };
        // Words, and what stands between apostrophes.
        let mut arguments = Vec::new();
        for (place, part) in line.split('\'').enumerate() {
            if place % 2 == 1 {
                // Lines of a library, which end at a bar here.
                arguments.push(part.replace('|', "\n").into_bytes());
            } else {
                arguments.extend(part.split_whitespace().map(|word| word.as_bytes().to_vec()));
            }
        }
        Self { arguments, compare }
    }

    /// The command's name, with the subcommand of those that are only known by it.
    pub(crate) fn name(&self) -> String {
        let word = |place: usize| String::from_utf8_lossy(&self.arguments[place]).to_ascii_uppercase();
        let name = word(0);
        let containers = [
            "ACL", "CLIENT", "COMMAND", "CONFIG", "FUNCTION", "LATENCY", "MEMORY", "OBJECT", "PUBSUB",
            "SCRIPT", "SLOWLOG", "XGROUP", "XINFO",
        ];
        if containers.contains(&name.as_str()) && self.arguments.len() > 1 {
            return format!("{name} {}", word(1));
        }
        name
    }
}

/// Commands of servers that change the server itself, or that only other servers and its own tests send; and
/// what Redis 6.2 knows only to hang up on browsers.
pub(crate) const LEFT_OUT: &str = "\
    BGREWRITEAOF BGSAVE SAVE DEBUG FAILOVER MIGRATE PFDEBUG PFSELFTEST REPLICAOF RESTORE-ASKING SHUTDOWN SLAVEOF HOST: POST";

/// All groups.
pub(crate) fn groups() -> Vec<Group> {
    let mut groups: Vec<Group> = TEXT
        .split("\n\n")
        .map(|block| {
            let mut lines = block.trim().lines();
            Group {
                name: lines.next().unwrap().strip_prefix("# ").unwrap(),
                lines: lines.map(Line::parse).collect(),
            }
        })
        .collect();
    let binary: Vec<u8> = (0..=255).collect();
    groups.push(Group {
        name: "binary keys and values",
        lines: vec![
            Line::new(&[b"SET", &binary, &binary]),
            Line::new(&[b"GET", &binary]),
            Line::new(&[b"HSET", b"\r\n", b"*1\r\n$4\r\nPING\r\n", &binary]),
            Line::new(&[b"HGETALL", b"\r\n"]),
            Line::new(&[b"SET", b"", b""]),
            Line::new(&[b"GET", b""]),
            Line::new(&[b"KEYS", b"\0*"]),
        ],
    });
    let large = b"0123456789abcdef".repeat(10 << 16);
    groups.push(Group {
        name: "values of 10 MiB",
        lines: vec![
            Line::new(&[b"SET", b"large", &large]),
            Line::new(&[b"GET", b"large"]),
            Line::new(&[b"STRLEN", b"large"]),
            Line::new(&[b"APPEND", b"large", b"x"]),
            Line::new(&[b"GETRANGE", b"large", b"10485750", b"-1"]),
            Line::new(&[b"RPUSH", b"list", &large, &large]),
            Line::new(&[b"LRANGE", b"list", b"0", b"-1"]),
            Line::new(&[b"ECHO", &large]),
            Line::new(&[b"DEL", b"large", b"list"]),
        ],
    });
    groups
}

const TEXT: &str = r#"
# strings
SET k v
SET k w NX
SET k w XX GET
GET k
GETSET k x
GETDEL k
GET k
SETNX k v
SETEX t 1000 v
PSETEX t 1000000 v
MSET a 1 b 2
MSETNX a 1 c 2
MGET a b c
INCR a
INCRBY a 10
INCRBYFLOAT a 0.5
DECR b
DECRBY b 5
APPEND s hello
STRLEN s
GETRANGE s 1 3
SUBSTR s 1 3
SETRANGE s 1 ipp
GETEX s EX 1000
LCS a b
LCS a b IDX
STRALGO LCS KEYS a b
GET
INCR s
NONSENSE k

# keys and expiry
SET k v
EXISTS k k none
TYPE k
TYPE none
EXPIREAT k 33177117420
EXPIRETIME k
PEXPIRETIME k
? TTL k
? PTTL k
PERSIST k
TTL k
TTL none
PTTL none
EXPIRE k 1000 XX
EXPIRE k 1000
PEXPIRE k 1000000
PEXPIREAT k 33177117420000
EXPIRE k -1
EXISTS k
SET k v
COPY k c
RENAME c d
RENAMENX d k
RENAME none x
TOUCH k d
DUMP k
OBJECT ENCODING k
OBJECT REFCOUNT k
? OBJECT IDLETIME k
OBJECT FREQ k
OBJECT HELP
? RANDOMKEY
MOVE k 1
MOVE none 1
~ KEYS *
DBSIZE
SORT none
RPUSH l 3 1 2
SORT l
SORT_RO l DESC
SORT l STORE sorted
UNLINK l none
DEL sorted none
SWAPDB 0 1
SWAPDB 0 1
RESTORE r 0 nonsense
FLUSHDB
FLUSHALL

# hashes
HSET h a 1 b 2
HSET h a 3
HSETNX h a 4
HGET h a
HGET h none
HMGET h a b none
HGETALL h
HGETALL none
HKEYS h
HVALS h
HLEN h
HEXISTS h a
HSTRLEN h a
HINCRBY h a 2
HINCRBYFLOAT h b 0.25
HMSET h c 5
HRANDFIELD none
HRANDFIELD none 3 WITHVALUES
? HRANDFIELD h 2 WITHVALUES
HDEL h a none
SET s v
HGET s a
HINCRBY h c x

# lists
RPUSH l a b c d
LPUSH l z
LPUSHX l y
RPUSHX none y
LRANGE l 0 -1
LINDEX l 1
LLEN l
LPOS l c
LPOS l c RANK -1 COUNT 0
LINSERT l BEFORE c x
LSET l 0 first
LSET none 0 x
LREM l 0 x
LTRIM l 0 3
LPOP l
LPOP none
LPOP l 2
RPOP l
RPOP none 2
RPUSH l a b
RPOPLPUSH l m
LMOVE l m LEFT RIGHT
RPUSH l a b
LMPOP 2 none l LEFT COUNT 2
LMPOP 1 none LEFT
SET s v
LPUSH s x

# sets
SADD s a b c
SADD s a
SCARD s
SISMEMBER s a
SMISMEMBER s a none
~ SMEMBERS s
SMEMBERS none
SADD t b c d
~ SINTER s t
SINTERCARD 2 s t
~ SUNION s t
~ SDIFF s t
SINTERSTORE u s t
SUNIONSTORE u s t
SDIFFSTORE u s t
SMOVE s t a
SREM s a none
SADD one x
SRANDMEMBER one
SRANDMEMBER one 3
SPOP one
SPOP none
? SPOP s 2

# sorted sets
ZADD z 1 a 2.5 b 3 c
ZADD z NX 5 a
ZADD z INCR 1 a
ZADD z XX GT CH 9 c
ZSCORE z b
ZSCORE z none
ZMSCORE z a none
ZCARD z
ZCOUNT z 1 3
ZLEXCOUNT z - +
ZRANK z a
ZRANK z none
ZREVRANK z a
ZRANGE z 0 -1
ZRANGE z 0 -1 WITHSCORES
ZRANGE z 0 100 BYSCORE LIMIT 0 2
ZRANGEBYSCORE z -inf +inf WITHSCORES
ZREVRANGE z 0 0 WITHSCORES
ZREVRANGEBYSCORE z +inf 0
ZRANGEBYLEX z - +
ZREVRANGEBYLEX z + -
ZRANDMEMBER none
? ZRANDMEMBER z 2 WITHSCORES
ZINCRBY z 0.1 a
ZADD y 1 b 1 d
ZINTER 2 z y WITHSCORES
ZINTERCARD 2 z y
ZUNION 2 z y WITHSCORES
ZDIFF 2 z y WITHSCORES
ZINTERSTORE x 2 z y
ZUNIONSTORE x 2 z y WEIGHTS 2 1
ZDIFFSTORE x 2 z y
ZRANGESTORE x z 0 1
ZPOPMIN z
ZPOPMAX z 2
ZPOPMIN none
ZMPOP 1 x MIN COUNT 2
ZMPOP 1 none MIN
ZREM y b none
ZADD w 1 a 2 b 3 c
ZREMRANGEBYRANK w 0 0
ZREMRANGEBYSCORE w 2 2
ZREMRANGEBYLEX w - +
ZADD y x nonsense

# streams
XADD s 1-1 f v
XADD s 2-1 f w g x
XADD s 1-1 f v
? XADD s * f now
XLEN s
XRANGE s - 5
XREVRANGE s 5 -
XREAD COUNT 1 STREAMS s 0
XREAD STREAMS none 0
XGROUP CREATE s g 0
XGROUP CREATE s g 0
XGROUP CREATECONSUMER s g c
XREADGROUP GROUP g c COUNT 2 STREAMS s >
XREADGROUP GROUP none c STREAMS s >
XPENDING s g
? XPENDING s g - + 10
XCLAIM s g d 0 1-1
XCLAIM s g d 0 2-1 JUSTID
XAUTOCLAIM s g e 0 0 COUNT 1
XACK s g 1-1
XINFO STREAM none
? XINFO STREAM s
? XINFO GROUPS s
? XINFO CONSUMERS s g
XGROUP SETID s g 0
XGROUP DELCONSUMER s g c
XGROUP DESTROY s g
XDEL s 1-1
XTRIM s MAXLEN 1
XSETID s 99999999999999-1

# fields that expire, and other newer commands
HSET h a 1 b 2 c 3
HEXPIRE h 1000 FIELDS 1 a
HEXPIREAT h 33177117420 FIELDS 1 a
HPEXPIRE h 1000000 FIELDS 1 b
HPEXPIREAT h 33177117420000 FIELDS 1 b
HEXPIRETIME h FIELDS 2 a c
HPEXPIRETIME h FIELDS 2 a c
? HTTL h FIELDS 1 a
? HPTTL h FIELDS 1 a
HPERSIST h FIELDS 1 a
HGETEX h EX 1000 FIELDS 1 a
HSETEX h EX 1000 FIELDS 1 d 4
HGETDEL h FIELDS 1 a
MSETEX 1 k v EX 1000
SET k v
DELIFEQ k w
DELIFEQ k v
CLUSTERSCAN 0
XADD s 1-1 f v
XADD s 2-1 f v
XGROUP CREATE s g 0
XREADGROUP GROUP g c STREAMS s >
XACKDEL s g KEEPREF IDS 1 1-1
XDELEX s KEEPREF IDS 2 1-1 2-1
VADD v VALUES 2 1 0 a
VADD v VALUES 2 0 1 b SETATTR '{"n":1}'
VCARD v
VDIM v
? VEMB v a
VGETATTR v b
VSETATTR v a '{"n":2}'
VINFO none
VISMEMBER v a
VISMEMBER v none
? VLINKS v a
? VRANDMEMBER v
VSIM v VALUES 2 1 0 COUNT 1
VREM v b

# geo
GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania
GEODIST g Palermo Catania km
GEODIST g Palermo none
GEOHASH g Palermo Catania none
GEOPOS g Palermo none
GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km ASC WITHCOORD WITHDIST
GEORADIUS g 15 37 200 km ASC
GEORADIUS_RO g 15 37 200 km ASC
GEORADIUSBYMEMBER g Palermo 200 km ASC
GEORADIUSBYMEMBER_RO g Palermo 200 km ASC
GEOSEARCHSTORE n g FROMLONLAT 15 37 BYBOX 400 400 km ASC

# hyperloglog
PFADD p a b c
PFADD p a
PFCOUNT p
PFADD q c d
PFMERGE r p q
PFCOUNT r
PFCOUNT p q
SET s v
PFADD s a

# bitmaps
SETBIT b 7 1
GETBIT b 7
BITCOUNT b
BITCOUNT b 0 0 BYTE
BITPOS b 1
SET c abc
BITOP AND d b c
BITFIELD b SET u8 0 255 GET u4 0 INCRBY u4 4 1
BITFIELD b OVERFLOW FAIL INCRBY u2 0 9
BITFIELD_RO b GET u8 0
SETBIT b x 1

# scripts
SCRIPT FLUSH
SET k v
EVAL 'return redis.call("GET", KEYS[1])' 1 k
EVAL 'return {1, 2.7, "x", false, {ok="fine"}, {3}}' 0
EVAL 'redis.call("SET", KEYS[1], ARGV[1])' 1 k w
EVAL 'return redis.error_reply("MINE is mine")' 0
EVAL 'redis.call("SET", "half", 1); return redis.call("HGET", KEYS[1], "f")' 1 k
EVAL 'this is no script' 0
EVAL_RO 'return redis.call("GET", KEYS[1])' 1 k
EVAL_RO 'return redis.call("SET", KEYS[1], 1)' 1 k
SCRIPT LOAD 'return {KEYS[1], ARGV[1]}'
EVALSHA d006f1a90249474274c76f5be725b8f5804a346b 1 k x
EVALSHA ffffffffffffffffffffffffffffffffffffffff 0
EVALSHA_RO ffffffffffffffffffffffffffffffffffffffff 0
SCRIPT EXISTS ffffffffffffffffffffffffffffffffffffffff
SCRIPT KILL
GET half

# functions
FUNCTION FLUSH
FUNCTION LOAD '#!lua name=lib|redis.register_function("put", function(keys, args) return redis.call("SET", keys[1], args[1]) end)|redis.register_function{function_name="take", callback=function(keys) return redis.call("GET", keys[1]) end, flags={"no-writes"}}'
FUNCTION LIST
FCALL put 1 k v
FCALL_RO take 1 k
FCALL_RO put 1 k v
FCALL none 0
FCALL_RO none 0
FUNCTION DUMP
FUNCTION DELETE lib
FUNCTION DELETE lib
FUNCTION STATS

# publishing
PUBLISH c message
SPUBLISH c message
PUBSUB CHANNELS
PUBSUB NUMSUB c
PUBSUB NUMPAT

# never
SUBSCRIBE c
PSUBSCRIBE c*
SSUBSCRIBE c
UNSUBSCRIBE c
PUNSUBSCRIBE c*
SUNSUBSCRIBE c
MONITOR
HELLO 2
RESET
QUIT
CLIENT REPLY OFF
CLIENT TRACKING OFF
CLIENT CACHING YES
SCRIPT DEBUG YES
SYNC
PSYNC ? -1
REPLCONF ACK 0

# blocking
RPUSH l a b c d e f
BLPOP none l 0
BRPOP l none 0.5
BLPOP none 0.01
BLMOVE l m LEFT RIGHT 0
BRPOPLPUSH l m 0
BLMOVE none m LEFT RIGHT 0.01
BLMPOP 0.01 1 l LEFT COUNT 2
BLMPOP 0.01 1 none LEFT
ZADD z 1 a 2 b 3 c
BZPOPMIN none z 0
BZPOPMAX z 0
BZPOPMIN none 0.01
BZMPOP 0.01 1 z MIN
XADD s 1-1 f v
XREAD BLOCK 10 STREAMS s 0
XREAD BLOCK 10 STREAMS s $
XGROUP CREATE s g 0
XREADGROUP GROUP g c BLOCK 10 STREAMS s >
XREADGROUP GROUP g c BLOCK 10 STREAMS s >
BLPOP l nonsense
SET str v
BLPOP str 0

# cursors
MSET a 1 b 2 c 3
~ SCAN 0 COUNT 1000
~ SCAN 0 MATCH a* COUNT 1000 TYPE string
HSET h a 1 b 2
~ HSCAN h 0
SADD s a b
~ SSCAN s 0
ZADD z 1 a 2 b
~ ZSCAN z 0
SCAN nonsense

# transactions by hand
WATCH k
UNWATCH
MULTI
SET k v
GET k
LPUSH k x
MULTI
WATCH k
EXEC
EXEC
MULTI
SET k w
DISCARD
DISCARD
GET k
MULTI
NONSENSE
SET k x
EXEC
GET k

# connection state
SELECT 1
SET k v
SELECT 0
GET k
SELECT nonsense
CLIENT SETNAME x
CLIENT NO-EVICT off
WAIT 0 10
WAITAOF 0 0 10
READONLY
READWRITE
ASKING
? CLIENT ID
AUTH user nonsense

# server and admin
PING
PING hello
ECHO hello
? TIME
? INFO
? INFO replication
? ROLE
CONFIG GET maxmemory
CONFIG SET maxmemory-samples 5
CONFIG SET nonsense 1
CONFIG RESETSTAT
COMMAND COUNT
COMMAND GETKEYS SET k v
? COMMAND INFO get
ACL WHOAMI
ACL LIST
? CLIENT LIST
? CLIENT INFO
? CLIENT GETREDIR
CLIENT UNPAUSE
CLIENT KILL 127.0.0.1:1
SLOWLOG LEN
? SLOWLOG GET
? LASTSAVE
SET k v
? MEMORY USAGE k
? MEMORY DOCTOR
LATENCY RESET
MODULE LIST
CLUSTER INFO
COMMANDLOG LEN slow
LOLWUT VERSION 1

# RESP3 types
HSET h a 1
HGETALL h
SADD s a
SMEMBERS s
ZADD z 1.5 a
ZSCORE z a
ZRANGE z 0 -1 WITHSCORES
GET none
LPOP none
EVAL 'redis.setresp(3); return {double=3.25}' 0
EVAL 'redis.setresp(3); return true' 0
EVAL 'redis.setresp(3); return {false, true}' 0
EVAL 'redis.setresp(3); return {map={a=1}}' 0
EVAL 'redis.setresp(3); return {set={a=true}}' 0
EVAL 'redis.setresp(3); return {big_number="123456789012345678901234567890"}' 0
EVAL 'redis.setresp(3); return {verbatim_string={format="txt", string="some text"}}' 0
EVAL 'redis.setresp(3); return redis.call("HGETALL", KEYS[1])' 1 h
EVAL 'redis.setresp(3); return {{double=-1e300}, {map={b={set={c=true}}}}}' 0
EVAL 'return false' 0
EVAL 'return {1, false, "after"}' 0
"#;
