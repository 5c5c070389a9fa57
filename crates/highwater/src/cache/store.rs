//! What is kept: replies by Redis key, within a bound on their weight in bytes. The only file that
//! names the cache library.
//!
//! A client has one database, so the key stands for (database, key). All replies that concern one
//! key are one entry here, and go together. They are of one generation: whoever looks says which
//! generation is valid, so that nothing rests on how the library compares times.

use std::{
    borrow::Borrow,
    hash::{Hash, Hasher},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Instant,
};

use foldhash::fast::RandomState;
use highwater_core::{History, Progress};
use memchr::memmem;
use redis::Value;

/// What the library itself needs for an entry, about: its node, its place in the lists and the table.
const KEY_OVERHEAD: usize = 256;
/// What one reply needs besides its bytes.
const REPLY_OVERHEAD: usize = size_of::<Entry>() + 2 * size_of::<usize>() + 32;
/// Commands with values of up to so many bytes share their memory with the key: about what else the library holds for a key.
const SHARED: usize = 256;
/// How many replies are kept for one key; the oldest goes first.
const MAX_REPLIES: usize = 16;

/// A reply that is kept. Cheap to clone.
///
/// A hit touches memory that is seldom in the processor's caches, and that is most of what it costs. So the command
/// and the usual kind of value, a string, lie side by side in one piece of memory, and this around it in the
/// library's own.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The command as it is encoded: every argument with its length. Then the value, if it is a string.
    bytes: Arc<[u8]>,
    /// Where the command ends.
    value_at: usize,
    /// A value that is no string.
    other: Option<Arc<Value>>,
    /// It shows nothing above this: for monotonic reads.
    pub(crate) upper: (History, u64),
    /// What it was proven to show when it was read. Where there are no invalidations, nothing else is.
    pub(crate) lower: Option<Arc<Progress>>,
    pub(crate) expires: Expires,
}

/// Until when an entry is used.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expires {
    /// The key itself expires then.
    At(Instant),
    /// The key does not; the entry is dropped some time then, by the cache's own [`Clock`].
    About(u32),
}

/// What time it is, as far as the cache's own task has said: a look at the real clock is a good part of what a hit costs,
/// and most keys don't expire.
#[derive(Debug)]
pub(crate) struct Clock {
    begun: Instant,
    /// Seconds since then.
    now: AtomicU32,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            begun: Instant::now(),
            now: AtomicU32::new(0),
        }
    }

    /// To be called now and then.
    pub(crate) fn tick(&self) {
        self.now.store(self.seconds_at(Instant::now()), Ordering::Relaxed);
    }

    /// For a key that does not expire.
    pub(crate) fn about(&self, at: Instant) -> Expires {
        Expires::About(self.seconds_at(at))
    }

    pub(crate) fn is_over(&self, expires: Expires) -> bool {
        match expires {
            Expires::At(at) => Instant::now() >= at,
            Expires::About(second) => self.now.load(Ordering::Relaxed) >= second,
        }
    }

    fn seconds_at(&self, at: Instant) -> u32 {
        let seconds = at.saturating_duration_since(self.begun).as_secs();
        u32::try_from(seconds).unwrap_or(u32::MAX)
    }
}

impl Entry {
    pub(crate) fn new(
        command: &[u8],
        value: &Value,
        upper: (History, u64),
        lower: Option<Progress>,
        expires: Expires,
    ) -> Self {
        let (bytes, other) = match value {
            Value::BulkString(value) => ([command, value].concat().into(), None),
            other => (command.into(), Some(Arc::new(other.clone()))),
        };
        Self {
            bytes,
            value_at: command.len(),
            other,
            upper,
            lower: lower.map(Arc::new),
            expires,
        }
    }

    pub(crate) fn value(&self) -> Value {
        match &self.other {
            Some(value) => Value::clone(value),
            None => Value::BulkString(self.bytes.get(self.value_at..).unwrap_or_default().to_vec()),
        }
    }

