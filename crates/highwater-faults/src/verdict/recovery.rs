//! How long after the end of a fault everybody is served again.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Begun;
use crate::{
    clock::Nanos,
    conductor::Played,
    crew::Did,
    operation::{Kind, Operation, Outcome, Route},
};

/// Times of one kind of fault, in nanoseconds: from its end until every process has had an answer to something that it
/// began after that. Other faults may have been under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recovery {
    pub(crate) faults: u64,
    pub(crate) reads: Vec<Nanos>,
    pub(crate) writes: Vec<Nanos>,
    /// Reads that a replica answered.
    pub(crate) replica_reads: Vec<Nanos>,
}

/// The middle one and the longest, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Times {
    pub(crate) median_ms: u64,
    pub(crate) longest_ms: u64,
}

impl Times {
    pub(crate) fn of(times: &mut [Nanos]) -> Self {
        times.sort_unstable();
        let milliseconds = |time: Option<&Nanos>| time.map_or(0, |time| time.div_ceil(1_000_000));
        Self {
            median_ms: milliseconds(times.get(times.len() / 2)),
            longest_ms: milliseconds(times.last()),
        }
    }
}

impl Recovery {
    pub(crate) fn add(&mut self, other: &Self) {
        self.faults += other.faults;
        self.reads.extend(&other.reads);
        self.writes.extend(&other.writes);
        self.replica_reads.extend(&other.replica_reads);
    }
}

/// The recoveries of a round, by kind of fault; and those after sentinels made a replica the primary.
pub(crate) fn recoveries(
    played: &[Played],
    promotions: &[Begun],
    processes: &[Did],
) -> BTreeMap<&'static str, Recovery> {
    let faults = played
        .iter()
        .filter(|played| played.end != Nanos::MAX)
        .map(|played| (played.planned.kind(), played.end));
    let promotions = promotions.iter().map(|begun| ("promotion", begun.seen));
    let answers: Vec<Answers> = processes.iter().map(Answers::of).collect();
    let mut by_kind: BTreeMap<&'static str, Recovery> = BTreeMap::new();
    for (kind, end) in faults.chain(promotions) {
        let recovery = by_kind.entry(kind).or_default();
        recovery.faults += 1;
        let all = |of: fn(&Answers) -> &Vec<(Nanos, Nanos)>| {
            answers
                .iter()
                .map(|answers| first_after(of(answers), end))
                .collect::<Option<Vec<_>>>()
                .and_then(|times| times.into_iter().max())
        };
        recovery.reads.extend(all(|answers| &answers.reads));
        recovery.writes.extend(all(|answers| &answers.writes));
        recovery
            .replica_reads
            .extend(all(|answers| &answers.replica_reads));
    }
    by_kind
}

/// (start, end) of what was answered in one process, by start; each end is the earliest of those that began then or later.
#[derive(Default)]
struct Answers {
    reads: Vec<(Nanos, Nanos)>,
    writes: Vec<(Nanos, Nanos)>,
    replica_reads: Vec<(Nanos, Nanos)>,
}

impl Answers {
    fn of(did: &Did) -> Self {
        let mut answers = Self::default();
        for Operation { start, end, kind, .. } in &did.operations {
            match kind {
                Kind::Read { route, .. } => {
                    answers.reads.push((*start, *end));
                    if *route == Route::Replica {
                        answers.replica_reads.push((*start, *end));
                    }
                }
                Kind::Write {
                    outcome: Outcome::Acknowledged,
                    ..
                } => answers.writes.push((*start, *end)),
                _ => {}
            }
        }
        for list in [
            &mut answers.reads,
            &mut answers.writes,
            &mut answers.replica_reads,
        ] {
            list.sort_unstable();
            let mut earliest = Nanos::MAX;
            for (_, end) in list.iter_mut().rev() {
                earliest = earliest.min(*end);
                *end = earliest;
            }
        }
        answers
    }
}

fn first_after(answers: &[(Nanos, Nanos)], instant: Nanos) -> Option<Nanos> {
    let place = answers.partition_point(|(start, _)| *start < instant);
    answers.get(place).map(|(_, end)| end - instant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        operation::{Level, Said},
        schedule::Fault,
    };

    fn read(start: Nanos, end: Nanos, route: Route) -> Operation {
        let kind = Kind::Read {
            key: 1,
            version: 0,
            route,
            level: Level::ReadYourWrites,
            mark: None,
            said: Said::Nothing,
        };
        Operation {
            session: 1,
            start,
            end,
            kind,
        }
    }

    #[test]
    fn the_slowest_process_counts_with_its_first_answer() {
        let did = |operations: &[Operation]| {
            let mut did = Did::default();
            did.operations.extend_from_slice(operations);
            did
        };
        let processes = [
            did(&[
                read(90, 130, Route::Primary),
                read(110, 190, Route::Primary),
                read(120, 150, Route::Replica),
            ]),
            did(&[read(105, 107, Route::Primary)]),
        ];
        let played = Played {
            planned: Fault::Freeze(1),
            fault: Fault::Freeze(1),
            begin: 50,
            end: 100,
        };
        let recoveries = recoveries(&[played], &[], &processes);
        let freeze = &recoveries["freeze"];
        assert_eq!((freeze.faults, freeze.reads.as_slice()), (1, &[50][..]));
        assert!(freeze.writes.is_empty(), "there were none");
        assert!(freeze.replica_reads.is_empty(), "not in every process");
    }

    #[test]
    fn times_are_whole_milliseconds_rounded_up() {
        let times = Times::of(&mut [3_000_001, 1, 2_000_000]);
        assert_eq!((times.median_ms, times.longest_ms), (2, 4));
        let none = Times::of(&mut []);
        assert_eq!((none.median_ms, none.longest_ms), (0, 0));
    }
}
