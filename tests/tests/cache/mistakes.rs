//! The mistakes that caches over invalidations are known for, each provoked on real servers.

use std::time::Duration;

use highwater::{CacheOptions, Client, Command, Route, Session};
use highwater_testkit::{Relay, Topology};
use redis::Value;

use crate::{
    ROOM, client,
    common::{SOON, bulk, get, set, until},
    connected, from_the_cache, of,
};

/// Each kind of read, with what makes its key, what it then shows, and what changes it.
const READS: &[(&str, &str, &str)] = &[
    ("GET k", "SET k old", "SET k new"),
    ("MGET k", "SET k old", "SET k new"),
    ("GETRANGE k 0 1", "SET k old", "SET k new"),
    ("STRLEN k", "SET k old", "SET k newer"),
    ("HGET k f", "HSET k f old", "HSET k f new"),
    ("HMGET k f g", "HSET k f old", "HSET k g new"),
    ("HGETALL k", "HSET k f old", "HSET k f new"),
    ("HLEN k", "HSET k f old", "HSET k g new"),
    ("LRANGE k 0 -1", "RPUSH k old", "LSET k 0 new"),
    ("SMEMBERS k", "SADD k 1", "SADD k 2"),
    ("SISMEMBER k new", "SADD k old", "SADD k new"),
    ("ZRANGE k 0 -1", "ZADD k 1 old", "ZADD k 0 new"),
    ("ZSCORE k old", "ZADD k 1 old", "ZINCRBY k 1 old"),
    ("XRANGE k - +", "XADD k 1-1 f old", "XADD k 1-2 f new"),
    ("EXISTS k", "SET k old", "DEL k"),
    ("TYPE k", "SET k old", "DEL k"),
    ("GEOPOS k p", "GEOADD k 1 1 p", "GEOADD k 2 2 p"),
];

/// A topology of one replica, which a client's feed reaches through a relay of its own.
struct Through {
    topology: Topology,
    between: Relay,
    /// Its writes go another way.
    writer: Client,
}

impl Through {
    async fn start() -> Self {
        let topology = Topology::builder().replicas(1).start().unwrap();
        let between = Relay::start(topology.replica(0).addr()).unwrap();
        let writer = Client::builder()
            .primary(topology.primary().url())
            .connect()
            .await
            .unwrap();
        Self {
            topology,
            between,
            writer,
        }
    }

    async fn client(&self, options: CacheOptions) -> Client {
        let builder = Client::builder()
            .primary(self.topology.primary().url())
            .replica(self.between.url())
            .response_timeout(2 * SOON)
            .cache(options);
        connected(builder).await
    }

    /// A write under the session, applied by the replica.
    async fn write(&self, words: &str, session: &Session) {
        self.writer.call(of(words, session)).await.unwrap();
        self.topology.wait_in_sync(SOON).unwrap();
    }

    /// What the primary says.
    async fn truth(&self, read: &str, session: &Session) -> Value {
        self.writer.call(of(read, session)).await.unwrap().value
    }
}

/// Mistakes 1 and 3: a write is applied after a fill's reply has been read at the server, and before the INFO
/// behind it. Its invalidation overtakes the end of the fill.
#[tokio::test(flavor = "multi_thread")]
async fn a_fill_that_an_invalidation_overtakes_is_not_kept() {
    for (read, make, change) in READS {
        let through = Through::start().await;
        let client = through.client(CacheOptions::new(ROOM)).await;
        let session = Session::new();
        through.write(make, &session).await;
        let old = through.truth(read, &session).await;
        // A fill's own command: what follows it on its connection is the INFO.
        let name = match read.split(' ').next().unwrap() {
            "MGET" => "GET",
            name => name,
        };
        let sent = format!("\r\n${}\r\n{name}\r\n$1\r\nk\r\n", name.len());
        let rest = read.split(' ').skip(2);
        let sent = rest.fold(sent, |sent, word| format!("{sent}${}\r\n{word}\r\n", word.len()));
        through.between.hold_when(sent);
        let filling = tokio::spawn({
            let (client, read) = (client.clone(), of(read, &Session::new()));
            async move { client.call(read).await }
        });
        through.between.wait_held(SOON).await.unwrap();
        // What has passed the relay has been answered at the server by the time that it sees the change.
        until("the server has the read", || {
            crate::common::calls(through.topology.replica(0), &name.to_ascii_lowercase()) > 0
        })
        .await;
        through.write(change, &session).await;
        through.between.release();
        let filled = filling.await.unwrap().unwrap();
        assert_eq!(filled.value, old, "{read}");
        let new = through.truth(read, &session).await;
        assert_ne!(new, old, "{read}");
        // The feed's INFO covers the change; the entry would not.
        let reply = client.call(of(read, &session)).await.unwrap();
        assert_eq!(reply.value, new, "{read} from {:?}", reply.route);
        assert_eq!(client.cache_stats().lost_races, 1, "{read}");
        from_the_cache(&client, &of(read, &session), &new).await;
    }
}

