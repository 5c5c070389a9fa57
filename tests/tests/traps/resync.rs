//! Laws 3, 4 and 8: a replica whose data are replaced by older ones, in the same history and on connections that stay
//! open. Only the null push tells, in every way in which a full resync loads its data.

use highwater::{Client, Reason, Route, Session};
use highwater_testkit::{Mark, Relay, Server, Topology};
use redis::Value;

use crate::{
    client,
    common::{self, SOON, bulk, get, note, set, written},
    patient, topology_of,
    wire::{Wire, text},
};

/// How the primary sends its data, how a replica loads them, and whether they come on a connection of their own, beside the stream.
const MODES: [(&str, &str, bool); 8] = [
    ("yes", "disabled", false),
    ("no", "disabled", false),
    ("yes", "on-empty-db", false),
    ("no", "on-empty-db", false),
    ("yes", "swapdb", false),
    ("yes", "flush-before-load", false),
    ("yes", "disabled", true),
    ("yes", "swapdb", true),
];
/// Valkey's name for that connection, and Redis's.
const CHANNELS: [&str; 2] = ["dual-channel-replication-enabled", "repl-rdb-channel"];

/// A read on its way to a replica: the INFO that leads its flush has been answered, the command itself not arrived.
const SPLIT: &[u8] = b"*2\r\n$4\r\nINFO\r\n$11\r\nreplication\r\n*2\r\n$3\r\nGET";

/// A primary, a replica that is read from, and one that lags and is there to be followed.
struct Moving {
    topology: Topology,
}

impl Moving {
    fn start() -> Self {
        Self {
            topology: topology_of(2),
        }
    }

    fn read(&self) -> &Server {
        self.topology.replica(0)
    }

    fn lagging(&self) -> &Server {
        self.topology.replica(1)
    }

    /// False where the server knows no such mode.
    fn use_mode(&self, (sync, load, beside): (&str, &str, bool)) -> bool {
        let both = [self.read(), self.lagging()];
        let set = |name: &str, value: &str| {
            both.iter()
                .try_for_each(|server| server.command(&["CONFIG", "SET", name, value]).map(drop))
        };
        let value = if beside { "yes" } else { "no" };
        let channels = CHANNELS.iter().filter(|name| set(name, value).is_ok()).count();
        if beside && channels == 0 {
            note("left out: data beside the stream: the server knows no such connection");
            return false;
        }
        let configured = set("repl-diskless-load", load).and_then(|()| set("repl-diskless-sync", sync));
        if let Err(error) = &configured {
            note(&format!("left out: repl-diskless-load {load}: {error}"));
        }
        configured.is_ok()
    }

    /// Puts the replica that is read from back in time, in the same history.
    fn go_back(&self, from: Mark) {
        self.read().replicaof("127.0.0.1", self.lagging().port()).unwrap();
        self.read()
            .wait_for(SOON, "the replica has gone back", |info| {
                info.link_up && info.replid == from.history && (2..from.offset).contains(&info.applied())
            })
            .unwrap();
    }

