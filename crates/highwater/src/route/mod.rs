//! Routing: writes to the primary, reads to the replica that is likely to cover them. Hints route,
//! proofs admit: no reply of a read passes here unless its own proof covers the requirement.

mod acks;
mod admit;
mod barrier;
mod cached;
mod choose;
mod counters;
mod fallbacks;
mod own;
mod pool;
mod primary;
mod service;
mod strays;
mod unmet;

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, PoisonError, RwLockReadGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use highwater_core::{
    CallerGuard, Consistency, Coverage, Edges, Mark, Marks, Offset, Point, Progress, Reason, Role, Route,
    Scope, Session,
};
use redis::Value;
use tokio::sync::{Semaphore, oneshot};
use tracing::{Instrument, Level, Span, field::Empty, level_filters::LevelFilter};

pub use self::counters::{Anomalies, ReadCount};
pub(crate) use self::{
    admit::{Admitted, Needs},
    cached::Outlook,
    counters::Counters,
    fallbacks::Fallbacks,
    own::Own,
    pool::BlockingPool,
    service::RouteService,
    strays::Strays,
    unmet::Unmet,
};
use self::{
    admit::{Read, is_anyones},
    barrier::Barrier,
    cached::InLine,
    choose::Choice,
    counters::SentWrite,
    fallbacks::Place,
};
use crate::{
    acks::Acked,
    command::{Class, Command, CommandTable, Look, Unit, commands},
    defaults::{BARRIER_PACE, REPLICA_ATTEMPTS, SUSPENSION},
    error::{Error, ErrorKind},
    node::{
        Answer, Connection, Knowledge, Node, NodeId, Proof, ProofWanted, Request, Sent, each_alone, in_doubt,
    },
    permits::Permits,
    topology::{Members, Roster, Steward},
};

/// What a command's span is at.
const SPANS: Level = Level::TRACE;
/// Bounds of staleness below this are served by the primary: samples of it are not taken so often.
const LEAST_BOUND: Duration = BARRIER_PACE;

/// A reply, and where it came from.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Reply {
    /// What the server answered. For a pipeline, an array with a reply for each command.
    pub value: Value,
    /// Where it came from.
    pub route: Route,
    /// Why it came from there.
    pub reason: Reason,
    /// How many have acknowledged a write, where [`Command::acks`] has asked.
    pub acks: Option<Acked>,
}

impl Reply {
    fn finished(mut self, command: &Command) -> Result<Self, Error> {
        if command.unit == Unit::Single && !matches!(self.value, Value::ServerError(_)) {
            return Ok(self);
        }
        self.value = finished(self.value, command).map_err(|error| error.with_reason(self.reason))?;
        Ok(self)
    }
}

/// What to do with a read when the primary itself can't honour the session's marks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Policy {
    /// Answer from the primary, visibly: the reply's reason, `session.continuity()`, a counter and a
    /// trace event tell.
    #[default]
    Primary,
    /// Fail the read.
    Error,
    /// Go on as if the session did not depend on the marks that can't be honoured, so that replicas may
    /// answer. As visible as [`Primary`](Self::Primary).
    ///
    /// The first read to meet such a mark still goes to the primary, since only the primary can tell.
    /// From then on what is given up is this: reads of sessions that depend on the same history show
    /// any node's state, and need not show the writes behind the marks, even where those have survived; at
    /// a primary of another history that knows them, they do again. Marks of an unknown history stay in
    /// the session and its token all the same, and each of its reads says
    /// [`Reason::UnknownHistory`]. A mark that may be lost is replaced by where the primary is, once,
    /// and the session goes on from there. Everything else that the session depends on is honoured as ever.
    Proceed,
}

