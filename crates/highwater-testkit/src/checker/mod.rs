//! Says which guarantees a recorded history breaks, and how many of its reads were at risk at all.
//!
//! Pure: it looks at instants and versions only. "Before" always means that one operation had ended when the other
//! began, so operations that overlap never count against the client. A clean report means something only together
//! with the number of reads at risk: reading the primary only, or while no replica lags, is always clean.

mod convention;
mod everybody;
mod floors;
mod level;
#[cfg(test)]
mod level_tests;
mod report;
mod risk;
#[cfg(test)]
mod script;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::Instant;

use self::everybody::Everybody;
use self::floors::Floors;
pub use self::level::Level;
use self::level::{Demanded, Rules};
pub use self::report::{Report, RouteCounts, Violation, ViolationKind};
use self::risk::Risk;
use crate::history::{History, Kind, Operation, Outcome};
use crate::{Samples, Side, sweep};

/// Checks a history for what sessions rely on: their own writes, and reads that never go back. `replicas` are the
/// samples of a [`Monitor`](crate::Monitor); without any, no read is known to have been at risk.
///
/// A read counts as at risk when a replica lacked the mark that the *client* says the session had.
#[must_use]
pub fn check(history: &History, replicas: &[Samples]) -> Report {
    run(history, Rules::SESSIONS, Risk::Marks(replicas))
}

/// A check of a history for what one level promises.
///
/// A read counts as at risk when a replica which could be read lacked a version that the level requires of this very
/// read: had that replica answered, the promise would have been broken. This is known from what the servers say of
/// themselves, and needs nothing from the client. Under [`Level::Eventual`], which requires no version, it lacked the
/// last one that was acknowledged.
///
/// [`Level::BoundedStaleness`] and [`Level::Primary`] are about one primary: not for a history in which a failover lost
/// writes.
#[derive(Debug, Clone)]
#[must_use]
pub struct LevelCheck<'a> {
    rules: Rules,
    primary: Option<&'a Samples>,
    replicas: &'a [Samples],
}

impl<'a> LevelCheck<'a> {
    /// A check that knows nothing of the servers, so that no read is known to have been at risk.
    pub fn of(level: Level) -> Self {
        Self {
            rules: level.into(),
            primary: None,
            replicas: &[],
        }
    }

    /// With the samples of a [`Monitor`](crate::Monitor).
    pub fn nodes(mut self, primary: &'a Samples, replicas: &'a [Samples]) -> Self {
        self.primary = Some(primary);
        self.replicas = replicas;
        self
    }

    /// Every node had applied every acknowledged write by this instant, and none was made after it. Reads that begin
    /// later must show the last version of their key, whatever the level.
    pub fn quiet_since(mut self, instant: Instant) -> Self {
        self.rules.quiet_since = Some(instant);
        self
    }

    /// Checks.
    #[must_use]
    pub fn run(&self, history: &History) -> Report {
        let none = Samples::default();
        let primary = self.primary.unwrap_or(&none);
        run(history, self.rules, Risk::of_versions(primary, self.replicas))
    }
}

fn run(history: &History, rules: Rules, risk: Risk<'_>) -> Report {
    let operations = history.operations();
    let mut checker = Checker {
        rules,
        risk,
        written: convention::written_versions(operations),
        sessions: HashMap::new(),
        everybody: Everybody::default(),
        reads: HashMap::new(),
        adoptions: HashMap::new(),
        report: Report::default(),
    };
    convention::check(operations, &mut checker.report);
    for (side, index, operation) in sweep(operations, |operation| (operation.start, operation.end)) {
        match side {
            Side::Start => checker.start(index, operation),
            Side::End => checker.end(index, operation),
        }
    }
    checker.report
}

struct Checker<'a> {
    rules: Rules,
    risk: Risk<'a>,
    written: HashMap<(u64, u64), Instant>,
    sessions: HashMap<u32, Floors>,
    everybody: Everybody,
    /// What was required when operations began that have not ended yet.
    reads: HashMap<usize, Demanded>,
    adoptions: HashMap<usize, Floors>,
    report: Report,
}

impl Checker<'_> {
    fn start(&mut self, index: usize, operation: &Operation) {
        match operation.kind {
            Kind::Write { .. } => self.risk.write_begins(operation),
            Kind::Read { key, .. } => {
                let demanded = Demanded {
                    session: self.sessions.entry(operation.session).or_default().capture(key),
                    everybody: self.everybody.demand(key, operation.start, self.rules),
                };
                self.reads.insert(index, demanded);
            }
            Kind::Adopt { from } => {
                let floors = self.sessions.get(&from).cloned().unwrap_or_default();
                self.adoptions.insert(index, floors);
            }
            Kind::GuaranteesLost => self.sessions.entry(operation.session).or_default().forget(),
            Kind::FailedRead { .. } => {}
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
                    self.everybody.wrote(key, version, operation.end);
                }
            }
            Kind::Read { .. } => self.end_read(index, operation),
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

    fn end_read(&mut self, index: usize, operation: &Operation) {
        let Kind::Read {
            key,
            version,
            newest,
            route,
            mark,
        } = operation.kind
        else {
            return;
        };
        let Some(demanded) = self.reads.remove(&index) else {
            return;
        };
        self.report.reads.add(route);
        self.report.marked_reads += u64::from(mark.is_some());
        if self.risk.threatens(operation, key, mark, self.rules, &demanded) {
            self.report.at_risk.add(route);
        }
        if version != newest {
            self.report
                .violation(ViolationKind::Torn, operation, newest.unwrap_or(0));
        }
        let invented = |version: u64| {
            let begun = self.written.get(&(key, version));
            begun.is_none_or(|begun| *begun > operation.end)
        };
        if [version, newest].into_iter().flatten().any(invented) {
            self.report.violation(ViolationKind::NeverWritten, operation, 0);
        }
        let seen = version.unwrap_or(0);
        let floors = self.sessions.entry(operation.session).or_default();
        if floors.still_require(&demanded.session) {
            for (kind, required) in self.rules.demands(&demanded) {
                if seen < required {
                    self.report.violation(kind, operation, required);
                }
            }
        }
        // An invented version is one fault, and not a fault of all reads after it.
        if version.is_none_or(|version| self.written.contains_key(&(key, version))) {
            floors.saw(key, seen);
            self.everybody.saw(key, seen);
        }
    }
}
