//! Callers share a connection, its flushes, and what these are told.

use std::collections::HashSet;

use highwater::{Client, ErrorKind, Session};
use highwater_testkit::{Peer, Play, Request, Script, Topology, primary_info};
use redis::Value;
use tokio::task::JoinSet;

use crate::{
    common::{calls, client, in_doubt, set, until, written},
    incr, of, soon,
};

const HISTORY: &str = "8371445ab47aefbc94b3e4bbbd7db4ca1d2c0b1c";
const OTHER: &str = "1111111111111111111111111111111111111111";

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_share_few_waits() {
    const CALLERS: u64 = 64;
    const WRITES: u64 = 50;
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = client(&topology).await;
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let client = client.clone();
        callers.spawn(async move {
            let (session, key) = (Session::new(), format!("n:{caller}"));
            for expected in 1..=WRITES {
                let reply = client.call(incr(&key, &session).acks(of(1))).await.unwrap();
                // Each its own reply.
                assert_eq!(reply.value, Value::Int(expected.try_into().unwrap()));
                assert_eq!(reply.acks.unwrap().replicas, 1);
            }
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
    let (writes, waits) = (
        calls(topology.primary(), "incr"),
        calls(topology.primary(), "wait"),
    );
    assert_eq!(writes, CALLERS * WRITES);
    // By far fewer; a busy machine makes the flushes smaller.
    assert!(waits * 4 < writes, "{waits} WAITs for {writes} writes");
}

/// Who asks for less is told first, and each what they asked for.
#[tokio::test(flavor = "multi_thread")]
async fn callers_who_ask_for_different_things_are_told_what_they_asked() {
    let topology = Topology::builder().replicas(2).start().unwrap();
    let client = client(&topology).await;
    topology.relay(1).pause();
    let mut callers = JoinSet::new();
    for caller in 0..48_u32 {
        let client = client.clone();
        callers.spawn(async move {
            let session = Session::new();
            let wanted = caller % 4;
            let outcome = client
                .call(set(&format!("k:{caller}"), "v", &session).acks(soon(wanted)))
                .await;
            (wanted, outcome)
        });
    }
    while let Some(caller) = callers.join_next().await {
        let (wanted, outcome) = caller.unwrap();
        match outcome {
            Ok(reply) => assert!(
                wanted <= 1 && reply.acks.unwrap().replicas >= wanted,
                "{wanted} {reply:?}"
            ),
            Err(error) => {
                // One replica may take its time, the other has all of it.
                assert!(
                    wanted >= 1 && error.kind() == ErrorKind::TooFewAcks,
                    "{wanted} {error}"
                );
                assert!(error.applied().unwrap().acks.unwrap().replicas < wanted);
            }
        }
    }
}

/// A primary that answers `WAIT` when it is told to.
struct Slow {
    offset: u64,
    /// What has come: `SET`s, and the `WAIT`s that end their flushes.
    sets: usize,
    waits: usize,
    /// How it goes on after the count.
    after: After,
    held: bool,
    held_up: HashSet<usize>,
}

#[derive(Clone, Copy, PartialEq)]
enum After {
    SameStream,
    OtherData,
    OtherHistory,
    FirstReplica,
    Replica,
    NoInfo,
}

impl Script for Slow {
    fn info(&mut self) -> String {
        primary_info(HISTORY, self.offset)
    }

    fn answer(&mut self, connection: usize, request: &Request) -> Vec<Play> {
        let held = self.held_up.contains(&connection);
        let plays = self.answer_at_once(connection, request);
        if held { Vec::new() } else { plays }
    }
}

impl Slow {
    fn answer_at_once(&mut self, connection: usize, request: &Request) -> Vec<Play> {
        match request.name().as_str() {
            "SET" => {
                self.sets += 1;
                self.offset += 10;
                vec![Play::bytes("+OK\r\n")]
            }
            "WAIT" if request.argument(1) == "0" => vec![Play::bytes(":0\r\n")],
            "WAITAOF" => vec![Play::bytes("*2\r\n:0\r\n:0\r\n")],
            "WAIT" => {
                self.waits += 1;
                if self.held {
                    // Nor is what comes behind it.
                    self.held_up.insert(connection);
                    return Vec::new();
                }
                let null = Play::bytes(">2\r\n$10\r\ninvalidate\r\n_\r\n");
                match self.after {
                    After::OtherData => vec![null, Play::bytes(":1\r\n")],
                    After::OtherHistory => vec![Play::bytes(":1\r\n"), null],
                    _ => vec![Play::bytes(":1\r\n")],
                }
            }
            // The one behind WAIT.
            "INFO" if self.waits > 0 => match std::mem::replace(&mut self.after, After::SameStream) {
                After::SameStream => vec![Play::bulk(&self.info())],
                // The first replica has come: another history over the same data.
                After::FirstReplica | After::OtherHistory | After::OtherData => {
                    vec![Play::bulk(&primary_info(OTHER, self.offset))]
                }
                After::Replica => vec![Play::bulk(&highwater_testkit::replica_info(OTHER, self.offset))],
                After::NoInfo => vec![Play::error("NOPERM no INFO any more")],
            },
            "INFO" => vec![Play::bulk(&self.info())],
            _ => vec![Play::bytes("+OK\r\n")],
        }
    }
}

async fn slow(after: After, held: bool) -> (Peer<Slow>, Client) {
    let script = Slow {
        offset: 100,
        sets: 0,
        waits: 0,
        after,
        held,
        held_up: HashSet::new(),
    };
    let peer = Peer::start(script).await.unwrap();
    let client = Client::builder().primary(peer.url()).connect().await.unwrap();
    (peer, client)
}

/// A count is believed only if the primary's data are still those that the write is in.
#[tokio::test(flavor = "multi_thread")]
async fn a_count_of_another_stream_is_not_believed() {
    for (after, believed) in [
        (After::SameStream, true),
        (After::FirstReplica, true),
        (After::OtherData, false),
        (After::OtherHistory, false),
        (After::Replica, false),
        (After::NoInfo, false),
    ] {
        let (_peer, client) = slow(after, false).await;
        let session = Session::new();
        let outcome = client.call(set("k", "v", &session).acks(of(1))).await;
        if believed {
            assert_eq!(outcome.unwrap().acks.unwrap().replicas, 1);
            continue;
        }
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooFewAcks, "{error}");
        let applied = error.applied().unwrap();
        assert_eq!((&applied.value, applied.acks), (&Value::Okay, None));
        // The mark was taken before.
        assert_eq!(written(&session).unwrap().offset, 110);
    }
}

/// What `WAIT` would hold up stays here, where it is known not to have been sent.
#[tokio::test]
async fn two_flushes_are_in_flight_at_most() {
    const CALLERS: usize = 40;
    let (peer, client) = slow(After::SameStream, true).await;
    // Opens the connections: nobody has to be waited for.
    client
        .call(set("k", "v", &Session::new()).acks(of(0)))
        .await
        .unwrap();
    let sessions: Vec<_> = (0..CALLERS).map(|_| Session::new()).collect();
    let mut callers: Vec<_> = sessions
        .iter()
        .map(|session| Box::pin(client.call(set("k", "v", session).acks(of(1)))))
        .collect();
    let mut look = std::task::Context::from_waker(std::task::Waker::noop());
    for caller in &mut callers {
        assert!(caller.as_mut().poll(&mut look).is_pending());
    }
    let marked = || {
        sessions
            .iter()
            .filter(|session| written(session).is_some())
            .count()
    };
    until("both have their marks, and are held up", || marked() >= 2).await;
    // The shared connection is not held up; and what was sent has come by then.
    for _ in 0..20 {
        client.call(set("k", "v", &Session::new())).await.unwrap();
    }
    let (waits, sets) = peer.script(|slow| (slow.waits, slow.sets));
    assert_eq!((waits, sets), (2, 1 + 2 + 20));
    // Who is behind has not been sent, and is told so.
    drop(callers);
    drop(client);
    let doubts = || sessions.iter().filter(|session| in_doubt(session)).count();
    until("the client has ended", || (marked(), doubts()) == (2, 0)).await;
}