/// Mistake 3, in quiet: each kind of read is kept, and its change seen.
#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_read_is_kept_and_its_change_seen() {
    let through = Through::start().await;
    let client = through.client(CacheOptions::new(ROOM)).await;
    for (read, make, change) in READS {
        let session = Session::new();
        through.write("DEL k", &session).await;
        for write in [make, change] {
            through.write(write, &session).await;
            let value = through.truth(read, &session).await;
            from_the_cache(&client, &of(read, &session), &value).await;
        }
    }
}

/// Mistake 2: all keys at once.
#[tokio::test(flavor = "multi_thread")]
async fn flushing_all_is_seen() {
    let through = Through::start().await;
    let client = through.client(CacheOptions::new(ROOM)).await;
    for flush in ["FLUSHALL", "FLUSHDB"] {
        let session = Session::new();
        for key in ["a", "b"] {
            through.write(&format!("SET {key} v"), &session).await;
            from_the_cache(&client, &get(key, &session), &bulk("v")).await;
        }
        through.write(flush, &session).await;
        for key in ["a", "b"] {
            let reply = client.call(get(key, &session)).await.unwrap();
            assert_eq!(reply.value, Value::Nil, "after {flush} from {:?}", reply.route);
            // The server has forgotten what it tracked: the key must have been tracked anew.
            through.write(&format!("SET {key} again"), &session).await;
            from_the_cache(&client, &get(key, &session), &bulk("again")).await;
        }
    }
}

/// Mistake 4.
#[tokio::test(flavor = "multi_thread")]
async fn arguments_do_not_run_together() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = client(&topology).await;
    let session = Session::new();
    for write in [
        "HSET k a 1 bc 2 ab 3 c 4",
        "SET s 0123456789",
        "SET kk other",
        "HSET ka b 5",
    ] {
        client.call(of(write, &session)).await.unwrap();
    }
    let array = |values: &[&str]| Value::Array(values.iter().map(|value| bulk(value)).collect());
    for _ in 0..3 {
        for (read, value) in [
            ("HMGET k a bc", array(&["1", "2"])),
            ("HMGET k ab c", array(&["3", "4"])),
            ("HMGET k a bc", array(&["1", "2"])),
            ("GETRANGE s 1 12", bulk("123456789")),
            ("GETRANGE s 11 2", bulk("")),
            ("HGET k ab", bulk("3")),
            ("HGET ka b", bulk("5")),
            ("GET kk", bulk("other")),
        ] {
            from_the_cache(&client, &of(read, &session), &value).await;
        }
    }
}

