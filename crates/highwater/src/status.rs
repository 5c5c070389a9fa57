//! What a client knows about its nodes, for people and dashboards.

use std::time::Instant;

use highwater_core::Role;

use crate::{
    cache::CacheStatus,
    error::Error,
    node::{Links, Node},
    route::{Anomalies, Fallbacks, ReadCount, Router},
};

/// How it stands with a client's nodes, and where its replies came from.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Status {
    /// The scope of the client's marks.
    pub scope: String,
    /// The consistency level of reads that say nothing else.
    pub level: &'static str,
    /// Reads and writes are proven. False where
    /// [`primary_only_without_proofs`](crate::ClientBuilder::primary_only_without_proofs) was chosen.
    pub proofs: bool,
    /// The primary.
    pub primary: NodeStatus,
    /// The replicas, in the order in which they were given.
    pub replicas: Vec<NodeStatus>,
    /// Two nodes say that they are the primary, and the discovery has not said yet which one is: nothing is
    /// written.
    pub contested: bool,
    /// Reads by route and reason.
    pub reads: Vec<ReadCount>,
    /// Writes that were answered.
    pub writes: u64,
    /// Reads of bounded staleness that had to wait for a new sample of the primary.
    pub staleness_samples: u64,
    /// How it stands with the bound on reads that the primary answers in place of replicas, if there is one:
    /// [`max_fallbacks`](crate::ClientBuilder::max_fallbacks).
    pub fallbacks: Option<FallbackStatus>,
    /// Marks that could not be honoured.
    pub anomalies: Anomalies,
    /// How it stands with the near cache, if there is one.
    pub cache: Option<CacheStatus>,
}

/// Reads that the primary answers in place of replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct FallbackStatus {
    /// How many it may be asked at once.
    pub max: usize,
    /// How many it has not answered yet, also those whose callers have gone.
    pub at_primary: usize,
    /// How many wait for a place at the primary, or for a replica.
    pub waiting: usize,
    /// How many have waited so far.
    pub waited: u64,
    /// How many have failed because neither came in time.
    pub refused: u64,
}

/// How it stands with one node.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct NodeStatus {
    /// `host:port`, or a path; `unknown` for a primary that the discovery has not named.
    pub address: String,
    /// What the node says that it is: `primary` or `replica`; `None` while it says nothing.
    pub role: Option<&'static str>,
    /// True when the node is what the configuration says.
    pub role_as_expected: bool,
    /// The history that it is in: 40 hexadecimal digits.
    pub history: Option<String>,
    /// How far it has applied that history, in bytes.
    pub applied: Option<u64>,
    /// How many milliseconds ago it said so.
    pub sample_age_ms: Option<u64>,
    /// Bytes of the primary's stream that a replica lacks, by the last samples of both.
    pub lag_bytes: Option<u64>,
    /// About how many milliseconds a replica is behind.
    pub lag_ms: Option<u64>,
    /// A replica's link to its primary is up, as it says.
    pub replication_link_up: Option<bool>,
    /// The zone that it was given with.
    pub zone: Option<String>,
    /// How it stands with the connections: `up` (at least one of them), `connecting` or `down`.
    pub connection: &'static str,
    /// How many connections there are.
    pub connections: usize,
    /// Why a connection is down.
    pub error: Option<String>,
    /// The protocol that is spoken: `resp3` or `resp2`.
    pub protocol: Option<&'static str>,
    /// How replies of a replica are proven: `tracking` (an `INFO` a flush) or `transaction` (a `MULTI` and an
    /// `INFO` a read, because the server refuses tracking or speaks only RESP2).
    pub proof_form: Option<&'static str>,
    /// What the server refuses, and what that means.
    pub warnings: Vec<String>,
    /// Requests without an answer.
    pub in_flight: usize,
    /// Connections that ended.
    pub disconnects: u64,
}

impl Status {
    pub(crate) fn of(router: &Router, cache: Option<CacheStatus>) -> Self {
        let members = router.members();
        Self {
            scope: router.scope.to_string(),
            level: router.level.as_str(),
            proofs: router.proofs,
            primary: match members.primary() {
                Ok(primary) => NodeStatus::of(primary),
                Err(error) => NodeStatus::unknown(&error),
            },
            replicas: members.replicas.iter().map(|node| NodeStatus::of(node)).collect(),
            contested: router.steward.is_contested(),
            reads: router.counters.reads(),
            writes: router.counters.writes(),
            staleness_samples: router.counters.staleness_samples(),
            fallbacks: router.fallbacks.as_ref().map(Fallbacks::status),
            anomalies: router.counters.anomalies(),
            cache,
        }
    }
}

impl NodeStatus {
    /// Of a primary of which it is not known which node it is.
    fn unknown(error: &Error) -> Self {
        Self {
            address: String::from("unknown"),
            role: None,
            role_as_expected: false,
            history: None,
            applied: None,
            sample_age_ms: None,
            lag_bytes: None,
            lag_ms: None,
            replication_link_up: None,
            zone: None,
            connection: "down",
            connections: 0,
            error: Some(error.to_string()),
            protocol: None,
            proof_form: None,
            warnings: Vec::new(),
            in_flight: 0,
            disconnects: 0,
        }
    }

    fn of(node: &Node) -> Self {
        let sample = node.hint();
        let progress = sample.map(|sample| sample.progress);
        let lag = node.lag();
        let replica = progress.filter(|progress| progress.role == Role::Replica);
        let links = node.links();
        let connection = match &links {
            Links { up: 1.., .. } => "up",
            Links { connecting: true, .. } => "connecting",
            _ => "down",
        };
        let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            address: node.address.to_string(),
            role: progress.map(|progress| match progress.role {
                Role::Primary => "primary",
                Role::Replica => "replica",
            }),
            role_as_expected: progress.is_none_or(|progress| progress.role == node.expected_role),
            history: progress.map(|progress| progress.history.to_string()),
            applied: progress.map(|progress| progress.applied),
            sample_age_ms: sample.map(|sample| millis(Instant::now().saturating_duration_since(sample.at))),
            lag_bytes: replica.and(lag.bytes),
            lag_ms: replica.and(lag.time()).map(millis),
            replication_link_up: replica.map(|progress| progress.link_up),
            zone: node.zone.clone(),
            connection,
            connections: links.up,
            error: links.error.map(|error| error.to_string()),
            protocol: links
                .manners
                .map(|manners| if manners.resp3 { "resp3" } else { "resp2" }),
            proof_form: links
                .manners
                .filter(|_| node.expected_role == Role::Replica)
                .map(|manners| {
                    if manners.tracking {
                        "tracking"
                    } else {
                        "transaction"
                    }
                }),
            warnings: node.warnings(),
            in_flight: links.in_flight,
            disconnects: node.disconnects(),
        }
    }
}
