//! Everything breaks at once, under load: no session is shown less than it was told, nothing hangs, and
//! the client is as good as new afterwards.
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
use highwater::{Client, Consistency, Session};
use highwater_testkit::{Monitor, Relay, Report, Topology, ViolationKind, check};

/// Reads and writes that are sent after the trouble must come through.
async fn is_well(client: &Client) {
    let session = Session::new();
    let deadline = std::time::Instant::now() + SOON;
    while let Err(error) = client.call(set("afterwards", "v", &session)).await {
        assert!(std::time::Instant::now() < deadline, "{error}");
        tokio::task::yield_now().await;
    }
    common::from_a_replica(client, &get("afterwards", &session), &bulk("v")).await;
    // A driver answers all that has come, and then counts it.
    while client.status().primary.in_flight > 0 {
        assert!(
            std::time::Instant::now() < deadline,
            "{:?}",
            client.status().primary
        );
        tokio::task::yield_now().await;
    }
}

fn is_clean(report: &Report) {
    println!("{report}");
    assert!(report.is_clean(), "{report}");
    assert!(report.reads.replica > 1000, "{report}");
    assert!(report.at_risk.total() > 1000, "{report}");
}

/// The clients' connections, the replication and the replicas fail, in any combination.
#[tokio::test(flavor = "multi_thread")]
async fn links_and_replicas_fail() {
    let topology = Arc::new(Topology::builder().replicas(2).start().unwrap());
    topology.relay(1).set_delay(50 * MS);
    let servers = [topology.primary()].into_iter().chain(topology.replicas());
    let links: Arc<Vec<Relay>> = Arc::new(
        servers
            .map(|server| Relay::start(server.addr()).unwrap())
            .collect(),
    );
    let services = Arc::new(
        Services::start(|| {
            Client::builder()
                .primary(links[0].url())
                .replica(links[1].url())
                .replica(links[2].url())
                .response_timeout(300 * MS)
                .connect_timeout(300 * MS)
                // Doubt spreads with tokens, and ends in other processes by time alone.
                .doubt_grace(500 * MS)
                .level(Consistency::Monotonic)
        })
        .await,
    );
    let monitor = Monitor::start(&topology).unwrap();
    let disturb = {
        let (topology, links) = (Arc::clone(&topology), Arc::clone(&links));
        move |stop: &AtomicBool| {
            let link = &links[fastrand::usize(..links.len())];
            let stream = topology.relay(fastrand::usize(..2));
            let replica = topology.replica(fastrand::usize(..2));
            match fastrand::u32(..9) {
                0 => link.cut(),
                1 => link.hold_after(fastrand::usize(1..3000)),
                2 => link.hold_replies_after(fastrand::usize(1..10_000)),
                3 => link.fragment(fastrand::usize(1..50), Duration::ZERO),
                4 => link.black_hole(true),
                5 => replica.pause().unwrap(),
                6 => replica.restart().unwrap(),
                7 => stream.pause(),
                _ => stream.cut(),
            }
            last(fastrand::u32(50..500) * MS, stop);
            link.heal();
            replica.resume().unwrap();
            stream.resume();
            last(fastrand::u32(0..200) * MS, stop);
        }
    };
    let workload = workload(1_000_000).duration(Duration::from_secs(12));
    let history = disturbed(disturb, workload.run(Arc::clone(&services)))
        .await
        .unwrap();
    is_clean(&check(&history, &monitor.stop()));
    for client in &services.clients {
        is_well(client).await;
    }
}

/// The primary is restarted, in order: with the data and the numbering of offsets, and a new history.
#[tokio::test(flavor = "multi_thread")]
async fn the_primary_is_restarted_with_its_data() {
    let topology = Arc::new(Topology::builder().replicas(2).start().unwrap());
    topology.relay(0).set_jitter(Duration::ZERO, 5 * MS);
    topology.relay(1).set_delay(50 * MS);
    let services =
        Arc::new(Services::start(|| common::builder(&topology).level(Consistency::Monotonic)).await);
    let monitor = Monitor::start(&topology).unwrap();
    let disturb = {
        let topology = Arc::clone(&topology);
        move |stop: &AtomicBool| {
            last(1000 * MS, stop);
            topology.primary().shutdown_with_save().unwrap();
            topology.primary().restart().unwrap();
        }
    };
    let workload = workload(1_000_000).duration(Duration::from_secs(10));
    let history = disturbed(disturb, workload.run(Arc::clone(&services)))
        .await
        .unwrap();
    let report = check(&history, &monitor.stop());
    is_clean(&report);
    assert_eq!(report.count(ViolationKind::NeverWritten), 0);
    for client in &services.clients {
        is_well(client).await;
    }
}
