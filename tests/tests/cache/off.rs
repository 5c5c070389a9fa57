//! Where there can be no cache, there is none, and it says why; unless time alone is asked for.

use std::time::Duration;

use highwater::{CacheMode, CacheOptions, Client, Reason, Route, Session};
use highwater_testkit::{Server, ServerKind, Topology};
use redis::{ProtocolVersion, Value};

use crate::{
    ROOM, client,
    common::{SOON, builder, bulk, get, set, until},
    feeds_are_up, from_the_cache, of,
};

async fn reason(client: &Client) -> String {
    let mut reason = None;
    until("the cache says why it is off", || {
        let cache = client.status().cache.unwrap();
        assert!(!cache.on, "{cache:?}");
        reason = cache.reason;
        reason.is_some()
    })
    .await;
    reason.unwrap()
}

async fn works_without(client: &Client, session: &Session) {
    for round in 0..10 {
        client.call(set("k", &round.to_string(), session)).await.unwrap();
        let reply = client.call(get("k", session)).await.unwrap();
        assert_eq!(reply.value, bulk(&round.to_string()));
        assert_ne!(reply.route, Route::Cache);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_resp3_there_is_none() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = builder(&topology)
        .protocol(ProtocolVersion::RESP2)
        .cache(CacheOptions::new(ROOM))
        .connect()
        .await
        .unwrap();
    let reason = reason(&client).await;
    assert!(reason.contains("RESP3"), "{reason}");
    works_without(&client, &Session::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_rights_there_is_none() {
    // Redis 6.2 can take away only the whole of CLIENT.
    let tracking = match ServerKind::from_env().unwrap() {
        ServerKind::Redis62 => "-client",
        _ => "-client|tracking",
    };
    for (missing, named) in [(tracking, "+client|tracking"), ("-pttl", "+pttl")] {
        let topology = Topology::builder().replicas(1).start().unwrap();
        let servers: [&Server; 2] = [topology.primary(), topology.replica(0)];
        for server in servers {
            let user = [
                "ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all", missing,
            ];
            server.command(&user).unwrap();
        }
        let url = |server: &Server| format!("redis://app:secret@127.0.0.1:{}", server.port());
        let client = Client::builder()
            .primary(url(servers[0]))
            .replica(url(servers[1]))
            .cache(CacheOptions::new(ROOM))
            .connect()
            .await
            .unwrap();
        let reason = reason(&client).await;
        assert!(reason.contains(named), "{reason}");
        assert!(!reason.contains("secret"), "{reason}");
        works_without(&client, &Session::new()).await;
    }
}

/// Without a replica the primary feeds the cache, if its offset moves.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_alone_feeds_the_cache_once_its_offset_moves() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let alone = || {
        Client::builder()
            .primary(topology.primary().url())
            .cache(CacheOptions::new(ROOM))
    };
    let client = alone().connect().await.unwrap();
    feeds_are_up(&client).await;
    let other = alone().connect().await.unwrap();
    let session = Session::new();
    for round in 0..300 {
        let value = round.to_string();
        // Written by another process.
        other.call(set("k", &value, &session)).await.unwrap();
        let reply = client.call(get("k", &session)).await.unwrap();
        assert_eq!(reply.value, bulk(&value), "from {:?}", reply.route);
        from_the_cache(&client, &get("k", &session), &bulk(&value)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_without_a_backlog_feeds_nothing() {
    let server = Server::start().unwrap();
    let client = Client::builder()
        .primary(server.url())
        .cache(CacheOptions::new(ROOM))
        .connect()
        .await
        .unwrap();
    feeds_are_up_but_off(&client).await;
    works_without(&client, &Session::new()).await;
    let reason = reason(&client).await;
    assert!(reason.contains("backlog"), "{reason}");
}

async fn feeds_are_up_but_off(client: &Client) {
    until("the feed is up", || {
        client.status().cache.unwrap().feeds[0].connection == "up"
    })
    .await;
    // Its first INFO comes with the first fill.
    let _ = client.call(get("other", &Session::new())).await.unwrap();
}

/// By time alone: a session sees its own writes all the same, and others' after the time.
#[tokio::test(flavor = "multi_thread")]
async fn by_time_alone_only_what_is_covered_is_served() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    for protocol in [ProtocolVersion::RESP3, ProtocolVersion::RESP2] {
        let client = builder(&topology)
            .protocol(protocol)
            .cache(CacheOptions::new(ROOM).mode(CacheMode::TtlOnly(Duration::from_secs(60))))
            .connect()
            .await
            .unwrap();
        assert!(client.status().cache.unwrap().on);
        let session = Session::new();
        for round in 0..50 {
            let value = round.to_string();
            client.call(set("k", &value, &session)).await.unwrap();
            let reply = from_the_cache(&client, &get("k", &session), &bulk(&value)).await;
            assert_eq!(reply.reason, Reason::Covered);
        }
        // Nobody tells of this; who depends on nothing gets the entry.
        topology.primary().command(&["SET", "k", "others"]).unwrap();
        topology.wait_in_sync(SOON).unwrap();
        let reply = client.call(get("k", &Session::new())).await.unwrap();
        assert_eq!((reply.value, reply.route), (bulk("49"), Route::Cache));
        client.invalidate("k");
        let reply = client.call(get("k", &Session::new())).await.unwrap();
        assert_eq!(reply.value, bulk("others"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn by_time_alone_entries_end_with_the_time() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = builder(&topology)
        .cache(CacheOptions::new(ROOM).mode(CacheMode::TtlOnly(Duration::from_millis(30))))
        .connect()
        .await
        .unwrap();
    from_the_cache(&client, &get("k", &Session::new()), &Value::Nil).await;
    topology.primary().command(&["SET", "k", "v"]).unwrap();
    topology.wait_in_sync(SOON).unwrap();
    let deadline = std::time::Instant::now() + SOON;
    while client.call(get("k", &Session::new())).await.unwrap().value != bulk("v") {
        assert!(std::time::Instant::now() < deadline, "the entry does not end");
        tokio::task::yield_now().await;
    }
}

/// No cache is the default.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_one_unasked() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let plain = builder(&topology).connect().await.unwrap();
    assert!(plain.status().cache.is_none());
    works_without(&plain, &Session::new()).await;
    assert_eq!(plain.cache_stats().hits, 0);
    // And one with a cache goes on when its only feed is gone.
    let client = client(&topology).await;
    topology.replica(0).kill();
    let session = Session::new();
    client.call(of("SET k v", &session)).await.unwrap();
    let reply = client.call(get("k", &session)).await.unwrap();
    assert_eq!((reply.value, reply.route), (bulk("v"), Route::Primary));
}
