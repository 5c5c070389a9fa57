//! The closed loop, and what comes of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    contenders::Caller,
    data::Data,
    operation::{Operation, Work},
};

/// What is to be done in one round.
#[derive(Clone, Debug)]
pub struct Task {
    /// What callers do.
    pub operation: Operation,
    /// How many callers there are.
    pub concurrency: usize,
    /// How many sessions each caller has, in a mix.
    pub sessions: usize,
    /// For how long.
    pub duration: Duration,
    /// What is stored.
    pub data: Arc<Data>,
    /// A number that is larger in each round by more than a session writes in one.
    pub since: u64,
}

/// What one contender did in one round.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// How many operations were done.
    pub operations: u64,
    /// Operations per second.
    pub per_second: f64,
    /// The median latency, in microseconds.
    pub p50: f64,
    /// The latency that one operation in a hundred exceeds, in microseconds.
    pub p99: f64,
    /// The latency that one operation in a thousand exceeds, in microseconds.
    pub p999: Option<f64>,
    /// Reads that did not show what their session had written.
    pub stale: u64,
}

impl Round {
    /// From each operation's time, in nanoseconds.
    #[must_use]
    pub fn new(mut times: Vec<u32>, elapsed: Duration, stale: u64) -> Self {
        times.sort_unstable();
        let at = |share: usize| {
            let place = (times.len() * share).div_ceil(1000).saturating_sub(1);
            times.get(place).map_or(f64::NAN, |time| f64::from(*time) / 1e3)
        };
        Self {
            operations: times.len() as u64,
            per_second: times.len() as f64 / elapsed.as_secs_f64(),
            p50: at(500),
            p99: at(990),
            p999: Some(at(999)),
            stale,
        }
    }
}

/// Nanoseconds, up to four seconds.
#[must_use]
pub fn nanoseconds(time: Duration) -> u32 {
    u32::try_from(time.as_nanos()).unwrap_or(u32::MAX)
}

/// Runs a closed loop for each caller. Each gets its number.
///
/// # Panics
///
/// When a caller panics: it verifies what it gets.
pub async fn closed_loop<C: Caller>(task: &Task, make: impl Fn(usize) -> C) -> Round {
    let stop = Arc::new(AtomicBool::new(false));
    let start = Instant::now();
    let callers: Vec<_> = (0..task.concurrency)
        .map(|number| {
            let mut caller = make(number);
            let mut work = Work::new(task.operation, &task.data, number, task.sessions, task.since);
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                let mut times = Vec::with_capacity(4096);
                let mut begun = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    work.step(&mut caller).await;
                    let now = Instant::now();
                    times.push(nanoseconds(now - begun));
                    begun = now;
                }
                (times, work.stale())
            })
        })
        .collect();
    tokio::time::sleep(task.duration).await;
    stop.store(true, Ordering::Relaxed);
    let (mut times, mut stale) = (Vec::new(), 0);
    for caller in callers {
        let (mut part, old) = caller.await.expect("a caller failed");
        times.append(&mut part);
        stale += old;
    }
    Round::new(times, start.elapsed(), stale)
}

/// The median of some numbers; of an even count, the upper one in the middle.
#[must_use]
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_times() {
        let round = Round::new(
            (1..=1000).rev().map(|micros| micros * 1000).collect(),
            Duration::from_secs(2),
            0,
        );
        assert_eq!(round.operations, 1000);
        assert!((round.per_second - 500.0).abs() < 1e-9);
        assert!((round.p50 - 500.0).abs() < 1e-9);
        assert!((round.p99 - 990.0).abs() < 1e-9);
        assert_eq!(round.p999, Some(999.0));
    }
}
