//! redis-rs as people use it, on the session's connection and on one of its own.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod common;

use std::collections::{BTreeMap, HashMap, HashSet};

use highwater::{Client, Session};
use highwater_testkit::{ServerKind, Topology};
use redis::{
    AsyncCommands, ExistenceCheck, FromRedisValue, RedisResult, ScanOptions, Script, SetExpiry, SetOptions,
    ToRedisArgs, Value,
    aio::ConnectionLike,
    geo::{Coord, RadiusOptions, RadiusOrder, RadiusSearchResult, Unit},
    streams::{
        StreamId, StreamInfoGroupsReply, StreamMaxlen, StreamPendingReply, StreamRangeReply,
        StreamReadOptions, StreamReadReply,
    },
};

async fn servers() -> (Topology, Client) {
    let topology = Topology::builder().replicas(1).start().unwrap();
    // What a busy machine takes long for is not what these tests are about.
    let client = common::builder(&topology)
        .response_timeout(common::SOON)
        .connect()
        .await
        .unwrap();
    (topology, client)
}

/// Runs a test on each kind of handle, on an empty server.
macro_rules! on_each_handle {
    ($test:ident) => {{
        let (_topology, client) = servers().await;
        let session = Session::new();
        let mut shared = client.with(&session);
        $test(&mut shared).await.unwrap();
        let () = shared.flushall().await.unwrap();
        let mut own = client.dedicated(&session).await.unwrap();
        $test(&mut own).await.unwrap();
        assert!(session.marks().written().all(|mark| !mark.offset.is_unknown()));
    }};
}

/// Redis 6.2 has no `SET … NX … GET`, and wraps what a script's command has failed with in an error of its own.
fn is_redis_6() -> bool {
    ServerKind::from_env().unwrap().release().unwrap() < (7, 0)
}

