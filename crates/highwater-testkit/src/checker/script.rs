//! Hand-made histories.

use std::time::{Duration, Instant};

use crate::history::{Kind, Operation, Outcome, Route};
use crate::{Mark, ReplicationId};

/// Histories are written down in milliseconds since a start.
pub(super) struct Script {
    pub(super) zero: Instant,
    pub(super) operations: Vec<Operation>,
}

pub(super) const KEY: u64 = 7;

impl Script {
    pub(super) fn new() -> Self {
        Self {
            zero: Instant::now(),
            operations: Vec::new(),
        }
    }

    pub(super) fn at(&self, millis: u64) -> Instant {
        self.zero + Duration::from_millis(millis)
    }

    pub(super) fn add(mut self, session: u32, start: u64, end: u64, kind: Kind) -> Self {
        let operation = Operation {
            session,
            kind,
            start: self.at(start),
            end: self.at(end),
        };
        self.operations.push(operation);
        self
    }

    pub(super) fn write(self, session: u32, start: u64, end: u64, version: u64) -> Self {
        self.write_ends(session, start, end, version, Outcome::Acknowledged)
    }

    pub(super) fn write_ends(
        self,
        session: u32,
        start: u64,
        end: u64,
        version: u64,
        outcome: Outcome,
    ) -> Self {
        self.add(
            session,
            start,
            end,
            Kind::Write {
                key: KEY,
                version,
                outcome,
            },
        )
    }

    pub(super) fn read(self, session: u32, start: u64, end: u64, version: Option<u64>) -> Self {
        self.read_at(session, start, end, version, Route::Replica, None)
    }

    pub(super) fn read_at(
        self,
        session: u32,
        start: u64,
        end: u64,
        version: Option<u64>,
        route: Route,
        mark: Option<Mark>,
    ) -> Self {
        self.add(
            session,
            start,
            end,
            Kind::Read {
                key: KEY,
                version,
                newest: version,
                route,
                mark,
            },
        )
    }
}

pub(super) fn history(digit: &str) -> ReplicationId {
    digit.repeat(40).parse().unwrap()
}
