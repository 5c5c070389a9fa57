//! Which keys a task writes, and which it knows of.

use std::collections::VecDeque;

use fastrand::Rng;

use crate::operation::Key;

/// How many keys are remembered; the oldest is forgotten first.
const CAPACITY: usize = 24;

/// Some keys, the newest last.
#[derive(Debug, Default)]
pub(super) struct Shelf(VecDeque<Key>);

impl Shelf {
    pub(super) fn put(&mut self, key: Key) {
        if self.0.back() == Some(&key) || self.0.contains(&key) {
            return;
        }
        if self.0.len() >= CAPACITY {
            self.0.pop_front();
        }
        self.0.push_back(key);
    }

    pub(super) fn any(&self, random: &mut Rng) -> Option<Key> {
        let place = random.usize(..self.0.len().max(1));
        self.0.get(place).copied()
    }

    /// The newest ones.
    pub(super) fn newest(&self, count: usize) -> impl Iterator<Item = Key> + '_ {
        self.0.iter().rev().take(count).copied()
    }
}

/// A key that a task writes, and the version that it wrote last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    pub(super) key: Key,
    pub(super) version: u64,
}

/// What is written: the version, and now and then so much more that replies come in several pieces.
pub(super) fn value(version: u64, random: &mut Rng) -> String {
    let padding = match random.u32(..20) {
        0 => 6000,
        1..=4 => 300,
        _ => 0,
    };
    format!("{version}:{}", "x".repeat(padding))
}

/// The version that a value says; 0 for a missing key.
pub(super) fn version(value: &redis::Value) -> Option<u64> {
    match value {
        redis::Value::Nil => Some(0),
        redis::Value::BulkString(bytes) => {
            let text = std::str::from_utf8(bytes).ok()?;
            text.split_once(':')?.0.parse().ok()
        }
        _ => None,
    }
}

/// How the keys begin that tell of single writes.
pub(crate) const WITNESSES: &str = "w:";

/// The key that is written together with a version of a key, so that it can be told in the end whether it was lost.
pub(super) fn witness(key: Key, version: u64) -> String {
    format!("{WITNESSES}{key}:{version}")
}

/// Which version of which key a witness is of.
pub(crate) fn witnessed(witness: &str) -> Option<(Key, u64)> {
    let (key, version) = witness.strip_prefix(WITNESSES)?.split_once(':')?;
    Some((key.parse().ok()?, version.parse().ok()?))
}

/// What a key is called at the server.
pub(super) fn name(key: Key) -> String {
    format!("k:{key}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_survive_their_padding() {
        let mut random = Rng::with_seed(1);
        for number in 1..50 {
            let text = value(number, &mut random).into_bytes();
            assert_eq!(version(&redis::Value::BulkString(text)), Some(number));
        }
        assert_eq!(version(&redis::Value::Nil), Some(0));
        assert_eq!(version(&redis::Value::Okay), None);
    }

    #[test]
    fn a_witness_names_its_write() {
        assert_eq!(witnessed(&witness(7, 12)), Some((7, 12)));
        assert_eq!(witnessed("k:7"), None);
        assert_eq!(witnessed("w:7"), None);
    }

    #[test]
    fn a_shelf_forgets_the_oldest() {
        let mut shelf = Shelf::default();
        (0..100).for_each(|key| shelf.put(key));
        shelf.put(99);
        assert_eq!(shelf.newest(2).collect::<Vec<_>>(), [99, 98]);
        assert_eq!(shelf.newest(usize::MAX).count(), CAPACITY);
    }
}
