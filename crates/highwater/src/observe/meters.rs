//! Recording, through the `metrics` facade.
//!
//! Handles are made once and kept: recording is an atomic operation, without a look-up.

use std::{sync::OnceLock, time::Duration};

use highwater_core::{Coverage, Reason, Route, Scope};
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::names;

/// What a client records.
#[derive(Debug)]
pub(crate) struct Meters {
    scope: String,
    /// By route and reason, made when they first occur.
    reads: [[OnceLock<Counter>; Reason::ALL.len()]; Route::ALL.len()],
    fallbacks: [OnceLock<Counter>; Reason::ALL.len()],
    fallback_waits: Counter,
    fallbacks_refused: Counter,
    writes: Counter,
    read_wait: Histogram,
    in_flight: Gauge,
    connection_lost: Counter,
    caller_gone: Counter,
    tokens_settled: Counter,
    possibly_lost: Counter,
    unknown_history: Counter,
    beyond_primary: Counter,
    staleness_samples: Counter,
}

impl Meters {
    pub(crate) fn new(scope: &Scope) -> Self {
        describe();
        let of = |name: &'static str| counter!(name, names::SCOPE => scope.to_string());
        let in_doubt = |cause: &'static str| counter!(names::IN_DOUBT, names::SCOPE => scope.to_string(), names::CAUSE => cause);
        Self {
            scope: scope.to_string(),
            reads: Default::default(),
            fallbacks: Default::default(),
            fallback_waits: of(names::FALLBACK_WAITS),
            fallbacks_refused: of(names::FALLBACKS_REFUSED),
            writes: of(names::WRITES),
            read_wait: histogram!(names::READ_WAIT, names::SCOPE => scope.to_string()),
            in_flight: gauge!(names::IN_FLIGHT, names::SCOPE => scope.to_string()),
            connection_lost: in_doubt("connection_lost"),
            caller_gone: in_doubt("caller_gone"),
            tokens_settled: of(names::TOKENS_SETTLED),
            possibly_lost: of(names::POSSIBLY_LOST),
            unknown_history: of(names::UNKNOWN_HISTORY),
            beyond_primary: of(names::BEYOND_PRIMARY),
            staleness_samples: of(names::STALENESS_SAMPLES),
        }
    }

    /// A read of the route and reason at these places in their lists.
    pub(crate) fn read(&self, route: usize, reason: usize) {
        let (Some(reasons), Some(name)) = (self.reads.get(route), Route::ALL.get(route)) else {
            return;
        };
        if let (Some(count), Some(reason)) = (reasons.get(reason), Reason::ALL.get(reason)) {
            let new = || {
                counter!(names::READS, names::SCOPE => self.scope.clone(),
                    names::ROUTE => name.as_str(), names::REASON => reason.as_str())
            };
            count.get_or_init(new).increment(1);
        }
    }

    /// A read went to the primary for the reason at this place in the list.
    pub(crate) fn fallback(&self, reason: usize) {
        if let (Some(count), Some(reason)) = (self.fallbacks.get(reason), Reason::ALL.get(reason)) {
            let new = || counter!(names::FALLBACKS, names::SCOPE => self.scope.clone(), names::REASON => reason.as_str());
            count.get_or_init(new).increment(1);
        }
    }

    pub(crate) fn fallback_waits(&self) {
        self.fallback_waits.increment(1);
    }

    pub(crate) fn fallback_refused(&self) {
        self.fallbacks_refused.increment(1);
    }

    pub(crate) fn write(&self) {
        self.writes.increment(1);
    }

    pub(crate) fn waited(&self, time: Duration) {
        self.read_wait.record(time.as_secs_f64() * 1e3);
    }

    pub(crate) fn begun(&self) {
        self.in_flight.increment(1.0);
    }

    pub(crate) fn ended(&self) {
        self.in_flight.decrement(1.0);
    }

    pub(crate) fn connection_lost(&self) {
        self.connection_lost.increment(1);
    }

    pub(crate) fn caller_gone(&self) {
        self.caller_gone.increment(1);
    }

