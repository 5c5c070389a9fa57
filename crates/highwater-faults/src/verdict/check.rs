//! Says which promises the operations of a round break.
//!
//! It knows nothing of the client but what callers are told. "Before" always means that one operation had ended when
//! another began, on the clock that all processes share.
//!
//! * A read shows what its session has written and was told is done, and what it has taken over with tokens; at the level
//!   `Monotonic` also what it was shown before. Excused are replies that say themselves that the marks can't be
//!   honoured, and all after a reply that has said that writes may be lost.
//! * A write of unknown outcome is required from when its session was shown it.
//! * Until the first failover, `Primary` shows everything that anybody had been told is done when the read began, and
//!   `BoundedStaleness` all of the bound before that; and nothing is reported lost.
//! * No read shows what nobody wrote.
//! * Once all nodes have one primary's data, no session that depends on a write which is not among them reads anything
//!   without having been told.

use std::collections::HashMap;

use highwater_testkit::{Side, sweep};

use super::{
    floors::{Captured, Floors},
    losses::{Losses, Told, Truth, losses},
};
use crate::{
    clock::Nanos,
    operation::{Key, Kind, Level, Operation, Outcome, Route, Said, Session, Ticket},
};

/// A promise that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Broken {
    /// A read did not show what its session had written, or taken over.
    ReadYourWrites,
    /// A monotonic read went back.
    MonotonicReads,
    /// A read of the primary, or within a bound of staleness, was too old.
    Freshness,
    /// A read showed what nobody had begun to write, or what had been refused.
    NeverWritten,
    /// A loss was reported, and nothing can have been lost.
    FalseAlarm,
    /// A session read on, and was not told that a write which it depends on is lost.
    SilentLoss,
    /// The record itself makes no sense: mend the suite first.
    Convention,
}

/// One operation that breaks a promise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Violation {
    pub(crate) broken: Broken,
    pub(crate) operation: Operation,
    /// The least version that would have been right.
    pub(crate) required: u64,
}

/// What a round's operations come to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    pub(crate) violations: Vec<Violation>,
    pub(crate) counts: Counts,
    /// Where it is known what is there in the end.
    pub(crate) losses: Losses,
}

/// How often what was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Counts {
    pub(crate) writes: u64,
    pub(crate) writes_in_doubt: u64,
    pub(crate) writes_refused: u64,
    pub(crate) reads: u64,
    pub(crate) reads_from_cache: u64,
    pub(crate) reads_failed: u64,
    pub(crate) tokens_taken_over: u64,
    pub(crate) tokens_damaged: u64,
    /// Replies that said that a write may be lost.
    pub(crate) losses_reported: u64,
    /// Replies that said that the primary does not know a history.
    pub(crate) unknown_reported: u64,
}

/// Checks. `first_failover` is when a history may first have ended; `truth` says what is there in the end, if that is
/// known.
pub(crate) fn check(operations: &[Operation], first_failover: Nanos, truth: Option<&Truth>) -> Findings {
    let mut checker = Checker {
        first_failover,
        truth,
        told: Vec::new(),
        written: HashMap::new(),
        acknowledged: HashMap::new(),
        sessions: HashMap::new(),
        reads: HashMap::new(),
        handing: HashMap::new(),
        handed: HashMap::new(),
        last_heard: None,
        findings: Findings::default(),
    };
    checker.learn_writes(operations);
    for (side, place, operation) in sweep(operations, |operation| (operation.start, operation.end)) {
        match side {
            Side::Start => checker.start(place, operation),
            Side::End => checker.end(place, operation),
        }
    }
    if let Some(truth) = truth {
        checker.findings.losses = losses(operations, &checker.told, truth);
    }
    checker.findings
}

struct Checker<'a> {
    first_failover: Nanos,
    truth: Option<&'a Truth>,
    /// Who was told of losses.
    told: Vec<Told>,
    /// When each version began to be written, if that may have happened.
    written: HashMap<(Key, u64), Nanos>,
    /// The versions of each key that were acknowledged, and when, in order.
    acknowledged: HashMap<Key, Vec<(Nanos, u64)>>,
    sessions: HashMap<Session, Floors>,
    /// What was required when operations began that have not ended.
    reads: HashMap<usize, Captured>,
    handing: HashMap<usize, Floors>,
    handed: HashMap<Ticket, Floors>,
    /// The last call of which it was said that marks can't be honoured.
    last_heard: Option<(Session, Nanos)>,
    findings: Findings,
}

