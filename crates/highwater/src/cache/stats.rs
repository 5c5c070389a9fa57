//! Counters of the near cache.

use std::sync::atomic::{AtomicU64, Ordering};

use highwater_core::Scope;

use crate::observe::CacheMeters;

/// What the near cache has done since the client was made, and how full it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CacheStats {
    /// Reads that the cache answered.
    pub hits: u64,
    /// Reads that could have been answered from the cache, had it had them.
    pub misses: u64,
    /// Reads that found an entry which was not proven fresh enough in time, and went on to a node.
    pub not_covered: u64,
    /// Replies that were put into the cache.
    pub fills: u64,
    /// Replies that were given out and not kept: their key was written meanwhile.
    pub lost_races: u64,
    /// `INFO`s that were asked on a feed so that its entries could be used.
    pub probes: u64,
    /// Keys that servers told to be no longer valid.
    pub invalidations: u64,
    /// Times that a feed's entries were given up, all of them: its data were replaced, or it was lost.
    pub flushes: u64,
    /// Replies that were too large to be kept.
    pub oversized: u64,
    /// Keys that are kept.
    pub entries: u64,
    /// What they weigh, in bytes: keys, commands, replies, and about what keeping them costs.
    pub weight: u64,
}

macro_rules! counters {
    ($($name:ident),*) => {
        /// The counts.
        #[derive(Debug)]
        pub(crate) struct Stats {
            $($name: AtomicU64,)*
            meters: CacheMeters,
        }

        impl Stats {
            pub(crate) fn new(scope: &Scope) -> Self {
                Self { $($name: AtomicU64::new(0),)* meters: CacheMeters::new(scope) }
            }

            $(pub(crate) fn $name(&self, count: u64) {
                self.$name.fetch_add(count, Ordering::Relaxed);
                self.meters.$name(count);
            })*

            /// The counts, but for those that others keep.
            pub(crate) fn counts(&self) -> CacheStats {
                CacheStats {
                    $($name: self.$name.load(Ordering::Relaxed),)*
                    ..CacheStats::default()
                }
            }
        }
    };
}

counters!(
    misses,
    not_covered,
    fills,
    lost_races,
    probes,
    invalidations,
    flushes
);

impl Stats {
    pub(crate) fn weighs(&self, weight: u64) {
        self.meters.weighs(weight);
    }
}
