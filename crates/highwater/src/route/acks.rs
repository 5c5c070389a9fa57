//! Writes that wait for acknowledgements: which connection they go to, and what their callers are told.

use redis::Value;

use super::{Reason, Reply, Router, finished};
use crate::{
    acks::Acks,
    command::{Command, Unit, shows_change},
    error::{Error, ErrorKind},
    node::{Acknowledgement, Answer, Proof, ProofWanted, Request, Sent, other_stream},
};

/// Nobody listens there. What is published goes into the replication stream, as a write does.
const CHANNEL: &str = "highwater:acks";

impl Router {
    /// A write that waits for acknowledgements.
    pub(super) async fn write_acked(&self, command: &Command, acks: Acks) -> Result<Reply, Error> {
        let read = self.snapshot(command);
        let mut request = self.write_request(command);
        request.proof = self.proof_of_stream();
        let sent = self.send_acked(&request, acks).await?;
        let counted = self.counters.count_sent_write();
        let outcome = sent.answer.await;
        let mut answer = self.settled((sent.guard, counted), outcome)?;
        let looks = self.looks(command);
        if let Acknowledgement::Counted(acked) = answer.acks
            && acks.are_met_by(&acked)
            && !is_refused(command, &answer.value)
            && !shows_change(&command.packed, command.unit, &looks, &answer.value)
        {
            answer.acks = self
                .acknowledged_so_far(acks, answer.proof)
                .await
                .unwrap_or_else(Acknowledgement::Unknown);
        }
        // From here to the caller there is no await: what this tells the session, they are told.
        let reason = self.admit_write(command, &read, &answer, || looks.iter().any(|look| look.shows));
        self.acknowledged(command, acks, answer, reason)
    }

    /// What is acknowledged of all that the primary had applied at this proof. A server counts for what a connection has
    /// written itself, and what has changed nothing may rest on what another one wrote, which no replica need have: a write
    /// that is repeated, say, since too few had acknowledged it. So something is written behind it that changes nothing either, but is in
    /// the stream.
    async fn acknowledged_so_far(&self, acks: Acks, before: Proof) -> Result<Acknowledgement, Error> {
        let publish = redis::cmd("PUBLISH").arg(CHANNEL).arg("").get_packed_command();
        let request = Request {
            packed: &publish,
            replies: 1,
            proof: self.proof_of_stream(),
            may_write: false,
            writer: None,
        };
        let sent = self.send_acked(&request, acks).await?;
        let answer = sent.answer.await.unwrap_or_else(|_| Err(super::closed()))?;
        if let Value::ServerError(refusal) = answer.value {
            let message = format!(
                "the write has changed nothing, so only a PUBLISH behind it shows who has what it rests on, and the server refuses \
                 that: {refusal}; allow the user +publish and &{CHANNEL}"
            );
            return Err(Error::new(ErrorKind::Config, message));
        }
        if self.proofs && !is_of_one_stream(before, answer.proof) {
            return Err(other_stream());
        }
        Ok(answer.acks)
    }

    /// The proof that says in which stream a write is, if there are proofs at all.
    fn proof_of_stream(&self) -> ProofWanted {
        if self.proofs {
            ProofWanted::Trailing
        } else {
            ProofWanted::Nothing
        }
    }

    /// Sends such a write to whoever is the primary.
    ///
    /// # Errors
    ///
    /// Why it can't be. Nothing has been sent.
    ///
    /// # Cancel safety
    ///
    /// As [`Node::acked_connection`](crate::node::Node::acked_connection).
    pub(super) async fn send_acked(&self, request: &Request<'_>, acks: Acks) -> Result<Sent, Error> {
        loop {
            let connection = self.known_primary().await?.acked_connection(&acks).await;
            match connection.and_then(|connection| connection.send_acked(request, acks)) {
                Err(error) if self.has_moved(&error) => {}
                sent => return sent,
            }
        }
    }

