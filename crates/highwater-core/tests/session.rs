//! Sessions: every write leaves a mark or doubt, and doubt goes only when it is proven away.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests"
)]

mod common;

use std::thread;

use common::{history, mark, scope};
use highwater_core::{
    Ancestor, Consistency, Continuity, Coverage, Edges, MAX_MARKS, Mark, Marks, Offset, Progress,
    Requirement, Role, Route, Session,
};
use proptest::prelude::*;

const LEVEL: Consistency = Consistency::ReadYourWrites;

fn primary(history_no: u8, applied: u64) -> Progress {
    Progress {
        role: Role::Primary,
        history: history(history_no),
        ancestor: None,
        applied,
        link_up: true,
        read_only: true,
    }
}

/// The primary of history 1, which left history 0 at `fork`.
fn promoted(fork: u64, applied: u64) -> Progress {
    Progress {
        ancestor: Some(Ancestor {
            history: history(0),
            fork,
        }),
        ..primary(1, applied)
    }
}

fn requirement(session: &Session) -> Requirement {
    session.requirement(&scope(0), LEVEL)
}

/// (history, offset) of the writes in scope 0.
fn written(marks: &Marks) -> Vec<(u8, Offset)> {
    marks
        .written()
        .filter(|mark| mark.scope == scope(0))
        .map(|mark| (mark.history.as_bytes()[0] - 1, mark.offset))
        .collect()
}

const UNKNOWN: Offset = Offset::UNKNOWN;

fn prove(session: &Session, requirement: &Requirement, progress: &Progress) {
    session.proven_by_primary(&scope(0), requirement, progress, &Edges::default());
}

fn discontinue(session: &Session, requirement: &Requirement, progress: &Progress) {
    session.record_discontinuity(&scope(0), requirement, progress, &Edges::default());
}

#[test]
fn a_settled_write_leaves_its_mark() {
    let session = Session::new();
    let (write, guard) = session.begin_write(&scope(0), history(0));
    assert!(session.marks().is_empty(), "nobody has been told of it");
    write.settle(history(0), Offset::at(40));
    guard.replied();
    assert_eq!(written(&session.marks()), [(0, Offset::at(40))]);
    assert_eq!(requirement(&session).points()[0].offset, Offset::at(40));
}

#[test]
fn the_history_of_the_sample_counts_not_that_of_the_start() {
    let session = Session::new();
    let (write, _guard) = session.begin_write(&scope(0), history(0));
    write.settle(history(1), Offset::at(40));
    assert_eq!(written(&session.marks()), [(1, Offset::at(40))]);
}

#[test]
fn a_write_dropped_without_a_word_is_in_doubt() {
    let session = Session::new();
    let (write, guard) = session.begin_write(&scope(0), history(0));
    let before = session.version();
    drop(write);
    guard.replied();
    assert_ne!(session.version(), before);
    assert_eq!(written(&session.marks()), [(0, UNKNOWN)]);
    assert!(requirement(&session).in_doubt());
    assert!(
        session.requirement(&scope(1), LEVEL).is_empty(),
        "of another deployment"
    );
}

#[test]
fn a_caller_that_goes_leaves_doubt_until_the_connection_settles_it() {
    let session = Session::new();
    let (write, guard) = session.begin_write(&scope(0), history(0));
    let before = session.version();
    drop(guard);
    let abandoned = session.version();
    assert_ne!(abandoned, before, "the token has to be written anew");
    assert_eq!(written(&session.marks()), [(0, UNKNOWN)]);
    assert!(requirement(&session).in_doubt());
    write.settle(history(0), Offset::at(40));
    assert_ne!(session.version(), abandoned);
    assert_eq!(written(&session.marks()), [(0, Offset::at(40))]);
    assert!(!requirement(&session).in_doubt());
}

