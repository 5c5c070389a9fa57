//! Where a reply came from, and why.

use std::fmt;

/// Where a reply came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Route {
    /// The near cache.
    Cache,
    /// A replica.
    Replica,
    /// The primary.
    Primary,
}

impl Route {
    /// All routes, in the order in which counters list them.
    pub const ALL: [Self; 3] = [Self::Cache, Self::Replica, Self::Primary];

    /// The name in counters and headers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Replica => "replica",
            Self::Primary => "primary",
        }
    }
}

/// Why a reply came from where it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The node's proof covered the session's marks.
    Covered,
    /// The session depended on nothing.
    NoRequirement,
    /// A replica was waited for, and then its proof covered the marks.
    Waited,
    /// No replica had caught up in time.
    Behind,
    /// The primary's lineage shows that a write of the session may have been lost in a failover.
    PossiblyLost,
    /// The primary does not know the history of a mark.
    UnknownHistory,
    /// No replica could be asked.
    Unhealthy,
    /// The outcome of a write of the session is not known.
    InDoubt,
    /// The consistency level asks for this route.
    Level,
    /// The command is no read that a replica may answer.
    Command,
    /// The client was told to ask only the primary, and to prove nothing.
    PrimaryOnly,
}

impl Reason {
    /// All reasons, in the order in which counters list them.
    pub const ALL: [Self; 11] = [
        Self::Covered,
        Self::NoRequirement,
        Self::Waited,
        Self::Behind,
        Self::PossiblyLost,
        Self::UnknownHistory,
        Self::Unhealthy,
        Self::InDoubt,
        Self::Level,
        Self::Command,
        Self::PrimaryOnly,
    ];

    /// The name in counters and traces.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Covered => "covered",
            Self::NoRequirement => "no_requirement",
            Self::Waited => "waited",
            Self::Behind => "behind",
            Self::PossiblyLost => "possibly_lost",
            Self::UnknownHistory => "unknown_history",
            Self::Unhealthy => "unhealthy",
            Self::InDoubt => "in_doubt",
            Self::Level => "level",
            Self::Command => "command",
            Self::PrimaryOnly => "primary_only",
        }
    }
}

/// How many reads of a session came from where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteCounts {
    /// Reads answered by the near cache.
    pub cache: u32,
    /// Reads answered by replicas.
    pub replica: u32,
    /// Reads answered by the primary.
    pub primary: u32,
}

impl fmt::Display for RouteCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cache={}, replica={}, primary={}",
            self.cache, self.replica, self.primary
        )
    }
}

/// Whether everything that a session depended on is known to be still there.
///
/// The worst that a session has met so far; better comes before worse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Continuity {
    /// Nothing that the session depends on is known to be lost.
    #[default]
    Intact,
    /// The primary does not know a history that the session depends on.
    UnknownHistory,
    /// A write that the session depends on may have been lost in a failover.
    PossiblyLost,
}

impl Continuity {
    /// The name in headers, counters and traces.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Intact => "intact",
            Self::UnknownHistory => "unknown_history",
            Self::PossiblyLost => "possibly_lost",
        }
    }
}
