//! Counters of what was routed where, and why.

use std::sync::atomic::{AtomicU64, Ordering};

use highwater_core::{Coverage, Reason, Route};

/// Counts since the client was made.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    reads: [[AtomicU64; Reason::ALL.len()]; Route::ALL.len()],
    writes: AtomicU64,
    barriers: AtomicU64,
    possibly_lost: AtomicU64,
    unknown_history: AtomicU64,
    beyond_primary: AtomicU64,
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

impl Counters {
    pub(super) fn count_read(&self, route: Route, reason: Reason) {
        let place = |found: Option<usize>| found.unwrap_or_default();
        let route = place(Route::ALL.iter().position(|other| *other == route));
        let reason = place(Reason::ALL.iter().position(|other| *other == reason));
        if let Some(count) = self.reads.get(route).and_then(|reasons| reasons.get(reason)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn count_write(&self) {
        self.writes.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_barrier(&self) {
        self.barriers.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_unmet(&self, coverage: Coverage) {
        let count = match coverage {
            Coverage::PossiblyLost => &self.possibly_lost,
            Coverage::Unknown => &self.unknown_history,
            Coverage::Behind | Coverage::Covered => &self.beyond_primary,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Reads by route and reason, those that occurred.
    pub(crate) fn reads(&self) -> Vec<ReadCount> {
        let mut counts = Vec::new();
        for (route, reasons) in Route::ALL.iter().zip(&self.reads) {
            for (reason, count) in Reason::ALL.iter().zip(reasons) {
                let count = count.load(Ordering::Relaxed);
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

    pub(crate) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
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
