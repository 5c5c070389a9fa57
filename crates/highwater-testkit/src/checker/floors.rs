//! The least version of each key that a session may still see.

use std::collections::HashMap;

/// What one session has written and seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Floors {
    written: HashMap<u64, u64>,
    seen: HashMap<u64, u64>,
    /// Counts how often the session's guarantees were lost.
    epoch: u64,
}

/// What was required of a read when it began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Captured {
    pub(super) written: u64,
    pub(super) seen: u64,
    epoch: u64,
}

impl Floors {
    pub(super) fn capture(&self, key: u64) -> Captured {
        let floor = |floors: &HashMap<u64, u64>| floors.get(&key).copied().unwrap_or(0);
        Captured {
            written: floor(&self.written),
            seen: floor(&self.seen),
            epoch: self.epoch,
        }
    }

    /// Whether what a read captured is still required of it: the guarantees were not lost while it ran.
    pub(super) fn still_require(&self, captured: &Captured) -> bool {
        self.epoch == captured.epoch
    }

    pub(super) fn wrote(&mut self, key: u64, version: u64) {
        raise(&mut self.written, key, version);
    }

    pub(super) fn saw(&mut self, key: u64, version: u64) {
        raise(&mut self.seen, key, version);
    }

    pub(super) fn adopt(&mut self, other: &Self) {
        other
            .written
            .iter()
            .for_each(|(key, version)| raise(&mut self.written, *key, *version));
        other
            .seen
            .iter()
            .for_each(|(key, version)| raise(&mut self.seen, *key, *version));
    }

    pub(super) fn forget(&mut self) {
        *self = Self {
            epoch: self.epoch + 1,
            ..Self::default()
        };
    }
}

fn raise(floors: &mut HashMap<u64, u64>, key: u64, version: u64) {
    let floor = floors.entry(key).or_insert(version);
    *floor = version.max(*floor);
}
