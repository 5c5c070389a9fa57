//! Marks where offsets behave oddly: writes that move nothing, pings that do, a primary that has never had a replica,
//! and what others say of a replica.

use highwater::{Client, Command, Continuity, Reason, Route, Session};
use highwater_testkit::{Directions, Server, Topology};
use redis::Value;

use crate::{
    client,
    common::{SOON, bulk, from_a_replica, get, in_doubt, note, set, until, written},
    patient, topology_of,
    wire::{Wire, text},
};

fn command(line: &str, session: &Session) -> Command {
    let words: Vec<_> = line.split(' ').collect();
    Command::new(redis::Cmd::new().arg(words)).session(session)
}

/// A write that changes nothing leaves the offset where it was: its mark is one that replicas have reached.
#[tokio::test(flavor = "multi_thread")]
async fn the_mark_of_a_write_that_changed_nothing_holds_no_read_up() {
    let topology = topology_of(1);
    let client = client(&topology).await;
    topology.primary().command(&["SET", "k", "v"]).unwrap();
    topology.primary().command(&["SADD", "s", "m"]).unwrap();
    topology.wait_in_sync(SOON).unwrap();
    let here = topology.primary().mark().unwrap();
    // Nothing more reaches the replica: who waited for something would wait for ever.
    topology.relay(0).pause();
    for line in [
        "DEL missing",
        "SET k w NX",
        "SADD s m",
        "EVAL return(redis.call('DEL','missing')) 0",
    ] {
        let session = Session::new();
        client.call(command(line, &session)).await.unwrap();
        if line.starts_with("EVAL") && written(&session) != Some(here) {
            note("left out: this server's scripts leave something in the stream, whatever they do");
            continue;
        }
        assert_eq!(written(&session), Some(here), "{line}");
        let reply = from_a_replica(&client, &get("k", &session), &bulk("v")).await;
        assert!(
            matches!(reply.reason, Reason::Covered | Reason::Waited),
            "{line}: {reply:?}"
        );
    }
    // These do move it, though nothing that a reader could see has changed: their marks ask for more than need be.
    for line in ["SET k v", "PUBLISH c m", "SET k v KEEPTTL"] {
        let session = Session::new();
        client.call(command(line, &session)).await.unwrap();
        assert_eq!(written(&session), Some(topology.primary().mark().unwrap()));
        assert!(written(&session).unwrap().offset > here.offset, "{line}");
        let reply = client.call(get("k", &session)).await.unwrap();
        assert_eq!((reply.value, reply.route), (bulk("v"), Route::Primary), "{line}");
    }
}

/// A transaction in which a command fails has written all the same: its mark is that of the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_with_an_error_in_it_leaves_the_mark_of_the_rest() {
    let topology = topology_of(1);
    let client = client(&topology).await;
    topology.primary().command(&["SET", "k", "old"]).unwrap();
    topology.wait_in_sync(SOON).unwrap();
    topology.relay(0).pause();
    let session = Session::new();
    let mut transaction = redis::pipe();
    transaction.atomic().set("k", "new").lpush("k", "wrong type");
    let failed: Result<Value, _> = transaction.query_async(&mut client.with(&session)).await;
    assert!(failed.is_err());
    assert_eq!(written(&session), Some(topology.primary().mark().unwrap()));
    let reply = client.call(get("k", &session)).await.unwrap();
    assert_eq!((reply.value, reply.route), (bulk("new"), Route::Primary));
    topology.relay(0).resume();
    from_a_replica(&client, &get("k", &session), &bulk("new")).await;
}

/// Tracking says nothing of SWAPDB, but the stream does: a session that has swapped databases waits for replicas to.
#[tokio::test(flavor = "multi_thread")]
async fn swapped_databases_are_waited_for() {
    let topology = topology_of(1);
    let client = client(&topology).await;
    let mut wire = Wire::connect(topology.primary());
    wire.send("SET k old\nSELECT 1\nSET k new");
    (0..3).for_each(|_| drop(wire.reply()));
    topology.wait_in_sync(SOON).unwrap();
    topology.relay(0).pause();
    let session = Session::new();
    client.call(command("SWAPDB 0 1", &session)).await.unwrap();
    let reply = client.call(get("k", &session)).await.unwrap();
    assert_eq!((reply.value, reply.route), (bulk("new"), Route::Primary));
    topology.relay(0).resume();
    from_a_replica(&client, &get("k", &session), &bulk("new")).await;
}

