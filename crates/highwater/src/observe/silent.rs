//! Without the feature `metrics`, nothing is recorded and nothing is paid for.
#![allow(
    clippy::unused_self,
    clippy::trivially_copy_pass_by_ref,
    reason = "the same calls as with the feature"
)]

use std::time::Duration;

use highwater_core::{Coverage, Scope};

/// What a client would record.
#[derive(Debug)]
pub(crate) struct Meters;

impl Meters {
    pub(crate) fn new(_: &Scope) -> Self {
        Self
    }
    pub(crate) fn read(&self, _: usize, _: usize) {}
    pub(crate) fn fallback(&self, _: usize) {}
    pub(crate) fn fallback_waits(&self) {}
    pub(crate) fn fallback_refused(&self) {}
    pub(crate) fn write(&self) {}
    pub(crate) fn waited(&self, _: Duration) {}
    pub(crate) fn begun(&self) {}
    pub(crate) fn ended(&self) {}
    pub(crate) fn connection_lost(&self) {}
    pub(crate) fn caller_gone(&self) {}
    pub(crate) fn token_settled(&self) {}
    pub(crate) fn unmet(&self, _: Coverage) {}
    pub(crate) fn staleness_sample(&self) {}
}

/// What would be recorded of one node.
#[derive(Clone, Debug)]
pub(crate) struct NodeMeters;

impl NodeMeters {
    pub(crate) fn new(_: &Scope, _: &impl std::fmt::Display) -> Self {
        Self
    }
    pub(crate) fn up(&self, _: bool) {}
    pub(crate) fn disconnected(&self) {}
    pub(crate) fn lag(&self, _: u64, _: Duration) {}
    pub(crate) fn flushed(&self, _: usize) {}
    pub(crate) fn settled(&self, _: usize) {}
}

/// What would be recorded of the near cache.
#[derive(Debug)]
pub(crate) struct CacheMeters;

impl CacheMeters {
    pub(crate) fn new(_: &Scope) -> Self {
        Self
    }
    pub(crate) fn misses(&self, _: u64) {}
    pub(crate) fn not_covered(&self, _: u64) {}
    pub(crate) fn fills(&self, _: u64) {}
    pub(crate) fn lost_races(&self, _: u64) {}
    pub(crate) fn probes(&self, _: u64) {}
    pub(crate) fn invalidations(&self, _: u64) {}
    pub(crate) fn flushes(&self, _: u64) {}
    pub(crate) fn weighs(&self, _: u64) {}
}