impl Operation {
    fn said(&self) -> Said {
        match self.kind {
            Kind::Write { said, .. } | Kind::Read { said, .. } | Kind::Failed { said, .. } => said,
            Kind::Hand { .. } | Kind::Adopt { .. } => Said::Nothing,
        }
    }
}

impl Checker<'_> {
    /// Learns which writes there were, and that they keep to the convention: or else "less" means nothing.
    fn learn_writes(&mut self, operations: &[Operation]) {
        let mut writes: HashMap<Key, Vec<&Operation>> = HashMap::new();
        for operation in operations {
            let Kind::Write {
                key,
                version,
                outcome,
                ..
            } = operation.kind
            else {
                continue;
            };
            if outcome != Outcome::Refused {
                self.written.entry((key, version)).or_insert(operation.start);
            }
            if outcome == Outcome::Acknowledged {
                let ends = self.acknowledged.entry(key).or_default();
                ends.push((operation.end, version));
            }
            writes.entry(key).or_default().push(operation);
        }
        self.acknowledged
            .values_mut()
            .for_each(|ends| ends.sort_unstable());
        for writes in writes.values_mut() {
            writes.sort_unstable_by_key(|operation| operation.start);
            let (mut ended, mut last, mut settled) = (0, 0, true);
            for operation in writes {
                let Kind::Write { version, outcome, .. } = operation.kind else {
                    continue;
                };
                if version <= last || operation.start < ended || !settled {
                    self.violation(Broken::Convention, operation, last + 1);
                }
                (ended, last, settled) = (operation.end, version, outcome != Outcome::InDoubt);
            }
        }
    }

    /// Whether it is known that this write is not there in the end.
    fn is_lost(&self, key: Key, version: u64) -> bool {
        self.truth
            .is_some_and(|truth| !truth.survived.contains(&(key, version)))
    }

    fn violation(&mut self, broken: Broken, operation: &Operation, required: u64) {
        self.findings.violations.push(Violation {
            broken,
            operation: *operation,
            required,
        });
    }

    fn start(&mut self, place: usize, operation: &Operation) {
        let floors = self.sessions.entry(operation.session).or_default();
        match operation.kind {
            Kind::Read { key, .. } => {
                self.reads.insert(place, floors.capture(key));
            }
            Kind::Hand { .. } => {
                self.handing.insert(place, floors.handed());
            }
            Kind::Write { .. } | Kind::Failed { .. } | Kind::Adopt { .. } => {}
        }
        if operation.said().is_loss() {
            floors.will_report();
        }
    }

    fn end(&mut self, place: usize, operation: &Operation) {
        let said = operation.said();
        self.hear(said, operation);
        let lost = match operation.kind {
            Kind::Write { key, version, .. } => self.is_lost(key, version),
            _ => false,
        };
        let counts = &mut self.findings.counts;
        match operation.kind {
            Kind::Write {
                key,
                version,
                outcome,
                ..
            } => {
                let floors = self.sessions.entry(operation.session).or_default();
                match outcome {
                    Outcome::Acknowledged => {
                        counts.writes += 1;
                        floors.wrote(key, version);
                        if lost {
                            floors.depends_on_lost(key, version);
                        }
                    }
                    Outcome::InDoubt => {
                        counts.writes_in_doubt += 1;
                        floors.may_have_written(key, version);
                        if lost {
                            floors.depends_on_lost_in_doubt(key, version);
                        }
                    }
                    Outcome::Refused => counts.writes_refused += 1,
                }
            }
            Kind::Read {
                key,
                version,
                route,
                level,
                ..
            } => {
                counts.reads += 1;
                counts.reads_from_cache += u64::from(route == Route::Cache);
                self.end_read(place, operation, (key, version), route, level, said);
            }
            Kind::Failed { .. } => counts.reads_failed += 1,
            Kind::Hand { ticket } => {
                let floors = self.sessions.entry(operation.session).or_default();
                if let Some(before) = self.handing.remove(&place) {
                    let sure = floors.is_as_sure_as(&before);
                    let handed = if sure { before } else { before.weakened() };
                    self.handed.insert(ticket, handed);
                }
            }
            Kind::Adopt { ticket, damaged } => {
                counts.tokens_taken_over += 1;
                counts.tokens_damaged += u64::from(damaged);
                if let Some(handed) = self.handed.remove(&ticket) {
                    // What a damaged token stood for is found at the primary that the client follows when a read
                    // first asks for it; after a failover that is another one. Until then the doubt travels on.
                    let sure = !damaged || self.first_failover == Nanos::MAX;
                    let handed = if sure { handed } else { handed.weakened() };
                    let floors = self.sessions.entry(operation.session).or_default();
                    floors.adopt(&handed);
                }
            }
        }
    }

    /// Takes note of what a reply says of the session's marks.
    fn hear(&mut self, said: Said, operation: &Operation) {
        if said == Said::Nothing {
            return;
        }
        // A call that reads several keys is several operations, and one reply.
        let call = (operation.session, operation.start);
        let once = u64::from(self.last_heard.replace(call) != Some(call));
        match said {
            Said::Nothing => {}
            Said::Unknown => self.findings.counts.unknown_reported += once,
            Said::Lost | Said::LostInDoubt => {
                self.findings.counts.losses_reported += once;
                let floors = self.sessions.entry(operation.session).or_default();
                // What a session says whose caller has gone may be of an earlier call.
                if once == 1 && !matches!(operation.kind, Kind::Failed { dropped: true, .. }) {
                    self.told.push(Told {
                        session: operation.session,
                        at: operation.end,
                        worth: floors.worth_of_a_report(said == Said::LostInDoubt),
                    });
                }
                floors.reported();
            }
        }
        if operation.end < self.first_failover {
            self.violation(Broken::FalseAlarm, operation, 0);
        }
    }

    fn end_read(
        &mut self,
        place: usize,
        operation: &Operation,
        (key, version): (Key, u64),
        route: Route,
        level: Level,
        said: Said,
    ) {
        if version > 0
            && self
                .written
                .get(&(key, version))
                .is_none_or(|begun| *begun > operation.end)
        {
            self.violation(Broken::NeverWritten, operation, 0);
        }
        let captured = self.reads.remove(&place);
        if level == Level::Eventual {
            return;
        }
        let (settled, lost) = (
            self.truth.is_some_and(|truth| truth.settled <= operation.start),
            self.is_lost(key, version),
        );
        let floors = self.sessions.entry(operation.session).or_default();
        // What was required when it began is still: no loss has been reported meanwhile. If one has been, what the
        // reply shows may be of before.
        let undisturbed = captured.filter(|captured| floors.still_require(captured));
        let covers = match said {
            Said::Nothing => undisturbed.is_some(),
            Said::Lost | Said::LostInDoubt => route == Route::Primary,
            // A reply that says so itself shows what the node has, which need not be what the session depends on.
            Said::Unknown => false,
        };
        if let Some(captured) = captured.filter(|_| covers) {
            floors.was_shown(key, version, &captured);
        }
        let remembered = undisturbed.is_some() && said == Said::Unknown && route == Route::Primary;
        if level == Level::Monotonic && (covers || remembered) {
            floors.saw(key, version);
            if lost && version > 0 {
                floors.depends_on_lost_in_doubt(key, version);
            }
        }
        let required = undisturbed.filter(|_| said == Said::Nothing);
        if let Some(required) = required {
            if version < required.required {
                self.violation(Broken::ReadYourWrites, operation, required.required);
            } else if level == Level::Monotonic && version < required.seen {
                self.violation(Broken::MonotonicReads, operation, required.seen);
            } else if settled && required.depends_on_lost && route != Route::Cache {
                // What the cache has may be from before.
                self.violation(Broken::SilentLoss, operation, 0);
            }
        }
        self.check_freshness(operation, key, version, level);
    }

    fn check_freshness(&mut self, operation: &Operation, key: Key, version: u64, level: Level) {
        let bound = match level {
            Level::Primary => 0,
            Level::Bounded(milliseconds) => milliseconds.saturating_mul(1_000_000),
            Level::Monotonic | Level::ReadYourWrites | Level::Eventual => return,
        };
        if operation.end >= self.first_failover {
            return;
        }
        let since = operation.start.saturating_sub(bound);
        let required = self.acknowledged.get(&key).and_then(|ends| {
            let before = ends.partition_point(|(end, _)| *end < since);
            ends.get(before.checked_sub(1)?)
        });
        if let Some((_, required)) = required
            && version < *required
        {
            self.violation(Broken::Freshness, operation, *required);
        }
    }
}
