//! What each level promises, as rules about single reads.

use std::time::{Duration, Instant};

use super::everybody::Demanded as Everybodys;
use super::floors::Captured;
use super::report::ViolationKind;

/// A consistency level, as the checker understands it. Deliberately not the type of `highwater-core`: a checker that
/// shares code with what it checks shares its mistakes.
///
/// Under each of them a read shows only what somebody has begun to write, and writes whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// All reads and writes are as if each happened at one moment between its start and its end: linearizable.
    Primary,
    /// At least what the session wrote, and what it has read.
    Monotonic,
    /// At least what the session wrote.
    ReadYourWrites,
    /// At least what the session wrote, and what anybody had been told was written so long before the read began.
    BoundedStaleness(Duration),
    /// Nothing more, as long as replicas are behind.
    Eventual,
}

/// What a read is held to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    own_writes: bool,
    own_reads: bool,
    /// How long ago a write must have been acknowledged, whoever made it, to be required.
    pub(super) bound: Option<Duration>,
    everybodys_reads: bool,
    /// Reads that begin after this must show whatever has been acknowledged: all nodes had applied it by then.
    pub(super) quiet_since: Option<Instant>,
}

impl Rules {
    /// Those of sessions, without a level: as if each were monotonic.
    pub(super) const SESSIONS: Self = Self {
        own_writes: true,
        own_reads: true,
        bound: None,
        everybodys_reads: false,
        quiet_since: None,
    };

    /// The versions that a read must not fall short of, each with the guarantee that it would break.
    pub(super) fn demands(self, demanded: &Demanded) -> impl Iterator<Item = (ViolationKind, u64)> {
        let Demanded { session, everybody } = *demanded;
        [
            (self.own_writes, ViolationKind::ReadYourWrites, session.written),
            (self.own_reads, ViolationKind::MonotonicReads, session.seen),
            (
                self.bound.is_some(),
                ViolationKind::Overwritten,
                everybody.overwritten,
            ),
            (self.everybodys_reads, ViolationKind::SeenByOthers, everybody.seen),
            (
                everybody.quiet,
                ViolationKind::NotConverged,
                everybody.acknowledged,
            ),
        ]
        .into_iter()
        .filter_map(|(required, kind, version)| required.then_some((kind, version)))
    }

    /// The version that decides whether a read was at risk: it was, if a node that lacks this could have answered it.
    ///
    /// The most that is required of it. Where nothing is, because the level allows any state: the last one that was
    /// acknowledged, since without it nodes differ, and a reply that mixes them is not whole.
    pub(super) fn at_stake(self, demanded: &Demanded) -> u64 {
        self.demands(demanded)
            .map(|(_, version)| version)
            .max()
            .unwrap_or(demanded.everybody.acknowledged)
    }
}

impl From<Level> for Rules {
    fn from(level: Level) -> Self {
        let nothing = Self {
            own_writes: false,
            own_reads: false,
            bound: None,
            everybodys_reads: false,
            quiet_since: None,
        };
        match level {
            // What a session wrote or read is among what anybody was told of and what anybody has seen.
            Level::Primary => Self {
                bound: Some(Duration::ZERO),
                everybodys_reads: true,
                ..nothing
            },
            Level::Monotonic => Self::SESSIONS,
            Level::ReadYourWrites => Self {
                own_writes: true,
                ..nothing
            },
            Level::BoundedStaleness(bound) => Self {
                own_writes: true,
                bound: Some(bound),
                ..nothing
            },
            Level::Eventual => nothing,
        }
    }
}

/// What could be required of a read when it began, under one level or another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Demanded {
    pub(super) session: Captured,
    pub(super) everybody: Everybodys,
}