    fn command(&self) -> &[u8] {
        self.bytes.get(..self.value_at).unwrap_or_default()
    }
}

/// The replies that concern one key: at least one.
#[derive(Clone, Debug)]
struct Replies {
    generation: u64,
    weight: usize,
    newest: Entry,
    /// From the oldest on. Seldom any.
    older: Option<Arc<[Entry]>>,
}

/// A key: the place in the newest command where it stands. So to compare it brings the value into the processor's caches.
///
/// The library goes on holding the keys of entries that it has dropped, some of them for long. So only what is small lies
/// together ([`SHARED`]).
#[derive(Clone, Debug)]
struct Key {
    bytes: Arc<[u8]>,
    place: Range<usize>,
}

impl Key {
    fn in_entry(key: &[u8], entry: &Entry) -> Self {
        let shared = (entry.bytes.len() <= SHARED).then(|| memmem::find(entry.command(), key));
        match shared.flatten() {
            Some(at) => Self {
                bytes: Arc::clone(&entry.bytes),
                place: at..at + key.len(),
            },
            None => Self {
                bytes: key.into(),
                place: 0..key.len(),
            },
        }
    }

    fn len(&self) -> usize {
        self.place.len()
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.bytes.get(self.place.clone()).unwrap_or_default()
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let bytes: &[u8] = self.borrow();
        bytes.hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        let (this, other): (&[u8], &[u8]) = (self.borrow(), other.borrow());
        this == other
    }
}

impl Eq for Key {}

/// The replies that are kept, by key.
#[derive(Debug)]
pub(crate) struct Store {
    kept: moka::sync::Cache<Key, Replies, RandomState>,
    max_entry: usize,
    oversized: AtomicU64,
    pub(crate) clock: Clock,
}

impl Store {
    /// At most `max_bytes` in all, and `max_entry` for the replies of one key.
    pub(crate) fn new(max_bytes: u64, max_entry: usize) -> Self {
        Self {
            kept: moka::sync::Cache::builder()
                .max_capacity(max_bytes)
                .weigher(|key: &Key, replies: &Replies| small(key.len() + KEY_OVERHEAD + replies.weight))
                .build_with_hasher(RandomState::default()),
            max_entry,
            oversized: AtomicU64::new(0),
            clock: Clock::new(),
        }
    }

    /// The reply to a command of this generation, whether or not it has expired.
    pub(crate) fn get(&self, key: &[u8], command: &[u8], generation: u64) -> Option<Entry> {
        let replies = self.kept.get(key)?;
        if replies.generation != generation {
            return None;
        }
        if replies.newest.command() == command {
            return Some(replies.newest);
        }
        replies
            .older?
            .iter()
            .find(|entry| entry.command() == command)
            .cloned()
    }

    /// Keeps a reply, with those of the same key and generation that are there. One that is too large is not
    /// kept, nor is the one that it would have replaced.
    pub(crate) fn insert(&self, key: &[u8], generation: u64, entry: Entry) {
        let own = weight_of(&entry);
        if own > self.max_entry {
            self.oversized.fetch_add(1, Ordering::Relaxed);
            self.invalidate(key);
            return;
        }
        let mut older: Vec<_> = match self.kept.get(key) {
            // Those of another generation are another feed's: whether they are still valid is not ours to say.
            Some(replies) if replies.generation == generation => {
                let before = replies.older.iter().flat_map(|older| older.iter());
                before
                    .chain([&replies.newest])
                    .filter(|other| other.command() != entry.command())
                    .cloned()
                    .collect()
            }
            _ => Vec::new(),
        };
        let mut weight = own + older.iter().map(weight_of).sum::<usize>();
        while !older.is_empty() && (weight > self.max_entry || older.len() >= MAX_REPLIES) {
            weight -= weight_of(&older.remove(0));
        }
        let replies = Replies {
            generation,
            weight,
            newest: entry,
            older: (!older.is_empty()).then(|| older.into()),
        };
        // Or the library would go on with the key that it has, and so with the command and the value around it; it can have
        // one also of an entry that it does not show any more.
        self.kept.invalidate(key);
        self.kept.insert(Key::in_entry(key, &replies.newest), replies);
    }

