//! What the builder is told of the near cache.

use std::time::Duration;

use crate::defaults;

/// How the near cache is kept valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheMode {
    /// By the servers' invalidations (`CLIENT TRACKING`). Where a server refuses that, the cache stays off, and
    /// [`Client::status`](crate::Client::status) says why.
    #[default]
    Tracking,
    /// By time alone, for servers that refuse tracking. An entry is used for so long at most, and only for
    /// reads whose session depends on nothing newer than what the entry was proven to show when it was
    /// read. So a session still sees its own writes; writes of others show up to so much later.
    TtlOnly(Duration),
}

/// A near cache: how large, and how it is kept valid.
///
/// ```
/// use highwater::{CacheOptions, Client};
///
/// let builder = Client::builder()
///     .primary("redis://127.0.0.1:6379")
///     .cache(CacheOptions::new(64 << 20));
/// # let _ = builder;
/// ```
///
/// What a hit guarantees, and what the cache can't see, is said in `docs/CACHE.md`.
#[derive(Clone, Debug)]
#[must_use]
pub struct CacheOptions {
    pub(crate) max_bytes: u64,
    pub(crate) max_entry: usize,
    pub(crate) max_ttl: Duration,
    pub(crate) mode: CacheMode,
    pub(crate) faults: Faults,
}

/// Guards that tests take out, to see that what they look for is then found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// Invalidations are applied after the replies that follow them.
    pub(crate) late_invalidations: bool,
}

impl CacheOptions {
    /// A cache of at most so many bytes: keys, commands, replies, and about what keeping them costs.
    pub fn new(max_bytes: u64) -> Self {
        Self {
            max_bytes,
            max_entry: defaults::MAX_CACHE_ENTRY,
            max_ttl: defaults::MAX_CACHE_TTL,
            mode: CacheMode::default(),
            faults: Faults::default(),
        }
    }

    /// The most bytes that the replies of one key may take; larger ones are not kept. Default:
    /// [`defaults::MAX_CACHE_ENTRY`].
    pub fn max_entry(mut self, bytes: usize) -> Self {
        self.max_entry = bytes;
        self
    }

    /// How long an entry is used at most, whatever the key's own time to live; of a minute and more, to about a second. Default:
    /// [`defaults::MAX_CACHE_TTL`].
    pub fn max_ttl(mut self, ttl: Duration) -> Self {
        self.max_ttl = ttl;
        self
    }

    /// How entries are kept valid. Default: [`CacheMode::Tracking`].
    pub fn mode(mut self, mode: CacheMode) -> Self {
        self.mode = mode;
        self
    }

    /// Applies invalidations after the replies that follow them on the wire. Only for tests of tests, which must
    /// then find violations.
    #[doc(hidden)]
    pub fn dangerously_invalidate_late(mut self) -> Self {
        self.faults.late_invalidations = true;
        self
    }

    /// The longest that any entry is used.
    pub(crate) fn longest(&self) -> Duration {
        match self.mode {
            CacheMode::Tracking => self.max_ttl,
            CacheMode::TtlOnly(ttl) => self.max_ttl.min(ttl),
        }
    }
}