#[test]
fn settling_an_abandoned_write_below_a_known_mark_is_news() {
    let session = Session::new();
    session.add_written(&mark(0, 0, 100));
    let (write, guard) = session.begin_write(&scope(0), history(0));
    drop(guard);
    let before = session.version();
    write.settle(history(0), Offset::at(40));
    assert_ne!(session.version(), before, "the token said ∞, and no more");
    assert_eq!(written(&session.marks()), [(0, Offset::at(100))]);
}

#[test]
fn a_write_that_was_not_sent_leaves_nothing() {
    for caller_goes_first in [true, false] {
        let session = Session::new();
        let (write, guard) = session.begin_write(&scope(0), history(0));
        if caller_goes_first {
            drop(guard);
            write.not_sent();
        } else {
            write.not_sent();
            drop(guard);
        }
        assert!(session.marks().is_empty());
        assert!(requirement(&session).is_empty());
    }
}

#[test]
fn applied_somewhere_is_settled_by_a_primary_that_was_asked_later() {
    let session = Session::new();
    let early = requirement(&session);
    let (write, guard) = session.begin_write(&scope(0), history(0));
    let during = requirement(&session);
    write.applied_somewhere();
    guard.replied();
    assert_eq!(written(&session.marks()), [(0, UNKNOWN)]);
    let later = requirement(&session);

    prove(&session, &early, &primary(0, 500));
    prove(&session, &during, &primary(0, 500));
    prove(
        &session,
        &later,
        &Progress {
            role: Role::Replica,
            ..primary(0, 500)
        },
    );
    prove(&session, &later, &primary(1, 500));
    session.proven_by_primary(&scope(1), &later, &primary(0, 500), &Edges::default());
    assert_eq!(
        written(&session.marks()),
        [(0, UNKNOWN)],
        "asked too early, or of somebody else"
    );

    let before = session.version();
    prove(&session, &later, &primary(0, 500));
    assert_eq!(written(&session.marks()), [(0, Offset::at(500))]);
    assert_ne!(session.version(), before);
    assert!(!requirement(&session).in_doubt());
}

#[test]
fn a_second_write_is_not_settled_by_a_sample_that_is_older() {
    let session = Session::new();
    session.begin_write(&scope(0), history(0)).0.applied_somewhere();
    let first = requirement(&session);
    session.begin_write(&scope(0), history(0)).0.applied_somewhere();
    prove(&session, &first, &primary(0, 500));
    assert!(written(&session.marks()).contains(&(0, UNKNOWN)));
    let second = requirement(&session);
    prove(&session, &second, &primary(0, 600));
    assert_eq!(written(&session.marks()), [(0, Offset::at(600))]);
}

#[test]
fn a_lost_write_is_never_settled_by_a_primary() {
    for lose in [0, 1] {
        let session = Session::new();
        let (write, guard) = session.begin_write(&scope(0), history(0));
        if lose == 0 {
            write.lost();
        } else {
            drop(write);
        }
        drop(guard);
        for applied in [500, 1_000_000] {
            let requirement = requirement(&session);
            prove(&session, &requirement, &primary(0, applied));
            assert_eq!(written(&session.marks()), [(0, UNKNOWN)], "it may still arrive");
        }
    }
}

#[test]
fn doubt_does_not_grow_with_the_number_of_writes() {
    let session = Session::new();
    for n in 0..10_000_u64 {
        let (write, guard) = session.begin_write(&scope(0), history((n % 3) as u8));
        if n % 2 == 0 {
            write.applied_somewhere();
        } else {
            write.lost();
        }
        drop(guard);
    }
    assert!(format!("{session:?}").contains("unsettled: 6,"), "{session:?}");
    assert_eq!(
        written(&session.marks()),
        [(0, UNKNOWN), (1, UNKNOWN), (2, UNKNOWN)]
    );
    for n in 0..200 {
        session.begin_write(&scope(0), history(n)).0.lost();
    }
    let requirement = requirement(&session);
    assert!(requirement.in_doubt());
    assert!(requirement.points().len() <= 64 + highwater_core::MAX_MARKS);
    assert!(requirement.needs_barrier(), "more than a set of marks holds");
}