    /// # Errors
    ///
    /// When a command that blocks is to wait for acknowledgements of what it writes: it has another connection.
    pub(super) fn check_blocking(&self, command: &Command) -> Result<(), Error> {
        if command.acks.is_none() {
            return Ok(());
        }
        let table = self.knowledge.table.get().unwrap_or(&self.built_in_table);
        let looks = table.look(&command.packed, command.unit)?;
        if looks.iter().any(|look| look.writes) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "acks are not for commands that block: send WAIT behind them, on a connection of one's own",
            ));
        }
        Ok(())
    }

    /// What the caller of a write that has been answered is told.
    pub(super) fn acknowledged(
        &self,
        command: &Command,
        acks: Acks,
        answer: Answer,
        reason: Result<Reason, Error>,
    ) -> Result<Reply, Error> {
        let Answer {
            value, acks: told, ..
        } = answer;
        let (acked, unknown) = match told {
            Acknowledgement::Counted(acked) => (Some(acked), None),
            Acknowledgement::Unknown(error) => (None, Some(error)),
            Acknowledgement::NotAsked => (None, None),
        };
        let met = acked.is_some_and(|acked| acks.are_met_by(&acked));
        if met || is_refused(command, &value) {
            let mut reply = self.written(value, reason?);
            reply.acks = acked;
            return Ok(reply);
        }
        let wanted = acks.wanted();
        let of = if wanted == 1 { "replica" } else { "replicas" };
        let timeout = acks.timeout();
        let message = match acked {
            Some(acked) if acked.replicas < wanted => format!(
                "the write was applied at the primary, but only {} of {wanted} {of} acknowledged it within {timeout:?}",
                acked.replicas
            ),
            Some(_) => format!(
                "the write was applied at the primary, but was not in its synced append-only file within {timeout:?}"
            ),
            None => format!(
                "the write was applied at the primary, but it is not known whether {wanted} {of} acknowledged it"
            ),
        };
        Err(match reason {
            Ok(reason) => {
                let mut reply = self.written(finished(value, command)?, reason);
                reply.acks = acked;
                Error::too_few_acks(message, Some(reply), unknown)
            }
            // What it has read may not be given out. That says why, which is said once: it goes before why nobody has counted.
            Err(withheld) => Error::too_few_acks(message, None, Some(withheld)),
        })
    }
}

/// True if the second proof is of the first one's data, at the same moment or later.
fn is_of_one_stream(before: Proof, later: Proof) -> bool {
    matches!(
        (before, later),
        (Proof::Between(before, _), Proof::Between(later, _))
            if before.history == later.history && before.applied <= later.applied
    )
}

/// Then there is nothing to acknowledge and nothing was shown, and the caller sees why.
pub(super) fn is_refused(command: &Command, value: &Value) -> bool {
    match (value, command.unit) {
        (Value::Array(replies), Unit::Transaction) => !matches!(replies.last(), Some(Value::Array(_))),
        (Value::Array(replies), Unit::Pipeline) if command.replies > 1 => replies.iter().all(is_error),
        (value, _) => is_error(value),
    }
}

fn is_error(value: &Value) -> bool {
    matches!(value, Value::ServerError(_))
}

#[cfg(test)]
mod tests {
    use highwater_core::Role;

    use super::*;

    fn at(history: u8, applied: u64) -> Proof {
        Proof::exact(Role::Primary, history, applied)
    }

    #[test]
    fn acknowledgements_of_another_stream_are_none() {
        for (before, later, same) in [
            (at(1, 5), at(1, 5), true),
            (at(1, 5), at(1, 6), true),
            (at(1, 5), at(1, 4), false),
            (at(1, 5), at(2, 6), false),
            (Proof::None, at(1, 6), false),
            (at(1, 5), Proof::None, false),
        ] {
            assert_eq!(is_of_one_stream(before, later), same, "{before:?} {later:?}");
        }
    }
}
