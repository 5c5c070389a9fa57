//! Writes that wait for acknowledgements: the node's connections for them, the questions that end their flushes,
//! and the calls that wait for the answers.
//!
//! `WAIT` holds up whatever comes behind it on its connection, so these writes have connections of their own, and nothing
//! is sent behind one. What comes meanwhile is the next flush. A flush ends with
//! `INFO` (the mark), and then, for each different thing that its callers ask for, a `WAIT` or `WAITAOF` and one more
//! `INFO`. That one shows that the count is of the writes' own stream: a primary that was demoted, took other data and was promoted
//! again before it came to the `WAIT` compares offsets that have nothing to do with each other.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use redis::Value;
use tokio::sync::Mutex;

use super::{
    Node,
    connection::{Acknowledgement, Answer, Call, Connection, Proof},
    driver::{Use, unsent},
    handshake::Questions,
    own::OwnConnection,
};
use crate::{
    acks::{Acked, Acks, Wait},
    defaults::ACKS_PAUSE,
    error::{Error, ErrorKind},
    route::closed,
};

/// How many connections there are for such writes, with one flush in flight on each: so there are two at most. Both on
/// one connection, the server would come to the second only when the first has its acknowledgements.
const CONNECTIONS: usize = 2;

/// What a flush is to be asked about, each thing once, with the longest of its callers' timeouts in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Waits(Vec<(Wait, u16)>);