#[test]
fn a_proof_moves_marks_only_along_known_descent() {
    let session = Session::new();
    session.add_written(&mark(0, 0, 40));
    session.add_written(&mark(0, 2, 40));
    session.add_written(&mark(1, 0, 40));
    let required = requirement(&session);
    prove(&session, &required, &primary(1, 500));
    assert_eq!(
        written(&session.marks()),
        [(0, Offset::at(40)), (2, Offset::at(40))]
    );
    prove(&session, &required, &promoted(40, 500));
    assert_eq!(
        written(&session.marks()),
        [(0, Offset::at(40)), (2, Offset::at(40))],
        "40 is not shared"
    );
    prove(&session, &required, &promoted(41, 500));
    assert_eq!(
        written(&session.marks()),
        [(1, Offset::at(40)), (2, Offset::at(40))]
    );
    assert!(
        session.marks().written().any(|m| m == mark(1, 0, 40)),
        "another deployment's is not ours"
    );
    assert_eq!(session.continuity(), Continuity::Intact);
}

#[test]
fn a_loss_is_reported_once_and_only_what_was_lost_is_replaced() {
    let session = Session::new();
    session.add_written(&mark(0, 0, 100));
    session.add_written(&mark(0, 2, 7));
    let required = requirement(&session);
    let progress = promoted(90, 500);
    assert_eq!(
        required.coverage(&progress, &Edges::default()),
        Coverage::PossiblyLost
    );
    discontinue(&session, &required, &progress);
    assert_eq!(session.continuity(), Continuity::PossiblyLost);
    let now = written(&session.marks());
    assert_eq!(now[1], (2, Offset::at(7)), "another primary may know it");
    assert_eq!(now[0].0, 1);
    assert!(
        now[0].1 >= Offset::at(89) && now[0].1 <= Offset::at(500),
        "{now:?}"
    );
    let again = requirement(&session);
    assert_eq!(
        again.coverage(&progress, &Edges::default()),
        Coverage::Unknown,
        "once"
    );
}

#[test]
fn an_unknown_history_is_reported_and_kept() {
    let session = Session::new();
    session.add_written(&mark(0, 5, 100));
    let before = session.marks();
    discontinue(&session, &requirement(&session), &primary(1, 500));
    assert_eq!(session.continuity(), Continuity::UnknownHistory);
    assert_eq!(session.marks(), before);
}

#[test]
fn a_replica_reports_no_discontinuity() {
    let session = Session::new();
    session.add_written(&mark(0, 0, 1000));
    session.add_written(&mark(0, 5, 100));
    let before = session.marks();
    let replica = Progress {
        role: Role::Replica,
        ..promoted(90, 500)
    };
    discontinue(&session, &requirement(&session), &replica);
    discontinue(
        &session,
        &requirement(&session),
        &Progress {
            role: Role::Replica,
            ..primary(0, 500)
        },
    );
    assert_eq!(
        (session.continuity(), session.marks()),
        (Continuity::Intact, before)
    );
}

#[test]
fn a_write_applied_at_an_unknown_place_is_still_depended_on_after_a_failover() {
    // It may lie below the fork, and the primary may just have shown it: a lagging replica may not be
    // read from as if nothing had been written.
    let session = Session::new();
    session.begin_write(&scope(0), history(0)).0.applied_somewhere();
    discontinue(&session, &requirement(&session), &promoted(90, 500));
    assert_eq!(written(&session.marks()), [(1, Offset::at(500))]);
}

#[test]
fn a_failover_takes_no_write_that_the_connection_will_still_settle() {
    let session = Session::new();
    let (write, guard) = session.begin_write(&scope(0), history(0));
    drop(guard);
    discontinue(&session, &requirement(&session), &promoted(90, 500));
    write.settle(history(1), Offset::at(700));
    assert_eq!(written(&session.marks()), [(1, Offset::at(700))]);
}

