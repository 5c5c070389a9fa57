//! The handle that redis-rs's commands, pipelines and scripts work on.

use std::cell::Cell;

use highwater_core::{Consistency, Session};
use redis::{Cmd, Pipeline, RedisFuture, Value, aio::ConnectionLike};

use crate::{acks::Acks, cache::Look, client::Client, command::Command, redis_rs};

/// A thread keeps no more for its next command.
const MAX_SCRATCH: usize = 1024;

/// A connection for redis-rs's `AsyncCommands`, pipelines and scripts, under one session. Owned,
/// cheap to clone, and usable from several tasks at once.
///
/// Each single read is routed for itself; a pipeline travels as one unit. Commands that block run on
/// connections that are kept for them. What hangs on one connection (`WATCH`, `SELECT`, …) is refused:
/// [`Client::dedicated`] is for that.
#[derive(Clone, Debug)]
pub struct SessionConnection {
    client: Client,
    /// The one that is under way, and how all are asked.
    command: Command,
}

impl SessionConnection {
    pub(crate) fn new(client: Client, session: Option<Session>) -> Self {
        let command = Command {
            session,
            ..Command::empty()
        };
        Self { client, command }
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
        self.command.level = Some(level);
        self
    }

    /// Reads of this handle ask a node, whatever the near cache has.
    #[must_use]
    pub fn bypass_cache(mut self) -> Self {
        self.command.bypass_cache = true;
        self
    }

    /// Writes of this handle wait until replicas have acknowledged them: see [`Command::acks`].
    ///
    /// ```no_run
    /// # use highwater::{Acks, Client, Error, ErrorKind, Session};
    /// # use redis::AsyncCommands;
    /// # use std::time::Duration;
    /// # async fn f(client: Client, session: Session) -> redis::RedisResult<()> {
    /// let mut durable = client.with(&session).acks(Acks::replicas(1, Duration::from_millis(500)));
    /// let paid: redis::RedisResult<()> = durable.hset("order:7", "state", "paid").await;
    /// if let Err(error) = &paid
    ///     && Error::of(error).map(Error::kind) == Some(ErrorKind::TooFewAcks)
    /// {
    ///     // The primary has it, and no replica had by then.
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn acks(mut self, acks: Acks) -> Self {
        self.command.acks = Some(acks);
        self
    }

    /// The session.
    #[must_use]
    pub fn session(&self) -> Option<&Session> {
        self.command.session.as_ref()
    }
}

impl ConnectionLike for SessionConnection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        let Self { client, command } = self;
        let client: &Client = client;
        let Some(cache) = client.cache() else {
            return Box::pin(async move {
                let encoded = Encoded::new(command, cmd);
                let reply = client.carry_out(encoded.0).await;
                redis_rs::value_of(cmd, reply.map(|reply| reply.value))
            });
        };
        // Most are hits, which end where they begin, without having been encoded: what the others need is not in their
        // future.
        Box::pin(async move {
            let router = client.router();
            if let Some(asked) = redis_rs::arguments_of(cmd).filter(|_| !command.bypass_cache) {
                match cache.look(router, command.terms(), &asked)? {
                    Look::Hit(reply) => return redis_rs::value_of(cmd, Ok(reply.value)),
                    Look::Ask(asked) => {
                        let mut command = command.clone();
                        command.encode(cmd, Vec::new());
                        let reply = Box::pin(cache.ask(router, &command, &asked)).await;
                        return redis_rs::value_of(cmd, reply.map(|reply| reply.value));
                    }
                    Look::Pass => {}
                }
            }
            let encoded = Encoded::new(command, cmd);
            let reply = Box::pin(router.call(encoded.0)).await;
            redis_rs::value_of(cmd, reply.map(|reply| reply.value))
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        let carried_out = async move {
            let command = self.command.clone().with_pipeline(pipeline);
            Ok(self.client.carry_out(&command).await?.value)
        };
        Box::pin(redis_rs::values_of(pipeline, offset, count, carried_out))
    }

    fn get_db(&self) -> i64 {
        self.client.router().database()
    }
}

thread_local! {
    /// Where commands are encoded: who has been answered leaves the memory to the next one on this thread, which is nearly
    /// always their own.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A handle's command while it is under way. What it took to encode it is not held by the handle afterwards, also if the
/// caller has gone.
struct Encoded<'a>(&'a mut Command);

impl<'a> Encoded<'a> {
    fn new(command: &'a mut Command, cmd: &Cmd) -> Self {
        command.encode(cmd, SCRATCH.try_with(Cell::take).unwrap_or_default());
        Self(command)
    }
}

impl Drop for Encoded<'_> {
    fn drop(&mut self) {
        let packed = std::mem::take(&mut self.0.packed);
        if packed.capacity() <= MAX_SCRATCH {
            // Unless the thread is about to end.
            let _ = SCRATCH.try_with(|scratch| scratch.set(packed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// redis-rs has each command's future boxed. What is in it lies in memory of its own
    /// for each caller who waits, and beyond 1,032 bytes, glibc's allocator leaves its quick path,
    /// which cost several per cent of throughput at 256 callers.
    #[test]
    fn the_future_of_a_command_is_quick_to_allocate() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let _entered = runtime.enter();
        let client = Client::builder()
            .primary("redis://127.0.0.1:1")
            .connect_lazy()
            .unwrap();
        let (mut connection, command) = (client.without_session(), redis::cmd("GET"));
        let future = connection.req_packed_command(&command);
        assert!(size_of_val(&*future) <= 448, "{} bytes", size_of_val(&*future));
    }
}