/// The route stage.
#[derive(Debug)]
pub(crate) struct Router {
    pub(crate) scope: Scope,
    pub(crate) level: Consistency,
    pub(crate) max_wait: Duration,
    pub(crate) doubt_grace: Duration,
    pub(crate) on_possibly_lost: Policy,
    pub(crate) on_unknown_history: Policy,
    /// The nodes in use.
    pub(crate) members: Roster,
    /// What changes them.
    pub(crate) steward: Steward,
    /// How long a caller waits to be told for the first time which node is the primary.
    pub(crate) connect_timeout: Duration,
    pub(crate) knowledge: Arc<Knowledge>,
    /// Serves until the primary has been asked for its own.
    pub(crate) built_in_table: CommandTable,
    pub(crate) counters: Counters,
    pub(crate) permits: Permits,
    /// Connections of callers' own that may still be opened.
    pub(crate) dedicated: Arc<Semaphore>,
    pub(crate) blocking: BlockingPool,
    pub(crate) barrier: Arc<Barrier>,
    pub(crate) unmet: Unmet,
    pub(crate) strays: Strays,
    /// The bound on reads that the primary answers in place of replicas, if there is one.
    pub(crate) fallbacks: Option<Fallbacks>,
    /// Tests switch this off to show that the history checker then finds violations.
    pub(crate) check_proofs: bool,
    /// False: by explicit choice nothing is proven, and everything goes to the primary.
    pub(crate) proofs: bool,
    pub(crate) closing: AtomicBool,
}

impl Router {
    pub(crate) fn barrier() -> Arc<Barrier> {
        Arc::default()
    }

    /// The nodes in use now.
    pub(crate) fn members(&self) -> Arc<Members> {
        self.members.get()
    }

    pub(crate) fn set_members(&self, members: Members) {
        self.members.set(members);
    }

    /// The database that all nodes' addresses name.
    pub(crate) fn database(&self) -> i64 {
        let members = self.members.now();
        members.nodes().next().map_or(0, |node| node.address.database)
    }

    pub(crate) fn edges(&self) -> RwLockReadGuard<'_, Edges> {
        self.knowledge
            .edges
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// True when the command may write. One that is refused does not.
    pub(crate) fn may_write(&self, command: &Command) -> bool {
        let table = self.knowledge.table.get().unwrap_or(&self.built_in_table);
        matches!(
            table.classify(&command.packed, command.unit),
            Ok(Class::Write | Class::Blocking)
        )
    }

    /// Carries out a command.
    pub(crate) async fn call(&self, command: &Command) -> Result<Reply, Error> {
        // Every call's future has room for what is below, once: when many wait, those lines of memory are what a reply
        // costs. The rest, which is rarer, is boxed.
        let mut begun = None;
        let place = self.begin(command, &mut begun)?;
        let Some(sent) = &mut begun else {
            // It takes one of its own.
            drop(place);
            return Box::pin(self.call_with_care(command)).await;
        };
        let answer = poll_fn(|context| Future::poll(sent.answer(), context)).await;
        match self.end(command, &mut begun, answer) {
            Ended::Replied(outcome) => outcome,
            Ended::NotYet(rest) => rest.await,
        }
    }

