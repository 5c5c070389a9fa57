//! Primaries that change: through sentinels, by their own word, and by a discovery of one's own.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod common;

use std::{
    error::Error as StdError,
    future::poll_fn,
    pin::{Pin, pin},
    task::Poll,
    time::{Duration, Instant},
};

use common::{NO_PINGS, builder, bulk, from_a_replica, get, set, until};
use highwater::{
    Client, ClientBuilder, Continuity, Discovery, ErrorKind, Marks, Publisher, Route, Sentinel, Session,
    Topology,
};
use highwater_testkit::{Relay, Role, Sentinels, Server, wait_until_async};
use tokio::sync::watch;

/// Sentinels count votes, and on a busy machine count them again.
const SOON: Duration = Duration::from_secs(90);

fn through_sentinels(sentinels: &Sentinels) -> ClientBuilder {
    Client::builder().discovery(Sentinel::new(Sentinels::NAME, sentinels.urls()))
}

/// Writes until it works: what fails on the way may not have happened.
async fn write_until_it_works(client: &Client, value: &str, session: &Session) {
    let deadline = std::time::Instant::now() + SOON;
    while let Err(error) = client.call(set("k", value, session)).await {
        assert!(
            std::time::Instant::now() < deadline,
            "no write works: {error} {:?}",
            client.status()
        );
        tokio::task::yield_now().await;
    }
}

/// A write that is sent before the loss of the connection is seen is in doubt, and may be lost in the failover.
async fn seen_down(client: &Client) {
    until("the client sees that the primary is gone", || {
        client.status().primary.connections == 0
    })
    .await;
}

fn port_of_primary(client: &Client) -> Option<u16> {
    client.status().primary.address.rsplit(':').next()?.parse().ok()
}

