//! What is known to the model alone: who depends on which writes, and what a client may not do.

use crate::cluster::{Cluster, Node, Writes};

/// What a client did that it may never do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Violation {
    /// A reply misses a write that the session depends on and that the primary has, and says nothing of it.
    Stale,
    /// A reply misses a lost write that the session depends on, and the loss has not been reported.
    SilentLoss,
    /// Something was reported to be lost, and all of it is there.
    FalseLoss,
    /// A sound mark was taken for one that no server has reached.
    Disbelief,
}

/// What the last step has shown: a model in which none of this happens proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    /// Nothing of note.
    #[default]
    Nothing,
    /// A replica has answered a session that depends on something.
    Served,
    /// A replica has answered while another node lacked a write that the session depends on.
    AtRisk,
    /// A loss was reported to a session that had something to lose.
    Loss,
    /// A history was reported to be unknown.
    Unknown,
    /// The cache has answered a session that depends on something.
    Hit,
    /// Doubt was settled.
    Settled,
    /// A proof was void, or did not cover.
    Refused,
}

/// What one user depends on, as a bystander sees it who knows everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Needs {
    /// Acknowledged writes, one's own and those of merged tokens.
    pub acknowledged: Writes,
    /// Writes whose outcome nobody has been told.
    pub doubtful: Writes,
    /// What was seen, where reads are monotonic.
    pub seen: Writes,
}

impl Needs {
    /// What a read that begins now must show: what was acknowledged, what was seen, and of the writes in doubt those
    /// that a primary has applied.
    pub fn now(&self, cluster: &Cluster) -> Writes {
        let applied = cluster
            .servers
            .iter()
            .filter(|server| server.upstream.is_none())
            .fold(0, |applied, server| applied | server.data);
        self.acknowledged | self.seen | (self.doubtful & applied)
    }

    /// Another user's token was merged.
    pub fn merge(&mut self, other: &Self) {
        self.acknowledged |= other.acknowledged;
        self.doubtful |= other.doubtful;
        self.seen |= other.seen;
    }

    /// A loss was reported by a primary that has this: nothing else is depended on any more.
    pub fn reduce(&mut self, kept: Writes) {
        self.acknowledged &= kept;
        self.doubtful &= kept;
        self.seen &= kept;
    }
}

/// What a reply that misses these writes without a word is, for a client that follows `primary`.
pub(crate) fn silent(cluster: &Cluster, primary: Node, missing: Writes) -> Option<Violation> {
    if missing == 0 {
        None
    } else if missing & cluster.servers[primary].data != 0 {
        Some(Violation::Stale)
    } else {
        Some(Violation::SilentLoss)
    }
}