    /// Goes on with a command that has been answered.
    fn end<'a>(&'a self, command: &'a Command, begun: &mut Option<Begun<'a>>, answer: Answered) -> Ended<'a> {
        if let Some(Begun::Read(read, node, Asked { enclosed: None, .. })) = begun {
            let answer = answer.unwrap_or_else(|_| Err(closed()));
            let attempts = match self.admitted(read, *node, answer) {
                Ok(outcome) => return Ended::Replied(outcome),
                Err(attempts) => attempts,
            };
            return match begun.take() {
                Some(Begun::Read(read, ..)) => Ended::NotYet(Box::pin(async move {
                    self.read_on(&read, attempts).await?.finished(command)
                })),
                _ => Ended::Replied(Err(closed())),
            };
        }
        match begun.take() {
            Some(Begun::Write(Writing { read, sent, counted })) => {
                let outcome = self.conclude(command, &read, (sent.guard, counted), answer);
                Ended::Replied(outcome.and_then(|reply| reply.finished(command)))
            }
            Some(Begun::Read(read, node, Asked { proof, enclosed, .. })) => {
                let answer = answer.unwrap_or_else(|_| Err(closed()));
                Ended::NotYet(Box::pin(async move {
                    let answer = opened(command, answer, proof, enclosed).await;
                    match self.admitted(&read, node, answer) {
                        Ok(outcome) => outcome,
                        Err(attempts) => self.read_on(&read, attempts).await?.finished(command),
                    }
                }))
            }
            None => Ended::Replied(Err(closed())),
        }
    }

    /// The reply to a read that a replica has answered, if it proves enough; if not, how far the read has come.
    fn admitted(
        &self,
        read: &Read<'_>,
        node: NodeId,
        answer: Result<Answer, Error>,
    ) -> Result<Result<Reply, Error>, Attempts> {
        let mut attempts = Attempts::default();
        match attempts.note(node, self.judge(read, node, answer)) {
            Some(value) => Ok(self.counted(read, read.answered(value)).finished(read.command)),
            None => Err(attempts),
        }
    }

    /// Sends a command, if it is one that nothing has to be waited for and nobody traces: what nearly every one comes
    /// to. Otherwise nothing has been sent, and nothing is put into `begun`, which is the caller's own, since it is large.
    fn begin<'a>(
        &'a self,
        command: &'a Command,
        begun: &mut Option<Begun<'a>>,
    ) -> Result<Option<InLine<'a>>, Error> {
        self.check_open()?;
        let Some(table) = self.knowledge.table.get() else {
            return Ok(None);
        };
        let class = table.classify(&command.packed, command.unit)?;
        let write = class == Class::Write;
        let traced = LevelFilter::current() >= SPANS;
        if traced || !(write || class == Class::Read) {
            return Ok(None);
        }
        let Some(place) = self.place_at_once() else {
            return Ok(None);
        };
        *begun = if write {
            self.write_at_once(command)?.map(Begun::Write)
        } else {
            self.ask_at_once(command)
        };
        Ok(Some(place))
    }

    async fn call_with_care(&self, command: &Command) -> Result<Reply, Error> {
        let class = self.table().await.classify(&command.packed, command.unit)?;
        if class == Class::Blocking {
            self.check_blocking(command)?;
            return self.blocking(command).await;
        }
        let _place = self.place_in_line().await?;
        let span = self.span(class == Class::Write);
        let carried_out = self.carry_out(command, class).instrument(span.clone());
        let outcome = carried_out.await.and_then(|reply| reply.finished(command));
        record(&span, &outcome);
        outcome
    }

    async fn carry_out(&self, command: &Command, class: Class) -> Result<Reply, Error> {
        if class == Class::Write {
            self.write(command).await
        } else {
            self.read(command, class).await
        }
    }

    /// # Errors
    ///
    /// When the client has been shut down.
    pub(crate) fn check_open(&self) -> Result<(), Error> {
        if self.closing.load(Ordering::Relaxed) {
            return Err(closed());
        }
        Ok(())
    }

    /// The table of commands. The first callers of a client that has not connected yet wait for the first
    /// attempt to.
    pub(crate) async fn table(&self) -> &CommandTable {
        if self.knowledge.table.get().is_none() {
            // What came of it, the callers will see.
            let _ = self.primary_connection().await;
        }
        self.knowledge.table.get().unwrap_or(&self.built_in_table)
    }

    fn span(&self, write: bool) -> Span {
        if write {
            tracing::span!(SPANS, "write", scope = %self.scope, route = Empty, reason = Empty, error = Empty)
        } else {
            tracing::span!(SPANS, "read", scope = %self.scope, route = Empty, reason = Empty, error = Empty)
        }
    }

    async fn write(&self, command: &Command) -> Result<Reply, Error> {
        self.check_uncontested()?;
        if let Some(acks) = command.acks {
            return Box::pin(self.write_acked(command, acks)).await;
        }
        let read = self.snapshot(command);
        let request = self.write_request(command);
        let sent = self.send_to_primary(&request).await?;
        let counted = self.counters.count_sent_write();
        let outcome = sent.answer.await;
        self.conclude(command, &read, (sent.guard, counted), outcome)
    }

    /// Sends a write to the primary, if there is a connection to it and no more to the write than that.
    fn write_at_once<'a>(&'a self, command: &'a Command) -> Result<Option<Writing<'a>>, Error> {
        if command.acks.is_some() {
            return Ok(None);
        }
        self.check_uncontested()?;
        let read = self.snapshot(command);
        let request = self.write_request(command);
        match self.at_primary(|connection| connection.send(&request)) {
            None => Ok(None),
            Some(Err(error)) if self.has_moved(&error) => Ok(None),
            Some(sent) => Ok(Some(Writing {
                read,
                sent: sent?,
                counted: self.counters.count_sent_write(),
            })),
        }
    }

    fn write_request<'a>(&'a self, command: &'a Command) -> Request<'a> {
        let (proof, writer) = self.marking(command.session.as_ref());
        Request {
            packed: &command.packed,
            replies: command.replies,
            proof,
            may_write: true,
            writer,
        }
    }

    /// What the caller of a write is told. The connection has settled what became of it, whatever the outcome.
    fn conclude(
        &self,
        command: &Command,
        read: &Read<'_>,
        sent: (Option<CallerGuard>, SentWrite<'_>),
        outcome: Answered,
    ) -> Result<Reply, Error> {
        let answer = self.settled(sent, outcome)?;
        let reason = self.admit_write(command, read, &answer, || {
            self.looks(command).iter().any(|look| look.shows)
        })?;
        Ok(self.written(answer.value, reason))
    }

    /// What has come of a write that was sent.
    fn settled(
        &self,
        (guard, counted): (Option<CallerGuard>, SentWrite<'_>),
        outcome: Answered,
    ) -> Result<Answer, Error> {
        if let Some(guard) = guard {
            guard.replied();
        }
        counted.concluded();
        let outcome = outcome.unwrap_or_else(|_| Err(in_doubt(&closed())));
        if let Err(error) = &outcome
            && error.kind() == ErrorKind::InDoubt
        {
            self.counters.count_lost_write();
        }
        outcome
    }

    /// A closer look at a unit that has been sent.
    fn looks(&self, command: &Command) -> Vec<Look> {
        let table = self.knowledge.table.get().unwrap_or(&self.built_in_table);
        table.look(&command.packed, command.unit).unwrap_or_default()
    }

    /// The proof that gives a write its mark, and the session that is to know of it.
    fn marking<'a>(
        &'a self,
        session: Option<&'a Session>,
    ) -> (ProofWanted, Option<(&'a Session, &'a Scope)>) {
        match session {
            Some(session) if !self.proofs => {
                // Nobody will know where this write is. Who reads under the session's token elsewhere, and
                // does prove, has to ask the primary first.
                session.merge(&Marks::in_doubt());
                (ProofWanted::Nothing, None)
            }
            Some(session) => (ProofWanted::Trailing, Some((session, &self.scope))),
            None => (ProofWanted::Nothing, None),
        }
    }

    fn written(&self, value: Value, reason: Reason) -> Reply {
        self.counters.count_write();
        Reply {
            value,
            route: Route::Primary,
            reason,
            acks: None,
        }
    }

    async fn read(&self, command: &Command, class: Class) -> Result<Reply, Error> {
        let mut read = self.prepare(command).await?;
        let mut at_primary = match read.level {
            _ if !self.proofs => Some(Reason::PrimaryOnly),
            _ if class == Class::Cursor => Some(Reason::Command),
            Consistency::Primary => Some(Reason::Level),
            _ if read.requirement.in_doubt() => Some(Reason::InDoubt),
            _ => None,
        };
        if let (Consistency::BoundedStaleness(bound), None) = (read.level, at_primary) {
            match Box::pin(self.no_older_than(bound)).await? {
                Some(point) => read.at_replicas = Some(Box::new(read.requirement.clone().and(point))),
                None => at_primary = Some(Reason::Level),
            }
        }
        let reply = match at_primary {
            Some(Reason::InDoubt) if self.too_many_in_doubt() => {
                Box::pin(self.read_by_sample(&read, Reason::InDoubt)).await
            }
            // A replica would do, and there is none.
            Some(reason @ Reason::Level) if read.may_be_older() => self.fall_back(&read, reason).await,
            Some(reason) => self.read_primary(&read, reason, None).await,
            None => return self.read_on(&read, Attempts::default()).await,
        }?;
        Ok(self.counted(&read, reply))
    }

    /// Sends a read to a replica that has caught up by its last word, which is what nearly every read comes to. `None`,
    /// with nothing sent and nothing changed, when there is more to it.
    fn ask_at_once<'a>(&self, command: &'a Command) -> Option<Begun<'a>> {
        if !self.proofs || self.waives() {
            return None;
        }
        let read = self.snapshot(command);
        if !is_anyones(read.level) || read.requirement.in_doubt() {
            return None;
        }
        let members = self.members.now();
        match self.choose(&members, read.at_replicas(), None, &mut None) {
            Choice::Ask(node) => {
                let asked = Asked::replica(node, &read).ok()?;
                Some(Begun::Read(read, node.id, asked))
            }
            Choice::Wait(..) | Choice::Primary(_) => None,
        }
    }

    fn counted(&self, read: &Read<'_>, mut reply: Reply) -> Reply {
        if let Some(waived) = &read.waived {
            let reason = self.tell_waived(read.session, waived);
            // A loss that the proof has shown besides what was waived is said by this reply or never.
            if reply.reason != Reason::PossiblyLost {
                reply.reason = reason;
            }
        }
        self.counters.count_read(reply.route, reply.reason);
        if let Some(session) = read.session {
            session.record_route(reply.route);
        }
        reply
    }

    /// What a replica must have applied, so that its reply shows all that the primary had applied at some
    /// moment within `bound` before now; `None` when the primary had better be asked itself.
    ///
    /// Known moments serve for as long as they are within the bound, also while the primary can't be
    /// reached; after that, this fails.
    async fn no_older_than(&self, bound: Duration) -> Result<Option<Point>, Error> {
        if bound < LEAST_BOUND || self.members.now().replicas.is_empty() {
            return Ok(None);
        }
        let since = Instant::now().checked_sub(bound);
        let known = self.knowledge.moments().since(since);
        if known.is_some() {
            return Ok(known);
        }
        self.counters.count_staleness_sample();
        // Asked for from now on, so within every bound.
        let progress = self.sample_primary().await?;
        Ok(Some(Point {
            history: progress.history,
            offset: Offset::at(progress.applied),
        }))
    }

    fn mark(&self, progress: &Progress) -> Mark {
        Mark {
            scope: self.scope.clone(),
            history: progress.history,
            offset: Offset::at(progress.applied),
        }
    }

    /// A read that any node with a sufficient proof may answer, after what was attempted so far.
    async fn read_on(&self, read: &Read<'_>, attempts: Attempts) -> Result<Reply, Error> {
        let reply = match self.read_replicas(read, attempts).await {
            Ok(reply) => Ok(reply),
            Err(fallback) if self.is_one_of_many(read) => Box::pin(self.read_by_sample(read, fallback)).await,
            Err(fallback) => self.fall_back(read, fallback).await,
        };
        Ok(self.counted(read, reply?))
    }

    /// A reply of a replica that proves to have all that is asked for, or why there is none.
    async fn read_replicas(&self, read: &Read<'_>, mut attempts: Attempts) -> Result<Reply, Reason> {
        let mut deadline = None;
        let mut waited = false;
        loop {
            if let Some(reason) = attempts.over() {
                return Err(reason);
            }
            let members = self.members.now();
            let (node, asked) =
                match self.choose(&members, read.at_replicas(), attempts.failed, &mut deadline) {
                    Choice::Ask(node) => (node.id, Asked::replica(node, read)),
                    Choice::Wait(node, point, until) => {
                        let node = Arc::clone(node);
                        drop(members);
                        // Whatever came of it, choose anew: another one may have caught up meanwhile.
                        let begun = Instant::now();
                        node.wait_for(point.history, point.offset, until).await;
                        self.counters.count_wait(begun.elapsed());
                        waited = true;
                        continue;
                    }
                    Choice::Primary(reason) => return Err(reason),
                };
            drop(members);
            let tried = self.try_replica(read, node, asked).await;
            if let Some(value) = attempts.note(node, tried) {
                let mut reply = read.answered(value);
                if waited {
                    reply.reason = Reason::Waited;
                }
                return Ok(reply);
            }
        }
    }

    /// Waits for what a replica answers, and judges it.
    async fn try_replica(&self, read: &Read<'_>, node: NodeId, asked: Result<Asked, Error>) -> Tried {
        let answer = match asked {
            Ok(asked) => asked.answered(read.command, None).await,
            Err(error) => Err(error),
        };
        self.judge(read, node, answer)
    }

    /// Judges what a replica has answered.
    fn judge(&self, read: &Read<'_>, node: NodeId, answer: Result<Answer, Error>) -> Tried {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let failed =
                    |node: &Node| tracing::debug!(node = %node.address, %error, "a read goes elsewhere");
                self.at_replica(node, failed);
                return Tried::Failed;
            }
        };
        match refusal(&answer.value, read.command) {
            Some(Refusal::Now) => {
                self.at_replica(node, |node| node.suspend(SUSPENSION));
                return Tried::Failed;
            }
            Some(Refusal::Replica) => return Tried::Lacks,
            None => {}
        }
        if read.replicas_proof() == ProofWanted::Nothing {
            return Tried::Admitted(answer.value);
        }
        let Proof::Between(low, high) = answer.proof else {
            return Tried::Behind;
        };
        if self.check_proofs
            && (low.role != Role::Replica
                || !low.read_only
                || self.coverage(read.at_replicas(), &low) != Coverage::Covered)
        {
            return Tried::Behind;
        }
        if let (Consistency::Monotonic, Some(session)) = (read.level, read.session) {
            match high {
                Some(high) if high.tells_its_place() => session.add_read(&self.mark(&high)),
                // What it shows could not be remembered, and a later read could show less.
                _ if self.check_proofs => return Tried::Behind,
                _ => {}
            }
        }
        Tried::Admitted(answer.value)
    }

    /// Does something about a replica, unless another one has taken its place meanwhile.
    #[cold]
    fn at_replica(&self, id: NodeId, what: impl FnOnce(&Node)) {
        let members = self.members.now();
        if let Some(node) = members.replicas.iter().find(|replica| replica.id == id) {
            what(node);
        }
    }

    /// A read that goes to the primary, which proves as well (invariant 1). A fallback has its place there.
    async fn read_primary(
        &self,
        read: &Read<'_>,
        reason: Reason,
        mut place: Option<&mut Place>,
    ) -> Result<Reply, Error> {
        let proof = read.primarys_proof();
        // A proof can be void because the history changed under it; the next one is then sound.
        let mut attempts = 0;
        while attempts < 2 {
            let connection = self.primary_connection().await?;
            let answer = match Asked::of(&connection, read.command, proof) {
                Ok(asked) => asked.answered(read.command, place.as_deref_mut()).await,
                Err(error) => Err(error),
            };
            let answer = match answer {
                Err(error) if self.has_moved(&error) => continue,
                answer => answer?,
            };
            attempts += 1;
            let reason = match answer.proof {
                _ if proof == ProofWanted::Nothing || !self.check_proofs => reason,
                Proof::Between(progress, _) => self.admit(read, &progress, reason)?,
                Proof::None | Proof::Refused => continue,
            };
            return Ok(Reply {
                value: answer.value,
                route: Route::Primary,
                reason,
                acks: None,
            });
        }
        Err(self.unproven())
    }
}

