//! The checks of levels against other ways to say what they say: a search for an order in which operations could have
//! happened one by one, and the levels' own words taken literally, over every pair of operations.
#![allow(clippy::indexing_slicing, reason = "tests")]

use std::time::{Duration, Instant};

use highwater_testkit::{History, Kind, Level, LevelCheck, Operation, Outcome, Report, Route, ViolationKind};
use proptest::prelude::*;

const SESSIONS: u32 = 3;
const BOUND: u64 = 4;

/// An operation on the one key, in milliseconds. A version of 0 is a missing key.
#[derive(Clone, Copy, Debug)]
struct Op {
    session: u32,
    start: u64,
    end: u64,
    version: u64,
    /// How it ended, if it is a write.
    write: Option<Outcome>,
}

impl Op {
    fn is_before(&self, other: &Self) -> bool {
        self.end < other.start
    }

    fn is_acknowledged(&self) -> bool {
        self.write == Some(Outcome::Acknowledged)
    }
}

/// Writes that follow each other, of which the last may be in doubt and any may be refused, and reads at any time of
/// any of their versions.
fn operations(reads: usize) -> impl Strategy<Value = Vec<Op>> {
    let writes = prop::collection::vec((0..SESSIONS, 0..4_u64, 0..6_u64, 0..6_u8), 0..4);
    let reads = prop::collection::vec((0..SESSIONS, 0..24_u64, 0..5_u64, 0..5_u64), 0..=reads);
    (writes, reads, any::<bool>()).prop_map(|(writes, reads, doubt)| {
        let (mut now, count) = (0, writes.len());
        let mut operations = Vec::new();
        for (place, (session, pause, time, fate)) in writes.into_iter().enumerate() {
            let start = now + pause;
            now = start + time;
            let outcome = match fate {
                0 => Outcome::Refused,
                _ if doubt && place + 1 == count => Outcome::InDoubt,
                _ => Outcome::Acknowledged,
            };
            operations.push(Op {
                session,
                start,
                end: now,
                version: place as u64 + 1,
                write: Some(outcome),
            });
        }
        operations.extend(reads.into_iter().map(|(session, start, time, version)| Op {
            session,
            start,
            end: start + time,
            version,
            write: None,
        }));
        operations
    })
}

fn report(operations: &[Op], level: Level) -> Report {
    let zero = Instant::now();
    let at = |millis| zero + Duration::from_millis(millis);
    let history: History = operations
        .iter()
        .map(|op| {
            let version = (op.version > 0).then_some(op.version);
            let kind = op.write.map_or(
                Kind::Read {
                    key: 1,
                    version,
                    newest: version,
                    route: Route::Unknown,
                    mark: None,
                },
                |outcome| Kind::Write {
                    key: 1,
                    version: op.version,
                    outcome,
                },
            );
            Operation {
                session: op.session,
                kind,
                start: at(op.start),
                end: at(op.end),
            }
        })
        .collect();
    let report = LevelCheck::of(level).run(&history);
    assert_eq!(report.count(ViolationKind::Convention), 0, "{report}");
    report
}

/// Whether the operations can be put one after the other, in an order that keeps "before" and the writer's own order, so
/// that each read shows the write before it.
fn can_be_ordered(left: &[Op], state: u64) -> bool {
    // What is in doubt may happen late, or never.
    if left.iter().all(|op| op.write.is_some()) {
        return true;
    }
    left.iter().enumerate().any(|(place, op)| {
        let comes_first = left.iter().all(|other| {
            let earlier_write = op.write.is_some() && other.write.is_some() && other.version < op.version;
            !(earlier_write || other.is_before(op)) || other.write == Some(Outcome::InDoubt)
        });
        let rest = || -> Vec<Op> { [&left[..place], &left[place + 1..]].concat() };
        let fits = op.write.is_some() || op.version == state;
        comes_first && fits && can_be_ordered(&rest(), op.version)
    })
}

/// How many reads fall short of some operation that binds them.
fn short(operations: &[Op], binds: impl Fn(&Op, &Op) -> bool) -> u64 {
    let reads = operations.iter().filter(|op| op.write.is_none());
    let short = reads.filter(|read| {
        operations
            .iter()
            .any(|op| op.version > read.version && binds(op, read))
    });
    short.count() as u64
}

fn bound(millis: u64) -> Level {
    Level::BoundedStaleness(Duration::from_millis(millis))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn the_primarys_check_is_linearizability(operations in operations(5)) {
        let happened: Vec<Op> = operations
            .iter()
            .filter(|op| op.write != Some(Outcome::Refused))
            .copied()
            .collect();
        let report = report(&operations, Level::Primary);
        prop_assert_eq!(report.is_clean(), can_be_ordered(&happened, 0), "{}", report);
    }

    #[test]
    fn each_level_is_what_its_words_say(operations in operations(12)) {
        let own_writes = short(&operations, |op, read| {
            op.is_acknowledged() && op.session == read.session && op.is_before(read)
        });
        // What was invented is a fault of its own, and binds nobody.
        let written = |version| {
            version == 0
                || operations
                    .iter()
                    .any(|op| op.version == version && op.write.is_some_and(|how| how != Outcome::Refused))
        };
        let own_reads = short(&operations, |op, read| {
            op.write.is_none() && written(op.version) && op.session == read.session && op.is_before(read)
        });
        let overwritten = short(&operations, |op, read| {
            op.is_acknowledged() && op.end + BOUND < read.start
        });
        for (level, kinds) in [
            (Level::Monotonic, [own_writes, own_reads, 0]),
            (Level::ReadYourWrites, [own_writes, 0, 0]),
            (bound(BOUND), [own_writes, 0, overwritten]),
            (Level::Eventual, [0, 0, 0]),
        ] {
            let report = report(&operations, level);
            let found = [
                ViolationKind::ReadYourWrites,
                ViolationKind::MonotonicReads,
                ViolationKind::Overwritten,
            ]
            .map(|kind| report.count(kind));
            prop_assert_eq!(found, kinds, "{:?}: {}", level, report);
        }
    }

    #[test]
    fn a_stronger_level_is_never_the_cleaner_one(operations in operations(12)) {
        let clean = |level| report(&operations, level).is_clean();
        for (strong, weak) in [
            (Level::Primary, Level::Monotonic),
            (Level::Primary, bound(0)),
            (bound(0), bound(BOUND)),
            (bound(BOUND), bound(2 * BOUND)),
            (bound(2 * BOUND), Level::ReadYourWrites),
            (Level::Monotonic, Level::ReadYourWrites),
            (Level::ReadYourWrites, Level::Eventual),
        ] {
            prop_assert!(!clean(strong) || clean(weak), "{strong:?} is kept and {weak:?} is not");
        }
    }
}
