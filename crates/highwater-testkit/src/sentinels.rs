//! A primary with replicas that sentinels watch, each node behind a relay of its own.
//!
//! Nodes announce their relays' ports, so whatever Sentinel makes of them, it and their clients reach each other through
//! the relays only.

use std::{
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::{Duration, Instant},
};

use crate::{Control, Error, ErrorKind, Relay, Reply, Result, Server, ServerKind, wait_until};

const START_DEADLINE: Duration = Duration::from_secs(20);
const EVENT_DEADLINE: Duration = Duration::from_secs(120);

/// What such a deployment is to be started with.
#[derive(Debug, Clone)]
#[must_use]
pub struct SentinelsBuilder {
    kind: Option<ServerKind>,
    replicas: usize,
    sentinels: usize,
    down_after: Duration,
    arguments: Vec<String>,
    sentinel_lines: Vec<String>,
}

impl SentinelsBuilder {
    /// Redis or Valkey. The default is [`ServerKind::from_env`].
    pub fn kind(mut self, kind: ServerKind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// How many replicas there are. The default is 2.
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// How many sentinels there are; most of them have to agree. The default is 3.
    pub fn sentinels(mut self, sentinels: usize) -> Self {
        self.sentinels = sentinels;
        self
    }

    /// How long a node may be silent before a sentinel takes it for down. The default is half a second.
    pub fn down_after(mut self, silence: Duration) -> Self {
        self.down_after = silence;
        self
    }

    /// More configuration for every node.
    pub fn args<I: IntoIterator<Item = S>, S: Into<String>>(mut self, arguments: I) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// More lines of configuration for every sentinel.
    pub fn sentinel_lines<I: IntoIterator<Item = S>, S: Into<String>>(mut self, lines: I) -> Self {
        self.sentinel_lines.extend(lines.into_iter().map(Into::into));
        self
    }

    /// Starts all of it, and returns when every sentinel knows every node and every other sentinel.
    ///
    /// # Errors
    ///
    /// If a server does not come up, or they don't find each other.
    pub fn start(self) -> Result<Sentinels> {
        let kind = self.kind.map_or_else(ServerKind::from_env, Ok)?;
        let mut deployment = Sentinels {
            sentinels: Vec::new(),
            nodes: Vec::new(),
            kind,
            arguments: self.arguments,
        };
        deployment.add_node()?;
        for _ in 0..self.replicas {
            deployment.add_node()?;
        }
        let first = deployment.relay(0).port();
        let quorum = self.sentinels / 2 + 1;
        let name = Sentinels::NAME;
        let mut lines = vec![
            format!("sentinel monitor {name} 127.0.0.1 {first} {quorum}"),
            format!(
                "sentinel down-after-milliseconds {name} {}",
                self.down_after.as_millis()
            ),
            format!("sentinel failover-timeout {name} 5000"),
            format!("sentinel parallel-syncs {name} 8"),
        ];
        lines.extend(self.sentinel_lines);
        for _ in 0..self.sentinels {
            let sentinel = Server::builder().kind(kind).sentinel(&lines).start()?;
            deployment.sentinels.push(sentinel);
        }
        wait_until(
            START_DEADLINE,
            "the sentinels know each other and all nodes",
            || {
                deployment.sentinels.iter().all(|sentinel| {
                    let knows = |what: &str| {
                        let reply = sentinel.command(&["SENTINEL", what, name]);
                        matches!(reply, Ok(Reply::Array(list)) if list.len() == match what {
                            "REPLICAS" => self.replicas,
                            _ => self.sentinels - 1,
                        })
                    };
                    knows("REPLICAS") && knows("SENTINELS")
                })
            },
        )?;
        Ok(deployment)
    }
}

/// A node, and the relay that everybody reaches it through.
#[derive(Debug)]
struct Node {
    server: Server,
    relay: Relay,
}

/// A primary and its replicas, watched by sentinels, all as real processes.
#[derive(Debug)]
pub struct Sentinels {
    // Sentinels go first, so that they don't begin a failover while the rest is dropped.
    sentinels: Vec<Server>,
    nodes: Vec<Node>,
    kind: ServerKind,
    arguments: Vec<String>,
}

impl Sentinels {
    /// What the sentinels call the deployment.
    pub const NAME: &str = "carts";

    /// A builder for three nodes and three sentinels.
    pub fn builder() -> SentinelsBuilder {
        SentinelsBuilder {
            kind: None,
            replicas: 2,
            sentinels: 3,
            down_after: Duration::from_millis(500),
            arguments: Vec::new(),
            sentinel_lines: Vec::new(),
        }
    }

    /// Starts one node more: a replica of the first, if there is one. Sentinels find it by themselves. Returns its
    /// number.
    ///
    /// # Errors
    ///
    /// If it does not come up or does not sync.
    pub fn add_node(&mut self) -> Result<usize> {
        // The relay's port is announced, so it comes first; its target is known later.
        let relay = Relay::start((std::net::Ipv4Addr::LOCALHOST, 1).into())?;
        let upstream = if self.nodes.is_empty() {
            None
        } else {
            Some(self.primary()?)
        };
        let server = Server::builder()
            .kind(self.kind)
            .args(self.arguments_of(&relay, upstream))
            .start()?;
        relay.set_target(server.addr());
        if !self.nodes.is_empty() {
            server.wait_for(START_DEADLINE, "a new replica's link is up", |info| info.link_up)?;
        }
        self.nodes.push(Node { server, relay });
        Ok(self.nodes.len() - 1)
    }

