//! The laws that proofs and marks rest on, asked of the servers over raw connections: nothing here is highwater's.
//! Laws 3, 4 and 8, which are about data that are replaced under an open connection, are in `resync`.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use highwater_testkit::{Mark, Role, Server, Topology, wait_until};
use redis::Value;

use crate::{
    common::{SOON, bulk, note},
    topology_of,
    wire::{Wire, info, text},
};

/// A replica that is seen behind so often while it is asked has put enough at risk.
const AT_RISK: u64 = 200;

/// Laws 1 and 2: the INFO behind a write is at or past it, and a replica that has applied so much shows it. There are
/// other writers all the while, and the replica is always a little behind.
#[test]
fn a_replica_that_has_applied_a_writes_mark_shows_the_write() {
    let topology = topology_of(1);
    topology
        .relay(0)
        .set_jitter(Duration::from_millis(1), Duration::from_millis(8));
    let (written, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let (marks, seen) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for other in 0..2 {
            let (topology, done) = (&topology, &done);
            scope.spawn(move || {
                let mut wire = Wire::connect(topology.primary());
                while !done.load(Ordering::Relaxed) {
                    wire.send(&format!("INCR other:{other}\nMULTI\nINCR a\nINCR b\nEXEC"));
                    (0..5).for_each(|_| drop(wire.reply()));
                }
            });
        }
        scope.spawn(|| {
            let mut wire = Wire::connect(topology.primary());
            for number in 1_u64.. {
                wire.send(&format!("SET k {number}\nINFO replication"));
                assert_eq!(wire.reply(), Value::Okay);
                let info = info(&wire.reply());
                assert_eq!(info.role, Role::Primary);
                marks.lock().unwrap().push(info.mark());
                written.store(number, Ordering::Relaxed);
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let mut wire = Wire::connect(topology.replica(0));
        let mut behind = 0;
        while behind < AT_RISK {
            let before = written.load(Ordering::Relaxed);
            wire.send("MULTI\nINFO replication\nGET k\nMGET a b\nEXEC");
            (0..4).for_each(|_| drop(wire.reply()));
            let Value::Array(replies) = wire.reply() else {
                panic!("EXEC has an array");
            };
            let [said, value, Value::Array(pair)] = replies.as_slice() else {
                panic!("three replies: {replies:?}");
            };
            let number = match value {
                Value::Nil => 0,
                value => text(value).parse::<u64>().unwrap(),
            };
            assert_eq!(pair[0], pair[1], "a transaction is applied whole");
            behind += u64::from(number < before);
            seen.lock().unwrap().push((info(said).mark(), number));
        }
        done.store(true, Ordering::Relaxed);
    });
    let marks = marks.into_inner().unwrap();
    for (at, number) in seen.into_inner().unwrap() {
        let covered = marks.partition_point(|mark| mark.offset <= at.offset) as u64;
        assert!(marks.iter().all(|mark| mark.history == at.history));
        assert!(
            number >= covered,
            "at {at:?} write {covered} is missing: {number}"
        );
    }
}

/// Law 2: what a replica has only received does not count, and a transaction counts when it has been applied whole.
#[test]
fn a_replica_has_applied_what_slave_repl_offset_says_and_no_more() {
    let topology = topology_of(1);
    let (primary, replica, relay) = (topology.primary(), topology.replica(0), topology.relay(0));
    primary.command(&["SET", "k", "old"]).unwrap();
    topology.wait_in_sync(SOON).unwrap();
    let before = primary.mark().unwrap();
    // The stream stops within the second write of a transaction, whose first one the replica has in full.
    relay.hold_replies_when(b"second".to_vec());
    let mut wire = Wire::connect(primary);
    wire.send("MULTI\nSET k first\nSET k second\nEXEC\nINFO replication");
    (0..4).for_each(|_| drop(wire.reply()));
    let mark = info(&wire.reply()).mark();
    let [begun, first] = ["MULTI", "SET k first"].map(|line| {
        let words: Vec<_> = line.split(' ').collect();
        redis::Cmd::new().arg(words).get_packed_command().len() as u64
    });
    if replica
        .info_replication()
        .unwrap()
        .slave_read_repl_offset
        .is_some()
    {
        replica
            .wait_for(SOON, "half of a transaction has been received", |info| {
                info.slave_read_repl_offset > Some(before.offset + begun + first)
            })
            .unwrap();
    } else {
        note("left out: this server does not say what a replica has received");
        wait_until(SOON, "half of a transaction has been sent", || relay.held()).unwrap();
    }
    let half = replica.info_replication().unwrap();
    assert_eq!(half.applied(), before.offset, "{half:?}");
    assert_eq!(replica.command(&["GET", "k"]).unwrap().text(), Some("old"));
    relay.release();
    topology.wait_applied(0, mark, SOON).unwrap();
    assert_eq!(replica.command(&["GET", "k"]).unwrap().text(), Some("second"));
}

/// Law 5: with the primary restarted behind a dead link, its replica's ROLE gives no sign of it; INFO names the history.
#[test]
fn role_does_not_tell_histories_apart_and_info_does() {
    let topology = topology_of(1);
    let (primary, replica) = (topology.primary(), topology.replica(0));
    for _ in 0..20 {
        primary.command(&["SET", "k", "old"]).unwrap();
    }
    topology.wait_in_sync(SOON).unwrap();
    topology.relay(0).black_hole(true);
    primary.kill();
    primary.restart().unwrap();
    primary.command(&["SET", "k", "new"]).unwrap();
    let mark = primary.mark().unwrap();

    let role = replica.command(&["ROLE"]).unwrap();
    let role = role.array().unwrap();
    assert_eq!(
        (role[0].text(), role[3].text()),
        (Some("slave"), Some("connected"))
    );
    let offset = u64::try_from(role[4].integer().unwrap()).unwrap();
    assert!(offset > mark.offset, "the trap: ROLE is past the mark");
    assert_eq!(replica.command(&["GET", "k"]).unwrap().text(), Some("old"));
    let info = replica.info_replication().unwrap();
    assert!(info.link_up && info.replid != mark.history, "{info:?}");
}

/// Law 6: what a promotion, a partial resync, a full one and a restart leave of the history before.
#[test]
fn a_node_tells_of_one_ancestor_and_of_where_it_left_it() {
    let topology = topology_of(2);
    let (first, second, third) = (topology.primary(), topology.replica(0), topology.replica(1));
    let set = |server: &Server, value: &str| {
        server.command(&["SET", "k", value]).unwrap();
        server.mark().unwrap()
    };
    let early = set(first, "early");
    topology.wait_in_sync(SOON).unwrap();
    topology.relay(1).pause();
    let late = set(first, "late");
    topology.wait_applied(0, late, SOON).unwrap();
    let resumed_from = third.info_replication().unwrap().applied();
    assert!(resumed_from < late.offset);

    topology.promote(0).unwrap();
    topology.relay(1).resume();
    let promoted = second.info_replication().unwrap();
    assert_ne!(promoted.replid, late.history);
    assert_eq!(promoted.replid2, Some(late.history));
    let fork = i64::try_from(late.offset).unwrap() + 1;
    assert_eq!(promoted.second_repl_offset, fork);
    third
        .wait_for(SOON, "the third follows the second", |info| {
            info.link_up && info.covers(promoted.mark())
        })
        .unwrap();
    let partial = third.info_replication().unwrap();
    assert_eq!(partial.replid2, Some(late.history));
    // Its own place at the moment of the resync, below the fork: and yet it has what lies between.
    assert_eq!(
        partial.second_repl_offset,
        i64::try_from(resumed_from).unwrap() + 1
    );
    assert_eq!(third.command(&["GET", "k"]).unwrap().text(), Some("late"));

    // Promoted once more, two promotions are one too many.
    let other = set(second, "other");
    third
        .wait_for(SOON, "the third has followed", |info| info.covers(other))
        .unwrap();
    third.replicaof_no_one().unwrap();
    let twice = third.info_replication().unwrap();
    assert_eq!(twice.replid2, Some(promoted.replid));

    // The second has gone on by itself, so it has to begin anew, and knows no ancestor after that.
    set(second, "lost");
    second.replicaof("127.0.0.1", third.port()).unwrap();
    second
        .wait_for(SOON, "the second has resynced", |info| {
            info.link_up && info.replid == twice.replid
        })
        .unwrap();
    let resynced = second.info_replication().unwrap();
    assert_eq!((resynced.replid2, resynced.second_repl_offset), (None, -1));

    // The first was left alone. Restarted with its data, it goes on from where it was, in a history that grew out of
    // the old one; without, it knows nothing.
    let last = set(first, "last");
    first.shutdown_with_save().unwrap();
    first.restart().unwrap();
    let restarted = first.info_replication().unwrap();
    assert_ne!(restarted.replid, last.history);
    if restarted.replid2.is_some() {
        let fork = i64::try_from(last.offset).unwrap() + 1;
        assert_eq!(
            (restarted.replid2, restarted.second_repl_offset),
            (Some(last.history), fork)
        );
        assert!(restarted.applied() >= last.offset);
    } else {
        note("left out: this server keeps no lineage over a restart");
        assert_eq!(restarted.applied(), 0);
    }
    first.kill();
    std::fs::remove_file(first.data_dir().join("dump.rdb")).unwrap();
    first.restart().unwrap();
    let empty = first.info_replication().unwrap();
    assert_eq!((empty.replid2, empty.applied()), (None, 0));
    assert_ne!(empty.replid, early.history);
}

/// Law 9, and the pings and questions for acknowledgement that move the offset without a write.
#[test]
fn some_writes_leave_the_offset_and_pings_move_it() {
    let topology = topology_of(1);
    let primary = topology.primary();
    let mut wire = Wire::connect(primary);
    wire.send("SET k v\nSADD s m\nHSET h f v");
    (0..3).for_each(|_| drop(wire.reply()));
    topology.wait_in_sync(SOON).unwrap();
    let mut moved = |line: &str| {
        let before = wire.info().mark();
        drop(wire.ask(line));
        let after = wire.info().mark();
        assert_eq!(before.history, after.history);
        after.offset - before.offset
    };
    for line in [
        "DEL missing",
        "SET k v NX",
        "SETNX k v",
        "SADD s m",
        "HSETNX h f v",
        "PERSIST k",
        "GET k",
    ] {
        assert_eq!(moved(line), 0, "{line}");
    }
    for line in ["HSET h f v", "PUBLISH c m", "GETEX k EX 1000", "FLUSHDB"] {
        assert!(moved(line) > 0, "{line}");
    }
    // WAIT asks the replicas; on a connection that has not written it does not even look.
    assert!(moved("SET k v") > 0);
    let questions = moved("WAIT 1 20000");
    assert!([0, 37].contains(&questions), "{questions}");

    primary
        .command(&["CONFIG", "SET", "repl-ping-replica-period", "1"])
        .unwrap();
    let before = primary.mark().unwrap();
    primary
        .wait_for(SOON, "a ping", |info| info.applied() > before.offset)
        .unwrap();
    assert_eq!((primary.mark().unwrap().offset - before.offset) % 14, 0);
}

/// WAIT counts for the connection's own last write only, so it is nothing to ask on behalf of others.
#[test]
fn wait_counts_for_its_connections_own_writes_only() {
    let topology = topology_of(1);
    topology.wait_in_sync(SOON).unwrap();
    let (mut writer, mut other) = (
        Wire::connect(topology.primary()),
        Wire::connect(topology.primary()),
    );
    topology.relay(0).pause();
    writer.ask("SET k v");
    assert_eq!(other.ask("WAIT 1 0"), Value::Int(1), "it has not written");
    assert_eq!(writer.ask("WAIT 1 20"), Value::Int(0));
    writer.send("WAIT 1 0\nPING");
    topology.relay(0).resume();
    assert_eq!(writer.reply(), Value::Int(1));
    assert_eq!(writer.reply(), Value::SimpleString("PONG".into()));
    writer.send("MULTI\nSET k w\nWAIT 2 0\nEXEC");
    (0..3).for_each(|_| drop(writer.reply()));
    assert!(
        matches!(writer.reply(), Value::Array(_)),
        "in a transaction it does not block"
    );
}

/// Inside MULTI and scripts, INFO is from before the transaction's end: no mark can be taken there.
#[test]
fn inside_a_transaction_or_script_info_is_from_before() {
    let topology = topology_of(1);
    topology.wait_in_sync(SOON).unwrap();
    let mut wire = Wire::connect(topology.primary());
    let before: Mark = wire.info().mark();
    wire.send("MULTI\nSET k v\nINFO replication\nEXEC\nINFO replication");
    (0..3).for_each(|_| drop(wire.reply()));
    let Value::Array(inside) = wire.reply() else {
        panic!("EXEC has an array");
    };
    let after = info(&wire.reply()).mark();
    // Redis 6.2 sends each write as it is made, so that only the end is missing; later servers send all at the end.
    let inside = info(&inside[1]).mark();
    assert!(inside.offset >= before.offset && inside.offset < after.offset);

    let script = "redis.call('SET','k','w')return(redis.call('INFO','replication'))";
    let inside = info(&wire.ask(&format!("EVAL {script} 0"))).mark();
    assert!(inside.offset >= after.offset && inside.offset < wire.info().applied());
    assert!(matches!(
        wire.ask("EVAL return(redis.call('ROLE')) 0"),
        Value::ServerError(_)
    ));
}

/// `CLIENT CACHING YES` is for the next command, or for the MULTI that follows it: all else goes untracked, and its
/// invalidation never comes.
#[test]
fn client_caching_is_for_the_next_command_only() {
    let topology = Topology::builder().start().unwrap();
    let mut reader = Wire::tracking(topology.primary());
    let mut writer = Wire::connect(topology.primary());
    reader.send("CLIENT CACHING YES\nGET tracked\nGET untracked");
    (0..3).for_each(|_| drop(reader.reply()));
    reader.send("CLIENT CACHING YES\nMULTI\nGET in:1\nGET in:2\nEXEC\nGET out");
    (0..6).for_each(|_| drop(reader.reply()));
    for key in ["untracked", "out", "tracked", "in:1", "in:2"] {
        writer.ask(&format!("SET {key} v"));
    }
    reader.send("PING");
    let mut invalidated = Vec::new();
    while let Value::Push { data, .. } = reader.next() {
        let [Value::Array(keys)] = data.as_slice() else {
            panic!("keys: {data:?}");
        };
        invalidated.extend(keys.clone());
    }
    assert_eq!(invalidated, ["tracked", "in:1", "in:2"].map(bulk));
}
