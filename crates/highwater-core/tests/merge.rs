//! Marks: merging never loses anything, and doubt is never silent.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests"
)]

mod common;

use common::{history, mark, marks, scope};
use highwater_core::{Coverage, Edges, MAX_MARKS, Mark, Marks, Offset, Progress, Role, Session};
use proptest::prelude::*;

fn merged(a: &Marks, b: &Marks) -> Marks {
    let mut all = a.clone();
    all.merge(b);
    all
}

/// True when `marks` has at least `wanted`, as a write if `written`, or is in doubt about its scope.
fn holds(marks: &Marks, wanted: &Mark, written: bool) -> bool {
    let all: Vec<Mark> = if written {
        marks.written().collect()
    } else {
        marks.read().collect()
    };
    marks.is_in_doubt(&wanted.scope)
        || all
            .iter()
            .any(|m| m.scope == wanted.scope && m.history == wanted.history && m.offset >= wanted.offset)
}

proptest! {
    #![proptest_config(common::config())]

    #[test]
    fn merge_is_commutative_associative_idempotent(a in marks(3, 3), b in marks(3, 3), c in marks(3, 3)) {
        prop_assert_eq!(merged(&a, &b), merged(&b, &a));
        prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
        prop_assert_eq!(merged(&a, &a), a.clone());
        prop_assert_eq!(merged(&a, &Marks::new()), a);
    }

    #[test]
    fn merge_says_truly_whether_it_moved(a in marks(3, 3), b in marks(3, 3)) {
        let mut all = a.clone();
        prop_assert_eq!(all.merge(&b), all != a);
    }

    /// Below the cap and beyond it.
    #[test]
    fn nothing_is_lowered_or_dropped_in_silence(a in marks(2, 20), b in marks(2, 20)) {
        let all = merged(&a, &b);
        for (from, written) in [(&a, true), (&a, false), (&b, true), (&b, false)] {
            let wanted: Vec<Mark> = if written { from.written().collect() } else { from.read().collect() };
            for mark in wanted {
                prop_assert!(holds(&all, &mark, written), "{mark:?} is gone");
            }
            for scope in (0..2).map(scope) {
                prop_assert!(!from.is_in_doubt(&scope) || all.is_in_doubt(&scope));
            }
        }
        prop_assert!(all.written().count() <= MAX_MARKS && all.read().count() <= MAX_MARKS);
    }

    #[test]
    fn settling_one_scope_commutes_with_merging_plain_marks(a in marks(3, 3), b in marks(3, 3), at in 0u64..200) {
        // The same marks, without their doubt.
        let mut plain = Marks::new();
        for mark in b.written() {
            plain.add_written(&mark);
        }
        for mark in b.read() {
            plain.add_read(&mark);
        }
        let b = plain;
        let doubtful = merged(&a, &Marks::in_doubt());
        let mark = mark(1, 2, at);
        let mut first = doubtful.clone();
        first.settle(&mark);
        let mut last = merged(&doubtful, &b);
        last.settle(&mark);
        prop_assert_eq!(merged(&first, &b), last.clone());
        prop_assert!(!last.is_in_doubt(&scope(1)));
        prop_assert!(last.is_in_doubt(&scope(0)) && last.is_in_doubt(&scope(3)));
        prop_assert!(holds(&last, &mark, true));
    }

    #[test]
    fn a_fresh_bad_token_reopens_all_doubt(a in marks(3, 3), settled in 0u8..3) {
        let mut marks = merged(&a, &Marks::in_doubt());
        marks.settle(&mark(settled, 0, 7));
        prop_assert!(!marks.is_in_doubt(&scope(settled)));
        marks.merge(&Marks::in_doubt());
        prop_assert!((0..4).all(|n| marks.is_in_doubt(&scope(n))));
    }

    #[test]
    fn rebase_moves_only_what_lies_below_the_fork(a in marks(2, 5), fork in 0u64..150, parent in 0u8..5) {
        let mut moved = a.clone();
        let (child, parent) = (history(9), history(parent));
        moved.rebase(&scope(0), child, |h| (h == parent).then_some(fork));
        for (written, all) in [(true, a.written().collect::<Vec<_>>()), (false, a.read().collect())] {
            for mut mark in all {
                let stays = mark.clone();
                mark.history = child;
                prop_assert!(holds(&moved, &stays, written)
                    || (stays.scope == scope(0) && stays.history == parent
                        && stays.offset < Offset::at(fork) && holds(&moved, &mark, written)));
            }
        }
    }
}

