//! Sessions of two clients with caches, which write the same keys and hand each other their tokens, while
//! replication is slowed and cut, feeds are killed, all data are flushed and put back, replicas are sent back in
//! time and forward again, and keys expire and are evicted. A checker that knows nothing of the client looks for
//! reads that are too old.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use highwater::{CacheOptions, Client, ClientBuilder, Command, Consistency, Route, Session};
use highwater_testkit::{Monitor, Outcome, ReadReply, Report, Subject, Topology, ViolationKind, check};
use redis::Value;

use crate::{
    ROOM,
    common::{
        builder,
        services::{MS, Services, disturbed, last, workload},
    },
    feeds_are_up,
};

/// Empties the database and puts all back, in one transaction of the stream. Nobody may see it empty; caches
/// are told by a null push, and servers forget what they tracked.
const FLUSH_AND_PUT_BACK: &str = "\
    local kept = {} \
    for _, key in ipairs(redis.call('KEYS', '*')) do \
        if redis.call('PTTL', key) == -1 then kept[key] = redis.call('GET', key) end \
    end \
    redis.call('FLUSHALL') \
    for key, value in pairs(kept) do redis.call('SET', key, value) end";

/// The services, but that each version of a key is written by the other client.
struct Crossed(Services);

impl Subject for Crossed {
    async fn write(&self, session: usize, key: u64, version: u64) -> Outcome {
        self.0
            .write_at((session as u64 + version) as usize % 2, session, key, version)
            .await
    }

    async fn read(&self, session: usize, key: u64) -> ReadReply {
        self.0.read(session, key).await
    }

    async fn adopt(&self, session: usize, from: usize) {
        self.0.adopt(session, from).await;
    }
}

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Writes keys that expire, each with the time of its end as its value, and reads them: none may be seen after its
/// end. They are also what eviction takes. Says how many were read from the cache.
async fn expiring(client: Client, stop: Arc<AtomicBool>) -> u64 {
    let (session, mut hits) = (Session::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        let key = format!("expiring:{}", fastrand::u32(..50));
        if fastrand::u32(..10) == 0 {
            let end = now_ms() + fastrand::u64(1..300);
            let mut set = redis::cmd("SET");
            set.arg(&key)
                .arg(format!("{end}:{}", "x".repeat(2000)))
                .arg("PXAT")
                .arg(end);
            let _ = client.call(Command::new(&set).session(&session)).await;
        } else {
            let before = now_ms();
            let get = Command::new(redis::cmd("GET").arg(&key)).session(&session);
            let Ok(reply) = client.call(get).await else {
                continue;
            };
            if let Value::BulkString(value) = &reply.value {
                let end = String::from_utf8_lossy(value);
                let end: u64 = end.split_once(':').unwrap().0.parse().unwrap();
                assert!(
                    before <= end + 1,
                    "{key} was to be gone at {end}, and was seen at {before} from {:?}",
                    reply.route
                );
            }
            hits += u64::from(reply.route == Route::Cache);
        }
        if fastrand::u32(..20) == 0 {
            tokio::time::sleep(MS).await;
        }
    }
    hits
}

/// One of the client's connections to a server is killed there, if there is one.
fn kill_a_connection(server: &highwater_testkit::Server) {
    let Ok(list) = server.command(&["CLIENT", "LIST", "TYPE", "normal"]) else {
        return;
    };
    let ids: Vec<_> = list
        .text()
        .unwrap_or_default()
        .lines()
        .filter(|line| line.contains("name=highwater"))
        .filter_map(|line| line.strip_prefix("id=")?.split(' ').next())
        .collect();
    if !ids.is_empty() {
        let _ = server.command(&["CLIENT", "KILL", "ID", ids[fastrand::usize(..ids.len())]]);
    }
}

