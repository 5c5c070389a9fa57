//! The builder of clients, and their defaults.

use std::{sync::Arc, time::Duration};

use highwater_core::{Consistency, Role, Scope};
use redis::{IntoConnectionInfo, Value};
use tokio::sync::Semaphore;
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    client::Client,
    command::{Command, CommandTable},
    error::{Error, ErrorKind},
    layers::{CommandService, Layers},
    node::{Address, Bounds, Connection, Knowledge, Node, ProofWanted, Request, Settings},
    route::{BlockingPool, Counters, Policy, Reply, Router, Unmet},
};

/// How long a read waits for a replica to catch up before the primary is asked.
pub const DEFAULT_MAX_WAIT: Duration = Duration::from_millis(10);
/// How long a connection may take to be made.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a node may be silent while a reply is awaited, before it counts as dead.
pub const DEFAULT_RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a write on a lost connection can still arrive, where `CLIENT KILL` is not allowed.
pub const DEFAULT_DOUBT_GRACE: Duration = Duration::from_secs(60);
/// How many requests of a client may be in flight; more wait in line.
pub const DEFAULT_MAX_IN_FLIGHT: usize = 8192;
/// How many connections of callers' own ([`Client::dedicated`]) there may be; more callers wait in line.
pub const DEFAULT_MAX_DEDICATED: usize = 64;
/// How many commands that block may run at once; more wait in line.
pub const DEFAULT_MAX_BLOCKING: usize = 16;
/// How often an idle replica is asked where it is.
const IDLE_PROBE: Duration = Duration::from_secs(1);
/// How often an idle primary is: often enough for reads of bounded staleness, from a bound of a second on.
const PRIMARY_PROBE: Duration = Duration::from_millis(500);
/// How many bytes may wait to be written on one connection.
const MAX_BUFFERED: usize = 64 << 20;

/// Builds a [`Client`].
#[derive(Debug)]
#[must_use]
pub struct ClientBuilder {
    primary: Option<Result<Address, Error>>,
    replicas: Vec<Result<Address, Error>>,
    scope: Result<Scope, Error>,
    level: Consistency,
    max_wait: Duration,
    connect_timeout: Duration,
    response_timeout: Duration,
    doubt_grace: Duration,
    max_in_flight: usize,
    max_dedicated: usize,
    max_blocking: usize,
    client_name: Option<String>,
    on_possibly_lost: Policy,
    on_unknown_history: Policy,
    check_proofs: bool,
    layers: Layers,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            primary: None,
            replicas: Vec::new(),
            scope: Ok(Scope::default()),
            level: Consistency::default(),
            max_wait: DEFAULT_MAX_WAIT,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            response_timeout: DEFAULT_RESPONSE_TIMEOUT,
            doubt_grace: DEFAULT_DOUBT_GRACE,
            max_in_flight: DEFAULT_MAX_IN_FLIGHT,
            max_dedicated: DEFAULT_MAX_DEDICATED,
            max_blocking: DEFAULT_MAX_BLOCKING,
            client_name: Some("highwater".to_owned()),
            on_possibly_lost: Policy::default(),
            on_unknown_history: Policy::default(),
            check_proofs: true,
            layers: Layers::default(),
        }
    }
}

fn address(info: impl IntoConnectionInfo) -> Result<Address, Error> {
    Address::new(info)
}

impl ClientBuilder {
    /// The primary: a URL as redis-rs knows them, `redis://user:password@host:port/database`, or a
    /// [`ConnectionInfo`](redis::ConnectionInfo).
    pub fn primary(mut self, url: impl IntoConnectionInfo) -> Self {
        self.primary = Some(address(url));
        self
    }

    /// A replica of the primary. May be given several times.
    pub fn replica(mut self, url: impl IntoConnectionInfo) -> Self {
        self.replicas.push(address(url));
        self
    }

    /// Several replicas at once.
    pub fn replicas(mut self, urls: impl IntoIterator<Item: IntoConnectionInfo>) -> Self {
        self.replicas.extend(urls.into_iter().map(address));
        self
    }

    /// The name of this deployment in tokens. Clients of one deployment must agree on it, and
    /// clients of different deployments that share sessions must not. Default: `default`.
    pub fn scope(mut self, name: &str) -> Self {
        self.scope = Scope::new(name)
            .map_err(|error| Error::new(ErrorKind::Config, "the scope can't be used").with_source(error));
        self
    }

    /// The consistency level of reads that say nothing else. Default:
    /// [`Consistency::ReadYourWrites`].
    pub fn level(mut self, level: Consistency) -> Self {
        self.level = level;
        self
    }

