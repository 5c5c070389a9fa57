//! The names of all metrics, in one place.

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MetricKind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// A distribution of values.
    Histogram,
}

impl MetricKind {
    /// The name in the documentation.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric that a client records, with the feature `metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// The name.
    pub name: &'static str,
    /// What it is.
    pub kind: MetricKind,
    /// What it counts in.
    pub unit: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub meaning: &'static str,
}

/// The labels.
pub(super) const SCOPE: &str = "scope";
pub(super) const NODE: &str = "node";
pub(super) const ROUTE: &str = "route";
pub(super) const REASON: &str = "reason";
pub(super) const CAUSE: &str = "cause";

macro_rules! metrics {
    ($($constant:ident = $name:literal, $kind:ident, $unit:literal, [$($label:ident),*], $meaning:literal;)*) => {
        $(pub(super) const $constant: &str = $name;)*

        /// Every metric that a client records.
        pub const METRICS: &[Metric] = &[$(
            Metric {
                name: $name,
                kind: MetricKind::$kind,
                unit: $unit,
                labels: &[$($label),*],
                meaning: $meaning,
            },
        )*];
    };
}

metrics! {
    READS = "highwater_reads_total", Counter, "reads", [SCOPE, ROUTE, REASON],
        "Reads that were answered, by where the reply came from and why.";
    WRITES = "highwater_writes_total", Counter, "writes", [SCOPE],
        "Writes that were answered.";
    READ_WAIT = "highwater_read_wait_milliseconds", Histogram, "milliseconds", [SCOPE],
        "How long reads waited for a replica to catch up, those that did.";
    FALLBACKS = "highwater_fallbacks_total", Counter, "reads", [SCOPE, REASON],
        "Reads that went to the primary because no replica could answer them.";
    FALLBACK_WAITS = "highwater_fallback_waits_total", Counter, "reads", [SCOPE],
        "Reads that found no replica and no place at the primary, and waited for either (`max_fallbacks`).";
    FALLBACKS_REFUSED = "highwater_fallbacks_refused_total", Counter, "reads", [SCOPE],
        "Reads that failed because neither came in time.";
    IN_FLIGHT = "highwater_in_flight", Gauge, "requests", [SCOPE],
        "Requests that have been begun and not ended, also those that wait in line.";
    IN_DOUBT = "highwater_writes_in_doubt_total", Counter, "writes", [SCOPE, CAUSE],
        "Writes of which the caller does not know whether they happened: the connection was lost, or the \
         caller went away (`connection_lost`, `caller_gone`).";
    WRITES_SETTLED = "highwater_writes_settled_total", Counter, "writes", [SCOPE, NODE],
        "Writes of lost connections whose sessions know again what to depend on.";
    TOKENS_SETTLED = "highwater_token_doubts_settled_total", Counter, "reads", [SCOPE],
        "Reads of sessions in doubt (a bad token) that a sample of the primary settled.";
    POSSIBLY_LOST = "highwater_possibly_lost_total", Counter, "reads", [SCOPE],
        "Reads that met a write that a failover may have lost.";
    UNKNOWN_HISTORY = "highwater_unknown_history_total", Counter, "reads", [SCOPE],
        "Reads whose history the primary does not know.";
    BEYOND_PRIMARY = "highwater_beyond_primary_total", Counter, "reads", [SCOPE],
        "Reads whose mark lies beyond where the primary has ever been.";
    STALENESS_SAMPLES = "highwater_staleness_samples_total", Counter, "reads", [SCOPE],
        "Reads of bounded staleness that had to wait for a new sample of the primary.";
    NODE_UP = "highwater_node_up", Gauge, "1", [SCOPE, NODE],
        "1 while there is a connection to the node, 0 while there is none.";
    DISCONNECTS = "highwater_disconnects_total", Counter, "connections", [SCOPE, NODE],
        "Connections that ended.";
    LAG_BYTES = "highwater_replica_lag_bytes", Gauge, "bytes", [SCOPE, NODE],
        "Bytes of the primary's stream that a replica lacks, by the last samples of both.";
    LAG_MS = "highwater_replica_lag_milliseconds", Gauge, "milliseconds", [SCOPE, NODE],
        "About how long a replica is behind.";
    FLUSH_REQUESTS = "highwater_flush_requests", Histogram, "requests", [SCOPE, NODE],
        "Requests that one write to the socket carries: they share one proof.";
    CACHE_MISSES = "highwater_cache_misses_total", Counter, "reads", [SCOPE],
        "Reads that the near cache could have answered, had it had them.";
    CACHE_NOT_COVERED = "highwater_cache_not_covered_total", Counter, "reads", [SCOPE],
        "Reads that found an entry which was not proven fresh enough in time, and went on to a node.";
    CACHE_FILLS = "highwater_cache_fills_total", Counter, "replies", [SCOPE],
        "Replies that were put into the near cache.";
    CACHE_LOST_RACES = "highwater_cache_lost_races_total", Counter, "replies", [SCOPE],
        "Replies that were given out and not kept: their key was written meanwhile.";
    CACHE_PROBES = "highwater_cache_probes_total", Counter, "probes", [SCOPE],
        "`INFO`s that were asked on a feed so that its entries could be used.";
    CACHE_INVALIDATIONS = "highwater_cache_invalidations_total", Counter, "keys", [SCOPE],
        "Keys that servers told to be no longer valid.";
    CACHE_FLUSHES = "highwater_cache_flushes_total", Counter, "flushes", [SCOPE],
        "Times that a feed's entries were given up, all of them: its data were replaced, or it was lost.";
    CACHE_WEIGHT = "highwater_cache_weight_bytes", Gauge, "bytes", [SCOPE],
        "What the near cache holds: keys, commands, replies, and about what keeping them costs.";
}
