//! A primary with replicas, each replica connected through a relay of its own.

use std::time::{Duration, Instant};

use crate::{Error, ErrorKind, Mark, Relay, Result, Server, ServerKind};

const START_DEADLINE: Duration = Duration::from_secs(20);

/// What a topology is to be started with.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct TopologyBuilder {
    kind: Option<ServerKind>,
    replicas: usize,
    delay: (Duration, Duration),
    primary_arguments: Vec<String>,
    replica_arguments: Vec<String>,
}

impl TopologyBuilder {
    /// Which server. The default is [`ServerKind::from_env`].
    pub fn kind(mut self, kind: ServerKind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// How many replicas there are. The default is none.
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// Delays the replication stream to every replica, once they have synced for the first time.
    pub fn delay(self, delay: Duration) -> Self {
        self.jitter(delay, delay)
    }

    /// Delays the replication stream to every replica by random times, once they have synced for the first time.
    pub fn jitter(mut self, min: Duration, max: Duration) -> Self {
        self.delay = (min, max);
        self
    }

    /// More configuration for the primary: `["--repl-backlog-size", "16kb"]`.
    pub fn primary_args<I: IntoIterator<Item = S>, S: Into<String>>(mut self, arguments: I) -> Self {
        self.primary_arguments
            .extend(arguments.into_iter().map(Into::into));
        self
    }

    /// More configuration for every replica: `["--repl-diskless-load", "swapdb"]`.
    pub fn replica_args<I: IntoIterator<Item = S>, S: Into<String>>(mut self, arguments: I) -> Self {
        self.replica_arguments
            .extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Starts all of it, and returns when every replica is in sync.
    ///
    /// # Errors
    ///
    /// If a server does not come up, or a replica does not get in sync.
    pub fn start(self) -> Result<Topology> {
        let server = || Server::builder().kind_or_default(self.kind);
        let primary = server().args(&self.primary_arguments).start()?;
        let mut topology = Topology {
            replicas: Vec::new(),
            primary,
        };
        // One after the other: a replica that joins while another has its full sync waits for the next second of
        // the primary's clock.
        for _ in 0..self.replicas {
            let relay = Relay::start(topology.primary.addr())?;
            let host = relay.addr().ip().to_string();
            let server = server()
                .args(&self.replica_arguments)
                .replica_of(host, relay.port())
                .start()?;
            server.wait_for(START_DEADLINE, "a new replica's link is up", |info| info.link_up)?;
            topology.replicas.push(Link { server, relay });
        }
        topology.wait_in_sync(START_DEADLINE)?;
        for link in &topology.replicas {
            link.relay.set_jitter(self.delay.0, self.delay.1);
        }
        Ok(topology)
    }
}

/// A replica, and the relay that it replicates through.
#[derive(Debug)]
struct Link {
    server: Server,
    relay: Relay,
}

/// A primary and its replicas, as real processes with a [`Relay`] between the primary and each replica.
#[derive(Debug)]
pub struct Topology {
    // Replicas go first, so that they don't log about a lost primary while they are dropped.
    replicas: Vec<Link>,
    primary: Server,
}

impl Topology {
    /// A builder for a primary without replicas.
    pub fn builder() -> TopologyBuilder {
        TopologyBuilder::default()
    }

    /// The server that was started as the primary.
    #[must_use]
    pub fn primary(&self) -> &Server {
        &self.primary
    }

    /// A replica, counted from 0.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    #[must_use]
    #[expect(
        clippy::indexing_slicing,
        reason = "an index is a constant in a test, as it is with a slice"
    )]
    pub fn replica(&self, index: usize) -> &Server {
        &self.replicas[index].server
    }

    /// The relay between the primary and a replica, counted from 0.
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
        &self.replicas[index].relay
    }

    /// All replicas, in order.
    pub fn replicas(&self) -> impl ExactSizeIterator<Item = &Server> {
        self.replicas.iter().map(|link| &link.server)
    }

    /// All relays, in order.
    pub fn relays(&self) -> impl ExactSizeIterator<Item = &Relay> {
        self.replicas.iter().map(|link| &link.relay)
    }

    /// Waits until every replica is connected, and has applied all that the primary had written when this was called
    /// and one message more, which is published for the purpose and moves the primary's offset.
    ///
    /// The message shows that the stream flows: a replica calls its link up, and covers the primary's offset, before
    /// the primary has got the acknowledgement without which it sends nothing more.
    ///
    /// # Errors
    ///
    /// A timeout, if one of them has not by then.
    pub fn wait_in_sync(&self, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        for (index, link) in self.replicas.iter().enumerate() {
            let mut goal: Option<Mark> = None;
            let what = format!("replica {index} is in sync");
            link.server.wait_for(
                deadline.saturating_duration_since(Instant::now()),
                &what,
                |replica| {
                    // The primary takes a new history when its first replica comes.
                    if replica.link_up && goal.is_none_or(|goal| goal.history != replica.replid) {
                        goal = self.publish().ok();
                    }
                    replica.link_up && goal.is_some_and(|goal| replica.covers(goal))
                },
            )?;
        }
        Ok(())
    }

    fn publish(&self) -> Result<Mark> {
        self.primary
            .command(&["PUBLISH", "highwater-testkit", "in sync?"])?;
        self.primary.mark()
    }

    /// Waits until a replica is in the mark's history and has applied its offset.
    ///
    /// # Errors
    ///
    /// A timeout, if it has not by then.
    pub fn wait_applied(&self, index: usize, mark: Mark, within: Duration) -> Result<()> {
        let what = format!("replica {index} has applied {mark:?}");
        let link = self.replicas.get(index).ok_or_else(|| {
            Error::new(
                ErrorKind::Usage,
                format!("there is no replica {index}, only {}", self.replicas.len()),
            )
        })?;
        link.server.wait_for(within, &what, |info| info.covers(mark))
    }

    /// Makes a replica the primary of the others, as an operator would: promotes it, points the other relays at it and
    /// cuts them. The old primary is left as it is, and [`primary`](Self::primary) still returns it.
    ///
    /// # Errors
    ///
    /// If the replica does not answer.
    ///
    /// # Panics
    ///
    /// If there is no such replica.
    pub fn promote(&self, index: usize) -> Result<()> {
        let promoted = self.replica(index);
        promoted.replicaof_no_one()?;
        for (_, link) in self
            .replicas
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != index)
        {
            link.relay.set_target(promoted.addr());
            link.relay.cut();
        }
        Ok(())
    }
}