/// What sentinels and nodes say, for a failure's message.
fn told(sentinels: &Sentinels) -> String {
    let replicas = ["SENTINEL", "REPLICAS", Sentinels::NAME];
    let sentinels_say = sentinels
        .sentinels()
        .iter()
        .map(|sentinel| format!("{:?}\n", sentinel.command(&replicas)));
    let nodes_say = sentinels
        .nodes()
        .map(|node| format!("{}: {:?}\n", node.port(), node.info_replication()));
    sentinels_say.chain(nodes_say).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_follows_the_sentinels_when_the_primary_dies() {
    let sentinels = Sentinels::builder().args(NO_PINGS).start().unwrap();
    let client = through_sentinels(&sentinels).connect().await.unwrap();
    assert_eq!(port_of_primary(&client), Some(sentinels.relay(0).port()));
    until("both replicas are known and connected", || {
        let replicas = client.status().replicas;
        replicas.len() == 2 && replicas.iter().all(|replica| replica.connections == 1)
    })
    .await;
    let session = Session::new();
    client.call(set("k", "before", &session)).await.unwrap();
    from_a_replica(&client, &get("k", &session), &bulk("before")).await;
    for node in 1..3 {
        // So that nothing is lost: then nothing may be said to be.
        let mark = common::written(&session).unwrap();
        sentinels
            .node(node)
            .wait_for(SOON, "the write has arrived", |info| info.covers(mark))
            .unwrap();
    }
    sentinels.node(0).kill();
    // A replica has it, and goes on to prove it; nobody has to wait for the sentinels.
    for _ in 0..100 {
        let reply = client.call(get("k", &session)).await.unwrap();
        assert_eq!(reply.value, bulk("before"));
    }
    let primary = sentinels.wait_failed_over(0, SOON).unwrap();
    write_until_it_works(&client, "after", &session).await;
    assert_eq!(port_of_primary(&client), Some(sentinels.relay(primary).port()));
    let reply = client.call(get("k", &session)).await.unwrap();
    assert_eq!(reply.value, bulk("after"));
    from_a_replica(&client, &get("k", &session), &bulk("after")).await;

    // The old one comes back as a replica of the new one, and is used as such; or as the primary, where the machine has
    // stood still for so long that the sentinels have failed over once more.
    sentinels.node(0).restart().unwrap();
    let old = sentinels.relay(0).port();
    let is_followed = || {
        let info = sentinels.node(0).info_replication();
        info.is_ok_and(|info| info.role == Role::Primary && info.connected_replicas == 2)
    };
    // Sentinels take some ten seconds for it, on a machine that has nothing else to do.
    wait_until_async(SOON, "the old primary serves again", || {
        let replicas = client.status().replicas;
        let found = replicas
            .iter()
            .find(|replica| replica.address.ends_with(&old.to_string()));
        let serves = found.is_some_and(|replica| {
            replica.role == Some("replica") && replica.replication_link_up == Some(true)
        });
        serves || (port_of_primary(&client) == Some(old) && is_followed())
    })
    .await
    .unwrap_or_else(|error| panic!("{error}: {:#?}\n{}", client.status(), told(&sentinels)));
    client.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_primary_that_is_replaced_gets_no_more_writes() {
    let sentinels = Sentinels::builder().args(NO_PINGS).start().unwrap();
    let client = through_sentinels(&sentinels).connect().await.unwrap();
    let session = Session::new();
    client.call(set("k", "before", &session)).await.unwrap();
    let primary = sentinels.fail_over(SOON).unwrap();
    let new = sentinels.relay(primary).port();
    until("the client writes to the new primary", || {
        port_of_primary(&client) == Some(new)
    })
    .await;
    write_until_it_works(&client, "after", &session).await;
    // What was acknowledged by the old one after the new one had parted from it may be lost, and would be reported.
    let reply = client.call(get("k", &session)).await.unwrap();
    assert_eq!(reply.value, bulk("after"));
    assert_eq!(
        sentinels.node(primary).command(&["GET", "k"]).unwrap().text(),
        Some("after")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_come_and_go() {
    let mut sentinels = Sentinels::builder().replicas(1).sentinels(1).start().unwrap();
    let client = through_sentinels(&sentinels).connect().await.unwrap();
    until("one replica", || client.status().replicas.len() == 1).await;
    let added = sentinels.add_node().unwrap();
    let port = sentinels.relay(added).port().to_string();
    until("the new replica is connected", || {
        let replicas = client.status().replicas;
        replicas
            .iter()
            .any(|replica| replica.address.ends_with(&port) && replica.connections == 1)
    })
    .await;
    // Sentinel forgets a replica that is gone when it is told to begin anew.
    sentinels.node(added).kill();
    sentinels
        .node(0)
        .wait_for(SOON, "the primary has lost it", |info| {
            info.connected_replicas == 1
        })
        .unwrap();
    sentinels.sentinels()[0]
        .command(&["SENTINEL", "RESET", Sentinels::NAME])
        .unwrap();
    until(
        "the replica that is gone is forgotten, and the other one known",
        || {
            let replicas = client.status().replicas;
            replicas.len() == 1 && !replicas[0].address.ends_with(&port)
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sentinel_that_answers_is_enough() {
    let sentinels = Sentinels::builder().replicas(1).start().unwrap();
    sentinels.sentinels()[0].kill();
    sentinels.sentinels()[1].pause().unwrap();
    let client = through_sentinels(&sentinels).connect().await.unwrap();
    let session = Session::new();
    client.call(set("k", "v", &session)).await.unwrap();
    // With none, what was known stays in use.
    sentinels.sentinels()[2].kill();
    client.call(set("k", "w", &session)).await.unwrap();
    assert_eq!(client.call(get("k", &session)).await.unwrap().value, bulk("w"));
    sentinels.sentinels()[1].resume().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_sentinels_is_said() {
    let refusal = async |sentinel: Sentinel| {
        let outcome = Client::builder().discovery(sentinel).connect().await;
        outcome.expect_err("it can't be used")
    };
    let none: [&str; 0] = [];
    let error = refusal(Sentinel::new("m", none)).await;
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");

    let sentinels = Sentinels::builder().replicas(0).sentinels(1).start().unwrap();
    let error = refusal(Sentinel::new("no-such", sentinels.urls())).await;
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("`no-such`"), "{error}");

    let error = refusal(Sentinel::new("m", [sentinels.node(0).url()])).await;
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("no sentinel"), "{error}");

    let url = sentinels.urls().remove(0);
    sentinels.sentinels()[0].kill();
    let error = refusal(Sentinel::new(Sentinels::NAME, [&url])).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");

    let both = Client::builder()
        .primary("redis://127.0.0.1:1")
        .discovery(Sentinel::new("m", [&url]))
        .connect()
        .await;
    assert_eq!(both.unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_and_nodes_have_passwords_of_their_own() {
    let node = Server::start().unwrap();
    let lines = [
        format!("sentinel monitor m 127.0.0.1 {} 1", node.port()),
        String::from("sentinel auth-pass m of-the-nodes"),
    ];
    let sentinel = Server::builder().sentinel(&lines).start().unwrap();
    // The test's own connections are older than the passwords.
    let mut control = node.connect().unwrap();
    control.command(&["SELECT", "1"]).unwrap();
    node.command(&["CONFIG", "SET", "requirepass", "of-the-nodes"])
        .unwrap();
    let rights = [
        "ACL",
        "SETUSER",
        "watcher",
        "on",
        ">of-the-sentinel",
        "+@all",
        "allchannels",
    ];
    sentinel.command(&rights).unwrap();
    sentinel.command(&["ACL", "SETUSER", "default", "off"]).unwrap();
    let url = |user: &str| format!("redis://{user}127.0.0.1:{}", sentinel.port());
    let connect = |user: &str| {
        let sentinel = Sentinel::new("m", [url(user)]).nodes_like("redis://:of-the-nodes@any/1");
        Client::builder().discovery(sentinel).connect()
    };
    let error = connect("").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("password"), "{error}");
    let error = connect("watcher:wrong@").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(!error.to_string().contains("wrong@"), "{error}");
    let client = connect("watcher:of-the-sentinel@").await.unwrap();
    client.call(set("k", "v", &Session::new())).await.unwrap();
    assert_eq!(control.command(&["GET", "k"]).unwrap().text(), Some("v"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_discovery_a_promoted_replica_takes_the_place_of_a_dead_primary() {
    let topology = common::quiet(2);
    let client = builder(&topology).connect().await.unwrap();
    let session = Session::new();
    client.call(set("k", "before", &session)).await.unwrap();
    topology.wait_in_sync(SOON).unwrap();
    topology.primary().kill();
    seen_down(&client).await;
    topology.promote(0).unwrap();
    write_until_it_works(&client, "after", &session).await;
    assert_eq!(port_of_primary(&client), Some(topology.replica(0).port()));
    assert_eq!(
        client.call(get("k", &session)).await.unwrap().value,
        bulk("after")
    );
    // Its history goes on in the new one, so nothing of the session was lost.
    assert_eq!(session.continuity(), Continuity::Intact);
    // The old one comes back with its old history, and is not believed.
    topology.primary().restart().unwrap();
    until("the old primary is seen again", || {
        let replicas = client.status().replicas;
        replicas
            .iter()
            .any(|node| node.role == Some("primary") && !node.role_as_expected)
    })
    .await;
    client.call(set("k", "later", &session)).await.unwrap();
    assert_eq!(port_of_primary(&client), Some(topology.replica(0).port()));
}

/// Nobody will say more of it once its node is out of use.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_was_lost_with_its_primary_does_not_leave_its_session_in_doubt_for_ever() {
    let topology = common::quiet(2);
    let front = Relay::start(topology.primary().addr()).unwrap();
    let client = common::builder_through(&front, &topology)
        .response_timeout(Duration::from_millis(1200))
        .connect()
        .await
        .unwrap();
    let session = Session::new();
    client.call(set("k", "before", &session)).await.unwrap();
    topology.wait_in_sync(SOON).unwrap();
    front.black_hole(true);
    let error = client.call(set("k", "during", &session)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InDoubt, "{error}");
    topology.primary().kill();
    topology.promote(0).unwrap();
    topology
        .replica(1)
        .replicaof("127.0.0.1", topology.replica(0).port())
        .unwrap();
    write_until_it_works(&client, "after", &session).await;
    let deadline = Instant::now() + SOON;
    loop {
        let reply = client.call(get("k", &session)).await.unwrap();
        assert_eq!(reply.value, bulk("after"));
        if reply.route == Route::Replica && !common::in_doubt(&session) {
            break;
        }
        assert!(Instant::now() < deadline, "{reply:?} {session:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_discovery_a_detached_replica_is_left_alone_while_the_primary_lives() {
    let topology = highwater_testkit::Topology::builder()
        .replicas(2)
        .start()
        .unwrap();
    let client = builder(&topology).connect().await.unwrap();
    let session = Session::new();
    client.call(set("k", "before", &session)).await.unwrap();
    topology.wait_in_sync(SOON).unwrap();
    topology.replica(0).replicaof_no_one().unwrap();
    until("the client has seen it", || {
        client.status().replicas[0].role == Some("primary")
    })
    .await;
    client.call(set("k", "after", &session)).await.unwrap();
    assert_eq!(port_of_primary(&client), Some(topology.primary().port()));
    assert_eq!(
        topology.primary().command(&["GET", "k"]).unwrap().text(),
        Some("after")
    );
    assert!(!client.status().contested);
}

/// A discovery that says what the test says.
#[derive(Debug)]
struct Told(watch::Receiver<Topology>, watch::Sender<u32>);

#[async_trait::async_trait]
impl Discovery for Told {
    async fn follow(&self, mut publisher: Publisher) -> Result<(), Box<dyn StdError + Send + Sync>> {
        let mut told = self.0.clone();
        loop {
            let topology = told.borrow_and_update().clone();
            publisher.publish(topology);
            tokio::select! {
                () = publisher.doubted() => self.1.send_modify(|doubts| *doubts += 1),
                _ = told.changed() => {}
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_two_nodes_lead_nothing_is_written_until_the_discovery_decides() {
    let topology = common::quiet(1);
    let before = Topology::new(topology.primary().url()).replica(topology.replica(0).url());
    let (say, told) = watch::channel(before);
    let (doubts, doubted) = watch::channel(0);
    let client = Client::builder()
        .discovery(Told(told, doubts))
        .connect()
        .await
        .unwrap();
    let session = Session::new();
    client.call(set("k", "before", &session)).await.unwrap();
    topology.wait_in_sync(SOON).unwrap();
    topology.replica(0).replicaof_no_one().unwrap();
    until("the contest is seen", || client.status().contested).await;
    let error = client.call(set("k", "lost", &session)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(
        topology.primary().command(&["GET", "k"]).unwrap().text(),
        Some("before")
    );
    until("the discovery is asked", || *doubted.borrow() > 1).await;
    // Reads go on.
    assert_eq!(
        client.call(get("k", &session)).await.unwrap().value,
        bulk("before")
    );
    say.send_replace(Topology::new(topology.replica(0).url()).replica(topology.primary().url()));
    write_until_it_works(&client, "after", &session).await;
    assert_eq!(
        topology.replica(0).command(&["GET", "k"]).unwrap().text(),
        Some("after")
    );
    assert!(!client.status().contested);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discovery_that_is_late_does_not_bring_the_old_primary_back() {
    let topology = common::quiet(2);
    let front = Relay::start(topology.primary().addr()).unwrap();
    let old = || {
        Topology::new(front.url())
            .replica(topology.replica(0).url())
            .replica(topology.replica(1).url())
    };
    let (say, told) = watch::channel(old());
    let (doubts, _doubted) = watch::channel(0);
    let client = Client::builder()
        .discovery(Told(told, doubts))
        .connect()
        .await
        .unwrap();
    let session = Session::new();
    client.call(set("k", "before", &session)).await.unwrap();
    topology.wait_in_sync(SOON).unwrap();
    front.refuse(true);
    front.cut();
    seen_down(&client).await;
    topology.promote(0).unwrap();
    write_until_it_works(&client, "after", &session).await;
    // It has not heard of the promotion, and the old primary is alive and says that it is one.
    front.refuse(false);
    say.send_replace(old());
    until("the old primary is seen again", || {
        let replicas = client.status().replicas;
        replicas.iter().any(|node| node.role == Some("primary"))
    })
    .await;
    say.send_replace(old());
    for _ in 0..100 {
        // Reported, if it went to the old one.
        client.call(set("k", "later", &session)).await.unwrap();
        assert_eq!(
            client.call(get("k", &session)).await.unwrap().value,
            bulk("later")
        );
    }
    assert_eq!(
        topology.replica(0).command(&["GET", "k"]).unwrap().text(),
        Some("later"),
        "{:?}",
        client.status()
    );
    assert_eq!(session.continuity(), Continuity::Intact);
    // Another one than that is followed.
    topology
        .replica(1)
        .replicaof("127.0.0.1", topology.replica(0).port())
        .unwrap();
    say.send_replace(Topology::new(topology.replica(0).url()).replica(topology.replica(1).url()));
    until("the new list is in use", || client.status().replicas.len() == 1).await;
    client.call(set("k", "last", &session)).await.unwrap();
}

/// Whether it can't go on yet.
async fn waits<T>(mut future: Pin<&mut impl Future<Output = T>>) -> bool {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_primary_that_is_replaced_gets_the_next_one() {
    let server = Server::start().unwrap();
    let silent = Relay::start(server.addr()).unwrap();
    silent.black_hole(true);
    let (say, told) = watch::channel(Topology::new(server.url()));
    let (doubts, _doubted) = watch::channel(0);
    let client = Client::builder()
        .discovery(Told(told, doubts))
        .connect_timeout(SOON)
        .connect()
        .await
        .unwrap();
    let session = Session::new();
    client.call(set("k", "v", &session)).await.unwrap();
    say.send_replace(Topology::new(silent.url()));
    until("the client turns to the silent one", || {
        port_of_primary(&client) == Some(silent.port())
    })
    .await;
    let doubtful = Session::resume(Marks::in_doubt());
    let mut read = pin!(client.call(get("k", &session)));
    let mut settled = pin!(client.call(get("k", &doubtful)));
    let mut write = pin!(client.call(set("k", "w", &session)));
    let mut ready = pin!(client.ready(SOON));
    assert!(waits(read.as_mut()).await && waits(settled.as_mut()).await);
    assert!(waits(write.as_mut()).await && waits(ready.as_mut()).await);
    say.send_replace(Topology::new(server.url()));
    // Nothing had been sent for them, and the client goes on.
    assert_eq!(read.await.unwrap().value, bulk("v"));
    assert!(settled.await.is_ok());
    write.await.unwrap();
    ready.await.unwrap();
}
