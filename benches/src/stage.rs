//! The servers, with what is stored on them.

use std::{sync::Arc, time::Duration};

use highwater_testkit::{ServerKind, Topology};

use crate::{
    contenders::{Clients, Contender},
    cost::Used,
    data::Data,
    measure::{Round, Task},
    operation::{Operation, mix_key, mix_value},
    options::Common,
};

/// More than a session writes in one round.
const VERSIONS: u64 = 1_000_000;
const IN_SYNC: Duration = Duration::from_secs(30);

/// Servers, clients and data.
#[derive(Debug)]
pub struct Stage {
    clients: Clients,
    data: Arc<Data>,
    rounds: u64,
    delayed: bool,
    topology: Topology,
}

/// A round, and what it cost, in microseconds an operation.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// What was done.
    pub round: Round,
    /// This process; nothing for a program of its own.
    pub client_cpu: Option<f64>,
    /// All servers.
    pub server_cpu: f64,
    /// The primary alone.
    pub primary_cpu: f64,
}

impl Stage {
    /// Starts the servers from this thread, whose affinity they inherit.
    #[must_use]
    pub fn servers(kind: ServerKind, replicas: usize) -> Topology {
        let topology = Topology::builder()
            .kind(kind)
            .replicas(replicas)
            .start()
            .expect("servers");
        replicate(&topology, Duration::ZERO);
        topology
    }

    /// Connects clients and stores what is to be read.
    pub async fn new(topology: Topology, max_wait: Option<Duration>) -> Self {
        let data = Arc::new(Data::new());
        let clients = Clients::connect(&topology, max_wait).await;
        data.store(&mut clients.primary()).await;
        topology.wait_in_sync(IN_SYNC).expect("replication");
        Self {
            clients,
            data,
            rounds: 0,
            delayed: false,
            topology,
        }
    }

    /// The servers.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The clients.
    #[must_use]
    pub fn clients(&self) -> &Clients {
        &self.clients
    }

    /// Which of these can do the operation.
    #[must_use]
    pub fn contenders(&self, operation: Operation, wanted: &[Contender]) -> Vec<Contender> {
        wanted
            .iter()
            .copied()
            .filter(|contender| contender.takes_part(operation) && self.clients.has(*contender))
            .collect()
    }

    /// Makes the servers ready for an operation of so many callers.
    pub async fn prepare(&mut self, operation: Operation, concurrency: usize, common: &Common) {
        let delayed = operation == Operation::DelayedMix;
        if self.delayed != delayed {
            self.delayed = delayed;
            let delay = if delayed { common.delay_ms } else { 0 };
            replicate(&self.topology, Duration::from_millis(delay));
        }
        if operation.is_mix() {
            let mut pipeline = redis::pipe();
            for number in 0..concurrency * common.sessions {
                pipeline.set(mix_key(number), mix_value()).ignore();
            }
            let () = pipeline.query_async(&mut self.clients.primary()).await.unwrap();
        }
    }

    /// Lets a contender do one round.
    pub async fn round(
        &mut self,
        contender: Contender,
        operation: Operation,
        concurrency: usize,
        common: &Common,
    ) -> Measured {
        self.rounds += 1;
        let task = Task {
            operation,
            concurrency,
            sessions: common.sessions,
            duration: Duration::from_millis(common.millis),
            data: Arc::clone(&self.data),
            since: self.rounds * VERSIONS,
        };
        let written = operation.written(&self.data);
        if let Some(strings) = written {
            strings.clear(&mut self.clients.primary()).await;
        }
        // What the last round wrote has been applied: it burdens nobody else.
        self.topology.wait_in_sync(IN_SYNC).expect("replication");
        let before = Used::now(&self.topology);
        let round = self.clients.round(contender, &task).await;
        if !operation.only_reads() {
            self.topology.wait_in_sync(IN_SYNC).expect("replication");
        }
        let used = Used::now(&self.topology).since(before);
        if let Some(strings) = written.filter(|_| contender != Contender::ServerBenchmark) {
            strings.verify(&mut self.clients.primary()).await;
        }
        assert!(
            round.stale == 0 || !contender.promises(),
            "{} showed {} stale reads",
            contender.name(),
            round.stale
        );
        let each = |time: Duration| time.as_secs_f64() * 1e6 / round.operations.max(1) as f64;
        Measured {
            round,
            client_cpu: (contender != Contender::ServerBenchmark).then(|| each(used.client)),
            server_cpu: each(used.primary + used.replicas),
            primary_cpu: each(used.primary),
        }
    }
}

/// Lets the replicas follow the primary itself, or at a distance through relays.
fn replicate(topology: &Topology, delay: Duration) {
    for (replica, relay) in topology.replicas().zip(topology.relays()) {
        relay.set_delay(delay);
        let port = if delay.is_zero() {
            topology.primary().port()
        } else {
            relay.port()
        };
        replica.replicaof("127.0.0.1", port).expect("REPLICAOF");
    }
    topology.wait_in_sync(IN_SYNC).expect("replication");
}
