//! The builder of clients.

use std::{sync::Arc, sync::atomic::AtomicBool, time::Duration};

use highwater_core::{Consistency, Role, Scope};
use redis::ProtocolVersion;
use tokio::sync::Semaphore;
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    cache::{CacheOptions, NearCache},
    client::Client,
    command::{Command, CommandTable},
    defaults,
    error::{Error, ErrorKind},
    layers::{CommandService, Layers},
    node::{Bounds, Knowledge, NodeAddress, Settings},
    permits::Permits,
    route::{BlockingPool, Counters, Fallbacks, Policy, Reply, Router, Strays, Unmet},
    topology::{Change, Discovery, Members, Registry, Roster, Steward, Topology, steward},
};
#[cfg(feature = "tls")]
use crate::{node::Tls, tls::TlsOptions};

/// Waits and grace times are cut to this, about which the clock can still be asked: a year.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Builds a [`Client`].
#[derive(Debug)]
#[must_use]
pub struct ClientBuilder {
    primary: Option<NodeAddress>,
    discovery: Option<Arc<dyn Discovery>>,
    /// With their zones.
    replicas: Vec<(NodeAddress, Option<String>)>,
    preferred_zone: Option<String>,
    protocol: Option<ProtocolVersion>,
    #[cfg(feature = "tls")]
    tls: Option<TlsOptions>,
    scope: Result<Scope, Error>,
    level: Consistency,
    max_wait: Duration,
    connect_timeout: Duration,
    response_timeout: Duration,
    doubt_grace: Duration,
    shutdown_timeout: Duration,
    max_in_flight: usize,
    max_dedicated: usize,
    max_blocking: usize,
    max_fallbacks: Option<usize>,
    fallback_wait: Duration,
    connections_per_node: usize,
    client_name: Option<String>,
    on_possibly_lost: Policy,
    on_unknown_history: Policy,
    proofs: bool,
    check_proofs: bool,
    cache: Option<CacheOptions>,
    layers: Layers,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            primary: None,
            discovery: None,
            replicas: Vec::new(),
            preferred_zone: None,
            protocol: None,
            #[cfg(feature = "tls")]
            tls: None,
            scope: Ok(Scope::default()),
            level: Consistency::default(),
            max_wait: defaults::MAX_WAIT,
            connect_timeout: defaults::CONNECT_TIMEOUT,
            response_timeout: defaults::RESPONSE_TIMEOUT,
            doubt_grace: defaults::DOUBT_GRACE,
            shutdown_timeout: defaults::SHUTDOWN_TIMEOUT,
            max_in_flight: defaults::MAX_IN_FLIGHT,
            max_dedicated: defaults::MAX_DEDICATED,
            max_blocking: defaults::MAX_BLOCKING,
            max_fallbacks: None,
            fallback_wait: defaults::FALLBACK_WAIT,
            connections_per_node: defaults::CONNECTIONS_PER_NODE,
            client_name: Some("highwater".to_owned()),
            on_possibly_lost: Policy::default(),
            on_unknown_history: Policy::default(),
            proofs: true,
            check_proofs: true,
            cache: None,
            layers: Layers::default(),
        }
    }
}

impl ClientBuilder {
    /// The primary: a URL, or redis-rs's connection info. See [`NodeAddress`].
    pub fn primary(mut self, address: impl Into<NodeAddress>) -> Self {
        self.primary = Some(address.into());
        self
    }

    /// What says which node is the primary and which are its replicas, and goes on saying so:
    /// [`Sentinel`](crate::Sentinel), or one's own. It takes the place of [`primary`](Self::primary) and
    /// [`replica`](Self::replica).
    pub fn discovery(mut self, discovery: impl Discovery) -> Self {
        self.discovery = Some(Arc::new(discovery));
        self
    }

    /// A replica of the primary. May be given several times.
    pub fn replica(mut self, address: impl Into<NodeAddress>) -> Self {
        self.replicas.push((address.into(), None));
        self
    }

