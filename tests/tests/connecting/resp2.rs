//! Proofs without tracking: RESP2, and RESP3 where tracking is refused.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use highwater::{Client, Command, Consistency, ErrorKind, Reason, Route, Session};
use highwater_testkit::{Control, Relay, ServerKind, Topology};
use redis::{AsyncCommands, RedisResult};

use crate::{SOON, bulk, common, get, read_from_a_replica, refusal};

fn builder(topology: &Topology, protocol: &str) -> highwater::ClientBuilder {
    let url = |url: String| format!("{url}?protocol={protocol}");
    topology.replicas().fold(
        Client::builder().primary(url(topology.primary().url())),
        |builder, replica| builder.replica(url(replica.url())),
    )
}

/// What a reader sees, in the types that people ask for; in 12 reads, or 11 where there is no `EVAL_RO`.
async fn everything(connection: &mut impl AsyncCommands, scripts: bool) -> RedisResult<String> {
    let text: String = connection.get("text").await?;
    let missing: Option<String> = connection.get("missing").await?;
    let hash: HashMap<String, u32> = connection.hgetall("hash").await?;
    let set: BTreeSet<String> = connection.smembers("set").await?;
    let scores: Vec<(String, f64)> = connection.zrange_withscores("scores", 0, -1).await?;
    let score: Option<f64> = connection.zscore("scores", "a").await?;
    let exists: bool = connection.exists("text").await?;
    let list: Vec<String> = connection.lrange("list", 0, -1).await?;
    let (first, second): (String, usize) = redis::pipe()
        .get("text")
        .hlen("hash")
        .query_async(connection)
        .await?;
    let (atomic, length): (String, usize) = redis::pipe()
        .atomic()
        .get("text")
        .llen("list")
        .query_async(connection)
        .await?;
    let mut scripted: Vec<String> = Vec::new();
    if scripts {
        scripted = redis::cmd("EVAL_RO")
            .arg("return {redis.call('GET', KEYS[1]), ARGV[1]}")
            .arg(1)
            .arg("text")
            .arg("argument")
            .query_async(connection)
            .await?;
    }
    let wrong = connection
        .hget::<_, _, Option<String>>("text", "f")
        .await
        .unwrap_err();
    let sorted: BTreeSet<_> = hash.into_iter().collect();
    Ok(format!(
        "{text} {missing:?} {sorted:?} {set:?} {scores:?} {score:?} {exists} {list:?} {first} {second} {atomic} \
         {length} {scripted:?} {:?}",
        wrong.code()
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_those_of_resp3() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = builder(&topology, "resp3").connect().await.unwrap();
    let writer = Session::new();
    let mut connection = client.with(&writer);
    let () = redis::pipe()
        .set("text", "some text")
        .hset_multiple("hash", &[("a", 1), ("b", 2)])
        .sadd("set", &["x", "y"])
        .zadd_multiple("scores", &[(1.5, "a"), (2.25, "b")])
        .rpush("list", &["1", "2", "3"])
        .query_async(&mut connection)
        .await
        .unwrap();
    for server in [topology.replica(0), topology.primary()] {
        server
            .command(&[
                "ACL",
                "SETUSER",
                "app",
                "on",
                ">pw",
                "~*",
                "+@all",
                "-client",
                "+client|kill",
            ])
            .unwrap();
    }
    let untracked = Client::builder()
        .primary(crate::url_of(topology.primary(), "app:pw"))
        .replica(crate::url_of(topology.replica(0), "app:pw"))
        .connect()
        .await
        .unwrap();
    let older = builder(&topology, "resp2").connect().await.unwrap();
    let forms: Vec<_> = [&client, &older, &untracked]
        .map(|client| client.status().replicas[0].clone())
        .iter()
        .map(|replica| (replica.protocol.unwrap(), replica.proof_form.unwrap()))
        .collect();
    assert_eq!(
        forms,
        [
            ("resp3", "tracking"),
            ("resp2", "transaction"),
            ("resp3", "transaction")
        ]
    );
    let scripts = !common::lacks(topology.primary(), "EVAL_RO");
    let mut seen = BTreeSet::new();
    for client in [&client, &older, &untracked] {
        for level in [
            Consistency::ReadYourWrites,
            Consistency::Monotonic,
            Consistency::Eventual,
        ] {
            let session = Session::resume(writer.marks());
            read_from_a_replica(client, &topology, &session, "text").await;
            let before = session.routes();
            seen.insert(
                everything(&mut client.with(&session).at(level), scripts)
                    .await
                    .unwrap(),
            );
            let after = session.routes();
            // All of it was proven on the replica (but for an idle hint that has just gone stale, nothing else is).
            assert_eq!(
                (after.primary - before.primary, after.replica - before.replica),
                (0, 11 + u32::from(scripts))
            );
        }
    }
    assert_eq!(seen.len(), 1, "{seen:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_command_spoils_nothing_but_itself() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = builder(&topology, "resp2").connect().await.unwrap();
    let session = Session::new();
    let () = client.with(&session).set("k", "v").await.unwrap();
    read_from_a_replica(&client, &topology, &session, "k").await;

    let mut pipeline = redis::pipe();
    pipeline.get("k").cmd("GET").hget("k", "f").get("k");
    let reply = client
        .call(Command::pipeline(&pipeline).session(&session))
        .await
        .unwrap();
    let redis::Value::Array(values) = reply.value else {
        panic!("{:?}", reply.value)
    };
    let codes: Vec<_> = values
        .iter()
        .map(|value| match value {
            redis::Value::ServerError(error) => error.code().to_owned(),
            value => format!("{value:?}"),
        })
        .collect();
    assert_eq!(
        codes,
        [
            format!("{:?}", bulk("v")),
            "ERR".into(),
            "WRONGTYPE".into(),
            format!("{:?}", bulk("v"))
        ]
    );
    assert_eq!((reply.route, reply.reason), (Route::Replica, Reason::Covered));

    let error = client
        .call(Command::new(&redis::cmd("GET")).session(&session))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Server);
    assert!(error.to_string().contains("wrong number of arguments"), "{error}");
    // A transaction of the user's is refused whole, as without us.
    let error = redis::pipe()
        .atomic()
        .get("k")
        .cmd("GET")
        .query_async::<(String, String)>(&mut client.with(&session))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("wrong number of arguments") || error.code() == Some("EXECABORT"),
        "{error}"
    );
    // Callers that share the connection with bad commands get their own replies all the same.
    let tasks: Vec<_> = (0..32)
        .map(|caller| {
            let (client, session) = (client.clone(), session.clone());
            tokio::spawn(async move {
                for _ in 0..50 {
                    if caller % 4 == 0 {
                        client
                            .call(Command::new(&redis::cmd("GET")).session(&session))
                            .await
                            .unwrap_err();
                    } else {
                        assert_eq!(client.call(get("k", &session)).await.unwrap().value, bulk("v"));
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_read_their_own_writes() {
    let topology = Topology::builder().replicas(2).start().unwrap();
    let client = builder(&topology, "resp2").connect().await.unwrap();
    let tasks: Vec<_> = (0..32)
        .map(|caller| {
            let client = client.clone();
            tokio::spawn(async move {
                let session = Session::new();
                let mut connection = client.with(&session);
                for round in 0..50_u32 {
                    let () = connection.set(format!("key:{caller}"), round).await.unwrap();
                    let seen: u32 = connection.get(format!("key:{caller}")).await.unwrap();
                    assert_eq!(seen, round);
                }
                session.routes().replica
            })
        })
        .collect();
    let mut from_replicas = 0;
    for task in tasks {
        from_replicas += task.await.unwrap();
    }
    assert!(from_replicas > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_on_a_connection_of_ones_own() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = builder(&topology, "resp2").connect().await.unwrap();
    let session = Session::new();
    let mut connection = client.dedicated(&session).await.unwrap();
    let () = connection.set("k", 1).await.unwrap();
    for command in ["WATCH k", "MULTI", "INCR k", "GET k"] {
        let mut words = command.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            command.arg(word);
        });
        connection.call(&command).await.unwrap();
    }
    let both: (u32, u32) = redis::cmd("EXEC").query_async(&mut connection).await.unwrap();
    assert_eq!(both, (2, 2));
    let reply = read_from_a_replica(&client, &topology, &session, "k").await;
    assert_eq!(reply.value, bulk("2"));
}

/// A flush that is split between INFO and GET, while the replica is re-pointed at one that is behind and has
/// the same history: the trap of law 3. RESP2 has no null push that would tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_split_flush_and_a_replica_that_goes_back_in_time_give_no_stale_read() {
    let topology = Topology::builder().replicas(2).start().unwrap();
    let (moving, behind) = (topology.replica(0), topology.replica(1));
    let relay = Relay::start(moving.addr()).unwrap();
    let client = Client::builder()
        .primary(format!("{}?protocol=resp2", topology.primary().url()))
        .replica(format!("{}?protocol=resp2", relay.url()))
        .response_timeout(Duration::from_secs(30))
        .connect()
        .await
        .unwrap();
    let session = Session::new();
    let () = client.with(&session).set("k", "old").await.unwrap();
    topology.wait_in_sync(SOON).unwrap();
    topology.relay(1).pause();
    let () = client.with(&session).set("k", "new").await.unwrap();
    let mark = topology.primary().mark().unwrap();
    topology.wait_applied(0, mark, SOON).unwrap();
    // By its last word the replica covers the session, so the next read goes there.
    let session = Session::resume(session.marks());
    tokio::time::timeout(SOON, async {
        while client.call(get("k", &session)).await.unwrap().route != Route::Replica {}
    })
    .await
    .unwrap();

    // The trap: INFO first and GET after it, without anything around them.
    let mut naive = Control::connect(moving.port()).unwrap();
    let before = naive.info_replication().unwrap();
    assert!(before.covers(mark));

    relay.hold_when("*1\r\n$5\r\nMULTI\r\n*2\r\n$4\r\nINFO\r\n$11\r\nreplication\r\n");
    let reading = {
        let (client, session) = (client.clone(), session.clone());
        tokio::spawn(async move { client.call(get("k", &session)).await })
    };
    relay.wait_held(SOON).await.unwrap();
    moving.replicaof("127.0.0.1", behind.port()).unwrap();
    moving
        .wait_for(SOON, "the replica has gone back", |info| {
            info.link_up && info.replid == mark.history && !info.covers(mark)
        })
        .unwrap();
    let stale = naive.command(&["GET", "k"]).unwrap();
    assert_eq!(
        stale.text(),
        Some("old"),
        "the trap is set: INFO covered the mark, and GET is old"
    );

    relay.release();
    let reply = reading.await.unwrap().unwrap();
    assert_eq!((reply.value, reply.route), (bulk("new"), Route::Primary));
    assert_eq!(reply.reason, Reason::Behind);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_knows_no_hello_is_spoken_to_in_resp2() {
    let topology = Topology::builder()
        .replicas(1)
        .primary_args(["--rename-command", "HELLO", ""])
        .replica_args(["--rename-command", "HELLO", ""])
        .start()
        .unwrap();
    let client = crate::common::client(&topology).await;
    let status = client.status();
    assert_eq!(
        (status.primary.protocol, status.replicas[0].proof_form),
        (Some("resp2"), Some("transaction"))
    );
    assert!(
        status
            .primary
            .warnings
            .iter()
            .any(|warning| warning.contains("HELLO"))
    );
    let session = Session::new();
    let () = client.with(&session).set("k", "v").await.unwrap();
    assert_eq!(
        read_from_a_replica(&client, &topology, &session, "k").await.value,
        bulk("v")
    );

    let error = refusal(builder(&topology, "resp3")).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("take protocol=resp3 off"), "{error}");
}

/// Without null pushes, another history of the primary may be other data: then no mark is made up.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_changes_its_history_is_not_taken_for_continuous() {
    let topology = Topology::builder()
        .replicas(0)
        .primary_args(ServerKind::from_env().unwrap().debug_arguments().unwrap())
        .start()
        .unwrap();
    let primary = topology.primary();
    for protocol in ["resp2", "resp3"] {
        let client = builder(&topology, protocol).connect().await.unwrap();
        let mut doubts = 0;
        for round in 0..10 {
            primary.command(&["DEBUG", "CHANGE-REPL-ID"]).unwrap();
            let session = Session::new();
            let () = client.with(&session).set("k", round).await.unwrap();
            doubts += u32::from(session.marks().written().any(|mark| mark.offset.is_unknown()));
            // In doubt or not, the session reads what it wrote.
            let seen: u32 = client.with(&session).get("k").await.unwrap();
            assert_eq!(seen, round);
            let () = client.with(&session).set("k", round).await.unwrap();
        }
        // A sample that the client takes of its own accord between the change and the write leaves no doubt; that
        // is once a second.
        match protocol {
            "resp2" => assert!(doubts > 0),
            _ => assert_eq!(
                doubts, 0,
                "with tracking, no null push says that it is the same data"
            ),
        }
    }
}
