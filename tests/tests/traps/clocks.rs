//! What the guarantee does not cover, shown to be as docs/GUARANTEE.md says: a replica judges expiry by its own clock,
//! and may evict by its own memory, while its offset stays where it is.

use highwater::{Client, Command, Reason, Reply, Route, Session};
use highwater_testkit::{Server, Topology};
use redis::Value;

use crate::{
    common::{self, NO_PINGS, SOON, bulk, from_a_replica, get, written},
    knows,
};

/// The page that users read says so.
fn the_page_says(what: &str) {
    let page = include_str!("../../../docs/GUARANTEE.md");
    let (_, not_covered) = page.split_once("## What it does not cover").unwrap();
    let (not_covered, _) = not_covered.split_once("\n## ").unwrap();
    assert!(not_covered.contains(what), "docs/GUARANTEE.md does not say: {what}");
}

/// Reads until the replica has another answer than before.
async fn until_it_is(client: &Client, read: &Command, value: &Value) -> Reply {
    let deadline = std::time::Instant::now() + SOON;
    loop {
        let reply = client.call(read.clone()).await.unwrap();
        if reply.value == *value && reply.route == Route::Replica {
            return reply;
        }
        assert!(std::time::Instant::now() < deadline, "{reply:?}");
        tokio::task::yield_now().await;
    }
}

fn applied(server: &Server) -> u64 {
    server.info_replication().unwrap().applied()
}

/// A key with a TTL goes on a replica when the replica's clock says so, whatever it has applied: the primary, which is
/// stopped here as one whose clock is behind would be, has not said that it is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_expires_by_the_replicas_own_clock_at_an_unchanged_offset() {
    the_page_says("A replica judges expired keys by its own clock");
    let topology = Topology::builder()
        .replicas(1)
        .primary_args(NO_PINGS)
        .start()
        .unwrap();
    let replica = topology.replica(0);
    let client = common::client(&topology).await;
    let session = Session::new();
    let mut write = redis::cmd("SET");
    write.arg("k").arg("v").arg("PX").arg(1500);
    client.call(Command::new(&write).session(&session)).await.unwrap();
    let mark = written(&session).unwrap();
    topology.wait_applied(0, mark, SOON).unwrap();
    topology.primary().pause().unwrap();

    let reply = until_it_is(&client, &get("k", &session), &Value::Nil).await;
    assert_eq!(reply.reason, Reason::Covered);
    assert_eq!(applied(replica), mark.offset, "nothing has come in since");
    let kept = replica.command(&["DBSIZE"]).unwrap().integer();
    assert_eq!(kept, Some(1), "the replica waits for the primary's word");
    topology.primary().resume().unwrap();

    // What the session does to the TTL is a write like any other, and is waited for.
    let mut write = redis::cmd("SET");
    write.arg("k").arg("v").arg("PX").arg(100_000);
    client.call(Command::new(&write).session(&session)).await.unwrap();
    topology.wait_in_sync(SOON).unwrap();
    topology.relay(0).pause();
    let persist = Command::new(redis::cmd("PERSIST").arg("k")).session(&session);
    client.call(persist).await.unwrap();
    let ttl = Command::new(redis::cmd("PTTL").arg("k")).session(&session);
    let reply = client.call(ttl.clone()).await.unwrap();
    assert_eq!((reply.value, reply.route), (Value::Int(-1), Route::Primary));
    topology.relay(0).resume();
    from_a_replica(&client, &ttl, &Value::Int(-1)).await;
}

/// A field's TTL is in no key's: PTTL says that the key does not expire, and on the replica the field goes by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_field_expires_on_a_replica_without_a_word_in_the_keys_ttl() {
    the_page_says("A replica judges expired keys by its own clock");
    let topology = Topology::builder()
        .replicas(1)
        .primary_args(NO_PINGS)
        .start()
        .unwrap();
    if !knows(topology.primary(), "HPEXPIRE") {
        return;
    }
    let replica = topology.replica(0);
    let client = common::client(&topology).await;
    let session = Session::new();
    let mut writes = redis::pipe();
    writes.hset_multiple("h", &[("f", "v"), ("g", "v")]);
    writes.cmd("HPEXPIRE").arg("h").arg(1500).arg("FIELDS").arg(1).arg("f");
    client
        .call(Command::pipeline(&writes).session(&session))
        .await
        .unwrap();
    let mark = written(&session).unwrap();
    topology.wait_applied(0, mark, SOON).unwrap();
    topology.primary().pause().unwrap();
    let ttl = Command::new(redis::cmd("PTTL").arg("h")).session(&session);
    from_a_replica(&client, &ttl, &Value::Int(-1)).await;
    let read = |field| Command::new(redis::cmd("HGET").arg("h").arg(field)).session(&session);
    let reply = until_it_is(&client, &read("f"), &Value::Nil).await;
    assert_eq!(reply.reason, Reason::Covered);
    from_a_replica(&client, &read("g"), &bulk("v")).await;
    assert_eq!(applied(replica), mark.offset);
    topology.primary().resume().unwrap();
}

/// A replica that is told to heed its own memory limit drops keys at an unchanged offset, and says nothing of it in INFO.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_with_a_memory_limit_of_its_own_loses_keys_at_an_unchanged_offset() {
    the_page_says("`replica-ignore-maxmemory no`");
    let topology = Topology::builder()
        .replicas(1)
        .primary_args(NO_PINGS)
        .start()
        .unwrap();
    let replica = topology.replica(0);
    let client = common::client(&topology).await;
    let session = Session::new();
    client.call(common::set("k", "v", &session)).await.unwrap();
    from_a_replica(&client, &get("k", &session), &bulk("v")).await;
    let mark = written(&session).unwrap();
    for setting in [
        ["maxmemory-policy", "allkeys-random"],
        ["maxmemory", "1"],
        ["replica-ignore-maxmemory", "no"],
    ] {
        replica.command(&["CONFIG", "SET", setting[0], setting[1]]).unwrap();
    }
    until_it_is(&client, &get("k", &session), &Value::Nil).await;
    assert_eq!(applied(replica), mark.offset);
    // By default it leaves that to the primary.
    let value = topology.primary().command(&["GET", "k"]).unwrap();
    assert_eq!(value.text(), Some("v"));
}