/// Pings make a mark higher than it need be, and replicas get them as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_mark_behind_a_ping_is_reached_like_any_other() {
    let topology = Topology::builder()
        .replicas(1)
        .primary_args(["--repl-ping-replica-period", "1"])
        .start()
        .unwrap();
    let client = client(&topology).await;
    let session = Session::new();
    client.call(set("k", "v", &session)).await.unwrap();
    let first = written(&session).unwrap();
    topology
        .primary()
        .wait_for(SOON, "a ping", |info| info.applied() >= first.offset + 14)
        .unwrap();
    client.call(command("DEL missing", &session)).await.unwrap();
    let second = written(&session).unwrap();
    assert!(second.offset >= first.offset + 14, "the ping is in the mark");
    from_a_replica(&client, &get("k", &session), &bulk("v")).await;
    assert_eq!(written(&session), Some(second), "and no ping since moves it");
}

fn backlog(server: &Server) -> bool {
    let info = server.command(&["INFO", "replication"]).unwrap();
    info.text().unwrap().contains("repl_backlog_active:1")
}

/// Without a replica the offset stays 0. The history changes when the first one comes, and when the backlog is freed
/// after the last one has gone; who stays connected to the primary sees that the data are the same.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_replica_and_the_freed_backlog_change_the_history_and_cost_nothing() {
    let topology = topology_of(0);
    let primary = topology.primary();
    let replica = Server::start().unwrap();
    let connect = || patient(Client::builder().primary(primary.url()).replica(replica.url()));
    let client = connect().await;
    let session = Session::new();
    client.call(set("k", "v", &session)).await.unwrap();
    let alone = written(&session).unwrap();
    assert_eq!(alone.offset, 0);
    assert!(!backlog(primary));
    let early = Session::resume(session.marks());
    let read = async |session: &Session| {
        let reply = client.call(get("k", session)).await.unwrap();
        assert_eq!(reply.value, bulk("v"));
        assert!(
            !matches!(reply.reason, Reason::UnknownHistory | Reason::PossiblyLost),
            "{:?}",
            reply.reason
        );
        assert!(!in_doubt(session));
        assert_eq!(session.continuity(), Continuity::Intact);
    };
    read(&session).await;

    replica.replicaof("127.0.0.1", primary.port()).unwrap();
    replica
        .wait_for(SOON, "the first replica has synced", |info| info.link_up)
        .unwrap();
    let with_replica = primary.mark().unwrap();
    assert_ne!(with_replica.history, alone.history);
    // Many at once: the first replies to be judged are those of the flush whose INFO tells of the change.
    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (client, session) = (client.clone(), Session::resume(session.marks()));
        crowd.spawn(async move {
            let reply = client.call(get("k", &session)).await.unwrap();
            assert_eq!(reply.value, bulk("v"));
            session.continuity()
        });
    }
    let crowd = crowd.join_all().await;
    assert!(crowd.iter().all(|seen| *seen == Continuity::Intact), "{crowd:?}");
    read(&session).await;
    client.call(set("other", "x", &session)).await.unwrap();
    from_a_replica(&client, &get("k", &session), &bulk("v")).await;
    read(&early).await;

    // Whoever was not there meanwhile can't know that the data are the same, and is told so.
    let late = connect().await;
    let stranger = Session::new();
    stranger.add_written(&highwater::Mark {
        scope: highwater::Scope::default(),
        history: alone.history.to_string().parse().unwrap(),
        offset: highwater::Offset::at(alone.offset),
    });
    let reply = late.call(get("k", &stranger)).await.unwrap();
    assert_eq!((reply.value, reply.reason), (bulk("v"), Reason::UnknownHistory));

    primary
        .command(&["CONFIG", "SET", "repl-backlog-ttl", "1"])
        .unwrap();
    replica.replicaof_no_one().unwrap();
    let again = Session::resume(session.marks());
    primary
        .wait_for(SOON, "the backlog is freed", |info| {
            info.replid != with_replica.history
        })
        .unwrap();
    assert!(!backlog(primary));
    for session in [&session, &early, &again] {
        read(session).await;
    }
    let anomalies = client.status().anomalies;
    assert_eq!((anomalies.unknown_history, anomalies.possibly_lost), (0, 0));
}

