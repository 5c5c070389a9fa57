//! How soon writes work again after a failover, and whether reads stop meanwhile: `cargo bench --bench failover`.
//!
//! Each failover is one of real sentinels, whose primary is killed while three clients write side by side: highwater,
//! redis-rs's `SentinelClient`, which its callers ask for a new connection after an error, and fred. Time counts from
//! the first sentinel's `+switch-master` to each client's first write that the new primary answers.
//!
//! Options after `--`: `--failovers N`.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a bench that can't go on must stop"
)]

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use fred::prelude::{Builder, ClientLike, KeysInterface, ReconnectPolicy, Server, ServerConfig};
use highwater::{Client, Sentinel, Session, redis::Value};
use highwater_benches::median;
use highwater_testkit::{Sentinels, wait_until_async};
use redis::{
    AsyncCommands,
    sentinel::{SentinelClient, SentinelServerType},
};
use tokio::{task::JoinHandle, time::sleep};

const SOON: Duration = Duration::from_secs(30);
/// Sentinel's own part: how long it takes until the primary counts as down.
const DOWN_AFTER: Duration = Duration::from_millis(300);
/// Between two writes, and after an error.
const PAUSE: Duration = Duration::from_millis(1);
/// What comes later after the kill was not on its way from the dead primary any more.
const LEFTOVERS: Duration = Duration::from_millis(100);
/// Of load before the kill, and after the last client is back.
const QUIET: Duration = Duration::from_millis(500);
const CLIENTS: [&str; 3] = ["highwater", "redis-rs SentinelClient", "fred"];

fn failovers() -> usize {
    let mut failovers = 20;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--failovers" => {
                let number = arguments.next().expect("a number of failovers");
                failovers = number.parse().expect("a number of failovers");
                assert!(failovers > 0, "at least one failover");
            }
            // cargo says so to every bench.
            "--bench" => {}
            other => panic!("unknown option {other}"),
        }
    }
    failovers
}

/// One operation of a closed loop.
#[derive(Clone, Copy)]
struct Done {
    began: Instant,
    ended: Instant,
    worked: bool,
}

/// Does it again and again, until it is told to stop. What came of it is shared while it goes on.
struct Loop {
    done: Arc<std::sync::Mutex<Vec<Done>>>,
    task: JoinHandle<()>,
}

impl Loop {
    fn start<F: Future<Output = bool> + Send>(
        stop: &Arc<AtomicBool>,
        mut operation: impl FnMut(u64) -> F + Send + 'static,
    ) -> Self {
        let done = Arc::<std::sync::Mutex<Vec<Done>>>::default();
        let (stop, record) = (Arc::clone(stop), Arc::clone(&done));
        let task = tokio::spawn(async move {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                let began = Instant::now();
                let worked = operation(number).await;
                let ended = Instant::now();
                record.lock().unwrap().push(Done { began, ended, worked });
                sleep(PAUSE).await;
            }
        });
        Self { done, task }
    }

    /// The first one that worked after this moment.
    fn worked_after(&self, moment: Instant) -> Option<Instant> {
        let done = self.done.lock().unwrap();
        done.iter()
            .find(|done| done.worked && done.ended > moment)
            .map(|done| done.ended)
    }

    async fn end(self) -> Vec<Done> {
        self.task.await.unwrap();
        self.done.lock().unwrap().clone()
    }
}

/// What one failover was like.
struct Failover {
    /// From the kill to `+switch-master`, in milliseconds.
    detection: f64,
    /// From there to each client's first write, in milliseconds; negative when it did not wait for the word.
    writes: [f64; 3],
    /// For how long reads failed.
    unread: f64,
    /// The longest time between two reads that worked.
    longest: f64,
    reads: usize,
    stale: usize,
}

fn millis(from: Instant, to: Instant) -> f64 {
    if to >= from {
        (to - from).as_secs_f64() * 1e3
    } else {
        (from - to).as_secs_f64() * -1e3
    }
}

/// For how long reads failed in all, and the longest time without one that worked.
fn unread(reads: &[Done]) -> (f64, f64) {
    let (mut sum, mut longest) = (0.0, 0.0_f64);
    let mut failing: Option<Instant> = None;
    let mut last: Option<Instant> = None;
    for read in reads {
        if !read.worked {
            failing.get_or_insert(read.began);
            continue;
        }
        if let Some(since) = failing.take() {
            sum += millis(since, read.ended);
        }
        if let Some(last) = last.replace(read.ended) {
            longest = longest.max(millis(last, read.ended));
        }
    }
    (sum, longest)
}

