//! Replies that no level allows: a client that mixes them up is found out.

use std::sync::Arc;

use highwater::{Client, redis::Value};
use highwater_testkit::{
    Level, LevelCheck, Outcome, ReadReply, Route, Subject, Topology, ViolationKind, Workload,
};
use redis::AsyncCommands;

use crate::{
    common::{
        client,
        services::{SESSIONS, Services},
    },
    subject::{Round, version},
};

/// Writes as it should.
struct Mixed {
    round: Round,
    client: Client,
    /// Where each part is read.
    replicas: [String; 2],
    /// How many keys further the right part is taken from.
    shift: u64,
}

impl Subject for Mixed {
    async fn write(&self, session: usize, key: u64, version: u64) -> Outcome {
        self.round.write(session, key, version).await
    }

    async fn read(&self, _session: usize, key: u64) -> ReadReply {
        let parts = self.round.parts(key);
        let asked = [parts[0].clone(), self.round.parts(key + self.shift)[1].clone()];
        let mut seen = [None; 2];
        for part in [0, 1] {
            let mut node = self.client.node(&self.replicas[part]).unwrap();
            let value: Value = node.get(&asked[part]).await.unwrap();
            seen[part] = version(&parts[part], &value);
        }
        ReadReply::parts(seen, Route::Replica)
    }
}

/// How often a violation of Eventual is found when the parts of a key are read at these replicas.
async fn found(replicas: [usize; 2], shift: u64, kind: ViolationKind) -> u64 {
    let topology = Topology::builder().replicas(2).start().unwrap();
    // The second one stays empty.
    topology.relay(1).pause();
    let client = client(&topology).await;
    let services = Arc::new(Services::start(|| crate::common::builder(&topology)).await);
    let subject = Mixed {
        round: Round::new(&services, 0),
        replicas: replicas.map(|index| topology.replica(index).addr().to_string()),
        client,
        shift,
    };
    let workload = Workload::new().sessions(SESSIONS).operations(4_000);
    let history = workload.run(subject).await.unwrap();
    let report = LevelCheck::of(Level::Eventual).run(&history);
    println!("{report}");
    report.count(kind)
}

#[tokio::test(flavor = "multi_thread")]
async fn halves_of_two_nodes_are_torn() {
    assert!(found([0, 1], 0, ViolationKind::Torn).await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_keys_value_was_never_written() {
    assert!(found([0, 0], 1, ViolationKind::NeverWritten).await > 0);
}
