//! Histories made by hand, each with what is wrong about it.

use super::{
    check::{Broken, Findings, check},
    losses::Truth,
};
use crate::{
    clock::Nanos,
    operation::{Kind, Level, Operation, Outcome, Route, Said},
};

const NEVER: Nanos = Nanos::MAX;
const AT_ONCE: Nanos = 0;

fn operation(session: u64, at: Nanos, kind: Kind) -> Operation {
    Operation {
        session,
        start: at,
        end: at + 5,
        kind,
    }
}

fn write(session: u64, at: Nanos, version: u64, outcome: Outcome) -> Operation {
    operation(
        session,
        at,
        Kind::Write {
            key: 1,
            version,
            outcome,
            said: Said::Nothing,
        },
    )
}

fn read_at(level: Level, session: u64, at: Nanos, version: u64, route: Route, said: Said) -> Operation {
    operation(
        session,
        at,
        Kind::Read {
            key: 1,
            version,
            route,
            level,
            mark: None,
            said,
        },
    )
}

fn read(session: u64, at: Nanos, version: u64) -> Operation {
    read_at(
        Level::ReadYourWrites,
        session,
        at,
        version,
        Route::Replica,
        Said::Nothing,
    )
}

fn hand(session: u64, at: Nanos, ticket: u64) -> Operation {
    operation(session, at, Kind::Hand { ticket })
}

fn adopt(session: u64, at: Nanos, ticket: u64, damaged: bool) -> Operation {
    operation(session, at, Kind::Adopt { ticket, damaged })
}

fn broken(findings: &Findings) -> Vec<Broken> {
    findings
        .violations
        .iter()
        .map(|violation| violation.broken)
        .collect()
}

fn verdict(operations: &[Operation], first_failover: Nanos) -> Vec<Broken> {
    broken(&check(operations, first_failover, None))
}

const DONE: Outcome = Outcome::Acknowledged;
const DOUBT: Outcome = Outcome::InDoubt;

#[test]
fn a_session_is_shown_what_it_wrote() {
    let history = [write(1, 10, 1, DONE), write(1, 20, 2, DONE)];
    let with = |read: Operation| verdict(&[history[0], history[1], read], NEVER);
    assert!(with(read(1, 30, 2)).is_empty());
    assert_eq!(with(read(1, 30, 1)), [Broken::ReadYourWrites]);
    assert_eq!(with(read(1, 30, 0)), [Broken::ReadYourWrites]);
    assert!(with(read(2, 30, 0)).is_empty(), "another session");
    assert!(with(read(1, 25, 1)).is_empty(), "the write had not ended before");
    assert_eq!(with(read(1, 30, 3)), [Broken::NeverWritten]);
    assert_eq!(
        verdict(&[write(1, 10, 1, Outcome::Refused), read(2, 20, 1)], NEVER),
        [Broken::NeverWritten]
    );
}

#[test]
fn a_token_takes_along_what_was_written_before_it() {
    let history = |late: u64, seen: u64| {
        [
            write(1, 10, 1, DONE),
            hand(1, 20, 7),
            write(1, 30, 2, DONE),
            adopt(2, 40, 7, false),
            read(2, late, seen),
        ]
    };
    assert!(verdict(&history(50, 1), NEVER).is_empty());
    assert_eq!(verdict(&history(50, 0), NEVER), [Broken::ReadYourWrites]);
    assert!(
        verdict(&history(42, 0), NEVER).is_empty(),
        "begun before the token was taken over"
    );
}

#[test]
fn a_damaged_token_holds_where_there_is_no_failover() {
    let history = [
        write(1, 10, 1, DONE),
        hand(1, 20, 7),
        adopt(2, 40, 7, true),
        read(2, 50, 0),
    ];
    assert_eq!(verdict(&history, NEVER), [Broken::ReadYourWrites]);
    assert!(
        verdict(&history, 1_000).is_empty(),
        "its doubt may last until then"
    );
}

#[test]
fn a_loss_is_excused_from_when_it_was_reported_and_not_before() {
    let lost = |at| read_at(Level::ReadYourWrites, 1, at, 0, Route::Primary, Said::Lost);
    let written = write(1, 10, 1, DONE);
    assert!(verdict(&[written, lost(20), read(1, 30, 0)], AT_ONCE).is_empty());
    assert_eq!(
        verdict(&[written, read(1, 20, 0), lost(30)], AT_ONCE),
        [Broken::ReadYourWrites]
    );
    assert!(
        verdict(&[written, lost(20), read(1, 22, 0)], AT_ONCE).is_empty(),
        "told to another task of the session meanwhile"
    );
    assert_eq!(
        verdict(&[written, lost(20), read(1, 30, 1), read(1, 40, 0)], AT_ONCE),
        [Broken::ReadYourWrites],
        "it was not lost, as the session has been shown"
    );
    assert_eq!(
        verdict(
            &[written, lost(20), write(1, 30, 2, DONE), read(1, 40, 1)],
            AT_ONCE
        ),
        [Broken::ReadYourWrites],
        "written since"
    );
    let before = Operation {
        end: 30,
        ..read(1, 18, 1)
    };
    assert!(
        verdict(&[written, before, lost(20), read(1, 40, 0)], AT_ONCE).is_empty(),
        "answered after the report, and asked before it"
    );
    assert!(
        verdict(
            &[
                written,
                lost(20),
                write(2, 30, 2, DONE),
                read(1, 40, 2),
                read(1, 50, 0)
            ],
            AT_ONCE
        )
        .is_empty(),
        "what another has written since says nothing of it"
    );
}

