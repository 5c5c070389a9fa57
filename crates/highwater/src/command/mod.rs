//! Commands: what a caller asks, as the stack passes it on.

mod caching;
mod class;
mod effect;
mod look;
mod packed;
mod table;

use std::borrow::Cow;

use highwater_core::{Consistency, Session};
use redis::{Cmd, Pipeline};

use crate::acks::Acks;

pub use self::class::Class;
pub(crate) use self::{
    caching::Target,
    effect::shows_change,
    look::{Look, Verb},
    packed::Arguments,
    table::CommandTable,
};

/// The commands in a buffer of requests that redis-rs has encoded, each as it is encoded.
pub(crate) fn commands(packed: &[u8]) -> impl Iterator<Item = &[u8]> {
    packed::Commands::new(packed).encoded()
}

/// The arguments of the first command in such a buffer; none, if there is no command in it.
pub(crate) fn arguments(packed: &[u8]) -> impl Arguments<'_> {
    packed::Commands::first(packed).unwrap_or_default()
}

/// The arguments of each command in such a buffer.
#[cfg(feature = "unstable-internals")]
pub(crate) fn all_arguments(packed: &[u8]) -> Vec<Vec<&[u8]>> {
    packed::Commands::new(packed).map(Iterator::collect).collect()
}

/// One command, or a pipeline that travels as one unit, with the session and the consistency level
/// that it is asked under.
///
/// ```
/// use highwater::{Command, Consistency, Session};
///
/// let session = Session::new();
/// let command = Command::new(redis::cmd("GET").arg("greeting"))
///     .session(&session)
///     .level(Consistency::Primary);
/// # let _ = command;
/// ```
#[derive(Clone)]
pub struct Command {
    pub(crate) packed: Vec<u8>,
    /// How many replies the server will send.
    pub(crate) replies: usize,
    pub(crate) unit: Unit,
    pub(crate) session: Option<Session>,
    pub(crate) level: Option<Consistency>,
    /// The near cache is not asked, and not filled.
    pub(crate) bypass_cache: bool,
    /// What a write waits for.
    pub(crate) acks: Option<Acks>,
}

/// Under what a command is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'a> {
    pub(crate) session: Option<&'a Session>,
    /// If it is neither the session's nor the client's.
    pub(crate) level: Option<Consistency>,
}

/// How many commands travel together, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Single,
    Pipeline,
    /// A pipeline between MULTI and EXEC.
    Transaction,
}

impl Command {
    /// A single command.
    #[must_use]
    pub fn new(command: &Cmd) -> Self {
        let mut new = Self::empty();
        new.encode(command, Vec::new());
        new
    }

    /// A pipeline, atomic or not, as one unit: if one of its commands may write, all go to the
    /// primary. Its reply is an array of what the server sends, so that of an atomic one has the
    /// replies to MULTI, to each queued command, and to EXEC.
    #[must_use]
    pub fn pipeline(pipeline: &Pipeline) -> Self {
        Self::empty().with_pipeline(pipeline)
    }

    /// A pipeline that is asked as this command is.
    pub(crate) fn with_pipeline(self, pipeline: &Pipeline) -> Self {
        Self {
            packed: pipeline.get_packed_pipeline(),
            replies: pipeline.len() + if pipeline.is_transaction() { 2 } else { 0 },
            unit: if pipeline.is_transaction() {
                Unit::Transaction
            } else {
                Unit::Pipeline
            },
            ..self
        }
    }

    /// A single command of which it is not said yet what it is.
    pub(crate) const fn empty() -> Self {
        Self {
            packed: Vec::new(),
            replies: 1,
            unit: Unit::Single,
            session: None,
            level: None,
            bypass_cache: false,
            acks: None,
        }
    }

    /// Says what a single command is, in memory that is there.
    pub(crate) fn encode(&mut self, command: &Cmd, memory: Vec<u8>) {
        self.packed = memory;
        self.packed.clear();
        if command.args_iter().next().is_some() {
            command.write_packed_command(&mut self.packed);
        }
    }

    pub(crate) fn terms(&self) -> Terms<'_> {
        Terms {
            session: self.session.as_ref(),
            level: self.level,
        }
    }

    /// Asks under this session: reads cover what it wrote, writes move it.
    #[must_use]
    pub fn session(mut self, session: &Session) -> Self {
        self.session = Some(session.clone());
        self
    }

    /// Asks at this consistency level, instead of the session's or the client's.
    #[must_use]
    pub fn level(mut self, level: Consistency) -> Self {
        self.level = Some(level);
        self
    }

    /// Asks a node, whatever the near cache has. What that answers is not put into the cache either.
    #[must_use]
    pub fn bypass_cache(mut self) -> Self {
        self.bypass_cache = true;
        self
    }

    /// If it writes, waits until replicas have acknowledged it. [`Reply::acks`](crate::Reply::acks) says how many did.
    ///
    /// With too few, [`Client::call`](crate::Client::call) fails with
    /// [`ErrorKind::TooFewAcks`](crate::ErrorKind::TooFewAcks), though the write was applied at the primary. A write that
    /// changes nothing (`DEL` of a missing key) waits until what it rests on is acknowledged: all that the primary had
    /// when it answered.
    ///
    /// ```no_run
    /// # use highwater::{Acks, Client, Command, Session};
    /// # use std::time::Duration;
    /// # async fn f(client: Client, session: Session) -> Result<(), highwater::Error> {
    /// let order = Command::new(redis::cmd("HSET").arg("order:7").arg("state").arg("paid")).session(&session);
    /// let reply = client.call(order.acks(Acks::replicas(1, Duration::from_millis(500)))).await?;
    /// assert!(reply.acks.is_some_and(|acked| acked.replicas >= 1));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn acks(mut self, acks: Acks) -> Self {
        self.acks = Some(acks);
        self
    }
}

impl Command {
    /// One command of a pipeline, by itself.
    pub(crate) fn part(&self, look: &Look) -> Self {
        Self {
            packed: self.packed.get(look.span.clone()).unwrap_or_default().to_vec(),
            replies: 1,
            unit: Unit::Single,
            session: self.session.clone(),
            level: self.level,
            bypass_cache: self.bypass_cache,
            acks: self.acks,
        }
    }

    /// The name of the (first) command.
    pub(crate) fn name(&self) -> Cow<'_, str> {
        let name = packed::Commands::new(&self.packed)
            .next()
            .and_then(|mut arguments| arguments.next());
        String::from_utf8_lossy(name.unwrap_or_default())
    }
}

impl From<&Cmd> for Command {
    fn from(command: &Cmd) -> Self {
        Self::new(command)
    }
}

impl From<Cmd> for Command {
    fn from(command: Cmd) -> Self {
        Self::new(&command)
    }
}

impl From<&mut Cmd> for Command {
    fn from(command: &mut Cmd) -> Self {
        Self::new(command)
    }
}

impl From<&Pipeline> for Command {
    fn from(pipeline: &Pipeline) -> Self {
        Self::pipeline(pipeline)
    }
}

impl std::fmt::Debug for Command {
    /// The command's name and size; never keys or values.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Command")
            .field("name", &self.name())
            .field("replies", &self.replies)
            .field("bytes", &self.packed.len())
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}
