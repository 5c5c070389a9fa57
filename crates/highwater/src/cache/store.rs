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
use triomphe::ThinArc;

use crate::command::{Arguments, arguments};

/// What the library itself needs for an entry, about: its node, its place in the lists and the table.
const KEY_OVERHEAD: usize = 256;
/// What one reply needs besides its bytes.
const REPLY_OVERHEAD: usize = size_of::<Facts>() + 2 * size_of::<usize>() + 32;
/// Commands with values of up to so many bytes share their memory with the key: about what else the library holds for a key.
const SHARED: usize = 256;
/// How many replies are kept for one key; the oldest goes first.
const MAX_REPLIES: usize = 16;

/// A reply that is kept. Cheap to clone.
///
/// A hit touches memory that is seldom in the processor's caches, and that is most of what it costs. So all that it
/// takes lies in one piece: the facts, the command, as its arguments with the length of each before it, and the value, if
/// it is of the usual kind, a string.
#[derive(Clone, Debug)]
pub(crate) struct Entry(ThinArc<Facts, u8>);

/// What is known of a reply.
#[derive(Debug)]
struct Facts {
    /// Where the command ends.
    value_at: usize,
    /// A value that is no string.
    other: Option<Value>,
    generation: u64,
    expires: Expires,
    upper: (History, u64),
    lower: Option<Box<Progress>>,
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
    /// The reply to a command of this generation: it shows nothing above `upper`, and was proven to show `lower` when it was
    /// read. Where there are no invalidations, nothing else is.
    pub(crate) fn new(
        command: &[u8],
        value: &Value,
        generation: u64,
        upper: (History, u64),
        lower: Option<Progress>,
        expires: Expires,
    ) -> Self {
        let (text, other) = match value {
            Value::BulkString(text) => (text.as_slice(), None),
            other => (&[][..], Some(other.clone())),
        };
        let mut bytes = Vec::with_capacity(command.len() + text.len());
        for argument in arguments(command) {
            bytes.extend_from_slice(&small(argument.len()).to_le_bytes());
            bytes.extend_from_slice(argument);
        }
        let facts = Facts {
            value_at: bytes.len(),
            other,
            generation,
            expires,
            upper,
            lower: lower.map(Box::new),
        };
        bytes.extend_from_slice(text);
        Self(ThinArc::from_header_and_slice(facts, &bytes))
    }

    pub(crate) fn value(&self) -> Value {
        match &self.facts().other {
            Some(value) => value.clone(),
            None => Value::BulkString(
                self.0
                    .slice
                    .get(self.facts().value_at..)
                    .unwrap_or_default()
                    .to_vec(),
            ),
        }
    }

    /// It shows nothing above this: for monotonic reads.
    pub(crate) fn upper(&self) -> (History, u64) {
        self.facts().upper
    }

    /// What it was proven to show when it was read, where that counts.
    pub(crate) fn lower(&self) -> Option<&Progress> {
        self.facts().lower.as_deref()
    }

    pub(crate) fn expires(&self) -> Expires {
        self.facts().expires
    }

    fn facts(&self) -> &Facts {
        &self.0.header.header
    }

    fn command(&self) -> &[u8] {
        self.0.slice.get(..self.facts().value_at).unwrap_or_default()
    }

    fn answers<'a>(&self, mut asked: impl Arguments<'a>) -> bool {
        let mut rest = self.command();
        let same = asked.all(|argument| {
            let Some((len, behind)) = rest.split_first_chunk() else {
                return false;
            };
            rest = behind.get(argument.len()..).unwrap_or_default();
            usize::try_from(u32::from_le_bytes(*len)) == Ok(argument.len()) && behind.starts_with(argument)
        });
        same && rest.is_empty()
    }
}

/// The replies that concern one key: at least one, and all of one generation.
#[derive(Clone, Debug)]
struct Replies {
    newest: Entry,
    /// From the oldest on. Seldom any.
    older: Option<Arc<[Entry]>>,
    weight: u32,
}

/// A key: the place in the newest command where it stands. So to compare it brings the value into the processor's caches.
///
/// The library goes on holding the keys of entries that it has dropped, some of them for long. So only what is small lies
/// together ([`SHARED`]).
#[derive(Clone, Debug)]
enum Key {
    In(Entry, Range<u32>),
    Alone(Box<[u8]>),
}

