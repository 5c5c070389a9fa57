//! Commands on a connection of one's own to the primary: the same marks, proofs and policies as on the
//! shared one, around what such a connection adds: transactions by hand.
//!
//! No INFO is sent between MULTI and EXEC: it would become part of the transaction, and would show the
//! place from before it. The transaction's mark and proof come from the INFO that follows EXEC.

use std::time::Duration;

use highwater_core::{Marks, Reason, Route, Scope, Session};
use redis::Value;
use tracing::Instrument;

use super::{Reply, Router, closed, record};
use crate::{
    command::{Command, Look, Unit, Verb},
    error::{Error, ErrorKind},
    node::{Answer, Ending, OwnConnection, Proof, ProofWanted, Request, in_doubt},
};

/// A connection of one's own, and what is known of its state.
#[derive(Debug)]
pub(crate) struct Own {
    /// The connection, or why there is none any more. It never comes back: what was watched, queued or
    /// selected on it is lost.
    link: Result<OwnConnection, Error>,
    /// Between MULTI and EXEC: what has been queued.
    transaction: Option<Queued>,
    /// The database that is selected.
    database: i64,
    /// A pipeline has been sent in part, and the rest of it has not come.
    midway: bool,
}

/// What a transaction will do when it is executed.
#[derive(Clone, Copy, Debug, Default)]
struct Queued {
    reads: bool,
    shows: bool,
    writes: bool,
    database: Option<i64>,
}

/// How a step is sent.
struct Step<'a> {
    looks: &'a [Look],
    reads: bool,
    shows: bool,
    writes: bool,
    /// It ends a transaction: it can't be repeated.
    executes: bool,
    patience: Duration,
}

impl Router {
    /// Opens a connection of the caller's own to the primary; `held` is kept until it is closed.
    pub(crate) async fn open_own(&self, held: impl Send + 'static) -> Result<Own, Error> {
        let primary = self.known_primary().await?;
        let opened = primary.open_own(held).await;
        Ok(Own {
            link: Ok(opened.map_err(|error| if self.has_moved(&error) { moved() } else { error })?),
            transaction: None,
            database: primary.address.database,
            midway: false,
        })
    }
}

impl Own {
    /// The database that is selected.
    pub(crate) fn database(&self) -> i64 {
        self.database
    }

    /// True when another caller can go on with it.
    pub(crate) fn is_as_new(&self) -> bool {
        self.transaction.is_none() && !self.midway && self.link.as_ref().is_ok_and(|link| !link.is_over())
    }

    /// Carries out a command.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before the reply ends the connection: what became of the command is not
    /// known here, so neither is the connection's state. A write is settled as on a lost connection.
    pub(crate) async fn call(&mut self, router: &Router, command: &Command) -> Result<Reply, Error> {
        if std::mem::take(&mut self.midway) {
            self.give_up("a pipeline on this connection came to no end", Ending::Answered);
        }
        router.check_open()?;
        let looks = router.table().await.look(&command.packed, command.unit)?;
        if command.unit != Unit::Pipeline || !looks.iter().any(Look::steers) {
            let reply = self.step(router, command, &looks).await?;
            return reply.finished(command);
        }
        // A transaction by hand within a pipeline: whether MULTI is accepted decides where an INFO may
        // follow, so each command waits for the one before.
        // Whoever does not see the end of it, by an error or by going away, does not know the state.
        self.midway = true;
        let mut values = Vec::with_capacity(looks.len());
        let mut reason = Reason::Command;
        let mut unsaid = Unsaid::new(command.session.as_ref());
        for look in &looks {
            let part = command.part(look);
            let reply = match self.step(router, &part, std::slice::from_ref(look)).await {
                Ok(reply) => reply,
                Err(error) if reason == Reason::Command => return Err(error),
                // What an earlier command's reply has shown is said with this, or never.
                Err(error) => {
                    unsaid.lost = false;
                    return Err(error.with_reason(reason));
                }
            };
            values.push(reply.value);
            if reply.reason != Reason::Command && reason != Reason::PossiblyLost {
                reason = reply.reason;
            }
            unsaid.lost = reason == Reason::PossiblyLost;
        }
        unsaid.lost = false;
        self.midway = false;
        Ok(Reply {
            value: Value::Array(values),
            route: Route::Primary,
            reason,
            acks: None,
        })
    }