impl Waits {
    pub(super) fn add(&mut self, acks: &Acks) {
        for wait in acks.waits() {
            match self.0.binary_search_by_key(&wait, |(wait, _)| *wait) {
                Ok(place) => {
                    if let Some((_, millis)) = self.0.get_mut(place) {
                        *millis = acks.millis().max(*millis);
                    }
                }
                Err(place) => self.0.insert(place, (wait, acks.millis())),
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(Wait, u16)> {
        self.0.iter()
    }

    /// For how long the server may be silent before it answers one of them.
    pub(super) fn patience(&self) -> Duration {
        let longest = self.0.iter().map(|(_, millis)| *millis).max();
        Duration::from_millis(longest.unwrap_or_default().into())
    }
}

/// Puts the question into a buffer of requests.
pub(super) fn encode(wait: Wait, millis: u16, out: &mut Vec<u8>) {
    let mut command = match wait {
        Wait::Applied(_) => redis::cmd("WAIT"),
        Wait::Synced(..) => redis::cmd("WAITAOF"),
    };
    match wait {
        Wait::Applied(replicas) => command.arg(replicas),
        Wait::Synced(primary, replicas) => command.arg(u8::from(primary)).arg(replicas),
    };
    out.extend_from_slice(&command.arg(millis).get_packed_command());
}

/// Calls that have their replies, and wait for what their flush is told of acknowledgements.
#[derive(Default)]
pub(super) struct Acking {
    calls: Vec<Pending>,
    /// What was told last, and is still to be confirmed.
    told: Option<(Wait, Result<Acked, Error>)>,
}

struct Pending {
    call: Call,
    acks: Acks,
    value: Value,
    proof: Proof,
    acked: Acked,
    /// Why it can't be known.
    unknown: Option<Error>,
}

impl Acking {
    pub(super) fn add(&mut self, call: Call, acks: Acks, value: Value, proof: Proof) {
        self.calls.push(Pending {
            call,
            acks,
            value,
            proof,
            acked: Acked::default(),
            unknown: None,
        });
    }

    /// Takes in the reply to a question.
    ///
    /// # Errors
    ///
    /// When it can be none.
    pub(super) fn told(&mut self, wait: Wait, value: Value) -> Result<(), Error> {
        let count = |count: &Value| match count {
            Value::Int(count) => u32::try_from(*count).ok(),
            _ => None,
        };
        let acked = match (wait, &value) {
            (Wait::Applied(_), value) => count(value).map(|replicas| Acked {
                replicas,
                fsynced_by_primary: false,
            }),
            (Wait::Synced(..), Value::Array(counts)) => match counts.as_slice() {
                [primary, replicas] => count(primary)
                    .zip(count(replicas))
                    .map(|(primary, replicas)| Acked {
                        replicas,
                        fsynced_by_primary: primary > 0,
                    }),
                _ => None,
            },
            _ => None,
        };
        let acked = match (acked, value) {
            (Some(acked), _) => Ok(acked),
            (None, Value::ServerError(error)) => Err(Error::reply(error)),
            _ => return Err(Error::new(ErrorKind::Protocol, "this is no answer to WAIT")),
        };
        self.told = Some((wait, acked));
        Ok(())
    }

    /// What was told last is of the stream that the writes are in, or it is not. Answers those who wait for nothing
    /// more, and says how many they are.
    pub(super) fn confirmed(&mut self, same_stream: bool) -> usize {
        let Some((told, outcome)) = self.told.take() else {
            return 0;
        };
        let outcome = if same_stream {
            outcome
        } else {
            outcome.and_then(|_| Err(other_stream()))
        };
        let before = self.calls.len();
        for mut pending in std::mem::take(&mut self.calls) {
            let mut last = None;
            for wait in pending.acks.waits() {
                if wait == told {
                    match &outcome {
                        Ok(counted) => pending.acks.count(wait, counted, &mut pending.acked),
                        Err(error) => pending.unknown = Some(error.clone()),
                    }
                }
                last = Some(wait);
            }
            if last == Some(told) {
                pending.answer();
            } else {
                self.calls.push(pending);
            }
        }
        before - self.calls.len()
    }

    /// The connection has ended: nothing more will be told.
    pub(super) fn lost(&mut self, error: &Error) {
        for mut pending in std::mem::take(&mut self.calls) {
            pending.unknown = Some(error.clone());
            pending.answer();
        }
    }
}

impl Pending {
    fn answer(self) {
        let acks = match self.unknown {
            Some(error) => Acknowledgement::Unknown(error),
            None => Acknowledgement::Counted(self.acked),
        };
        // The caller may be gone.
        let _ = self.call.reply_to.send(Ok(Answer {
            value: self.value,
            proof: self.proof,
            acks,
        }));
    }
}

pub(crate) fn other_stream() -> Error {
    Error::new(
        ErrorKind::Disconnected,
        "the primary was demoted, or its data were replaced, while acknowledgements were waited for",
    )
}

/// A node's connections for writes that wait for acknowledgements, once there has been such a write.
#[derive(Debug, Default)]
pub(super) struct AckedLinks {
    links: RwLock<[Option<Opened>; CONNECTIONS]>,
    /// One caller at a time opens what is missing. When that failed last, and why.
    opening: Mutex<Option<(Instant, Error)>>,
}

#[derive(Debug)]
struct Opened {
    own: OwnConnection,
    /// Why nothing can be waited for to be on disk.
    no_aof: Option<Error>,
}

/// The connection with the least in flight, and the place of one that is missing.
#[derive(Default)]
struct Look {
    least: Option<(usize, Result<Arc<Connection>, Error>)>,
    missing: Option<usize>,
}

impl AckedLinks {
    fn look(&self, acks: &Acks) -> Look {
        let mut look = Look::default();
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        for (place, link) in links.iter().enumerate() {
            let live = link.as_ref().and_then(|link| Some((link, link.own.live()?)));
            let Some((opened, connection)) = live else {
                look.missing = Some(place);
                continue;
            };
            let load = connection.load();
            if look.least.as_ref().is_none_or(|(least, _)| load < *least) {
                let usable = match &opened.no_aof {
                    Some(error) if acks.on_disk() => Err(error.clone()),
                    _ => Ok(connection),
                };
                look.least = Some((load, usable));
            }
        }
        look
    }
}

impl Node {
    /// A connection for writes that wait for acknowledgements. What is missing is opened.
    ///
    /// # Errors
    ///
    /// Why there is none, or that the server can't tell what is asked. Nothing has been sent.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes what it was opening. The next caller opens another one.
    pub(crate) async fn acked_connection(self: &Arc<Self>, acks: &Acks) -> Result<Arc<Connection>, Error> {
        let look = self.acked.look(acks);
        match look {
            Look {
                least: Some((_, least)),
                missing: None,
            } => return least,
            // One will do, while another caller opens the other.
            Look {
                least: Some((_, least)),
                missing: Some(_),
            } if self.acked.opening.try_lock().is_err() => return least,
            _ => {}
        }
        // While the node can't be reached, or refuses us, that is known already.
        self.first_attempt().await?;
        let came = Instant::now();
        let mut failed = self.acked.opening.lock().await;
        loop {
            let look = self.acked.look(acks);
            let paused = failed
                .as_ref()
                .filter(|(at, _)| *at >= came || at.elapsed() < ACKS_PAUSE);
            match (look.least, look.missing, paused) {
                (Some((_, least)), None, _) | (Some((_, least)), Some(_), Some(_)) => return least,
                (None, _, Some((_, error))) => return Err(error.clone()),
                (_, Some(place), None) => {
                    *failed = self
                        .open_acked(place)
                        .await
                        .err()
                        .map(|error| (Instant::now(), error));
                }
                (None, None, None) => return Err(closed()),
            }
        }
    }

    async fn open_acked(self: &Arc<Self>, place: usize) -> Result<(), Error> {
        let questions = Questions {
            acks: true,
            ..self.plainly(Vec::new())
        };
        let (own, no_aof) = self
            .open_driven(Use::Acked, questions, ())
            .await
            .map_err(|error| match error.kind() {
                ErrorKind::Config | ErrorKind::Closed => error,
                _ => unsent(&error),
            })?;
        let mut links = self.acked.links.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.get_mut(place) {
            *link = Some(Opened { own, no_aof });
        }
        Ok(())
    }
}
