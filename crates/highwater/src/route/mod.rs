//! Routing: writes to the primary, reads to the replica that is likely to cover them. Hints route,
//! proofs admit: no reply of a read passes here unless its own proof covers the requirement.

mod barrier;
mod choose;
mod counters;
mod service;
mod unmet;

use std::{
    sync::{
        Arc, PoisonError, RwLockReadGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use highwater_core::{
    Consistency, Coverage, Edges, Mark, Marks, Offset, Point, Progress, Reason, Requirement, Role, Route,
    Scope, Session,
};
use redis::Value;
use tokio::sync::Semaphore;
use tracing::{Instrument, field::Empty};

pub use self::counters::{Anomalies, ReadCount};
use self::{barrier::Barrier, choose::Choice};
pub(crate) use self::{counters::Counters, service::RouteService, unmet::Unmet};
use crate::{
    command::{Class, Command, CommandTable, Unit, commands},
    defaults::{BARRIER_PACE, REPLICA_ATTEMPTS, SUSPENSION},
    error::{Error, ErrorKind},
    node::{Answer, Connection, Knowledge, Node, Proof, ProofWanted, Request, each_alone, in_doubt},
};

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
    pub(crate) primary: Arc<Node>,
    pub(crate) replicas: Vec<Arc<Node>>,
    /// Some of them are in the zone that is preferred.
    pub(crate) prefers_zone: bool,
    pub(crate) knowledge: Arc<Knowledge>,
    /// Serves until the primary has been asked for its own.
    pub(crate) table: CommandTable,
    pub(crate) counters: Counters,
    pub(crate) permits: Semaphore,
    pub(crate) barrier: Arc<Barrier>,
    pub(crate) unmet: Unmet,
    /// Tests switch this off to show that the history checker then finds violations.
    pub(crate) check_proofs: bool,
    /// False: by explicit choice nothing is proven, and everything goes to the primary.
    pub(crate) proofs: bool,
    pub(crate) closing: AtomicBool,
}

/// A read on its way.
struct Read<'a> {
    command: &'a Command,
    session: Option<&'a Session>,
    level: Consistency,
    /// What the session depends on.
    requirement: Requirement,
    /// What a replica must cover, where that is more: a bound on staleness.
    at_replicas: Option<Requirement>,
}

impl Router {
    pub(crate) fn barrier() -> Arc<Barrier> {
        Arc::default()
    }

