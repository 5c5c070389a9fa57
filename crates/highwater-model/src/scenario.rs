//! Scenarios: which servers there are, and how much of what may happen.

use highwater_core::Consistency;

use crate::{cluster::Node, variant::Variant};

/// How often each thing may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Writes of sessions.
    pub writes: u8,
    /// The stream moves without a write.
    pub pings: u8,
    /// Snapshots.
    pub saves: u8,
    /// Processes that are killed and started anew.
    pub restarts: u8,
    /// `REPLICAOF NO ONE`.
    pub promotions: u8,
    /// `REPLICAOF` another node.
    pub follows: u8,
    /// Replicas that are cut off for longer than the backlog lasts.
    pub cuts: u8,
    /// Full resyncs that fail.
    pub failed_syncs: u8,
    /// Backlogs that are freed.
    pub freed_backlogs: u8,
    /// A process takes another node for the primary.
    pub switches: u8,
    /// Tokens that are passed.
    pub tokens: u8,
    /// Tokens that are passed and can't be read.
    pub bad_tokens: u8,
    /// Lost connections.
    pub losses: u8,
    /// Callers that go away.
    pub abandons: u8,
    /// Values that the cache's feed asks for.
    pub fills: u8,
    /// Samples that the cache's feed asks for.
    pub probes: u8,
}

/// A part of the model that can be explored to its end.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// The rule that is broken.
    pub variant: Variant,
    /// Whom each server follows at first.
    pub upstreams: Vec<Option<Node>>,
    /// The replicas are in step at first.
    pub attached: bool,
    /// The level of each process's session.
    pub levels: Vec<Consistency>,
    /// The first process writes, the others only read.
    pub one_writer: bool,
    /// The last process reads, the others only write.
    pub one_reader: bool,
    /// The commands of a flush can be carried out apart.
    pub split_reads: bool,
    /// As [`split_reads`](Self::split_reads), for writes.
    pub split_writes: bool,
    /// Connections to nodes other than the primary last from one read to the next.
    pub lasting: bool,
    /// Replies take their time.
    pub late_replies: bool,
    /// `CLIENT KILL` is allowed.
    pub kill_allowed: bool,
    /// Sessions read at nodes; where not, only from the cache.
    pub plain_reads: bool,
    /// Sessions have as many marks of other deployments as a session can hold.
    pub crowded: bool,
    /// The first process has a cache, fed by this node.
    pub feed: Option<Node>,
    /// How often each thing can happen.
    pub budget: Budget,
    /// How many actions far it is explored; `None`: to its end.
    pub depth: Option<usize>,
    /// What must be seen to happen.
    pub shows: &'static [crate::judge::Event],
}

impl Scenario {
    /// The same, with this client.
    #[must_use]
    pub fn with(&self, variant: Variant) -> Self {
        Self {
            variant,
            ..self.clone()
        }
    }
}
