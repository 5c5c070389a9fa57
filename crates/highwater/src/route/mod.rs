//! Routing: writes to the primary, reads to the replica that is likely to cover them. Hints route,
//! proofs admit: no reply of a read passes here unless its own proof covers the requirement.

mod barrier;
mod choose;
mod counters;

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use highwater_core::{
    Consistency, Coverage, Edges, Mark, Offset, Progress, Reason, Requirement, Role, Route, Scope, Session,
};
use redis::Value;
use tokio::sync::Semaphore;

pub(crate) use self::counters::Counters;
pub use self::counters::{Anomalies, ReadCount};
use self::{barrier::Barrier, choose::Choice};
use crate::{
    command::{Class, Command, CommandTable, Unit},
    error::{Error, ErrorKind},
    node::{Answer, Connection, Knowledge, Node, Proof, ProofWanted, Request, in_doubt},
};

/// How often one read is sent to replicas before the primary is asked.
const REPLICA_ATTEMPTS: usize = 2;
/// How long a replica that said that it can't answer now (`LOADING`, `MASTERDOWN`, …) is passed over.
const SUSPENSION: Duration = Duration::from_millis(100);
/// The oldest that a hint may be before a read that passes the replica over asks for a new one.
const HINT_AGE: Duration = Duration::from_millis(20);

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
    pub(crate) knowledge: Arc<Knowledge>,
    pub(crate) table: CommandTable,
    pub(crate) counters: Counters,
    pub(crate) permits: Semaphore,
    pub(crate) barrier: Arc<Barrier>,
    /// Tests switch this off to show that the history checker then finds violations.
    pub(crate) check_proofs: bool,
}

/// A read on its way.
struct Read<'a> {
    command: &'a Command,
    session: Option<&'a Session>,
    level: Consistency,
    requirement: Requirement,
}

impl Router {
    pub(crate) fn barrier() -> Arc<Barrier> {
        Arc::default()
    }

    /// Carries out a command.
    pub(crate) async fn call(&self, command: &Command) -> Result<Reply, Error> {
        let class = self.table.classify(&command.packed, command.unit)?;
        // The client's bound on what is in flight: callers queue here, in order.
        let _permit = self.permits.acquire().await.map_err(|_| closed())?;
        let outcome = match class {
            Class::Write => self.write(command).await,
            _ => self.read(command, class).await,
        };
        let reply = outcome?;
        match reply.value {
            Value::ServerError(error) if command.unit == Unit::Single => Err(Error::reply(error)),
            _ => Ok(reply),
        }
    }

    async fn write(&self, command: &Command) -> Result<Reply, Error> {
        let connection = self.primary.connection()?;
        let (proof, writer) = match &command.session {
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
        let outcome = sent.answer.await;
        // The connection has settled what became of it, whatever the outcome.
        if let Some(guard) = sent.guard {
            guard.replied();
        }
        let answer = outcome.map_err(|_| in_doubt(&closed()))??;
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
        };
        if let Some(session) = session {
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
        }
        let reply = if class == Class::Cursor {
            self.read_primary(&read, Reason::Command).await
        } else if level == Consistency::Primary {
            self.read_primary(&read, Reason::Level).await
        } else if read.requirement.in_doubt() {
            self.read_primary(&read, Reason::InDoubt).await
        } else {
            self.read_anywhere(&read).await
        }?;
        self.counters.count_read(reply.route, reply.reason);
        if let Some(session) = session {
            session.record_route(reply.route);
        }
        tracing::trace!(
            route = reply.route.as_str(),
            reason = reply.reason.as_str(),
            "read"
        );
        Ok(reply)
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
        } else if read.requirement.is_empty() {
            Reason::NoRequirement
        } else {
            Reason::Covered
        };
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
            let (node, connection) = match self.choose(&read.requirement, failed, &mut deadline) {
                Choice::Ask(node, connection) => (node, connection),
                Choice::Wait(node, point, until) => {
                    // Whatever came of it, choose anew: another one may have caught up meanwhile.
                    node.wait_for(point.history, point.offset, until).await;
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
        self.read_primary(read, fallback).await
    }

    async fn try_replica(&self, read: &Read<'_>, node: &Node, connection: &Connection) -> Tried {
        let proof = match read.level {
            Consistency::Monotonic if read.session.is_some() => ProofWanted::Both,
            _ if read.requirement.is_empty() => ProofWanted::Nothing,
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
                || self.coverage(&read.requirement, &low) != Coverage::Covered)
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
        let proof = if read.level == Consistency::Eventual
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
                let edges = self
                    .knowledge
                    .edges
                    .read()
                    .unwrap_or_else(PoisonError::into_inner);
                session.proven_by_primary(&self.scope, &read.requirement, &progress, &edges);
                drop(edges);
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

    /// The primary itself does not cover the session's marks: counted, traced, visible, and handled
    /// by policy (invariant 5).
    fn unmet(&self, read: &Read<'_>, coverage: Coverage, progress: &Progress) -> Result<Reason, Error> {
        let (reason, policy, kind, message) = match coverage {
            Coverage::PossiblyLost => (
                Reason::PossiblyLost,
                self.on_possibly_lost,
                ErrorKind::PossiblyLost,
                "a write of this session may have been lost in a failover",
            ),
            Coverage::Unknown => (
                Reason::UnknownHistory,
                self.on_unknown_history,
                ErrorKind::UnknownHistory,
                "the primary does not know the history that this session depends on: \
                 it was restarted empty, or it is not the primary that took the session's writes",
            ),
            // No server has been where the mark says: the token is not to be believed that far.
            Coverage::Behind | Coverage::Covered => {
                (Reason::Behind, Policy::Primary, ErrorKind::UnknownHistory, "")
            }
        };
        self.counters.count_unmet(coverage);
        tracing::warn!(reason = reason.as_str(), scope = %self.scope, "a session's marks can't be honoured");
        if let Some(session) = read.session {
            let edges = self
                .knowledge
                .edges
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            session.record_discontinuity(&self.scope, &read.requirement, progress, &edges);
        }
        match policy {
            Policy::Primary => Ok(reason),
            Policy::Error => Err(Error::new(kind, message)),
        }
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
        connection.send(&request)?.answer.await.map_err(|_| closed())?
    }

    fn coverage(&self, requirement: &Requirement, progress: &Progress) -> Coverage {
        // Nearly always the histories are equal, and no edge is looked at.
        let known = Edges::default();
        match requirement.coverage(progress, &known) {
            Coverage::Covered => Coverage::Covered,
            _ => {
                let edges = self
                    .knowledge
                    .edges
                    .read()
                    .unwrap_or_else(PoisonError::into_inner);
                requirement.coverage(progress, &edges)
            }
        }
    }
}

impl Read<'_> {
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
    Error::new(ErrorKind::Disconnected, "the client has been closed")
}
