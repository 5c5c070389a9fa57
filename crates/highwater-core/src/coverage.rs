//! Whether a progress covers a mark.

use crate::{Edges, History, Offset, Progress, Role};

/// What a node's progress says of a mark. Better comes before worse.
///
/// Only a primary's progress may conclude [`PossiblyLost`](Self::PossiblyLost) or
/// [`Unknown`](Self::Unknown) (invariant 4): what a replica does not know may simply not have
/// reached it yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Coverage {
    /// Everything up to the mark has been applied.
    Covered,
    /// Not proven to have been applied by this node.
    Behind,
    /// The primary does not know the mark's history.
    Unknown,
    /// The primary descends from the mark's history but left it before the mark: the write may
    /// have been lost. Not certainly, since offsets overestimate.
    PossiblyLost,
}

impl Progress {
    /// Whether a node with this progress has applied everything up to `offset` of `history`.
    ///
    /// The rule is law 6 of the protocol facts: equal histories compare offsets; an ancestor's
    /// offset counts only below the fork point. An offset of ∞ ("a write whose place is not
    /// known") is covered by nobody but the primary of that very history, which has by definition
    /// applied every write of it that it acknowledged.
    ///
    /// A replica at offset 1 or less covers nothing: that is what a replica says, under its old
    /// history, while it has thrown away its data for a resync that has failed (measured on Redis
    /// 7.0.15: an empty dataset, served, with the old `master_replid` and `slave_repl_offset:1`).
    ///
    /// The zero history stands for "it is not known which": of that, every primary says "possibly lost".
    #[must_use]
    pub fn covers(&self, history: History, offset: Offset, edges: &Edges) -> Coverage {
        let primary = self.role == Role::Primary;
        if !self.tells_its_place() {
            return Coverage::Behind;
        }
        if history == self.history {
            let covered = offset
                .position()
                .map_or(primary, |position| self.applied >= position);
            return if covered {
                Coverage::Covered
            } else {
                Coverage::Behind
            };
        }
        match self.fork_from(history, edges) {
            Some(fork) => match offset.position() {
                Some(position) if position < fork => {
                    if self.applied >= position {
                        Coverage::Covered
                    } else {
                        Coverage::Behind
                    }
                }
                _ if primary => Coverage::PossiblyLost,
                _ => Coverage::Behind,
            },
            // A write that went to nobody knows which history: it is not in doubt which primary would know it.
            None if primary && history.is_zero() => Coverage::PossiblyLost,
            None if primary => Coverage::Unknown,
            None => Coverage::Behind,
        }
    }

    /// False where `applied` says nothing of the node's data: of a replica at offset 1 or less, which is what a
    /// replica says that has given up its place and has no other yet. It bounds what a reply shows neither from
    /// below (see [`covers`](Self::covers)) nor from above: Redis 6.2.5 says 1 from the beginning of a full resync
    /// on, and serves all the data that it had until that has come.
    #[must_use]
    pub fn tells_its_place(&self) -> bool {
        self.role == Role::Primary || self.applied > 1
    }

    /// The first offset of the ancestor `history` that this node's history does not share, if the
    /// node's lineage or the known edges show it to be an ancestor.
    ///
    /// A node's own `second_repl_offset` can be lower than the true fork (a replica after a partial
    /// resync reports its own offset), never higher, so the largest of what is known counts.
    #[must_use]
    pub fn fork_from(&self, history: History, edges: &Edges) -> Option<u64> {
        let by_edges = edges.fork(self.history, history);
        let by_lineage = self.ancestor.as_ref().and_then(|ancestor| {
            if ancestor.history == history {
                Some(ancestor.fork)
            } else {
                edges
                    .fork(ancestor.history, history)
                    .map(|fork| fork.min(ancestor.fork))
            }
        });
        by_edges.max(by_lineage)
    }
}
