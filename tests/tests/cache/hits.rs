//! What is kept and what is not, and for whom.

use std::{sync::Arc, time::Duration};

use highwater::{CacheOptions, Client, Command, Consistency, Reason, Route, Session};
use highwater_testkit::{ServerKind, Topology};
use redis::{AsyncCommands, Value};

use crate::{
    ROOM, cached, client,
    common::{SOON, bulk, calls, get, set, until},
    connected, from_the_cache, of,
};

/// Round after round: a write is seen at once, by the session that made it, and is then served from the cache.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_sees_its_writes_through_the_cache() {
    for replicas in [1, 2] {
        let topology = Topology::builder().replicas(replicas).start().unwrap();
        let client = client(&topology).await;
        let session = Session::new();
        for round in 0..200 {
            let value = round.to_string();
            client.call(set("k", &value, &session)).await.unwrap();
            from_the_cache(&client, &get("k", &session), &bulk(&value)).await;
        }
        let stats = client.cache_stats();
        assert!(stats.hits >= 200 && stats.invalidations > 0, "{stats:?}");
        client.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_key_is_kept_and_its_making_seen() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = client(&topology).await;
    let session = Session::new();
    let reply = from_the_cache(&client, &get("k", &session), &Value::Nil).await;
    assert_eq!(reply.reason, Reason::NoRequirement);
    client.call(set("k", "v", &session)).await.unwrap();
    let reply = from_the_cache(&client, &get("k", &session), &bulk("v")).await;
    assert_ne!(reply.reason, Reason::NoRequirement);
    assert_eq!(
        client.call(of("DEL k", &session)).await.unwrap().route,
        Route::Primary
    );
    from_the_cache(&client, &get("k", &session), &Value::Nil).await;
}

/// One probe makes all entries of a feed good for a session that has written something else.
#[tokio::test(flavor = "multi_thread")]
async fn one_probe_makes_all_entries_good_again() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = client(&topology).await;
    for key in 0..100 {
        from_the_cache(&client, &get(&format!("k:{key}"), &Session::new()), &Value::Nil).await;
    }
    let before = client.cache_stats();
    let session = Session::new();
    client.call(set("other", "v", &session)).await.unwrap();
    topology.wait_in_sync(SOON).unwrap();
    for key in 0..100 {
        from_the_cache(&client, &get(&format!("k:{key}"), &session), &Value::Nil).await;
    }
    let after = client.cache_stats();
    assert_eq!(after.fills, before.fills, "nothing was fetched anew");
    // None at all, if the feed was asked for its own sake just then.
    assert!(after.probes < before.probes + 20, "{after:?}");
}

/// 10,000 callers miss one key: one round trip for all.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_misses_make_one_round_trip() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = client(&topology).await;
    topology.primary().command(&["SET", "k", "v"]).unwrap();
    topology.wait_in_sync(SOON).unwrap();
    let gate = Arc::new(tokio::sync::Barrier::new(10_001));
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..10_000 {
        let (client, gate) = (client.clone(), Arc::clone(&gate));
        callers.spawn(async move {
            gate.wait().await;
            client.call(get("k", &Session::new())).await.unwrap()
        });
    }
    let before = calls(topology.replica(0), "get") + calls(topology.primary(), "get");
    gate.wait().await;
    let replies = callers.join_all().await;
    assert!(replies.iter().all(|reply| reply.value == bulk("v")));
    let after = calls(topology.replica(0), "get") + calls(topology.primary(), "get");
    assert_eq!(after - before, 1);
    assert_eq!(client.cache_stats().fills, 1);
}

