//! Reading more keys than there is room for, over and over, while they are written: nothing grows without end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use highwater::{CacheOptions, Client, Command, Session};
use highwater_testkit::Topology;

use crate::{connected, with};

/// The process's resident memory in bytes, where the system tells.
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

/// Reads random keys, a tenth of them missing, and writes some.
async fn churn(client: Client, keys: u64, stop: Arc<AtomicBool>) -> u64 {
    let (mut session, mut reads) = (Session::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        let key = format!("churn:{}", fastrand::u64(..keys + keys / 10));
        if fastrand::u32(..50) == 0 {
            let mut set = redis::cmd("SET");
            set.arg(&key).arg("v".repeat(fastrand::usize(..200)));
            client.call(Command::new(&set).session(&session)).await.unwrap();
        } else {
            let get = redis::cmd("GET").arg(&key).to_owned();
            client.call(Command::new(&get).session(&session)).await.unwrap();
            reads += 1;
        }
        if fastrand::u32(..1000) == 0 {
            session = Session::new();
        }
    }
    reads
}

/// Churns for `time` after as long a warm-up, and says by how much the process has grown since that.
async fn grown_by(room: u64, keys: u64, time: Duration) -> i64 {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let client = connected(with(&topology, CacheOptions::new(room))).await;
    let stop = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..16)
        .map(|_| tokio::spawn(churn(client.clone(), keys, Arc::clone(&stop))))
        .collect();
    let begun = Instant::now();
    let mut before = None;
    while begun.elapsed() < 2 * time {
        tokio::time::sleep(time / 20).await;
        let stats = client.cache_stats();
        assert!(stats.weight <= room + room / 10, "{stats:?}");
        if begun.elapsed() >= time && before.is_none() {
            before = resident();
        }
    }
    let after = resident();
    stop.store(true, Ordering::Relaxed);
    let mut reads = 0;
    for task in tasks {
        reads += task.await.unwrap();
    }
    let stats = client.cache_stats();
    println!("{reads} reads, {before:?} bytes, then {after:?}, {stats:?}");
    assert!(
        stats.hits > 0 && stats.fills > 0 && stats.invalidations > 0,
        "{stats:?}"
    );
    client.shutdown().await.unwrap();
    let (Some(before), Some(after)) = (before, after) else {
        return 0;
    };
    i64::try_from(after).unwrap() - i64::try_from(before).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn churn_stays_within_its_bounds() {
    let grown = grown_by(4 << 20, 50_000, Duration::from_secs(3)).await;
    println!("grown by {grown} bytes");
}

/// A million entries, and ten minutes of churn after as many of warming up.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes twenty minutes"]
async fn a_million_entries_and_ten_minutes_of_churn_leak_nothing() {
    let grown = grown_by(700 << 20, 1_500_000, Duration::from_secs(600)).await;
    assert!(grown < 64 << 20, "grown by {grown} bytes");
}