    /// How long a read waits for a replica to catch up before the primary is asked. Zero: not at
    /// all. Default: [`DEFAULT_MAX_WAIT`].
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = wait;
        self
    }

    /// How long a connection may take to be made. Default: [`DEFAULT_CONNECT_TIMEOUT`].
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a node may be silent while a reply is awaited, before it counts as dead: its reads
    /// then go elsewhere, and its writes are in doubt. Longer than the slowest command. Default:
    /// [`DEFAULT_RESPONSE_TIMEOUT`].
    pub fn response_timeout(mut self, timeout: Duration) -> Self {
        self.response_timeout = timeout;
        self
    }

    /// How long a write on a lost connection can still arrive, where the server does not allow
    /// `CLIENT KILL` to be used to make sure that it can't. Until then, sessions that have such a
    /// write read from the primary. Default: [`DEFAULT_DOUBT_GRACE`].
    pub fn doubt_grace(mut self, grace: Duration) -> Self {
        self.doubt_grace = grace;
        self
    }

    /// How many requests may be in flight; more wait in line. Default: [`DEFAULT_MAX_IN_FLIGHT`].
    pub fn max_in_flight(mut self, requests: usize) -> Self {
        self.max_in_flight = requests;
        self
    }

    /// How many connections of callers' own ([`Client::dedicated`]) there may be; more callers wait in
    /// line. Default: [`DEFAULT_MAX_DEDICATED`].
    pub fn max_dedicated(mut self, connections: usize) -> Self {
        self.max_dedicated = connections;
        self
    }

    /// How many commands that block (`BLPOP`, `XREAD BLOCK`, …) may run at once, on connections that are
    /// kept for them; more wait in line. Default: [`DEFAULT_MAX_BLOCKING`].
    pub fn max_blocking(mut self, commands: usize) -> Self {
        self.max_blocking = commands;
        self
    }

    /// The name that connections give themselves (`CLIENT LIST` shows it); none when empty.
    /// Default: `highwater`.
    pub fn client_name(mut self, name: &str) -> Self {
        self.client_name = (!name.is_empty()).then(|| name.to_owned());
        self
    }

    /// What to do with a read when the primary's lineage shows that a write of the session may have
    /// been lost. Default: [`Policy::Primary`].
    pub fn on_possibly_lost(mut self, policy: Policy) -> Self {
        self.on_possibly_lost = policy;
        self
    }

    /// What to do with a read when the primary does not know a history that the session depends on.
    /// Default: [`Policy::Primary`].
    pub fn on_unknown_history(mut self, policy: Policy) -> Self {
        self.on_unknown_history = policy;
        self
    }

    /// Lays a tower layer around the command stack: a timeout, a limit, load shedding, tracing. May be
    /// given several times; the first is the outermost, as in tower's `ServiceBuilder`. All commands of the
    /// client go through the layers: those of [`Client::call`], of
    /// [`Client::with`] and of the client as a [`tower_service::Service`]. Without layers, nothing is
    /// boxed and nothing is paid for.
    ///
    /// The layer's service is cloned for each command, so what its clones don't share (a rate limit, for
    /// instance) needs a `Buffer` around it.
    ///
    /// ```
    /// use highwater::Client;
    /// use std::time::Duration;
    /// use tower::{limit::ConcurrencyLimitLayer, load_shed::LoadShedLayer, timeout::TimeoutLayer};
    ///
    /// let builder = Client::builder()
    ///     .primary("redis://127.0.0.1:6379")
    ///     .layer(TimeoutLayer::new(Duration::from_millis(250)))
    ///     .layer(LoadShedLayer::new())
    ///     .layer(ConcurrencyLimitLayer::new(1_000));
    /// # let _ = builder;
    /// ```
    ///
    /// What callers see of a layer's errors:
    ///
    /// | the layer's error | [`ErrorKind`] |
    /// | --- | --- |
    /// | an [`Error`] of this crate | as it is |
    /// | `tower::timeout::error::Elapsed`, of a read | [`Timeout`](ErrorKind::Timeout) |
    /// | the same, of a write | [`InDoubt`](ErrorKind::InDoubt): its future was dropped, so if it had been sent, the session is in doubt too until its connection settles it |
    /// | `tower::load_shed::error::Overloaded` | [`Overloaded`](ErrorKind::Overloaded) |
    /// | any other | [`Layer`](ErrorKind::Layer), with it as the source |
    ///
    /// A layer that repeats commands must not repeat writes in doubt.
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<CommandService> + Send + Sync + 'static,
        L::Service: Service<Command, Response = Reply> + Clone + Send + Sync + 'static,
        <L::Service as Service<Command>>::Error: Into<BoxError>,
        <L::Service as Service<Command>>::Future: Send + 'static,
    {
        self.layers.push(layer);
        self
    }

    /// Switches the guarantee off: replies are admitted whatever their proofs say. Only for tests of
    /// tests, which must then find violations.
    #[doc(hidden)]
    pub fn dangerously_skip_proof_checks(mut self) -> Self {
        self.check_proofs = false;
        self
    }

    /// Connects. The primary must be there; replicas that are not are tried again in the background.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] for a wrong URL, a missing primary, a primary that is a replica, a
    /// password or a right that is missing; [`ErrorKind::Unavailable`] when the primary can't be
    /// reached.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn connect(self) -> Result<Client, Error> {
        let config = |message: &str| Error::new(ErrorKind::Config, message);
        let primary = self
            .primary
            .ok_or_else(|| config("no primary: give its URL with Client::builder().primary(…)"))??;
        let replicas = self.replicas.into_iter().collect::<Result<Vec<_>, _>>()?;
        if replicas
            .iter()
            .any(|replica| replica.database != primary.database)
        {
            return Err(config("all URLs must name the same database number"));
        }
        if self.response_timeout.is_zero() || self.connect_timeout.is_zero() {
            return Err(config("timeouts must be longer than nothing"));
        }
        let scope = self.scope?;
        let max_in_flight = self.max_in_flight.clamp(1, Semaphore::MAX_PERMITS);
        let settings = Settings {
            scope: scope.clone(),
            client_name: self.client_name,
            connect_timeout: self.connect_timeout,
            response_timeout: self.response_timeout,
            idle_probe: IDLE_PROBE,
            doubt_grace: self.doubt_grace,
            bounds: Bounds {
                // The client lets callers in; a connection books answered ones at the end of a turn
                // of several reads (`READS_PER_TURN` in the driver), by when their places may have
                // been taken as often. Beyond that are those whose callers went away.
                in_flight: max_in_flight.saturating_mul(9).saturating_add(16),
                buffered: MAX_BUFFERED,
            },
        };
        let knowledge = Arc::new(Knowledge::default());
        let node = |address, role| Node::new(address, role, settings.clone(), Arc::clone(&knowledge));
        let primary = Node::new(
            primary,
            Role::Primary,
            Settings {
                idle_probe: PRIMARY_PROBE,
                ..settings.clone()
            },
            Arc::clone(&knowledge),
        );
        let replicas: Vec<_> = replicas
            .into_iter()
            .map(|address| node(address, Role::Replica))
            .collect();
        let tasks = std::iter::once(&primary)
            .chain(&replicas)
            .map(|node| tokio::spawn(Arc::clone(node).keep_connected()))
            .chain([tokio::spawn(Arc::clone(&primary).keep_settled())])
            .collect();
        let mut router = Router {
            counters: Counters::new(&scope),
            scope,
            level: self.level,
            max_wait: self.max_wait,
            doubt_grace: self.doubt_grace,
            on_possibly_lost: self.on_possibly_lost,
            on_unknown_history: self.on_unknown_history,
            primary: Arc::clone(&primary),
            replicas,
            knowledge,
            table: CommandTable::default(),
            permits: Semaphore::new(max_in_flight),
            dedicated: Arc::new(Semaphore::new(
                self.max_dedicated.clamp(1, Semaphore::MAX_PERMITS),
            )),
            blocking: BlockingPool::new(self.max_blocking),
            barrier: Router::barrier(),
            unmet: Unmet::default(),
            check_proofs: self.check_proofs,
        };
        // From here on, dropping the future ends the tasks.
        let guard = AbortOnDrop(Some(tasks));
        let connection = primary.first_attempt().await?;
        if primary
            .hint()
            .is_some_and(|sample| sample.progress.role != Role::Primary)
        {
            return Err(config(&format!(
                "{} is a replica, not the primary",
                primary.address
            )));
        }
        for replica in &router.replicas {
            match replica.first_attempt().await {
                Err(error) if error.kind() == ErrorKind::Config => return Err(error),
                Err(error) => {
                    tracing::warn!(node = %replica.address, %error, "not reached yet; reads go elsewhere");
                }
                Ok(_)
                    if replica
                        .hint()
                        .is_some_and(|sample| sample.progress.role != Role::Replica) =>
                {
                    tracing::warn!(node = %replica.address, "given as a replica, says that it is none");
                }
                Ok(_) => {}
            }
        }
        router.table = command_table(&connection).await;
        Ok(Client::new(router, self.layers, guard.disarm()))
    }
}

/// The server's own table of commands; the static one where it is refused.
async fn command_table(connection: &Connection) -> CommandTable {
    let packed = redis::cmd("COMMAND").get_packed_command();
    let request = Request {
        packed: &packed,
        replies: 1,
        proof: ProofWanted::Nothing,
        may_write: false,
        writer: None,
    };
    let reply = match connection.send(&request) {
        Ok(sent) => sent
            .answer
            .await
            .ok()
            .and_then(Result::ok)
            .map_or(Value::Nil, |answer| answer.value),
        Err(_) => Value::Nil,
    };
    CommandTable::from_reply(&reply)
}

struct AbortOnDrop(Option<Vec<tokio::task::JoinHandle<()>>>);

impl AbortOnDrop {
    fn disarm(mut self) -> Vec<tokio::task::JoinHandle<()>> {
        self.0.take().unwrap_or_default()
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.iter().flatten().for_each(tokio::task::JoinHandle::abort);
    }
}
