//! The client's everyday behaviour on a primary with two replicas.

mod common;

use std::{collections::HashMap, time::Duration};

use highwater::{Client, Command, Consistency, ErrorKind, Reason, Route, Session};
use highwater_testkit::Topology;
use redis::AsyncCommands;

const DELAY: Duration = Duration::from_millis(200);
const SOON: Duration = Duration::from_secs(10);

fn get(key: &str, session: &Session) -> Command {
    Command::new(redis::cmd("GET").arg(key)).session(session)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_reads_its_own_write_at_once_and_from_a_replica_later() {
    let topology = Topology::builder().replicas(2).delay(DELAY).start().unwrap();
    let client = common::client(&topology).await;
    let session = Session::new();

    let () = client.with(&session).set("k", "new").await.unwrap();
    let reply = client.call(get("k", &session)).await.unwrap();
    assert_eq!(reply.value, redis::Value::BulkString(b"new".to_vec()));
    assert_eq!((reply.route, reply.reason), (Route::Primary, Reason::Behind));

    topology.wait_in_sync(SOON).unwrap();
    let new = redis::Value::BulkString(b"new".to_vec());
    common::from_a_replica(&client, &get("k", &session), &new).await;
    assert!(session.routes().primary >= 1);
    assert_eq!(session.routes().replica, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_redis_rs_work_as_people_know_them() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = common::client(&topology).await;
    let session = Session::new();
    let mut connection = client.with(&session);

    let () = connection
        .hset_multiple("h", &[("a", 1), ("b", 2)])
        .await
        .unwrap();
    let all: HashMap<String, u32> = connection.hgetall("h").await.unwrap();
    assert_eq!(all, HashMap::from([("a".into(), 1), ("b".into(), 2)]));
    let missing: Option<String> = connection.get("missing").await.unwrap();
    assert_eq!(missing, None);

    let (size, both): (usize, Vec<Option<u32>>) = redis::pipe()
        .cmd("HLEN")
        .arg("h")
        .cmd("HMGET")
        .arg("h")
        .arg("a")
        .arg("b")
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!((size, both), (2, vec![Some(1), Some(2)]));

    let (n, ()): (u32, ()) = redis::pipe()
        .atomic()
        .incr("n", 5)
        .hdel("h", "a")
        .ignore()
        .query_async(&mut connection)
        .await
        .map(|(n,): (u32,)| (n, ()))
        .unwrap();
    assert_eq!(n, 5);

    let error = connection
        .hget::<_, _, Option<String>>("n", "f")
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some("WRONGTYPE"));
    let script = redis::Script::new("redis.call('SET', KEYS[1], ARGV[1]); return redis.call('GET', KEYS[1])");
    let scripted: String = script
        .key("s")
        .arg("v")
        .invoke_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(scripted, "v");
    let seen: String = connection.get("s").await.unwrap();
    assert_eq!(seen, "v");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_of_one_command_has_its_reply() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = common::client(&topology).await;
    let session = Session::new();
    let mut connection = client.with(&session);
    let (n,): (u32,) = redis::pipe()
        .incr("n", 5)
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(n, 5);
    let (n,): (Option<u32>,) = redis::pipe().get("n").query_async(&mut connection).await.unwrap();
    assert_eq!(n, Some(5));
    // A reply that is an array itself, and one that is an error.
    let () = connection.rpush("list", &["a", "b"]).await.unwrap();
    let (list,): (Vec<String>,) = redis::pipe()
        .lrange("list", 0, -1)
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(list, ["a", "b"]);
    let refused = redis::pipe()
        .incr("list", 1)
        .ignore()
        .query_async::<()>(&mut connection)
        .await;
    let errors = refused.unwrap_err().into_server_errors().unwrap();
    assert_eq!(errors[0].1.code(), "WRONGTYPE");
}

/// A transaction that empties the database makes the server push an invalidation on this very connection, by
/// its tracking. Redis 6.2.5 puts that into the middle of EXEC's reply.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_transaction_makes_the_server_push_is_no_part_of_its_reply() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = common::client(&topology).await;
    let session = Session::new();
    let mut own = client.dedicated(&session).await.unwrap();
    for round in 0..3_u32 {
        let mut pipeline = redis::pipe();
        pipeline
            .atomic()
            .set("k", "gone")
            .flushall()
            .set("k", round)
            .get("k");
        let replies: (String, String, String, u32) =
            pipeline.query_async(&mut client.with(&session)).await.unwrap();
        assert_eq!(replies, ("OK".into(), "OK".into(), "OK".into(), round));
        // Nor is it taken for the reply to what comes next.
        let seen: u32 = client.with(&session).get("k").await.unwrap();
        assert_eq!(seen, round);
        let replies: (String, String, String, u32) = pipeline.query_async(&mut own).await.unwrap();
        assert_eq!(replies, ("OK".into(), "OK".into(), "OK".into(), round));
        assert_eq!(own.get::<_, u32>("k").await.unwrap(), round);
    }
    assert!(!common::in_doubt(&session));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_get_each_their_own_reply() {
    let topology = Topology::builder().replicas(2).start().unwrap();
    let client = common::client(&topology).await;
    let tasks: Vec<_> = (0..64)
        .map(|caller| {
            let client = client.clone();
            tokio::spawn(async move {
                let session = Session::new();
                let mut connection = client.with(&session);
                let key = format!("key:{caller}");
                for round in 0..200_u32 {
                    let () = connection.set(&key, format!("{caller}:{round}")).await.unwrap();
                    for _ in 0..3 {
                        let seen: String = connection.get(&key).await.unwrap();
                        assert_eq!(seen, format!("{caller}:{round}"));
                    }
                }
                session.routes()
            })
        })
        .collect();
    let mut from_replicas = 0;
    for task in tasks {
        from_replicas += task.await.unwrap().replica;
    }
    assert!(from_replicas > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn levels_choose_the_route() {
    let topology = Topology::builder().replicas(1).delay(DELAY).start().unwrap();
    let client = common::client(&topology).await;
    let session = Session::new();
    let () = client.with(&session).set("k", 1).await.unwrap();

    let eventual = client
        .call(get("k", &session).level(Consistency::Eventual))
        .await
        .unwrap();
    assert_eq!(
        (eventual.route, eventual.value),
        (Route::Replica, redis::Value::Nil)
    );
    let primary = client
        .call(get("k", &session).level(Consistency::Primary))
        .await
        .unwrap();
    assert_eq!((primary.route, primary.reason), (Route::Primary, Reason::Level));
    // A stranger depends on nothing.
    let stranger = client.call(get("k", &Session::new())).await.unwrap();
    assert_eq!(
        (stranger.route, stranger.reason),
        (Route::Replica, Reason::NoRequirement)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn monotonic_reads_do_not_go_back() {
    let topology = Topology::builder().replicas(1).delay(DELAY).start().unwrap();
    let client = common::client(&topology).await;
    let (writer, reader) = (Session::new(), Session::new());
    let () = client.with(&writer).set("k", 1).await.unwrap();
    // The reader sees the new value at the primary; from then on it may not see the old one.
    reader.set_level(Consistency::Primary);
    let seen: Option<u32> = client.with(&reader).get("k").await.unwrap();
    assert_eq!(seen, Some(1));
    let again = client.with(&reader).at(Consistency::Monotonic);
    let seen: Option<u32> = again.clone().get("k").await.unwrap();
    // Reads at the level Primary leave no mark of their own, so this one was free to be old.
    assert!(matches!(seen, None | Some(1)));
    let seen: Option<u32> = client
        .with(&writer)
        .at(Consistency::Monotonic)
        .get("k")
        .await
        .unwrap();
    assert_eq!(seen, Some(1));
    assert!(writer.marks().read().count() == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_shared_connection_can_not_do_is_refused() {
    let topology = Topology::builder().replicas(0).start().unwrap();
    let client = common::client(&topology).await;
    for command in ["MULTI", "WATCH", "SUBSCRIBE", "WAIT"] {
        let error = client.call(redis::cmd(command).arg("x")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{command}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_configurations_are_told_apart() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let primary = topology.primary().url();
    let replica = topology.replica(0).url();
    let kind = |result: Result<Client, highwater::Error>| result.map(drop).unwrap_err().kind();
    assert_eq!(kind(Client::builder().connect().await), ErrorKind::Config);
    assert_eq!(
        kind(Client::builder().primary("nonsense").connect().await),
        ErrorKind::Config
    );
    assert_eq!(
        kind(Client::builder().primary(replica.clone()).connect().await),
        ErrorKind::Config
    );
    assert_eq!(
        kind(Client::builder().primary("redis://127.0.0.1:1").connect().await),
        ErrorKind::Unavailable
    );
    // A replica that is not there is no reason to fail; one that says it is a primary is not read from.
    let client = Client::builder()
        .primary(primary.clone())
        .replica("redis://127.0.0.1:1")
        .replica(primary)
        .connect()
        .await
        .unwrap();
    let reply = client.call(redis::cmd("GET").arg("k")).await.unwrap();
    assert_eq!((reply.route, reply.reason), (Route::Primary, Reason::Unhealthy));
    let status = client.status();
    assert_eq!(status.replicas[0].connection, "down");
    assert!(!status.replicas[1].role_as_expected);
}