    /// The primary and the replicas.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        std::iter::once(&self.primary).chain(&self.replicas)
    }

    fn edges(&self) -> RwLockReadGuard<'_, Edges> {
        self.knowledge
            .edges
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// True when the command may write. One that is refused does not.
    pub(crate) fn may_write(&self, command: &Command) -> bool {
        let table = self.knowledge.table.get().unwrap_or(&self.table);
        matches!(table.classify(&command.packed, command.unit), Ok(Class::Write))
    }

    /// Carries out a command.
    pub(crate) async fn call(&self, command: &Command) -> Result<Reply, Error> {
        if self.closing.load(Ordering::Relaxed) {
            return Err(closed());
        }
        let table = match self.knowledge.table.get() {
            Some(table) => table,
            // Boxed, as below: what is rare is not to make every call's future larger.
            None => Box::pin(self.first_table()).await,
        };
        let class = table.classify(&command.packed, command.unit)?;
        let _in_flight = self.counters.count_in_flight();
        // The client's bound on what is in flight: callers queue here, in order.
        let _permit = self.permits.acquire().await.map_err(|_| closed())?;
        let (span, outcome) = if class == Class::Write {
            let span = tracing::trace_span!("write", scope = %self.scope, route = Empty, reason = Empty, error = Empty);
            let outcome = self.write(command).instrument(span.clone()).await;
            (span, outcome)
        } else {
            let span = tracing::trace_span!("read", scope = %self.scope, route = Empty, reason = Empty, error = Empty);
            let outcome = self.read(command, class).instrument(span.clone()).await;
            (span, outcome)
        };
        let outcome = outcome.and_then(|mut reply| match reply.value {
            Value::ServerError(error) if command.unit == Unit::Single => Err(Error::reply(error)),
            // The connection gives one reply as it is, and a pipeline's is an array also then.
            value if command.unit == Unit::Pipeline && command.replies == 1 => {
                reply.value = Value::Array(vec![value]);
                Ok(reply)
            }
            value => {
                reply.value = value;
                Ok(reply)
            }
        });
        if !span.is_disabled() {
            match &outcome {
                Ok(reply) => {
                    span.record("route", reply.route.as_str());
                    span.record("reason", reply.reason.as_str());
                }
                // The kind alone: a server's error can repeat what it was sent.
                Err(error) => drop(span.record("error", tracing::field::debug(error.kind()))),
            }
        }
        outcome
    }

    /// The table of commands, for the first callers of a client that has not connected yet: they wait for
    /// the first attempt to.
    async fn first_table(&self) -> &CommandTable {
        // What came of it, they will see.
        let _ = self.primary.first_attempt().await;
        self.knowledge.table.get().unwrap_or(&self.table)
    }

    async fn write(&self, command: &Command) -> Result<Reply, Error> {
        let connection = self.primary.connection()?;
        let (proof, writer) = match &command.session {
            Some(session) if !self.proofs => {
                // Nobody will know where this write is. Who reads under the session's token elsewhere, and
                // does prove, has to ask the primary first.
                session.merge(&Marks::in_doubt());
                (ProofWanted::Nothing, None)
            }
            Some(session) => (ProofWanted::Trailing, Some((session, &self.scope))),
            None => (ProofWanted::Nothing, None),
        };
        let request = Request {
            packed: &command.packed,
            replies: command.replies,
            proof,
            may_write: true,
            writer,
        };
        let sent = connection.send(&request)?;
        let counted = self.counters.count_sent_write();
        let outcome = sent.answer.await;
        // The connection has settled what became of it, whatever the outcome.
        if let Some(guard) = sent.guard {
            guard.replied();
        }
        counted.concluded();
        let outcome = outcome.unwrap_or_else(|_| Err(in_doubt(&closed())));
        if let Err(error) = &outcome
            && error.kind() == ErrorKind::InDoubt
        {
            self.counters.count_lost_write();
        }
        let answer = outcome?;
        self.counters.count_write();
        Ok(Reply {
            value: answer.value,
            route: Route::Primary,
            reason: Reason::Command,
        })
    }

    async fn read(&self, command: &Command, class: Class) -> Result<Reply, Error> {
        let session = command.session.as_ref();
        let level = command
            .level
            .or_else(|| session.and_then(Session::level))
            .unwrap_or(self.level);
        let mut read = Read {
            command,
            session,
            level,
            requirement: Requirement::default(),
            at_replicas: None,
        };
        let mut waived = None;
        if let Some(session) = session
            && self.proofs
        {
            read.requirement = session.requirement(&self.scope, level);
            // More doubt can come in meanwhile; a session that is flooded with it stays in doubt.
            for _ in 0..3 {
                if !read.requirement.needs_barrier() {
                    break;
                }
                self.settle_doubt(session, &read.requirement).await?;
                read.requirement = session.requirement(&self.scope, level);
            }
            if read.requirement.in_doubt() {
                self.settle_overdue(session, &mut read).await?;
            }
            if !read.requirement.is_empty() {
                waived = self.waive(session, &mut read.requirement);
            }
        }
        let mut reply = if !self.proofs {
            self.read_primary(&read, Reason::PrimaryOnly).await
        } else if class == Class::Cursor {
            self.read_primary(&read, Reason::Command).await
        } else if level == Consistency::Primary {
            self.read_primary(&read, Reason::Level).await
        } else if read.requirement.in_doubt() {
            self.read_primary(&read, Reason::InDoubt).await
        } else if let Consistency::BoundedStaleness(bound) = level {
            match self.no_older_than(bound).await? {
                Some(point) => {
                    read.at_replicas = Some(read.requirement.clone().and(point));
                    self.read_anywhere(&read).await
                }
                None => self.read_primary(&read, Reason::Level).await,
            }
        } else {
            self.read_anywhere(&read).await
        }?;
        if let Some(reason) = waived {
            reply.reason = reason;
        }
        self.counters.count_read(reply.route, reply.reason);
        if let Some(session) = session {
            session.record_route(reply.route);
        }
        Ok(reply)
    }

    /// What a replica must have applied, so that its reply shows all that the primary had applied at some
    /// moment within `bound` before now; `None` when the primary had better be asked itself.
    ///
    /// Known moments serve for as long as they are within the bound, also while the primary can't be
    /// reached; after that, this fails.
    async fn no_older_than(&self, bound: Duration) -> Result<Option<Point>, Error> {
        if bound < LEAST_BOUND || self.replicas.is_empty() {
            return Ok(None);
        }
        let since = Instant::now().checked_sub(bound);
        let known = self.knowledge.moments().since(since);
        if known.is_some() {
            return Ok(known);
        }
        self.counters.count_staleness_sample();
        // Asked for from now on, so within every bound.
        let progress = self.barrier.join(&self.primary).await?;
        Ok(Some(Point {
            history: progress.history,
            offset: Offset::at(progress.applied),
        }))
    }

    /// Replaces "it is not known what this session depends on" by where the primary is now.
    async fn settle_doubt(&self, session: &Session, requirement: &Requirement) -> Result<(), Error> {
        let progress = self.barrier.join(&self.primary).await?;
        self.counters.count_barrier();
        session.settle_doubt(requirement, &self.mark(&progress));
        Ok(())
    }

    /// Settles writes of unknown place that a token told of, once they are so old that none can still
    /// happen: the grace time of lost connections, and as much again for clocks that differ.
    async fn settle_overdue(&self, session: &Session, read: &mut Read<'_>) -> Result<(), Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let Some(since) = read.requirement.in_doubt_since() else {
            session.date_doubt(&self.scope, now.as_secs());
            return Ok(());
        };
        if now.saturating_sub(Duration::from_secs(since)) >= self.doubt_grace * 2 {
            let progress = self.barrier.join(&self.primary).await?;
            session.settle_overdue(&read.requirement, &self.mark(&progress));
            read.requirement = session.requirement(&self.scope, read.level);
        }
        Ok(())
    }

    fn mark(&self, progress: &Progress) -> Mark {
        Mark {
            scope: self.scope.clone(),
            history: progress.history,
            offset: Offset::at(progress.applied),
        }
    }

    /// A read that any node with a sufficient proof may answer.
    async fn read_anywhere(&self, read: &Read<'_>) -> Result<Reply, Error> {
        let mut reason = if read.level == Consistency::Eventual {
            Reason::Level
        } else if read.at_replicas().is_empty() {
            Reason::NoRequirement
        } else {
            Reason::Covered
        };
        let requirement = read.at_replicas();
        let mut deadline = None;
        let mut tried = 0;
        let mut failed: Option<&Arc<Node>> = None;
        let fallback = loop {
            if tried == REPLICA_ATTEMPTS {
                break if failed.is_some() {
                    Reason::Unhealthy
                } else {
                    Reason::Behind
                };
            }
            let (node, connection) = match self.choose(requirement, failed, &mut deadline) {
                Choice::Ask(node, connection) => (node, connection),
                Choice::Wait(node, point, until) => {
                    // Whatever came of it, choose anew: another one may have caught up meanwhile.
                    let begun = Instant::now();
                    node.wait_for(point.history, point.offset, until).await;
                    self.counters.count_wait(begun.elapsed());
                    reason = Reason::Waited;
                    continue;
                }
                Choice::Primary(reason) => break reason,
            };
            tried += 1;
            match self.try_replica(read, node, &connection).await {
                Tried::Admitted(value) => {
                    return Ok(Reply {
                        value,
                        route: Route::Replica,
                        reason,
                    });
                }
                Tried::Behind => {}
                Tried::Failed => failed = Some(node),
            }
        };
        self.counters.count_fallback(fallback);
        self.read_primary(read, fallback).await
    }

    async fn try_replica(&self, read: &Read<'_>, node: &Node, connection: &Connection) -> Tried {
        let proof = match read.level {
            Consistency::Monotonic if read.session.is_some() => ProofWanted::Both,
            _ if read.at_replicas().is_empty() => ProofWanted::Nothing,
            _ => ProofWanted::Leading,
        };
        let answer = match self.ask(connection, read.command, proof).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(node = %node.address, %error, "a read goes elsewhere");
                return Tried::Failed;
            }
        };
        if can_not_answer(&answer.value) {
            node.suspend(SUSPENSION);
            return Tried::Failed;
        }
        if proof == ProofWanted::Nothing {
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
        if let (Consistency::Monotonic, Some(session), Some(high)) = (read.level, read.session, high) {
            session.add_read(&self.mark(&high));
        }
        Tried::Admitted(answer.value)
    }

    /// A read that goes to the primary, which proves as well (invariant 1).
    async fn read_primary(&self, read: &Read<'_>, mut reason: Reason) -> Result<Reply, Error> {
        let proof = if !self.proofs
            || read.level == Consistency::Eventual
            || (read.requirement.is_empty() && read.level == Consistency::ReadYourWrites)
        {
            ProofWanted::Nothing
        } else {
            ProofWanted::Trailing
        };
        // A proof can be void because the history changed under it; the next one is then sound.
        for _ in 0..2 {
            let connection = self.primary.connection()?;
            let answer = self.ask(&connection, read.command, proof).await?;
            if proof == ProofWanted::Nothing || !self.check_proofs {
                return Ok(Reply {
                    value: answer.value,
                    route: Route::Primary,
                    reason,
                });
            }
            let Proof::Between(progress, _) = answer.proof else {
                continue;
            };
            let coverage = self.coverage(&read.requirement, &progress);
            if coverage != Coverage::Covered {
                reason = self.unmet(read, coverage, &progress)?;
            }
            if let Some(session) = read.session {
                session.proven_by_primary(&self.scope, &read.requirement, &progress, &self.edges());
                if read.is_remembered(self.level) {
                    session.add_read(&self.mark(&progress));
                }
            }
            return Ok(Reply {
                value: answer.value,
                route: Route::Primary,
                reason,
            });
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            format!(
                "{} does not prove to be the primary: it was demoted, replaced or restarted; check the topology",
                self.primary.address
            ),
        ))
    }

    async fn ask(
        &self,
        connection: &Connection,
        command: &Command,
        proof: ProofWanted,
    ) -> Result<Answer, Error> {
        let request = Request {
            packed: &command.packed,
            replies: command.replies,
            proof,
            may_write: false,
            writer: None,
        };
        let answer = connection.send(&request)?.answer.await.map_err(|_| closed())??;
        if answer.proof == Proof::Refused && command.unit == Unit::Pipeline && command.replies > 1 {
            // One bad command has had all refused: outside of a transaction, it would not have.
            let each = each_alone(connection, commands(&command.packed), proof);
            return Box::pin(each).await;
        }
        Ok(answer)
    }

    fn coverage(&self, requirement: &Requirement, progress: &Progress) -> Coverage {
        // Nearly always the histories are equal, and no edge is looked at.
        let known = Edges::default();
        match requirement.coverage(progress, &known) {
            Coverage::Covered => Coverage::Covered,
            _ => requirement.coverage(progress, &self.edges()),
        }
    }
}