#[test]
fn a_loss_that_one_session_was_told_of_is_not_excused_in_another() {
    let history = [
        write(1, 10, 1, DONE),
        hand(1, 20, 7),
        adopt(2, 30, 7, false),
        read_at(Level::ReadYourWrites, 1, 40, 0, Route::Primary, Said::Lost),
        read(2, 50, 0),
    ];
    assert_eq!(verdict(&history, AT_ONCE), [Broken::ReadYourWrites]);
    let told = [history[0], history[3], hand(1, 50, 7), adopt(2, 60, 7, false)];
    let after = |session| [told.as_slice(), &[read(session, 70, 0)]].concat();
    assert!(
        verdict(&after(2), AT_ONCE).is_empty(),
        "its token had no such mark"
    );
}

#[test]
fn an_unknown_history_excuses_its_own_reply_only() {
    let unknown = |at| read_at(Level::ReadYourWrites, 1, at, 0, Route::Primary, Said::Unknown);
    let written = write(1, 10, 1, DONE);
    assert!(verdict(&[written, unknown(20), unknown(30)], AT_ONCE).is_empty());
    assert_eq!(
        verdict(&[written, unknown(20), read(1, 30, 0)], AT_ONCE),
        [Broken::ReadYourWrites]
    );
}

#[test]
fn nothing_may_be_reported_lost_before_anything_can_have_been() {
    for said in [Said::Lost, Said::Unknown] {
        let history = [
            write(1, 10, 1, DONE),
            read_at(Level::ReadYourWrites, 1, 20, 1, Route::Primary, said),
        ];
        assert_eq!(verdict(&history, NEVER), [Broken::FalseAlarm]);
        assert_eq!(verdict(&history, 26), [Broken::FalseAlarm]);
        assert!(verdict(&history, 25).is_empty());
    }
    let unheard = [operation(
        1,
        20,
        Kind::Failed {
            said: Said::Lost,
            dropped: false,
        },
    )];
    assert_eq!(verdict(&unheard, NEVER), [Broken::FalseAlarm]);
}

#[test]
fn a_write_in_doubt_is_required_once_it_was_shown() {
    let history = |reads: &[Operation]| {
        let mut history = vec![write(1, 10, 1, DONE), write(1, 20, 2, DOUBT)];
        history.extend_from_slice(reads);
        verdict(&history, NEVER)
    };
    assert!(history(&[read(1, 30, 1), read(1, 40, 2), read(1, 50, 2)]).is_empty());
    assert_eq!(
        history(&[read(1, 30, 2), read(1, 40, 1)]),
        [Broken::ReadYourWrites]
    );
    assert!(
        history(&[read(2, 30, 2), read(1, 40, 1)]).is_empty(),
        "shown to another"
    );
}

/// What a read asks a node for was settled when it began: a token that comes in meanwhile is not covered by its reply.
#[test]
fn what_is_shown_while_a_token_comes_in_is_not_required() {
    let history = |reads: &[Operation]| {
        let overlapping = Operation {
            start: 34,
            end: 44,
            ..read(2, 34, 2)
        };
        let mut history = vec![
            write(1, 10, 1, DONE),
            write(1, 20, 2, DOUBT),
            hand(1, 27, 7),
            overlapping,
            adopt(2, 36, 7, false),
        ];
        history.extend_from_slice(reads);
        verdict(&history, NEVER)
    };
    assert!(history(&[read(2, 50, 1)]).is_empty());
    assert_eq!(
        history(&[read(2, 50, 2), read(2, 60, 1)]),
        [Broken::ReadYourWrites]
    );
}

#[test]
fn a_key_in_doubt_is_not_written_any_more() {
    let history = [write(1, 10, 1, DOUBT), write(1, 20, 2, DONE)];
    assert_eq!(verdict(&history, NEVER), [Broken::Convention]);
    let again = [write(1, 10, 1, DONE), write(1, 20, 1, DONE)];
    assert_eq!(verdict(&again, NEVER), [Broken::Convention]);
}

#[test]
fn monotonic_reads_do_not_go_back_and_others_may() {
    for (level, expected) in [
        (Level::Monotonic, vec![Broken::MonotonicReads]),
        (Level::ReadYourWrites, vec![]),
        (Level::Eventual, vec![]),
    ] {
        let read = |at, version| read_at(level, 2, at, version, Route::Replica, Said::Nothing);
        let history = [
            write(1, 10, 1, DONE),
            write(1, 20, 2, DONE),
            read(30, 2),
            read(40, 1),
        ];
        assert_eq!(verdict(&history, NEVER), expected, "{level:?}");
    }
}