    /// Several replicas at once.
    pub fn replicas<A: Into<NodeAddress>>(mut self, addresses: impl IntoIterator<Item = A>) -> Self {
        self.replicas
            .extend(addresses.into_iter().map(|address| (address.into(), None)));
        self
    }

    /// A replica, and the zone that it is in: whatever name [`prefer_zone`](Self::prefer_zone) knows it by.
    pub fn replica_in_zone(mut self, address: impl Into<NodeAddress>, zone: impl Into<String>) -> Self {
        self.replicas.push((address.into(), Some(zone.into())));
        self
    }

    /// The zone that this process is in. Of the replicas that have caught up with a read's session, one of
    /// this zone is asked before any other; where none of it has, the others are asked as ever.
    pub fn prefer_zone(mut self, zone: impl Into<String>) -> Self {
        self.preferred_zone = Some(zone.into());
        self
    }

    /// How many connections there are to each node. The one with the least in flight is taken, and each
    /// proves for itself. One is nearly always enough, and fastest, since its callers share their proofs; more
    /// help when single replies are so large that others wait behind them. Between 1 and
    /// [`defaults::MAX_CONNECTIONS_PER_NODE`]; default: [`defaults::CONNECTIONS_PER_NODE`].
    ///
    /// With more than one, requests that don't wait for each other's replies can be carried out in any order.
    pub fn connections_per_node(mut self, connections: usize) -> Self {
        self.connections_per_node = connections;
        self
    }

    /// The protocol, for nodes whose URL says nothing of it. Default: RESP3, and RESP2 where a server or
    /// a proxy does not know that. RESP2 costs a `MULTI` around each read on a replica.
    pub fn protocol(mut self, protocol: ProtocolVersion) -> Self {
        self.protocol = Some(protocol);
        self
    }

    /// What `rediss://` connections trust, and how they present themselves. Default: [`TlsOptions::new`].
    #[cfg(feature = "tls")]
    pub fn tls(mut self, options: TlsOptions) -> Self {
        self.tls = Some(options);
        self
    }

    /// Gives up all proofs, for servers that refuse `INFO`: everything goes to the primary, no replica is
    /// connected to, and the guarantees are those of a plain client of the primary. [`Client::status`] says so,
    /// and each read's reason is [`Reason::PrimaryOnly`](crate::Reason::PrimaryOnly). Writes leave doubt
    /// in their sessions, so that clients elsewhere, which do prove, first ask the primary where it is.
    pub fn primary_only_without_proofs(mut self) -> Self {
        self.proofs = false;
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
    /// all. Default: [`defaults::MAX_WAIT`].
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = wait.min(LONGEST);
        self
    }

    /// How long a connection may take to be made. Default: [`defaults::CONNECT_TIMEOUT`].
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a node may be silent while a reply is awaited, before it counts as dead: its reads
    /// then go elsewhere, and its writes are in doubt. Longer than the slowest command. Default:
    /// [`defaults::RESPONSE_TIMEOUT`].
    pub fn response_timeout(mut self, timeout: Duration) -> Self {
        self.response_timeout = timeout;
        self
    }

    /// How long a write on a lost connection can still arrive, where the server does not allow
    /// `CLIENT KILL` to be used to make sure that it can't. Until then, sessions that have such a
    /// write read from the primary. Default: [`defaults::DOUBT_GRACE`].
    pub fn doubt_grace(mut self, grace: Duration) -> Self {
        self.doubt_grace = grace.min(LONGEST);
        self
    }

