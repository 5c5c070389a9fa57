//! Looking for a reply: the feed's view first, and only then the entry.

use highwater_core::Progress;

use super::{
    feed::{Feed, View},
    store::{Entry, Store},
};
use crate::command::Arguments;

/// What the cache has.
#[derive(Debug)]
pub(crate) enum Found<T> {
    /// A reply that is proven to show enough, and what the one who asks made of that.
    Hit(Entry, T),
    /// One that is not proven to, yet.
    Uncovered,
    Nothing,
}

/// Looks for the reply to a command.
///
/// The order is what a hit's proof rests on. Whatever the view's progress covers had been applied to the store when
/// the view was published, so an entry that is found after that shows it. The other way round, the entry could have
/// been found just before an invalidation of it was applied, and the view just after.
///
/// The generation is the view's as well, never a newer one: data that have been replaced since may be older than what
/// the view's progress covers.
pub(crate) fn look<'a, T>(
    store: &Store,
    feed: &Feed,
    key: &[u8],
    command: &impl Arguments<'a>,
    admits: impl FnOnce(Option<&Progress>) -> Option<T>,
) -> Found<T> {
    look_with(store, feed, key, command, admits, || {})
}

/// As [`look`]; `between` the two loads, tests let the feed move on.
pub(super) fn look_with<'a, T>(
    store: &Store,
    feed: &Feed,
    key: &[u8],
    command: &impl Arguments<'a>,
    admits: impl FnOnce(Option<&Progress>) -> Option<T>,
    between: impl FnOnce(),
) -> Found<T> {
    let View { generation, progress } = feed.view();
    between();
    find(store, key, command, generation, |_| admits(progress.as_ref()))
}

/// Looks for the reply of a generation, and judges it.
pub(super) fn find<'a, T>(
    store: &Store,
    key: &[u8],
    command: &impl Arguments<'a>,
    generation: u64,
    admits: impl FnOnce(&Entry) -> Option<T>,
) -> Found<T> {
    match store.get(key, command, generation) {
        Some(entry) if !store.clock.is_over(entry.expires()) => match admits(&entry) {
            Some(admitted) => Found::Hit(entry, admitted),
            None => Found::Uncovered,
        },
        _ => Found::Nothing,
    }
}
