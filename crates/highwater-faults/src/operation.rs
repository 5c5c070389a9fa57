//! What the sessions of all processes did and saw.
//!
//! The convention that the verdict rests on is the testkit's: the value of a key is its version, versions of a key grow
//! from 1, they are written one after the other by one task, and after a write whose outcome is not known that key is
//! not written any more. A missing key counts as version 0.

use serde::{Deserialize, Serialize};

use crate::clock::Nanos;

/// A session of one process; the number is unique in the round.
pub(crate) type Session = u64;
/// A key; the number is unique in the round.
pub(crate) type Key = u64;
/// A token on its way from one process to another; the number is unique in the round.
pub(crate) type Ticket = u64;

/// One operation, and between when it took place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Operation {
    #[serde(rename = "s")]
    pub(crate) session: Session,
    #[serde(rename = "b")]
    pub(crate) start: Nanos,
    #[serde(rename = "e")]
    pub(crate) end: Nanos,
    #[serde(rename = "k")]
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// A version was written.
    #[serde(rename = "W")]
    Write {
        key: Key,
        version: u64,
        outcome: Outcome,
        said: Said,
    },
    /// A read was answered; 0 is a missing key.
    #[serde(rename = "R")]
    Read {
        key: Key,
        version: u64,
        route: Route,
        level: Level,
        /// The mark that the read had to cover, when there was exactly one: an index into the process's histories, and
        /// an offset.
        mark: Option<(u32, u64)>,
        said: Said,
    },
    /// A read failed, or its caller went away. Then what was said is what the session says, perhaps of earlier calls.
    #[serde(rename = "F")]
    Failed { said: Said, dropped: bool },
    /// The session's token was taken for another process.
    #[serde(rename = "H")]
    Hand { ticket: Ticket },
    /// The session took over a token. A damaged one says only that it is not known what the session depends on.
    #[serde(rename = "A")]
    Adopt { ticket: Ticket, damaged: bool },
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    #[serde(rename = "+")]
    Acknowledged,
    /// It may or may not have happened, and may still happen.
    #[serde(rename = "?")]
    InDoubt,
    /// It surely did not happen and will not.
    #[serde(rename = "-")]
    Refused,
}

/// Where a reply came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Route {
    #[serde(rename = "c")]
    Cache,
    #[serde(rename = "r")]
    Replica,
    #[serde(rename = "p")]
    Primary,
}

impl Route {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Replica => "replica",
            Self::Primary => "primary",
        }
    }
}

/// What the client said with the reply about the session's marks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Said {
    /// Nothing: they are honoured.
    #[default]
    #[serde(rename = ".")]
    Nothing,
    /// The primary does not know the history of one. Each such reply says so; the marks stay.
    #[serde(rename = "u")]
    Unknown,
    /// A write may have been lost. Said once; the session goes on from where the primary is.
    #[serde(rename = "l")]
    Lost,
    /// The same, of a session that had a write of unknown outcome when it asked.
    #[serde(rename = "d")]
    LostInDoubt,
}

impl Said {
    pub(crate) fn is_loss(self) -> bool {
        matches!(self, Self::Lost | Self::LostInDoubt)
    }

    pub(crate) fn of_session(self, in_doubt: bool) -> Self {
        match self {
            Self::Lost if in_doubt => Self::LostInDoubt,
            said => said,
        }
    }
}

/// The level of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Level {
    #[serde(rename = "P")]
    Primary,
    #[serde(rename = "M")]
    Monotonic,
    #[serde(rename = "R")]
    ReadYourWrites,
    /// A bound in milliseconds.
    #[serde(rename = "B")]
    Bounded(u64),
    #[serde(rename = "E")]
    Eventual,
}

impl Level {
    pub(crate) const NAMES: [&str; 5] = [
        "primary",
        "monotonic",
        "read-your-writes",
        "bounded-staleness",
        "eventual",
    ];

    /// The place among the names.
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Primary => 0,
            Self::Monotonic => 1,
            Self::ReadYourWrites => 2,
            Self::Bounded(_) => 3,
            Self::Eventual => 4,
        }
    }
}
