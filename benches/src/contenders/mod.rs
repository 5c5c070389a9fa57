//! The ways to do it that are compared.

mod fred;
mod highwater;
mod naive;
mod raw;
mod redis_rs;
mod server_benchmark;

use std::{collections::HashMap, future::Future, time::Duration};

use ::highwater::{Client, Consistency, Session};
use ::redis::aio::{ConnectionManager, MultiplexedConnection};
use clap::ValueEnum;
use highwater_testkit::Topology;
use serde::Serialize;

use self::{
    fred::Fred, highwater::Highwater, naive::Naive, redis_rs::Plain, server_benchmark::ServerBenchmark,
};
use crate::{
    measure::{Round, Task, closed_loop},
    operation::Operation,
};

/// One caller's way to the servers. It panics when it fails.
pub trait Caller: Send + 'static {
    /// A value, in the client's own type.
    type Bytes: AsRef<[u8]> + Send;

    /// GET.
    fn get(&mut self, key: &str) -> impl Future<Output = Self::Bytes> + Send;

    /// SET.
    fn set(&mut self, key: &str, value: &[u8]) -> impl Future<Output = ()> + Send;

    /// A GET of each key, in one pipeline.
    fn get_all(&mut self, keys: &[String]) -> impl Future<Output = Vec<Self::Bytes>> + Send;

    /// HGETALL.
    fn hash(&mut self, key: &str) -> impl Future<Output = HashMap<String, String>> + Send;

    /// Goes on in another of its sessions.
    fn turn_to(&mut self, session: usize) {
        let _ = session;
    }
}

/// A way to do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contender {
    /// redis-rs's `MultiplexedConnection` as it comes, without tokens: the measure of all.
    RedisRs,
    /// The same with `TCP_NODELAY`.
    RedisRsNodelay,
    /// redis-rs's `ConnectionManager`, without tokens.
    RedisRsManager,
    /// fred, without tokens.
    Fred,
    /// On redis-rs, with an INFO as a round trip of its own before each read and after each write.
    Naive,
    /// redis-rs with all reads at the primary.
    PrimaryOnly,
    /// Reads with a proof, writes with a mark.
    Highwater,
    /// The same at the level `Monotonic`: proofs at both ends.
    HighwaterMonotonic,
    /// Without a session: no proofs, no marks.
    HighwaterFree,
    /// A limit: one socket, as many commands at once as there are callers, then all their replies.
    Raw,
    /// A limit: the server's own benchmark, where it is installed, with a pipeline as deep as there are callers.
    ServerBenchmark,
}

impl Contender {
    /// All of them, in the order of reports.
    #[must_use]
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// As it is called on the command line and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RedisRs => "redis-rs",
            Self::RedisRsNodelay => "redis-rs-nodelay",
            Self::RedisRsManager => "redis-rs-manager",
            Self::Fred => "fred",
            Self::Naive => "naive",
            Self::PrimaryOnly => "primary-only",
            Self::Highwater => "highwater",
            Self::HighwaterMonotonic => "highwater-monotonic",
            Self::HighwaterFree => "highwater-free",
            Self::Raw => "raw",
            Self::ServerBenchmark => "server-benchmark",
        }
    }

    /// Whether it can do this, and whether that would be another thing than what the others do.
    #[must_use]
    pub fn takes_part(self, operation: Operation) -> bool {
        match self {
            // Where nothing is read and written, it is the same as redis-rs.
            Self::PrimaryOnly => operation.is_mix(),
            Self::HighwaterMonotonic => !operation.writes_only(),
            Self::HighwaterFree | Self::Raw => !operation.is_mix(),
            Self::ServerBenchmark => matches!(operation, Operation::Get | Operation::Set),
            _ => true,
        }
    }

    /// A read that misses the session's own write is a mistake.
    #[must_use]
    pub fn promises(self) -> bool {
        matches!(
            self,
            Self::Naive | Self::PrimaryOnly | Self::Highwater | Self::HighwaterMonotonic
        )
    }
}

/// A caller of highwater, with these sessions.
#[must_use]
pub fn highwater_caller(client: &Client, sessions: &[Session]) -> impl Caller {
    Highwater::new(client, sessions, None)
}