#[test]
fn a_write_that_hangs_on_a_dead_primary_is_reported_once() {
    // Its connection can't settle it for as long as the old primary can't be reached.
    let session = Session::new();
    let (mut write, guard) = session.begin_write(&scope(0), history(0));
    write.in_doubt();
    drop(guard);
    let progress = promoted(90, 500);
    let coverage = || requirement(&session).coverage(&progress, &Edges::default());
    assert_eq!(coverage(), Coverage::PossiblyLost);
    discontinue(&session, &requirement(&session), &progress);
    assert_eq!(coverage(), Coverage::Covered, "once");
    assert!(
        requirement(&session).in_doubt(),
        "it may still be said to have happened, so no replica will do"
    );
    assert_eq!(
        written(&session.marks()),
        [(1, UNKNOWN)],
        "nor is it reported to whom the token goes to"
    );

    // The old primary is back, as a replica: nothing more will come of it.
    let earlier = requirement(&session);
    assert!(!write.settle_doubt(history(0), &promoted(90, 600)));
    prove(&session, &earlier, &progress);
    assert!(
        requirement(&session).in_doubt(),
        "asked for before that was known"
    );
    prove(&session, &requirement(&session), &promoted(90, 700));
    assert_eq!(written(&session.marks()), [(1, Offset::at(700))]);
}

#[test]
fn what_was_learnt_after_the_requirement_is_not_replaced() {
    // Another task's write fails while the sample is under way: it may lie above the sample.
    let session = Session::new();
    session.add_written(&mark(0, 0, 100));
    let required = requirement(&session);
    session.begin_write(&scope(0), history(0)).0.applied_somewhere();
    session.add_read(&mark(0, 0, 300));
    discontinue(&session, &required, &promoted(90, 500));
    assert_eq!(written(&session.marks()), [(0, UNKNOWN), (1, Offset::at(500))]);
    assert!(session.marks().read().any(|m| m == mark(0, 0, 300)));
    // The same for a mark at ∞ that another token brought.
    let session = Session::new();
    session.add_written(&mark(0, 0, 100));
    let required = requirement(&session);
    session.add_written(&mark(0, 0, u64::MAX));
    discontinue(&session, &required, &promoted(90, 500));
    assert!(written(&session.marks()).contains(&(0, UNKNOWN)));
}

#[test]
fn a_mark_beyond_what_its_own_primary_has_reached_is_brought_down() {
    let session = Session::new();
    session.add_written(&mark(0, 0, 1_000_000));
    session.add_written(&mark(1, 0, 1_000_000));
    discontinue(&session, &requirement(&session), &primary(0, 500));
    assert_eq!(written(&session.marks()), [(0, Offset::at(500))]);
    assert!(session.marks().written().any(|m| m == mark(1, 0, 1_000_000)));
}

#[test]
fn a_write_that_came_since_is_not_brought_down_with_an_impossible_mark() {
    for seen in [600, 2_000_000] {
        let session = Session::new();
        session.add_written(&mark(0, 0, 1_000_000));
        let required = requirement(&session);
        // The sample is taken at 500; then another task's write is acknowledged.
        session
            .begin_write(&scope(0), history(0))
            .0
            .settle(history(0), Offset::at(seen));
        discontinue(&session, &required, &primary(0, 500));
        assert!(written(&session.marks())[0].1 >= Offset::at(seen));
    }
}

#[test]
fn a_bad_token_is_settled_by_a_sample_that_was_asked_for_later() {
    let session = Session::resume(Marks::in_doubt());
    let required = requirement(&session);
    assert!(required.needs_barrier());
    let before = session.version();
    session.settle_doubt(&required, &mark(0, 0, 500));
    assert_ne!(session.version(), before);
    assert!(!requirement(&session).needs_barrier());
    assert_eq!(written(&session.marks()), [(0, Offset::at(500))]);
}