async fn fail_over() -> Failover {
    let sentinels = tokio::task::block_in_place(|| {
        let start = Sentinels::builder().down_after(DOWN_AFTER).start();
        Arc::new(start.expect("the servers start"))
    });
    let stop = Arc::new(AtomicBool::new(false));

    let highwater = Client::builder()
        .discovery(Sentinel::new(Sentinels::NAME, sentinels.urls()))
        .connect()
        .await
        .expect("highwater connects");
    let reader = Session::new();
    let () = highwater.with(&reader).set("read", 1).await.unwrap();
    let mark = sentinels.node(0).mark().unwrap();
    for node in sentinels.nodes().skip(1) {
        // So that each replica can answer, whatever the failover loses of the rest.
        node.wait_for(SOON, "the replicas have it", |info| info.covers(mark))
            .unwrap();
    }
    let stale = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let errors = Arc::<std::sync::Mutex<Vec<(Instant, String)>>>::default();
    let reads = Loop::start(&stop, {
        let (client, stale, errors) = (highwater.clone(), Arc::clone(&stale), Arc::clone(&errors));
        move |_| {
            let (mut connection, stale) = (client.with(&reader), Arc::clone(&stale));
            let errors = Arc::clone(&errors);
            async move {
                let seen: Result<Value, _> = connection.get("read").await;
                let right = seen
                    .as_ref()
                    .is_ok_and(|seen| *seen == Value::BulkString(b"1".to_vec()));
                if let Err(error) = &seen {
                    errors.lock().unwrap().push((Instant::now(), error.to_string()));
                }
                stale.fetch_add(usize::from(seen.is_ok() && !right), Ordering::Relaxed);
                seen.is_ok()
            }
        }
    });
    let writes = [
        Loop::start(&stop, {
            let (client, session) = (highwater.clone(), Session::new());
            move |number| {
                let mut connection = client.with(&session);
                async move { connection.set("highwater", number).await.is_ok_and(|()| true) }
            }
        }),
        redis_rs(&sentinels, &stop).await,
        fred(&sentinels, &stop).await,
    ];
    sleep(QUIET).await;

    let hearing = sentinels.hear("+switch-master").unwrap();
    let killed = tokio::task::block_in_place(|| {
        sentinels.node(0).kill();
        Instant::now()
    });
    let switched = tokio::task::block_in_place(|| hearing.recv_timeout(SOON)).expect("a failover happens");
    let after = killed + LEFTOVERS;
    let everybody = || writes.iter().all(|writes| writes.worked_after(after).is_some());
    wait_until_async(SOON, "all clients write again", everybody)
        .await
        .unwrap();
    sleep(QUIET).await;
    stop.store(true, Ordering::Relaxed);
    let reads = reads.end().await;
    let (unread, longest) = unread(&reads);
    let first = writes.each_ref().map(|writes| {
        let first = writes.worked_after(after).expect("each client has written");
        millis(switched, first)
    });
    for writes in writes {
        writes.end().await;
    }
    for (at, error) in &*errors.lock().unwrap() {
        println!(
            "a read failed {:.0} ms after the kill: {error}",
            millis(killed, *at)
        );
    }
    highwater.shutdown().await.unwrap();
    Failover {
        detection: millis(killed, switched),
        writes: first,
        unread,
        longest,
        reads: reads.len(),
        stale: stale.load(Ordering::Relaxed),
    }
}

/// As redis-rs's documentation has it: a connection that failed is replaced by a new one of the same client.
async fn redis_rs(sentinels: &Sentinels, stop: &Arc<AtomicBool>) -> Loop {
    let name = Sentinels::NAME.to_owned();
    let mut client = SentinelClient::build(sentinels.urls(), name, None, SentinelServerType::Master).unwrap();
    let connection = client.get_async_connection().await.expect("redis-rs connects");
    let state = Arc::new(tokio::sync::Mutex::new((client, Some(connection))));
    Loop::start(stop, move |number| {
        let state = Arc::clone(&state);
        async move {
            let (client, connection) = &mut *state.lock().await;
            if connection.is_none() {
                *connection = client.get_async_connection().await.ok();
            }
            let Some(open) = connection else { return false };
            let worked = open.set("redis-rs", number).await.is_ok_and(|()| true);
            if !worked {
                *connection = None;
            }
            worked
        }
    })
}

/// It connects again by itself, with the pauses that highwater makes.
async fn fred(sentinels: &Sentinels, stop: &Arc<AtomicBool>) -> Loop {
    let config = fred::prelude::Config {
        server: ServerConfig::Sentinel {
            service_name: Sentinels::NAME.to_owned(),
            hosts: sentinels
                .sentinels()
                .iter()
                .map(|sentinel| Server::new("127.0.0.1", sentinel.port()))
                .collect(),
        },
        ..fred::prelude::Config::default()
    };
    let client = Builder::from_config(config)
        .with_performance_config(|config| config.default_command_timeout = Duration::from_secs(1))
        .set_policy(ReconnectPolicy::new_exponential(0, 20, 2_000, 2))
        .build()
        .unwrap();
    client.init().await.expect("fred connects");
    Loop::start(stop, move |number| {
        let client = client.clone();
        async move {
            let number = i64::try_from(number).unwrap();
            let outcome: Result<(), _> = client.set("fred", number, None, None, false).await;
            outcome.is_ok()
        }
    })
}

#[tokio::main]
async fn main() {
    let failovers = failovers();
    let mut seen = Vec::new();
    for _ in 0..failovers {
        seen.push(fail_over().await);
    }
    let figures = |of: &dyn Fn(&Failover) -> f64| {
        let figures: Vec<f64> = seen.iter().map(of).collect();
        let most = figures.iter().copied().fold(f64::MIN, f64::max);
        (median(figures), most)
    };
    let print = |what: &str, of: &dyn Fn(&Failover) -> f64| {
        let (median, most) = figures(of);
        println!("{what:<52} {median:>8.0} ms {most:>8.0} ms");
    };
    println!(
        "{:<52} {:>11} {:>11}",
        format!("{failovers} failovers"),
        "median",
        "most"
    );
    print("from the kill to +switch-master", &|failover| failover.detection);
    for (place, client) in CLIENTS.iter().enumerate() {
        let what = format!("from there to a write: {client}");
        print(&what, &|failover| failover.writes[place]);
    }
    print("highwater's reads failed for", &|failover| failover.unread);
    print("longest time between two of them", &|failover| failover.longest);
    let sum = |of: fn(&Failover) -> usize| seen.iter().map(of).sum::<usize>();
    println!(
        "{} reads, {} of them wrong",
        sum(|failover| failover.reads),
        sum(|failover| failover.stale)
    );
    assert_eq!(sum(|failover| failover.stale), 0, "a stale read");
}
