//! Rules that the model found, on real servers: each test is the schedule by which the model refutes the rule's
//! opposite, played by relays that stop the client's bytes at the right place.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod common;

use common::{NO_PINGS, SOON, bulk, get, in_doubt, set, until, written};
use highwater::{Client, Command, Consistency, Continuity, Error, Marks, Reason, Reply, Route, Session};
use highwater_testkit::{Relay, Server, Topology, wait_until_async};
use tokio::task::JoinHandle;

/// `SET key value` as it is on the wire.
fn set_bytes(key: &str, value: &str) -> Vec<u8> {
    redis::cmd("SET").arg(key).arg(value).get_packed_command()
}

/// A client of one server behind a relay, which it takes for the primary. It waits for held bytes.
async fn patient_client(front: &Relay) -> Client {
    Client::builder()
        .primary(front.url())
        .response_timeout(2 * SOON)
        .connect()
        .await
        .unwrap()
}

fn start(replicas: usize) -> Topology {
    let topology = Topology::builder()
        .replicas(replicas)
        .primary_args(NO_PINGS)
        .start()
        .unwrap();
    topology.primary().command(&["SET", "k", "before"]).unwrap();
    topology.wait_in_sync(SOON).unwrap();
    topology
}

/// Calls on a task of its own.
fn spawn(client: &Client, command: Command) -> JoinHandle<Result<Reply, Error>> {
    let client = client.clone();
    tokio::spawn(async move { client.call(command).await })
}

async fn wait_for_value(server: &Server, key: &str, value: &str) {
    let what = format!("{key} is {value}");
    let is = || {
        let reply = server.command(&["GET", key]);
        reply.is_ok_and(|reply| reply.text() == Some(value))
    };
    wait_until_async(SOON, &what, is).await.unwrap();
}

/// Makes a node follow another one, and returns when it has all that the other one has now.
fn follow(node: &Server, other: &Server) {
    node.replicaof("127.0.0.1", other.port()).unwrap();
    let there = other.mark().unwrap();
    node.wait_for(SOON, "the node follows", |info| {
        info.link_up && info.covers(there)
    })
    .unwrap();
}

/// `MarkAcrossGap`: between a write's reply and the sample that trails it, the node gets the data of another one, which
/// lacks the write, and becomes a primary again. What that sample says is no mark of the write.
#[tokio::test(flavor = "multi_thread")]
async fn a_sample_after_other_data_have_come_is_no_mark() {
    let topology = start(1);
    let (primary, replica) = (topology.primary(), topology.replica(0));
    let front = Relay::start(primary.addr()).unwrap();
    let client = patient_client(&front).await;
    topology.relay(0).pause();

    let session = Session::new();
    front.hold_when(set_bytes("k", "gone"));
    let write = spawn(&client, set("k", "gone", &session));
    front.wait_held(SOON).await.unwrap();
    wait_for_value(primary, "k", "gone").await;
    replica.replicaof_no_one().unwrap();
    follow(primary, replica);
    wait_for_value(primary, "k", "before").await;
    primary.replicaof_no_one().unwrap();
    front.release();

    write.await.unwrap().unwrap();
    let reply = client.call(get("k", &session)).await.unwrap();
    assert_eq!(
        (reply.value, reply.reason, session.continuity()),
        (bulk("before"), Reason::UnknownHistory, Continuity::UnknownHistory)
    );
    assert!(in_doubt(&session), "{:?}", session.marks());
    assert_eq!(
        client.status().primary.disconnects,
        0,
        "one connection saw it all"
    );
}

/// `ProofAcrossIds`: a primary is read, and by the time of the sample that trails the read it has followed another one
/// and become a primary again. The reply is from before; only the history's name tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_sample_of_another_history_proves_no_read_before_it() {
    let topology = start(1);
    let (old, new) = (topology.primary(), topology.replica(0));
    let front = Relay::start(old.addr()).unwrap();
    let client = patient_client(&front).await;
    new.replicaof_no_one().unwrap();
    let writer = Client::builder().primary(new.url()).connect().await.unwrap();
    let session = Session::new();
    writer.call(set("k", "after", &session)).await.unwrap();

    front.hold_when(redis::cmd("GET").arg("k").get_packed_command());
    let read = spawn(&client, get("k", &session));
    // What has been passed on is received before what other connections send after it is.
    front.wait_held(SOON).await.unwrap();
    until("the old value is on its way", || common::calls(old, "get") > 0).await;
    follow(old, new);
    old.replicaof_no_one().unwrap();
    front.release();

    let reply = read.await.unwrap().unwrap();
    assert_eq!(
        (reply.value, reply.route, session.continuity()),
        (bulk("after"), Route::Primary, Continuity::Intact),
        "{:?}",
        reply.reason
    );
    assert_eq!(
        client.status().primary.disconnects,
        0,
        "one connection saw it all"
    );
}

