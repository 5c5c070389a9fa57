//! Proofs between MULTI and EXEC: form (a) of law 3, for connections without tracking, where nothing
//! would tell that the data were replaced between an INFO and the replies after it. INFO and the reads
//! run at one point in time, so the one progress bounds the replies from below and from above.
//!
//! Each unit has a MULTI of its own: a command that is refused when it is queued aborts nobody else's.

use highwater_core::Progress;
use redis::Value;

use super::connection::{Answer, Connection, Proof, ProofWanted, Request};
use crate::{
    error::{Error, ErrorKind},
    route::closed,
};

pub(super) const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
pub(super) const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";

/// What has been put around a request's commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Enclosure {
    /// Nothing.
    None,
    /// MULTI and INFO before them, EXEC after.
    Unit,
    /// INFO after the MULTI that they begin with.
    Transaction,
}

impl Enclosure {
    /// How these commands are to be enclosed. Only the atomic pipelines of redis-rs begin with MULTI.
    pub(super) fn of(packed: &[u8]) -> Self {
        if packed.starts_with(MULTI) {
            Self::Transaction
        } else {
            Self::Unit
        }
    }

    /// How many replies come besides those to the commands.
    pub(super) fn extra_replies(self) -> usize {
        match self {
            Self::None => 0,
            Self::Unit => 3,
            Self::Transaction => 1,
        }
    }

    /// True when commands of the caller's were refused as they were queued. When only INFO or MULTI was, the
    /// commands are not to blame, and there is just no proof.
    ///
    /// # Errors
    ///
    /// When EXEC's reply is none that EXEC can have here: then no reply can be told from another any more.
    pub(super) fn refused(replies: &[Value]) -> Result<bool, Error> {
        let refused = |reply: &Value| matches!(reply, Value::ServerError(_));
        match replies {
            [multi, _, commands @ .., Value::ServerError(_)] => {
                Ok(!refused(multi) && commands.iter().any(refused))
            }
            [_, _, commands @ .., Value::Array(results)] if results.len() == commands.len() + 1 => Ok(false),
            _ => Err(Error::new(
                ErrorKind::Protocol,
                "the server's EXEC does not answer what was queued",
            )),
        }
    }

    /// Takes the replies to the commands out of what has come: the value for the caller, and INFO's
    /// reply. Without one, the transaction was refused, and the value says by which errors, those of the
    /// commands first.
    pub(super) fn open(self, mut replies: Vec<Value>) -> (Value, Option<Value>) {
        match self {
            Self::None => (Value::Array(replies), None),
            Self::Unit => {
                let commands = replies.len().saturating_sub(self.extra_replies());
                match replies.pop() {
                    Some(Value::Array(mut results)) if results.len() == commands + 1 => {
                        let info = results.remove(0);
                        let value = match (commands, results.pop()) {
                            (1, Some(only)) => only,
                            (_, last) => {
                                results.extend(last);
                                Value::Array(results)
                            }
                        };
                        (value, Some(info))
                    }
                    exec => {
                        let own = replies.split_off(replies.len().min(2));
                        let refusals: Vec<_> = own
                            .into_iter()
                            .chain(replies)
                            .chain(exec)
                            .filter(|reply| matches!(reply, Value::ServerError(_)))
                            .collect();
                        (Value::Array(refusals), None)
                    }
                }
            }
            Self::Transaction => {
                if replies.len() > 1 {
                    replies.remove(1);
                }
                let info = match replies.last_mut() {
                    Some(Value::Array(results)) if !results.is_empty() => Some(results.remove(0)),
                    _ => None,
                };
                (Value::Array(replies), info)
            }
        }
    }
}

