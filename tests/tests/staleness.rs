//! Bounded staleness: no read shows what had been overwritten for longer than the bound.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

mod common;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use common::{SOON, get, until};
use highwater::{Client, Command, Consistency, ErrorKind, Route, Session};
use highwater_testkit::{Relay, Topology};
use redis::{AsyncCommands, FromRedisValue};

const BOUND: Duration = Duration::from_millis(60);
const KEYS: usize = 8;
const READERS: usize = 16;
const READS: u64 = 12_000;

/// When each version of each key was acknowledged; version 1 first.
type Acknowledged = Arc<Mutex<Vec<Vec<Instant>>>>;

struct Read {
    key: usize,
    version: usize,
    start: Instant,
    route: Route,
}

#[derive(Debug, Default)]
struct Report {
    reads: u64,
    from_replicas: u64,
    /// Showed a value that had been overwritten when the read began.
    stale: u64,
    /// Showed one that had been overwritten for longer than the bound.
    violations: u64,
}

/// Writes one version after the other to each key, until told to stop.
async fn write(client: Client, acknowledged: Acknowledged, stop: Arc<AtomicBool>) {
    let mut connection = client.without_session();
    for round in 0_usize.. {
        if stop.load(Relaxed) {
            return;
        }
        let (key, version) = (round % KEYS, round / KEYS + 1);
        let () = connection.set(format!("k:{key}"), version).await.unwrap();
        acknowledged.lock().unwrap()[key].push(Instant::now());
    }
}

async fn run(client: &Client, topology: &Topology) -> Report {
    let acknowledged: Acknowledged = Arc::new(Mutex::new(vec![Vec::new(); KEYS]));
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writer = tokio::spawn(write(
        client.clone(),
        Arc::clone(&acknowledged),
        Arc::clone(&stop),
    ));
    let level = Consistency::BoundedStaleness(BOUND);
    let readers: Vec<_> = (0..READERS)
        .map(|reader| {
            let (client, stop, done) = (client.clone(), Arc::clone(&stop), Arc::clone(&done));
            tokio::spawn(async move {
                let mut reads = Vec::new();
                for round in 0.. {
                    if stop.load(Relaxed) {
                        break;
                    }
                    let key = (reader + round) % KEYS;
                    let command = Command::new(redis::cmd("GET").arg(format!("k:{key}"))).level(level);
                    let start = Instant::now();
                    let reply = client.call(command).await.unwrap();
                    let version = Option::<usize>::from_redis_value(reply.value)
                        .unwrap()
                        .unwrap_or(0);
                    reads.push(Read {
                        key,
                        version,
                        start,
                        route: reply.route,
                    });
                    done.fetch_add(1, Relaxed);
                }
                reads
            })
        })
        .collect();
    // A third of the reads each: an even delay below the bound, one that comes and goes beyond it, and
    // replication that stands still.
    let reached = async |share: u64| until("enough reads", || done.load(Relaxed) >= READS * share / 3).await;
    topology.relays().for_each(|relay| relay.set_delay(BOUND / 3));
    reached(1).await;
    topology
        .relays()
        .for_each(|relay| relay.set_jitter(Duration::ZERO, BOUND * 3));
    reached(2).await;
    topology.relays().for_each(|relay| relay.pause());
    reached(3).await;
    topology.relays().for_each(|relay| relay.resume());
    stop.store(true, Relaxed);
    writer.await.unwrap();

    let acknowledged = acknowledged.lock().unwrap().clone();
    let mut report = Report::default();
    for reader in readers {
        for read in reader.await.unwrap() {
            report.reads += 1;
            report.from_replicas += u64::from(read.route == Route::Replica);
            // The version after the one that was seen: when had it been acknowledged?
            let Some(overwritten) = acknowledged[read.key].get(read.version) else {
                continue;
            };
            report.stale += u64::from(*overwritten < read.start);
            report.violations += u64::from(*overwritten + BOUND < read.start);
        }
    }
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_older_than_the_bound_is_shown_and_younger_is() {
    let topology = Topology::builder().replicas(2).start().unwrap();
    let client = common::client(&topology).await;
    let report = run(&client, &topology).await;
    println!("{report:?}, {:?}", client.status().reads);
    assert!(report.reads >= 10_000, "{report:?}");
    assert_eq!(report.violations, 0, "{report:?}");
    // What the level allows does happen, and replicas do answer.
    assert!(
        report.stale > 0 && report.from_replicas > report.reads / 10,
        "{report:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn with_proofs_switched_off_the_same_check_finds_violations() {
    let topology = Topology::builder().replicas(2).start().unwrap();
    let client = common::builder(&topology)
        .dangerously_skip_proof_checks()
        .connect()
        .await
        .unwrap();
    let report = run(&client, &topology).await;
    assert!(report.violations > 0, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sessions_own_writes_are_shown_whatever_the_bound() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = common::client(&topology).await;
    topology.relay(0).pause();
    let session = Session::new();
    let hour = Consistency::BoundedStaleness(Duration::from_secs(3_600));
    for value in 0..20_u32 {
        let () = client.with(&session).set("k", value).await.unwrap();
        let seen: u32 = client.with(&session).at(hour).get("k").await.unwrap();
        assert_eq!(seen, value);
    }
    // Somebody else's may be missing, for as long as the bound.
    let reply = client.call(get("k", &Session::new()).level(hour)).await.unwrap();
    assert_eq!(reply.route, Route::Replica);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_probes_are_enough_for_a_second() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = common::client(&topology).await;
    let level = Consistency::BoundedStaleness(Duration::from_secs(1));
    let start = Instant::now();
    let mut reads = 0_u64;
    while start.elapsed() < Duration::from_secs(3) {
        let reply = client.call(get("k", &Session::new()).level(level)).await.unwrap();
        assert_eq!(reply.route, Route::Replica);
        reads += 1;
    }
    // Where the machine stands still for long, a read may have to ask.
    let asked = client.status().staleness_samples;
    assert!(asked <= reads / 100, "{asked} of {reads}");

    // Tight bounds are the primary's, and bounds that no recent sample meets cost a sample that all share.
    let tight = Consistency::BoundedStaleness(Duration::from_millis(1));
    let reply = client.call(get("k", &Session::new()).level(tight)).await.unwrap();
    assert_eq!(reply.route, Route::Primary);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_primary_the_last_known_serves_for_as_long_as_the_bound() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let front = Relay::start(topology.primary().addr()).unwrap();
    let client = common::builder_through(&front, &topology)
        .connect()
        .await
        .unwrap();
    let read = |seconds| {
        let level = Consistency::BoundedStaleness(Duration::from_secs(seconds));
        client.call(get("k", &Session::new()).level(level))
    };
    front.refuse(true);
    until("the primary is gone", || {
        client.status().primary.connection == "down"
    })
    .await;
    // Within an hour, what was last known will do.
    assert_eq!(read(3_600).await.unwrap().route, Route::Replica);
    let deadline = Instant::now() + SOON;
    let error = loop {
        match read(1).await {
            Ok(reply) => assert_eq!(reply.route, Route::Replica),
            Err(error) => break error,
        }
        assert!(Instant::now() < deadline);
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(read(3_600).await.unwrap().route, Route::Replica);
}