    /// One command, one pipeline without transactions by hand, or one atomic pipeline.
    async fn step(&mut self, router: &Router, command: &Command, looks: &[Look]) -> Result<Reply, Error> {
        let open = self.transaction.is_some();
        let executes =
            command.unit == Unit::Transaction || (open && looks.iter().any(|look| look.verb == Verb::Exec));
        let queued = self.transaction.unwrap_or_default();
        let patience = looks
            .iter()
            .fold(Duration::ZERO, |sum, look| sum.saturating_add(look.patience));
        let step = Step {
            looks,
            reads: queued.reads || looks.iter().any(|look| look.reads),
            shows: queued.shows || looks.iter().any(|look| look.shows),
            writes: queued.writes || looks.iter().any(|look| look.writes),
            executes,
            // Between MULTI and EXEC nothing blocks.
            patience: if open { Duration::ZERO } else { patience },
        };
        if (open && !executes) || !(step.reads || step.writes) {
            let answer = self
                .ask(router, command, ProofWanted::Nothing, None, &step)
                .await?;
            return Ok(Reply {
                value: answer.value,
                route: Route::Primary,
                reason: Reason::Command,
                acks: None,
            });
        }
        let _in_flight = router.counters.count_in_flight();
        let span = router.span(step.writes);
        let outcome = if step.writes {
            self.write(router, command, &step).instrument(span.clone()).await
        } else {
            self.read(router, command, &step).instrument(span.clone()).await
        };
        record(&span, &outcome);
        outcome
    }

    /// Takes note of what the replies say about the connection's state.
    fn note(&mut self, looks: &[Look], value: &Value, unit: Unit) {
        if unit == Unit::Transaction {
            // Whatever EXEC answers, there is no transaction after it.
            let queued = self.transaction.take();
            if matches!(value, Value::Array(replies) if matches!(replies.last(), Some(Value::Array(_)))) {
                let selected = looks.iter().rev().find_map(selected);
                self.select(selected.or(queued.and_then(|queued| queued.database)));
            }
            return;
        }
        let replies = match value {
            Value::Array(replies) if unit == Unit::Pipeline && looks.len() > 1 => replies.as_slice(),
            value => std::slice::from_ref(value),
        };
        for (look, reply) in looks.iter().zip(replies) {
            match (look.verb, &mut self.transaction) {
                (Verb::Multi, None) if matches!(reply, Value::Okay) => {
                    self.transaction = Some(Queued::default());
                }
                (Verb::Discard, Some(_)) if matches!(reply, Value::Okay) => self.transaction = None,
                (Verb::Exec, Some(queued)) => {
                    let database = queued.database.filter(|_| matches!(reply, Value::Array(_)));
                    self.transaction = None;
                    self.select(database);
                }
                (_, Some(queued)) if !matches!(reply, Value::ServerError(_)) => {
                    queued.reads |= look.reads;
                    queued.shows |= look.shows;
                    queued.writes |= look.writes;
                    queued.database = selected(look).or(queued.database);
                }
                (Verb::Select(database), None) if matches!(reply, Value::Okay) => self.database = database,
                _ => {}
            }
        }
    }

    /// Ends the connection: nobody knows its state.
    fn give_up(&mut self, why: &str, ending: Ending) {
        self.transaction = None;
        if let Ok(link) = &self.link {
            link.end(ending);
            self.link = Err(gone(Error::new(ErrorKind::Disconnected, why)));
        }
    }

    fn select(&mut self, database: Option<i64>) {
        self.database = database.unwrap_or(self.database);
    }

    /// A write, or an EXEC with one in it, and perhaps reads as well.
    async fn write(&mut self, router: &Router, command: &Command, step: &Step<'_>) -> Result<Reply, Error> {
        router.check_uncontested()?;
        let (proof, writer) = router.marking(command.session.as_ref());
        if writer.is_none() {
            let answer = self
                .ask(router, command, ProofWanted::Nothing, None, step)
                .await?;
            return Ok(router.written(answer.value, Reason::Command));
        }
        let read = if step.reads {
            router.prepare(command).await?
        } else {
            router.snapshot(command)
        };
        let answer = self.ask(router, command, proof, writer, step).await?;
        let mut reason = router.admit_write(command, &read, &answer, || step.shows)?;
        if let (Some(waived), true) = (&read.waived, reason != Reason::PossiblyLost) {
            reason = router.tell_waived(read.session, waived);
        }
        Ok(router.written(answer.value, reason))
    }