/// Callers who go away leave the fill to those who stay.
#[tokio::test(flavor = "multi_thread")]
async fn a_fill_goes_on_without_the_one_who_began_it() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = client(&topology).await;
    topology.primary().command(&["SET", "k", "v"]).unwrap();
    topology.wait_in_sync(SOON).unwrap();
    topology.replica(0).pause().unwrap();
    let first = tokio::spawn({
        let client = client.clone();
        async move { client.call(get("k", &Session::new())).await }
    });
    until("the first has begun", || client.cache_stats().misses == 1).await;
    let second = tokio::spawn({
        let client = client.clone();
        async move { client.call(get("k", &Session::new())).await }
    });
    until("the second waits", || client.cache_stats().misses == 2).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    topology.replica(0).resume().unwrap();
    assert_eq!(second.await.unwrap().unwrap().value, bulk("v"));
    from_the_cache(&client, &get("k", &Session::new()), &bulk("v")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn get_and_mget_share_their_entries() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = client(&topology).await;
    let session = Session::new();
    for key in 0..20 {
        client
            .call(set(&format!("k:{key}"), &key.to_string(), &session))
            .await
            .unwrap();
    }
    let keys: Vec<_> = (0..22).map(|key| format!("k:{key}")).collect();
    let values: Vec<_> = (0..22)
        .map(|key| {
            if key < 20 {
                bulk(&key.to_string())
            } else {
                Value::Nil
            }
        })
        .collect();
    let mget = of(&format!("MGET {}", keys.join(" ")), &session);
    from_the_cache(&client, &mget, &Value::Array(values.clone())).await;
    let fills = client.cache_stats().fills;
    for (key, value) in keys.iter().zip(&values) {
        from_the_cache(&client, &get(key, &session), value).await;
    }
    assert_eq!(client.cache_stats().fills, fills);
    // One of them is written: only that one is fetched.
    client.call(set("k:7", "seven", &session)).await.unwrap();
    let mut values = values;
    values[7] = bulk("seven");
    from_the_cache(&client, &mget, &Value::Array(values)).await;
    assert_eq!(client.cache_stats().fills, fills + 1);
    // What is no string is nil to MGET and an error to GET: the server's to say.
    client.call(of("HSET h f v", &session)).await.unwrap();
    for _ in 0..5 {
        let reply = client.call(of("MGET h k:1", &session)).await.unwrap();
        assert_eq!(reply.value, Value::Array(vec![Value::Nil, bulk("1")]));
        assert_ne!(reply.route, Route::Cache);
        assert!(client.call(get("h", &session)).await.is_err());
    }
    let none: redis::RedisResult<Vec<Option<String>>> = client.with(&session).mget::<&[&str], _>(&[]).await;
    assert!(none.is_err());
}

/// What is never kept: errors, what random or time decides, what belongs to several keys or to none, pipelines.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_one_keys_is_not_kept() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = client(&topology).await;
    let session = Session::new();
    for write in [
        "SET s v",
        "HSET h f v",
        "SADD set a b c",
        "ZADD z 1 a",
        "XADD x 1-1 f v",
        "XGROUP CREATE x g 0",
        "PFADD p a",
        "SET t v EX 1000",
    ] {
        client.call(of(write, &session)).await.unwrap();
    }
    for read in [
        "HGETALL s",
        "LRANGE s 0 1",
        "SRANDMEMBER set",
        "HRANDFIELD h",
        "ZRANDMEMBER z",
        "TTL t",
        "PTTL t",
        "XPENDING x g",
        "XINFO GROUPS x",
        "PFCOUNT p",
        "EXISTS s h",
        "SINTER set set",
        "DBSIZE",
        "RANDOMKEY",
        "KEYS *",
        "SCAN 0",
        "HSCAN h 0",
        "DUMP s",
        "TOUCH s",
        "OBJECT ENCODING s",
        "MEMORY USAGE s",
        "LCS s t",
        "SORT_RO set ALPHA",
        "XREAD STREAMS x 0",
        "ECHO s",
        "EVAL_RO return(1) 1 s",
        "GETDEL nothing",
        "PING",
    ] {
        for _ in 0..3 {
            if let Ok(reply) = client.call(of(read, &session)).await {
                assert_ne!(reply.route, Route::Cache, "{read}");
            }
        }
    }
    let mut pipeline = redis::pipe();
    pipeline.get("s").get("t");
    for _ in 0..3 {
        let reply = client
            .call(Command::pipeline(&pipeline).session(&session))
            .await
            .unwrap();
        assert_ne!(reply.route, Route::Cache);
    }
    assert_eq!(client.cache_stats().fills, 0, "{:?}", client.cache_stats());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_can_bypass_the_cache_and_a_key_be_given_up() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = client(&topology).await;
    let session = Session::new();
    from_the_cache(&client, &get("k", &session), &Value::Nil).await;
    let fills = client.cache_stats().fills;
    let reply = client.call(get("k", &session).bypass_cache()).await.unwrap();
    assert_ne!(reply.route, Route::Cache);
    let before = session.routes().cache;
    let _: Option<String> = client.with(&session).bypass_cache().get("k").await.unwrap();
    assert_eq!(session.routes().cache, before);
    let _: Option<String> = client.with(&session).get("k").await.unwrap();
    assert_eq!(session.routes().cache, before + 1);
    assert_eq!(client.cache_stats().fills, fills);
    client.invalidate("k");
    assert_ne!(client.call(get("k", &session)).await.unwrap().route, Route::Cache);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_not_kept() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = connected(crate::with(&topology, CacheOptions::new(ROOM).max_entry(10_000))).await;
    let session = Session::new();
    let (small, large) = ("v".repeat(5_000), "v".repeat(20_000));
    client.call(set("large", &large, &session)).await.unwrap();
    client.call(set("small", &small, &session)).await.unwrap();
    from_the_cache(&client, &get("small", &session), &bulk(&small)).await;
    let mut oversized = 0;
    until("it was too large", || {
        oversized = client.cache_stats().oversized;
        let (client, read) = (client.clone(), get("large", &session));
        tokio::spawn(async move { client.call(read).await });
        oversized > 2
    })
    .await;
    let reply = client.call(get("large", &session)).await.unwrap();
    assert_eq!(reply.value, bulk(&large));
    assert_ne!(reply.route, Route::Cache);
}

