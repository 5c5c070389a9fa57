//! Connections of one caller's own, under a session.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use highwater_core::{Consistency, Session};
use redis::{Cmd, Pipeline, RedisFuture, Value, aio::ConnectionLike};
use tokio::sync::Mutex;

use crate::{
    client::Client,
    command::Command,
    error::{Error, ErrorKind},
    redis_rs,
    route::{Own, Reply, closed},
};

/// A connection of one's own to the primary, under one session: for what hangs on one connection, like
/// `WATCH` with `MULTI`, `SELECT` or `WAIT` (for writes alone that wait for replicas, [`Command::acks`] is quicker). Clones are the same connection, on which one command at a
/// time is carried out; it is closed when the last one is dropped.
///
/// Writes leave their marks in the session, and replies are compared with what the session depends on,
/// as everywhere. Within a transaction both happen at `EXEC`.
///
/// It is never connected anew, because what was watched, queued or selected would be lost unseen: after
/// a disconnect, and after a future on it was dropped before its reply, it answers with
/// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable). Open another one then.
///
/// Layers that were given to the builder are not around it: what they repeat or drop would change its
/// state.
///
/// Refused are commands that take from a connection what replies and proofs rest on: `SUBSCRIBE` and its
/// kin, `MONITOR`, `HELLO`, `RESET`, `QUIT`, `CLIENT REPLY`, `CLIENT TRACKING`.
#[derive(Clone)]
pub struct DedicatedConnection {
    client: Client,
    session: Session,
    level: Option<Consistency>,
    own: Arc<Mutex<Own>>,
    /// The database that is selected, for those who ask while a command is under way.
    database: Arc<AtomicI64>,
}

impl DedicatedConnection {
    pub(crate) async fn open(client: Client, session: Session) -> Result<Self, Error> {
        let router = client.router();
        router.check_open()?;
        let permit = Arc::clone(&router.dedicated)
            .acquire_owned()
            .await
            .map_err(|_| closed())?;
        let own = router.open_own(permit).await?;
        Ok(Self {
            database: Arc::new(AtomicI64::new(own.database())),
            own: Arc::new(Mutex::new(own)),
            client,
            session,
            level: None,
        })
    }

    /// Reads of this handle are at `level`, instead of the session's or the client's. They are all
    /// answered by the primary; the level says what its proof must cover.
    #[must_use]
    pub fn at(mut self, level: Consistency) -> Self {
        self.level = Some(level);
        self
    }

    /// The session.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Carries out a command under this connection's session. Those of other clones wait in line.
    ///
    /// # Errors
    ///
    /// An error reply of the server, or why there is no reply: see [`ErrorKind`](crate::ErrorKind).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before the reply ends the connection: its state is not known any more. A
    /// write may still have happened; the session is then in doubt until the write's place is known.
    pub async fn call(&self, command: impl Into<Command>) -> Result<Reply, Error> {
        let mut command = command.into();
        if command.acks.is_some() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "acks are not for a connection of one's own: send WAIT (or WAITAOF) on it, behind the write",
            ));
        }
        command.session = Some(self.session.clone());
        command.level = command.level.or(self.level);
        let mut own = self.own.lock().await;
        let outcome = own.call(self.client.router(), &command).await;
        self.database.store(own.database(), Ordering::Relaxed);
        outcome
    }
}

impl ConnectionLike for DedicatedConnection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move { redis_rs::value_of(cmd, self.call(cmd).await.map(|reply| reply.value)) })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        let carried_out = async move { Ok(self.call(pipeline).await?.value) };
        Box::pin(redis_rs::values_of(pipeline, offset, count, carried_out))
    }

    fn get_db(&self) -> i64 {
        self.database.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for DedicatedConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DedicatedConnection")
            .field("client", &self.client)
            .field("session", &self.session)
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}
