//! Nodes: one server each, with the pipelined connection to it. The only code that touches sockets.

mod address;
mod connection;
mod driver;
mod handshake;
mod lost;
mod own;
mod reply;
mod stream;
mod waiters;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use highwater_core::{Edges, History, Offset, Progress, Role, Scope};
use tokio::sync::{Notify, watch};

pub(crate) use self::{
    address::Address,
    connection::{Answer, Bounds, Connection, Ending, Proof, ProofWanted, Request},
    driver::{in_doubt, unsent},
    own::OwnConnection,
};
use self::{
    driver::{Driver, Use},
    handshake::Opened,
    lost::{Identity, LostWrites},
    waiters::Waiters,
};
use crate::{
    error::{Error, ErrorKind},
    lag::Timeline,
    moments::Moments,
    observe::{NodeMeters, Throttle},
};

/// The shortest and the longest pause before a connection is tried again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

/// Reads one whole reply; `None` when more bytes are needed.
#[cfg(feature = "unstable-internals")]
pub(crate) fn parse_reply(bytes: &[u8]) -> Result<Option<redis::Value>, Error> {
    reply::Parser::default().next(bytes, &mut 0)
}

/// What all nodes of a client are told.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The client's scope: a label of its metrics.
    pub(crate) scope: Scope,
    pub(crate) client_name: Option<String>,
    pub(crate) connect_timeout: Duration,
    pub(crate) response_timeout: Duration,
    pub(crate) idle_probe: Duration,
    /// How long a lost connection can go on delivering, where the server may not be told to close it.
    pub(crate) doubt_grace: Duration,
    pub(crate) bounds: Bounds,
}

/// What the nodes of a client have learnt together.
#[derive(Debug, Default)]
pub(crate) struct Knowledge {
    /// How histories descend from each other.
    pub(crate) edges: RwLock<Edges>,
    /// When the primary was where.
    timeline: Mutex<Timeline>,
    /// Where it was at moments known for sure, for reads of bounded staleness.
    moments: Mutex<Moments>,
}

impl Knowledge {
    pub(crate) fn timeline(&self) -> MutexGuard<'_, Timeline> {
        self.timeline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn moments(&self) -> MutexGuard<'_, Moments> {
        self.moments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A progress, and when it was received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) progress: Progress,
    pub(crate) at: Instant,
}

/// How it stands with a node's connection.
#[derive(Clone, Debug)]
pub(crate) enum Link {
    /// The first attempt is under way.
    Connecting,
    Up(Arc<Connection>),
    Down(Error),
}

/// One server.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) address: Address,
    /// What the configuration says that it is.
    pub(crate) expected_role: Role,
    settings: Settings,
    knowledge: Arc<Knowledge>,
    link: RwLock<Link>,
    attempts: watch::Sender<u64>,
    /// The last progress: a hint for routing, never a proof (law 4).
    hint: Mutex<Option<Sample>>,
    lag: Mutex<crate::lag::Lag>,
    waiters: Waiters,
    /// Writes of lost connections.
    lost: LostWrites,
    /// Some of them are of a connection of somebody's own.
    orphans: Notify,
    /// Passed over until then.
    suspended: Mutex<Option<Instant>>,
    /// Connections that ended.
    disconnects: AtomicU64,
    /// What the last connection's last sample said.
    before: Mutex<Option<Progress>>,
    meters: NodeMeters,
    /// How often the log hears of lost connections.
    losses: Throttle,
}

impl Node {
    pub(crate) fn new(
        address: Address,
        expected_role: Role,
        settings: Settings,
        knowledge: Arc<Knowledge>,
    ) -> Arc<Self> {
        let meters = NodeMeters::new(&settings.scope, &address);
        meters.up(false);
        Arc::new(Self {
            address,
            expected_role,
            settings,
            knowledge,
            link: RwLock::new(Link::Connecting),
            attempts: watch::Sender::new(0),
            hint: Mutex::new(None),
            lag: Mutex::default(),
            waiters: Waiters::default(),
            lost: LostWrites::default(),
            orphans: Notify::new(),
            suspended: Mutex::new(None),
            disconnects: AtomicU64::new(0),
            before: Mutex::new(None),
            meters,
            losses: Throttle::default(),
        })
    }

