//! The side-by-side bench: closed loops of callers, interleaved rounds, ratios within one run.
//!
//! The machine is noisy, so throughput is never compared across runs: in each round every contender
//! runs once, each is divided by the plain client's figure of the same round, and the median of these
//! ratios counts.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// What one contender did in one round.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// Operations per second.
    pub per_second: f64,
    /// The median latency.
    pub p50: Duration,
    /// The latency that one operation in a hundred exceeds.
    pub p99: Duration,
}

/// Runs `callers` closed loops of `operation` for `duration` and measures them. Each loop gets its
/// number and makes its own operation.
///
/// # Panics
///
/// When a caller panics: the operation verifies what it gets.
#[expect(clippy::expect_used, reason = "a bench that can't go on must stop")]
pub async fn closed_loop<F, O>(callers: usize, duration: Duration, make: impl Fn(usize) -> F) -> Round
where
    F: FnMut() -> O + Send + 'static,
    O: Future<Output = ()> + Send,
{
    let stop = Arc::new(AtomicBool::new(false));
    let start = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let mut operation = make(caller);
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                let mut latencies = Vec::with_capacity(4096);
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    operation().await;
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
        latencies.append(&mut task.await.expect("a caller failed"));
    }
    let elapsed = start.elapsed();
    latencies.sort_unstable();
    let at = |share: usize| {
        latencies
            .get(latencies.len() * share / 100)
            .copied()
            .unwrap_or_default()
    };
    Round {
        per_second: latencies.len() as f64 / elapsed.as_secs_f64(),
        p50: at(50),
        p99: at(99),
    }
}

/// The median of some numbers.
#[must_use]
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}
