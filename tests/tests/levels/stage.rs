//! Servers whose replication is disturbed in every way there is, and a monitor of where they are.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use highwater::{Client, ClientBuilder};
use highwater_testkit::{Monitor, Samples, Topology};

use crate::common::{
    SOON,
    services::{MS, disturbed, last},
};

/// Moved replicas stay where they are for longer than the samples of a proof may be apart.
const STAY: Duration = Duration::from_millis(250);

/// A primary, a fast and a slow replica that are read from, and one that lags far behind, to which the others are moved
/// at times.
pub(crate) struct Stage {
    topology: Arc<Topology>,
    /// Of the primary and the two replicas that are read from.
    monitor: Monitor,
    /// How often every disturbance has happened.
    cycles: Arc<AtomicU64>,
}

impl Stage {
    pub(crate) fn start() -> Self {
        let topology = Topology::builder()
            .replicas(3)
            .replica_args(["--repl-diskless-load", "swapdb"])
            .start()
            .unwrap();
        let watched = [topology.primary(), topology.replica(0), topology.replica(1)];
        Self {
            monitor: Monitor::builder().watch(watched).unwrap(),
            topology: Arc::new(topology),
            cycles: Arc::default(),
        }
    }

    /// A builder for a client of the primary and of the two replicas.
    pub(crate) fn builder(&self) -> ClientBuilder {
        Client::builder()
            .primary(self.topology.primary().url())
            .replica(self.topology.replica(0).url())
            .replica(self.topology.replica(1).url())
            // A busy machine is none of the disturbances.
            .response_timeout(SOON)
    }

    pub(crate) fn cycles(&self) -> u64 {
        self.cycles.load(Ordering::Relaxed)
    }

    /// Of the primary, and of the replicas.
    pub(crate) fn samples(&self) -> (Samples, Vec<Samples>) {
        let mut samples = self.monitor.samples();
        (samples.remove(0), samples)
    }

    /// Disturbs the replicas in one way after the other, again and again, for as long as something runs.
    pub(crate) async fn disturbed<T>(&self, run: impl Future<Output = T>) -> T {
        let (topology, cycles) = (Arc::clone(&self.topology), Arc::clone(&self.cycles));
        let disturb = move |stop: &AtomicBool| {
            // The one to go back to stands still from now on.
            topology.relay(2).pause();
            lag(&topology, stop);
            interrupt(&topology, stop);
            go_back(&topology);
            topology.relay(2).resume();
            cycles.fetch_add(1, Ordering::Relaxed);
        };
        disturbed(disturb, run).await
    }

    /// Ends all disturbances, and returns a moment at which every replica had applied everything.
    pub(crate) fn quiet(&self) -> Instant {
        self.topology.relays().for_each(|relay| relay.heal());
        self.topology.wait_in_sync(SOON).unwrap();
        Instant::now()
    }

    /// How often a replica that was moved had to load everything anew, from one that lags.
    pub(crate) fn times_gone_back(&self) -> u64 {
        let stats = self.topology.replica(2).command(&["INFO", "stats"]).unwrap();
        let resyncs = stats
            .text()
            .unwrap()
            .lines()
            .find_map(|line| line.strip_prefix("sync_full:"));
        resyncs.unwrap().parse().unwrap()
    }
}

/// Delays change; transactions arrive in pieces.
fn lag(topology: &Topology, stop: &AtomicBool) {
    let (fast, slow) = (topology.relay(0), topology.relay(1));
    fast.set_jitter(Duration::ZERO, 5 * MS);
    slow.set_delay(250 * MS);
    last(700 * MS, stop);
    slow.set_jitter(150 * MS, 350 * MS);
    last(400 * MS, stop);
    fast.set_delay(20 * MS);
    last(200 * MS, stop);
    fast.set_jitter(Duration::ZERO, 2 * MS);
    fast.fragment(48, MS / 2);
    last(100 * MS, stop);
    fast.defragment();
}

/// Replication stands still, or breaks; a node stands still.
fn interrupt(topology: &Topology, stop: &AtomicBool) {
    let (fast, slow) = (topology.relay(0), topology.relay(1));
    slow.pause();
    last(400 * MS, stop);
    slow.resume();
    slow.cut();
    last(300 * MS, stop);
    fast.pause();
    last(80 * MS, stop);
    fast.resume();
    last(200 * MS, stop);
    topology.replica(1).pause().unwrap();
    last(200 * MS, stop);
    topology.replica(1).resume().unwrap();
    fast.cut();
    last(200 * MS, stop);
}

/// Replicas are moved to one that lags, and go back in time within the same history, on connections that stay open
/// (law 4 of the protocol facts); and home again, also when the run is over.
fn go_back(topology: &Topology) {
    for moved in [0, 1] {
        let replica = topology.replica(moved);
        let home = topology.relay(moved).port();
        for port in [topology.replica(2).port(), home] {
            replica.replicaof("127.0.0.1", port).unwrap();
            replica
                // A full resync, on a machine that does much else.
                .wait_for(3 * SOON, "a moved replica's link is up", |info| info.link_up)
                .unwrap();
            last(STAY, &AtomicBool::new(false));
        }
    }
}