    /// Reads, or an EXEC with nothing but reads.
    async fn read(&mut self, router: &Router, command: &Command, step: &Step<'_>) -> Result<Reply, Error> {
        let read = router.prepare(command).await?;
        let proof = read.primarys_proof();
        // What was executed or has blocked can't be asked for again: it may answer something else.
        let attempts = if step.executes || !step.patience.is_zero() {
            1
        } else {
            2
        };
        for _ in 0..attempts {
            let answer = self.ask(router, command, proof, None, step).await?;
            let reason = match answer.proof {
                _ if proof == ProofWanted::Nothing || !router.check_proofs => Reason::Command,
                Proof::Between(progress, _) => router.admit(&read, &progress, Reason::Command)?,
                Proof::None | Proof::Refused => continue,
            };
            let reply = Reply {
                value: answer.value,
                route: Route::Primary,
                reason,
                acks: None,
            };
            return Ok(router.counted(&read, reply));
        }
        Err(router.unproven())
    }

    async fn ask(
        &mut self,
        router: &Router,
        command: &Command,
        proof: ProofWanted,
        writer: Option<(&Session, &Scope)>,
        step: &Step<'_>,
    ) -> Result<Answer, Error> {
        let link = self.link.as_ref().map_err(Clone::clone)?;
        // What is only queued does not happen before EXEC.
        let may_write = step.writes && (step.executes || self.transaction.is_none());
        let request = Request {
            packed: &command.packed,
            replies: command.replies,
            proof,
            may_write,
            writer,
        };
        let sent = match link.send(&request, step.patience) {
            Ok(sent) => sent,
            Err(error) => {
                let gone = gone(error);
                self.link = Err(gone.clone());
                return Err(gone);
            }
        };
        let unfinished = Unfinished {
            own: Some(self),
            blocking: !step.patience.is_zero(),
        };
        let counted = may_write.then(|| router.counters.count_sent_write());
        let outcome = sent.answer.await;
        let own = unfinished.finish();
        // The connection has settled what became of it, whatever the outcome.
        if let Some(guard) = sent.guard {
            guard.replied();
        }
        if let Some(counted) = counted {
            counted.concluded();
        }
        let outcome = outcome.unwrap_or_else(|_| Err(if may_write { in_doubt(&closed()) } else { closed() }));
        if outcome
            .as_ref()
            .is_err_and(|error| error.kind() == ErrorKind::InDoubt)
        {
            router.counters.count_lost_write();
        }
        match (own, &outcome) {
            // Before anybody judges the replies: the connection is in this state whatever they are worth.
            (Some(own), Ok(answer)) => own.note(step.looks, &answer.value, command.unit),
            (Some(own), Err(error)) => {
                own.link = Err(gone(error.clone()));
                own.transaction = None;
            }
            (None, _) => {}
        }
        outcome
    }
}

fn selected(look: &Look) -> Option<i64> {
    match look.verb {
        Verb::Select(database) => Some(database),
        _ => None,
    }
}

fn moved() -> Error {
    let message = "another node has become the primary while a connection to it was being made";
    Error::new(ErrorKind::Unavailable, message)
}

fn gone(error: Error) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "this connection has ended, and its state with it: open another one with client.dedicated(&session)",
    )
    .with_source(error)
}

/// What a session depended on before a pipeline. Dropped after one of its replies has shown that a mark is lost, and before
/// anybody has been told, the session depends on that again, and the next reply says it.
struct Unsaid<'a> {
    session: Option<&'a Session>,
    before: Marks,
    lost: bool,
}

impl<'a> Unsaid<'a> {
    fn new(session: Option<&'a Session>) -> Self {
        Self {
            session,
            before: session.map(Session::marks).unwrap_or_default(),
            lost: false,
        }
    }
}

impl Drop for Unsaid<'_> {
    fn drop(&mut self) {
        if let (Some(session), true) = (self.session, self.lost) {
            session.merge(&self.before);
        }
    }
}

/// A command of which the reply has not come. Dropped, it ends the connection.
struct Unfinished<'a> {
    own: Option<&'a mut Own>,
    blocking: bool,
}

impl<'a> Unfinished<'a> {
    fn finish(mut self) -> Option<&'a mut Own> {
        self.own.take()
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let Some(own) = self.own.take() else { return };
        // What blocks is called back, so that it takes nothing for a caller who has gone.
        let ending = if self.blocking {
            Ending::Now
        } else {
            Ending::Answered
        };
        own.give_up(
            "a future on this connection was dropped before its reply had come",
            ending,
        );
    }
}
