//! What a hit costs: `cargo bench -p highwater-benches --bench cache`.
//!
//! 100,000 keys of 100 bytes, read in a Zipf distribution (0.99) by one and by two threads, in interleaved rounds: the
//! library's map alone, the conversion of a value alone, a hit through highwater's whole stack (session, requirement,
//! proof, decoded value), redis-rs's own client-side cache, and a replica read without a cache. Medians in ns a read.
//!
//! With `-- --hits-only` there is nothing but hits on one thread, for a profiler to look at.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a bench that can't go on must stop"
)]

use std::{
    future::Future,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use highwater::{CacheOptions, Client, Session};
use highwater_benches::median;
use highwater_testkit::Topology;
use redis::{AsyncCommands, AsyncConnectionConfig, Value, aio::MultiplexedConnection, caching::CacheConfig};

const KEYS: usize = 100_000;
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(700);
const ROOM: u64 = 256 << 20;

/// Keys in the order in which they are read.
fn order() -> Arc<Vec<String>> {
    let mut sums = Vec::with_capacity(KEYS);
    let mut sum = 0.0;
    for rank in 1..=KEYS {
        sum += (rank as f64).powf(-0.99);
        sums.push(sum);
    }
    let mut random = fastrand::Rng::with_seed(7);
    // Ranks are spread over the keys.
    let mut keys: Vec<usize> = (0..KEYS).collect();
    random.shuffle(&mut keys);
    let order = (0..1 << 20)
        .map(|_| {
            let dice = random.f64() * sum;
            let rank = sums.partition_point(|sum| *sum < dice).min(KEYS - 1);
            format!("key:{:012}", keys[rank])
        })
        .collect();
    Arc::new(order)
}

/// Runs `read` in `threads` loops, and says how many nanoseconds one took.
async fn measure<F, O>(threads: usize, order: &Arc<Vec<String>>, make: impl Fn() -> F) -> f64
where
    F: FnMut(Arc<Vec<String>>, usize) -> O + Send + 'static,
    O: Future<Output = ()> + Send,
{
    let tasks: Vec<_> = (0..threads)
        .map(|thread| {
            let (mut read, order) = (make(), Arc::clone(order));
            tokio::spawn(async move {
                let (begun, mut count) = (Instant::now(), 0_u64);
                let mut place = thread * 500_000;
                while begun.elapsed() < ROUND {
                    for _ in 0..64 {
                        place = (place + 1) & (order.len() - 1);
                        read(Arc::clone(&order), place).await;
                        count += 1;
                    }
                    tokio::task::consume_budget().await;
                }
                begun.elapsed().as_nanos() as f64 / count as f64
            })
        })
        .collect();
    let mut sum = 0.0;
    for task in tasks {
        sum += task.await.unwrap();
    }
    sum / threads as f64
}

struct World {
    moka: moka::sync::Cache<String, Arc<Value>, foldhash::fast::RandomState>,
    cached: Client,
    plain: Client,
    session: Session,
    rs: MultiplexedConnection,
    _topology: Topology,
}

impl World {
    async fn start(order: &[String]) -> Self {
        let topology = Topology::builder().replicas(1).start().unwrap();
        let connect = |cache: bool| {
            let builder = Client::builder()
                .primary(topology.primary().url())
                .replica(topology.replica(0).url());
            if cache {
                builder.cache(CacheOptions::new(ROOM))
            } else {
                builder
            }
            .connect()
        };
        let (cached, plain) = (connect(true).await.unwrap(), connect(false).await.unwrap());
        let session = Session::new();
        let mut connection = cached.with(&session);
        for first in (0..KEYS).step_by(1000) {
            let mut pipeline = redis::pipe();
            for key in first..first + 1000 {
                pipeline.set(format!("key:{key:012}"), "v".repeat(100)).ignore();
            }
            let () = pipeline.query_async(&mut connection).await.unwrap();
        }
        topology.wait_in_sync(Duration::from_secs(30)).unwrap();
        let config = AsyncConnectionConfig::new().set_cache_config(
            CacheConfig::new()
                .set_size(std::num::NonZeroUsize::new(2 * KEYS).unwrap())
                .set_default_client_ttl(Duration::from_secs(3600)),
        );
        let url = format!("{}?protocol=resp3", topology.replica(0).url());
        let mut rs = redis::Client::open(url)
            .unwrap()
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .unwrap();
        let moka = moka::sync::Cache::builder()
            .max_capacity(ROOM)
            .weigher(|_: &String, _: &Arc<Value>| 700)
            .build_with_hasher(foldhash::fast::RandomState::default());
        for key in order {
            moka.insert(
                key.clone(),
                Arc::new(Value::BulkString("v".repeat(100).into_bytes())),
            );
            let _: Vec<u8> = connection.get(key).await.unwrap();
            let _: Vec<u8> = rs.get(key).await.unwrap();
        }
        Self {
            moka,
            cached,
            plain,
            session,
            rs,
            _topology: topology,
        }
    }

    /// Hits of the near cache, or reads without one.
    async fn reads(&self, client: &Client, threads: usize, order: &Arc<Vec<String>>) -> f64 {
        measure(threads, order, || {
            // Each thread is a user of their own, who has written what the others have.
            let connection = client.with(&Session::resume(self.session.marks()));
            move |order: Arc<Vec<String>>, place: usize| {
                let mut connection = connection.clone();
                async move {
                    let value: Vec<u8> = connection.get(&order[place]).await.unwrap();
                    assert_eq!(value.len(), 100);
                }
            }
        })
        .await
    }

    async fn round(&self, threads: usize, order: &Arc<Vec<String>>) -> [f64; 5] {
        let raw = measure(threads, order, || {
            let moka = self.moka.clone();
            move |order: Arc<Vec<String>>, place| {
                black_box(moka.get(&order[place])).expect("it is there");
                std::future::ready(())
            }
        })
        .await;
        let converted = measure(threads, order, || {
            let value = Value::BulkString("v".repeat(100).into_bytes());
            move |_, _| {
                let bytes: Vec<u8> = redis::from_redis_value(black_box(&value).clone()).unwrap();
                black_box(bytes);
                std::future::ready(())
            }
        })
        .await;
        let hit = self.reads(&self.cached, threads, order).await;
        let rs = measure(threads, order, || {
            let connection = self.rs.clone();
            move |order: Arc<Vec<String>>, place: usize| {
                let mut connection = connection.clone();
                async move {
                    let value: Vec<u8> = connection.get(&order[place]).await.unwrap();
                    assert_eq!(value.len(), 100);
                }
            }
        })
        .await;
        let replica = self.reads(&self.plain, threads, order).await;
        [raw, converted, hit, rs, replica]
    }
}

fn main() {
    let order = order();
    for threads in [1, 2] {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let world = World::start(&order).await;
            while std::env::args().any(|argument| argument == "--hits-only") {
                println!("{:.0} ns a hit", world.reads(&world.cached, 1, &order).await);
            }
            let before = world.cached.cache_stats();
            let mut rounds = Vec::new();
            for _ in 0..ROUNDS {
                rounds.push(world.round(threads, &order).await);
            }
            let after = world.cached.cache_stats();
            let column = |column: usize| median(rounds.iter().map(|round| round[column]).collect());
            let ratio =
                |part: usize, of: usize| median(rounds.iter().map(|round| round[part] / round[of]).collect());
            println!("{threads} thread(s), ns a read, medians of {ROUNDS} rounds:");
            let names = [
                "moka alone",
                "conversion alone",
                "highwater, hit",
                "redis-rs cache-aio",
                "highwater, replica",
            ];
            for (place, name) in names.into_iter().enumerate() {
                println!("  {name:<20} {:>8.0}", column(place));
            }
            let less_conversion = median(
                rounds
                    .iter()
                    .map(|round| (round[2] - round[1]) / round[0])
                    .collect(),
            );
            println!(
                "  a hit less the conversion is {less_conversion:.2} × moka; a replica read is {:.1} × a hit",
                ratio(4, 2)
            );
            println!(
                "  hits {}, misses {}, kept {} keys of {} bytes each",
                after.hits - before.hits,
                after.misses - before.misses,
                after.entries,
                after.weight / after.entries.max(1),
            );
        });
    }
}