/// Asks each of these commands in a MULTI of its own: what to do when together they were refused. A command
/// that is refused alone gets its error; that says nothing of data, so it needs no proof.
///
/// # Errors
///
/// When the connection is lost.
pub(crate) async fn each_alone(
    connection: &Connection,
    commands: impl Iterator<Item = &[u8]>,
    proof: ProofWanted,
) -> Result<Answer, Error> {
    let sent = commands
        .map(|packed| {
            connection.send(&Request {
                packed,
                replies: 1,
                proof,
                may_write: false,
                writer: None,
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut values = Vec::with_capacity(sent.len());
    let mut proofs = Vec::with_capacity(sent.len());
    for sent in sent {
        let Answer { value, proof, .. } = sent.answer.await.map_err(|_| closed())??;
        values.push(match (proof, value) {
            // The first error is the command's own, the last one only EXEC's about it.
            (Proof::Refused, Value::Array(refusals)) => refusals.into_iter().next().unwrap_or(Value::Nil),
            (proof, value) => {
                proofs.push(proof);
                value
            }
        });
    }
    Ok(Answer::new(Value::Array(values), together(proofs)))
}

/// What holds for all of several replies: from the least progress to the furthest.
fn together(proofs: Vec<Proof>) -> Proof {
    let mut bounds: Option<(Progress, Option<Progress>)> = None;
    for proof in proofs {
        let Proof::Between(low, high) = proof else {
            return Proof::None;
        };
        bounds = Some(match bounds {
            None => (low, high),
            Some((least, furthest)) => {
                let alike = |a: &Progress, b: &Progress| {
                    (a.role, a.history, a.read_only) == (b.role, b.history, b.read_only)
                };
                let (Some(furthest), Some(high)) = (furthest, high) else {
                    return Proof::None;
                };
                if !alike(&least, &low) || !alike(&furthest, &high) {
                    return Proof::None;
                }
                (
                    if low.applied < least.applied { low } else { least },
                    Some(if high.applied > furthest.applied {
                        high
                    } else {
                        furthest
                    }),
                )
            }
        });
    }
    bounds.map_or(Proof::None, |(low, high)| Proof::Between(low, high))
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_core::Role;

    fn parse(text: &[u8]) -> Vec<Value> {
        let (mut parser, mut at) = (super::super::reply::Parser::default(), 0);
        std::iter::from_fn(|| parser.next(text, &mut at).unwrap()).collect()
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn one_command_gets_its_reply_and_several_an_array() {
        let one = parse(b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n$1\r\ni\r\n$1\r\na\r\n");
        assert_eq!(Enclosure::Unit.open(one), (text("a"), Some(text("i"))));
        let two = parse(b"+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n$1\r\ni\r\n$1\r\na\r\n-ERR b\r\n");
        let (value, info) = Enclosure::Unit.open(two);
        let Value::Array(values) = value else { panic!() };
        assert_eq!((values.len(), &values[0], info), (2, &text("a"), Some(text("i"))));
        assert!(matches!(values[1], Value::ServerError(_)));
    }

    #[test]
    fn a_users_transaction_looks_as_without_us() {
        let replies = parse(b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n$1\r\ni\r\n$1\r\na\r\n");
        let expected = parse(b"+OK\r\n+QUEUED\r\n*1\r\n$1\r\na\r\n");
        assert_eq!(
            Enclosure::Transaction.open(replies),
            (Value::Array(expected), Some(text("i")))
        );
    }

    #[test]
    fn a_refusal_has_no_proof() {
        for (enclosure, replies) in [
            (
                Enclosure::Unit,
                &b"+OK\r\n+QUEUED\r\n-ERR arity\r\n-EXECABORT x\r\n"[..],
            ),
            // MULTI itself is refused: what follows runs alone.
            (
                Enclosure::Unit,
                b"-NOPERM m\r\n$1\r\ni\r\n$1\r\na\r\n-ERR EXEC without MULTI\r\n",
            ),
            (
                Enclosure::Transaction,
                b"+OK\r\n+QUEUED\r\n-ERR arity\r\n-EXECABORT x\r\n",
            ),
        ] {
            let multi = replies.starts_with(b"+OK");
            assert_eq!(Enclosure::refused(&parse(replies)).unwrap(), multi);
            let (value, info) = enclosure.open(parse(replies));
            assert_eq!(info, None);
            let Value::Array(values) = value else { panic!() };
            assert!(matches!(values.last(), Some(Value::ServerError(_))));
        }
    }

    #[test]
    fn the_commands_are_not_to_blame_for_a_refused_info() {
        let replies = b"+OK\r\n-NOPERM i\r\n+QUEUED\r\n-ERR arity\r\n-EXECABORT x\r\n";
        assert!(Enclosure::refused(&parse(replies)).unwrap());
        let Value::Array(values) = Enclosure::Unit.open(parse(replies)).0 else {
            panic!()
        };
        let codes: Vec<_> = values
            .iter()
            .filter_map(|value| match value {
                Value::ServerError(error) => Some(error.code()),
                _ => None,
            })
            .collect();
        assert_eq!(codes, ["ERR", "NOPERM", "EXECABORT"]);
        let replies = b"+OK\r\n-NOPERM i\r\n+QUEUED\r\n-EXECABORT x\r\n";
        assert!(!Enclosure::refused(&parse(replies)).unwrap());
    }

    #[test]
    fn an_exec_that_answers_something_else_is_an_error() {
        for exec in [
            "*-1\r\n",
            "+OK\r\n",
            "*0\r\n",
            "*1\r\n:1\r\n",
            "*3\r\n:1\r\n:2\r\n:3\r\n",
        ] {
            let replies = format!("+OK\r\n+QUEUED\r\n+QUEUED\r\n{exec}");
            let error = Enclosure::refused(&parse(replies.as_bytes())).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol, "{exec}");
        }
    }

    #[test]
    fn several_proofs_hold_where_all_do() {
        let at = |applied, history| Proof::exact(Role::Replica, history, applied);
        let Proof::Between(low, Some(high)) = together(vec![at(5, 1), at(3, 1), at(4, 1)]) else {
            panic!()
        };
        assert_eq!((low.applied, high.applied), (3, 5));
        assert_eq!(together(vec![at(5, 1), at(5, 2)]), Proof::None);
        assert_eq!(together(vec![at(5, 1), Proof::None]), Proof::None);
        assert_eq!(together(Vec::new()), Proof::None);
    }
}
