//! The cache against scripts of what a feed's connection brings: each order of events that real servers produce only
//! now and then.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use highwater_core::{Edges, History, Offset, Point, Progress, Requirement, Role};
use redis::{PushKind, Value};
use tokio::runtime::Runtime;

use super::{
    CacheOptions, Feed, FeedWriter, Fill, Shared,
    flights::{Join, Waiting},
    lookup::{Found, look_with},
};
use crate::{Client, command::arguments};

const KEY: &[u8] = b"k";
const GET: &[u8] = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";

/// A feed whose connection is the test.
struct Script {
    feed: Arc<Feed>,
    shared: Arc<Shared>,
    writer: FeedWriter,
    _client: Client,
    _runtime: Runtime,
}

fn history() -> History {
    History::from_bytes([7; 20])
}

fn at(applied: u64) -> Progress {
    Progress {
        role: Role::Replica,
        history: history(),
        ancestor: None,
        applied,
        link_up: true,
        read_only: true,
    }
}

fn text(value: &str) -> Value {
    Value::BulkString(value.into())
}

impl Script {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let entered = runtime.enter();
        // Nobody is there: the nodes are only names.
        let client = Client::builder()
            .primary("redis://127.0.0.1:1")
            .replica("redis://127.0.0.1:1")
            .connect_lazy()
            .unwrap();
        drop(entered);
        let router = client.router();
        let feed = Feed::new(Arc::clone(&router.members().replicas[0]));
        let shared = Shared::new(&CacheOptions::new(1 << 20), &router.scope);
        let writer = FeedWriter::new(Arc::clone(&feed), Arc::clone(&shared), false);
        Self {
            feed,
            shared,
            writer,
            _client: client,
            _runtime: runtime,
        }
    }

    /// A caller misses, and a fill is sent.
    fn begin(&self) -> (Fill, Waiting) {
        let Join::Begin(waiting) = self.shared.flights.join(KEY, GET, || None::<()>) else {
            panic!("another fill is under way");
        };
        (Fill::new(&self.shared, KEY, GET, false), waiting)
    }

    /// A whole fill, undisturbed, and the INFO behind it.
    fn fill(&mut self, value: &str, applied: u64) {
        let (fill, _waiting) = self.begin();
        self.writer.opened();
        self.writer.filled(fill, vec![Value::Int(-1), text(value)]);
        self.sampled(applied);
    }

    fn sampled(&mut self, applied: u64) {
        self.writer.sampled(Some(at(applied)), Instant::now());
    }

    fn invalidated(&mut self, keys: &[&str]) {
        let keys = keys.iter().map(|key| text(key)).collect();
        self.writer.pushed(&PushKind::Invalidate, &[Value::Array(keys)]);
    }

    fn replaced(&mut self) {
        self.writer.pushed(&PushKind::Invalidate, &[Value::Nil]);
    }

    /// What a reader gets that has to see all up to `offset`.
    fn read(&self, offset: u64) -> Option<Value> {
        let (store, feed) = (&self.shared.store, &self.feed);
        hit(look_with(
            store,
            feed,
            KEY,
            &arguments(GET),
            covers(offset),
            || {},
        ))
    }

    /// The same, of a reader that is held up between the feed's view and the entry.
    fn read_while(&mut self, offset: u64, between: impl FnOnce(&mut Self)) -> Option<Value> {
        let (shared, feed) = (Arc::clone(&self.shared), Arc::clone(&self.feed));
        hit(look_with(
            &shared.store,
            &feed,
            KEY,
            &arguments(GET),
            covers(offset),
            || {
                between(self);
            },
        ))
    }
}

fn covers(offset: u64) -> impl FnOnce(Option<&Progress>) -> Option<()> {
    move |progress| {
        let point = Point {
            history: history(),
            offset: Offset::at(offset),
        };
        let requirement = Requirement::new([point]);
        let covered = progress.is_some_and(|progress| {
            requirement.coverage(progress, &Edges::default()) == highwater_core::Coverage::Covered
        });
        covered.then_some(())
    }
}

fn hit(found: Found<()>) -> Option<Value> {
    match found {
        Found::Hit(entry, ()) => Some(entry.value()),
        Found::Uncovered | Found::Nothing => None,
    }
}

#[test]
fn an_entry_covers_what_its_feed_has_told_of() {
    let mut script = Script::new();
    script.fill("old", 10);
    assert_eq!(script.read(10), Some(text("old")));
    assert_eq!(script.read(11), None, "not proven");
    // Nothing has been said of the key: it is as it was.
    script.sampled(20);
    assert_eq!(script.read(20), Some(text("old")));
    script.invalidated(&["k"]);
    script.sampled(30);
    assert_eq!(script.read(5), None);
}

/// Mistake 1: the fill's reply is older than the invalidation that came before its end.
#[test]
fn a_fill_that_an_invalidation_overtakes_is_given_out_and_not_kept() {
    // Between PTTL and the reply; between the reply and the INFO.
    for place in 0..2 {
        let mut script = Script::new();
        script.sampled(5);
        let (fill, mut waiting) = script.begin();
        script.writer.opened();
        if place == 0 {
            script.invalidated(&["k"]);
        }
        script.writer.filled(fill, vec![Value::Int(-1), text("old")]);
        if place == 1 {
            script.invalidated(&["other"]);
            script.invalidated(&["k"]);
        }
        script.sampled(20);
        let filled = waiting.try_recv().unwrap();
        assert_eq!(filled.value, text("old"));
        // It shows what the feed had before, and no more is known.
        assert_eq!(filled.lower, Some(at(5)));
        assert_eq!(script.read(0), None, "{place}");
        assert_eq!(script.shared.stats.counts().lost_races, 1);
    }
}

