//! Callers, and what each of them may be told.

use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Mutex},
    task::Poll,
};

use highwater::{Client, Command, Consistency, Error, ErrorKind, Session, redis};
use proptest::prelude::*;
use redis::Value;

/// What a caller asks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ask {
    Read,
    Write,
    /// A pipeline of so many reads.
    Reads(u8),
    /// A pipeline of a write and so many reads.
    Mixed(u8),
    /// So many reads between MULTI and EXEC.
    Atomic(u8),
    /// A write and a read, one after the other, on a connection of its own.
    Own,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    ask: Ask,
    level: Consistency,
    session: usize,
    /// How many turns of others it begins after.
    after: u8,
    /// How often it is polled before it goes away.
    polls: Option<u8>,
}

pub(crate) const SESSIONS: usize = 3;

/// A caller of the first session that begins at once and stays.
pub(crate) fn caller(ask: Ask, level: Consistency) -> Caller {
    Caller {
        ask,
        level,
        session: 0,
        after: 0,
        polls: None,
    }
}

pub(crate) fn callers() -> impl Strategy<Value = Vec<Caller>> {
    let ask = prop_oneof![
        6 => Just(Ask::Read),
        4 => Just(Ask::Write),
        2 => (1..6_u8).prop_map(Ask::Reads),
        1 => (1..4_u8).prop_map(Ask::Mixed),
        2 => (1..4_u8).prop_map(Ask::Atomic),
        1 => Just(Ask::Own),
    ];
    let level = prop_oneof![
        4 => Just(Consistency::ReadYourWrites),
        4 => Just(Consistency::Monotonic),
        1 => Just(Consistency::Eventual),
        1 => Just(Consistency::Primary),
    ];
    let caller = (
        ask,
        level,
        0..SESSIONS,
        0..30_u8,
        prop::option::weighted(0.2, 0..6_u8),
    )
        .prop_map(|(ask, level, session, after, polls)| Caller {
            ask,
            level,
            session,
            after,
            polls,
        });
    prop::collection::vec(caller, 1..60)
}

/// What the callers of a session have been shown: what later ones may not be shown less than.
#[derive(Debug, Default)]
pub(crate) struct Shown(Mutex<HashMap<usize, Floor>>);

#[derive(Clone, Copy, Debug, Default)]
struct Floor {
    written: u64,
    /// By monotonic reads.
    read: u64,
}

impl Shown {
    fn floor(&self, session: usize) -> Floor {
        self.0.lock().unwrap().entry(session).or_default().to_owned()
    }

    fn raise(&self, session: usize, by: impl FnOnce(&mut Floor)) {
        by(self.0.lock().unwrap().entry(session).or_default());
    }
}

/// What came of a caller.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The write that it asked for, by what it is about.
    pub(crate) write: Option<String>,
    /// It was told that its write was not sent.
    pub(crate) unsent: bool,
    /// It got a reply.
    pub(crate) answered: bool,
}

impl Caller {
    /// Asks, and checks what comes.
    pub(crate) async fn run(
        self,
        number: usize,
        client: Client,
        sessions: [Session; SESSIONS],
        shown: Arc<Shown>,
        hostile: bool,
    ) -> Outcome {
        for _ in 0..self.after {
            tokio::task::yield_now().await;
        }
        let session = &sessions[self.session];
        let asked = self.asked(number);
        let floor = shown.floor(self.session);
        let asking = async {
            if let Ask::Own = self.ask {
                return self.on_its_own(&client, session, &asked).await;
            }
            let command = self.command(&asked).session(session).level(self.level);
            client.call(command).await.map(|reply| reply.value)
        };
        let write = asked
            .iter()
            .find(|(write, _)| *write)
            .map(|(_, about)| about.clone());
        let mut outcome = Outcome {
            write,
            unsent: false,
            answered: false,
        };
        match patiently(asking, self.polls).await {
            None => {}
            Some(Ok(value)) => {
                outcome.answered = true;
                let offset = self.own_replies(&value, &asked, floor);
                shown.raise(self.session, |floor| {
                    if outcome.write.is_some() {
                        floor.written = floor.written.max(offset.unwrap_or_default());
                    } else if self.level == Consistency::Monotonic {
                        floor.read = floor.read.max(offset.unwrap_or_default());
                    }
                });
            }
            Some(Err(error)) => outcome.unsent = self.own_error(&error, &asked, hostile),
        }
        outcome
    }

    /// Each command: whether it writes, and what it is about.
    fn asked(&self, number: usize) -> Vec<(bool, String)> {
        let (write, reads) = match self.ask {
            Ask::Read => (false, 1),
            Ask::Write => (true, 0),
            Ask::Reads(reads) | Ask::Atomic(reads) => (false, reads),
            Ask::Mixed(reads) => (true, reads),
            Ask::Own => (true, 1),
        };
        let kinds =
            std::iter::repeat_n(true, usize::from(write)).chain(std::iter::repeat_n(false, reads.into()));
        kinds
            .enumerate()
            .map(|(place, writes)| (writes, format!("c{number}.{place}")))
            .collect()
    }