/// The total weight stays within its bound, whatever is read.
#[tokio::test(flavor = "multi_thread")]
async fn the_weight_stays_within_its_bound() {
    const BOUND: u64 = 1 << 20;
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = connected(crate::with(&topology, CacheOptions::new(BOUND))).await;
    let session = Session::new();
    let mut pipeline = redis::pipe();
    for key in 0..5_000 {
        pipeline.set(format!("k:{key}"), "v".repeat(1_000)).ignore();
    }
    let () = pipeline.query_async(&mut client.with(&session)).await.unwrap();
    topology.wait_in_sync(SOON).unwrap();
    for key in 0..5_000 {
        let _: String = client.with(&session).get(format!("k:{key}")).await.unwrap();
        if key % 500 == 0 {
            let stats = client.cache_stats();
            assert!(stats.weight <= BOUND, "{stats:?}");
        }
    }
    let stats = client.cache_stats();
    assert!(
        stats.entries > 100 && stats.weight <= BOUND && stats.fills > 4_000,
        "{stats:?}"
    );
}

/// Each level, of a session that another's write matters to.
#[tokio::test(flavor = "multi_thread")]
async fn each_level_has_what_it_asks_for() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = client(&topology).await;
    let session = Session::new();
    client.call(set("k", "v1", &session)).await.unwrap();
    from_the_cache(&client, &get("k", &session), &bulk("v1")).await;
    // The replica stands still; the entry is as good as the replica.
    topology.relay(0).pause();
    let other = Session::new();
    client.call(set("k", "v2", &other)).await.unwrap();
    let read = |level, session: &Session| client.call(get("k", session).level(level));
    let reply = read(Consistency::ReadYourWrites, &session).await.unwrap();
    assert_eq!((reply.value, reply.route), (bulk("v1"), Route::Cache));
    let reply = read(Consistency::Eventual, &other).await.unwrap();
    assert_eq!(
        (reply.value, reply.route, reply.reason),
        (bulk("v1"), Route::Cache, Reason::Level)
    );
    // It sees the primary's state, and can't go back behind it.
    let monotonic = Session::new();
    let reply = read(Consistency::Monotonic, &monotonic).await.unwrap();
    assert_eq!((reply.value, reply.route), (bulk("v1"), Route::Cache));
    assert_eq!(monotonic.marks().read().count(), 1, "the entry's upper bound");
    let reply = read(Consistency::Primary, &monotonic).await.unwrap();
    assert_eq!((reply.value, reply.route), (bulk("v2"), Route::Primary));
    for (level, session) in [
        (Consistency::Primary, &session),
        (Consistency::Monotonic, &other),
        (Consistency::ReadYourWrites, &other),
    ] {
        let reply = read(level, session).await.unwrap();
        assert_eq!(
            (reply.value, reply.route),
            (bulk("v2"), Route::Primary),
            "{level}"
        );
    }
    // A session whose last read was of the primary's state.
    let reply = read(Consistency::Primary, &monotonic).await.unwrap();
    assert_eq!(reply.value, bulk("v2"));
    // Once the bound has passed since the write, the old value is no longer good.
    let bound = Duration::from_millis(50);
    tokio::time::sleep(bound).await;
    let reply = read(Consistency::BoundedStaleness(bound), &Session::new())
        .await
        .unwrap();
    assert_eq!((reply.value, reply.route), (bulk("v2"), Route::Primary));
    topology.relay(0).resume();
    topology.wait_in_sync(SOON).unwrap();
    from_the_cache(&client, &get("k", &other), &bulk("v2")).await;
    let read = get("k", &Session::new()).level(Consistency::BoundedStaleness(Duration::from_secs(30)));
    let reply = from_the_cache(&client, &read, &bulk("v2")).await;
    assert_eq!(reply.reason, Reason::Covered);
}

