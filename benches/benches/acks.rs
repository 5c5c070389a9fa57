//! Writes that wait for a replica's acknowledgement, against writes that don't: `cargo bench --bench acks`.
//!
//! Options after `--`: `--rounds N`, `--millis N` (of one round of one contender), `--callers a,b,c`.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a bench that can't go on must stop"
)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use highwater::{Acks, Client, Session};
use highwater_benches::median;
use highwater_testkit::Topology;
use redis::AsyncCommands;

const KEYS: usize = 1024;

/// What writes wait for.
const CONTENDERS: [(&str, Option<Acks>); 2] = [
    ("the primary", None),
    ("one replica", Some(Acks::replicas(1, Duration::from_secs(10)))),
];

struct Options {
    rounds: usize,
    duration: Duration,
    callers: Vec<usize>,
}

fn options() -> Options {
    let mut options = Options {
        rounds: 9,
        duration: Duration::from_millis(300),
        callers: vec![1, 64, 256],
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().expect("an option needs a value");
        match argument.as_str() {
            "--rounds" => options.rounds = value().parse().expect("a number of rounds"),
            "--millis" => options.duration = Duration::from_millis(value().parse().expect("milliseconds")),
            "--callers" => {
                options.callers = value()
                    .split(',')
                    .map(|n| n.parse().expect("a number of callers"))
                    .collect();
            }
            // cargo says so to every bench.
            "--bench" => {}
            other => panic!("unknown option {other}"),
        }
    }
    options
}

/// What one contender did in one round.
#[derive(Clone, Copy)]
struct Round {
    per_second: f64,
    p50: Duration,
    p99: Duration,
}

/// Closed loops of writes.
async fn writes(client: &Client, acks: Option<Acks>, callers: usize, duration: Duration) -> Round {
    let stop = Arc::new(AtomicBool::new(false));
    let start = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let session = Session::new();
            let mut connection = client.with(&session);
            if let Some(acks) = acks {
                connection = connection.acks(acks);
            }
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                let mut latencies = Vec::with_capacity(4096);
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    let key = format!("key:{:012}", (caller * 31 + latencies.len()) % KEYS);
                    let value = format!("{key:0>100}");
                    let () = connection.set(&key, value).await.unwrap();
                    latencies.push(begun.elapsed());
                }
                latencies
            })
        })
        .collect();
    tokio::time::sleep(duration).await;
    stop.store(true, Ordering::Relaxed);
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.append(&mut task.await.unwrap());
    }
    let elapsed = start.elapsed();
    latencies.sort_unstable();
    let at = |share: usize| latencies[latencies.len() * share / 100];
    Round {
        per_second: latencies.len() as f64 / elapsed.as_secs_f64(),
        p50: at(50),
        p99: at(99),
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let options = options();
    let topology = Topology::builder().replicas(1).start().expect("servers");
    // The replica's acknowledgements come by the way that its stream does: without the relay of the testkit.
    let primary = topology.primary();
    topology
        .replica(0)
        .replicaof("127.0.0.1", primary.port())
        .expect("a replica");
    topology
        .replica(0)
        .wait_for(Duration::from_secs(10), "the replica follows", |info| {
            info.link_up
        })
        .expect("a replica");
    let client = Client::builder()
        .primary(primary.url())
        .replica(topology.replica(0).url())
        .connect()
        .await
        .expect("a client");
    println!(
        "SET: ratios of throughput to writes that wait for the primary only, {} rounds of {:?}",
        options.rounds, options.duration
    );
    println!(
        "{:>7} {:<12} {:>12} {:>9} {:>10} {:>10} {:>14}",
        "callers", "wait for", "per second", "ratio", "p50 µs", "p99 µs", "writes a WAIT"
    );
    for &callers in &options.callers {
        let mut rounds = CONTENDERS.map(|_| Vec::new());
        let before = waits(&topology);
        for round in 0..=options.rounds {
            for (place, (_, acks)) in CONTENDERS.iter().enumerate() {
                let measured = writes(&client, *acks, callers, options.duration).await;
                // The first round warms up.
                if round > 0 {
                    rounds[place].push(measured);
                }
            }
        }
        let flushes = waits(&topology) - before;
        let plain: Vec<f64> = rounds[0].iter().map(|round| round.per_second).collect();
        for ((name, acks), rounds) in CONTENDERS.iter().zip(&rounds) {
            let ratios = rounds
                .iter()
                .zip(&plain)
                .map(|(round, plain)| round.per_second / plain)
                .collect();
            let of = |what: fn(&Round) -> f64| median(rounds.iter().map(what).collect());
            let per_second = of(|round| round.per_second);
            let all = per_second * options.duration.as_secs_f64() * (options.rounds + 1) as f64;
            let shared = acks.map_or_else(String::new, |_| format!("{:.1}", all / flushes as f64));
            println!(
                "{callers:>7} {name:<12} {per_second:>12.0} {:>9.2} {:>10.1} {:>10.1} {shared:>14}",
                median(ratios),
                of(|round| round.p50.as_secs_f64() * 1e6),
                of(|round| round.p99.as_secs_f64() * 1e6),
            );
        }
    }
}

/// How many `WAIT`s the primary has carried out.
fn waits(topology: &Topology) -> u64 {
    let info = topology
        .primary()
        .command(&["INFO", "commandstats"])
        .expect("the server runs");
    info.text()
        .unwrap_or_default()
        .lines()
        .find_map(|line| {
            line.strip_prefix("cmdstat_wait:calls=")?
                .split(',')
                .next()?
                .parse()
                .ok()
        })
        .unwrap_or(0)
}
