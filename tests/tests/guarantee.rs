//! The guarantee: sessions of two clients write, read and take over each other's tokens, on real
//! servers whose replication is slowed, paused and cut meanwhile, and a checker that knows nothing of
//! the client looks for reads that are too old. A clean report counts only with many reads at risk of
//! which many came from replicas, and with the same run finding violations once proofs are not checked.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod common;

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use common::{
    SOON, bulk, get,
    services::{MS, Services, disturbed, last, workload},
    set,
};
use highwater::{Client, ClientBuilder, Consistency, Session};
use highwater_testkit::{Monitor, Report, Topology, ViolationKind, Workload, check};

/// One fast and one slow replica, whose delays change, that are paused and cut meanwhile.
async fn with_a_fast_and_a_slow_replica(
    workload: Workload,
    configure: impl Fn(ClientBuilder) -> ClientBuilder,
) -> Report {
    let topology = Arc::new(Topology::builder().replicas(2).start().unwrap());
    let services = Services::start(|| configure(common::builder(&topology))).await;
    let monitor = Monitor::start(&topology).unwrap();
    let disturb = {
        let topology = Arc::clone(&topology);
        move |stop: &AtomicBool| {
            let (fast, slow) = (topology.relay(0), topology.relay(1));
            fast.set_jitter(Duration::ZERO, 5 * MS);
            slow.set_delay(200 * MS);
            last(900 * MS, stop);
            slow.set_jitter(50 * MS, 250 * MS);
            last(300 * MS, stop);
            slow.pause();
            last(300 * MS, stop);
            slow.resume();
            fast.set_delay(20 * MS);
            last(200 * MS, stop);
            fast.set_jitter(Duration::ZERO, 2 * MS);
            slow.cut();
            last(400 * MS, stop);
            fast.pause();
            last(60 * MS, stop);
            fast.resume();
            last(200 * MS, stop);
            // A whole node stands still, for less time than makes it count as dead.
            topology.replica(1).pause().unwrap();
            last(250 * MS, stop);
            topology.replica(1).resume().unwrap();
            last(200 * MS, stop);
            fast.cut();
            last(300 * MS, stop);
        }
    };
    let history = disturbed(disturb, workload.run(services)).await.unwrap();
    let report = check(&history, &monitor.stop());
    println!("{report}");
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_read_their_writes_from_replicas_that_lag() {
    let report = with_a_fast_and_a_slow_replica(workload(125_000), |builder| builder).await;
    assert_eq!(report.count(ViolationKind::Convention), 0, "{report}");
    assert_eq!(report.count(ViolationKind::NeverWritten), 0, "{report}");
    assert_eq!(report.count(ViolationKind::ReadYourWrites), 0, "{report}");
    assert_eq!(
        (
            report.failed_reads,
            report.guarantees_lost,
            report.writes_in_doubt
        ),
        (0, 0, 0),
        "{report}"
    );
    assert!(report.reads.total() >= 100_000, "{report}");
    assert!(report.adoptions >= 1000, "{report}");
    // What makes the above worth something.
    assert!(report.at_risk.total() >= 10_000, "{report}");
    assert!(report.at_risk.replica * 2 >= report.at_risk.total(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_run_without_proof_checks_is_found_out() {
    let report =
        with_a_fast_and_a_slow_replica(workload(20_000), ClientBuilder::dangerously_skip_proof_checks).await;
    assert_eq!(report.count(ViolationKind::Convention), 0, "{report}");
    assert!(report.at_risk.replica > 0, "{report}");
    assert!(report.count(ViolationKind::ReadYourWrites) > 100, "{report}");
}

/// Sessions that mostly read what others write: their own marks are old, and both replicas cover them.
fn readers(operations: u64) -> Workload {
    workload(operations)
        .keys_per_session(1)
        .writes(0.005)
        .own_reads(0.0)
        .adoptions(0.001)
}

#[tokio::test(flavor = "multi_thread")]
async fn monotonic_reads_never_go_back() {
    let report =
        with_a_fast_and_a_slow_replica(readers(60_000), |builder| builder.level(Consistency::Monotonic))
            .await;
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.failed_reads, report.guarantees_lost), (0, 0), "{report}");
    assert!(report.reads.replica > 20_000, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_level_the_same_reads_go_back() {
    let report = with_a_fast_and_a_slow_replica(readers(60_000), |builder| builder).await;
    assert_eq!(report.count(ViolationKind::ReadYourWrites), 0, "{report}");
    assert!(report.count(ViolationKind::MonotonicReads) > 100, "{report}");
}

/// Replicas are moved to a chained replica that lags, and go back in time in the same history on
/// connections that stay open (law 4 of the protocol facts), under load.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_are_moved_and_go_back_serve_nothing_too_old() {
    let topology = Arc::new(
        Topology::builder()
            .replicas(3)
            .replica_args(["--repl-diskless-load", "swapdb"])
            .start()
            .unwrap(),
    );
    topology.relay(2).set_delay(300 * MS);
    let services = Services::start(|| {
        // Only the two that are moved are read from.
        Client::builder()
            .primary(topology.primary().url())
            .replica(topology.replica(0).url())
            .replica(topology.replica(1).url())
            .level(Consistency::Monotonic)
    })
    .await;
    let monitor = Monitor::start(&topology).unwrap();
    let disturb = {
        let topology = Arc::clone(&topology);
        move |stop: &AtomicBool| {
            for moved in [0, 1] {
                let replica = topology.replica(moved);
                let home = topology.relay(moved).port();
                for port in [topology.replica(2).port(), home] {
                    replica.replicaof("127.0.0.1", port).unwrap();
                    replica
                        .wait_for(SOON, "a moved replica's link is up", |info| info.link_up)
                        .unwrap();
                    last(150 * MS, stop);
                }
            }
        }
    };
    let workload = workload(u64::MAX).duration(Duration::from_secs(8));
    let history = disturbed(disturb, workload.run(services)).await.unwrap();
    let report = check(&history, &monitor.stop());
    println!("{report}");
    // Each move to the one that lags was a full resync.
    let stats = topology.replica(2).command(&["INFO", "stats"]).unwrap();
    let resyncs = stats
        .text()
        .unwrap()
        .lines()
        .find_map(|line| line.strip_prefix("sync_full:"));
    assert!(resyncs.unwrap().parse::<u32>().unwrap() >= 4, "{resyncs:?}");
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.guarantees_lost, 0, "{report}");
    assert!(report.reads.replica > 1000, "{report}");
    assert!(report.at_risk.total() > 1000, "{report}");
}

/// One session that many tasks use at once: each sees what it has written itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_shared_by_tasks() {
    let topology = Topology::builder().replicas(2).start().unwrap();
    topology.relay(0).set_jitter(Duration::ZERO, 5 * MS);
    topology.relay(1).set_delay(100 * MS);
    let client = common::client(&topology).await;
    let session = Session::new();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..16 {
        let (client, session) = (client.clone(), session.clone());
        tasks.spawn(async move {
            let key = format!("task:{task}");
            for round in 0..100_u32 {
                let value = round.to_string();
                client.call(set(&key, &value, &session)).await.unwrap();
                for _ in 0..4 {
                    let reply = client.call(get(&key, &session)).await.unwrap();
                    assert_eq!(reply.value, bulk(&value), "from {:?}", reply.route);
                }
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(session.marks().written().count(), 1);
    assert!(session.routes().replica > 1000, "{}", session.routes());
}