/// What the connection gives for a request.
type Answered = Result<Result<Answer, Error>, oneshot::error::RecvError>;

/// What came of a command that was sent at once.
enum Ended<'a> {
    Replied(Result<Reply, Error>),
    /// There is more to it.
    NotYet(BoxFuture<'a, Result<Reply, Error>>),
}

/// A command that has been sent at once.
enum Begun<'a> {
    /// To this replica.
    Read(Read<'a>, NodeId, Asked),
    /// To the primary.
    Write(Writing<'a>),
}

impl Begun<'_> {
    /// Where its answer comes.
    fn answer(&mut self) -> Pin<&mut oneshot::Receiver<Result<Answer, Error>>> {
        Pin::new(match self {
            Self::Read(_, _, asked) => &mut asked.answer,
            Self::Write(writing) => &mut writing.sent.answer,
        })
    }
}

/// A write that has been sent.
struct Writing<'a> {
    /// What the replies in it must cover.
    read: Read<'a>,
    sent: Sent,
    counted: SentWrite<'a>,
}

/// A read that has been sent.
struct Asked {
    proof: ProofWanted,
    answer: oneshot::Receiver<Result<Answer, Error>>,
    /// Its commands travel in a transaction: one that is refused has all refused, and each may have to be asked by itself.
    enclosed: Option<Arc<Connection>>,
}

