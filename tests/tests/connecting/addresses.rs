//! Unix sockets, IPv6, database numbers, users and passwords.

use highwater::{Client, ErrorKind, Session};
use highwater_testkit::{Server, Topology};
use redis::AsyncCommands;

use crate::{bulk, common, get, note, read_from_a_replica, refusal, url_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("redis.sock");
    let server = Server::builder()
        .args(["--unixsocket", path.to_str().unwrap()])
        .start()
        .unwrap();
    let url = format!("redis+unix://{}?db=2", path.display());
    let client = Client::builder().primary(url).connect().await.unwrap();
    let session = Session::new();
    let () = client.with(&session).set("k", "v").await.unwrap();
    let reply = client.call(get("k", &session)).await.unwrap();
    assert_eq!(reply.value, bulk("v"));
    assert_eq!(
        server
            .command(&["INFO", "keyspace"])
            .unwrap()
            .text()
            .unwrap()
            .matches("db2:")
            .count(),
        1
    );

    let missing = format!("redis+unix://{}", directory.path().join("missing.sock").display());
    let error = refusal(Client::builder().primary(missing)).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("missing.sock"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv6() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        note("left out: this machine has no IPv6 loopback");
        return;
    }
    let server = Server::builder()
        .args(["--bind", "127.0.0.1", "::1"])
        .start()
        .unwrap();
    let url = format!("redis://[::1]:{}", server.port());
    let client = Client::builder().primary(url).connect().await.unwrap();
    let session = Session::new();
    let () = client.with(&session).set("k", "v").await.unwrap();
    assert_eq!(client.call(get("k", &session)).await.unwrap().value, bulk("v"));
    assert_eq!(
        client.status().primary.address,
        format!("[::1]:{}", server.port())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_are_apart() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let (primary, replica) = (topology.primary().url(), topology.replica(0).url());
    for protocol in ["resp3", "resp2"] {
        let client = |database: u32| {
            let url = |url: &str| format!("{url}/{database}?protocol={protocol}");
            Client::builder()
                .primary(url(&primary))
                .replica(url(&replica))
                .connect()
        };
        let (one, two) = (client(1).await.unwrap(), client(2).await.unwrap());
        let session = Session::new();
        let () = one
            .with(&session)
            .set("k", format!("one, {protocol}"))
            .await
            .unwrap();
        let () = two
            .with(&session)
            .set("k", format!("two, {protocol}"))
            .await
            .unwrap();
        for (client, word) in [(&one, "one"), (&two, "two")] {
            let seen = read_from_a_replica(client, &topology, &session, "k").await;
            assert_eq!(seen.value, bulk(&format!("{word}, {protocol}")));
        }
    }
    let mixed = Client::builder().primary(format!("{primary}/1")).replica(replica);
    let error = refusal(mixed).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("same database number"), "{error}");
    let error = refusal(Client::builder().primary(format!("{primary}/99"))).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("SELECT"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_for_everybody() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    topology
        .replica(0)
        .command(&["CONFIG", "SET", "masterauth", "s3cret"])
        .unwrap();
    for server in [topology.replica(0), topology.primary()] {
        server
            .command(&["CONFIG", "SET", "requirepass", "s3cret"])
            .unwrap();
    }
    for protocol in ["resp3", "resp2"] {
        let builder = |login: &str| {
            let url = |server| format!("{}?protocol={protocol}", url_of(server, login));
            Client::builder()
                .primary(url(topology.primary()))
                .replica(url(topology.replica(0)))
        };
        let client = builder(":s3cret").connect().await.unwrap();
        let session = Session::new();
        let () = client.with(&session).set("k", "v").await.unwrap();
        assert_eq!(
            read_from_a_replica(&client, &topology, &session, "k").await.value,
            bulk("v")
        );

        for (login, advice) in [
            (":wr0ng", "refuses the user name or the password in the URL"),
            (
                "nobody:s3cret",
                "refuses the user name or the password in the URL",
            ),
            ("", "asks for a password: put it into the URL"),
        ] {
            let error = refusal(builder(login)).await;
            assert_eq!(error.kind(), ErrorKind::Config, "{protocol} {login}: {error}");
            let printed = format!("{error} {error:?}");
            assert!(printed.contains(advice), "{protocol} {login}: {printed}");
            assert!(
                !printed.contains("s3cret") && !printed.contains("wr0ng"),
                "{printed}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_a_password() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    for server in [topology.primary(), topology.replica(0)] {
        server
            .command(&["ACL", "SETUSER", "cart", "on", ">pa:ss/word", "~*", "+@all"])
            .unwrap();
    }
    for protocol in ["resp3", "resp2"] {
        let url = |server| format!("{}?protocol={protocol}", url_of(server, "cart:pa%3Ass%2Fword"));
        let client = Client::builder()
            .primary(url(topology.primary()))
            .replica(url(topology.replica(0)))
            .connect()
            .await
            .unwrap();
        let () = client.with(&Session::new()).set("k", "v").await.unwrap();
        let session = Session::new();
        assert_eq!(
            read_from_a_replica(&client, &topology, &session, "k").await.value,
            bulk("v")
        );
        let whoami: String = redis::cmd("ACL")
            .arg("WHOAMI")
            .query_async(&mut client.without_session())
            .await
            .unwrap();
        assert_eq!(whoami, "cart");
        let printed = format!("{client:?} {:?}", client.status());
        assert!(!printed.contains("pa:ss"), "{printed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_redis_rs_has_read_is_taken_too() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let info = |url: String| redis::IntoConnectionInfo::into_connection_info(url).unwrap();
    let client = Client::builder()
        .primary(info(topology.primary().url()))
        .replicas([info(topology.replica(0).url())])
        .connect()
        .await
        .unwrap();
    // redis-rs's own default is RESP2; here it is not taken for a choice.
    assert_eq!(client.status().primary.protocol, Some("resp3"));
    let session = Session::new();
    read_from_a_replica(&client, &topology, &session, "k").await;
    drop(common::client(&topology).await);
}