impl Read<'_> {
    /// What a replica must cover.
    fn at_replicas(&self) -> &Requirement {
        self.at_replicas.as_ref().unwrap_or(&self.requirement)
    }

    /// What this read shows may not be unseen by later ones: it is monotonic, or it belongs to a
    /// session or client that is.
    fn is_remembered(&self, client: Consistency) -> bool {
        let usual = self.session.and_then(Session::level).unwrap_or(client);
        [self.level, usual].contains(&Consistency::Monotonic)
    }
}

/// What came of asking a replica.
enum Tried {
    Admitted(Value),
    /// Its proof did not cover the requirement, or was void.
    Behind,
    Failed,
}

/// True for error replies by which a node says that another one should be asked.
fn can_not_answer(value: &Value) -> bool {
    let elsewhere = |value: &Value| {
        let Value::ServerError(error) = value else {
            return false;
        };
        matches!(
            error.code(),
            "LOADING"
                | "MASTERDOWN"
                | "READONLY"
                | "NOSCRIPT"
                | "BUSY"
                | "CLUSTERDOWN"
                | "MOVED"
                | "ASK"
                | "TRYAGAIN"
                | "REDIRECT"
                | "UNBLOCKED"
        )
    };
    match value {
        Value::Array(values) => values.iter().any(elsewhere),
        value => elsewhere(value),
    }
}

pub(crate) fn closed() -> Error {
    Error::new(
        ErrorKind::Closed,
        "the client has been shut down: nothing more can be asked",
    )
}
