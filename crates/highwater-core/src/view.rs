//! A session's rules, as a pure value: what became of writes, what a sample settles, what a proof
//! concludes. A [`Session`](crate::Session) is the shared handle on one of these; the model checker holds
//! them in its states.

use crate::{
    Consistency, Continuity, Coverage, Edges, History, Mark, Marks, Offset, Point, Progress, Requirement,
    Role, Scope, marks::Doubt,
};

/// How many (history, outcome) pairs of writes without a place are kept apart from the marks. Beyond,
/// they become marks at ∞, which only the primary can answer (invariant 8).
const MAX_UNSETTLED: usize = 64;

/// What one user depends on, and the rules by which that changes: the value behind a
/// [`Session`](crate::Session). What changes it says whether a token would change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct View {
    marks: Marks,
    unsettled: Vec<Unsettled>,
    next_write: u64,
    /// Counts what the session has learnt. A requirement carries the count of its snapshot, so that a
    /// sample which was asked for on its behalf is never used against something learnt later.
    clock: u64,
    /// The clock when marks last came in that were in doubt.
    doubted_at: u64,
    continuity: Continuity,
}

/// A write that has been started and has no mark yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Unsettled {
    id: u64,
    scope: Scope,
    history: History,
    outcome: Outcome,
    /// That it may be lost has been said, with respect to `history`, which came after the one that it was sent in.
    reported: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Outcome {
    /// Its caller waits for the reply: nobody has been told that it happened.
    Awaited,
    /// Its caller has gone; the connection will still settle it.
    Abandoned,
    /// It may be applied, or not, or later: the connection was lost. `clock` is when that was known.
    Lost { clock: u64 },
    /// It is applied; its place was not learnt. `clock` is when that was known.
    Applied { clock: u64 },
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Conclusion {
    /// It did not happen.
    NotSent,
    /// It happened at or below `offset` of `history`, or, when it was in doubt, it did so or never will.
    Settled {
        /// The history that `offset` counts in.
        history: History,
        /// At or past the write.
        offset: Offset,
    },
    /// It happened, at a place that is not known.
    Applied,
    /// Whether it happened is not known, it may still happen, and nothing more will be said of it.
    Lost,
}

impl Conclusion {
    /// What a sample says of writes that a connection in `history` has left in doubt, once that connection can
    /// deliver nothing more (invariant 3). They are at or below where the primary is now, if it has been in their
    /// history all the time. If not, a failover or a restart may have lost them: they stay in doubt, and the
    /// next proof says so.
    #[must_use]
    pub fn of_doubt(history: History, sample: &Progress) -> Self {
        if sample.role == Role::Primary && sample.history == history {
            Self::Settled {
                history,
                offset: Offset::at(sample.applied),
            }
        } else {
            Self::Lost
        }
    }
}

impl View {
    /// Depends on these marks.
    #[must_use]
    pub fn of(marks: Marks) -> Self {
        Self {
            marks,
            ..Self::default()
        }
    }

    /// Counts anew what was learnt, so that only the order of what is compared is kept: for model checkers, to which states
    /// that differ in nothing else are then one. `in_use` are the requirements that were taken before and are still to
    /// be used.
    pub fn recount(&mut self, in_use: &mut [&mut Requirement]) {
        let concluded = self
            .unsettled
            .iter_mut()
            .filter_map(|write| match &mut write.outcome {
                Outcome::Lost { clock } | Outcome::Applied { clock } => Some(clock),
                Outcome::Awaited | Outcome::Abandoned => None,
            });
        let requirements = in_use.iter_mut().map(|requirement| requirement.clock_mut());
        let mut counts: Vec<&mut u64> = [&mut self.clock, &mut self.doubted_at]
            .into_iter()
            .chain(concluded)
            .chain(requirements)
            .collect();
        counts.sort_unstable();
        let (mut last, mut rank) = (None, 0);
        for count in counts {
            if last.replace(*count).is_some_and(|last| last != *count) {
                rank += 1;
            }
            *count = rank;
        }
        if self.unsettled.is_empty() {
            self.next_write = 0;
        }
    }

    /// Everything that is depended on now; [`Session::marks`](crate::Session::marks).
    #[must_use]
    pub fn marks(&self) -> Marks {
        let mut marks = self.marks.clone();
        for write in self
            .unsettled
            .iter()
            .filter(|write| write.outcome != Outcome::Awaited)
        {
            marks.add_written(&Mark {
                scope: write.scope.clone(),
                history: write.history,
                offset: Offset::UNKNOWN,
            });
        }
        marks
    }

    /// The worst that a read has met.
    #[must_use]
    pub fn continuity(&self) -> Continuity {
        self.continuity
    }

    /// How many writes have no mark yet.
    #[must_use]
    pub fn unsettled(&self) -> usize {
        self.unsettled.len()
    }

    /// [`Session::merge`](crate::Session::merge).
    pub fn merge(&mut self, marks: &Marks) -> bool {
        let moved = self.marks.merge(marks);
        self.learnt(moved, *marks.doubt() != Doubt::Nowhere)
    }

    /// [`Session::add_written`](crate::Session::add_written).
    pub fn add_written(&mut self, mark: &Mark) -> bool {
        let moved = self.marks.add_written(mark);
        self.learnt(moved, false)
    }

    /// [`Session::add_read`](crate::Session::add_read).
    pub fn add_read(&mut self, mark: &Mark) -> bool {
        let moved = self.marks.add_read(mark);
        self.learnt(moved, false)
    }

    /// [`Session::requirement`](crate::Session::requirement).
    #[must_use]
    pub fn requirement(&self, scope: &Scope, level: Consistency) -> Requirement {
        if level == Consistency::Eventual {
            return Requirement::default();
        }
        let mut requirement = self.marks.requirement(scope, level == Consistency::Monotonic);
        requirement.set_clock(self.clock);
        self.places_unknown(scope)
            .for_each(|point| requirement.push(point));
        requirement
    }

    /// Whether what a node had when it gave this sample is all that a read in `scope` at `level` must cover, as far as the
    /// sample alone can say: what is of another history counts as missing, and so does a write of which it is not known where
    /// it is, which may have come later, also to the primary. `None` when nothing has to be covered.
    #[must_use]
    pub fn is_shown_by(
        &self,
        progress: Option<&Progress>,
        scope: &Scope,
        level: Consistency,
    ) -> Option<bool> {
        if level == Consistency::Eventual {
            return None;
        }
        if self.marks.is_in_doubt(scope) || self.places_unknown(scope).next().is_some() {
            return Some(false);
        }
        let known = Edges::default();
        let points = self.marks.points(scope, level == Consistency::Monotonic);
        points
            .map(|Point { history, offset }| {
                !offset.is_unknown()
                    && progress
                        .is_some_and(|progress| progress.covers(history, offset, &known) == Coverage::Covered)
            })
            .reduce(|all, one| all && one)
    }

    /// The writes in `scope` of which it is not known where they are.
    fn places_unknown(&self, scope: &Scope) -> impl Iterator<Item = Point> {
        let own = move |write: &&Unsettled| write.outcome != Outcome::Awaited && write.scope == *scope;
        self.unsettled.iter().filter(own).map(|write| Point {
            history: write.history,
            offset: Offset::UNKNOWN,
        })
    }

    /// Starts a write in `history`, and names it.
    pub fn begin_write(&mut self, scope: &Scope, history: History) -> u64 {
        let id = self.next_write;
        self.next_write += 1;
        self.unsettled.push(Unsettled {
            id,
            scope: scope.clone(),
            history,
            outcome: Outcome::Awaited,
            reported: false,
        });
        id
    }

    /// The caller of a write has gone, or is told that its outcome is not known.
    pub fn abandon(&mut self, id: u64) -> bool {
        match self.unsettled.iter_mut().find(|write| write.id == id) {
            Some(write) if write.outcome == Outcome::Awaited => {
                write.outcome = Outcome::Abandoned;
                true
            }
            _ => false,
        }
    }

    /// What became of a write is known, as far as it ever will be.
    pub fn conclude(&mut self, id: u64, conclusion: Conclusion) -> bool {
        let Some(place) = self.unsettled.iter().position(|write| write.id == id) else {
            return false;
        };
        let write = self.unsettled.swap_remove(place);
        match conclusion {
            Conclusion::NotSent => write.outcome == Outcome::Abandoned,
            Conclusion::Settled { history, offset } => {
                let moved = self.marks.add_written(&Mark {
                    scope: write.scope,
                    history,
                    offset,
                });
                self.learnt(moved || write.outcome == Outcome::Abandoned, false)
            }
            Conclusion::Lost | Conclusion::Applied => {
                self.clock += 1;
                let clock = self.clock;
                let outcome = match conclusion {
                    Conclusion::Applied => Outcome::Applied { clock },
                    // It can't happen any more, and it was said that it may be lost. If it has happened all the same, it
                    // is below what the primary shows from here on.
                    _ if write.reported => Outcome::Applied { clock },
                    _ => Outcome::Lost { clock },
                };
                self.keep_unsettled(Unsettled { outcome, ..write });
                if self.marks.is_full() {
                    self.doubted_at = clock;
                }
                true
            }
        }
    }

    /// [`Session::settle_doubt`](crate::Session::settle_doubt).
    pub fn settle_doubt(&mut self, requirement: &Requirement, mark: &Mark) -> bool {
        self.doubted_at <= requirement.clock() && self.marks.settle(mark)
    }

    /// [`Session::date_doubt`](crate::Session::date_doubt).
    pub fn date_doubt(&mut self, scope: &Scope, now: u64) {
        self.marks.date_doubt(scope, now);
    }

    /// [`Session::settle_overdue`](crate::Session::settle_overdue).
    pub fn settle_overdue(&mut self, requirement: &Requirement, mark: &Mark) -> bool {
        let point = requirement
            .points()
            .iter()
            .find(|point| point.history == mark.history);
        // What came in later says a later time, and stays.
        point.is_some_and(|point| self.marks.settle_unknown(point.offset, mark))
    }

    /// [`Session::proven_by_primary`](crate::Session::proven_by_primary).
    pub fn proven_by_primary(
        &mut self,
        scope: &Scope,
        requirement: &Requirement,
        progress: &Progress,
        edges: &Edges,
    ) -> bool {
        if progress.role != Role::Primary {
            return false;
        }
        let mark = Mark {
            scope: scope.clone(),
            history: progress.history,
            offset: Offset::at(progress.applied),
        };
        let before = self.unsettled.len();
        self.unsettled.retain(|write| {
            let below = matches!(write.outcome, Outcome::Applied { clock } if clock <= requirement.clock());
            !(below && write.scope == *scope && write.history == progress.history)
        });
        let mut moved = before != self.unsettled.len();
        if moved {
            self.marks.add_written(&mark);
            self.learnt(true, false);
        }
        let own = progress.history;
        moved |= self
            .marks
            .rebase(scope, own, |history| progress.fork_from(history, edges));
        moved
    }

    /// [`Session::record_discontinuity`](crate::Session::record_discontinuity).
    pub fn record_discontinuity(
        &mut self,
        scope: &Scope,
        requirement: &Requirement,
        progress: &Progress,
        edges: &Edges,
    ) -> bool {
        let mut moved = false;
        let nothing_new = self.clock == requirement.clock();
        for point in requirement.points() {
            match progress.covers(point.history, point.offset, edges) {
                Coverage::PossiblyLost => {
                    self.continuity = self.continuity.max(Continuity::PossiblyLost);
                    // From here on the session depends on what the primary has now: all of its writes
                    // that survived are in that, which is more than the fork point would promise.
                    let kept = Offset::at(progress.applied);
                    let before = self.unsettled.len();
                    // Only what the requirement knew of: what was learnt later may lie above the sample.
                    self.unsettled.retain_mut(|write| {
                        let known = match write.outcome {
                            Outcome::Abandoned if write.scope == *scope && write.history == point.history => {
                                // Its connection may still say more of it, or deliver it. Until then it is as one of the
                                // primary's history: in doubt, and reported once.
                                (write.history, write.reported) = (progress.history, true);
                                return true;
                            }
                            Outcome::Awaited | Outcome::Abandoned => false,
                            Outcome::Lost { clock } | Outcome::Applied { clock } => {
                                clock <= requirement.clock()
                            }
                        };
                        !known || write.scope != *scope || write.history != point.history
                    });
                    if before != self.unsettled.len() {
                        self.marks.add_written(&Mark {
                            scope: scope.clone(),
                            history: progress.history,
                            offset: kept,
                        });
                    }
                    self.marks.replace(scope, *point, progress.history, kept);
                    moved = true;
                }
                Coverage::Unknown => {
                    self.continuity = self.continuity.max(Continuity::UnknownHistory);
                }
                // The primary of that very history has not been where the mark says: nobody has. Said
                // of the marks that the requirement knew of; a write since may have gone further.
                Coverage::Behind
                    if progress.role == Role::Primary && point.history == progress.history && nothing_new =>
                {
                    moved |= self
                        .marks
                        .clamp(scope, point.history, Offset::at(progress.applied));
                }
                Coverage::Behind | Coverage::Covered => {}
            }
        }
        if moved {
            self.learnt(true, false);
        }
        moved
    }

    /// Marks came in, with doubt or without. Says whether they moved anything.
    fn learnt(&mut self, moved: bool, doubt: bool) -> bool {
        self.clock += 1;
        // In a full set, what moved may have become doubt.
        if doubt || (moved && self.marks.is_full()) {
            self.doubted_at = self.clock;
        }
        moved
    }

    /// Keeps a write whose place will not be learnt. One a history and outcome is enough, the latest:
    /// what settles it settles the earlier ones too, so a session that goes on writing over a broken
    /// link does not grow (invariant 8).
    fn keep_unsettled(&mut self, write: Unsettled) {
        let same = self.unsettled.iter_mut().find(|kept| {
            kept.scope == write.scope
                && kept.history == write.history
                && std::mem::discriminant(&kept.outcome) == std::mem::discriminant(&write.outcome)
        });
        if let Some(kept) = same {
            kept.outcome = write.outcome;
            return;
        }
        let concluded = self
            .unsettled
            .iter()
            .filter(|kept| matches!(kept.outcome, Outcome::Lost { .. } | Outcome::Applied { .. }));
        if concluded.count() < MAX_UNSETTLED {
            self.unsettled.push(write);
        } else {
            self.marks.add_written(&Mark {
                scope: write.scope,
                history: write.history,
                offset: Offset::UNKNOWN,
            });
        }
    }
}