    /// How long [`Client::shutdown`] waits for what is in flight, before it cuts the rest off. Default:
    /// [`defaults::SHUTDOWN_TIMEOUT`].
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = timeout;
        self
    }

    /// How many requests may be in flight; more wait in line. Default: [`defaults::MAX_IN_FLIGHT`].
    pub fn max_in_flight(mut self, requests: usize) -> Self {
        self.max_in_flight = requests;
        self
    }

    /// How many connections of callers' own ([`Client::dedicated`]) there may be; more callers wait in
    /// line. Default: [`defaults::MAX_DEDICATED`].
    pub fn max_dedicated(mut self, connections: usize) -> Self {
        self.max_dedicated = connections;
        self
    }

    /// How many commands that block (`BLPOP`, `XREAD BLOCK`, …) may run at once, on connections that are
    /// kept for them; more wait in line. Default: [`defaults::MAX_BLOCKING`].
    pub fn max_blocking(mut self, commands: usize) -> Self {
        self.max_blocking = commands;
        self
    }

    /// How many reads at once the primary may be asked in place of replicas, because none is proven to be good
    /// enough: what it can take besides its writes. At least 1; default: no bound, so that losing all replicas
    /// costs no error while the primary can take the load.
    ///
    /// More reads wait for a place, or for a replica, whichever comes first, for at most the
    /// [`fallback_wait`](Self::fallback_wait). Writes, reads at the level
    /// [`Primary`](Consistency::Primary), commands that only a primary takes and connections of callers' own are
    /// not counted. What the near cache asks a primary that has no replicas is not, either.
    pub fn max_fallbacks(mut self, reads: usize) -> Self {
        self.max_fallbacks = Some(reads);
        self
    }

    /// With [`max_fallbacks`](Self::max_fallbacks), how long a read waits before it fails with
    /// [`ErrorKind::Overloaded`]. Zero: it fails at once. So do more than half of
    /// [`max_in_flight`](Self::max_in_flight) that wait at a time, since the rest is for others. Default:
    /// [`defaults::FALLBACK_WAIT`].
    pub fn fallback_wait(mut self, wait: Duration) -> Self {
        self.fallback_wait = wait;
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

    /// Keeps replies of single-key reads in this process, and answers from them where they are proven to be fresh
    /// enough. Default: no cache. See [`CacheOptions`].
    pub fn cache(mut self, options: CacheOptions) -> Self {
        self.cache = Some(options);
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
    /// password or a right that is missing ([`MINIMAL_ACL`](crate::MINIMAL_ACL)), certificates that don't fit;
    /// [`ErrorKind::Unavailable`] when the primary can't be reached.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes what has been opened.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn connect(self) -> Result<Client, Error> {
        let client = self.connect_lazy()?;
        client.router().primary_connection().await?;
        client.primary_is_one()?;
        for replica in &client.router().members().replicas {
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
        Ok(client)
    }

    /// A client that connects in the background, from now on. Requests that come before it has wait for the
    /// first attempt, so at most for the [`connect_timeout`](Self::connect_timeout). What
    /// [`connect`](Self::connect) would refuse, they are refused with, or [`Client::ready`] is.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] for what can be seen without connecting: a wrong URL, a missing primary,
    /// certificates that can't be read.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn connect_lazy(self) -> Result<Client, Error> {
        let config = |message: &str| Error::new(ErrorKind::Config, message);
        let topology = match (self.primary, &self.discovery) {
            (Some(primary), None) => Some(Topology {
                primary,
                replicas: self.replicas,
            }),
            (None, Some(_)) if self.replicas.is_empty() => None,
            (None, None) => {
                return Err(config(
                    "no primary: give its URL with Client::builder().primary(…)",
                ));
            }
            _ => {
                return Err(config(
                    "a discovery says which nodes there are: take the primary and the replicas out of the builder",
                ));
            }
        };
        if !self.proofs && topology.as_ref().is_none_or(|fixed| !fixed.replicas.is_empty()) {
            tracing::warn!("primary_only_without_proofs: no replica is connected to");
        }
        if self.response_timeout.is_zero() || self.connect_timeout.is_zero() {
            return Err(config("timeouts must be longer than nothing"));
        }
        if !(1..=defaults::MAX_CONNECTIONS_PER_NODE).contains(&self.connections_per_node) {
            return Err(config(&format!(
                "connections_per_node must be between 1 and {}",
                defaults::MAX_CONNECTIONS_PER_NODE
            )));
        }
        let scope = self.scope?;
        let max_in_flight =
            u32::try_from(self.max_in_flight.clamp(1, Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        let permits = usize::try_from(max_in_flight).unwrap_or(Semaphore::MAX_PERMITS);
        let settings = Settings {
            scope: scope.clone(),
            client_name: self.client_name,
            connect_timeout: self.connect_timeout,
            response_timeout: self.response_timeout,
            idle_probe: defaults::IDLE_PROBE,
            doubt_grace: self.doubt_grace,
            bounds: Bounds {
                // The client lets callers in; a connection books answered ones at the end of a turn
                // of several reads (`READS_PER_TURN` in the driver), by when their places may have
                // been taken as often. Beyond that are those whose callers went away.
                in_flight: permits.saturating_mul(9).saturating_add(16),
                buffered: defaults::MAX_BUFFERED,
            },
            protocol: self.protocol,
            connections: self.connections_per_node,
            proofs: self.proofs,
        };
        let knowledge = Arc::new(Knowledge::default());
        let registry = Registry {
            settings,
            knowledge: Arc::clone(&knowledge),
            preferred_zone: self.preferred_zone,
            #[cfg(feature = "tls")]
            tls: tls(self.tls, topology.as_ref())?,
            #[cfg(not(feature = "tls"))]
            tls: None,
            proofs: self.proofs,
        };
        let change = topology.map(|topology| registry.members(topology, &Members::default()));
        let Change { members, tasks } = change.transpose()?.unwrap_or_default();
        if let (Some(zone), false, None) = (&registry.preferred_zone, members.prefers_zone, &self.discovery) {
            tracing::warn!(zone, "no replica is in the preferred zone");
        }
        let router = Router {
            counters: Counters::new(&scope),
            scope,
            level: self.level,
            max_wait: self.max_wait,
            doubt_grace: self.doubt_grace,
            on_possibly_lost: self.on_possibly_lost,
            on_unknown_history: self.on_unknown_history,
            members: Roster::new(members),
            steward: Steward::default(),
            connect_timeout: self.connect_timeout,
            knowledge: Arc::clone(&knowledge),
            built_in_table: CommandTable::default(),
            permits: Permits::new(permits),
            dedicated: Arc::new(Semaphore::new(
                self.max_dedicated.clamp(1, Semaphore::MAX_PERMITS),
            )),
            blocking: BlockingPool::new(self.max_blocking),
            barrier: Router::barrier(),
            unmet: Unmet::default(),
            strays: Strays::default(),
            fallbacks: self
                .max_fallbacks
                .map(|bound| Fallbacks::new(bound, self.fallback_wait, permits)),
            check_proofs: self.check_proofs,
            proofs: self.proofs,
            closing: AtomicBool::new(false),
        };
        let router = Arc::new(router);
        router.steward.keep(tasks);
        steward(&router, registry, self.discovery);
        let cache = match self.cache {
            Some(options) if self.proofs => Some(NearCache::start(&options, &router)),
            Some(_) => {
                tracing::warn!("primary_only_without_proofs: without proofs there is no near cache");
                None
            }
            None => None,
        };
        Ok(Client::new(
            router,
            cache,
            self.layers,
            max_in_flight,
            self.shutdown_timeout,
        ))
    }
}

/// What TLS needs, where an address is or may be one of TLS.
#[cfg(feature = "tls")]
fn tls(
    options: Option<TlsOptions>,
    topology: Option<&Topology>,
) -> Result<Option<Result<Tls, Error>>, Error> {
    let Some(topology) = topology else {
        // Whether it is needed, the discovery will say.
        return Ok(Some(options.unwrap_or_default().build()));
    };
    let mut addresses = topology.replicas.iter().map(|(replica, _)| replica);
    let wanted = topology.primary.is_tls() || addresses.any(NodeAddress::is_tls);
    if options.is_some() && !wanted {
        return Err(Error::new(
            ErrorKind::Config,
            "there are options for TLS, but no URL is one of TLS: write rediss:// instead of redis://",
        ));
    }
    Ok(wanted.then(|| options.unwrap_or_default().build()))
}
