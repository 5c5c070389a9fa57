//! The near cache: replies kept in this process, and given out only where they are proven to be fresh enough.
//!
//! A *feed* (`feed`) is a connection to one replica on which every read has its key tracked by the server. Misses
//! are read on it, and when such a key is written, the server says so on it, in order: once a reply on the
//! connection shows offset *x*, every invalidation of a write at or below *x* has come before it. So an entry that
//! no invalidation has removed shows everything up to the last offset that its feed has told, however long ago the
//! entry was read. That is what a hit's proof is; one `INFO` renews it for all entries of the feed at once.
//!
//! What a hit guarantees, and what the cache can't see, is said in `docs/CACHE.md`.

mod feed;
mod feeds;
mod flights;
mod future;
mod layer;
mod lookup;
mod options;
#[cfg(test)]
mod scripted;
mod service;
mod stats;
mod status;
mod store;
mod ttl_only;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use highwater_core::Scope;
use tokio::sync::Notify;

pub(crate) use self::{
    feed::{Feed, FeedLink, FeedWriter, Fill},
    layer::CacheLayer,
    service::{Look, NearCache},
};
use self::{flights::Flights, options::Faults, stats::Stats, store::Store};
pub use self::{
    options::{CacheMode, CacheOptions},
    stats::CacheStats,
    status::{CacheStatus, FeedStatus},
};

/// What feeds and callers share.
#[derive(Debug)]
pub(crate) struct Shared {
    store: Store,
    flights: Flights,
    stats: Stats,
    /// How long an entry is used at most.
    longest: Duration,
    faults: Faults,
    /// There is one feed only.
    alone: AtomicBool,
    /// A feed came up or went down.
    changes: Notify,
}

impl Shared {
    fn new(options: &CacheOptions, scope: &Scope) -> Arc<Self> {
        Arc::new(Self {
            store: Store::new(options.max_bytes, options.max_entry),
            flights: Flights::default(),
            stats: Stats::new(scope),
            longest: options.longest(),
            faults: options.faults,
            alone: AtomicBool::new(false),
            changes: Notify::new(),
        })
    }

    /// A feed came up or went down.
    pub(crate) fn changed(&self) {
        self.changes.notify_one();
    }

    /// A feed's entries are no longer valid. Their room comes back as others take it, or at once where they are
    /// all there is.
    fn flushed(&self) {
        self.stats.flushes(1);
        if self.alone.load(Ordering::Relaxed) {
            self.store.clear();
        }
    }
}