    /// Keeps the node connected, for ever: connects, drives the connection to its end, pauses, and
    /// begins anew with unknown progress.
    pub(crate) async fn keep_connected(self: Arc<Self>) {
        let mut pause = BACKOFF.0;
        loop {
            let (error, driver) = match self.connect().await {
                Ok(mut driver) => {
                    pause = BACKOFF.0;
                    let error = driver.run().await;
                    self.lost_connection(&error);
                    (error, Some(driver))
                }
                Err(error) => {
                    tracing::debug!(node = %self.address, %error, "no connection");
                    (error, None)
                }
            };
            let last = self.hint.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(last) = last {
                *self.before.lock().unwrap_or_else(PoisonError::into_inner) = Some(last.progress);
            }
            self.set_link(Link::Down(error));
            // Callers learn of it once the node says so as well.
            drop(driver);
            self.waiters.wake_all();
            // Jitter, so that clients don't come back in step.
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(BACKOFF.1);
        }
    }

    fn lost_connection(&self, error: &Error) {
        self.disconnects.fetch_add(1, Ordering::Relaxed);
        self.meters.disconnected();
        self.meters.up(false);
        if let Some(suppressed) = self.losses.admit(Instant::now()) {
            tracing::warn!(node = %self.address, %error, suppressed, "connection lost");
        }
    }

