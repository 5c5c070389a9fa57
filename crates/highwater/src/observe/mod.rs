//! What a client tells while it works: metrics (with the feature `metrics`), and how often an event may
//! be repeated in the log.
//!
//! `docs/OBSERVABILITY.md` lists all of it; a test compares that list with [`METRICS`] and with what
//! really comes out. Labels are names of scopes, nodes, routes and reasons: never a key or a value.

#[cfg(feature = "metrics")]
mod meters;
#[cfg(not(feature = "metrics"))]
#[path = "silent.rs"]
mod meters;
#[cfg(feature = "metrics")]
mod names;
mod throttle;

#[cfg(feature = "metrics")]
pub use self::names::{METRICS, Metric, MetricKind};
pub(crate) use self::{
    meters::{CacheMeters, Meters, NodeMeters},
    throttle::Throttle,
};
