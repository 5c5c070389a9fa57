//! Which feed a key belongs to: keys are spread over the feeds by hash, and moved when a feed is lost or
//! lags.

use std::{
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use foldhash::fast::RandomState;

use super::feed::{Feed, FeedLink};
use crate::{
    defaults::{FEED_LAG, FEED_LAG_OVER},
    node::Node,
};

/// Parts that move as one, for each feed.
const SLOTS_PER_FEED: usize = 16;

/// The feeds of a client, and what each is responsible for.
#[derive(Debug, Default)]
pub(crate) struct Feeds {
    pub(crate) all: Box<[Arc<Feed>]>,
    /// The feed of each slot, by its place in `all`.
    slots: Box<[AtomicUsize]>,
    hasher: RandomState,
}

impl Feeds {
    /// The hasher is that of the feeds before, so that keys stay where they are.
    pub(crate) fn new(all: Box<[Arc<Feed>]>, hasher: RandomState) -> Self {
        let slots = (0..all.len() * SLOTS_PER_FEED)
            .map(|slot| AtomicUsize::new(slot % all.len()))
            .collect();
        Self { all, slots, hasher }
    }

    /// Feeds for these nodes: those of before, where the node is the same, and new ones. `None` when nothing
    /// changes.
    pub(crate) fn follow(&self, nodes: &[Arc<Node>]) -> Option<Self> {
        let same = |feed: &Arc<Feed>, node: &Arc<Node>| Arc::ptr_eq(&feed.node, node);
        if self.all.len() == nodes.len() && self.all.iter().zip(nodes).all(|(feed, node)| same(feed, node)) {
            return None;
        }
        let all = nodes.iter().map(|node| {
            let before = self.all.iter().find(|feed| same(feed, node));
            before.map_or_else(|| Feed::new(Arc::clone(node)), Arc::clone)
        });
        Some(Self::new(all.collect(), self.hasher.clone()))
    }

    /// The feed that is responsible for a key.
    pub(crate) fn of(&self, key: &[u8]) -> Option<&Arc<Feed>> {
        match &*self.all {
            [only] => Some(only),
            several => {
                let hash = usize::try_from(self.hasher.hash_one(key) >> 16).unwrap_or_default();
                let slot = self.slots.get(hash.checked_rem(self.slots.len())?)?;
                several.get(slot.load(Ordering::Relaxed))
            }
        }
    }

    /// Gives each slot to the feed where it is at home, if that one is fit, and else to another one that is.
    /// Nothing has to be told to readers: entries are valid only in the generation of the feed that they now
    /// ask.
    pub(crate) fn assign(&self) {
        let fit: Vec<usize> = self.fit();
        for (slot, assigned) in self.slots.iter().enumerate() {
            let home = slot % self.all.len().max(1);
            let feed = if fit.is_empty() || fit.contains(&home) {
                home
            } else {
                let place = (slot / self.all.len().max(1)) % fit.len();
                fit.get(place).copied().unwrap_or(home)
            };
            assigned.store(feed, Ordering::Relaxed);
        }
    }

    /// The feeds that are up, and not far behind the best of them.
    fn fit(&self) -> Vec<usize> {
        let up: Vec<(usize, Duration)> = self
            .all
            .iter()
            .enumerate()
            .filter(|(_, feed)| matches!(feed.link(), FeedLink::Up(_)))
            .map(|(place, feed)| (place, behind(feed)))
            .collect();
        let Some(best) = up.iter().map(|(_, behind)| *behind).min() else {
            return Vec::new();
        };
        up.into_iter()
            .filter(|(_, behind)| *behind < FEED_LAG || *behind <= best * FEED_LAG_OVER)
            .map(|(place, _)| place)
            .collect()
    }
}

/// About how long a feed's node is behind.
fn behind(feed: &Feed) -> Duration {
    let Some(sample) = feed.node.hint() else {
        return Duration::ZERO;
    };
    let lag = feed.node.lag().time().unwrap_or_default();
    if sample.progress.link_up {
        lag
    } else {
        // It falls behind for as long as it takes.
        Duration::MAX / 8
    }
}
