use super::script::{Script, history};
use super::*;
use crate::{Mark, Route, Sample};

impl Script {
    /// The kinds of violation, in the order in which they are found.
    fn finds(&self) -> Vec<ViolationKind> {
        self.report(&[])
            .violations()
            .iter()
            .map(|violation| violation.kind)
            .collect()
    }

    fn report(&self, replicas: &[Samples]) -> Report {
        // The order in which operations are recorded does not matter.
        let forwards = check(&self.operations.iter().copied().collect(), replicas);
        let backwards = check(&self.operations.iter().rev().copied().collect(), replicas);
        assert_eq!(forwards.counts_for_tests(), backwards.counts_for_tests());
        forwards
    }
}

impl Report {
    fn counts_for_tests(&self) -> ([u64; ViolationKind::ALL.len()], RouteCounts) {
        (ViolationKind::ALL.map(|kind| self.count(kind)), self.at_risk)
    }
}

use ViolationKind::{Convention, MonotonicReads, NeverWritten, ReadYourWrites};

#[test]
fn a_session_that_sees_its_writes_is_clean() {
    let script = Script::new()
        .write(0, 0, 1, 1)
        .read(0, 2, 3, Some(1))
        .write(0, 4, 5, 2)
        .read(0, 6, 7, Some(2));
    assert!(script.report(&[]).is_clean());
}

#[test]
fn a_read_below_an_acknowledged_write_is_found() {
    let script = Script::new().write(0, 0, 1, 1).write(0, 2, 3, 2);
    assert_eq!(script.read(0, 4, 5, Some(1)).finds(), [ReadYourWrites]);
    assert_eq!(
        Script::new().write(0, 0, 1, 1).read(0, 2, 3, None).finds(),
        [ReadYourWrites]
    );
}

#[test]
fn a_read_that_began_before_the_acknowledgement_may_see_less() {
    assert_eq!(Script::new().write(0, 0, 5, 1).read(0, 4, 9, None).finds(), []);
    assert_eq!(
        Script::new().write(0, 0, 5, 1).read(0, 5, 9, None).finds(),
        [],
        "not after, at the same instant"
    );
}

#[test]
fn writes_of_others_are_not_required() {
    assert_eq!(Script::new().write(0, 0, 1, 1).read(1, 2, 3, None).finds(), []);
}

#[test]
fn a_write_in_doubt_may_be_seen_or_not_but_a_refused_one_not() {
    let doubt = || Script::new().write_ends(0, 0, 1, 1, Outcome::InDoubt);
    assert_eq!(doubt().read(0, 2, 3, None).finds(), []);
    assert_eq!(doubt().read(0, 2, 3, Some(1)).finds(), []);
    assert_eq!(
        doubt().read(0, 2, 3, Some(1)).read(0, 4, 5, None).finds(),
        [MonotonicReads]
    );
    let refused = Script::new().write_ends(0, 0, 1, 1, Outcome::Refused);
    assert_eq!(refused.read(0, 2, 3, Some(1)).finds(), [NeverWritten]);
}

#[test]
fn going_back_behind_an_earlier_read_is_found() {
    let script = || {
        Script::new()
            .write(0, 0, 1, 1)
            .write(0, 2, 3, 2)
            .read(1, 4, 5, Some(2))
    };
    assert_eq!(script().read(1, 6, 7, Some(1)).finds(), [MonotonicReads]);
    assert_eq!(script().read(1, 6, 7, None).finds(), [MonotonicReads]);
    assert_eq!(script().read(1, 4, 7, Some(1)).finds(), [], "they overlap");
    assert_eq!(script().read(2, 6, 7, Some(1)).finds(), [], "another session");
}

#[test]
fn one_read_can_break_both() {
    let script = Script::new()
        .write(0, 0, 1, 1)
        .read(0, 2, 3, Some(1))
        .read(0, 4, 5, None);
    assert_eq!(script.finds(), [ReadYourWrites, MonotonicReads]);
}

#[test]
fn versions_out_of_nowhere_or_from_the_future_are_found() {
    assert_eq!(
        Script::new().write(0, 0, 1, 1).read(1, 2, 3, Some(9)).finds(),
        [NeverWritten]
    );
    assert_eq!(
        Script::new().write(0, 5, 6, 1).read(1, 2, 3, Some(1)).finds(),
        [NeverWritten]
    );
    assert_eq!(Script::new().write(0, 2, 6, 1).read(1, 2, 3, Some(1)).finds(), []);
}

