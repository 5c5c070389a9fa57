//! The least version of each key that a session may still be shown.

use std::collections::{HashMap, HashSet};

use super::losses::Worth;
use crate::operation::Key;

type Versions = HashMap<Key, u64>;

/// What one session depends on.
#[derive(Debug, Clone, Default)]
pub(super) struct Floors {
    /// What must be shown: acknowledged, and not reported lost since.
    required: Versions,
    /// What may or may not be there: in doubt, or reported possibly lost. What the session is shown of it from then on is
    /// required, since its marks cover it.
    possible: Versions,
    /// What reads at the level `Monotonic` have shown.
    seen: Versions,
    /// Lost writes that it depends on and has not been told of: acknowledged ones, and of unknown outcome.
    lost: HashSet<(Key, u64)>,
    lost_in_doubt: HashSet<(Key, u64)>,
    /// Counts the losses that were reported.
    losses: u64,
    /// How many operations are under way that will report one.
    reporting: u32,
}

/// What was required of a read when it began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Captured {
    pub(super) required: u64,
    pub(super) seen: u64,
    /// What was in doubt, or reported possibly lost.
    possible: u64,
    /// An acknowledged write that the session depends on is lost, or will be.
    pub(super) depends_on_lost: bool,
    losses: u64,
    /// It may be that the session has been told of a loss already.
    reporting: bool,
}

impl Floors {
    pub(super) fn capture(&self, key: Key) -> Captured {
        let of = |versions: &Versions| versions.get(&key).copied().unwrap_or(0);
        Captured {
            required: of(&self.required),
            seen: of(&self.seen),
            possible: of(&self.possible),
            depends_on_lost: !self.lost.is_empty(),
            losses: self.losses,
            reporting: self.reporting > 0,
        }
    }

    /// Whether what was captured is still required: no loss has been reported to the session meanwhile.
    pub(super) fn still_require(&self, captured: &Captured) -> bool {
        !captured.reporting && captured.losses == self.losses
    }

    pub(super) fn wrote(&mut self, key: Key, version: u64) {
        raise(&mut self.required, key, version);
    }

    /// An acknowledged write that the session depends on is not there in the end.
    pub(super) fn depends_on_lost(&mut self, key: Key, version: u64) {
        self.lost.insert((key, version));
    }

    /// The same, of unknown outcome.
    pub(super) fn depends_on_lost_in_doubt(&mut self, key: Key, version: u64) {
        self.lost_in_doubt.insert((key, version));
    }

    /// What it is worth to be told of a loss now.
    pub(super) fn worth_of_a_report(&self, in_doubt: bool) -> Worth {
        if !self.lost.is_empty() {
            Worth::True
        } else if in_doubt || !self.lost_in_doubt.is_empty() {
            Worth::InDoubt
        } else {
            Worth::False
        }
    }

    pub(super) fn may_have_written(&mut self, key: Key, version: u64) {
        raise(&mut self.possible, key, version);
    }

    /// The session was shown this by a reply that covers the marks which it had when it asked. If it is something that
    /// was only possible by then, it is below these marks; if it is later, it may be somebody's write of just now, or stand
    /// in a token that was taken over meanwhile, and says nothing.
    pub(super) fn was_shown(&mut self, key: Key, version: u64, captured: &Captured) {
        if version <= captured.possible.max(captured.required) {
            raise(&mut self.required, key, version);
        }
    }

    pub(super) fn saw(&mut self, key: Key, version: u64) {
        raise(&mut self.seen, key, version);
    }

    /// An operation begins that will report a loss.
    pub(super) fn will_report(&mut self) {
        self.reporting += 1;
    }

    /// A loss has been reported: nothing of before is required any more.
    pub(super) fn reported(&mut self) {
        self.reporting = self.reporting.saturating_sub(1);
        self.losses += 1;
        for (key, version) in self.required.drain() {
            raise(&mut self.possible, key, version);
        }
        self.seen.clear();
        self.lost.clear();
        self.lost_in_doubt.clear();
    }

    /// What a token of this session takes along.
    pub(super) fn handed(&self) -> Self {
        self.clone()
    }

    /// The same, when it is not sure that the token has all of it.
    pub(super) fn weakened(mut self) -> Self {
        self.reported();
        self
    }

    /// Whether no loss has been reported between the other and this.
    pub(super) fn is_as_sure_as(&self, before: &Self) -> bool {
        before.reporting == 0 && self.losses == before.losses
    }

    pub(super) fn adopt(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.required, &other.required),
            (&mut self.possible, &other.possible),
            (&mut self.seen, &other.seen),
        ] {
            theirs
                .iter()
                .for_each(|(key, version)| raise(mine, *key, *version));
        }
        self.lost.extend(&other.lost);
        self.lost_in_doubt.extend(&other.lost_in_doubt);
    }
}

fn raise(versions: &mut Versions, key: Key, version: u64) {
    if version > 0 {
        let floor = versions.entry(key).or_insert(version);
        *floor = version.max(*floor);
    }
}