async fn values_of_many_types(connection: &mut impl AsyncCommands) -> RedisResult<()> {
    let () = connection.set("count", 41).await?;
    let next: i64 = connection.incr("count", 1).await?;
    assert_eq!(next, 42);
    assert_eq!(connection.get::<_, String>("count").await?, "42");
    assert_eq!(connection.get::<_, f64>("count").await?, 42.0);
    assert_eq!(connection.get::<_, Vec<u8>>("count").await?, b"42");
    assert_eq!(connection.get::<_, Option<u8>>("missing").await?, None);
    let failed = connection.get::<_, u8>("missing").await.unwrap_err();
    assert_eq!(failed.kind(), redis::ErrorKind::Parse);

    let () = connection.mset(&[("a", "1"), ("b", "2")]).await?;
    let (a, b, none): (u8, u8, Option<u8>) = connection.mget(&["a", "b", "none"]).await?;
    assert_eq!((a, b, none), (1, 2, None));

    let options = SetOptions::default()
        .conditional_set(ExistenceCheck::NX)
        .with_expiration(SetExpiry::EX(60))
        .get(!is_redis_6());
    let before: Value = connection.set_options("fresh", "new", options).await?;
    assert_eq!(before, if is_redis_6() { Value::Okay } else { Value::Nil });
    let left: i64 = connection.ttl("fresh").await?;
    assert!((1..=60).contains(&left));

    let () = connection
        .hset_multiple("person", &[("name", "Ann"), ("town", "Oslo")])
        .await?;
    let person: HashMap<String, String> = connection.hgetall("person").await?;
    assert_eq!(person["town"], "Oslo");
    let sorted: BTreeMap<String, String> = connection.hgetall("person").await?;
    assert_eq!(sorted.keys().next().map(String::as_str), Some("name"));

    let _: usize = connection.sadd("tags", &["red", "green", "red"]).await?;
    let tags: HashSet<String> = connection.smembers("tags").await?;
    assert_eq!(tags.len(), 2);

    let _: usize = connection
        .zadd_multiple("scores", &[(1.5, "low"), (9.0, "high")])
        .await?;
    let top: Vec<(String, f64)> = connection.zrevrange_withscores("scores", 0, 0).await?;
    assert_eq!(top, [("high".to_owned(), 9.0)]);
    let score: Option<f64> = connection.zscore("scores", "low").await?;
    assert_eq!(score, Some(1.5));

    let exists: bool = connection.exists("scores").await?;
    assert!(exists);
    let removed: usize = connection.del(&["scores", "tags", "nothing"]).await?;
    assert_eq!(removed, 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn values_convert() {
    on_each_handle!(values_of_many_types);
}

/// A caller's own type.
#[derive(Debug, PartialEq)]
struct Price(u64);

impl ToRedisArgs for Price {
    fn write_redis_args<W: ?Sized + redis::RedisWrite>(&self, out: &mut W) {
        out.write_arg_fmt(format_args!("{} cents", self.0));
    }
}

impl redis::ToSingleRedisArg for Price {}

impl FromRedisValue for Price {
    fn from_redis_value(value: Value) -> Result<Self, redis::ParsingError> {
        let text: String = redis::from_redis_value(value)?;
        let cents = text.strip_suffix(" cents").and_then(|cents| cents.parse().ok());
        cents.map(Self).ok_or_else(|| "no price".into())
    }
}

async fn own_types(connection: &mut impl AsyncCommands) -> RedisResult<()> {
    let () = connection.set("price", Price(199)).await?;
    assert_eq!(connection.get::<_, Price>("price").await?, Price(199));
    let () = connection.set("price", "free").await?;
    let failed = connection.get::<_, Price>("price").await.unwrap_err();
    assert_eq!(failed.kind(), redis::ErrorKind::Parse);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_own_types_work() {
    on_each_handle!(own_types);
}

async fn pipelines(connection: &mut impl AsyncCommands) -> RedisResult<()> {
    let (first, second): (u32, Option<String>) = redis::pipe()
        .set("a", 1)
        .ignore()
        .cmd("SET")
        .arg("b")
        .arg(2)
        .ignore()
        .incr("a", 4)
        .get("none")
        .query_async(connection)
        .await?;
    assert_eq!((first, second), (5, None));

    // One reply is still a row of one.
    let (n,): (u32,) = redis::pipe()
        .atomic()
        .incr("a", 1)
        .query_async(connection)
        .await?;
    assert_eq!(n, 6);
    let _: usize = connection.rpush("few", &["x", "y"]).await?;
    let (few,): (Vec<String>,) = redis::pipe().lrange("few", 0, -1).query_async(connection).await?;
    assert_eq!(few, ["x", "y"]);
    redis::pipe().set("c", 1).del("c").exec_async(connection).await?;

    // One error makes the whole an error, which tells where it was.
    let mut broken = redis::pipe();
    broken.set("s", "text").incr("s", 1).get("s").lpush("s", 1);
    let failed = broken.query_async::<Value>(connection).await.unwrap_err();
    let errors = failed.into_server_errors().unwrap();
    assert_eq!(
        errors
            .iter()
            .map(|(place, error)| (*place, error.code()))
            .collect::<Vec<_>>(),
        [(1, "ERR"), (3, "WRONGTYPE")]
    );

    // Or each is seen for itself.
    let results: Vec<RedisResult<Value>> = broken.ignore_errors().query_async(connection).await?;
    assert_eq!(
        results.iter().map(Result::is_ok).collect::<Vec<_>>(),
        [true, false, true, false]
    );
    let mut atomic = broken.clone();
    let results: Vec<RedisResult<Value>> = atomic.atomic().ignore_errors().query_async(connection).await?;
    assert_eq!(
        results.iter().map(Result::is_ok).collect::<Vec<_>>(),
        [true, false, true, false]
    );

    // What can't be queued aborts a transaction, and nothing of it happens.
    let mut aborted = redis::pipe();
    aborted
        .atomic()
        .set("never", 1)
        .cmd("SET")
        .arg("never")
        .cmd("NONSENSE");
    let failed = aborted.exec_async(connection).await.unwrap_err();
    assert_eq!(failed.code(), Some("EXECABORT"));
    let places: Vec<usize> = failed
        .into_server_errors()
        .unwrap()
        .iter()
        .map(|(place, _)| *place)
        .collect();
    assert_eq!(places, [1, 2]);
    assert!(!connection.exists::<_, bool>("never").await?);

    // A pipeline can be kept, and used again.
    let mut kept = redis::pipe();
    kept.incr("kept", 1);
    for round in 1..4_u32 {
        assert_eq!(kept.query_async::<(u32,)>(connection).await?, (round,));
    }
    kept.clear();
    let empty = kept.query_async::<()>(connection).await.unwrap_err();
    assert_eq!(empty.kind(), redis::ErrorKind::Client);
    let nothing: Vec<Value> = kept.atomic().query_async(connection).await?;
    assert_eq!(nothing, []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelines_work() {
    on_each_handle!(pipelines);
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_tried_again_when_a_watched_key_has_changed() {
    let (_topology, client) = servers().await;
    let session = Session::new();
    let connection = client.dedicated(&session).await.unwrap();
    let mut rounds = 0;
    let disturber = client.clone();
    let (n,): (i64,) = redis::aio::transaction_async(connection.clone(), &["n"], |mut own, mut pipe| {
        rounds += 1;
        let first = rounds == 1;
        let disturber = disturber.clone();
        async move {
            let n: Option<i64> = own.get("n").await?;
            if first {
                // Somebody else is quicker.
                let () = disturber.with(&Session::new()).set("n", 10).await?;
            }
            pipe.set("n", n.unwrap_or(0) + 1)
                .ignore()
                .get("n")
                .query_async(&mut own)
                .await
        }
    })
    .await
    .unwrap();
    assert_eq!((n, rounds), (11, 2));
    let seen: i64 = client.with(&session).get("n").await.unwrap();
    assert_eq!(seen, 11);

    // One that gives up leaves the connection as it was.
    let failed = redis::aio::transaction_async::<_, _, (), _, _>(
        connection.clone(),
        &["n"],
        |mut own, _| async move {
            let _: i64 = own.lpush("n", 1).await?;
            Ok(None)
        },
    )
    .await
    .unwrap_err();
    assert_eq!(failed.code(), Some("WRONGTYPE"));
    let (n,): (i64,) = redis::pipe()
        .atomic()
        .incr("n", 1)
        .query_async(&mut connection.clone())
        .await
        .unwrap();
    assert_eq!(n, 12);
}

async fn scripts(connection: &mut impl AsyncCommands) -> RedisResult<()> {
    let script = Script::new("return tonumber(ARGV[1]) + tonumber(redis.call('INCR', KEYS[1]))");
    for round in 1..4_i64 {
        let sum: i64 = script.key("runs").arg(100).invoke_async(connection).await?;
        assert_eq!(sum, 100 + round);
    }
    let loaded = Script::new("return {KEYS[1], ARGV[1], 7}");
    let hash: String = loaded.prepare_invoke().load_async(connection).await?;
    assert_eq!(hash, loaded.get_hash());
    let (key, argument, number): (String, String, u8) =
        loaded.key("k").arg("a").invoke_async(connection).await?;
    assert_eq!((key.as_str(), argument.as_str(), number), ("k", "a", 7));
    let failing = Script::new("return redis.call('LPUSH', KEYS[1], 1)");
    let failed = failing
        .key("runs")
        .invoke_async::<Value>(connection)
        .await
        .unwrap_err();
    assert_eq!(
        failed.code(),
        Some(if is_redis_6() { "ERR" } else { "WRONGTYPE" })
    );
    assert!(failed.to_string().contains("WRONGTYPE"), "{failed}");
    // In a pipeline a script must be there already.
    let (sum, runs): (i64, i64) = redis::pipe()
        .invoke_script(script.key("runs").arg(0))
        .get("runs")
        .query_async(connection)
        .await?;
    assert_eq!((sum, runs), (4, 4));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_load_themselves() {
    on_each_handle!(scripts);
}

async fn scans(connection: &mut impl AsyncCommands) -> RedisResult<()> {
    for n in 0..300 {
        let () = connection.set(format!("user:{n}"), n).await?;
        let _: usize = connection.hset("ages", format!("user:{n}"), n).await?;
    }
    let mut seen = HashSet::new();
    let mut keys = connection
        .scan_options::<String>(ScanOptions::default().with_pattern("user:*").with_count(7))
        .await?;
    while let Some(key) = keys.next_item().await {
        seen.insert(key?);
    }
    drop(keys);
    assert_eq!(seen.len(), 300);
    let mut ages = connection
        .hscan_match::<_, _, (String, u32)>("ages", "user:1*")
        .await?;
    let mut sum = 0;
    while let Some(pair) = ages.next_item().await {
        sum += pair?.1;
    }
    drop(ages);
    assert_eq!(sum, 1 + (10..20).sum::<u32>() + (100..200).sum::<u32>());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn iterators_go_on_by_themselves() {
    on_each_handle!(scans);
}

async fn streams(connection: &mut impl AsyncCommands) -> RedisResult<()> {
    let first: String = connection
        .xadd("orders", "1-1", &[("item", "pear"), ("count", "2")])
        .await?;
    assert_eq!(first, "1-1");
    let _: String = connection
        .xadd_maxlen("orders", StreamMaxlen::Equals(10), "*", &[("item", "fig")])
        .await?;
    let length: usize = connection.xlen("orders").await?;
    assert_eq!(length, 2);
    let range: StreamRangeReply = connection.xrange_all("orders").await?;
    let items: Vec<String> = range
        .ids
        .iter()
        .filter_map(|id: &StreamId| id.get("item"))
        .collect();
    assert_eq!(items, ["pear", "fig"]);

    let _: String = connection.xgroup_create("orders", "packers", "0").await?;
    let options = StreamReadOptions::default().group("packers", "bob").count(1);
    let read: StreamReadReply = connection.xread_options(&["orders"], &[">"], &options).await?;
    assert_eq!(read.keys[0].ids[0].id, "1-1");
    let pending: StreamPendingReply = connection.xpending("orders", "packers").await?;
    assert_eq!(pending.count(), 1);
    let acknowledged: usize = connection.xack("orders", "packers", &["1-1"]).await?;
    assert_eq!(acknowledged, 1);
    let groups: StreamInfoGroupsReply = connection.xinfo_groups("orders").await?;
    assert_eq!(
        (groups.groups[0].name.as_str(), groups.groups[0].pending),
        ("packers", 0)
    );

    // A read that waits: there is something, and then there is nothing in time.
    let options = StreamReadOptions::default().block(10).count(5);
    let read: Option<StreamReadReply> = connection.xread_options(&["orders"], &["0"], &options).await?;
    assert_eq!(read.unwrap().keys[0].ids.len(), 2);
    let read: Option<StreamReadReply> = connection.xread_options(&["orders"], &["$"], &options).await?;
    assert!(read.is_none());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_work() {
    on_each_handle!(streams);
}

async fn places(connection: &mut impl AsyncCommands) -> RedisResult<()> {
    let towns = [
        (Coord::lon_lat(10.75, 59.91), "Oslo"),
        (Coord::lon_lat(5.32, 60.39), "Bergen"),
    ];
    let added: usize = connection.geo_add("towns", &towns).await?;
    assert_eq!(added, 2);
    let distance: Option<f64> = connection
        .geo_dist("towns", "Oslo", "Bergen", Unit::Kilometers)
        .await?;
    assert!((300.0..320.0).contains(&distance.unwrap()));
    let position: Vec<Option<Coord<f64>>> = connection.geo_pos("towns", &["Oslo", "Atlantis"]).await?;
    assert!((position[0].as_ref().unwrap().latitude - 59.91).abs() < 0.01);
    assert!(position[1].is_none());
    let options = RadiusOptions::default()
        .with_dist()
        .order(RadiusOrder::Asc)
        .limit(1);
    let near: Vec<RadiusSearchResult> = connection
        .geo_radius("towns", 10.0, 60.0, 500.0, Unit::Kilometers, options)
        .await?;
    assert_eq!(near[0].name, "Oslo");
    assert!(near[0].dist.is_some());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn places_work() {
    on_each_handle!(places);
}

#[tokio::test(flavor = "multi_thread")]
async fn handles_are_shared_and_sent_between_tasks() {
    let (_topology, client) = servers().await;
    let session = Session::new();
    let connection = client.with(&session);
    let tasks: Vec<_> = (0..10)
        .map(|n| {
            let mut connection = connection.clone();
            tokio::spawn(async move { connection.incr::<_, _, i64>("sum", n).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let sum: i64 = connection.clone().get("sum").await.unwrap();
    assert_eq!(sum, 45);
    // A handle behind a trait, as in code that does not know of highwater.
    async fn visits(mut connection: impl ConnectionLike) -> RedisResult<u64> {
        redis::cmd("INCR")
            .arg("visits")
            .query_async(&mut connection)
            .await
    }
    assert_eq!(visits(connection).await.unwrap(), 1);
    assert_eq!(
        visits(client.dedicated(&session).await.unwrap()).await.unwrap(),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_wants_no_reply_is_marked_all_the_same() {
    let (_topology, client) = servers().await;
    let session = Session::new();
    let mut command = redis::cmd("SET");
    command.arg("k").arg("v").set_no_response(true);
    let nothing: Value = command.query_async(&mut client.with(&session)).await.unwrap();
    assert_eq!(nothing, Value::Nil);
    assert_eq!(session.marks().written().count(), 1);
    let seen: String = client.with(&session).get("k").await.unwrap();
    assert_eq!(seen, "v");
}
