//! Writes that change nothing: what they rest on is acknowledged, or they are told that it is not.

use highwater::{Client, Command, ErrorKind, Session};
use highwater_testkit::{Server, Topology};
use redis::Value;

use crate::{
    common::{calls, client, quiet, set},
    of, soon,
};

fn command(words: &str) -> Command {
    let mut command = redis::Cmd::new();
    command.arg(words.split(' ').collect::<Vec<_>>());
    Command::new(&command)
}

fn offset(server: &Server) -> u64 {
    let info = server.command(&["INFO", "replication"]).unwrap();
    let lines = info.text().unwrap_or_default().lines();
    lines
        .filter_map(|line| line.strip_prefix("master_repl_offset:"))
        .find_map(|offset| offset.parse().ok())
        .unwrap()
}

/// A user whose write too few have acknowledged tries again, from another process, say, or on the other one of a client's two
/// connections: there the server has nothing to wait for.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_repeated_is_acknowledged_when_the_first_one_is() {
    let topology = quiet(1);
    let mut clients = Vec::new();
    for _ in 0..2 {
        let client = client(&topology).await;
        // Both of its connections have had a write that was acknowledged.
        let mut warm = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let client = client.clone();
            warm.spawn(async move { client.call(command("INCR warm").acks(of(1))).await });
        }
        assert!(warm.join_all().await.iter().all(Result::is_ok));
        clients.push(client);
    }
    topology.replica(0).pause().unwrap();
    let add = command("SADD s member");
    let mut tries = Vec::new();
    for round in 0..6 {
        let client: &Client = &clients[round % 2];
        let error = client.call(add.clone().acks(soon(1))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooFewAcks, "{error}");
        let applied = error.applied().unwrap();
        assert_eq!(applied.acks.map(|acked| acked.replicas), Some(0));
        tries.push(applied.value.clone());
    }
    assert_eq!(tries[..2], [Value::Int(1), Value::Int(0)]);
    topology.replica(0).resume().unwrap();
    let reply = clients[0].call(add.acks(of(1))).await.unwrap();
    assert_eq!((&reply.value, reply.acks.unwrap().replicas), (&Value::Int(0), 1));
    let members = topology.replica(0).command(&["SCARD", "s"]).unwrap();
    assert_eq!(members.integer(), Some(1));
}

/// A reply that is taken for a change is one: the offset has moved, or it is asked what is acknowledged so far.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_in_the_stream_is_never_taken_for_a_change() {
    let topology = quiet(1);
    let client = client(&topology).await;
    let primary = topology.primary();
    // Each is sent twice, and many change nothing the second time.
    let writes = "SET k v|SET k v NX|SET k v XX GET|SET k v EX 100|SET old v EXAT 1|SET old v PXAT 1 NX|SETEX k 100 v|PSETEX k 100000 v|\
                  MSET k 1 l 2|HMSET h f v|HSET h f v|HSETNX h g v|HINCRBY h n 0|HINCRBYFLOAT h m 0|INCR n|DECR n|INCRBY n 0|\
                  DECRBY n 0|INCRBYFLOAT n 0|APPEND a x|APPEND e xx|APPEND e |APPEND new |GETSET g 0|LPUSH list a|RPUSH list a|LPUSHX list a|RPUSHX none a|\
                  LSET list 0 b|LREM list 1 a|LTRIM list 0 100|SADD s m|SMOVE s s m|SMOVE s t m|SREM t m|ZADD z 1 m|ZADD z CH 2 m|ZADD z INCR 0 m|\
                  ZINCRBY z 0 m|ZREM z m|PFADD p a|SETNX once v|MSETNX one 1 two 2|EXPIRE h 1000|PEXPIRE h 100000|PERSIST h|\
                  EXPIRE s -1|PEXPIRE none 5|RENAME k k|GETEX k|SETRANGE k 0 v|SETBIT b 1 1|XADD x * f v|XADD none NOMKSTREAM * f v|\
                  HDEL h f|LPOP list|RPOP list 0|LPOP none|SADD pop m|SPOP pop|GETDEL a|DEL b|UNLINK g";
    let mut asked = 0;
    for write in writes.split('|').flat_map(|write| [write, write]) {
        let before = (offset(primary), calls(primary, "publish"));
        match client.call(command(write).acks(of(0))).await {
            Ok(reply) => {
                let changed = calls(primary, "publish") == before.1;
                let moved = offset(primary) > before.0;
                assert!(moved, "{write}: {:?}", reply.value);
                asked += u32::from(!changed);
            }
            // A type that does not fit, an option that this server has not.
            Err(error) => assert_eq!(error.kind(), ErrorKind::Server, "{write}: {error}"),
        }
    }
    assert!(asked > 15, "{asked}");
    // A usual write costs no more than it did.
    let before = calls(primary, "publish");
    let mut pipeline = redis::pipe();
    pipeline.del("none").set("k", "v").get("k");
    let unit = Command::pipeline(&pipeline);
    pipeline.atomic().del("none");
    for usual in [
        command("SET k v"),
        command("INCR n"),
        command("HSET h f v"),
        unit,
        Command::pipeline(&pipeline),
    ] {
        client.call(usual.acks(of(1))).await.unwrap();
    }
    assert_eq!(calls(primary, "publish"), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_publish_is_told_what_is_not_known() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let primary = topology.primary();
    let rights = "ACL SETUSER app reset on >pw ~* resetchannels +@all";
    primary.command(&rights.split(' ').collect::<Vec<_>>()).unwrap();
    let url = format!("redis://app:pw@127.0.0.1:{}", primary.port());
    let client = Client::builder().primary(url).connect().await.unwrap();
    let session = Session::new();
    client.call(set("k", "v", &session).acks(of(1))).await.unwrap();
    let nothing = command("DEL none").session(&session).acks(of(1));
    let error = client.call(nothing.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooFewAcks, "{error}");
    let why = std::error::Error::source(&error).unwrap().to_string();
    assert!(why.contains("+publish and &highwater:acks"), "{why}");
    assert_eq!(error.applied().unwrap().value, Value::Int(0));
    primary
        .command(&["ACL", "SETUSER", "app", "&highwater:acks"])
        .unwrap();
    client.call(nothing).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_refused_has_nothing_to_ask_for() {
    let topology = quiet(1);
    let client = client(&topology).await;
    let before = calls(topology.primary(), "publish");
    client.call(command("SET k v").acks(of(1))).await.unwrap();
    let error = client.call(command("LPUSH k a").acks(of(1))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Server, "{error}");
    assert_eq!(calls(topology.primary(), "publish"), before);
}
