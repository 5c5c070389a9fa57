//! The client.

use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::future::{BoxFuture, Either, select};
use highwater_core::{Consistency, Role, Scope, Session};
use tokio::{
    sync::Mutex,
    task::JoinHandle,
    time::{timeout, timeout_at},
};
use tower::ServiceExt;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    builder::ClientBuilder,
    cache::{CacheLayer, CacheStats, Look, NearCache},
    command::Command,
    dedicated::DedicatedConnection,
    error::{Error, ErrorKind},
    layers::{CommandService, Layers, unlayered},
    node_connection::NodeConnection,
    route::{Reply, RouteService, Router, closed},
    session_connection::SessionConnection,
    status::Status,
};

/// A client of one Redis or Valkey deployment: a primary and its replicas. Cheap to clone; clones
/// share connections.
///
/// ```no_run
/// use highwater::{Client, Session};
/// use redis::AsyncCommands;
///
/// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::builder()
///     .primary("redis://127.0.0.1:6379")
///     .replica("redis://127.0.0.1:6380")
///     .connect()
///     .await?;
/// let session = Session::new();
/// let mut connection = client.with(&session);
/// let () = connection.set("greeting", "hello").await?;
/// // From a replica if one has caught up with the write, from the primary if not.
/// let greeting: String = connection.get("greeting").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    router: Arc<Router>,
    /// The near cache, if there is one.
    cache: Option<Arc<NearCache>>,
    /// The command stack within the user's layers, if there are any.
    layered: Option<CommandService>,
    /// What keeps the nodes connected, for the one who shuts the client down.
    tasks: Mutex<Vec<JoinHandle<()>>>,
    max_in_flight: u32,
    shutdown_timeout: Duration,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The nodes' tasks end with the last handle; what they still hold is concluded as lost.
        let router = &self.router;
        let (_, tasks) = router.steward.stop();
        self.tasks
            .get_mut()
            .iter()
            .chain(&tasks)
            .for_each(JoinHandle::abort);
        for node in router.members().nodes().chain(&router.steward.retired()) {
            node.abort_own();
        }
        self.router.barrier.stop();
    }
}

