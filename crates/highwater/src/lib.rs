//! Read-your-writes from Redis and Valkey replicas, proven per flush.
//!
//! A [`Client`] knows a primary and its replicas. Commands that belong to one user run under that
//! user's [`Session`]: after a write the session holds a *mark*, a point in the replication stream,
//! and a later read is answered by a replica only if that replica *proves*, in the same exchange, that
//! it has applied everything up to the mark. Otherwise the read waits a moment, and then goes to the
//! primary.
//!
//! ```no_run
//! use highwater::{Client, Session};
//! use redis::AsyncCommands;
//!
//! # async fn f() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder()
//!     .primary("redis://127.0.0.1:6379")
//!     .replica("redis://127.0.0.1:6380")
//!     .connect()
//!     .await?;
//! let session = Session::new();
//! let () = client.with(&session).hset("cart:ann", "apples", 3).await?;
//! let reply = client.call(highwater::Command::new(redis::cmd("HGETALL").arg("cart:ann")).session(&session)).await?;
//! println!("{:?} because {:?}", reply.route, reply.reason);
//! # Ok(())
//! # }
//! ```
//!
//! Sessions travel between processes as tokens ([`TokenCodec`]); the crate `highwater-http` does that
//! for HTTP services.

mod acks;
mod builder;
mod cache;
mod client;
mod command;
mod dedicated;
pub mod defaults;
mod error;
#[cfg(feature = "unstable-internals")]
#[doc(hidden)]
pub mod internals;
mod lag;
mod layers;
mod moments;
mod node;
mod node_connection;
mod observe;
mod permits;
mod redis_rs;
mod route;
mod session_connection;
mod status;
mod striped;
#[cfg(feature = "tls")]
mod tls;
mod topology;

pub use highwater_core::{
    Consistency, Continuity, Coverage, Edges, History, KeyError, MAX_MARKS, MAX_TOKEN_LEN, Mark, Marks,
    Offset, ParseHistoryError, Point, Progress, Reason, Requirement, Role, Route, RouteCounts, ScanError,
    Scope, ScopeError, Session, SessionId, SigningKey, Token, TokenCodec, TokenError, TokenErrorKind,
    UnknownLevel,
};

#[cfg(feature = "metrics")]
pub use self::observe::{METRICS, Metric, MetricKind};
#[cfg(feature = "tls")]
pub use self::tls::TlsOptions;
pub use self::{
    acks::{Acked, Acks},
    builder::ClientBuilder,
    cache::{CacheMode, CacheOptions, CacheStats, CacheStatus, FeedStatus},
    client::Client,
    command::{Class, Command},
    dedicated::DedicatedConnection,
    error::{Error, ErrorKind},
    layers::CommandService,
    node::{MINIMAL_ACL, NodeAddress},
    node_connection::NodeConnection,
    route::{Anomalies, Policy, ReadCount, Reply},
    session_connection::SessionConnection,
    status::{FallbackStatus, NodeStatus, Status},
    topology::{Discovery, Publisher, Sentinel, Topology},
};
/// The redis-rs whose commands, values and errors this crate speaks.
pub use redis;