/// Fields of hashes that expire on their own are told of by nobody: where there are any, hashes are not kept.
#[tokio::test(flavor = "multi_thread")]
async fn hashes_are_not_kept_where_fields_expire() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = client(&topology).await;
    let session = Session::new();
    client.call(of("HSET h f v", &session)).await.unwrap();
    let map = Value::Map(vec![(bulk("f"), bulk("v"))]);
    from_the_cache(&client, &of("HGETALL h", &session), &map).await;
    // Giving a field a life of its own is told: what was kept before goes.
    if client
        .call(of("HPEXPIRE h 100000 FIELDS 1 f", &session))
        .await
        .is_ok()
    {
        topology.wait_in_sync(SOON).unwrap();
        let reply = client.call(of("HGETALL h", &session)).await.unwrap();
        assert_ne!(reply.route, Route::Cache);
        // Redis 7.4 goes on counting a hash whose fields no longer expire, until it is gone.
        client.call(of("DEL h", &session)).await.unwrap();
        client.call(of("HSET h f v", &session)).await.unwrap();
        topology.wait_in_sync(SOON).unwrap();
        from_the_cache(&client, &of("HGETALL h", &session), &map).await;
    }
    let expire = of("HPEXPIRE other 100000 FIELDS 1 f", &session);
    client.call(of("HSET other f v", &session)).await.unwrap();
    if client.call(expire).await.is_err() {
        let kind = ServerKind::from_env().unwrap();
        let without = [ServerKind::Redis, ServerKind::Redis62].contains(&kind);
        assert!(without, "{} knows fields that expire", kind.name());
        return;
    }
    topology.wait_in_sync(SOON).unwrap();
    for _ in 0..5 {
        let reply = client.call(of("HGET other f", &session)).await.unwrap();
        assert_eq!(reply.value, bulk("v"));
        assert_ne!(reply.route, Route::Cache);
        // A string can't have any.
        from_the_cache(&client, &get("s", &session), &Value::Nil).await;
    }
    client.call(of("DEL other", &session)).await.unwrap();
    topology.wait_in_sync(SOON).unwrap();
    client.call(of("HSET h f w", &session)).await.unwrap();
    from_the_cache(&client, &of("HGET h f", &session), &bulk("w")).await;
}

/// Doubt goes to the primary, past the cache.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_in_doubt_is_not_answered_from_the_cache() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = client(&topology).await;
    from_the_cache(&client, &get("k", &Session::new()), &Value::Nil).await;
    let history = topology.primary().mark().unwrap().history.to_string();
    let session = Session::new();
    session.add_written(&highwater::Mark {
        scope: client.scope().clone(),
        history: history.parse().unwrap(),
        offset: highwater::Offset::UNKNOWN,
    });
    for _ in 0..3 {
        let reply = client.call(get("k", &session)).await.unwrap();
        assert_eq!((reply.route, reply.reason), (Route::Primary, Reason::InDoubt));
    }
}

/// User layers lie around the cache, and hits go through them.
#[tokio::test(flavor = "multi_thread")]
async fn hits_go_through_the_users_layers() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let builder = cached(&topology).layer(tower::timeout::TimeoutLayer::new(SOON));
    let client: Client = connected(builder).await;
    let session = Session::new();
    for round in 0..20 {
        let value = round.to_string();
        client.call(set("k", &value, &session)).await.unwrap();
        from_the_cache(&client, &get("k", &session), &bulk(&value)).await;
    }
    client.shutdown().await.unwrap();
    assert!(
        client.call(get("k", &session)).await.is_err(),
        "nothing is served after the end"
    );
}
