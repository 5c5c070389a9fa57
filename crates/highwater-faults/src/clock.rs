//! Time that several processes of one machine agree on: the order of what they did is what is judged.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of the machine's monotonic clock.
pub(crate) type Nanos = u64;

/// Now.
pub(crate) fn now() -> Nanos {
    let time = clock_gettime(ClockId::Monotonic);
    let (seconds, nanos) = (
        u64::try_from(time.tv_sec).unwrap_or(0),
        u64::try_from(time.tv_nsec).unwrap_or(0),
    );
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// Translates to this process's `Instant`s, in which the testkit's samples are stamped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Epoch {
    instant: Instant,
    nanos: Nanos,
}

impl Epoch {
    /// From now on; earlier times are taken for now.
    pub(crate) fn new() -> Self {
        Self {
            instant: Instant::now(),
            nanos: now(),
        }
    }

    pub(crate) fn instant(&self, nanos: Nanos) -> Instant {
        self.instant + Duration::from_nanos(nanos.saturating_sub(self.nanos))
    }

    pub(crate) fn nanos(&self, instant: Instant) -> Nanos {
        let since = instant.saturating_duration_since(self.instant).as_nanos();
        self.nanos
            .saturating_add(u64::try_from(since).unwrap_or(Nanos::MAX))
    }
}