    fn command(&self, asked: &[(bool, String)]) -> Command {
        if let (Ask::Read | Ask::Write, [(writes, about)]) = (self.ask, asked) {
            return Command::new(&cmd(*writes, about));
        }
        let mut pipeline = redis::pipe();
        for (writes, about) in asked {
            pipeline.add_command(cmd(*writes, about));
        }
        if let Ask::Atomic(_) = self.ask {
            pipeline.atomic();
        }
        Command::pipeline(&pipeline)
    }

    async fn on_its_own(
        &self,
        client: &Client,
        session: &Session,
        asked: &[(bool, String)],
    ) -> Result<Value, Error> {
        let own = client.dedicated(session).await?;
        let mut values = Vec::new();
        for (writes, about) in asked {
            let command = Command::new(&cmd(*writes, about)).level(self.level);
            match own.call(command).await {
                Ok(reply) => values.push(reply.value),
                // What was answered before is what was answered.
                Err(_) if !values.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Value::Array(values))
    }

    /// Checks that the replies are this caller's own, and no less than what the session has been shown; says where
    /// the least of them is.
    fn own_replies(&self, value: &Value, asked: &[(bool, String)], floor: Floor) -> Option<u64> {
        let mut leaves = Vec::new();
        flatten(value, &mut leaves);
        let mut expected = asked.iter().map(|(_, about)| about.as_str());
        let (mut least, mut replies, mut errors) = (None::<u64>, 0, 0);
        for leaf in &leaves {
            match leaf {
                Leaf::Reply(about, offset) => {
                    // In their order; what is missing was refused.
                    assert!(
                        expected.any(|own| own == about),
                        "{self:?} asked {asked:?} and got {leaves:?}"
                    );
                    let floor = match self.level {
                        Consistency::Eventual => 0,
                        Consistency::Monotonic => floor.written.max(floor.read),
                        _ => floor.written,
                    };
                    assert!(
                        *offset >= floor,
                        "{self:?} got {leaves:?}, and its session has been shown {floor}"
                    );
                    least = Some(least.map_or(*offset, |least| least.min(*offset)));
                    replies += 1;
                }
                Leaf::Error(text) => {
                    let of_transaction = ["discarded", "EXEC without MULTI", "refused MULTI", "refused EXEC"];
                    assert!(
                        asked.iter().any(|(_, about)| text.contains(&format!("{about} ")))
                            || of_transaction.iter().any(|part| text.contains(part)),
                        "{self:?} asked {asked:?} and got {leaves:?}"
                    );
                    errors += 1;
                }
            }
        }
        let may_lack = errors > 0 || matches!(self.ask, Ask::Own);
        assert!(
            replies == asked.len() || may_lack,
            "{self:?} asked {asked:?} and got {leaves:?}"
        );
        least
    }

    /// Checks that an error is one that this caller may be told; true when it says that a write was not sent.
    fn own_error(&self, error: &Error, asked: &[(bool, String)], hostile: bool) -> bool {
        let writes = asked.iter().any(|(writes, _)| *writes);
        match error.kind() {
            ErrorKind::Server => {
                let text = error.to_string();
                assert!(
                    asked.iter().any(|(_, about)| text.contains(&format!("{about} "))),
                    "{self:?} asked {asked:?} and was told {text}"
                );
                false
            }
            ErrorKind::Unavailable => writes,
            ErrorKind::InDoubt => {
                assert!(writes, "{self:?}: {error}");
                false
            }
            ErrorKind::Disconnected | ErrorKind::Protocol => {
                assert!(
                    hostile || error.kind() == ErrorKind::Disconnected,
                    "{self:?}: {error}"
                );
                assert!(!writes, "{self:?}: {error}");
                false
            }
            kind => panic!("{self:?} was told {kind:?}: {error}"),
        }
    }
}

fn cmd(writes: bool, about: &str) -> redis::Cmd {
    let mut cmd = redis::cmd(if writes { "SET" } else { "GET" });
    cmd.arg(about);
    if writes {
        cmd.arg("value");
    }
    cmd
}

#[derive(Debug)]
enum Leaf {
    /// What it is about, and where the data were.
    Reply(String, u64),
    Error(String),
}

fn flatten(value: &Value, into: &mut Vec<Leaf>) {
    let mut text = |text: &str| {
        let first = text.split(' ').next().unwrap_or_default();
        if let Some((about, offset)) = first.split_once('@') {
            into.push(Leaf::Reply(about.to_owned(), offset.parse().unwrap()));
        }
    };
    match value {
        Value::BulkString(bytes) => text(&String::from_utf8_lossy(bytes)),
        Value::SimpleString(status) => text(status),
        Value::Array(values) => values.iter().for_each(|value| flatten(value, into)),
        Value::Map(pairs) => pairs.iter().for_each(|(_, value)| flatten(value, into)),
        Value::ServerError(error) => into.push(Leaf::Error(error.to_string() + " ")),
        _ => {}
    }
}

/// Polls a future, at most so often.
async fn patiently<T>(future: impl Future<Output = T>, polls: Option<u8>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == Some(0) {
            return Poll::Ready(None);
        }
        left = left.map(|left| left - 1);
        let polled = future.as_mut().poll(context).map(Some);
        if polled.is_pending() && left == Some(0) {
            // It goes away at some moment after this.
            context.waker().wake_by_ref();
        }
        polled
    })
    .await
}
