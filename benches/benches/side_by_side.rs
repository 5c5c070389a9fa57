//! Reads with a proof and writes with a mark, against plain redis-rs: `cargo bench --bench side_by_side`.
//!
//! Options after `--`: `--rounds N`, `--millis N` (of one round of one contender), `--callers a,b,c`,
//! `--only reads|writes`.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a bench that can't go on must stop"
)]

use std::time::Duration;

use highwater::{Client, Consistency, Session};
use highwater_benches::{Round, closed_loop, median};
use highwater_testkit::Topology;
use redis::{AsyncCommands, aio::MultiplexedConnection};

const KEYS: usize = 1024;

struct Options {
    rounds: usize,
    duration: Duration,
    callers: Vec<usize>,
    reads: bool,
    writes: bool,
}

fn options() -> Options {
    let mut options = Options {
        rounds: 9,
        duration: Duration::from_millis(300),
        callers: vec![1, 64, 256],
        reads: true,
        writes: true,
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
            "--only" => match value().as_str() {
                "reads" => options.writes = false,
                "writes" => options.reads = false,
                other => panic!("--only takes reads or writes, not {other}"),
            },
            // cargo says so to every bench.
            "--bench" => {}
            other => panic!("unknown option {other}"),
        }
    }
    options
}

fn key(caller: usize, round: usize) -> String {
    format!("key:{:012}", (caller * 31 + round) % KEYS)
}

fn value(key: &str) -> String {
    format!("{key:0>100}")
}

/// One way to do the operation.
#[derive(Clone)]
enum Contender {
    RedisRs(MultiplexedConnection),
    Highwater(Client, Consistency),
    /// Writes without a session leave no mark.
    HighwaterWithoutSession(Client),
}

impl Contender {
    async fn reads(&self, callers: usize, duration: Duration) -> Round {
        closed_loop(callers, duration, |caller| {
            let contender = self.clone();
            let session = Session::new();
            if let Self::Highwater(client, _) = &contender {
                // A session that wrote something: its reads need a proof.
                let mark = client.status().primary;
                session.add_written(&highwater::Mark {
                    scope: client.scope().clone(),
                    history: mark.history.unwrap().parse().unwrap(),
                    offset: highwater::Offset::at(1),
                });
            }
            let mut round = 0;
            move || {
                round += 1;
                let key = key(caller, round);
                let contender = contender.clone();
                let session = session.clone();
                async move {
                    let seen: String = match contender {
                        Self::RedisRs(mut connection) => connection.get(&key).await.unwrap(),
                        Self::Highwater(client, level) => {
                            client.with(&session).at(level).get(&key).await.unwrap()
                        }
                        Self::HighwaterWithoutSession(client) => {
                            client.without_session().get(&key).await.unwrap()
                        }
                    };
                    assert!(seen.ends_with(&key), "a reply that is somebody else's");
                }
            }
        })
        .await
    }

    async fn writes(&self, callers: usize, duration: Duration) -> Round {
        closed_loop(callers, duration, |caller| {
            let contender = self.clone();
            let session = Session::new();
            let mut round = 0;
            move || {
                round += 1;
                let key = key(caller, round);
                let contender = contender.clone();
                let session = session.clone();
                async move {
                    let value = value(&key);
                    let () = match contender {
                        Self::RedisRs(mut connection) => connection.set(&key, value).await.unwrap(),
                        Self::Highwater(client, _) => client.with(&session).set(&key, value).await.unwrap(),
                        Self::HighwaterWithoutSession(client) => {
                            client
                                .without_session()
                                .set::<_, _, ()>(&key, value)
                                .await
                                .unwrap();
                        }
                    };
                }
            }
        })
        .await
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let options = options();
    let topology = Topology::builder().replicas(1).start().expect("servers");
    let client = Client::builder()
        .primary(topology.primary().url())
        .replica(topology.replica(0).url())
        .connect()
        .await
        .expect("a client");
    let plain = |url: String| async move {
        redis::Client::open(url)
            .unwrap()
            .get_multiplexed_async_connection()
            .await
            .unwrap()
    };
    let on_replica = plain(topology.replica(0).url()).await;
    let mut on_primary = plain(topology.primary().url()).await;
    for place in 0..KEYS {
        let key = key(place, 0);
        let () = on_primary.set(&key, value(&key)).await.unwrap();
    }
    topology
        .wait_in_sync(Duration::from_secs(10))
        .expect("replication");

    println!(
        "ratios of throughput to plain redis-rs {} rounds of {:?}",
        options.rounds, options.duration
    );
    println!(
        "{:<8} {:<28} {:>7} {:>12} {:>9} {:>10} {:>10}",
        "", "", "callers", "per second", "ratio", "p50 µs", "p99 µs"
    );
    for &callers in &options.callers {
        if options.reads {
            let contenders = [
                ("redis-rs", Contender::RedisRs(on_replica.clone())),
                (
                    "highwater, no proof",
                    Contender::Highwater(client.clone(), Consistency::Eventual),
                ),
                (
                    "highwater, proof",
                    Contender::Highwater(client.clone(), Consistency::ReadYourWrites),
                ),
                (
                    "highwater, proof both ends",
                    Contender::Highwater(client.clone(), Consistency::Monotonic),
                ),
            ];
            compare("GET", &contenders, callers, &options, true).await;
        }
        if options.writes {
            let contenders = [
                ("redis-rs", Contender::RedisRs(on_primary.clone())),
                (
                    "highwater, no mark",
                    Contender::HighwaterWithoutSession(client.clone()),
                ),
                (
                    "highwater, mark",
                    Contender::Highwater(client.clone(), Consistency::ReadYourWrites),
                ),
            ];
            compare("SET", &contenders, callers, &options, false).await;
        }
    }
    let status = client.status();
    println!("\nreads of highwater by route and reason:");
    for count in status.reads {
        println!("  {} {}: {}", count.route, count.reason, count.count);
    }
}

async fn compare(
    operation: &str,
    contenders: &[(&str, Contender)],
    callers: usize,
    options: &Options,
    reads: bool,
) {
    let mut rounds: Vec<Vec<Round>> = vec![Vec::new(); contenders.len()];
    for round in 0..=options.rounds {
        for (place, (_, contender)) in contenders.iter().enumerate() {
            let measured = if reads {
                contender.reads(callers, options.duration).await
            } else {
                contender.writes(callers, options.duration).await
            };
            // The first round warms up.
            if round > 0 {
                rounds[place].push(measured);
            }
        }
    }
    let plain: Vec<f64> = rounds[0].iter().map(|round| round.per_second).collect();
    for ((name, _), rounds) in contenders.iter().zip(&rounds) {
        let ratios = rounds
            .iter()
            .zip(&plain)
            .map(|(round, plain)| round.per_second / plain)
            .collect();
        let of = |what: fn(&Round) -> f64| median(rounds.iter().map(what).collect());
        println!(
            "{operation:<8} {name:<28} {callers:>7} {:>12.0} {:>9.2} {:>10.1} {:>10.1}",
            of(|round| round.per_second),
            median(ratios),
            of(|round| round.p50.as_secs_f64() * 1e6),
            of(|round| round.p99.as_secs_f64() * 1e6),
        );
    }
}
