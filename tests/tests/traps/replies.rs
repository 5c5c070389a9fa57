//! Replies by which a server says that it can't serve, and silence: each costs another node's answer, and no error.

use std::time::Duration;

use highwater::{Client, Command, ErrorKind, Route, Session};
use highwater_testkit::{Control, Relay, Server, Topology, wait_until};
use redis::Value;

use crate::{
    client,
    common::{self, NO_PINGS, SOON, blocked, bulk, from_a_replica, get, note, set},
    patient, topology_of,
};

/// What can be asked of a replica, each with an answer of `v`: alone, with others, in a transaction.
fn reads(session: &Session) -> [(Command, Value); 3] {
    let mut pipeline = redis::pipe();
    pipeline.cmd("GET").arg("k").cmd("GET").arg("k");
    let both = Value::Array(vec![bulk("v"), bulk("v")]);
    let whole = Command::pipeline(&pipeline).session(session);
    pipeline.atomic();
    let atomic = Command::pipeline(&pipeline).session(session);
    let queued = || Value::SimpleString("QUEUED".into());
    let executed = Value::Array(vec![Value::Okay, queued(), queued(), both.clone()]);
    [(get("k", session), bulk("v")), (whole, both), (atomic, executed)]
}

async fn all_from_the_primary(client: &Client, session: &Session) {
    for (read, value) in reads(session) {
        let reply = client.call(read).await.unwrap();
        assert_eq!((reply.value, reply.route), (value, Route::Primary));
    }
}

/// Whether the server refuses a read with this word.
fn refuses(server: &Server, word: &str) -> bool {
    let outcome = server.command(&["GET", "k"]);
    outcome.is_err_and(|error| error.reply().is_some_and(|text| text.starts_with(word)))
}

/// `-LOADING`: reads that were on their way when the replica began to load, of all kinds, and those that come later.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_loads_costs_no_error() {
    let topology = Topology::builder()
        .replicas(1)
        .primary_args(NO_PINGS)
        .primary_args(["--rdbcompression", "no"])
        .start()
        .unwrap();
    let replica = topology.replica(0);
    let between = Relay::start(replica.addr()).unwrap();
    let client = patient(
        Client::builder()
            .primary(topology.primary().url())
            .replica(between.url()),
    )
    .await;
    let session = Session::new();
    client.call(set("k", "v", &session)).await.unwrap();
    let mut filling = redis::pipe();
    let filler = "x".repeat(1024);
    for number in 0..1000 {
        filling.set(number, &filler);
    }
    client.call(Command::pipeline(&filling)).await.unwrap();
    topology.wait_in_sync(SOON).unwrap();
    from_a_replica(&client, &get("k", &session), &bulk("v")).await;

    // Some requests are answered after each key.
    let events = ["CONFIG", "SET", "loading-process-events-interval-bytes", "1024"];
    if let Err(error) = replica.command(&events) {
        note(&format!(
            "left out: a load that answers can't be made long here: {error}"
        ));
        return;
    }
    let slow = |micros: &str| {
        replica
            .command(&["CONFIG", "SET", "key-load-delay", micros])
            .unwrap();
    };
    // The read is held on its way in: in the middle of a GET, behind MULTI, and in EXEC when all is queued. Where it needs a
    // proof, the null push voids that too; where it needs none, only the reply tells.
    for (held, kind) in [(&b"\r\nGET"[..], 0), (b"MULTI\r\n", 2), (b"EXEC", 2)] {
        let needy = held != b"EXEC";
        let reader = if needy { session.clone() } else { Session::new() };
        between.hold_when(held);
        let (read, value) = reads(&reader)[kind].clone();
        let read = tokio::spawn({
            let client = client.clone();
            async move { client.call(read).await }
        });
        between.wait_held(SOON).await.unwrap();
        slow("20000");
        replica.replicaof_no_one().unwrap();
        replica.command(&["SET", "its own", "x"]).unwrap();
        replica.replicaof("127.0.0.1", topology.relay(0).port()).unwrap();
        wait_until(SOON, "the replica loads", || refuses(replica, "LOADING")).unwrap();
        // Law 2: on a replica that syncs, master_repl_offset is an old or an absurd one.
        let loading = replica.info_replication().unwrap();
        assert!(
            loading.applied() <= 1 && loading.master_repl_offset > 1,
            "{loading:?}"
        );
        let pong = replica.command(&["PING"]).unwrap_err();
        assert!(pong.reply().unwrap().starts_with("LOADING"), "{pong}");
        between.release();
        let reply = read.await.unwrap().unwrap();
        assert_eq!((reply.value, reply.route), (value, Route::Primary));
        for session in [&session, &Session::new()] {
            all_from_the_primary(&client, session).await;
        }
        assert!(refuses(replica, "LOADING"), "all the while");
        slow("0");
        topology.wait_in_sync(SOON).unwrap();
        from_a_replica(&client, &get("k", &session), &bulk("v")).await;
    }
    assert_eq!(client.status().replicas[0].disconnects, 0);
}

