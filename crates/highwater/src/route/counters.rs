//! Counters of what was routed where, and why.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use highwater_core::{Coverage, Reason, Route, Scope};

use crate::{observe::Meters, striped::Striped};

/// Counts since the client was made. Each is a metric too, with the feature `metrics`.
#[derive(Debug)]
pub(crate) struct Counters {
    often: Striped<Often>,
    barriers: AtomicU64,
    possibly_lost: AtomicU64,
    unknown_history: AtomicU64,
    beyond_primary: AtomicU64,
    staleness_samples: AtomicU64,
    meters: Meters,
}

/// What is counted with nearly every command.
#[derive(Debug, Default)]
struct Often {
    reads: [[AtomicU64; Reason::ALL.len()]; Route::ALL.len()],
    writes: AtomicU64,
}

/// Reads of one route and reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ReadCount {
    /// `cache`, `replica` or `primary`.
    pub route: &'static str,
    /// Why.
    pub reason: &'static str,
    /// How many.
    pub count: u64,
}

/// Marks that could not be honoured, and sessions of which it was not known what they depend on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Anomalies {
    /// Reads of sessions whose tokens could not be read, settled by a sample of the primary.
    pub settled_doubts: u64,
    /// Reads that met a write that a failover may have lost.
    pub possibly_lost: u64,
    /// Reads whose history the primary does not know.
    pub unknown_history: u64,
    /// Reads whose mark lies beyond where the primary has ever been.
    pub beyond_primary: u64,
}

/// One request in flight, until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight<'a>(&'a Meters);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.ended();
    }
}

/// A write that has been sent. Dropped before it is [`concluded`](Self::concluded), its caller has gone.
#[derive(Debug)]
pub(super) struct SentWrite<'a>(Option<&'a Meters>);

impl SentWrite<'_> {
    pub(super) fn concluded(mut self) {
        self.0 = None;
    }
}

impl Drop for SentWrite<'_> {
    fn drop(&mut self) {
        if let Some(meters) = self.0 {
            meters.caller_gone();
        }
    }
}

fn route_place(route: Route) -> usize {
    Route::ALL
        .iter()
        .position(|other| *other == route)
        .unwrap_or_default()
}

fn place_of(reason: Reason) -> usize {
    Reason::ALL
        .iter()
        .position(|other| *other == reason)
        .unwrap_or_default()
}

impl Counters {
    pub(crate) fn new(scope: &Scope) -> Self {
        Self {
            often: Striped::default(),
            barriers: AtomicU64::default(),
            possibly_lost: AtomicU64::default(),
            unknown_history: AtomicU64::default(),
            beyond_primary: AtomicU64::default(),
            staleness_samples: AtomicU64::default(),
            meters: Meters::new(scope),
        }
    }

    pub(super) fn count_in_flight(&self) -> InFlight<'_> {
        self.meters.begun();
        InFlight(&self.meters)
    }

    pub(super) fn count_sent_write(&self) -> SentWrite<'_> {
        SentWrite(Some(&self.meters))
    }

    pub(super) fn count_lost_write(&self) {
        self.meters.connection_lost();
    }

    pub(super) fn count_wait(&self, time: Duration) {
        self.meters.waited(time);
    }

    pub(super) fn count_fallback(&self, reason: Reason) {
        self.meters.fallback(place_of(reason));
    }

    pub(super) fn count_fallback_wait(&self) {
        self.meters.fallback_waits();
    }

    pub(super) fn count_refused_fallback(&self) {
        self.meters.fallback_refused();
    }

    pub(super) fn count_staleness_sample(&self) {
        self.staleness_samples.fetch_add(1, Ordering::Relaxed);
        self.meters.staleness_sample();
    }

    pub(super) fn count_read(&self, route: Route, reason: Reason) {
        let route = route_place(route);
        let reason = place_of(reason);
        self.meters.read(route, reason);
        if let Some(count) = self
            .often
            .mine()
            .reads
            .get(route)
            .and_then(|reasons| reasons.get(reason))
        {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn count_write(&self) {
        self.often.mine().writes.fetch_add(1, Ordering::Relaxed);
        self.meters.write();
    }

    pub(super) fn count_barrier(&self) {
        self.barriers.fetch_add(1, Ordering::Relaxed);
        self.meters.token_settled();
    }

    pub(super) fn count_unmet(&self, coverage: Coverage) {
        let count = match coverage {
            Coverage::PossiblyLost => &self.possibly_lost,
            Coverage::Unknown => &self.unknown_history,
            Coverage::Behind | Coverage::Covered => &self.beyond_primary,
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.meters.unmet(coverage);
    }

    /// Reads by route and reason, those that occurred.
    pub(crate) fn reads(&self) -> Vec<ReadCount> {
        let mut counts = Vec::new();
        for route in Route::ALL {
            for reason in Reason::ALL {
                let count = self.count(route, reason);
                if count > 0 {
                    counts.push(ReadCount {
                        route: route.as_str(),
                        reason: reason.as_str(),
                        count,
                    });
                }
            }
        }
        counts
    }

    /// Reads that the near cache answered.
    pub(crate) fn hits(&self) -> u64 {
        Reason::ALL
            .into_iter()
            .map(|reason| self.count(Route::Cache, reason))
            .sum()
    }

    fn count(&self, route: Route, reason: Reason) -> u64 {
        let place = (route_place(route), place_of(reason));
        let counts = self
            .often
            .all()
            .filter_map(|often| often.reads.get(place.0)?.get(place.1));
        counts.map(|count| count.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn writes(&self) -> u64 {
        let writes = self.often.all().map(|often| often.writes.load(Ordering::Relaxed));
        writes.sum()
    }

    pub(crate) fn staleness_samples(&self) -> u64 {
        self.staleness_samples.load(Ordering::Relaxed)
    }

    pub(crate) fn anomalies(&self) -> Anomalies {
        Anomalies {
            settled_doubts: self.barriers.load(Ordering::Relaxed),
            possibly_lost: self.possibly_lost.load(Ordering::Relaxed),
            unknown_history: self.unknown_history.load(Ordering::Relaxed),
            beyond_primary: self.beyond_primary.load(Ordering::Relaxed),
        }
    }
}