#[test]
fn a_bad_token_that_came_since_stays_in_doubt() {
    let session = Session::resume(Marks::in_doubt());
    let required = requirement(&session);
    session.merge(&Marks::in_doubt());
    session.settle_doubt(&required, &mark(0, 0, 500));
    assert!(
        requirement(&session).needs_barrier(),
        "it may stand for a write above 500"
    );
    session.settle_doubt(&requirement(&session), &mark(0, 0, 600));
    assert!(!requirement(&session).needs_barrier());
    // What is no doubt does not get in the way.
    let session = Session::resume(Marks::in_doubt());
    let required = requirement(&session);
    session.add_written(&mark(0, 0, 10));
    session.settle_doubt(&required, &mark(0, 0, 500));
    assert!(!requirement(&session).needs_barrier());
}

#[test]
fn a_mark_that_did_not_fit_since_stays_in_doubt() {
    let full = || {
        let session = Session::resume(Marks::in_doubt());
        for n in 0..MAX_MARKS as u8 {
            session.add_written(&mark(1, n, 1));
        }
        session
    };
    // A write's mark, acknowledged while the sample is under way.
    let session = full();
    let required = requirement(&session);
    session.add_written(&mark(0, 9, 900));
    session.settle_doubt(&required, &mark(0, 9, 500));
    assert!(requirement(&session).needs_barrier());
    // A write whose place is not known, after too many such.
    let session = full();
    for n in 0..64 {
        session.begin_write(&scope(0), history(n)).0.applied_somewhere();
    }
    let required = requirement(&session);
    session.begin_write(&scope(0), history(99)).0.applied_somewhere();
    session.settle_doubt(&required, &mark(0, 9, 500));
    assert!(requirement(&session).needs_barrier());
}

#[test]
fn levels_ask_for_what_they_promise() {
    let session = Session::new();
    session.add_written(&mark(0, 0, 10));
    session.add_read(&mark(0, 0, 30));
    let offset = |level| {
        session
            .requirement(&scope(0), level)
            .points()
            .first()
            .map(|p| p.offset)
    };
    assert_eq!(offset(Consistency::Eventual), None);
    assert_eq!(offset(Consistency::ReadYourWrites), Some(Offset::at(10)));
    assert_eq!(offset(Consistency::Primary), Some(Offset::at(10)));
    assert_eq!(offset(Consistency::Monotonic), Some(Offset::at(30)));
    assert_eq!(session.level(), None);
    session.set_level(Consistency::Monotonic);
    assert_eq!(session.clone().level(), Some(Consistency::Monotonic));
    for level in ["primary", "monotonic", "read-your-writes", "eventual"] {
        assert_eq!(level.parse::<Consistency>().unwrap().to_string(), level);
    }
    assert!("strong".parse::<Consistency>().is_err());
}

#[test]
fn routes_are_counted() {
    let session = Session::new();
    session.record_route(Route::Cache);
    session.record_route(Route::Replica);
    session.record_route(Route::Replica);
    session.record_route(Route::Primary);
    assert_eq!(session.routes().to_string(), "cache=1, replica=2, primary=1");
}

/// What a sample shows of what a session depends on is what it covers of the requirement, and doubt it never shows.
fn is_shown_as_covered(session: &Session, progress: Progress) {
    for level in [LEVEL, Consistency::Monotonic, Consistency::Eventual] {
        let requirement = session.requirement(&scope(0), level);
        let covers = |progress: Option<&Progress>| {
            let covers = |progress| requirement.coverage(progress, &Edges::default()) == Coverage::Covered;
            (!requirement.is_empty()).then(|| !requirement.in_doubt() && progress.is_some_and(covers))
        };
        for progress in [Some(&progress), None] {
            let shown = session.is_shown_by(progress, &scope(0), Some(level), LEVEL);
            assert_eq!(
                shown,
                (level, LEVEL, covers(progress)),
                "{session:?} by {progress:?}"
            );
        }
    }
}

