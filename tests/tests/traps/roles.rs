//! Nodes that are not what they were, on connections that tell nothing of it.

use highwater::{Client, Continuity, Reason, Route, Session};
use highwater_testkit::{Role, Topology, wait_until};

use crate::{
    client,
    common::{NO_PINGS, SOON, bulk, from_a_replica, get, quiet, set, until, written},
    patient, topology_of,
};

/// A plain REPLICAOF keeps clients' connections. The old primary goes on serving a write that was lost, over a
/// connection that was opened when it was the primary, until it has resynced.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_primary_on_a_surviving_connection_shows_nobody_its_lost_writes() {
    let topology = topology_of(1);
    let (old, new) = (topology.primary(), topology.replica(0));
    old.command(&["SET", "k", "shared"]).unwrap();
    topology.wait_in_sync(SOON).unwrap();
    topology.relay(0).pause();
    for _ in 0..50 {
        old.command(&["SET", "k", "lost"]).unwrap();
    }
    new.replicaof_no_one().unwrap();
    let client = patient(Client::builder().primary(new.url()).replica(old.url())).await;
    let session = Session::new();
    client.call(set("k", "new", &session)).await.unwrap();
    let mark = written(&session).unwrap();
    let from_the_primary = async || {
        for _ in 0..10 {
            let reply = client.call(get("k", &session)).await.unwrap();
            assert_eq!((reply.value, reply.route), (bulk("new"), Route::Primary));
        }
    };
    from_the_primary().await;

    // It is to follow the new one, and does not reach it yet.
    let relay = highwater_testkit::Relay::start(new.addr()).unwrap();
    relay.refuse(true);
    old.replicaof("127.0.0.1", relay.port()).unwrap();
    let trap = old.info_replication().unwrap();
    assert_eq!(trap.role, Role::Replica);
    assert!(trap.applied() > mark.offset && trap.replid != mark.history);
    assert_eq!(old.command(&["GET", "k"]).unwrap().text(), Some("lost"));
    from_the_primary().await;
    until("the client has seen the change of the role", || {
        client.status().replicas[0].role == Some("replica")
    })
    .await;
    from_the_primary().await;

    relay.refuse(false);
    old.wait_for(SOON, "the old primary has resynced", |info| info.covers(mark))
        .unwrap();
    from_a_replica(&client, &get("k", &session), &bulk("new")).await;
    let status = client.status();
    assert_eq!(
        status.replicas[0].disconnects, 0,
        "it was one connection all along"
    );
    assert_eq!(session.continuity(), Continuity::Intact);
}

/// A replica that was restarted and does not find its primary has what its disk had: an old state of the same history, or
/// nothing at all, in a history of its own. Nobody is answered from it, be it somebody who depends on nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_replica_without_its_primary_answers_nobody() {
    let topology = quiet(1);
    let replica = topology.replica(0);
    let client = client(&topology).await;
    let session = Session::new();
    client.call(set("k", "v", &session)).await.unwrap();
    let mark = written(&session).unwrap();
    for disk in [true, false] {
        from_a_replica(&client, &get("k", &session), &bulk("v")).await;
        topology.relay(0).refuse(true);
        replica.kill();
        if !disk {
            std::fs::remove_file(replica.data_dir().join("dump.rdb")).unwrap();
        }
        replica.restart().unwrap();
        let restarted = replica.info_replication().unwrap();
        assert_eq!((restarted.role, restarted.link_up), (Role::Replica, false));
        assert!(!restarted.covers(mark), "{restarted:?}");
        assert_eq!(restarted.replid == mark.history, disk);
        assert!(disk || restarted.applied() == 1, "{restarted:?}");
        assert_eq!(replica.command(&["DBSIZE"]).unwrap().integer(), Some(0));

        let read = async |session: &Session| {
            let reply = client.call(get("k", session)).await.unwrap();
            assert_eq!((reply.value, reply.route), (bulk("v"), Route::Primary));
        };
        let deadline = std::time::Instant::now() + SOON;
        loop {
            read(&session).await;
            read(&Session::new()).await;
            let replica = &client.status().replicas[0];
            if replica.connection == "up"
                && replica.replication_link_up == Some(false)
                && replica.history == Some(restarted.replid.to_string())
            {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "{replica:?}");
        }
        for _ in 0..10 {
            read(&session).await;
            read(&Session::new()).await;
        }
        topology.relay(0).refuse(false);
        topology.wait_in_sync(SOON).unwrap();
    }
    from_a_replica(&client, &get("k", &session), &bulk("v")).await;
}

/// What was written to a replica is in no stream: a writable one covers nothing, from the moment at which it is one.
#[tokio::test(flavor = "multi_thread")]
async fn a_writable_replica_is_not_read_from() {
    let topology = topology_of(1);
    let replica = topology.replica(0);
    let client = client(&topology).await;
    let session = Session::new();
    client.call(set("k", "v", &session)).await.unwrap();
    from_a_replica(&client, &get("k", &session), &bulk("v")).await;

    // By its last word it is a good one.
    replica
        .command(&["CONFIG", "SET", "replica-read-only", "no"])
        .unwrap();
    replica.command(&["SET", "k", "its own"]).unwrap();
    assert!(
        replica
            .info_replication()
            .unwrap()
            .covers(written(&session).unwrap())
    );
    for _ in 0..10 {
        let reply = client.call(get("k", &session)).await.unwrap();
        assert_eq!((reply.value, reply.route), (bulk("v"), Route::Primary));
    }
    // Who depends on nothing could be shown anything, but is not asked to begin with.
    for _ in 0..10 {
        let reply = client.call(get("k", &Session::new())).await.unwrap();
        assert_eq!((reply.value, reply.route), (bulk("v"), Route::Primary));
    }
    let client = crate::client(&topology).await;
    let reply = client.call(get("k", &Session::new())).await.unwrap();
    assert_eq!((reply.route, reply.reason), (Route::Primary, Reason::Unhealthy));
}