#[test]
fn the_mark_that_does_not_fit_leaves_its_scope_in_doubt() {
    let mut marks = Marks::new();
    for n in 0..MAX_MARKS as u8 {
        assert!(marks.add_written(&mark(n % 2, n, 1)));
    }
    assert!(!marks.is_in_doubt(&scope(0)));
    assert!(marks.add_written(&mark(0, 99, 1)));
    assert!(marks.is_in_doubt(&scope(0)));
    assert!(!marks.is_in_doubt(&scope(1)), "the other scope lost nothing");
    assert_eq!(marks.written().count(), MAX_MARKS);
}

#[test]
fn doubt_of_a_full_set_can_be_settled() {
    // All marks of the same scope, and all of another one.
    for owner in [0, 1] {
        let mut marks = Marks::new();
        for n in 0..MAX_MARKS as u8 {
            marks.add_written(&mark(owner, n, 1));
        }
        marks.merge(&Marks::in_doubt());
        assert!(marks.settle(&mark(0, 99, 50)));
        assert!(
            !marks.is_in_doubt(&scope(0)),
            "or every read would wait for a barrier for ever"
        );
        assert!(holds(&marks, &mark(0, 99, 50), true));
        assert_eq!(marks.written().count(), MAX_MARKS);
        assert!(marks.is_in_doubt(&scope(1)));
    }
}

#[test]
fn a_mark_pushed_out_of_a_settled_scope_is_doubt_again() {
    let mut marks = Marks::in_doubt();
    marks.settle(&mark(1, 0, 1));
    for n in 1..MAX_MARKS as u8 {
        marks.add_written(&mark(1, n, 1));
    }
    assert!(!marks.is_in_doubt(&scope(1)));
    marks.settle(&mark(0, 99, 50));
    assert!(!marks.is_in_doubt(&scope(0)));
    assert!(marks.is_in_doubt(&scope(1)));
}

#[test]
fn an_unknown_offset_is_above_every_position() {
    assert!(Offset::UNKNOWN > Offset::at(i64::MAX as u64));
    assert_eq!(Offset::at(i64::MAX as u64 + 1), Offset::UNKNOWN);
    let mut marks = Marks::new();
    marks.add_written(&mark(0, 0, 5));
    marks.add_written(&mark(0, 0, u64::MAX));
    assert!(!marks.add_written(&mark(0, 0, 6)));
    assert!(marks.requirement(&scope(0), false).in_doubt());
}

#[test]
fn a_requirement_is_of_one_scope_and_has_reads_only_when_asked() {
    let mut marks = Marks::new();
    marks.add_written(&mark(0, 0, 5));
    marks.add_read(&mark(0, 0, 9));
    marks.add_read(&mark(0, 1, 3));
    marks.add_written(&mark(1, 0, 77));
    let offsets = |with_reads| {
        let requirement = marks.requirement(&scope(0), with_reads);
        requirement
            .points()
            .iter()
            .map(|p| (p.history, p.offset))
            .collect::<Vec<_>>()
    };
    assert_eq!(offsets(false), [(history(0), Offset::at(5))]);
    assert_eq!(
        offsets(true),
        [(history(0), Offset::at(9)), (history(1), Offset::at(3))]
    );
    assert!(marks.requirement(&scope(2), true).is_empty());
}

#[test]
fn a_requirement_is_as_good_as_its_worst_point_and_not_met_before_its_barrier() {
    let primary = Progress {
        role: Role::Primary,
        history: history(0),
        ancestor: None,
        applied: 100,
        link_up: true,
        read_only: true,
    };
    let edges = Edges::default();
    let mut marks = Marks::new();
    marks.add_written(&mark(0, 0, 100));
    assert_eq!(
        marks.requirement(&scope(0), false).coverage(&primary, &edges),
        Coverage::Covered
    );
    marks.add_written(&mark(0, 1, 1));
    assert_eq!(
        marks.requirement(&scope(0), false).coverage(&primary, &edges),
        Coverage::Unknown
    );

    let doubtful = Marks::in_doubt().requirement(&scope(0), false);
    assert!(!doubtful.is_empty() && doubtful.needs_barrier());
    assert_eq!(doubtful.coverage(&primary, &edges), Coverage::Behind);
    assert!(!Session::resume(Marks::in_doubt()).marks().is_empty());
}
