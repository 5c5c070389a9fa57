//! The handle that redis-rs's commands, pipelines and scripts work on.

use highwater_core::{Consistency, Session};
use redis::{Cmd, Pipeline, RedisError, RedisFuture, Value, aio::ConnectionLike};

use crate::{client::Client, command::Command};

/// A connection for redis-rs's `AsyncCommands`, pipelines and scripts, under one session. Owned,
/// cheap to clone, and usable from several tasks at once.
///
/// Each single read is routed for itself; a pipeline travels as one unit.
#[derive(Clone, Debug)]
pub struct SessionConnection {
    client: Client,
    session: Option<Session>,
    level: Option<Consistency>,
}

impl SessionConnection {
    pub(crate) fn new(client: Client, session: Option<Session>) -> Self {
        Self {
            client,
            session,
            level: None,
        }
    }

    /// Reads of this handle are at `level`, instead of the session's or the client's.
    ///
    /// ```no_run
    /// # use highwater::{Client, Consistency, Session};
    /// # use redis::AsyncCommands;
    /// # async fn f(client: Client, session: Session) -> redis::RedisResult<()> {
    /// let stock: u32 = client.with(&session).at(Consistency::Primary).get("stock:42").await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn at(mut self, level: Consistency) -> Self {
        self.level = Some(level);
        self
    }

    /// The session.
    #[must_use]
    pub fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    async fn value_of(&self, mut command: Command) -> Result<Value, RedisError> {
        command.session.clone_from(&self.session);
        command.level = self.level;
        Ok(self.client.carry_out(command).await?.value)
    }
}

impl ConnectionLike for SessionConnection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(self.value_of(Command::new(cmd)))
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            if pipeline.is_empty() {
                return Ok(Vec::new());
            }
            let Value::Array(replies) = self.value_of(Command::pipeline(pipeline)).await? else {
                return Ok(Vec::new());
            };
            let wanted: Vec<Value> = replies.into_iter().skip(offset).take(count).collect();
            // EXEC's own refusal is the outcome of the whole transaction.
            if pipeline.is_transaction()
                && let [Value::ServerError(error)] = wanted.as_slice()
            {
                return Err(error.clone().into());
            }
            Ok(wanted)
        })
    }

    fn get_db(&self) -> i64 {
        self.client.router().primary.address.database
    }
}