async fn run(
    level: Consistency,
    operations: u64,
    configure: impl Fn(ClientBuilder) -> ClientBuilder,
) -> Report {
    let topology = Arc::new(
        Topology::builder()
            .replicas(2)
            .primary_args([
                "--repl-backlog-size",
                "64kb",
                "--repl-diskless-sync-delay",
                "0",
                "--maxmemory",
                "16mb",
                "--maxmemory-policy",
                "volatile-random",
            ])
            .start()
            .unwrap(),
    );
    let services = Services::start(|| configure(builder(&topology).level(level))).await;
    for client in &services.clients {
        feeds_are_up(client).await;
    }
    let clients = services.clients.clone();
    let stop = Arc::new(AtomicBool::new(false));
    let others: Vec<_> = clients
        .iter()
        .map(|client| tokio::spawn(expiring(client.clone(), Arc::clone(&stop))))
        .collect();
    let monitor = Monitor::start(&topology).unwrap();
    let disturb = {
        let topology = Arc::clone(&topology);
        let turn = AtomicU64::new(0);
        move |stop: &AtomicBool| {
            let (fast, slow) = (topology.relay(0), topology.relay(1));
            fast.set_jitter(Duration::ZERO, 4 * MS);
            slow.set_delay(60 * MS);
            last(150 * MS, stop);
            let replica = topology.replica(fastrand::usize(..2));
            let relay = topology.relay(fastrand::usize(..2));
            match turn.fetch_add(1, Ordering::Relaxed) % 6 {
                0 => kill_a_connection(replica),
                1 => drop(topology.primary().command(&["EVAL", FLUSH_AND_PUT_BACK, "0"])),
                2 => relay.cut(),
                3 => {
                    // The replica follows the one that lags: back in time, in the same history, and forth again.
                    slow.set_delay(150 * MS);
                    last(200 * MS, stop);
                    let _ = topology
                        .replica(0)
                        .replicaof("127.0.0.1", topology.replica(1).port());
                    last(500 * MS, stop);
                    let _ = topology.replica(0).replicaof("127.0.0.1", fast.port());
                    last(300 * MS, stop);
                }
                4 => {
                    // Long enough for the backlog not to reach back: newer data, all at once.
                    relay.pause();
                    last(400 * MS, stop);
                    relay.cut();
                    relay.resume();
                    last(100 * MS, stop);
                }
                _ => {
                    relay.pause();
                    last(50 * MS, stop);
                    relay.resume();
                }
            }
        }
    };
    let workload = workload(operations)
        .duration(Duration::from_secs(600))
        .keys_per_session(8);
    let history = disturbed(disturb, workload.run(Crossed(services))).await.unwrap();
    stop.store(true, Ordering::Relaxed);
    for other in others {
        let hits = other.await.unwrap();
        assert!(hits > 0, "no expiring key was read from the cache");
    }
    for client in &clients {
        println!("{:?}", client.cache_stats());
    }
    let report = check(&history, &monitor.stop());
    println!("{report}");
    report
}

fn caching(builder: ClientBuilder) -> ClientBuilder {
    builder.cache(CacheOptions::new(ROOM))
}

fn holds(report: &Report, reads: u64, at_risk: u64) {
    assert_eq!(report.count(ViolationKind::Convention), 0, "{report}");
    assert_eq!(report.count(ViolationKind::NeverWritten), 0, "{report}");
    assert_eq!(report.count(ViolationKind::ReadYourWrites), 0, "{report}");
    assert!(report.reads.total() >= reads, "{report}");
    assert!(
        report.at_risk.cache + report.at_risk.replica >= at_risk,
        "{report}"
    );
    assert!(report.at_risk.cache >= at_risk / 4, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_read_their_writes_through_everything() {
    let report = run(Consistency::ReadYourWrites, 150_000, caching).await;
    holds(&report, 100_000, 5_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn monotonic_reads_never_go_back() {
    let report = run(Consistency::Monotonic, 100_000, caching).await;
    holds(&report, 50_000, 2_000);
    assert_eq!(report.count(ViolationKind::MonotonicReads), 0, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn half_a_million_reads() {
    let report = run(Consistency::ReadYourWrites, 700_000, caching).await;
    holds(&report, 500_000, 50_000);
    let report = run(Consistency::Monotonic, 300_000, caching).await;
    holds(&report, 200_000, 10_000);
    assert_eq!(report.count(ViolationKind::MonotonicReads), 0, "{report}");
}

/// The same run with the guarantee switched off must be found out.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_cover_check_the_same_run_is_found_out() {
    let report = run(Consistency::ReadYourWrites, 40_000, |builder| {
        caching(builder).dangerously_skip_proof_checks()
    })
    .await;
    assert!(report.count(ViolationKind::ReadYourWrites) > 100, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_late_invalidations_the_same_run_is_found_out() {
    let report = run(Consistency::ReadYourWrites, 40_000, |builder| {
        builder.cache(CacheOptions::new(ROOM).dangerously_invalidate_late())
    })
    .await;
    assert!(report.count(ViolationKind::ReadYourWrites) > 0, "{report}");
}