#[test]
fn an_adopted_session_brings_its_requirements() {
    let adopt = |start, end| {
        Script::new()
            .write(0, 0, 1, 1)
            .add(1, start, end, Kind::Adopt { from: 0 })
    };
    assert_eq!(adopt(2, 3).read(1, 4, 5, None).finds(), [ReadYourWrites]);
    assert_eq!(
        adopt(2, 3).read(1, 3, 5, None).finds(),
        [],
        "begun before it had been adopted"
    );
    assert_eq!(
        adopt(1, 3).read(1, 4, 5, None).finds(),
        [],
        "not yet acknowledged when the token was taken"
    );
    assert_eq!(adopt(2, 3).read(2, 4, 5, None).finds(), [], "another session");
    let seen = Script::new()
        .write(0, 0, 1, 1)
        .read(1, 2, 3, Some(1))
        .add(2, 4, 5, Kind::Adopt { from: 1 });
    assert_eq!(seen.read(2, 6, 7, None).finds(), [MonotonicReads]);
    let handed_on = adopt(2, 3).add(2, 4, 5, Kind::Adopt { from: 1 });
    assert_eq!(handed_on.read(2, 6, 7, None).finds(), [ReadYourWrites]);
}

#[test]
fn guarantees_that_were_given_up_openly_are_not_required() {
    let lost = || Script::new().write(0, 0, 1, 1).add(0, 4, 5, Kind::GuaranteesLost);
    assert_eq!(lost().read(0, 6, 7, None).finds(), []);
    assert_eq!(lost().read(0, 4, 5, None).finds(), [], "the read that reports it");
    assert_eq!(lost().read(0, 2, 3, None).finds(), [ReadYourWrites], "too early");
    assert_eq!(
        lost().write(0, 6, 7, 2).read(0, 8, 9, Some(1)).finds(),
        [ReadYourWrites],
        "a new promise"
    );
    assert_eq!(lost().report(&[]).guarantees_lost, 1);
}

#[test]
fn a_history_that_breaks_the_convention_is_named() {
    assert_eq!(
        Script::new().write(0, 0, 1, 1).write(0, 2, 3, 1).finds(),
        [Convention],
        "not unique"
    );
    assert_eq!(
        Script::new().write(0, 0, 1, 2).write(0, 2, 3, 1).finds(),
        [Convention],
        "not growing"
    );
    assert_eq!(
        Script::new().write(0, 0, 3, 1).write(1, 2, 4, 2).finds(),
        [Convention],
        "two at a time"
    );
    assert_eq!(
        Script::new().write(0, 0, 1, 0).finds(),
        [Convention],
        "0 is a missing key"
    );
    let doubt = Script::new().write_ends(0, 0, 1, 1, Outcome::InDoubt);
    assert_eq!(
        doubt.write(0, 2, 3, 2).finds(),
        [Convention],
        "the first may arrive after the second"
    );
    let refused = Script::new().write_ends(0, 0, 1, 1, Outcome::Refused);
    assert_eq!(refused.write(0, 2, 3, 2).finds(), []);
}

#[test]
fn reads_at_risk_are_counted_by_route() {
    let mark = |digit, offset| Some(Mark::new(history(digit), offset));
    let script = Script::new()
        .write(0, 0, 1, 1)
        .read_at(0, 12, 13, Some(1), Route::Replica, mark("a", 50))
        .read_at(0, 12, 13, Some(1), Route::Cache, mark("a", 50))
        .read_at(0, 12, 13, Some(1), Route::Cache, mark("a", 20))
        .read_at(0, 12, 13, Some(1), Route::Primary, mark("b", 50))
        .read_at(0, 12, 13, Some(1), Route::Primary, None)
        .read_at(0, 32, 33, Some(1), Route::Primary, mark("a", 50));
    let samples = |offsets: [u64; 4]| -> Samples {
        (1..)
            .zip(offsets)
            .map(|(nth, offset)| Sample {
                sent_at: script.at(10 * nth),
                received_at: script.at(10 * nth + 1),
                applied: Mark::new(history("a"), offset),
                readable: true,
                source: Some(7000),
            })
            .collect()
    };
    let lagging = samples([20, 20, 20, 60]);
    let current = samples([60; 4]);
    let report = script.report(&[current.clone(), lagging]);
    assert_eq!(
        report.at_risk,
        RouteCounts {
            cache: 1,
            replica: 1,
            ..RouteCounts::default()
        }
    );
    assert_eq!((report.reads.total(), report.marked_reads), (6, 5));
    assert_eq!(script.report(&[current]).at_risk.total(), 0);
}

#[test]
fn violations_are_counted_beyond_those_that_are_kept() {
    let script = (0..300).fold(Script::new().write(0, 0, 1, 1), |script, _| {
        script.read(0, 2, 3, None)
    });
    let report = script.report(&[]);
    assert_eq!(report.count(ReadYourWrites), 300);
    assert_eq!(report.violations().len(), 100);
    assert!(report.to_string().contains("read-your-writes 300"), "{report}");
}
