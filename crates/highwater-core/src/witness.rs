//! What one connection's samples prove, in the order in which they came over the wire.

use crate::{History, Progress, Role};

const NO_HISTORY: History = History::from_bytes([0; 20]);

/// Where a node is that has not said so: it covers nothing.
const UNKNOWN: Progress = Progress {
    role: Role::Replica,
    history: NO_HISTORY,
    ancestor: None,
    applied: 0,
    link_up: false,
    read_only: true,
};

/// Binds progress to replies on one connection (law 3 of the protocol facts). It is told of every `INFO` reply,
/// null push and end of a flush in wire order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Witness {
    /// The connection has tracking on: when the data are replaced, a null push says so.
    tracking: bool,
    /// The flush's leading sample, until a null push voids it.
    leading: Option<Progress>,
    /// The connection's last sample, and whether a null push has come since.
    previous: Progress,
    null_since: bool,
    /// Counts null pushes.
    nulls: u64,
}

/// What had come before a reply, for the flush's trailing sample to complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Replied {
    leading: Option<Progress>,
    nulls: u64,
}

/// Two histories share everything below an offset; for [`Edges::learn`](crate::Edges::learn).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Edge {
    /// The younger history.
    pub child: History,
    /// The one that it grew out of.
    pub parent: History,
    /// The first offset that is not shared.
    pub fork: u64,
}

impl Witness {
    /// For a connection whose handshake brought this sample, if it brought one.
    #[must_use]
    pub fn new(first: Option<Progress>, tracking: bool) -> Self {
        Self {
            tracking,
            leading: None,
            previous: first.unwrap_or(UNKNOWN),
            null_since: false,
            nulls: 0,
        }
    }

    /// The data were replaced (or flushed): nothing that `INFO` said before holds for replies after this.
    pub fn null_push(&mut self) {
        self.leading = None;
        self.null_since = true;
        self.nulls += 1;
    }

    /// A flush's leading `INFO` was answered; `None` when it was refused. [`observe`](Self::observe) comes after it.
    pub fn lead(&mut self, progress: Option<Progress>) {
        self.leading = progress;
    }

    /// A proof belongs to its flush (law 4: what was reached is never remembered).
    pub fn end_flush(&mut self) {
        self.leading = None;
    }

    /// The lower bound of a reply that comes now.
    #[must_use]
    pub fn lower_bound(&self) -> Option<Progress> {
        self.leading
    }

    /// What to keep of a reply that comes now, if a trailing sample is to complete its proof.
    #[must_use]
    pub fn replied(&self) -> Replied {
        Replied {
            leading: self.leading,
            nulls: self.nulls,
        }
    }

    /// Both bounds of a reply, the upper one being this trailing sample.
    #[must_use]
    pub fn bounds(&self, replied: &Replied, trailing: Option<&Progress>) -> Option<(Progress, Progress)> {
        match (replied.leading, trailing) {
            (Some(low), Some(high))
                if replied.nulls == self.nulls
                    && low.history == high.history
                    && low.applied <= high.applied =>
            {
                Some((low, *high))
            }
            _ => None,
        }
    }

    /// True when this sample, which comes after replies, proves what they show: the node was the primary of this history
    /// from the previous sample on. Not so when the ID has changed, also over the same data: the node can have been a
    /// replica in between, and behind. To be asked before [`observe`](Self::observe).
    #[must_use]
    pub fn proves(&self, progress: &Progress) -> bool {
        let both = self.previous.role == Role::Primary && progress.role == Role::Primary;
        both && self.previous.history == progress.history
    }

    /// True when this sample can't be of the server that gave the one before: within one history, a primary's offset
    /// only grows. (A replica's does not: law 4.) To be asked before [`observe`](Self::observe).
    #[must_use]
    pub fn is_contradicted(&self, progress: &Progress) -> bool {
        self.proves(progress) && progress.applied < self.previous.applied
    }

    /// True when this sample is at or past every write that was acknowledged on the connection before it: the node is
    /// a primary, and its data were not replaced since the previous sample. Where there is no tracking, only an
    /// unchanged ID tells that. To be asked before [`observe`](Self::observe).
    #[must_use]
    pub fn marks(&self, progress: &Progress) -> bool {
        progress.role == Role::Primary && (self.proves(progress) || (self.tracking && !self.null_since))
    }

    /// The history that a write which is sent now goes to, as far as is known: where it is unless its mark says better.
    /// That of a node that was no primary when it was last heard of is none (zero): it can't be the replica's, whose
    /// primary is another node, and would vouch for the write.
    #[must_use]
    pub fn history(&self) -> History {
        match self.previous.role {
            Role::Primary => self.previous.history,
            Role::Replica => NO_HISTORY,
        }
    }

    /// What this sample says of histories. A primary whose history changes on a live connection, without a null push, goes
    /// on over the same data (law 6): the old history has ended there, so all that was ever in it is shared. To be asked
    /// before [`observe`](Self::observe), and learnt before anybody judges by the sample.
    #[must_use]
    pub fn edge(&self, progress: &Progress) -> Option<Edge> {
        let primary = self.previous.role == Role::Primary;
        let changed = primary && self.previous.history != progress.history && self.marks(progress);
        changed.then_some(Edge {
            child: progress.history,
            parent: self.previous.history,
            fork: progress.applied + 1,
        })
    }

    /// Takes in a sample.
    pub fn observe(&mut self, progress: Progress) {
        self.previous = progress;
        self.null_since = false;
    }

    /// The last sample.
    #[must_use]
    pub fn previous(&self) -> &Progress {
        &self.previous
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Coverage, Edges, Offset};

    fn progress(role: Role, history: u8, applied: u64) -> Progress {
        Progress {
            role,
            history: History::from_bytes([history; 20]),
            applied,
            ..UNKNOWN
        }
    }

    /// Found by the model: the old primary of the replica's history would vouch for a write that it has never seen.
    #[test]
    fn a_write_is_not_put_into_a_replicas_history() {
        let replica = progress(Role::Replica, 1, 5);
        let mut witness = Witness::new(Some(replica), true);
        let history = witness.history();
        for primary in [1, 2] {
            let primary = progress(Role::Primary, primary, 9);
            let coverage = primary.covers(history, Offset::UNKNOWN, &Edges::default());
            assert_eq!(coverage, Coverage::PossiblyLost);
        }
        // Nothing was replaced, and now it is a primary: that is the write's mark, but nobody's proof, and no edge.
        let promoted = progress(Role::Primary, 2, 6);
        assert!(witness.marks(&promoted) && !witness.proves(&promoted));
        assert_eq!(witness.edge(&promoted), None);
        witness.observe(promoted);
        assert_eq!(witness.history(), promoted.history);
    }

    #[test]
    fn another_history_over_the_same_data_is_an_edge_and_no_proof() {
        let (before, after) = (progress(Role::Primary, 1, 5), progress(Role::Primary, 2, 6));
        for (tracking, null) in [(true, false), (true, true), (false, false)] {
            let mut witness = Witness::new(Some(before), tracking);
            if null {
                witness.null_push();
            }
            let same = tracking && !null;
            assert_eq!(witness.marks(&after), same);
            assert!(!witness.proves(&after));
            let edge = Edge {
                child: after.history,
                parent: before.history,
                fork: 7,
            };
            assert_eq!(witness.edge(&after), same.then_some(edge));
            witness.observe(after);
            assert!(witness.proves(&after), "the next one is sound");
        }
    }
}