#[test]
fn fresh_is_what_the_level_says() {
    let bound = Level::Bounded(1);
    for (level, at, expected) in [
        (Level::Primary, 30, vec![Broken::Freshness]),
        (Level::Primary, 12, vec![]),
        (bound, 30, vec![]),
        (bound, 1_000_015, vec![]),
        (bound, 1_000_016, vec![Broken::Freshness]),
    ] {
        let read = read_at(level, 2, at, 0, Route::Replica, Said::Nothing);
        let history = [write(1, 10, 1, DONE), read];
        assert_eq!(verdict(&history, NEVER), expected, "{level:?} at {at}");
        assert!(
            verdict(&history, AT_ONCE).is_empty(),
            "which primary, after a failover?"
        );
    }
}

#[test]
fn everything_is_counted() {
    let history = [
        write(1, 10, 1, DONE),
        write(1, 20, 2, Outcome::Refused),
        write(1, 30, 3, DOUBT),
        read(1, 40, 1),
        operation(
            1,
            50,
            Kind::Failed {
                said: Said::Nothing,
                dropped: false,
            },
        ),
        hand(1, 60, 7),
        adopt(2, 70, 7, true),
        read_at(Level::ReadYourWrites, 2, 80, 1, Route::Primary, Said::Lost),
        read_at(Level::ReadYourWrites, 2, 90, 1, Route::Primary, Said::Unknown),
    ];
    let counts = check(&history, AT_ONCE, None).counts;
    assert_eq!(
        (counts.writes, counts.writes_refused, counts.writes_in_doubt),
        (1, 1, 1)
    );
    assert_eq!((counts.reads, counts.reads_failed), (3, 1));
    assert_eq!((counts.tokens_taken_over, counts.tokens_damaged), (1, 1));
    assert_eq!((counts.losses_reported, counts.unknown_reported), (1, 1));
}

#[test]
fn a_loss_has_to_be_told_before_anything_else_is_read() {
    let history = [
        write(1, 10, 1, DONE),
        // Of another key, which the one that is lost is not seen by.
        operation(
            1,
            120,
            Kind::Read {
                key: 2,
                version: 0,
                route: Route::Replica,
                level: Level::ReadYourWrites,
                mark: None,
                said: Said::Nothing,
            },
        ),
    ];
    let truth = |settled| Truth {
        settled,
        ..Truth::default()
    };
    let silent = |history: &[Operation], truth: &Truth| broken(&check(history, AT_ONCE, Some(truth)));
    assert_eq!(silent(&history, &truth(100)), [Broken::SilentLoss]);
    assert!(
        silent(&history, &truth(130)).is_empty(),
        "an old primary may have answered"
    );
    let survived = Truth {
        survived: [(1, 1)].into(),
        ..truth(100)
    };
    assert!(silent(&history, &survived).is_empty());
    let told = read_at(Level::ReadYourWrites, 1, 50, 0, Route::Primary, Said::Lost);
    assert!(silent(&[history[0], told, history[1]], &truth(100)).is_empty());
    let taken_over = [
        history[0],
        hand(1, 20, 7),
        adopt(2, 30, 7, false),
        told,
        read(2, 120, 0),
    ];
    assert_eq!(silent(&taken_over, &truth(100)), [Broken::ReadYourWrites]);
    let other = Operation {
        session: 2,
        ..history[1]
    };
    let taken_over = [history[0], hand(1, 20, 7), adopt(2, 30, 7, false), told, other];
    assert_eq!(silent(&taken_over, &truth(100)), [Broken::SilentLoss]);
}

#[test]
fn reports_are_held_against_what_is_there_in_the_end() {
    let lost = |session, at| read_at(Level::ReadYourWrites, session, at, 0, Route::Primary, Said::Lost);
    let write = |session, at, version, outcome| {
        operation(
            session,
            at,
            Kind::Write {
                key: session,
                version,
                outcome,
                said: Said::Nothing,
            },
        )
    };
    let history = [
        write(1, 10, 1, DONE),
        write(2, 10, 1, DONE),
        write(3, 10, 1, DOUBT),
        write(4, 10, 1, DONE),
        lost(1, 60),
        lost(2, 60),
        lost(3, 60),
        read(4, 60, 0),
        // Once more, of the same failover.
        lost(1, 80),
        // Begun after it.
        read(5, 80, 0),
    ];
    let truth = Truth {
        survived: [(2, 1), (4, 1)].into(),
        settled: NEVER,
        promotions: vec![50],
    };
    let losses = check(&history, AT_ONCE, Some(&truth)).losses;
    assert_eq!((losses.writes, losses.failovers, losses.sessions), (1, 1, 4));
    assert_eq!(
        (losses.told_true, losses.told_in_doubt, losses.told_false),
        (1, 1, 1)
    );
    assert!((losses.share_of_false() - 25.0).abs() < 1e-9);
}
