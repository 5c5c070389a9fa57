//! What all sessions together have written and seen.

use std::collections::HashMap;
use std::time::Instant;

use super::level::Rules;

/// Kept while a history is gone through in the order of time.
#[derive(Debug, Default)]
pub(super) struct Everybody {
    /// When each version was acknowledged. Both rise, as a key's writes follow each other.
    acknowledged: HashMap<u64, Vec<(Instant, u64)>>,
    seen: HashMap<u64, u64>,
}

/// What could be required of a read when it began, whoever wrote or saw it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Demanded {
    /// The last version that anybody was told was written.
    pub(super) acknowledged: u64,
    /// The last that had been for longer than the bound.
    pub(super) overwritten: u64,
    /// The greatest that a read had returned to anybody.
    pub(super) seen: u64,
    /// All nodes had applied whatever was acknowledged.
    pub(super) quiet: bool,
}

impl Everybody {
    pub(super) fn wrote(&mut self, key: u64, version: u64, acknowledged: Instant) {
        self.acknowledged
            .entry(key)
            .or_default()
            .push((acknowledged, version));
    }

    pub(super) fn saw(&mut self, key: u64, version: u64) {
        let seen = self.seen.entry(key).or_default();
        *seen = version.max(*seen);
    }

    /// What a read that begins now can be held to. "Now" is `start`: what comes later has not been told of yet.
    pub(super) fn demand(&self, key: u64, start: Instant, rules: Rules) -> Demanded {
        let acknowledged = self.acknowledged.get(&key).map_or(&[][..], Vec::as_slice);
        let version = |last: Option<&(Instant, u64)>| last.map_or(0, |(_, version)| *version);
        let overwritten = rules.bound.and_then(|bound| {
            let old =
                acknowledged.partition_point(|(at, _)| at.checked_add(bound).is_some_and(|old| old < start));
            acknowledged.get(old.checked_sub(1)?)
        });
        Demanded {
            acknowledged: version(acknowledged.last()),
            overwritten: version(overwritten),
            seen: self.seen.get(&key).copied().unwrap_or(0),
            quiet: rules.quiet_since.is_some_and(|quiet| quiet < start),
        }
    }
}