impl Key {
    fn in_entry(key: &[u8], entry: &Entry) -> Self {
        let shared = entry.0.slice.len() <= SHARED && entry.facts().other.is_none();
        shared
            .then(|| Self::place_of(key, entry))
            .flatten()
            .map_or_else(|| Self::Alone(key.into()), |place| Self::In(entry.clone(), place))
    }

    fn place_of(key: &[u8], entry: &Entry) -> Option<Range<u32>> {
        let at = memmem::find(entry.command(), key)?;
        Some(u32::try_from(at).ok()?..u32::try_from(at + key.len()).ok()?)
    }

    fn len(&self) -> usize {
        let bytes: &[u8] = self.borrow();
        bytes.len()
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        match self {
            Self::In(entry, place) => entry
                .0
                .slice
                .get(place.start as usize..place.end as usize)
                .unwrap_or_default(),
            Self::Alone(key) => key,
        }
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
                .weigher(|key: &Key, replies: &Replies| {
                    small(key.len() + KEY_OVERHEAD).saturating_add(replies.weight)
                })
                .build_with_hasher(RandomState::default()),
            max_entry,
            oversized: AtomicU64::new(0),
            clock: Clock::new(),
        }
    }

    /// The reply to a command of this generation, whether or not it has expired.
    pub(crate) fn get<'a>(&self, key: &[u8], command: &impl Arguments<'a>, generation: u64) -> Option<Entry> {
        let replies = self.kept.get(key)?;
        if replies.newest.facts().generation != generation {
            return None;
        }
        if replies.newest.answers(command.clone()) {
            return Some(replies.newest);
        }
        replies
            .older?
            .iter()
            .find(|entry| entry.answers(command.clone()))
            .cloned()
    }

    /// Keeps a reply, with those of the same key and generation that are there. One that is too large is not
    /// kept, nor is the one that it would have replaced.
    pub(crate) fn insert(&self, key: &[u8], entry: Entry) {
        let own = weight_of(&entry);
        if own > self.max_entry {
            self.oversized.fetch_add(1, Ordering::Relaxed);
            self.invalidate(key);
            return;
        }
        let mut older: Vec<_> = match self.kept.get(key) {
            // Those of another generation are another feed's: whether they are still valid is not ours to say.
            Some(replies) if replies.newest.facts().generation == entry.facts().generation => {
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
            weight: small(weight),
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
    let Facts { other, lower, .. } = entry.facts();
    let apart = lower.as_ref().map_or(0, |_| size_of::<Progress>() + 16) + other.as_ref().map_or(0, heap_of);
    REPLY_OVERHEAD + entry.0.slice.len() + apart
}

/// The least that a piece of memory takes.
const LEAST: usize = 32;

/// The bytes that a value holds besides its own place.
fn heap_of(value: &Value) -> usize {
    let all = |items: &[Value]| std::mem::size_of_val(items) + items.iter().map(heap_of).sum::<usize>();
    match value {
        Value::BulkString(bytes) => bytes.capacity().max(LEAST),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text.capacity().max(LEAST),
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

    fn packed(command: &str) -> Vec<u8> {
        let mut words = command.split(' ');
        let mut packed = redis::cmd(words.next().unwrap());
        packed.arg(words.collect::<Vec<_>>()).get_packed_command()
    }

    fn entry_of(generation: u64, command: &str, value: &str) -> Entry {
        Entry::new(
            &packed(command),
            &Value::BulkString(value.into()),
            generation,
            (History::from_bytes([1; 20]), 1),
            None,
            Expires::At(Instant::now() + Duration::from_secs(60)),
        )
    }

    fn entry(command: &str, value: &str) -> Entry {
        entry_of(7, command, value)
    }

    /// Whether the store has the reply to a command.
    fn has(store: &Store, key: &[u8], command: &str, generation: u64) -> bool {
        let asked = command.split(' ').map(str::as_bytes);
        store.get(key, &asked, generation).is_some()
    }

    /// Whether somebody else holds it too.
    fn is_held(entry: &Entry) -> bool {
        ThinArc::strong_count(&entry.0) > 1
    }

    /// Whether it comes to that. The library gives memory back when nobody can look at it any more, in any thread, and
    /// while it is in use.
    fn in_time(store: &Store, condition: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !condition() {
            if Instant::now() >= deadline {
                return false;
            }
            store.insert(b"other", entry("GET other", "1"));
            store.size();
        }
        true
    }

    #[test]
    fn replies_of_one_key_go_together() {
        let store = Store::new(1 << 20, 1 << 16);
        store.insert(b"k", entry("HGET k a", "1"));
        store.insert(b"k", entry("HGET k b", "2"));
        assert!(has(&store, b"k", "HGET k a", 7));
        assert!(has(&store, b"k", "HGET k b", 7));
        assert!(!has(&store, b"k", "HGET k b", 8));
        store.invalidate(b"k");
        assert!(!has(&store, b"k", "HGET k a", 7));
        assert!(!has(&store, b"k", "HGET k b", 7));
    }

    /// A key that stands in its command more than once, one that is a part of another word, and an empty one.
    #[test]
    fn keys_are_found_wherever_they_stand_in_a_command() {
        let store = Store::new(1 << 20, 1 << 16);
        for key in ["k", "GET", "E", ""] {
            let command = format!("GET {key} {key}");
            store.insert(key.as_bytes(), entry(&command, "1"));
            store.insert(key.as_bytes(), entry("HGET other", "2"));
            for command in [command.as_str(), "HGET other"] {
                assert!(has(&store, key.as_bytes(), command, 7), "{key}");
            }
        }
        store.invalidate(b"E");
        assert!(!has(&store, b"E", "GET E E", 7) && has(&store, b"GET", "GET GET GET", 7));
    }

    /// What is replaced is not kept alive by its key.
    #[test]
    fn a_key_holds_on_to_the_newest_reply_only() {
        let store = Store::new(1 << 20, 1 << 16);
        let first = entry("GET k", "1");
        store.insert(b"k", first.clone());
        assert!(is_held(&first));
        store.insert(b"k", entry("GET k", "2"));
        assert!(in_time(&store, || !is_held(&first)));
    }

    /// The library holds on to keys of what has gone, but not to large replies.
    #[test]
    fn what_is_dropped_gives_its_memory_back() {
        let store = Store::new(1 << 20, 1 << 16);
        let mut held = Vec::new();
        for place in 0..200 {
            let key = format!("key:{place}");
            let entry = entry(&format!("GET {key}"), &"v".repeat(20_000));
            held.push(entry.clone());
            store.insert(key.as_bytes(), entry);
            if place % 2 == 0 {
                store.invalidate(key.as_bytes());
            }
        }
        let alive = || held.iter().filter(|held| is_held(held)).count();
        assert!(
            in_time(&store, || alive() * 20_000 <= 1 << 20),
            "{} of 200 replies are in memory",
            alive()
        );
    }

    #[test]
    fn another_generation_takes_nothing_over() {
        let store = Store::new(1 << 20, 1 << 16);
        store.insert(b"k", entry("HGET k a", "1"));
        store.insert(b"k", entry_of(8, "HGET k b", "2"));
        for generation in [7, 8] {
            assert!(!has(&store, b"k", "HGET k a", generation));
        }
        assert!(has(&store, b"k", "HGET k b", 8));
    }

    #[test]
    fn what_is_too_large_is_not_kept_and_replies_of_a_key_are_bounded() {
        let store = Store::new(1 << 20, 4096);
        store.insert(b"k", entry("GET k", "small"));
        store.insert(b"k", entry("GET k", &"x".repeat(5000)));
        assert!(!has(&store, b"k", "GET k", 7));
        assert_eq!(store.oversized(), 1);
        for place in 0..100 {
            store.insert(b"k", entry(&format!("GETRANGE k 0 {place}"), "v"));
            store.insert(b"l", entry(&format!("GETRANGE l 0 {place}"), &"v".repeat(1000)));
        }
        assert!(has(&store, b"k", "GETRANGE k 0 99", 7));
        assert!(!has(&store, b"k", "GETRANGE k 0 10", 7));
        assert!(has(&store, b"l", "GETRANGE l 0 99", 7));
        assert!(!has(&store, b"l", "GETRANGE l 0 90", 7));
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
            store.insert(key.as_bytes(), entry("GET", &"v".repeat(500)));
        }
        let (keys, weight) = store.size();
        assert!(weight <= 1 << 20, "{weight}");
        assert!(keys > 500, "{keys}");
    }
}
