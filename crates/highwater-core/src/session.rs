//! Sessions: the shared handle on what one user depends on.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use crate::{
    Conclusion, Consistency, Continuity, Edges, History, Mark, Marks, Offset, Progress, Requirement, Route,
    RouteCounts, Scope, SessionId, Token, View,
};

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
pub struct Session(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Counted at each read, and of no consequence for anything else: not behind the lock.
    routes: [AtomicU64; Route::ALL.len()],
}

#[derive(Debug, Default)]
struct State {
    view: View,
    id: Option<SessionId>,
    level: Option<Consistency>,
    version: u64,
}

impl State {
    /// The level of a read that asks for this one, and that of one that does not.
    fn levels(&self, asked: Option<Consistency>, usual: Consistency) -> (Consistency, Consistency) {
        let usual = self.level.unwrap_or(usual);
        (asked.unwrap_or(usual), usual)
    }
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
        let state = State {
            view: View::of(marks),
            id,
            ..State::default()
        };
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            ..Shared::default()
        }))
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
                state.version += 1;
                id
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change under the lock leaves the state whole, so a panic elsewhere can't spoil it.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that the session depends on now. Writes whose outcome is not known appear as marks
    /// at [`Offset::UNKNOWN`].
    #[must_use]
    pub fn marks(&self) -> Marks {
        self.state().view.marks()
    }

    /// Adds marks from elsewhere (another token, another service's reply). Never lowers a mark.
    pub fn merge(&self, marks: &Marks) {
        self.change(|view| view.merge(marks));
    }

    /// Adds the mark of a write.
    pub fn add_written(&self, mark: &Mark) {
        self.change(|view| view.add_written(mark));
    }

    /// Adds the mark of a state that the user may have seen.
    pub fn add_read(&self, mark: &Mark) {
        self.change(|view| view.add_read(mark));
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
        self.state().view.continuity()
    }

    /// Where the session's reads came from so far.
    #[must_use]
    pub fn routes(&self) -> RouteCounts {
        let of = |route| u32::try_from(self.count(route).load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        RouteCounts {
            cache: of(Route::Cache),
            replica: of(Route::Replica),
            primary: of(Route::Primary),
        }
    }

    /// Counts a read.
    pub fn record_route(&self, route: Route) {
        self.count(route).fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self, route: Route) -> &AtomicU64 {
        let [cache, replica, primary] = &self.0.routes;
        match route {
            Route::Cache => cache,
            Route::Replica => replica,
            Route::Primary => primary,
        }
    }

    /// What a read in `scope` at `level` must cover.
    #[must_use]
    pub fn requirement(&self, scope: &Scope, level: Consistency) -> Requirement {
        self.state().view.requirement(scope, level)
    }

    /// The level of a read that asks for `asked`, the one that it has where nothing is asked for (the session's own, and then
    /// `usual`), and what it must cover in `scope`.
    #[must_use]
    pub fn read(
        &self,
        scope: &Scope,
        asked: Option<Consistency>,
        usual: Consistency,
    ) -> (Consistency, Consistency, Requirement) {
        let state = self.state();
        let (level, usual) = state.levels(asked, usual);
        (level, usual, state.view.requirement(scope, level))
    }

    /// The same two levels, and whether what a node had when it gave this sample is all that the read must cover:
    /// [`View::is_shown_by`].
    #[must_use]
    pub fn is_shown_by(
        &self,
        progress: Option<&Progress>,
        scope: &Scope,
        asked: Option<Consistency>,
        usual: Consistency,
    ) -> (Consistency, Consistency, Option<bool>) {
        let state = self.state();
        let (level, usual) = state.levels(asked, usual);
        (level, usual, state.view.is_shown_by(progress, scope, level))
    }

    /// Starts a write in `history`. The first half goes with the command to the connection, which
    /// says what became of it, also when the caller has gone; the second stays with the caller.
    #[must_use]
    pub fn begin_write(&self, scope: &Scope, history: History) -> (PendingWrite, CallerGuard) {
        let id = self.state().view.begin_write(scope, history);
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
        self.change(|view| view.settle_doubt(requirement, mark));
    }

    /// Says of writes of unknown place that came from elsewhere without a time that they were begun
    /// before `now` (Unix seconds), so that their doubt can end.
    pub fn date_doubt(&self, scope: &Scope, now: u64) {
        self.state().view.date_doubt(scope, now);
    }

    /// Settles writes whose place was unknown to whoever issued the token, in `mark`'s history: so much
    /// time has passed that they can't happen any more, and `mark` is where the primary was at a moment
    /// after that, and after `requirement` was taken.
    pub fn settle_overdue(&self, requirement: &Requirement, mark: &Mark) {
        self.change(|view| view.settle_overdue(requirement, mark));
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
        self.change(|view| view.proven_by_primary(scope, requirement, progress, edges));
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
        self.change(|view| view.record_discontinuity(scope, requirement, progress, edges));
    }

    fn abandon(&self, id: u64) {
        self.change(|view| view.abandon(id));
    }

    fn conclude(&self, id: u64, conclusion: Conclusion) {
        self.change(|view| view.conclude(id, conclusion));
    }

    fn change(&self, rule: impl FnOnce(&mut View) -> bool) {
        let mut state = self.state();
        let moved = rule(&mut state.view);
        state.version += u64::from(moved);
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        f.debug_struct("Session")
            .field("marks", &state.view.marks())
            .field("unsettled", &state.view.unsettled())
            .field("continuity", &state.view.continuity())
            .finish_non_exhaustive()
    }
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

    /// The connection that it was sent on, while the primary was in `history`, can deliver nothing more, and
    /// `sample` was taken after that. True when that settles the write; if not, it stays in doubt.
    pub fn settle_doubt(mut self, history: History, sample: &Progress) -> bool {
        let conclusion = Conclusion::of_doubt(history, sample);
        self.conclude(conclusion);
        matches!(conclusion, Conclusion::Settled { .. })
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