/// Mistake 5: what was told while nobody listened is not known.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_while_the_feed_was_gone_is_seen() {
    let through = Through::start().await;
    let client = through.client(CacheOptions::new(ROOM)).await;
    let session = Session::new();
    for round in 0..5 {
        let (old, new) = (format!("{round}:old"), format!("{round}:new"));
        through.write(&format!("SET k {old}"), &session).await;
        from_the_cache(&client, &get("k", &session), &bulk(&old)).await;
        through.between.refuse(true);
        until("the feed is down", || {
            client.status().cache.unwrap().feeds[0].connection == "down"
        })
        .await;
        let reply = client.call(get("k", &Session::new())).await.unwrap();
        assert_eq!(reply.route, Route::Primary, "no entry is used without its feed");
        through.write(&format!("SET k {new}"), &session).await;
        through.between.refuse(false);
        crate::feeds_are_up(&client).await;
        // Also for one who depends on nothing: an entry of before is not valid for anybody.
        let reply = client.call(get("k", &Session::new())).await.unwrap();
        assert_eq!(reply.value, bulk(&new), "from {:?}", reply.route);
        from_the_cache(&client, &get("k", &session), &bulk(&new)).await;
    }
}

/// A replica that is sent back in time, on a connection that stays open: its new data are older than what the feed
/// had told of.
#[tokio::test(flavor = "multi_thread")]
async fn older_data_are_not_taken_for_what_was_there_before() {
    for load in ["disabled", "swapdb"] {
        let topology = Topology::builder()
            .replicas(2)
            .replica_args(["--repl-diskless-load", load])
            .start()
            .unwrap();
        topology.primary().command(&["SET", "k", "old"]).unwrap();
        topology.wait_in_sync(SOON).unwrap();
        topology.relay(1).pause();
        let builder = Client::builder()
            .primary(topology.primary().url())
            .replica(topology.replica(0).url())
            .cache(CacheOptions::new(ROOM));
        let client = connected(builder).await;
        let session = Session::new();
        client.call(set("k", "new", &session)).await.unwrap();
        from_the_cache(&client, &get("k", &session), &bulk("new")).await;
        let flushes = client.cache_stats().flushes;
        topology
            .replica(0)
            .replicaof("127.0.0.1", topology.replica(1).port())
            .unwrap();
        until("the feed has been told that the data were replaced", || {
            client.cache_stats().flushes > flushes
        })
        .await;
        topology
            .replica(0)
            .wait_for(SOON, "the replica has gone back", |info| info.link_up)
            .unwrap();
        assert_eq!(
            topology.replica(0).command(&["GET", "k"]).unwrap().text(),
            Some("old")
        );
        let stranger = client.call(get("k", &Session::new())).await.unwrap();
        println!("{load}: a stranger sees {:?}", stranger.value);
        for _ in 0..20 {
            let reply = client.call(get("k", &session)).await.unwrap();
            assert_eq!(reply.value, bulk("new"), "{load}: from {:?}", reply.route);
        }
        topology.relay(1).resume();
        from_the_cache(&client, &get("k", &session), &bulk("new")).await;
    }
}

/// An entry lives no longer than its key, although the replica tells of no expiry until the primary does.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_key_is_gone() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    // No DEL will ever come.
    topology
        .primary()
        .command(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"])
        .ok();
    let client = client(&topology).await;
    let session = Session::new();
    let set = Command::new(redis::cmd("SET").arg("k").arg("v").arg("PX").arg(400)).session(&session);
    client.call(set).await.unwrap();
    let mut hits = 0;
    let deadline = std::time::Instant::now() + SOON;
    loop {
        let reply = client.call(get("k", &session)).await.unwrap();
        hits += u32::from(reply.route == Route::Cache && reply.value != Value::Nil);
        if reply.value == Value::Nil {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "the key does not expire");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    println!("{hits} hits before the end");
    // Given a longer life, the entry goes with the old one.
    client.call(set_with(&session, "v2", 100_000)).await.unwrap();
    from_the_cache(&client, &get("k", &session), &bulk("v2")).await;
    client.call(of("PEXPIRE k 1", &session)).await.unwrap();
    until("the key has expired everywhere", || {
        topology.primary().command(&["EXISTS", "k"]).unwrap().integer() == Some(0)
    })
    .await;
    let reply = client.call(get("k", &session)).await.unwrap();
    assert_eq!(reply.value, Value::Nil, "from {:?}", reply.route);
}

fn set_with(session: &Session, value: &str, millis: u64) -> Command {
    Command::new(redis::cmd("SET").arg("k").arg(value).arg("PX").arg(millis)).session(session)
}
