//! The soak: 64 callers for a long time. Memory and the number of tasks must stay what they are once it is warm.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use highwater::{CacheOptions, Client, Session};
use highwater_testkit::Topology;
use serde::Serialize;
use tokio::runtime::Handle;

use crate::{
    contenders::highwater_caller,
    data::Data,
    median,
    operation::{Operation, Work, mix_key, mix_value},
};

const CALLERS: usize = 64;
const EVERY: Duration = Duration::from_secs(10);
/// Operations of one kind before the next kind has its turn.
const STRETCH: u64 = 50;
/// Operations after which a caller goes on as another user: in a new session, as requests do.
const VISIT: u64 = 1000;
const KINDS: [Operation; 5] = [
    Operation::Mix,
    Operation::Get,
    Operation::Pipeline,
    Operation::Hgetall,
    Operation::Set4k,
];
/// What counts as flat: this much more than at the beginning.
const SLACK: f64 = 1.05;

/// What there was at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sample {
    /// Since the beginning.
    pub seconds: u64,
    /// Memory in use, in KiB: resident pages.
    pub resident_kib: u64,
    /// tokio's tasks.
    pub tasks: usize,
    /// Operations since the sample before.
    pub operations: u64,
}

/// All of it.
#[derive(Debug, Serialize)]
pub struct Soak {
    /// How many callers.
    pub callers: usize,
    /// What there was, every ten seconds.
    pub samples: Vec<Sample>,
    /// Memory did not grow after the first third.
    pub memory_is_flat: bool,
    /// There were never more tasks in the last third than before.
    pub tasks_are_flat: bool,
}

/// Runs it on clients with and without a near cache, and tells of each sample.
pub async fn soak(topology: &Topology, minutes: u64, tell: impl Fn(&Sample)) -> Soak {
    let data = Arc::new(Data::new());
    let connect = |cache: bool| {
        let builder = Client::builder()
            .primary(topology.primary().url())
            .replicas(topology.replicas().map(highwater_testkit::Server::url));
        if cache {
            builder.cache(CacheOptions::new(16 << 20))
        } else {
            builder
        }
        .connect()
    };
    let clients = [
        connect(false).await.expect("a client"),
        connect(true).await.expect("a client"),
    ];
    let mut plain = redis::Client::open(topology.primary().url())
        .unwrap()
        .get_multiplexed_async_connection()
        .await
        .unwrap();
    data.store(&mut plain).await;
    for number in 0..CALLERS {
        let () = redis::AsyncCommands::set(&mut plain, mix_key(number), mix_value())
            .await
            .unwrap();
    }
    drop(plain);

    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let callers: Vec<_> = (0..CALLERS)
        .map(|number| {
            let client = clients[number % clients.len()].clone();
            let (data, stop, done) = (Arc::clone(&data), Arc::clone(&stop), Arc::clone(&done));
            tokio::spawn(async move {
                let mut visits = 0;
                while !stop.load(Ordering::Relaxed) {
                    visits += 1;
                    visit(&client, &data, number, visits * VISIT, &stop, &done).await;
                }
            })
        })
        .collect();

    let start = Instant::now();
    let end = Duration::from_secs(60 * minutes);
    let mut samples = Vec::new();
    while start.elapsed() < end {
        tokio::time::sleep(EVERY).await;
        let sample = Sample {
            seconds: start.elapsed().as_secs(),
            resident_kib: resident(),
            tasks: Handle::current().metrics().num_alive_tasks(),
            operations: done.swap(0, Ordering::Relaxed),
        };
        tell(&sample);
        samples.push(sample);
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.expect("a caller failed");
    }
    Soak {
        callers: CALLERS,
        memory_is_flat: memory_is_flat(&samples),
        tasks_are_flat: tasks_are_flat(&samples),
        samples,
    }
}

/// A user's visit: some of each kind of work, in one session.
async fn visit(
    client: &Client,
    data: &Arc<Data>,
    number: usize,
    since: u64,
    stop: &AtomicBool,
    done: &AtomicU64,
) {
    let mut caller = highwater_caller(client, &[Session::new()]);
    let mut works = KINDS.map(|kind| Work::new(kind, data, number, 1, since));
    for turn in 0..VISIT / STRETCH {
        let work = &mut works[usize::try_from(turn).unwrap_or_default() % KINDS.len()];
        for _ in 0..STRETCH {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            work.step(&mut caller).await;
            done.fetch_add(1, Ordering::Relaxed);
        }
        assert_eq!(work.stale(), 0, "a stale read");
    }
}

/// The last third, by its median, is no more than the second one.
fn memory_is_flat(samples: &[Sample]) -> bool {
    let third = samples.len() / 3;
    let of = |part: &[Sample]| median(part.iter().map(|sample| sample.resident_kib as f64).collect());
    // Too short a run shows nothing.
    third > 0 && of(&samples[samples.len() - third..]) <= SLACK * of(&samples[third..2 * third])
}

fn tasks_are_flat(samples: &[Sample]) -> bool {
    let (before, last) = samples.split_at(samples.len() - samples.len() / 3);
    let most = |part: &[Sample]| part.iter().map(|sample| sample.tasks).max();
    !last.is_empty() && most(last) <= most(before)
}

fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmRSS:")?
                .trim()
                .strip_suffix("kB")?
                .trim()
                .parse()
                .ok()
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(memory: &[u64]) -> bool {
        let samples: Vec<_> = memory
            .iter()
            .map(|resident_kib| Sample {
                seconds: 0,
                resident_kib: *resident_kib,
                tasks: 1,
                operations: 0,
            })
            .collect();
        memory_is_flat(&samples)
    }

    #[test]
    fn growth_is_seen_and_warming_up_is_not() {
        assert!(run(&[10, 90, 100, 100, 100, 101, 99, 103, 102]));
        assert!(!run(&[100, 110, 120, 130, 140, 150, 160, 170, 180]));
        assert!(!run(&[100, 100]), "too short");
    }
}
