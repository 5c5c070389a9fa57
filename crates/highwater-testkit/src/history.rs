//! A record of what sessions did and saw, cheap enough for hundreds of thousands of operations.
//!
//! The convention of a recorded workload, which the checker relies on and verifies where it can: the value of a key is
//! its version. Versions of a key start at 1 and grow; they are written one after the other by one session; after a
//! write whose outcome is in doubt that key is not written any more (it could still arrive, after a later one). A
//! missing key counts as version 0.
//!
//! A key may have several parts, which each write sets in one transaction, and each read asks for in one command.

use std::time::Instant;

use crate::Mark;

/// How a write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The client said that it was done.
    Acknowledged,
    /// It may or may not have happened, and may still happen.
    InDoubt,
    /// It surely did not happen and will not.
    Refused,
}

/// Where the client said that a read's reply came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Route {
    /// The local cache.
    Cache,
    /// A replica.
    Replica,
    /// The primary.
    Primary,
    /// The client did not say.
    Unknown,
}

/// What an operation was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A write of a version.
    Write {
        /// The key.
        key: u64,
        /// The version that was written.
        version: u64,
        /// How it ended.
        outcome: Outcome,
    },
    /// A read that was answered.
    Read {
        /// The key.
        key: u64,
        /// The version that was seen, the least one of the parts. `None` is a missing key.
        version: Option<u64>,
        /// The greatest one of the parts: another one only if the read was torn.
        newest: Option<u64>,
        /// Where the answer came from.
        route: Route,
        /// The session's mark when the read began, if it is known: the read had to cover it.
        mark: Option<Mark>,
    },
    /// A read that failed. It promises nothing and breaks nothing, but it is counted.
    FailedRead {
        /// The key.
        key: u64,
    },
    /// The session took over what another one had written and seen, as with a token that is handed on: all that the
    /// other had completed when this began is required of what this session begins after this has ended.
    Adopt {
        /// The other session.
        from: u32,
    },
    /// The client said openly that it can't keep the session's guarantees, as after a failover that lost writes. What
    /// the session had required until now is not required any more.
    GuaranteesLost,
}

/// One operation of one session, with the instants between which it took place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// The session.
    pub session: u32,
    /// What it was.
    pub kind: Kind,
    /// Before it was begun.
    pub start: Instant,
    /// After it had ended.
    pub end: Instant,
}

/// Records operations of one task. Each task has its own, so that recording takes no lock; they are merged into a
/// [`History`] at the end. A session may be spread over many tasks.
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    operations: Vec<Operation>,
}

impl Recorder {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Records an operation that began at `start` and ends now.
    pub fn record(&mut self, session: u32, start: Instant, kind: Kind) {
        self.operations.push(Operation {
            session,
            kind,
            start,
            end: Instant::now(),
        });
    }

    /// Records an operation with both its instants.
    pub fn push(&mut self, operation: Operation) {
        self.operations.push(operation);
    }
}

/// All operations of a run.
#[derive(Debug, Clone, Default)]
pub struct History {
    operations: Vec<Operation>,
}

impl History {
    /// All operations, in no particular order.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Adds what one task has recorded.
    pub fn merge(&mut self, recorder: Recorder) {
        if self.operations.is_empty() {
            self.operations = recorder.operations;
        } else {
            self.operations.extend(recorder.operations);
        }
    }
}

impl FromIterator<Recorder> for History {
    fn from_iter<T: IntoIterator<Item = Recorder>>(recorders: T) -> Self {
        let mut history = Self::default();
        recorders.into_iter().for_each(|recorder| history.merge(recorder));
        history
    }
}

impl FromIterator<Operation> for History {
    fn from_iter<T: IntoIterator<Item = Operation>>(operations: T) -> Self {
        Self {
            operations: operations.into_iter().collect(),
        }
    }
}