impl Asked {
    fn of(connection: &Arc<Connection>, command: &Command, proof: ProofWanted) -> Result<Self, Error> {
        let request = Request {
            packed: &command.packed,
            replies: command.replies,
            proof,
            may_write: false,
            writer: None,
        };
        let several = command.unit == Unit::Pipeline && command.replies > 1;
        Ok(Self {
            proof,
            answer: connection.send(&request)?.answer,
            enclosed: (several && connection.encloses()).then(|| Arc::clone(connection)),
        })
    }

    /// Sends a read to a replica.
    fn replica(node: &Node, read: &Read<'_>) -> Result<Self, Error> {
        let sent =
            node.with_connection(|connection| Self::of(connection, read.command, read.replicas_proof()));
        // It has only just been lost.
        sent.unwrap_or_else(|| Err(node.no_connection()))
    }

    async fn answered(self, command: &Command, place: Option<&mut Place>) -> Result<Answer, Error> {
        let answered = match place {
            None => self.answer.await,
            Some(place) => place.until_answered(self.answer).await,
        };
        let answer = answered.unwrap_or_else(|_| Err(closed()));
        opened(command, answer, self.proof, self.enclosed).await
    }
}

/// The answer to commands that have travelled in a transaction, if they have: where one was refused, and all with it, to
/// each by itself.
async fn opened(
    command: &Command,
    answer: Result<Answer, Error>,
    proof: ProofWanted,
    enclosed: Option<Arc<Connection>>,
) -> Result<Answer, Error> {
    match (answer, enclosed) {
        (
            Ok(Answer {
                proof: Proof::Refused,
                ..
            }),
            Some(connection),
        ) => Box::pin(each_alone(&connection, commands(&command.packed), proof)).await,
        (answer, _) => answer,
    }
}