/// A client of each kind, connected.
#[derive(Debug)]
pub struct Clients {
    plain: Plain<MultiplexedConnection>,
    nodelay: Plain<MultiplexedConnection>,
    manager: Plain<ConnectionManager>,
    fred: fred::Clients,
    highwater: Client,
    /// A session that has written: its reads need a proof.
    session: Session,
    /// The same for the naive way.
    mark: Option<naive::Mark>,
    server_benchmark: Option<ServerBenchmark>,
    ports: Ports,
}

/// Where a limit connects to.
#[derive(Clone, Copy, Debug)]
struct Ports {
    primary: u16,
    replica: u16,
}

impl Clients {
    /// Connects all of them. Highwater's reads wait so long for a replica, or as long as they do by themselves.
    pub async fn connect(topology: &Topology, max_wait: Option<Duration>) -> Self {
        let mut builder = Client::builder()
            .primary(topology.primary().url())
            .replicas(topology.replicas().map(highwater_testkit::Server::url));
        if let Some(max_wait) = max_wait {
            builder = builder.max_wait(max_wait);
        }
        let highwater = builder.connect().await.expect("a client");
        let session = Session::new();
        let () = ::redis::AsyncCommands::set(&mut highwater.with(&session), "session", "begun")
            .await
            .expect("a write");
        let plain = Plain::multiplexed(topology, false).await;
        Self {
            mark: Some(naive::Mark::of(&mut plain.writer()).await),
            plain,
            nodelay: Plain::multiplexed(topology, true).await,
            manager: Plain::managed(topology).await,
            fred: fred::Clients::connect(topology).await,
            highwater,
            session,
            server_benchmark: ServerBenchmark::find(topology.primary().kind()),
            ports: Ports {
                primary: topology.primary().port(),
                replica: topology.replica(0).port(),
            },
        }
    }

    /// highwater's client.
    #[must_use]
    pub fn highwater(&self) -> &Client {
        &self.highwater
    }

    /// A plain connection to the primary.
    #[must_use]
    pub fn primary(&self) -> MultiplexedConnection {
        self.plain.writer()
    }

    /// Whether this one is there.
    #[must_use]
    pub fn has(&self, contender: Contender) -> bool {
        contender != Contender::ServerBenchmark || self.server_benchmark.is_some()
    }

    /// Lets a contender do a task.
    pub async fn round(&self, contender: Contender, task: &Task) -> Round {
        // Callers without a past, but for reads whose sessions have written.
        let sessions = |session: Option<&Session>| {
            let session = session.filter(|_| !task.operation.is_mix() && !task.operation.writes_only());
            let token = session.map(Session::token);
            let fresh = || token.clone().map_or_else(Session::new, Session::resume);
            (0..task.sessions.max(1)).map(|_| fresh()).collect::<Vec<_>>()
        };
        let ours = |level| {
            closed_loop(task, move |_| {
                Highwater::new(&self.highwater, &sessions(Some(&self.session)), level)
            })
        };
        match contender {
            Contender::RedisRs => closed_loop(task, |number| self.plain.caller(number)).await,
            Contender::RedisRsNodelay => closed_loop(task, |number| self.nodelay.caller(number)).await,
            Contender::RedisRsManager => closed_loop(task, |number| self.manager.caller(number)).await,
            Contender::PrimaryOnly => closed_loop(task, |_| self.plain.primary_only()).await,
            Contender::Fred => closed_loop(task, |number| Fred::new(&self.fred, number)).await,
            Contender::Naive => {
                closed_loop(task, |number| {
                    let mark = self.mark.clone().filter(|_| task.operation.only_reads());
                    Naive::new(self.plain.caller(number), vec![mark; task.sessions.max(1)])
                })
                .await
            }
            Contender::Highwater => ours(None).await,
            Contender::HighwaterMonotonic => ours(Some(Consistency::Monotonic)).await,
            Contender::HighwaterFree => {
                closed_loop(task, |_| Highwater::new(&self.highwater, &[], None)).await
            }
            Contender::Raw => raw::lock_step(self.ports, task).await,
            Contender::ServerBenchmark => match &self.server_benchmark {
                Some(benchmark) => benchmark.run(self.ports, task),
                None => panic!("the server has no benchmark"),
            },
        }
    }
}