/// Where the primary says that its one replica is.
fn acknowledged(primary: &Server) -> Option<u64> {
    let info = primary.command(&["INFO", "replication"]).unwrap();
    let line = info
        .text()
        .unwrap()
        .lines()
        .find(|line| line.starts_with("slave0:"))?
        .to_owned();
    line.split(',')
        .find_map(|field| field.strip_prefix("offset="))?
        .parse()
        .ok()
}

/// What the primary says of its replicas is old, in both directions. Only the replica's own word counts.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_primary_says_of_a_replica_proves_nothing() {
    let topology = topology_of(1);
    let (primary, replica, relay) = (topology.primary(), topology.replica(0), topology.relay(0));
    let client = client(&topology).await;

    // It does not hear from a replica that has caught up.
    relay.impair(Directions::ToTarget);
    relay.pause();
    let session = Session::new();
    client.call(set("k", "v", &session)).await.unwrap();
    let mark = written(&session).unwrap();
    topology.wait_applied(0, mark, SOON).unwrap();
    assert!(acknowledged(primary).unwrap() < mark.offset);
    let reply = from_a_replica(&client, &get("k", &session), &bulk("v")).await;
    assert!(
        matches!(reply.reason, Reason::Covered | Reason::Waited),
        "{reply:?}"
    );
    relay.resume();
    relay.impair(Directions::ToClient);

    // It takes a replica for one that has caught up, and that one has lost everything.
    let mut wire = Wire::connect(primary);
    wire.ask("SET other x");
    assert_eq!(wire.ask("WAIT 1 0"), Value::Int(1));
    relay.black_hole(true);
    replica.restart().unwrap();
    assert!(acknowledged(primary).unwrap() >= mark.offset);
    assert_eq!(replica.command(&["DBSIZE"]).unwrap().integer(), Some(0));
    until("the client is connected to the restarted replica", || {
        let replica = &client.status().replicas[0];
        replica.disconnects > 0 && replica.connection == "up"
    })
    .await;
    for session in [&session, &Session::new()] {
        for _ in 0..10 {
            let reply = client.call(get("k", session)).await.unwrap();
            assert_eq!((reply.value, reply.route), (bulk("v"), Route::Primary));
        }
    }
    assert!(acknowledged(primary).unwrap() >= mark.offset, "all the while");
}

/// WAIT asks about a connection's own writes, so the shared one refuses it; on a connection of one's own it is exact.
#[tokio::test(flavor = "multi_thread")]
async fn wait_works_on_a_connection_of_ones_own_and_nowhere_else() {
    let topology = topology_of(1);
    let client = client(&topology).await;
    topology.wait_in_sync(SOON).unwrap();
    let session = Session::new();
    let error = client.call(command("WAIT 1 0", &session)).await.unwrap_err();
    assert_eq!(error.kind(), highwater::ErrorKind::Unsupported);
    assert!(error.to_string().contains("dedicated"), "{error}");

    topology.relay(0).pause();
    let mut connection = client.dedicated(&session).await.unwrap();
    let wait = async |line: &str, connection: &mut highwater::DedicatedConnection| {
        let words: Vec<_> = line.split(' ').collect();
        redis::Cmd::new()
            .arg(words)
            .query_async::<u32>(connection)
            .await
            .unwrap()
    };
    let () = redis::cmd("SET")
        .arg("k")
        .arg("v")
        .query_async(&mut connection)
        .await
        .unwrap();
    let mark = written(&session).unwrap();
    assert_eq!(wait("WAIT 1 50", &mut connection).await, 0);
    topology.relay(0).resume();
    assert_eq!(wait("WAIT 1 0", &mut connection).await, 1);
    // What WAIT itself has put into the stream does not matter to the session.
    assert!(topology.replica(0).info_replication().unwrap().covers(mark));
    from_a_replica(&client, &get("k", &session), &bulk("v")).await;
    assert_eq!(text(&Wire::connect(topology.replica(0)).ask("GET k")), "v");
}