    /// Drops all replies that concern a key. Who looks afterwards does not find them.
    pub(crate) fn invalidate(&self, key: &[u8]) {
        self.kept.invalidate(key);
    }

    /// Gives back the room of what is no longer valid. Only for the sake of the room: validity goes by
    /// generations.
    pub(crate) fn clear(&self) {
        self.kept.invalidate_all();
    }

    /// How many keys are kept, and what they weigh in bytes.
    pub(crate) fn size(&self) -> (u64, u64) {
        self.kept.run_pending_tasks();
        (self.kept.entry_count(), self.kept.weighted_size())
    }

    /// How many replies were too large to be kept.
    pub(crate) fn oversized(&self) -> u64 {
        self.oversized.load(Ordering::Relaxed)
    }
}

fn small(weight: usize) -> u32 {
    u32::try_from(weight).unwrap_or(u32::MAX)
}

fn weight_of(entry: &Entry) -> usize {
    REPLY_OVERHEAD + entry.bytes.len() + entry.other.as_deref().map_or(0, heap_of)
}

/// The bytes that a value holds besides its own place.
fn heap_of(value: &Value) -> usize {
    let all = |items: &[Value]| std::mem::size_of_val(items) + items.iter().map(heap_of).sum::<usize>();
    match value {
        Value::BulkString(bytes) => bytes.capacity(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text.capacity(),
        Value::Array(items) | Value::Set(items) => all(items),
        Value::Map(pairs) => pairs
            .iter()
            .map(|(key, value)| 2 * size_of::<Value>() + heap_of(key) + heap_of(value))
            .sum(),
        Value::Push { data, .. } => all(data),
        Value::Attribute { data, .. } => heap_of(data),
        _ => size_of::<Value>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn entry(command: &str, value: &str) -> Entry {
        Entry::new(
            command.as_bytes(),
            &Value::BulkString(value.into()),
            (History::from_bytes([1; 20]), 1),
            None,
            Expires::At(Instant::now() + Duration::from_secs(60)),
        )
    }

    /// Whether it comes to that. The library gives memory back when nobody can look at it any more, in any thread, and
    /// while it is in use.
    fn in_time(store: &Store, condition: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !condition() {
            if Instant::now() >= deadline {
                return false;
            }
            store.insert(b"other", 7, entry("GET other", "1"));
            store.size();
        }
        true
    }

    #[test]
    fn replies_of_one_key_go_together() {
        let store = Store::new(1 << 20, 1 << 16);
        store.insert(b"k", 7, entry("HGET k a", "1"));
        store.insert(b"k", 7, entry("HGET k b", "2"));
        assert!(store.get(b"k", b"HGET k a", 7).is_some());
        assert!(store.get(b"k", b"HGET k b", 7).is_some());
        assert!(store.get(b"k", b"HGET k b", 8).is_none());
        store.invalidate(b"k");
        assert!(store.get(b"k", b"HGET k a", 7).is_none());
        assert!(store.get(b"k", b"HGET k b", 7).is_none());
    }

    /// A key that stands in its command more than once, one that is a part of another word, and an empty one.
    #[test]
    fn keys_are_found_wherever_they_stand_in_a_command() {
        let store = Store::new(1 << 20, 1 << 16);
        for key in ["k", "GET", "E", ""] {
            let command = format!("GET {key} {key}");
            store.insert(key.as_bytes(), 7, entry(&command, "1"));
            store.insert(key.as_bytes(), 7, entry("HGET other", "2"));
            for command in [command.as_str(), "HGET other"] {
                assert!(
                    store.get(key.as_bytes(), command.as_bytes(), 7).is_some(),
                    "{key}"
                );
            }
        }
        store.invalidate(b"E");
        assert!(store.get(b"E", b"GET E E", 7).is_none() && store.get(b"GET", b"GET GET GET", 7).is_some());
    }

    /// What is replaced is not kept alive by its key.
    #[test]
    fn a_key_holds_on_to_the_newest_reply_only() {
        let store = Store::new(1 << 20, 1 << 16);
        let first = entry("GET k", "1");
        let held = Arc::downgrade(&first.bytes);
        store.insert(b"k", 7, first);
        assert!(held.upgrade().is_some());
        store.insert(b"k", 7, entry("GET k", "2"));
        assert!(in_time(&store, || held.upgrade().is_none()));
    }

    /// The library holds on to keys of what has gone, but not to large replies.
    #[test]
    fn what_is_dropped_gives_its_memory_back() {
        let store = Store::new(1 << 20, 1 << 16);
        let mut held = Vec::new();
        for place in 0..200 {
            let key = format!("key:{place}");
            let entry = entry(&format!("GET {key}"), &"v".repeat(20_000));
            held.push(Arc::downgrade(&entry.bytes));
            store.insert(key.as_bytes(), 7, entry);
            if place % 2 == 0 {
                store.invalidate(key.as_bytes());
            }
        }
        let alive = || held.iter().filter(|held| held.upgrade().is_some()).count();
        assert!(
            in_time(&store, || alive() * 20_000 <= 1 << 20),
            "{} of 200 replies are in memory",
            alive()
        );
    }

    #[test]
    fn another_generation_takes_nothing_over() {
        let store = Store::new(1 << 20, 1 << 16);
        store.insert(b"k", 7, entry("HGET k a", "1"));
        store.insert(b"k", 8, entry("HGET k b", "2"));
        for generation in [7, 8] {
            assert!(store.get(b"k", b"HGET k a", generation).is_none());
        }
        assert!(store.get(b"k", b"HGET k b", 8).is_some());
    }

    #[test]
    fn what_is_too_large_is_not_kept_and_replies_of_a_key_are_bounded() {
        let store = Store::new(1 << 20, 4096);
        store.insert(b"k", 1, entry("GET k", "small"));
        store.insert(b"k", 1, entry("GET k", &"x".repeat(5000)));
        assert!(store.get(b"k", b"GET k", 1).is_none());
        assert_eq!(store.oversized(), 1);
        for place in 0..100 {
            store.insert(b"k", 1, entry(&format!("GETRANGE k 0 {place}"), "v"));
            store.insert(
                b"l",
                1,
                entry(&format!("GETRANGE l 0 {place}"), &"v".repeat(1000)),
            );
        }
        assert!(store.get(b"k", b"GETRANGE k 0 99", 1).is_some());
        assert!(store.get(b"k", b"GETRANGE k 0 10", 1).is_none());
        assert!(store.get(b"l", b"GETRANGE l 0 99", 1).is_some());
        assert!(store.get(b"l", b"GETRANGE l 0 90", 1).is_none());
        assert!(store.kept.get(&b"l"[..]).unwrap().weight <= 4096);
    }

    #[test]
    fn a_key_that_expires_goes_by_the_real_clock_and_others_by_the_caches_own() {
        let (clock, now) = (Clock::new(), Instant::now());
        assert!(clock.is_over(Expires::At(now)));
        assert!(!clock.is_over(Expires::At(now + Duration::from_secs(60))));
        let (past, later) = (clock.about(now), clock.about(now + Duration::from_secs(60)));
        clock.tick();
        assert!(clock.is_over(past) && !clock.is_over(later));
    }

    #[test]
    fn the_weight_stays_within_its_bound() {
        let store = Store::new(1 << 20, 1 << 16);
        for key in 0..20_000 {
            let key = format!("key:{key}");
            store.insert(key.as_bytes(), 1, entry("GET", &"v".repeat(500)));
        }
        let (keys, weight) = store.size();
        assert!(weight <= 1 << 20, "{weight}");
        assert!(keys > 500, "{keys}");
    }
}
