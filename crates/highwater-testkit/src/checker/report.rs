//! What a check has found.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

use crate::history::{Kind, Operation, Outcome, Route};

/// So many violations are kept in full; all are counted.
const KEPT: usize = 100;

/// A count for each route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RouteCounts {
    /// Answered by the local cache.
    pub cache: u64,
    /// Answered by a replica.
    pub replica: u64,
    /// Answered by the primary.
    pub primary: u64,
    /// The client did not say.
    pub unknown: u64,
}

impl RouteCounts {
    /// Over all routes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.cache + self.replica + self.primary + self.unknown
    }

    pub(super) fn add(&mut self, route: Route) {
        *match route {
            Route::Cache => &mut self.cache,
            Route::Replica => &mut self.replica,
            Route::Primary => &mut self.primary,
            Route::Unknown => &mut self.unknown,
        } += 1;
    }
}

impl AddAssign for RouteCounts {
    fn add_assign(&mut self, other: Self) {
        self.cache += other.cache;
        self.replica += other.replica;
        self.primary += other.primary;
        self.unknown += other.unknown;
    }
}

impl fmt::Display for RouteCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cache,
            replica,
            primary,
            unknown,
        } = self;
        write!(
            f,
            "{} (cache {cache}, replica {replica}, primary {primary}, unknown {unknown})",
            self.total()
        )
    }
}

/// A guarantee that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ViolationKind {
    /// A read that began after a write of its session was acknowledged, or of a session that it adopted, returned less.
    ReadYourWrites,
    /// A read returned less than an earlier read of its session, or of a session that it adopted.
    MonotonicReads,
    /// A read returned less than a write that had been acknowledged before the read began, by longer than the level's
    /// bound, whoever made it. At [`Level::Primary`](super::Level::Primary) the bound is zero.
    Overwritten,
    /// A read returned less than a read of whatever session that had ended before it began.
    SeenByOthers,
    /// A read returned less than the last acknowledged write when all was quiet and every node had it.
    NotConverged,
    /// A read showed a part of a write without the rest.
    Torn,
    /// A read returned a version that nobody had begun to write when it ended, or whose write was surely refused.
    NeverWritten,
    /// The history itself breaks the convention that the check rests on: mend the workload first.
    Convention,
}

impl ViolationKind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::ReadYourWrites,
        Self::MonotonicReads,
        Self::Overwritten,
        Self::SeenByOthers,
        Self::NotConverged,
        Self::Torn,
        Self::NeverWritten,
        Self::Convention,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::ReadYourWrites => "read-your-writes",
            Self::MonotonicReads => "monotonic reads",
            Self::Overwritten => "overwritten",
            Self::SeenByOthers => "seen by others",
            Self::NotConverged => "not converged",
            Self::Torn => "torn",
            Self::NeverWritten => "never written",
            Self::Convention => "convention",
        }
    }
}

/// One operation that breaks a guarantee.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    /// Which guarantee.
    pub kind: ViolationKind,
    /// The operation that breaks it.
    pub operation: Operation,
    /// The least version that would have been right. Of a torn read: what it showed besides.
    pub required: u64,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            operation,
            required,
        } = self;
        let session = operation.session;
        match operation.kind {
            Kind::Read {
                key,
                version,
                route,
                mark,
                ..
            } => {
                write!(
                    f,
                    "{kind:?}: session {session} read {version:?} of key {key} from {route:?}"
                )?;
                write!(f, ", at least {required} was required, mark {mark:?}")
            }
            kind_of => write!(
                f,
                "{kind:?}: session {session}, {kind_of:?}, at least {required} was required"
            ),
        }
    }
}

/// What a check has found.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Report {
    /// Writes that were acknowledged.
    pub writes: u64,
    /// Writes whose outcome is in doubt.
    pub writes_in_doubt: u64,
    /// Writes that surely did not happen.
    pub writes_refused: u64,
    /// Reads that were answered, by route.
    pub reads: RouteCounts,
    /// Reads whose session's mark is known: only these can be at risk.
    pub marked_reads: u64,
    /// Reads that began while some replica could be read and surely lacked what was required of them, as the check
    /// says that was made. By the route that answered. Never too many.
    pub at_risk: RouteCounts,
    /// Reads that failed.
    pub failed_reads: u64,
    /// Sessions taken over.
    pub adoptions: u64,
    /// How often the client gave a session's guarantees up openly.
    pub guarantees_lost: u64,
    violations: Vec<Violation>,
    /// Kinds of which there is none are missing.
    counts: BTreeMap<ViolationKind, u64>,
}

impl Report {
    /// Whether nothing was broken.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.counts.is_empty()
    }

    /// How many operations break this guarantee.
    #[must_use]
    pub fn count(&self, kind: ViolationKind) -> u64 {
        self.counts.get(&kind).copied().unwrap_or(0)
    }

    /// The first hundred violations.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    pub(super) fn count_write(&mut self, outcome: Outcome) {
        *match outcome {
            Outcome::Acknowledged => &mut self.writes,
            Outcome::InDoubt => &mut self.writes_in_doubt,
            Outcome::Refused => &mut self.writes_refused,
        } += 1;
    }

    pub(super) fn violation(&mut self, kind: ViolationKind, operation: &Operation, required: u64) {
        *self.counts.entry(kind).or_default() += 1;
        if self.violations.len() < KEPT {
            self.violations.push(Violation {
                kind,
                operation: *operation,
                required,
            });
        }
    }
}

/// Sums: of several runs, or of the rounds of one.
impl AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        self.writes += other.writes;
        self.writes_in_doubt += other.writes_in_doubt;
        self.writes_refused += other.writes_refused;
        self.reads += other.reads;
        self.marked_reads += other.marked_reads;
        self.at_risk += other.at_risk;
        self.failed_reads += other.failed_reads;
        self.adoptions += other.adoptions;
        self.guarantees_lost += other.guarantees_lost;
        for (kind, count) in other.counts {
            *self.counts.entry(kind).or_default() += count;
        }
        let room = KEPT.saturating_sub(self.violations.len());
        self.violations.extend(other.violations.into_iter().take(room));
    }
}

/// A summary in some lines, with the first violations.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            writes,
            writes_in_doubt,
            writes_refused,
            reads,
            marked_reads,
            at_risk,
            failed_reads,
            ..
        } = self;
        writeln!(
            f,
            "writes        {writes}, in doubt {writes_in_doubt}, refused {writes_refused}"
        )?;
        writeln!(
            f,
            "reads         {reads}, with a mark {marked_reads}, failed {failed_reads}"
        )?;
        writeln!(f, "at risk       {at_risk}")?;
        writeln!(
            f,
            "adoptions     {}, guarantees lost openly {}",
            self.adoptions, self.guarantees_lost
        )?;
        let mut before = "violations    ";
        for kind in ViolationKind::ALL {
            write!(f, "{before}{} {}", kind.label(), self.count(kind))?;
            before = ", ";
        }
        self.violations
            .iter()
            .take(10)
            .try_for_each(|violation| write!(f, "\n  {violation}"))
    }
}