    async fn connect(self: &Arc<Self>) -> Result<Driver, Error> {
        // Whatever the first sample says was so later than now.
        let asked = Instant::now();
        let opened = self.open(self.lost.connections()).await?;
        let first = opened.progress;
        self.meters.settled(self.lost.learnt(&opened.fates, &first));
        let connection = Connection::new(
            opened.write,
            self.settings.bounds,
            first.history,
            self.meters.clone(),
        );
        let connection = Arc::new(connection);
        let sample = Sample {
            progress: first,
            at: Instant::now(),
        };
        self.publish(sample, Some(asked));
        self.meters.up(true);
        match self.before.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(before) => {
                tracing::info!(node = %self.address, role = ?first.role, "connected again");
                self.tell_changes(&before, &first);
            }
            None => tracing::debug!(node = %self.address, role = ?first.role, "connected"),
        }
        self.set_link(Link::Up(Arc::clone(&connection)));
        let ends = (opened.read, opened.buffer);
        Ok(Driver::new(
            Arc::clone(self),
            Use::Shared,
            connection,
            ends,
            opened.identity,
            first,
        ))
    }

    /// Opens and introduces a connection, and asks after these lost ones on it.
    async fn open(&self, lost: Vec<Identity>) -> Result<Opened, Error> {
        let opening = handshake::open(&self.address, &self.settings, lost);
        match tokio::time::timeout(self.settings.connect_timeout, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(Error::new(
                ErrorKind::Unavailable,
                format!(
                    "{} did not answer within {:?}",
                    self.address, self.settings.connect_timeout
                ),
            )),
        }
    }

    fn set_link(&self, link: Link) {
        *self.link.write().unwrap_or_else(PoisonError::into_inner) = link;
        self.attempts.send_modify(|attempts| *attempts += 1);
    }

    pub(crate) fn link(&self) -> Link {
        self.link.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The connection, when there is one.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub(crate) fn connection(&self) -> Result<Arc<Connection>, Error> {
        match &*self.link.read().unwrap_or_else(PoisonError::into_inner) {
            Link::Up(connection) => Ok(Arc::clone(connection)),
            Link::Connecting => {
                let message = format!("the first connection to {} is still being made", self.address);
                Err(Error::new(ErrorKind::Unavailable, message))
            }
            Link::Down(error) if error.kind() == ErrorKind::Config => Err(error.clone()),
            // Whatever ended the last connection: nothing is sent now.
            Link::Down(error) => Err(unsent(error)),
        }
    }

    /// Waits for the first attempt to connect to succeed or fail.
    pub(crate) async fn first_attempt(&self) -> Result<Arc<Connection>, Error> {
        // The sender lives in this node, so waiting can't fail.
        let _ = self.attempts.subscribe().wait_for(|attempts| *attempts > 0).await;
        self.connection()
    }

    /// The last progress that the node told: a hint.
    pub(crate) fn hint(&self) -> Option<Sample> {
        *self.hint.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn sample_age(&self, now: Instant) -> Duration {
        self.hint()
            .map_or(Duration::MAX, |sample| now.saturating_duration_since(sample.at))
    }

    /// How many connections have ended.
    pub(crate) fn disconnects(&self) -> u64 {
        self.disconnects.load(Ordering::Relaxed)
    }

    pub(crate) fn lag(&self) -> crate::lag::Lag {
        *self.lag.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes the node over for a while: it said that it can't answer now.
    pub(crate) fn suspend(&self, pause: Duration) {
        *self.suspended.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + pause);
    }

    pub(crate) fn is_suspended(&self) -> bool {
        let mut suspended = self.suspended.lock().unwrap_or_else(PoisonError::into_inner);
        match *suspended {
            Some(until) if Instant::now() < until => true,
            Some(_) => {
                *suspended = None;
                false
            }
            None => false,
        }
    }

    /// Tells the log when a node has become another one.
    fn tell_changes(&self, before: &Progress, now: &Progress) {
        if before.role != now.role {
            tracing::info!(node = %self.address, from = ?before.role, to = ?now.role, "role changed");
        }
        if before.history != now.history {
            tracing::info!(node = %self.address, from = %before.history, to = %now.history, "history changed");
        }
    }

    /// Takes in a sample: routing, waiters and prediction go by it. `sent` is a moment at or before which
    /// its INFO was sent, where that is known.
    pub(super) fn publish(&self, sample: Sample, sent: Option<Instant>) {
        let progress = &sample.progress;
        let before = self
            .hint
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(sample);
        if let Some(before) = &before
            && (before.progress.history != progress.history || before.progress.role != progress.role)
        {
            self.tell_changes(&before.progress, progress);
        }
        match (self.expected_role, progress.role) {
            (Role::Primary, Role::Primary) => {
                if before.is_none_or(|before| before.progress.history != progress.history) {
                    let mut edges = self
                        .knowledge
                        .edges
                        .write()
                        .unwrap_or_else(PoisonError::into_inner);
                    edges.learn_from(progress);
                }
                let mut timeline = self.knowledge.timeline();
                timeline.observe(sample.at, progress.history, progress.applied);
                drop(timeline);
                if let Some(sent) = sent {
                    let mut moments = self.knowledge.moments();
                    moments.observe(sent, progress.history, progress.applied);
                }
            }
            (Role::Replica, Role::Replica) => {
                let timeline = self.knowledge.timeline();
                let mut lag = self.lag.lock().unwrap_or_else(PoisonError::into_inner);
                lag.observe(&timeline, &sample);
                let (bytes, time) = (lag.bytes, lag.time());
                drop((lag, timeline));
                if let (Some(bytes), Some(time)) = (bytes, time) {
                    self.meters.lag(bytes, time);
                }
                self.waiters.reached(progress.history, progress.applied);
            }
            // The node is not what it was said to be: status() says so.
            _ => {}
        }
    }

    /// A primary whose history changes on a live connection, without a null push, goes on over the
    /// same data (law 6). The old history has ended there, so all that was ever in it is shared.
    pub(super) fn learn_edge(&self, before: &Progress, now: &Progress) {
        if before.history != now.history && self.expected_role == Role::Primary {
            let mut edges = self
                .knowledge
                .edges
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            edges.learn(now.history, before.history, now.applied + 1);
        }
    }

    /// Waits until the node says that it has applied `offset` of `history`, or its connection ends, or
    /// the deadline passes. True in the first case; a hint, not a proof.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future removes the waiter.
    pub(crate) async fn wait_for(&self, history: History, offset: Offset, deadline: Instant) -> bool {
        let Some(position) = offset.position() else {
            return false;
        };
        let Ok(connection) = self.connection() else {
            return false;
        };
        let waiter = self.waiters.join(history, position);
        connection.wake_driver();
        matches!(tokio::time::timeout_at(deadline.into(), waiter).await, Ok(true))
    }

    /// Asks the node where it is, if the last word is older than `age`.
    pub(crate) fn refresh_hint(&self, age: Duration) {
        if self.sample_age(Instant::now()) > age
            && let Ok(connection) = self.connection()
        {
            self.waiters.ask();
            connection.wake_driver();
        }
    }
}
