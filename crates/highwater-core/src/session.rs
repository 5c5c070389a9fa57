//! Sessions: the shared handle on what one user depends on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{
    Consistency, Continuity, Edges, History, Mark, Marks, Offset, Point, Progress, Requirement, Role, Route,
    RouteCounts, Scope, SessionId, Token, marks::Doubt,
};

/// How many (history, outcome) pairs of writes without a place are kept apart from the marks. Beyond,
/// they become marks at ∞, which only the primary can answer (invariant 8).
const MAX_UNSETTLED: usize = 64;

/// One user's or one caller's view: the marks that they wrote, the marks that they read, and the
/// writes whose outcome is not known. Cheap to clone; clones share the view.
///
/// ```
/// use highwater_core::{Mark, Offset, Scope, Session};
/// # use highwater_core::History;
/// # let history: History = "0123456789abcdef0123456789abcdef01234567".parse()?;
/// let session = Session::new();
/// let mark = Mark { scope: Scope::default(), history, offset: Offset::at(42) };
/// session.add_written(&mark);
/// // A second session that resumes from the first one's marks depends on the same writes.
/// let resumed = Session::resume(session.marks());
/// assert_eq!(resumed.marks(), session.marks());
/// # Ok::<(), highwater_core::ParseHistoryError>(())
/// ```
#[derive(Clone, Default)]
pub struct Session(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    marks: Marks,
    id: Option<SessionId>,
    unsettled: Vec<Unsettled>,
    next_write: u64,
    /// Counts what the session has learnt. A requirement carries the count of its snapshot, so that a
    /// sample which was asked for on its behalf is never used against something learnt later.
    clock: u64,
    /// The clock when marks last came in that were in doubt.
    doubted_at: u64,
    level: Option<Consistency>,
    routes: RouteCounts,
    continuity: Continuity,
    version: u64,
}

/// A write that has been started and has no mark yet.
#[derive(Debug)]
struct Unsettled {
    id: u64,
    scope: Scope,
    history: History,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

impl Session {
    /// A session that depends on nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A session that goes on where another one was: from its [`token`](Self::token), a decoded one, or marks.
    ///
    /// It shares nothing with the other from here on. A task that is to share what it learns with its
    /// request takes a clone of the session instead.
    #[must_use]
    pub fn resume(token: impl Into<Token>) -> Self {
        let Token { marks, id } = token.into();
        Self(Arc::new(Mutex::new(State {
            marks,
            id,
            ..State::default()
        })))
    }

    /// Everything that the session depends on now, and its identity: for a job, a queue, or a
    /// [`TokenCodec`](crate::TokenCodec).
    ///
    /// ```
    /// use highwater_core::Session;
    /// # use std::{sync::mpsc, thread};
    /// # let session = Session::new();
    /// let (jobs, queue) = mpsc::sync_channel(8);
    /// let worker = thread::spawn(move || {
    ///     for token in queue {
    ///         let session = Session::resume(token);
    ///         // Reads of this session show what the request had written when it sent the job.
    /// #       assert!(session.marks().is_empty());
    ///     }
    /// });
    /// jobs.send(session.token())?;
    /// # drop(jobs);
    /// # worker.join().unwrap();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn token(&self) -> Token {
        Token {
            marks: self.marks(),
            id: self.id(),
        }
    }

    /// The session's identity, if it has one.
    #[must_use]
    pub fn id(&self) -> Option<SessionId> {
        self.state().id
    }