/// Law 6: a replica that was resynced in part says of itself that it left the old history at its own place, which is
/// not the fork. What lies between is there, as the primary's word shows.
#[tokio::test(flavor = "multi_thread")]
async fn a_partially_resynced_replica_covers_what_lies_below_the_true_fork() {
    let topology = topology_of(2);
    topology.wait_in_sync(SOON).unwrap();
    let before = client(&topology).await;
    topology.relay(1).pause();
    let session = Session::new();
    before.call(set("k", "v", &session)).await.unwrap();
    let mark = written(&session).unwrap();
    topology.wait_applied(0, mark, SOON).unwrap();
    topology.promote(0).unwrap();
    topology.relay(1).resume();
    let (primary, replica) = (topology.replica(0), topology.replica(1));
    replica
        .wait_for(SOON, "the other replica follows", |info| {
            info.link_up && info.replid == primary.mark().unwrap().history
        })
        .unwrap();
    let partial = replica.info_replication().unwrap();
    assert_eq!(partial.replid2, Some(mark.history));
    assert!(
        partial.second_repl_offset <= i64::try_from(mark.offset).unwrap(),
        "{partial:?}"
    );

    let client = patient(Client::builder().primary(primary.url()).replica(replica.url())).await;
    let deadline = std::time::Instant::now() + SOON;
    loop {
        // Anew each time, as the primary's reply moves a session on to its own history.
        let resumed = Session::resume(session.marks());
        let reply = client.call(get("k", &resumed)).await.unwrap();
        assert_eq!(reply.value, bulk("v"));
        assert_eq!(resumed.continuity(), Continuity::Intact);
        if reply.route == Route::Replica {
            assert_eq!(written(&resumed).unwrap().history, mark.history);
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{:?}", client.status());
    }
}

/// A replica whose full resync fails after it has thrown its data away shows that in nothing but its offset: its history
/// is the old one. Promoted in that state, it claims to share all of it. (Valkey 9 keeps the data until it has others.)
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_resync_failed_covers_nothing_and_its_lineage_is_not_believed() {
    let topology = Topology::builder()
        .replicas(1)
        .primary_args(NO_PINGS)
        .primary_args(["--repl-backlog-size", "16kb"])
        .start()
        .unwrap();
    let (replica, relay) = (topology.replica(0), topology.relay(0));
    let client = client(&topology).await;
    let session = Session::new();
    client.call(set("k", "v", &session)).await.unwrap();
    let mark = written(&session).unwrap();
    from_a_replica(&client, &get("k", &session), &bulk("v")).await;

    // It misses more than the backlog has, and what it then gets can't be put in its place.
    relay.refuse(true);
    let filler = "x".repeat(1 << 17);
    for _ in 0..8 {
        topology.primary().command(&["SET", "filler", &filler]).unwrap();
    }
    let file = replica.data_dir().join("dump.rdb");
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    relay.refuse(false);
    wait_until(SOON, "the resync fails", || {
        replica.log_tail().contains("Failed trying to rename the temp DB")
    })
    .unwrap();
    let failed = replica.info_replication().unwrap();
    assert!(failed.replid == mark.history && !failed.link_up, "{failed:?}");
    let emptied = replica.command(&["DBSIZE"]).unwrap().integer() == Some(0);
    if emptied {
        assert!(failed.applied() <= 1, "{failed:?}");
        assert!(failed.master_repl_offset >= mark.offset, "the trap: {failed:?}");
    }
    let ask = async |client: &Client, session: &Session| {
        let reply = client.call(get("k", session)).await.unwrap();
        (reply.value, reply.route, reply.reason)
    };
    // Who wrote at the very beginning, before there was a stream to speak of, asks for no more than offset 1.
    let early = Session::new();
    early.add_written(&highwater::Mark {
        scope: highwater::Scope::default(),
        history: mark.history.to_string().parse().unwrap(),
        offset: highwater::Offset::at(1),
    });
    for _ in 0..20 {
        for session in [&session, &early, &Session::new()] {
            assert_eq!(ask(&client, session).await.0, bulk("v"));
        }
    }

    relay.refuse(true);
    replica.replicaof_no_one().unwrap();
    let promoted = replica.info_replication().unwrap();
    assert_eq!(promoted.replid2, Some(mark.history));
    assert!(promoted.second_repl_offset > i64::try_from(mark.offset).unwrap());
    let there = patient(Client::builder().primary(replica.url())).await;
    let resumed = Session::resume(session.marks());
    let (value, _, reason) = ask(&there, &resumed).await;
    if emptied {
        assert_eq!((value, reason), (redis::Value::Nil, Reason::UnknownHistory));
        assert_eq!(resumed.continuity(), Continuity::UnknownHistory);
    } else {
        assert_eq!(value, bulk("v"));
    }
}