impl Client {
    /// Begins a client.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    pub(crate) fn new(
        router: Arc<Router>,
        cache: Option<Arc<NearCache>>,
        layers: Layers,
        max_in_flight: u32,
        shutdown_timeout: Duration,
    ) -> Self {
        let route = RouteService::new(Arc::clone(&router));
        let layered = match &cache {
            Some(cache) => layers.around(CacheLayer::new(Arc::clone(cache)).layer(route)),
            None => layers.around(route),
        };
        Self(Arc::new(Inner {
            cache,
            layered,
            router,
            tasks: Mutex::default(),
            max_in_flight,
            shutdown_timeout,
        }))
    }

    pub(crate) fn router(&self) -> &Router {
        &self.0.router
    }

    /// The near cache, if there is one and nothing of the user's around it.
    pub(crate) fn cache(&self) -> Option<&NearCache> {
        self.0.cache.as_deref().filter(|_| self.0.layered.is_none())
    }

    /// A connection for redis-rs's commands, under this session.
    #[must_use]
    pub fn with(&self, session: &Session) -> SessionConnection {
        SessionConnection::new(self.clone(), Some(session.clone()))
    }

    /// A connection for redis-rs's commands that belong to no session: its reads depend on nothing,
    /// its writes leave no mark.
    #[must_use]
    pub fn without_session(&self) -> SessionConnection {
        SessionConnection::new(self.clone(), None)
    }

    /// A connection of the caller's own to the primary, under this session: for `WATCH` and `MULTI`,
    /// `SELECT`, `WAIT`, and whatever else hangs on one connection. It is closed when dropped.
    ///
    /// There are at most as many as the builder allows; callers wait in line for one. A caller who holds
    /// one and waits for another can wait for ever.
    ///
    /// ```no_run
    /// # use highwater::{Client, Session};
    /// # use redis::AsyncCommands;
    /// # async fn f(client: Client, session: Session) -> redis::RedisResult<()> {
    /// let connection = client.dedicated(&session).await?;
    /// let sold: (u32,) = redis::aio::transaction_async(connection, &["stock"], |mut connection, mut pipe| async move {
    ///     let stock: u32 = connection.get("stock").await?;
    ///     pipe.set("stock", stock - 1).ignore().get("stock").query_async(&mut connection).await
    /// })
    /// .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] when the primary can't be reached, [`ErrorKind::Config`] when it refuses
    /// the connection.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the place in line back, and closes what was being opened.
    pub async fn dedicated(&self, session: &Session) -> Result<DedicatedConnection, Error> {
        DedicatedConnection::open(self.clone(), session.clone()).await
    }

    /// The primary alone: commands without a session, and without proofs. See [`NodeConnection`].
    #[must_use]
    pub fn primary_node(&self) -> NodeConnection {
        NodeConnection::new(self.clone(), None)
    }

    /// One node alone, by its address as [`Client::status`] prints it (`host:port`, or a path): commands
    /// without a session, and without proofs. See [`NodeConnection`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] when the client knows no such node.
    pub fn node(&self, address: &str) -> Result<NodeConnection, Error> {
        let router = &self.0.router;
        let members = router.members();
        let node = members
            .nodes()
            .find(|node| node.address.to_string() == address)
            .ok_or_else(|| {
                let message = format!("no node is at {address}: status() lists the nodes");
                Error::new(ErrorKind::Config, message)
            })?;
        Ok(NodeConnection::new(self.clone(), Some(Arc::clone(node))))
    }

    /// Carries out a command, and says where the reply came from and why.
    ///
    /// # Errors
    ///
    /// An error reply of the server, or why there is no reply: see [`ErrorKind`](crate::ErrorKind).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the connection and everybody else's replies as they are. A write
    /// whose future is dropped may still happen; the session is then in doubt, and its reads go to
    /// the primary until the write's place is known.
    pub async fn call(&self, command: impl Into<Command>) -> Result<Reply, Error> {
        self.carry_out(&command.into()).await
    }

    /// Through the user's layers, if there are any.
    pub(crate) async fn carry_out(&self, command: &Command) -> Result<Reply, Error> {
        let Some(stack) = &self.0.layered else {
            if let Some(cache) = self.cache() {
                match cache.look_for(&self.0.router, command)? {
                    Look::Hit(reply) => return Ok(reply),
                    Look::Ask(asked) => return Box::pin(cache.ask(&self.0.router, command, &asked)).await,
                    Look::Pass => {}
                }
            }
            return self.0.router.call(command).await;
        };
        let may_write = self.0.router.may_write(command);
        // One clone is made ready and called: readiness of another would mean nothing.
        let outcome = Box::pin(stack.clone().oneshot(command.clone())).await;
        outcome.map_err(|error| unlayered(error, may_write))
    }

    /// The scope that the client's marks are of.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.0.router.scope
    }

    /// The consistency level of reads that say nothing else.
    #[must_use]
    pub fn level(&self) -> Consistency {
        self.0.router.level
    }

    /// Waits until the client can serve: the primary is connected, and says that it is the primary. Replicas
    /// are not waited for: while there are none, the primary answers.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] when the primary has not been reached in time; [`ErrorKind::Config`] at once
    /// when it refuses us or is none; [`ErrorKind::Closed`] after [`shutdown`](Self::shutdown).
    ///
    /// # Cancel safety
    ///
    /// It only looks.
    pub async fn ready(&self, within: Duration) -> Result<(), Error> {
        let router = &self.0.router;
        let connected = async {
            let mut members = router.members.subscribe();
            loop {
                let primary = members.borrow_and_update().primary().map(Arc::clone);
                match primary {
                    Err(error) if error.kind() == ErrorKind::Config => return Err(error),
                    Err(_) => drop(members.changed().await),
                    // Another one may take its place meanwhile.
                    Ok(primary) => match select(pin!(primary.connected()), pin!(members.changed())).await {
                        Either::Left((Err(error), _)) if router.has_moved(&error) => {}
                        Either::Left((outcome, _)) => return outcome,
                        Either::Right(_) => {}
                    },
                }
            }
        };
        match timeout(within, connected).await {
            Ok(outcome) => drop(outcome?),
            Err(_) => drop(router.primary()?.connection()?),
        }
        if self.0.router.closing.load(Ordering::Relaxed) {
            return Err(closed());
        }
        self.primary_is_one()
    }

    /// True when the client can serve now: see [`ready`](Self::ready).
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.0.router.closing.load(Ordering::Relaxed)
            && self
                .0
                .router
                .primary()
                .is_ok_and(|primary| primary.connection().is_ok())
            && self.primary_is_one().is_ok()
    }

    pub(crate) fn primary_is_one(&self) -> Result<(), Error> {
        let primary = self.0.router.primary()?;
        match primary.hint() {
            Some(sample) if sample.progress.role != Role::Primary => Err(Error::new(
                ErrorKind::Config,
                format!(
                    "{} is a replica, not the primary: give the primary's URL with Client::builder().primary(…)",
                    primary.address
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Ends the client, and all of its clones: takes no new requests, waits for those that are in flight (also
    /// for writes whose callers have gone), for at most
    /// [`shutdown_timeout`](ClientBuilder::shutdown_timeout), and closes the connections. When it returns, no
    /// task of the client is left.
    ///
    /// Dropping the last handle ends the client too, without waiting.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Disconnected`] when not all was answered in time, and was cut off: writes among that
    /// are in doubt.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves a client that takes no new requests; calling this again goes on.
    pub async fn shutdown(&self) -> Result<(), Error> {
        let Inner {
            router,
            tasks,
            max_in_flight,
            shutdown_timeout,
            ..
        } = &*self.0;
        router.closing.store(true, Ordering::Relaxed);
        let deadline = (Instant::now() + *shutdown_timeout).into();
        // One at a time; a second one finds nothing left to do.
        let mut tasks = tasks.lock().await;
        // All permits are back once nobody waits for a reply. Then nobody else gets one.
        let permits = timeout_at(deadline, router.permits.acquire_all(*max_in_flight)).await;
        let mut cut_off = permits.is_err();
        router.permits.close();
        drop(permits);
        router.dedicated.close();
        router.blocking.close();
        // From here on the nodes stay those that they are.
        let (steward, nodes) = router.steward.stop();
        tasks.extend(nodes);
        for task in steward {
            // It has been aborted.
            let _ = task.await;
        }
        let members = router.members();
        for node in members.nodes() {
            node.close();
        }
        while let Some(task) = tasks.last_mut() {
            if timeout_at(deadline, &mut *task).await.is_err() {
                cut_off = true;
                task.abort();
                // It ends at its next await point.
                let _ = task.await;
            }
            tasks.pop();
        }
        for node in members.nodes().chain(&router.steward.retired()) {
            cut_off |= node.own_ended(deadline).await;
        }
        if let Some(task) = router.barrier.stop() {
            let _ = task.await;
        }
        if cut_off {
            return Err(Error::new(
                ErrorKind::Disconnected,
                format!(
                    "the client was shut down before all was answered: after {shutdown_timeout:?} the rest was cut off"
                ),
            ));
        }
        Ok(())
    }

    /// How it stands with each node, and where replies came from.
    #[must_use]
    pub fn status(&self) -> Status {
        let cache = self.0.cache.as_deref().map(NearCache::status);
        Status::of(&self.0.router, cache)
    }

    /// What the near cache has done, and how full it is. All zero without one.
    #[must_use]
    pub fn cache_stats(&self) -> CacheStats {
        let stats = self.0.cache.as_deref().map(NearCache::stats).unwrap_or_default();
        CacheStats {
            hits: self.0.router.counters.hits(),
            ..stats
        }
    }

    /// Drops what the near cache has of a key. Reads that begin after this returns are answered by a node, or by
    /// the cache with what was asked of a node after this. Writes need no call: the servers tell of them.
    pub fn invalidate(&self, key: impl AsRef<[u8]>) {
        if let Some(cache) = &self.0.cache {
            cache.invalidate(key.as_ref());
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let members = self.0.router.members();
        f.debug_struct("Client")
            .field("scope", &self.0.router.scope)
            .field("level", &self.0.router.level)
            .field(
                "nodes",
                &members.nodes().map(|node| &node.address).collect::<Vec<_>>(),
            )
            .finish_non_exhaustive()
    }
}

impl Service<Command> for Client {
    type Response = Reply;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Reply, Error>>;

    /// Always ready. The bound on what is in flight is kept by the call itself, in order of arrival, and so
    /// is the readiness of layers that the builder was given: each call makes a clone of the stack ready
    /// and then calls that one. A layer that sheds load by readiness therefore belongs into
    /// [`ClientBuilder::layer`](crate::ClientBuilder::layer), outside of the one whose limit it goes by.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, command: Command) -> Self::Future {
        let client = self.clone();
        Box::pin(async move { client.carry_out(&command).await })
    }
}