    fn arguments_of(&self, relay: &Relay, upstream: Option<usize>) -> Vec<String> {
        let mut arguments = [
            "--replica-announce-ip",
            "127.0.0.1",
            "--replica-announce-port",
            &relay.port().to_string(),
        ]
        .map(str::to_owned)
        .to_vec();
        arguments.extend_from_slice(&self.arguments);
        if let Some(upstream) = upstream {
            let port = self.relay(upstream).port().to_string();
            arguments.extend(["--replicaof".to_owned(), "127.0.0.1".to_owned(), port]);
        }
        arguments
    }

    /// Kills a node if it is running, and starts it again as what its configuration would say that it is: a replica of
    /// another node, or a primary.
    ///
    /// # Errors
    ///
    /// If it does not come up.
    ///
    /// # Panics
    ///
    /// If there are not so many nodes.
    pub fn restart(&self, index: usize, upstream: Option<usize>) -> Result<()> {
        let arguments = self.arguments_of(self.relay(index), upstream);
        self.node(index).restart_with(arguments)
    }

    /// The number of the node that announces this port.
    #[must_use]
    pub fn announced_by(&self, port: u16) -> Option<usize> {
        self.nodes.iter().position(|node| node.relay.port() == port)
    }

    /// A node, counted from 0, which was the primary at the start.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    #[must_use]
    #[expect(
        clippy::indexing_slicing,
        reason = "an index is a constant in a test, as it is with a slice"
    )]
    pub fn node(&self, index: usize) -> &Server {
        &self.nodes[index].server
    }

    /// The relay in front of a node, counted from 0.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    #[must_use]
    #[expect(
        clippy::indexing_slicing,
        reason = "an index is a constant in a test, as it is with a slice"
    )]
    pub fn relay(&self, index: usize) -> &Relay {
        &self.nodes[index].relay
    }

    /// All nodes, in order.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &Server> {
        self.nodes.iter().map(|node| &node.server)
    }

    /// All sentinels.
    #[must_use]
    pub fn sentinels(&self) -> &[Server] {
        &self.sentinels
    }

    /// The sentinels' URLs.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.sentinels.iter().map(Server::url).collect()
    }

    /// The number of the node that the first sentinel that answers takes for the primary; the first node before
    /// there are sentinels.
    ///
    /// # Errors
    ///
    /// If no sentinel answers, or it names none of the nodes.
    pub fn primary(&self) -> Result<usize> {
        if self.sentinels.is_empty() {
            return Ok(0);
        }
        let question = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", Self::NAME];
        for sentinel in &self.sentinels {
            let Ok(Reply::Array(place)) = sentinel.command(&question) else {
                continue;
            };
            let port = place.get(1).and_then(Reply::text);
            let found = self
                .nodes
                .iter()
                .position(|node| port == Some(node.relay.port().to_string().as_str()));
            if let Some(found) = found {
                return Ok(found);
            }
        }
        Err(Error::new(
            ErrorKind::Usage,
            "no sentinel names one of the nodes as the primary",
        ))
    }

    /// Orders the first sentinel to fail over while the primary is alive, and again if that comes to nothing (the
    /// replica that it chose was too slow, say). Returns the number of the new primary.
    ///
    /// # Errors
    ///
    /// If there is none in time.
    pub fn fail_over(&self, within: Duration) -> Result<usize> {
        let before = self.primary()?;
        let ordering = || {
            let [sentinel, ..] = self.sentinels.as_slice() else {
                return;
            };
            let state = sentinel.command(&["SENTINEL", "MASTER", Self::NAME]);
            let flags = match &state {
                Ok(Reply::Array(fields)) => fields
                    .chunks_exact(2)
                    .find(|pair| pair.first().and_then(Reply::text) == Some("flags"))
                    .and_then(|pair| pair.last()?.text()),
                _ => None,
            };
            // None is under way, so none can have ended in a switch since it was looked.
            if flags.is_some_and(|flags| !flags.contains("failover_in_progress"))
                && self.primary().is_ok_and(|now| now == before)
            {
                // Refused while the sentinel still knows of no good replica.
                drop(sentinel.command(&["SENTINEL", "FAILOVER", Self::NAME]));
            }
        };
        let deadline = Instant::now() + within;
        loop {
            ordering();
            let left = deadline.saturating_duration_since(Instant::now());
            let patience = left.min(Duration::from_secs(1));
            match self.wait_failed_over(before, patience) {
                Err(_) if !left.is_zero() => {}
                outcome => return outcome,
            }
        }
    }

    /// Listens to all sentinels from now on. Of each, the moment at which it first says that something has happened:
    /// `+switch-master`, say.
    ///
    /// # Errors
    ///
    /// If a sentinel can't be listened to.
    pub fn hear(&self, event: &str) -> Result<Receiver<Instant>> {
        let (heard, hearing) = sync_channel(self.sentinels.len());
        for sentinel in &self.sentinels {
            let mut control = Control::connect_with(sentinel.port(), EVENT_DEADLINE)?;
            control.command(&["SUBSCRIBE", event])?;
            let heard = heard.clone();
            // It ends with its first message, or with its sentinel.
            thread::spawn(move || {
                if control.receive().is_ok() {
                    let _ = heard.send(Instant::now());
                }
            });
        }
        Ok(hearing)
    }

    /// Waits until the sentinels name another primary than `before`, and it says that it is one. Returns its number.
    ///
    /// # Errors
    ///
    /// A timeout, if they have not by then.
    pub fn wait_failed_over(&self, before: usize, within: Duration) -> Result<usize> {
        let mut now = before;
        wait_until(within, "the sentinels have agreed on another primary", || {
            now = self.primary().unwrap_or(before);
            now != before
        })?;
        self.node(now)
            .wait_for(within, "the new primary says that it is one", |info| {
                info.role == crate::Role::Primary
            })?;
        Ok(now)
    }
}