    pub(crate) fn token_settled(&self) {
        self.tokens_settled.increment(1);
    }

    pub(crate) fn unmet(&self, coverage: Coverage) {
        match coverage {
            Coverage::PossiblyLost => &self.possibly_lost,
            Coverage::Unknown => &self.unknown_history,
            Coverage::Behind | Coverage::Covered => &self.beyond_primary,
        }
        .increment(1);
    }

    pub(crate) fn staleness_sample(&self) {
        self.staleness_samples.increment(1);
    }
}

/// What is recorded of one node. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct NodeMeters {
    up: Gauge,
    disconnects: Counter,
    lag_bytes: Gauge,
    lag_ms: Gauge,
    flush: Histogram,
    settled: Counter,
}

impl NodeMeters {
    /// Of the node with this address, of a client of this scope.
    pub(crate) fn new(scope: &Scope, address: &impl std::fmt::Display) -> Self {
        let labels = [
            (names::SCOPE, scope.to_string()),
            (names::NODE, address.to_string()),
        ];
        Self {
            up: gauge!(names::NODE_UP, &labels),
            disconnects: counter!(names::DISCONNECTS, &labels),
            lag_bytes: gauge!(names::LAG_BYTES, &labels),
            lag_ms: gauge!(names::LAG_MS, &labels),
            flush: histogram!(names::FLUSH_REQUESTS, &labels),
            settled: counter!(names::WRITES_SETTLED, &labels),
        }
    }

    pub(crate) fn up(&self, up: bool) {
        self.up.set(if up { 1.0 } else { 0.0 });
    }

    pub(crate) fn disconnected(&self) {
        self.disconnects.increment(1);
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge is for people")]
    pub(crate) fn lag(&self, bytes: u64, time: Duration) {
        self.lag_bytes.set(bytes as f64);
        self.lag_ms.set(time.as_secs_f64() * 1e3);
    }

    #[expect(clippy::cast_precision_loss, reason = "never so many")]
    pub(crate) fn flushed(&self, requests: usize) {
        self.flush.record(requests as f64);
    }

    pub(crate) fn settled(&self, writes: usize) {
        self.settled.increment(writes as u64);
    }
}

/// What is recorded of the near cache. Hits are reads of the route `cache`.
#[derive(Debug)]
pub(crate) struct CacheMeters {
    misses: Counter,
    not_covered: Counter,
    fills: Counter,
    lost_races: Counter,
    probes: Counter,
    invalidations: Counter,
    flushes: Counter,
    weight: Gauge,
}

macro_rules! counted {
    ($($name:ident),*) => {
        $(pub(crate) fn $name(&self, count: u64) {
            self.$name.increment(count);
        })*
    };
}

impl CacheMeters {
    pub(crate) fn new(scope: &Scope) -> Self {
        let of = |name: &'static str| counter!(name, names::SCOPE => scope.to_string());
        Self {
            misses: of(names::CACHE_MISSES),
            not_covered: of(names::CACHE_NOT_COVERED),
            fills: of(names::CACHE_FILLS),
            lost_races: of(names::CACHE_LOST_RACES),
            probes: of(names::CACHE_PROBES),
            invalidations: of(names::CACHE_INVALIDATIONS),
            flushes: of(names::CACHE_FLUSHES),
            weight: gauge!(names::CACHE_WEIGHT, names::SCOPE => scope.to_string()),
        }
    }

    counted!(
        misses,
        not_covered,
        fills,
        lost_races,
        probes,
        invalidations,
        flushes
    );

    #[expect(clippy::cast_precision_loss, reason = "a gauge is for people")]
    pub(crate) fn weighs(&self, weight: u64) {
        self.weight.set(weight as f64);
    }
}

/// Tells the recorder what the metrics mean.
fn describe() {
    for metric in super::METRICS {
        match metric.kind {
            super::MetricKind::Counter => metrics::describe_counter!(metric.name, metric.meaning),
            super::MetricKind::Gauge => metrics::describe_gauge!(metric.name, metric.meaning),
            super::MetricKind::Histogram => metrics::describe_histogram!(metric.name, metric.meaning),
        }
    }
}
