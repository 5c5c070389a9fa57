//! Writes that wait for acknowledgements: which connection they go to, and what their callers are told.

use redis::Value;

use super::{Reason, Reply, Router, finished};
use crate::{
    acks::Acks,
    command::{Command, Unit},
    error::{Error, ErrorKind},
    node::{Acknowledgement, Answer, Request, Sent},
};

impl Router {
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
        // Then there is nothing to acknowledge, and the caller sees why.
        let refused = match (&value, command.unit) {
            (Value::Array(replies), Unit::Transaction) => !matches!(replies.last(), Some(Value::Array(_))),
            (Value::Array(replies), Unit::Pipeline) if command.replies > 1 => replies.iter().all(is_error),
            (value, _) => is_error(value),
        };
        if met || refused {
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

fn is_error(value: &Value) -> bool {
    matches!(value, Value::ServerError(_))
}
