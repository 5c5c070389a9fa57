//! Says which guarantees a recorded history breaks, and how many of its reads were at risk at all.
//!
//! Pure: it looks at instants and versions only. "Before" always means that one operation had ended when the other
//! began, so operations that overlap never count against the client. A clean report means something only together
//! with the number of reads at risk: reading the primary only, or while no replica lags, is always clean.

mod floors;
mod report;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::Instant;

use self::floors::{Captured, Floors};
pub use self::report::{Report, RouteCounts, Violation, ViolationKind};
use crate::history::{History, Kind, Operation, Outcome, Route};
use crate::{Mark, Samples};

/// Checks a history. `replicas` are the samples of a [`Monitor`](crate::Monitor); without any, no read is known to
/// have been at risk.
#[must_use]
pub fn check(history: &History, replicas: &[Samples]) -> Report {
    let operations = history.operations();
    let mut checker = Checker {
        written: written_versions(operations),
        replicas,
        ..Checker::default()
    };
    checker.check_convention(operations);
    let mut points: Vec<Point> = (0_usize..)
        .zip(operations)
        .flat_map(|(index, operation)| {
            [
                (operation.start, Side::Start, index),
                (operation.end, Side::End, index),
            ]
        })
        .collect();
    // At one instant starts come first: what ended at the very instant at which something began was not before it.
    points.sort_unstable();
    for (_, side, index) in points {
        if let Some(operation) = operations.get(index) {
            match side {
                Side::Start => checker.start(index, operation),
                Side::End => checker.end(index, operation),
            }
        }
    }
    checker.report
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Start,
    End,
}

type Point = (Instant, Side, usize);

/// When each version of each key began to be written, if that may have happened.
fn written_versions(operations: &[Operation]) -> HashMap<(u64, u64), Instant> {
    let mut written = HashMap::new();
    for operation in operations {
        if let Kind::Write {
            key,
            version,
            outcome: Outcome::Acknowledged | Outcome::InDoubt,
        } = operation.kind
        {
            written.entry((key, version)).or_insert(operation.start);
        }
    }
    written
}

#[derive(Default)]
struct Checker<'a> {
    replicas: &'a [Samples],
    written: HashMap<(u64, u64), Instant>,
    sessions: HashMap<u32, Floors>,
    /// What was required when operations began that have not ended yet.
    reads: HashMap<usize, Captured>,
    adoptions: HashMap<usize, Floors>,
    report: Report,
}

impl Checker<'_> {
    fn start(&mut self, index: usize, operation: &Operation) {
        match operation.kind {
            Kind::Read { key, .. } => {
                let captured = self.sessions.entry(operation.session).or_default().capture(key);
                self.reads.insert(index, captured);
            }
            Kind::Adopt { from } => {
                let floors = self.sessions.get(&from).cloned().unwrap_or_default();
                self.adoptions.insert(index, floors);
            }
            Kind::GuaranteesLost => self.sessions.entry(operation.session).or_default().forget(),
            Kind::Write { .. } | Kind::FailedRead { .. } => {}
        }
    }

    fn end(&mut self, index: usize, operation: &Operation) {
        match operation.kind {
            Kind::Write {
                key,
                version,
                outcome,
            } => {
                self.report.count_write(outcome);
                if outcome == Outcome::Acknowledged {
                    self.sessions
                        .entry(operation.session)
                        .or_default()
                        .wrote(key, version);
                }
            }
            Kind::Read {
                key,
                version,
                route,
                mark,
            } => self.end_read(index, operation, key, version, route, mark),
            Kind::FailedRead { .. } => self.report.failed_reads += 1,
            Kind::Adopt { .. } => {
                self.report.adoptions += 1;
                if let Some(floors) = self.adoptions.remove(&index) {
                    self.sessions.entry(operation.session).or_default().adopt(&floors);
                }
            }
            Kind::GuaranteesLost => self.report.guarantees_lost += 1,
        }
    }

    fn end_read(
        &mut self,
        index: usize,
        operation: &Operation,
        key: u64,
        version: Option<u64>,
        route: Route,
        mark: Option<Mark>,
    ) {
        self.report.reads.add(route);
        if let Some(mark) = mark {
            self.report.marked_reads += 1;
            if self
                .replicas
                .iter()
                .any(|replica| replica.surely_behind(mark, operation.start))
            {
                self.report.at_risk.add(route);
            }
        }
        if let Some(version) = version {
            let begun = self.written.get(&(key, version));
            if begun.is_none_or(|begun| *begun > operation.end) {
                self.report.violation(ViolationKind::NeverWritten, operation, 0);
            }
        }
        let seen = version.unwrap_or(0);
        let floors = self.sessions.entry(operation.session).or_default();
        if let Some(required) = self
            .reads
            .remove(&index)
            .filter(|captured| floors.still_require(captured))
        {
            if seen < required.written {
                self.report
                    .violation(ViolationKind::ReadYourWrites, operation, required.written);
            }
            if seen < required.seen {
                self.report
                    .violation(ViolationKind::MonotonicReads, operation, required.seen);
            }
        }
        floors.saw(key, seen);
    }

    /// Versions of a key must grow, one write after the other, and end with one in doubt: else "less" means nothing.
    fn check_convention(&mut self, operations: &[Operation]) {
        let mut writes: HashMap<u64, Vec<(&Operation, u64, Outcome)>> = HashMap::new();
        for operation in operations {
            if let Kind::Write {
                key,
                version,
                outcome,
            } = operation.kind
            {
                writes.entry(key).or_default().push((operation, version, outcome));
            }
        }
        for writes in writes.values_mut() {
            writes.sort_unstable_by_key(|(operation, version, _)| (operation.start, *version));
            let mut last = None;
            for &(operation, version, outcome) in &*writes {
                let (end, least, settled) = last.unwrap_or((operation.start, 1, true));
                if version < least || operation.start < end || !settled {
                    self.report.violation(ViolationKind::Convention, operation, least);
                }
                last = Some((operation.end, version + 1, outcome != Outcome::InDoubt));
            }
        }
    }
}
