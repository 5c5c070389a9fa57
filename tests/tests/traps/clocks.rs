//! What the guarantee does not cover, shown to be as docs/GUARANTEE.md says: a replica judges expiry by its own clock,
//! and may evict by its own memory, while its offset stays where it is.

use highwater::{Client, Command, Reason, Reply, Route, Session};
use highwater_testkit::{Server, Topology};
use redis::Value;

use crate::{
    client,
    common::{self, SOON, bulk, from_a_replica, get, lacks, written},
    topology_of,
};

/// The page that users read says so.
fn the_page_says(what: &str) {
    let page = include_str!("../../../docs/GUARANTEE.md");
    let (_, not_covered) = page.split_once("## What it does not cover").unwrap();
    let (not_covered, _) = not_covered.split_once("\n## ").unwrap();
    assert!(
        not_covered.contains(what),
        "docs/GUARANTEE.md does not say: {what}"
    );
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

/// A primary and its replica, which gets nothing any more once it has got the session's writes.
async fn written_and_then_nothing(writes: &mut redis::Pipeline) -> Option<(Topology, Client, Session)> {
    let topology = topology_of(1);
    for command in writes.cmd_iter() {
        let Some(redis::Arg::Simple(name)) = command.args_iter().next() else {
            panic!("a command has a name");
        };
        if lacks(topology.primary(), std::str::from_utf8(name).unwrap()) {
            return None;
        }
    }
    let client = client(&topology).await;
    let session = Session::new();
    topology.relay(0).hold_replies_when(b"the end\r\n".to_vec());
    writes.set("last", "the end");
    client
        .call(Command::pipeline(writes).session(&session))
        .await
        .unwrap();
    topology
        .wait_applied(0, written(&session).unwrap(), SOON)
        .unwrap();
    Some((topology, client, session))
}

/// A key with a TTL goes on a replica when the replica's clock says so, whatever it has applied and whether or not the
/// primary has said that it is gone. Were the clocks two seconds apart, it would be gone two seconds too early.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_expires_by_the_replicas_own_clock_at_an_unchanged_offset() {
    the_page_says("A replica judges expired keys by its own clock");
    let mut writes = redis::pipe();
    writes.pset_ex("k", "v", 500);
    let (topology, client, session) = written_and_then_nothing(&mut writes).await.unwrap();
    let mark = written(&session).unwrap();
    let reply = until_it_is(&client, &get("k", &session), &Value::Nil).await;
    assert!(
        matches!(reply.reason, Reason::Covered | Reason::Waited),
        "{reply:?}"
    );
    assert_eq!(
        applied(topology.replica(0)),
        mark.offset,
        "nothing has come in since"
    );
    let kept = topology.replica(0).command(&["DBSIZE"]).unwrap().integer();
    assert_eq!(kept, Some(2), "the replica waits for the primary's word");
    topology.relay(0).release();
}

/// What a session does to a TTL is a write like any other, and is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_ttl_is_waited_for() {
    let mut writes = redis::pipe();
    writes.pset_ex("k", "v", 1_000_000);
    let (topology, client, session) = written_and_then_nothing(&mut writes).await.unwrap();
    let persist = Command::new(redis::cmd("PERSIST").arg("k")).session(&session);
    client.call(persist).await.unwrap();
    let ttl = Command::new(redis::cmd("PTTL").arg("k")).session(&session);
    let reply = client.call(ttl.clone()).await.unwrap();
    assert_eq!((reply.value, reply.route), (Value::Int(-1), Route::Primary));
    topology.relay(0).release();
    from_a_replica(&client, &ttl, &Value::Int(-1)).await;
}

/// A field's TTL is in no key's: PTTL says that the key does not expire, and on the replica the field goes by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_field_expires_on_a_replica_without_a_word_in_the_keys_ttl() {
    the_page_says("A replica judges expired keys by its own clock");
    let mut writes = redis::pipe();
    writes.hset_multiple("h", &[("f", "v"), ("g", "v")]);
    writes
        .cmd("HPEXPIRE")
        .arg("h")
        .arg(500)
        .arg("FIELDS")
        .arg(1)
        .arg("f");
    let Some((topology, client, session)) = written_and_then_nothing(&mut writes).await else {
        return;
    };
    let ttl = Command::new(redis::cmd("PTTL").arg("h")).session(&session);
    from_a_replica(&client, &ttl, &Value::Int(-1)).await;
    let read = |field| Command::new(redis::cmd("HGET").arg("h").arg(field)).session(&session);
    let reply = until_it_is(&client, &read("f"), &Value::Nil).await;
    assert!(
        matches!(reply.reason, Reason::Covered | Reason::Waited),
        "{reply:?}"
    );
    from_a_replica(&client, &read("g"), &bulk("v")).await;
    let mark = written(&session).unwrap();
    assert_eq!(applied(topology.replica(0)), mark.offset);
    topology.relay(0).release();
}

/// A replica that is told to heed its own memory limit drops keys at an unchanged offset, and says nothing of it in INFO.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_with_a_memory_limit_of_its_own_loses_keys_at_an_unchanged_offset() {
    the_page_says("`replica-ignore-maxmemory no`");
    let topology = topology_of(1);
    let replica = topology.replica(0);
    let client = client(&topology).await;
    let session = Session::new();
    client.call(common::set("k", "v", &session)).await.unwrap();
    from_a_replica(&client, &get("k", &session), &bulk("v")).await;
    let mark = written(&session).unwrap();
    for setting in [
        ["maxmemory-policy", "allkeys-random"],
        ["maxmemory", "1"],
        ["replica-ignore-maxmemory", "no"],
    ] {
        replica
            .command(&["CONFIG", "SET", setting[0], setting[1]])
            .unwrap();
    }
    until_it_is(&client, &get("k", &session), &Value::Nil).await;
    assert_eq!(applied(replica), mark.offset);
    // By default it leaves that to the primary.
    let value = topology.primary().command(&["GET", "k"]).unwrap();
    assert_eq!(value.text(), Some("v"));
}
