//! Edges: how histories descend from each other.

use std::collections::VecDeque;

use crate::{History, Progress, Role};

/// How many edges are remembered; the oldest is forgotten first (invariant 8).
const CAPACITY: usize = 64;

/// What is known of the descent of histories, learnt from primaries.
///
/// An edge (child, parent, fork) says: both histories share everything below offset `fork`. It is a
/// fact about histories, not about the node that told it, so the largest fork seen for a pair is
/// kept, and along a chain the smallest counts (law 6).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Edges {
    known: VecDeque<Edge>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Edge {
    child: History,
    parent: History,
    fork: u64,
}

impl Edges {
    /// Remembers that `child` shares with `parent` everything below `fork`. True when that was news.
    pub fn learn(&mut self, child: History, parent: History, fork: u64) -> bool {
        if child == parent || child.is_zero() || parent.is_zero() {
            return false;
        }
        // A history has one parent: a server names it when the history begins and never again.
        if let Some(edge) = self.known.iter_mut().find(|e| e.child == child) {
            let news = edge.parent == parent && fork > edge.fork;
            if news {
                edge.fork = fork;
            }
            return news;
        }
        if self.known.len() >= CAPACITY {
            self.known.pop_front();
        }
        self.known.push_back(Edge { child, parent, fork });
        true
    }

    /// Learns the edge that a *primary's* progress shows. A replica's is not taken: its
    /// `second_repl_offset` is no fork point. True when that was news.
    pub fn learn_from(&mut self, progress: &Progress) -> bool {
        match &progress.ancestor {
            Some(ancestor) if progress.role == Role::Primary => {
                self.learn(progress.history, ancestor.history, ancestor.fork)
            }
            _ => false,
        }
    }

    /// The first offset of `ancestor` that `descendant` does not share, along the best known chain;
    /// `None` when no chain is known.
    #[must_use]
    pub fn fork(&self, descendant: History, ancestor: History) -> Option<u64> {
        let mut lowest = u64::MAX;
        let mut at = descendant;
        // A chain can't be longer than what is known; a circle (a lying server) ends here too.
        for _ in 0..self.known.len() {
            let edge = self.known.iter().find(|edge| edge.child == at)?;
            lowest = lowest.min(edge.fork);
            if edge.parent == ancestor {
                return Some(lowest);
            }
            at = edge.parent;
        }
        None
    }

    /// True when a known chain shows `descendant` to descend from `ancestor`.
    #[must_use]
    pub fn descends(&self, descendant: History, ancestor: History) -> bool {
        self.fork(descendant, ancestor).is_some()
    }
}