#[test]
fn what_was_written_before_a_fill_began_or_elsewhere_does_it_no_harm() {
    let mut script = Script::new();
    let (fill, mut waiting) = script.begin();
    script.invalidated(&["k"]);
    script.writer.opened();
    script.invalidated(&["other"]);
    script.writer.filled(fill, vec![Value::Int(-1), text("new")]);
    script.sampled(20);
    assert_eq!(waiting.try_recv().unwrap().lower, Some(at(20)));
    assert_eq!(script.read(20), Some(text("new")));
}

/// Mistake 2.
#[test]
fn every_key_of_an_invalidation_counts() {
    for keys in [&["k", "other"][..], &["other", "k"], &["a", "b", "k"]] {
        let mut script = Script::new();
        script.fill("old", 10);
        script.invalidated(keys);
        assert_eq!(script.read(0), None, "{keys:?}");
    }
}

/// Mistakes 2 and 13: all within one instant, for all that the clock can tell.
#[test]
fn a_null_push_ends_all_that_came_before_it_and_nothing_after() {
    let mut script = Script::new();
    script.fill("old", 10);
    script.replaced();
    assert_eq!(script.read(0), None);
    // Data that are older, even.
    script.fill("older", 8);
    assert_eq!(script.read(8), Some(text("older")));
    assert_eq!(script.read(10), None, "what was reached before is no longer");
}

#[test]
fn a_null_push_in_the_middle_of_a_fill_leaves_it_without_a_proof() {
    for place in 0..3 {
        let mut script = Script::new();
        script.sampled(50);
        let (fill, mut waiting) = script.begin();
        if place == 0 {
            script.replaced();
        }
        script.writer.opened();
        if place == 1 {
            script.replaced();
        }
        script.writer.filled(fill, vec![Value::Int(-1), text("old")]);
        if place == 2 {
            script.replaced();
        }
        script.sampled(40);
        let filled = waiting.try_recv().unwrap();
        let untouched = place == 0;
        assert_eq!(filled.lower, untouched.then(|| at(40)), "{place}");
        assert_eq!(script.read(40).is_some(), untouched, "{place}");
    }
}

/// Law 7's reader: the view comes first.
#[test]
fn a_reader_who_is_held_up_gets_nothing_that_the_view_does_not_cover() {
    let mut script = Script::new();
    script.fill("old", 10);
    // The write at 20 is applied in between: had the entry been loaded first, it would have been taken for good
    // up to 20.
    let seen = script.read_while(20, |script| {
        script.invalidated(&["k"]);
        script.sampled(20);
    });
    assert_eq!(seen, None);
    // The data are replaced by older ones in between: what the view covered, they don't.
    script.fill("new", 20);
    let seen = script.read_while(20, |script| {
        script.replaced();
        script.fill("old", 10);
    });
    assert_eq!(seen, None);
}

/// Mistake 5: whatever was lost with the connection, nothing of before is used.
#[test]
fn a_lost_connection_ends_all_entries() {
    let mut script = Script::new();
    script.fill("old", 10);
    let again = FeedWriter::new(Arc::clone(&script.feed), Arc::clone(&script.shared), false);
    drop(std::mem::replace(&mut script.writer, again));
    assert_eq!(script.read(0), None);
    script.sampled(10);
    assert_eq!(script.read(0), None);
    script.fill("new", 20);
    let (fill, mut waiting) = script.begin();
    script.writer.opened();
    script.writer.filled(fill, vec![Value::Int(-1), text("newer")]);
    let Script { writer, .. } = script;
    drop(writer);
    assert!(waiting.try_recv().is_err(), "who waits learns of it");
}

#[test]
fn a_key_that_is_given_up_by_hand_is_not_kept_by_what_is_under_way() {
    let mut script = Script::new();
    script.fill("old", 10);
    let (fill, mut waiting) = {
        script.shared.store.invalidate(KEY);
        script.begin()
    };
    script
        .shared
        .flights
        .give_up(KEY, || script.shared.store.invalidate(KEY));
    // Who comes from now on does not get what was asked for before.
    let joined = script.shared.flights.join(KEY, GET, || None::<()>);
    assert!(matches!(joined, Join::Pass));
    script.writer.opened();
    script.writer.filled(fill, vec![Value::Int(-1), text("old")]);
    script.sampled(20);
    assert!(waiting.try_recv().is_ok());
    assert_eq!(script.read(0), None);
}

#[test]
fn an_entry_lives_as_long_as_its_key_counted_from_the_sending() {
    let mut script = Script::new();
    for (ttl, kept) in [
        (Value::Int(60_000), true),
        (Value::Int(-1), true),
        (Value::Int(-2), true),
        (Value::Int(0), false),
        (Value::Nil, false),
    ] {
        script.replaced();
        let (fill, _waiting) = script.begin();
        script.writer.opened();
        script.writer.filled(fill, vec![ttl.clone(), text("v")]);
        script.sampled(10);
        assert_eq!(script.read(10).is_some(), kept, "{ttl:?}");
    }
    script.replaced();
    let (fill, _waiting) = script.begin();
    // The replies take longer than the key lives.
    std::thread::sleep(Duration::from_millis(3));
    script.writer.opened();
    script.writer.filled(fill, vec![Value::Int(2), text("v")]);
    script.sampled(10);
    assert_eq!(script.read(10), None);
}

#[test]
fn a_progress_that_is_none_of_a_replicas_proves_nothing() {
    for odd in [
        Progress {
            role: Role::Primary,
            ..at(20)
        },
        Progress {
            read_only: false,
            ..at(20)
        },
    ] {
        let mut script = Script::new();
        script.fill("v", 10);
        script.writer.sampled(Some(odd), Instant::now());
        assert_eq!(script.read(5), None);
    }
}