/// `-MASTERDOWN`: by its last word the replica covers what is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_serves_nothing_stale_costs_no_error() {
    let topology = Topology::builder()
        .replicas(1)
        .primary_args(NO_PINGS)
        .replica_args(["--replica-serve-stale-data", "no"])
        .start()
        .unwrap();
    let replica = topology.replica(0);
    let client = client(&topology).await;
    let session = Session::new();
    client.call(set("k", "v", &session)).await.unwrap();
    from_a_replica(&client, &get("k", &session), &bulk("v")).await;
    topology.relay(0).refuse(true);
    wait_until(SOON, "the replica has lost its primary", || {
        refuses(replica, "MASTERDOWN")
    })
    .unwrap();
    let mark = common::written(&session).unwrap();
    assert!(replica.info_replication().unwrap().covers(mark));
    for _ in 0..3 {
        for session in [&session, &Session::new()] {
            all_from_the_primary(&client, session).await;
        }
    }
    topology.relay(0).refuse(false);
    topology.wait_in_sync(SOON).unwrap();
    from_a_replica(&client, &get("k", &session), &bulk("v")).await;
}

/// Silence: a diskless load whose stream stops freezes the replica, which closes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_frozen_by_its_own_load_costs_no_error() {
    let topology = Topology::builder()
        .replicas(1)
        .primary_args(NO_PINGS)
        .replica_args(["--repl-diskless-load", "swapdb"])
        .start()
        .unwrap();
    let (replica, relay) = (topology.replica(0), topology.relay(0));
    let client = common::builder(&topology)
        .response_timeout(Duration::from_secs(3))
        .connect()
        .await
        .unwrap();
    let session = Session::new();
    client.call(set("k", "v", &session)).await.unwrap();
    let mut filling = redis::pipe();
    for number in 0..2000 {
        filling.set(number, format!("{number:050}"));
    }
    client.call(Command::pipeline(&filling)).await.unwrap();
    topology.wait_in_sync(SOON).unwrap();
    from_a_replica(&client, &get("k", &session), &bulk("v")).await;

    replica.replicaof_no_one().unwrap();
    replica.command(&["SET", "its own", "x"]).unwrap();
    relay.hold_replies_after(20_000);
    replica.replicaof("127.0.0.1", relay.port()).unwrap();
    relay.wait_held(SOON).await.unwrap();
    wait_until(SOON, "the replica is frozen", || {
        let silent = |mut control: Control| control.command(&["PING"]).is_err_and(|e| e.reply().is_none());
        Control::connect_with(replica.port(), Duration::from_millis(300)).is_ok_and(silent)
    })
    .unwrap();
    for _ in 0..20 {
        for session in [&session, &Session::new()] {
            let reply = client.call(get("k", session)).await.unwrap();
            assert_eq!((reply.value, reply.route), (bulk("v"), Route::Primary));
        }
    }
    relay.release();
    topology.wait_in_sync(SOON).unwrap();
    from_a_replica(&client, &get("k", &session), &bulk("v")).await;
}

/// `-UNBLOCKED`, then a closed socket: what a demoted primary says to who waits there. They hear of it at once.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_at_a_primary_that_is_demoted_hears_of_it() {
    let topology = topology_of(1);
    let (old, new) = (topology.primary(), topology.replica(0));
    // It knows of no other node to go to.
    let client = patient(Client::builder().primary(old.url())).await;
    let session = Session::new();
    client.call(set("k", "v", &session)).await.unwrap();
    let waiting = tokio::spawn({
        let (client, session) = (client.clone(), session.clone());
        let pop = Command::new(redis::cmd("BLPOP").arg("list").arg(0)).session(&session);
        async move { client.call(pop).await }
    });
    blocked(old, 1).await;
    new.replicaof_no_one().unwrap();
    old.replicaof("127.0.0.1", new.port()).unwrap();
    let error = tokio::time::timeout(SOON, waiting)
        .await
        .expect("nobody waits at a node that pops nothing any more")
        .unwrap()
        .unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Server | ErrorKind::InDoubt),
        "{error}"
    );
    // And nobody is told that a write, or a read, had been carried out there.
    let error = client.call(set("k", "w", &session)).await.unwrap_err();
    let refused = error.server_error().and_then(redis::RedisError::code);
    assert_eq!(refused, Some("READONLY"), "{error}");
    let error = client.call(get("k", &session)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    // At the new primary, the session has what it wrote.
    let client = patient(Client::builder().primary(new.url())).await;
    let resumed = Session::resume(session.marks());
    assert_eq!(client.call(get("k", &resumed)).await.unwrap().value, bulk("v"));
}

/// Cluster is said not to be supported, before anything is asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_node_is_refused() {
    let node = Server::builder()
        .args(["--cluster-enabled", "yes"])
        .start()
        .unwrap();
    let error = Client::builder()
        .primary(node.url())
        .connect()
        .await
        .map(drop)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("cluster"), "{error}");
}