#[test]
fn doubt_is_shown_by_nothing_not_even_by_the_primary() {
    let in_doubt = Session::resume(Marks::in_doubt());
    let unsettled = Session::new();
    drop(unsettled.begin_write(&scope(0), history(0)));
    let received = Session::resume(unsettled.marks());
    for session in [in_doubt, unsettled, received] {
        is_shown_as_covered(&session, primary(0, u64::MAX / 2));
        let (.., shown) = session.is_shown_by(Some(&primary(0, u64::MAX / 2)), &scope(0), None, LEVEL);
        assert_eq!(shown, Some(false));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Begin(u8),
    CallerGoes(prop::sample::Index),
    Settle(prop::sample::Index, u64),
    Applied(prop::sample::Index),
    Lost(prop::sample::Index),
    /// A read, at a level that remembers.
    See(u64),
    Snapshot,
    /// A proof for the snapshot.
    Prove(u64),
    Discontinue(u64, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let which = any::<prop::sample::Index>;
    prop_oneof![
        4 => (0u8..2).prop_map(Step::Begin),
        2 => which().prop_map(Step::CallerGoes),
        3 => (which(), 0u64..300).prop_map(|(w, o)| Step::Settle(w, o)),
        2 => which().prop_map(Step::Applied),
        2 => which().prop_map(Step::Lost),
        1 => (0u64..300).prop_map(Step::See),
        3 => Just(Step::Snapshot),
        3 => (0u64..300).prop_map(Step::Prove),
        2 => (1u64..300, 0u64..300).prop_map(|(f, o)| Step::Discontinue(f, o)),
    ]
}

proptest! {
    #![proptest_config(common::config())]

    /// Whatever happens in whatever order, no acknowledged or doubtful write is forgotten: a write
    /// leaves something, and a mark of the newest history is never lowered.
    #[test]
    fn nothing_is_forgotten(steps in prop::collection::vec(step(), 0..60)) {
        let session = Session::new();
        let mut open = Vec::new();
        let mut snapshot = requirement(&session);
        let mut highest = None;
        let mut left_something = false;
        for step in steps {
            match step {
                Step::Begin(id) => {
                    let (write, guard) = session.begin_write(&scope(0), history(id));
                    open.push((write, Some(guard)));
                }
                Step::CallerGoes(which) if !open.is_empty() => {
                    let at = which.index(open.len());
                    drop(open[at].1.take());
                }
                Step::See(offset) => session.add_read(&mark(0, 1, offset)),
                Step::Settle(which, offset) if !open.is_empty() => {
                    let (write, guard) = open.swap_remove(which.index(open.len()));
                    write.settle(history(1), Offset::at(offset));
                    drop(guard);
                    highest = highest.max(Some(offset));
                    left_something = true;
                }
                Step::Applied(which) if !open.is_empty() => {
                    let (write, guard) = open.swap_remove(which.index(open.len()));
                    write.applied_somewhere();
                    drop(guard);
                    left_something = true;
                }
                Step::Lost(which) if !open.is_empty() => {
                    drop(open.swap_remove(which.index(open.len())));
                    left_something = true;
                }
                Step::Snapshot => snapshot = requirement(&session),
                Step::Prove(applied) => prove(&session, &snapshot, &primary(1, applied)),
                // A true primary is never behind a mark of its own history.
                Step::Discontinue(fork, applied) => {
                    let applied = applied.max(highest.unwrap_or(0)).max(fork);
                    discontinue(&session, &snapshot, &promoted(fork, applied));
                }
                _ => {}
            }
            let marks = session.marks();
            prop_assert!(!left_something || marks.written().count() > 0);
            let own = marks.written().find(|m| m.history == history(1)).map(|m| m.offset);
            prop_assert!(highest.is_none_or(|highest| own >= Some(Offset::at(highest))));
            let abandoned = open.iter().any(|(_, guard)| guard.is_none());
            prop_assert!(!abandoned || requirement(&session).in_doubt());
            for progress in [primary(1, 150), Progress { role: Role::Replica, ..primary(1, 250) }, promoted(100, 200)] {
                is_shown_as_covered(&session, progress);
            }
            let required = requirement(&session);
            prop_assert_eq!(required.points().iter().map(|p| p.offset).max(),
                marks.written().map(|m| m.offset).max(), "token and requirement say the same");
        }
    }
}

#[test]
fn many_threads_leave_the_highest_mark_and_no_doubt() {
    let session = Session::new();
    thread::scope(|threads| {
        for thread_no in 0..8_u64 {
            let session = session.clone();
            threads.spawn(move || {
                for n in 0..500_u64 {
                    let (write, guard) = session.begin_write(&scope(0), history(0));
                    let place = Offset::at(n * 8 + thread_no);
                    match n % 4 {
                        0 => {
                            drop(guard);
                            write.settle(history(0), place);
                        }
                        1 => {
                            let connection = thread::spawn(move || write.settle(history(0), place));
                            drop(guard);
                            connection.join().unwrap();
                        }
                        2 => {
                            write.not_sent();
                            drop(guard);
                        }
                        _ => {
                            write.settle(history(0), place);
                            guard.replied();
                        }
                    }
                    let required = requirement(&session);
                    prove(&session, &required, &primary(0, 1));
                    if n % 4 != 2 {
                        assert!(required.points()[0].offset >= place);
                    }
                }
            });
        }
    });
    assert_eq!(written(&session.marks()), [(0, Offset::at(499 * 8 + 7))]);
    assert!(!requirement(&session).in_doubt());
}

#[test]
fn doubt_of_a_token_is_settled_by_time_and_only_in_its_own_history() {
    let mut marks = Marks::new();
    marks.add_written(&Mark {
        offset: Offset::unknown_since(1000),
        ..mark(0, 0, 0)
    });
    let session = Session::resume(marks);
    let requirement = session.requirement(&scope(0), Consistency::ReadYourWrites);
    assert!(requirement.in_doubt());
    assert_eq!(requirement.in_doubt_since(), Some(1000));
    session.settle_overdue(&requirement, &mark(0, 1, 70));
    assert!(
        session
            .requirement(&scope(0), Consistency::ReadYourWrites)
            .in_doubt()
    );

    // What came in after the requirement was taken is not settled with it.
    let later = Session::resume(session.marks());
    later.add_written(&Mark {
        offset: Offset::unknown_since(2000),
        ..mark(0, 0, 0)
    });
    later.settle_overdue(&requirement, &mark(0, 0, 70));
    assert!(
        later
            .requirement(&scope(0), Consistency::ReadYourWrites)
            .in_doubt()
    );

    session.settle_overdue(&requirement, &mark(0, 0, 70));
    assert_eq!(session.marks().written().collect::<Vec<_>>(), [mark(0, 0, 70)]);
    // A doubt of this process says no time: only its connection settles it.
    let (write, guard) = session.begin_write(&scope(0), history(0));
    drop((guard, write));
    let requirement = session.requirement(&scope(0), Consistency::ReadYourWrites);
    assert_eq!(requirement.in_doubt_since(), None);
}

#[test]
fn doubt_that_was_handed_over_without_a_time_gets_one() {
    let writer = Session::new();
    drop(writer.begin_write(&scope(0), history(0)));
    // Not through a token: nobody has said since when.
    let heir = Session::resume(writer.marks());
    let since = || heir.requirement(&scope(0), LEVEL).in_doubt_since();
    assert_eq!(since(), None);
    heir.date_doubt(&scope(1), 7);
    assert_eq!(since(), None, "another scope's");
    heir.date_doubt(&scope(0), 7);
    heir.date_doubt(&scope(0), 9);
    assert_eq!(since(), Some(7), "the first one counts");
    // The writer's own doubt is its connection's to settle.
    writer.date_doubt(&scope(0), 7);
    assert_eq!(writer.requirement(&scope(0), LEVEL).in_doubt_since(), None);
}
