use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use highwater_core::{Marks, SessionId, TokenCodec};
use moka::{policy::EvictionPolicy, sync::Cache};

use super::{Kept, Revision, SessionStore, StoreError};

/// Sessions in this process's memory: at most so many, those that were used longest ago going first, and each
/// for so long after its last change. Clones share them.
///
/// For one process, or for several with stickiness: a process that does not know a session takes it to be in doubt,
/// but one that knows an older state of it can't tell.
///
/// ```
/// use highwater_http::MemoryStore;
/// use std::time::Duration;
///
/// let store = MemoryStore::new(20_000).time_to_live(Duration::from_secs(3600));
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    capacity: u64,
    sessions: Cache<SessionId, Arc<Kept>, foldhash::quality::RandomState>,
    revisions: Arc<AtomicU64>,
}

impl MemoryStore {
    /// The default bound: 100 000 sessions, of some 300 bytes each.
    pub const DEFAULT_CAPACITY: u64 = 100_000;

    /// At most `capacity` sessions, for as long as a token lives by default.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        Self {
            capacity,
            sessions: sessions(capacity, TokenCodec::DEFAULT_MAX_AGE),
            revisions: Arc::default(),
        }
    }

    /// How long a session is kept after its last change, instead of a day. Shorter than the codec's maximum age
    /// means doubt for those who come back later. Empties the store.
    #[must_use]
    pub fn time_to_live(self, time_to_live: Duration) -> Self {
        Self {
            sessions: sessions(self.capacity, time_to_live),
            ..self
        }
    }

    /// How many sessions there are.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.sessions.run_pending_tasks();
        self.sessions.entry_count()
    }
}

fn sessions(
    capacity: u64,
    time_to_live: Duration,
) -> Cache<SessionId, Arc<Kept>, foldhash::quality::RandomState> {
    Cache::builder()
        .max_capacity(capacity)
        // A year is for ever: moka takes no more than a thousand.
        .time_to_live(time_to_live.min(Duration::from_secs(365 * 24 * 3600)))
        // A new session must get in, whoever is popular.
        .eviction_policy(EvictionPolicy::lru())
        .build_with_hasher(foldhash::quality::RandomState::default())
}

#[async_trait]
impl SessionStore for MemoryStore {
    async fn load(&self, id: SessionId) -> Result<Option<Kept>, StoreError> {
        Ok(self.sessions.get(&id).map(|kept| Kept::clone(&kept)))
    }

    async fn save(&self, id: SessionId, marks: Marks, seen: Option<Revision>) -> Result<Kept, StoreError> {
        let revision = Revision(self.revisions.fetch_add(1, Relaxed));
        let saved = self.sessions.entry(id).and_upsert_with(|entry| {
            let kept = entry.map(moka::Entry::into_value);
            Arc::new(Kept {
                marks: Kept::after(kept.as_deref(), marks, seen),
                revision,
            })
        });
        Ok(Kept::clone(saved.value()))
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new(Self::DEFAULT_CAPACITY)
    }
}

/// Marks say nothing to a log, and there may be many.
impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("sessions", &self.sessions.entry_count())
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}
