//! The rules with one of them broken: each variant must be refuted.

/// What a client does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variant {
    /// Nothing: the rules as they are.
    Sound,
    /// Proves by `ROLE`, which has no history (law 5).
    RoleWithoutHistory,
    /// Admits a replica's reply by what the replica said before (law 4).
    RememberedProgress,
    /// Takes a leading `INFO` for a proof, without MULTI and without looking at pushes (law 3).
    UncheckedPush,
    /// Admits what the primary says without a proof (invariant 1).
    PrimaryExempt,
    /// Learns fork points from replicas (law 6).
    ForkFromReplica,
    /// Takes a write's mark inside its transaction (invariant 2).
    MarkInsideMulti,
    /// Settles doubt by a sample on a new connection, without ending the old one (invariant 3).
    SettledByNewConnection,
    /// Clears a session's marks when one replica has caught up.
    ClearedByOneReplica,
    /// Stores a fill in the caller's task, while invalidations are applied in the reader (invariant 6).
    FillOutsideWireOrder,
    /// Loads the cache's entry before the feed's progress (invariant 6).
    EntryBeforeProgress,
    /// Believes a replica at offset 1 or less.
    BelievesOffsetOne,
    /// Believes a lineage without a backlog.
    BelievesWithoutBacklog,
    /// Settles doubt that came in after the sample was asked for.
    IgnoresClock,
    /// Takes the mark of whatever primary answers, whether the connection's samples are continuous or not.
    MarkAcrossGap,
    /// Takes a trailing sample for a proof of reads although the primary's ID has changed.
    ProofAcrossIds,
    /// Puts a write into the history of the replica that its node was by the last sample.
    WriteInReplicasHistory,
    /// Remembers a read by its lower bound (monotonic reads).
    LowerBoundRemembered,
    /// Keeps the feed's progress when a null push comes.
    ProgressOutlivesData,
    /// Serves entries of another generation than that of the progress it has loaded.
    GenerationUnchecked,
    /// Looks at no replica's proof (invariant 1).
    ProofUnchecked,
    /// Takes a primary's history before its own for shared to its end.
    ForkIgnored,
    /// Takes a write that has gone for none (invariant 5).
    LossUnsaid,
    /// Takes what the primary can't know for covered (invariant 5).
    UnknownCovered,
    /// Gives out replies of writes as they are (invariant 1).
    WritesUnjudged,
    /// Takes a token that can't be read for none (invariant 5).
    BadTokenIgnored,
    /// Forgets what was read (monotonic reads).
    ReadsForgotten,
    /// Forgets a write whose caller goes away (invariants 3 and 9).
    AbandonedForgotten,
    /// Forgets the writes of a lost connection (invariant 3).
    LostForgotten,
    /// Forgets a write that was acknowledged, if its sample did not come (invariant 2).
    UnmarkedForgotten,
    /// Forgets a mark for which there is no room (invariant 8).
    OverflowForgotten,
    /// Refuses what the primary can't honour, and leaves the session as it is (invariant 7).
    UnmetRefused,
}

impl Variant {
    /// All broken ones.
    pub const BROKEN: [Self; 31] = [
        Self::RoleWithoutHistory,
        Self::RememberedProgress,
        Self::UncheckedPush,
        Self::PrimaryExempt,
        Self::ForkFromReplica,
        Self::MarkInsideMulti,
        Self::SettledByNewConnection,
        Self::ClearedByOneReplica,
        Self::FillOutsideWireOrder,
        Self::EntryBeforeProgress,
        Self::BelievesOffsetOne,
        Self::BelievesWithoutBacklog,
        Self::IgnoresClock,
        Self::MarkAcrossGap,
        Self::ProofAcrossIds,
        Self::WriteInReplicasHistory,
        Self::LowerBoundRemembered,
        Self::ProgressOutlivesData,
        Self::GenerationUnchecked,
        Self::ProofUnchecked,
        Self::ForkIgnored,
        Self::LossUnsaid,
        Self::UnknownCovered,
        Self::WritesUnjudged,
        Self::BadTokenIgnored,
        Self::ReadsForgotten,
        Self::AbandonedForgotten,
        Self::LostForgotten,
        Self::UnmarkedForgotten,
        Self::OverflowForgotten,
        Self::UnmetRefused,
    ];
}