/// How far a read has come with the replicas.
#[derive(Default)]
struct Attempts {
    made: usize,
    failed: Option<NodeId>,
    /// A replica can't answer this one.
    lacking: bool,
}

impl Attempts {
    /// Takes note of what came of one more; the value, if it may be given out.
    fn note(&mut self, node: NodeId, tried: Tried) -> Option<Value> {
        self.made += 1;
        match tried {
            Tried::Admitted(value) => return Some(value),
            Tried::Behind => {}
            Tried::Failed => self.failed = Some(node),
            Tried::Lacks => self.lacking = true,
        }
        None
    }

    /// Why no more are made, if that is so.
    fn over(&self) -> Option<Reason> {
        match self.failed {
            _ if self.lacking => Some(Reason::Command),
            _ if self.made < REPLICA_ATTEMPTS => None,
            Some(_) => Some(Reason::Unhealthy),
            None => Some(Reason::Behind),
        }
    }
}

/// What came of asking a replica.
enum Tried {
    Admitted(Value),
    /// Its proof did not cover the requirement, or was void.
    Behind,
    Failed,
    /// A replica can't answer this one, and perhaps the primary can.
    Lacks,
}

/// Why a replica did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Refusal {
    /// It lacks a script or a function that the primary may have, or the command is no read after all.
    Replica,
    /// It can answer nothing for now.
    Now,
}