    fn catch_up(&self) {
        let relay = self.topology.relay(0);
        self.read().replicaof("127.0.0.1", relay.port()).unwrap();
        self.topology.relay(1).resume();
        self.topology.wait_in_sync(SOON).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_every_load_mode_a_null_push_comes_before_older_data() {
    let moving = Moving::start();
    let topology = &moving.topology;
    let between = Relay::start(moving.read().addr()).unwrap();
    let client = patient(
        Client::builder()
            .primary(topology.primary().url())
            .replica(between.url()),
    )
    .await;
    let mut wire = Wire::tracking(moving.read());
    let id = wire.ask("CLIENT ID");
    for mode in MODES {
        if !moving.use_mode(mode) {
            continue;
        }
        // Without a key, or the replica would not load as it does when it is empty.
        let deleted = mode.1 == "on-empty-db";
        topology.primary().command(&["SET", "k", "old"]).unwrap();
        topology.wait_in_sync(SOON).unwrap();
        topology.relay(1).pause();
        let session = Session::new();
        let fresh = if deleted {
            let delete = highwater::Command::new(redis::cmd("DEL").arg("k")).session(&session);
            client.call(delete).await.unwrap();
            Value::Nil
        } else {
            client.call(set("k", "new", &session)).await.unwrap();
            bulk("new")
        };
        let mark = written(&session).unwrap();
        topology.wait_applied(0, mark, SOON).unwrap();
        common::from_a_replica(&client, &get("k", &session), &fresh).await;

        // Two flushes are split behind their INFO, which covers the mark.
        between.hold_when(SPLIT);
        let read = tokio::spawn({
            let (client, session) = (client.clone(), session.clone());
            async move { client.call(get("k", &session)).await }
        });
        between.wait_held(SOON).await.unwrap();
        assert!(wire.info().covers(mark));
        assert_eq!(wire.nulls, 0);

        moving.go_back(mark);
        wire.send("GET k\nINFO replication");
        assert!(
            matches!(wire.next(), Value::Push { .. }) && wire.nulls == 1,
            "{mode:?}: first of all comes the push"
        );
        assert_eq!(wire.reply(), bulk("old"), "{mode:?}: the trap was one");
        let back = crate::wire::info(&wire.reply());
        assert!(back.replid == mark.history && back.applied() < mark.offset);

        assert!(!read.is_finished());
        between.release();
        let reply = read.await.unwrap().unwrap();
        assert_eq!((reply.value, reply.route), (fresh.clone(), Route::Primary));
        for _ in 0..3 {
            let reply = client.call(get("k", &session)).await.unwrap();
            assert_eq!((reply.value, reply.route), (fresh.clone(), Route::Primary));
            let why = reply.reason;
            assert!(matches!(why, Reason::Behind | Reason::Unhealthy), "{why:?}");
        }

        moving.catch_up();
        assert!(wire.info().covers(mark), "a trailing INFO covers it again");
        common::from_a_replica(&client, &get("k", &session), &fresh).await;
        assert_eq!(wire.nulls, 1, "{mode:?}: one resync, one push");
        wire.nulls = 0;
    }

    // Tracking also outlives a change of the role.
    moving.read().replicaof_no_one().unwrap();
    moving.read().command(&["SET", "k", "elsewhere"]).unwrap();
    moving.catch_up();
    let flags = wire.ask("CLIENT TRACKINGINFO");
    assert!(
        format!("{flags:?}").contains("optin"),
        "still tracking: {flags:?}"
    );
    assert_eq!(
        (wire.nulls, wire.ask("CLIENT ID")),
        (1, id),
        "on the same connection"
    );
    let status = client.status();
    assert_eq!(status.replicas[0].disconnects, 0);
}

/// Law 8: what empties a database says so in the same way.
#[test]
fn flushes_push_null_on_every_node() {
    let topology = topology_of(1);
    topology.wait_in_sync(SOON).unwrap();
    let mut wires = [topology.primary(), topology.replica(0)].map(Wire::tracking);
    for flush in ["FLUSHDB", "FLUSHALL"] {
        topology.primary().command(&["SET", "k", "v"]).unwrap();
        topology.primary().command(&[flush]).unwrap();
        topology
            .wait_applied(0, topology.primary().mark().unwrap(), SOON)
            .unwrap();
        for wire in &mut wires {
            assert_eq!(wire.ask("GET k"), Value::Nil);
            assert_eq!(text(&wire.ask("PING")), "PONG");
            assert_eq!(std::mem::take(&mut wire.nulls), 1, "{flush}");
        }
    }
}

/// A session that has flushed the database never sees what was in it, from a replica that has not heard of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_flush_is_a_write_like_any_other() {
    let topology = topology_of(1);
    let client = client(&topology).await;
    for flush in ["FLUSHDB", "FLUSHALL"] {
        topology.primary().command(&["SET", "k", "old"]).unwrap();
        topology.wait_in_sync(SOON).unwrap();
        topology.relay(0).pause();
        let session = Session::new();
        let flush = highwater::Command::new(&redis::cmd(flush)).session(&session);
        client.call(flush).await.unwrap();
        let reply = client.call(get("k", &session)).await.unwrap();
        assert_eq!((reply.value, reply.route), (Value::Nil, Route::Primary));
        // In another's eyes, the key is still there.
        assert_eq!(
            topology.replica(0).command(&["GET", "k"]).unwrap().text(),
            Some("old")
        );
        topology.relay(0).resume();
        common::from_a_replica(&client, &get("k", &session), &Value::Nil).await;
    }
}