    /// Gives the session an identity, unless it has one. What it has then is given back.
    pub fn identify(&self, id: SessionId) -> SessionId {
        let mut state = self.state();
        match state.id {
            Some(id) => id,
            None => {
                state.id = Some(id);
                state.note(true);
                id
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change under the lock leaves the state whole, so a panic elsewhere can't spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that the session depends on now. Writes whose outcome is not known appear as marks
    /// at [`Offset::UNKNOWN`].
    #[must_use]
    pub fn marks(&self) -> Marks {
        let state = self.state();
        let mut marks = state.marks.clone();
        for write in state
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

    /// Adds marks from elsewhere (another token, another service's reply). Never lowers a mark.
    pub fn merge(&self, marks: &Marks) {
        let mut state = self.state();
        let moved = state.marks.merge(marks);
        state.learnt(moved, *marks.doubt() != Doubt::Nowhere);
    }

    /// Adds the mark of a write.
    pub fn add_written(&self, mark: &Mark) {
        let mut state = self.state();
        let moved = state.marks.add_written(mark);
        state.learnt(moved, false);
    }

    /// Adds the mark of a state that the user may have seen.
    pub fn add_read(&self, mark: &Mark) {
        let mut state = self.state();
        let moved = state.marks.add_read(mark);
        state.learnt(moved, false);
    }

    /// Changes whenever a token of this session would change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.state().version
    }

    /// The session's own consistency level, if one was set.
    #[must_use]
    pub fn level(&self) -> Option<Consistency> {
        self.state().level
    }

    /// Sets the consistency level of the session's reads; it overrides the client's.
    pub fn set_level(&self, level: Consistency) {
        self.state().level = Some(level);
    }

    /// The worst that a read of this session has met: whether a mark could not be honoured.
    #[must_use]
    pub fn continuity(&self) -> Continuity {
        self.state().continuity
    }

    /// Where the session's reads came from so far.
    #[must_use]
    pub fn routes(&self) -> RouteCounts {
        self.state().routes
    }

    /// Counts a read.
    pub fn record_route(&self, route: Route) {
        let mut state = self.state();
        let count = match route {
            Route::Cache => &mut state.routes.cache,
            Route::Replica => &mut state.routes.replica,
            Route::Primary => &mut state.routes.primary,
        };
        *count = count.saturating_add(1);
    }

    /// What a read in `scope` at `level` must cover.
    #[must_use]
    pub fn requirement(&self, scope: &Scope, level: Consistency) -> Requirement {
        let with_reads = match level {
            Consistency::Eventual => return Requirement::default(),
            Consistency::Monotonic => true,
            Consistency::ReadYourWrites | Consistency::BoundedStaleness(_) | Consistency::Primary => false,
        };
        let state = self.state();
        let mut requirement = state.marks.requirement(scope, with_reads);
        requirement.set_clock(state.clock);
        for write in &state.unsettled {
            if write.outcome != Outcome::Awaited && write.scope == *scope {
                requirement.push(Point {
                    history: write.history,
                    offset: Offset::UNKNOWN,
                });
            }
        }
        requirement
    }

    /// Starts a write in `history`. The first half goes with the command to the connection, which
    /// says what became of it, also when the caller has gone; the second stays with the caller.
    #[must_use]
    pub fn begin_write(&self, scope: &Scope, history: History) -> (PendingWrite, CallerGuard) {
        let mut state = self.state();
        let id = state.next_write;
        state.next_write += 1;
        state.unsettled.push(Unsettled {
            id,
            scope: scope.clone(),
            history,
            outcome: Outcome::Awaited,
        });
        drop(state);
        (
            PendingWrite {
                session: self.clone(),
                id,
                open: true,
            },
            CallerGuard {
                session: self.clone(),
                id,
                waiting: true,
            },
        )
    }

    /// Settles the doubt of a session that arrived with an unreadable token: `mark` is where the
    /// primary was at a moment after `requirement` was taken. Doubt that came in later than that stays:
    /// what it stands for may lie above the mark.
    pub fn settle_doubt(&self, requirement: &Requirement, mark: &Mark) {
        let mut state = self.state();
        if state.doubted_at > requirement.clock() {
            return;
        }
        let moved = state.marks.settle(mark);
        state.note(moved);
    }

    /// Says of writes of unknown place that came from elsewhere without a time that they were begun
    /// before `now` (Unix seconds), so that their doubt can end.
    pub fn date_doubt(&self, scope: &Scope, now: u64) {
        self.state().marks.date_doubt(scope, now);
    }

    /// Settles writes whose place was unknown to whoever issued the token, in `mark`'s history: so much
    /// time has passed that they can't happen any more, and `mark` is where the primary was at a moment
    /// after that, and after `requirement` was taken.
    pub fn settle_overdue(&self, requirement: &Requirement, mark: &Mark) {
        let mut state = self.state();
        let point = requirement
            .points()
            .iter()
            .find(|point| point.history == mark.history);
        // What came in later says a later time, and stays.
        let moved = point.is_some_and(|point| state.marks.settle_unknown(point.offset, mark));
        state.note(moved);
    }

    /// Takes in what a primary's proof says, for a read of `requirement`: writes that were applied at
    /// an unknown place are below it, and marks in the shared past are rewritten to its history.
    pub fn proven_by_primary(
        &self,
        scope: &Scope,
        requirement: &Requirement,
        progress: &Progress,
        edges: &Edges,
    ) {
        if progress.role != Role::Primary {
            return;
        }
        let mut state = self.state();
        let mark = Mark {
            scope: scope.clone(),
            history: progress.history,
            offset: Offset::at(progress.applied),
        };
        let before = state.unsettled.len();
        state.unsettled.retain(|write| {
            let below = matches!(write.outcome, Outcome::Applied { clock } if clock <= requirement.clock());
            !(below && write.scope == *scope && write.history == progress.history)
        });
        let mut moved = before != state.unsettled.len();
        if moved {
            state.marks.add_written(&mark);
            state.learnt(true, false);
        }
        let own = progress.history;
        moved |= state
            .marks
            .rebase(scope, own, |history| progress.fork_from(history, edges));
        state.note(moved);
    }

    /// Records that marks could not be honoured by the primary with this progress. Marks that its
    /// lineage shows to be lost are replaced by where the primary is now, so that a loss is reported once;
    /// marks of unknown histories are kept, since another primary may know them (invariant 4).
    pub fn record_discontinuity(
        &self,
        scope: &Scope,
        requirement: &Requirement,
        progress: &Progress,
        edges: &Edges,
    ) {
        use crate::Coverage;
        let mut state = self.state();
        let mut moved = false;
        let nothing_new = state.clock == requirement.clock();
        for point in requirement.points() {
            match progress.covers(point.history, point.offset, edges) {
                Coverage::PossiblyLost => {
                    state.continuity = state.continuity.max(Continuity::PossiblyLost);
                    // From here on the session depends on what the primary has now: all of its writes
                    // that survived are in that, which is more than the fork point would promise.
                    let kept = Offset::at(progress.applied);
                    let before = state.unsettled.len();
                    // Only what the requirement knew of: what was learnt later may lie above the sample.
                    state.unsettled.retain(|write| {
                        let known = match write.outcome {
                            Outcome::Awaited | Outcome::Abandoned => false,
                            Outcome::Lost { clock } | Outcome::Applied { clock } => {
                                clock <= requirement.clock()
                            }
                        };
                        !known || write.scope != *scope || write.history != point.history
                    });
                    if before != state.unsettled.len() {
                        state.marks.add_written(&Mark {
                            scope: scope.clone(),
                            history: progress.history,
                            offset: kept,
                        });
                    }
                    state.marks.replace(scope, *point, progress.history, kept);
                    moved = true;
                }
                Coverage::Unknown => {
                    state.continuity = state.continuity.max(Continuity::UnknownHistory);
                }
                // The primary of that very history has not been where the mark says: nobody has. Said
                // of the marks that the requirement knew of; a write since may have gone further.
                Coverage::Behind
                    if progress.role == Role::Primary && point.history == progress.history && nothing_new =>
                {
                    moved |= state
                        .marks
                        .clamp(scope, point.history, Offset::at(progress.applied));
                }
                Coverage::Behind | Coverage::Covered => {}
            }
        }
        if moved {
            state.learnt(true, false);
        }
    }

    fn abandon(&self, id: u64) {
        let mut state = self.state();
        if let Some(write) = state.unsettled.iter_mut().find(|write| write.id == id)
            && write.outcome == Outcome::Awaited
        {
            write.outcome = Outcome::Abandoned;
            state.note(true);
        }
    }

    fn conclude(&self, id: u64, conclusion: Conclusion) {
        let mut state = self.state();
        let Some(place) = state.unsettled.iter().position(|write| write.id == id) else {
            return;
        };
        match conclusion {
            Conclusion::NotSent => {
                let write = state.unsettled.swap_remove(place);
                state.note(write.outcome == Outcome::Abandoned);
            }
            Conclusion::Settled { history, offset } => {
                let write = state.unsettled.swap_remove(place);
                let moved = state.marks.add_written(&Mark {
                    scope: write.scope,
                    history,
                    offset,
                });
                state.learnt(moved || write.outcome == Outcome::Abandoned, false);
            }
            Conclusion::Lost | Conclusion::Applied => {
                state.clock += 1;
                let clock = state.clock;
                let outcome = match conclusion {
                    Conclusion::Applied => Outcome::Applied { clock },
                    _ => Outcome::Lost { clock },
                };
                let write = state.unsettled.swap_remove(place);
                state.keep_unsettled(Unsettled { outcome, ..write });
                if state.marks.is_full() {
                    state.doubted_at = clock;
                }
                state.note(true);
            }
        }
    }
}

impl State {
    fn note(&mut self, moved: bool) {
        self.version += u64::from(moved);
    }

    /// Marks came in, with doubt or without.
    fn learnt(&mut self, moved: bool, doubt: bool) {
        self.clock += 1;
        // In a full set, what moved may have become doubt.
        if doubt || (moved && self.marks.is_full()) {
            self.doubted_at = self.clock;
        }
        self.note(moved);
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

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        f.debug_struct("Session")
            .field("marks", &state.marks)
            .field("unsettled", &state.unsettled.len())
            .field("continuity", &state.continuity)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
enum Conclusion {
    NotSent,
    Settled { history: History, offset: Offset },
    Applied,
    Lost,
}

/// The connection's half of a write that has been started: it says what became of the write.
/// Dropped without a word, the write is in doubt.
#[derive(Debug)]
pub struct PendingWrite {
    session: Session,
    id: u64,
    open: bool,
}

impl PendingWrite {
    /// The reply came, and the sample that followed it on the same connection says where: at or
    /// below `offset` of `history`.
    pub fn settle(mut self, history: History, offset: Offset) {
        self.conclude(Conclusion::Settled { history, offset });
    }

    /// No byte of it has been sent: it did not happen.
    pub fn not_sent(mut self) {
        self.conclude(Conclusion::NotSent);
    }

    /// The reply came, but no sample after it: it happened, at a place that is not known.
    pub fn applied_somewhere(mut self) {
        self.conclude(Conclusion::Applied);
    }

    /// Whether it happened is not known: the session is in doubt from here on. What is said of the
    /// write later settles it.
    pub fn in_doubt(&mut self) {
        self.session.abandon(self.id);
    }

    /// Whether it happened is not known, it may still happen, and nothing more will be said of it.
    pub fn lost(mut self) {
        self.conclude(Conclusion::Lost);
    }

    fn conclude(&mut self, conclusion: Conclusion) {
        if std::mem::take(&mut self.open) {
            self.session.conclude(self.id, conclusion);
        }
    }
}

impl Drop for PendingWrite {
    fn drop(&mut self) {
        self.conclude(Conclusion::Lost);
    }
}

/// The caller's half of a write that has been started. Dropped before the reply, it leaves the write
/// in doubt until the connection settles it.
#[derive(Debug)]
pub struct CallerGuard {
    session: Session,
    id: u64,
    waiting: bool,
}

impl CallerGuard {
    /// The caller has the reply. Only for replies that are delivered after the connection's half has
    /// said its word: until then the write stands in no requirement.
    pub fn replied(mut self) {
        self.waiting = false;
    }
}

impl Drop for CallerGuard {
    fn drop(&mut self) {
        if self.waiting {
            self.session.abandon(self.id);
        }
    }
}