/// Error replies by which a node says that another one should be asked.
fn refusal(value: &Value, command: &Command) -> Option<Refusal> {
    let of = |value: &Value| {
        let Value::ServerError(error) = value else {
            return None;
        };
        let details = error.details().unwrap_or_default();
        match error.code() {
            // FCALL_RO's has no code of its own.
            "ERR" if details.starts_with("Function not found") => Some(Refusal::Replica),
            // All was queued when the node became one that can't answer.
            "EXECABORT" => {
                let why = details.strip_prefix("Transaction discarded because of: ")?;
                refusal_code(why.split(' ').next()?)
            }
            code => refusal_code(code),
        }
    };
    match (value, command.unit) {
        (Value::Array(replies), unit) if command.replies > 1 => {
            let executed = match replies.last() {
                Some(Value::Array(executed)) if unit == Unit::Transaction => executed.as_slice(),
                _ => &[],
            };
            replies.iter().chain(executed).filter_map(of).max()
        }
        (value, _) => of(value),
    }
}

fn refusal_code(code: &str) -> Option<Refusal> {
    match code {
        "LOADING" | "MASTERDOWN" | "BUSY" | "CLUSTERDOWN" | "MOVED" | "ASK" | "TRYAGAIN" | "REDIRECT"
        | "UNBLOCKED" => Some(Refusal::Now),
        "NOSCRIPT" | "READONLY" => Some(Refusal::Replica),
        _ => None,
    }
}

/// What the caller gets. An error reply to a single command is an error; in a pipeline it is one reply of
/// several.
pub(crate) fn finished(value: Value, command: &Command) -> Result<Value, Error> {
    match value {
        Value::ServerError(error) if command.unit == Unit::Single => Err(Error::reply(error)),
        // The connection gives one reply as it is, and a pipeline's is an array also then.
        value if command.unit == Unit::Pipeline && command.replies == 1 => Ok(Value::Array(vec![value])),
        value => Ok(value),
    }
}

fn record(span: &Span, outcome: &Result<Reply, Error>) {
    if span.is_disabled() {
        return;
    }
    match outcome {
        Ok(reply) => record_reply(span, reply),
        // The kind alone: a server's error can repeat what it was sent.
        Err(error) => drop(span.record("error", tracing::field::debug(error.kind()))),
    }
}

fn record_reply(span: &Span, reply: &Reply) {
    span.record("route", reply.route.as_str());
    span.record("reason", reply.reason.as_str());
}

pub(crate) fn closed() -> Error {
    Error::new(
        ErrorKind::Closed,
        "the client has been shut down: nothing more can be asked",
    )
}