/// `WriteInReplicasHistory`: a write is sent to a node that was a replica when it was last heard of, is carried out by
/// it as a primary of its own history, and is gone when it is a replica again. The history that it was a replica in is
/// another node's, which has never seen the write and must not vouch for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_replicas_history_does_not_vouch_for_a_write() {
    let topology = start(1);
    let (primary, node) = (topology.primary(), topology.replica(0));
    let front = Relay::start(primary.addr()).unwrap();
    let client = patient_client(&front).await;
    let lead_to = async |server: &Server, role| {
        front.set_target(server.addr());
        front.cut();
        until("the client is led elsewhere", || {
            client.status().primary.role == Some(role)
        })
        .await;
    };
    lead_to(node, "replica").await;

    let session = Session::new();
    let bytes = set_bytes("k", "gone");
    let (sent, rest) = bytes.split_at(bytes.len() / 2);
    front.hold_when(sent);
    let write = spawn(&client, set("k", "gone", &session));
    front.wait_held(SOON).await.unwrap();
    node.replicaof_no_one().unwrap();
    // The rest of the write passes, and its sample does not.
    front.hold_when(rest);
    wait_for_value(node, "k", "gone").await;
    follow(node, primary);
    front.release();
    write.await.unwrap().unwrap();
    assert!(in_doubt(&session), "{:?}", session.marks());

    lead_to(primary, "primary").await;
    let reply = client.call(get("k", &session)).await.unwrap();
    assert_eq!(
        (reply.value, reply.reason, session.continuity()),
        (bulk("before"), Reason::PossiblyLost, Continuity::PossiblyLost)
    );
}

/// `IgnoresClock`: while the sample that settles a bad token is under way, another write is acknowledged, and another bad
/// token comes in. The sample is from before.
#[tokio::test(flavor = "multi_thread")]
async fn a_sample_settles_no_bad_token_that_came_in_after_it() {
    let topology = start(1);
    let (primary, replica) = (topology.primary(), topology.replica(0));
    let front = Relay::start(primary.addr()).unwrap();
    let client = common::builder_through(&front, &topology)
        .response_timeout(2 * SOON)
        .connect()
        .await
        .unwrap();
    let (session, read) = loop {
        let judged = get("k", &Session::new()).level(Consistency::Primary);
        client.call(judged).await.unwrap();
        let before = front.stats().received.to_target;
        front.pause();
        let session = Session::resume(Marks::in_doubt());
        let read = spawn(&client, get("k", &session));
        until("a sample has been asked for", || {
            front.stats().received.to_target > before
        })
        .await;
        // For its own sake, the client asks for none when it has had one so lately.
        if client.status().primary.sample_age_ms.unwrap() < 400 {
            break (session, read);
        }
        front.resume();
        read.await.unwrap().unwrap();
    };
    // Behind it on the same connection: once this has been carried out, the sample has been taken.
    let behind = spawn(&client, Command::new(redis::cmd("SET").arg("behind").arg("done")));
    wait_for_value(primary, "behind", "done").await;
    // The replica has what the sample shows, and the client knows that it has.
    let sampled = primary.mark().unwrap();
    topology.wait_applied(0, sampled, SOON).unwrap();
    until("the client has heard of that", || {
        client.status().replicas[0].applied >= Some(sampled.offset)
    })
    .await;
    topology.relay(0).pause();
    primary.command(&["SET", "k", "after"]).unwrap();
    let acknowledged = primary.mark().unwrap();
    session.merge(&Marks::in_doubt());
    front.resume();

    let reply = read.await.unwrap().unwrap();
    assert_eq!(
        (reply.value, reply.route),
        (bulk("after"), Route::Primary),
        "{:?}",
        reply.reason
    );
    let settled = written(&session).unwrap();
    assert!(settled.history == acknowledged.history && settled.offset >= acknowledged.offset);
    behind.await.unwrap().unwrap();
    assert_eq!(replica.command(&["GET", "k"]).unwrap().text(), Some("before"));
}

/// `ForkFromReplica`: a replica that was behind when the new primary's history began says a fork point that is its own
/// place (law 6). Were it believed, a client that has not heard of the new history from its primary would take what is
/// beyond for lost once that replica leads.
#[tokio::test(flavor = "multi_thread")]
async fn a_replicas_place_is_no_fork_point() {
    let topology = start(2);
    let (first, second) = (topology.replica(0), topology.replica(1));
    let front = Relay::start(topology.primary().addr()).unwrap();
    let client = Client::builder()
        .primary(front.url())
        .replica(second.url())
        .connect()
        .await
        .unwrap();
    topology.relay(1).pause();
    let session = Session::new();
    client.call(set("k", "kept", &session)).await.unwrap();
    let mark = written(&session).unwrap();
    topology.wait_applied(0, mark, SOON).unwrap();

    front.refuse(true);
    topology.promote(0).unwrap();
    topology.relay(1).resume();
    let there = first.mark().unwrap();
    topology.wait_applied(1, there, SOON).unwrap();
    let trap = second.info_replication().unwrap();
    assert!(
        trap.replid2 == Some(mark.history)
            && u64::try_from(trap.second_repl_offset).is_ok_and(|fork| fork > 0 && fork <= mark.offset),
        "{trap:?}"
    );
    assert_eq!(second.command(&["GET", "k"]).unwrap().text(), Some("kept"));
    let heard = Some(there.history.to_string());
    until("the client has heard of the new history from a replica", || {
        client.status().replicas[0].history == heard
    })
    .await;

    second.replicaof_no_one().unwrap();
    let leads = second.mark().unwrap().history.to_string();
    front.set_target(second.addr());
    front.refuse(false);
    until("the client follows the second one", || {
        client.status().primary.history.as_ref() == Some(&leads)
    })
    .await;
    let reply = client.call(get("k", &session)).await.unwrap();
    assert_eq!(
        (reply.value, reply.reason, session.continuity()),
        (bulk("kept"), Reason::UnknownHistory, Continuity::UnknownHistory)
    );
}
