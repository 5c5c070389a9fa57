//! Nodes: one server each, with the pipelined connections to it. The only code that touches sockets.

mod acks;
mod address;
mod connection;
mod driver;
mod enclosed;
mod feed;
mod handshake;
mod line;
mod lost;
mod own;
mod reply;
mod stream;
#[cfg(feature = "tls")]
mod tls;
mod waiters;

use std::{
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::future::{Either, select};
use highwater_core::{Edge, Edges, History, Offset, Progress, Role, Scope};
use redis::ProtocolVersion;
use tokio::{
    sync::{Notify, watch},
    task::{JoinHandle, JoinSet},
};

use self::{
    acks::AckedLinks,
    driver::{Driver, Use},
    handshake::{Opened, Questions},
    lost::LostWrites,
    waiters::Waiters,
};
pub(crate) use self::{
    acks::other_stream,
    address::{Address, Tls},
    connection::{Acknowledgement, Answer, Bounds, Connection, Ending, Proof, ProofWanted, Request, Sent},
    driver::{in_doubt, unsent},
    enclosed::each_alone,
    handshake::{Manners, accepted, bytes, can_not_connect},
    line::Line,
    own::OwnConnection,
};
pub use self::{address::NodeAddress, handshake::MINIMAL_ACL};
#[cfg(feature = "unstable-internals")]
pub(crate) use self::{
    reply::{Parser, text as info_text},
    stream::ReadBuffer,
};
use crate::{
    command::CommandTable,
    defaults::{LASTING, MAX_BACKOFF, MIN_BACKOFF},
    error::{Error, ErrorKind},
    lag::Timeline,
    moments::Moments,
    observe::{NodeMeters, Throttle},
    route::closed,
};

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
    /// The protocol, where the URL says nothing of it; `None` tries RESP3 and then RESP2.
    pub(crate) protocol: Option<ProtocolVersion>,
    /// How many connections each node gets.
    pub(crate) connections: usize,
    /// False: no INFO is ever sent.
    pub(crate) proofs: bool,
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
    /// What the primary's commands do, once it has been asked.
    pub(crate) table: OnceLock<CommandTable>,
    /// A node has said what it was not known to be, or has gone: the steward listens.
    pub(crate) news: Notify,
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

/// Tells nodes apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeId(u64);

impl NodeId {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// How it stands with one of a node's connections.
#[derive(Debug)]
enum Link {
    /// The first attempt is under way.
    Connecting,
    Up(Arc<Connection>),
    Down(Error),
}

/// How it stands with a node's connections together: as good as the best of them.
#[derive(Debug, Default)]
pub(crate) struct Links {
    pub(crate) up: usize,
    pub(crate) connecting: bool,
    pub(crate) in_flight: usize,
    pub(crate) manners: Option<Manners>,
    /// Why the first one that is down is down.
    pub(crate) error: Option<Error>,
}

/// One server. What each read looks at is behind no lock: readers on other cores would wait for it.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) address: Address,
    /// What the configuration says that it is.
    pub(crate) expected_role: Role,
    /// Where it is, as the configuration says.
    pub(crate) zone: Option<String>,
    /// That is where reads are to go first.
    pub(crate) preferred: bool,
    settings: Settings,
    knowledge: Arc<Knowledge>,
    links: Box<[ArcSwap<Link>]>,
    /// Counts changes of the links.
    changes: watch::Sender<u64>,
    /// No more connections are made; those that are there end when all is answered.
    closing: watch::Sender<bool>,
    /// The last progress: a hint for routing, never a proof (law 4).
    hint: ArcSwapOption<Sample>,
    lag: Mutex<crate::lag::Lag>,
    waiters: Waiters,
    /// Writes of lost connections.
    lost: LostWrites,
    /// Some of them are of a connection of somebody's own.
    orphans: Notify,
    /// What drives connections of callers' own.
    own: Mutex<JoinSet<()>>,
    /// Those for writes that wait for acknowledgements.
    acked: AckedLinks,
    /// Passed over until so many nanoseconds after it was made.
    suspended: AtomicU64,
    made: Instant,
    /// Connections that ended.
    disconnects: AtomicU64,
    /// What the last connection's last sample said.
    before: Mutex<Option<Progress>>,
    meters: NodeMeters,
    /// How often the log hears of lost connections.
    losses: Throttle,
    /// What the server refuses, and what that means.
    warnings: Mutex<Vec<String>>,
}

impl Node {
    pub(crate) fn new(
        address: Address,
        expected_role: Role,
        (zone, preferred): (Option<String>, bool),
        settings: Settings,
        knowledge: Arc<Knowledge>,
    ) -> Arc<Self> {
        let meters = NodeMeters::new(&settings.scope, &address);
        meters.up(false);
        Arc::new(Self {
            id: NodeId::next(),
            address,
            expected_role,
            zone,
            preferred,
            knowledge,
            links: (0..settings.connections.max(1))
                .map(|_| ArcSwap::from_pointee(Link::Connecting))
                .collect(),
            settings,
            changes: watch::Sender::new(0),
            closing: watch::Sender::new(false),
            hint: ArcSwapOption::empty(),
            lag: Mutex::default(),
            waiters: Waiters::default(),
            lost: LostWrites::default(),
            orphans: Notify::new(),
            own: Mutex::default(),
            acked: AckedLinks::default(),
            suspended: AtomicU64::new(0),
            made: Instant::now(),
            disconnects: AtomicU64::new(0),
            before: Mutex::new(None),
            meters,
            losses: Throttle::default(),
            warnings: Mutex::default(),
        })
    }

    /// Keeps the node connected from now on: a task for each connection, and a primary's one for what lost
    /// ones leave behind.
    pub(crate) fn start(self: &Arc<Self>) -> Vec<JoinHandle<()>> {
        let mut tasks: Vec<_> = (0..self.links.len())
            .map(|place| tokio::spawn(Arc::clone(self).keep_connected(place)))
            .collect();
        if self.expected_role == Role::Primary {
            tasks.push(tokio::spawn(Arc::clone(self).keep_settled()));
        }
        tasks
    }

    /// Keeps one connection up until the node is closed: connects, drives the connection to its end,
    /// pauses, and begins anew with unknown progress.
    async fn keep_connected(self: Arc<Self>, place: usize) {
        let mut pause = MIN_BACKOFF;
        while !self.is_closing() {
            let connected = match select(pin!(self.connect(place)), pin!(self.until_closed())).await {
                Either::Left((connected, _)) => connected,
                Either::Right(_) => break,
            };
            let (error, driver) = match connected {
                Ok(mut driver) => {
                    let since = Instant::now();
                    let error = driver.run().await;
                    // One that has lasted is made anew at once: Sentinel closes the connections of nodes that it
                    // has given another place, and those go on.
                    let lasted = since.elapsed() >= LASTING;
                    pause = if lasted { Duration::ZERO } else { MIN_BACKOFF };
                    (error, Some(driver))
                }
                Err(error) => {
                    tracing::debug!(node = %self.address, %error, "no connection");
                    (error, None)
                }
            };
            self.set_link(place, Link::Down(error.clone()));
            if driver.is_some() {
                // Counted once it is down, so that who has seen it counted does not take it for up.
                self.lost_connection(&error);
            }
            if self.links().up == 0 {
                if let Some(last) = self.hint.swap(None) {
                    *self.before.lock().unwrap_or_else(PoisonError::into_inner) = Some(last.progress);
                }
                self.meters.up(false);
                self.knowledge.news.notify_one();
            }
            // Callers learn of it once the node says so as well.
            drop(driver);
            self.waiters.wake_all();
            // Jitter, so that clients don't come back in step.
            let jittered = pin!(tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)));
            select(jittered, pin!(self.until_closed())).await;
            pause = (pause * 2).clamp(MIN_BACKOFF, MAX_BACKOFF);
        }
        self.set_link(place, Link::Down(closed()));
        self.waiters.wake_all();
    }

    fn lost_connection(&self, error: &Error) {
        self.disconnects.fetch_add(1, Ordering::Relaxed);
        self.meters.disconnected();
        if self.is_closing() {
            tracing::debug!(node = %self.address, "connection closed");
        } else if let Some(suppressed) = self.losses.admit(Instant::now()) {
            tracing::warn!(node = %self.address, %error, suppressed, "connection lost");
        }
    }

    async fn connect(self: &Arc<Self>, place: usize) -> Result<Driver, Error> {
        let questions = Questions {
            role: self.expected_role,
            lost: self.lost.connections(),
            table: self.expected_role == Role::Primary && self.knowledge.table.get().is_none(),
            rights: true,
            feed: false,
            acks: false,
        };
        let asked_for_table = questions.table;
        // Whatever the first sample says was so later than now.
        let asked = Instant::now();
        let opened = self.open(questions).await?;
        if asked_for_table {
            let table = opened.table.as_ref().map(CommandTable::from_reply);
            // Another connection may have been faster.
            let _ = self.knowledge.table.set(table.unwrap_or_default());
        }
        self.warn(opened.warnings);
        let first = opened.progress;
        if let Some(first) = &first {
            self.meters.settled(self.lost.learnt(&opened.fates, first));
            let sample = Sample {
                progress: *first,
                at: Instant::now(),
            };
            self.publish(sample, Some(asked));
        }
        self.meters.up(true);
        let role = first.map(|first| first.role);
        let before = self.before.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (before, &first) {
            (Some(before), Some(first)) => {
                tracing::info!(node = %self.address, ?role, "connected again");
                self.tell_changes(&before, first);
            }
            _ => tracing::debug!(node = %self.address, ?role, "connected"),
        }
        let connection = Arc::new(Connection::new(
            opened.write,
            self.settings.bounds,
            opened.manners,
            first.as_ref(),
            self.meters.clone(),
        ));
        self.set_link(place, Link::Up(Arc::clone(&connection)));
        if self.is_closing() {
            connection.drain(&closed());
        }
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

    /// Opens and introduces a connection.
    async fn open(&self, questions: Questions) -> Result<Opened, Error> {
        let opening = handshake::open(&self.address, &self.settings, questions);
        match tokio::time::timeout(self.settings.connect_timeout, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(Error::new(
                ErrorKind::Unavailable,
                format!(
                    "{} did not answer within {:?}{}",
                    self.address,
                    self.settings.connect_timeout,
                    self.address.silence_advice()
                ),
            )),
        }
    }

    /// Takes note of what the server refuses; says it once.
    fn warn(&self, warnings: Vec<String>) {
        let mut known = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        for warning in warnings.iter().filter(|warning| !known.contains(warning)) {
            tracing::warn!(node = %self.address, "{warning}");
        }
        *known = warnings;
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        self.warnings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Makes no more connections, and ends those that are there once all is answered.
    pub(crate) fn close(&self) {
        self.closing.send_replace(true);
        for link in &self.links {
            if let Link::Up(connection) = &**link.load() {
                connection.drain(&closed());
            }
        }
        self.waiters.wake_all();
    }

    fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    pub(crate) async fn until_closed(&self) {
        // The sender lives in this node, so waiting can't fail.
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }

    fn set_link(&self, place: usize, link: Link) {
        if let Some(slot) = self.links.get(place) {
            slot.store(Arc::new(link));
        }
        self.changes.send_modify(|changes| *changes += 1);
    }

    pub(crate) fn links(&self) -> Links {
        let mut links = Links::default();
        for link in &self.links {
            match &**link.load() {
                Link::Connecting => links.connecting = true,
                Link::Up(connection) => {
                    links.up += 1;
                    links.in_flight += connection.load();
                    links.manners = Some(connection.manners);
                }
                Link::Down(error) => {
                    links.error.get_or_insert_with(|| error.clone());
                }
            }
        }
        links
    }

    /// The connection with the least in flight, when there is one.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub(crate) fn connection(&self) -> Result<Arc<Connection>, Error> {
        self.with_connection(Arc::clone)
            .ok_or_else(|| self.no_connection())
    }

    /// Uses the connection with the least in flight, if there is one.
    pub(crate) fn with_connection<T>(&self, of: impl FnOnce(&Arc<Connection>) -> T) -> Option<T> {
        if let [only] = &*self.links {
            return match &**only.load() {
                Link::Up(connection) => Some(of(connection)),
                Link::Connecting | Link::Down(_) => None,
            };
        }
        let mut chosen = None;
        for link in &self.links {
            let link = link.load();
            let Link::Up(connection) = &**link else {
                continue;
            };
            let load = connection.load();
            if chosen.as_ref().is_none_or(|(least, _)| load < *least) {
                chosen = Some((load, link));
            }
            if load == 0 {
                break;
            }
        }
        match &**chosen?.1 {
            Link::Up(connection) => Some(of(connection)),
            Link::Connecting | Link::Down(_) => None,
        }
    }

    /// Why there is no connection.
    pub(crate) fn no_connection(&self) -> Error {
        let links = self.links();
        match links.error {
            Some(error) if !links.connecting => match error.kind() {
                ErrorKind::Config | ErrorKind::Closed => error,
                // Whatever ended the last connection: nothing is sent now.
                _ => unsent(&error),
            },
            _ => {
                let message = format!("the first connection to {} is still being made", self.address);
                Error::new(ErrorKind::Unavailable, message)
            }
        }
    }

    /// The connection; waits for the first attempts to connect to succeed or fail.
    ///
    /// # Errors
    ///
    /// Why there is none.
    ///
    /// # Cancel safety
    ///
    /// It only looks.
    pub(crate) async fn first_attempt(&self) -> Result<Arc<Connection>, Error> {
        let attempted = |_: &u64| {
            let links = self.links();
            links.up > 0 || !links.connecting
        };
        // The sender lives in this node, so waiting can't fail.
        let _ = self.changes.subscribe().wait_for(attempted).await;
        self.connection()
    }

    /// Waits until the node is connected, or refuses us.
    ///
    /// # Errors
    ///
    /// As [`Self::connection`], only of the kinds `Config` and `Closed`.
    ///
    /// # Cancel safety
    ///
    /// It only looks.
    pub(crate) async fn connected(&self) -> Result<Arc<Connection>, Error> {
        let mut changes = self.changes.subscribe();
        loop {
            changes.mark_unchanged();
            match self.connection() {
                Err(error) if !matches!(error.kind(), ErrorKind::Config | ErrorKind::Closed) => {}
                outcome => return outcome,
            }
            // The sender lives in this node, so waiting can't fail.
            let _ = changes.changed().await;
        }
    }

    /// The last progress that the node told: a hint.
    pub(crate) fn hint(&self) -> Option<Sample> {
        self.with_hint(|sample| *sample)
    }

    /// Looks at the same where it is.
    pub(crate) fn with_hint<T>(&self, look: impl FnOnce(&Sample) -> T) -> Option<T> {
        self.hint.load().as_deref().map(look)
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
        self.suspended
            .store(nanoseconds(self.made.elapsed() + pause), Ordering::Relaxed);
    }

    pub(crate) fn is_suspended(&self) -> bool {
        match self.suspended.load(Ordering::Relaxed) {
            // Never, which is nearly always so, and asks for no clock.
            0 => false,
            until => nanoseconds(self.made.elapsed()) < until,
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
        let before = self.hint.swap(Some(Arc::new(sample)));
        let before = before.as_deref();
        if let Some(before) = before
            && (before.progress.history != progress.history || before.progress.role != progress.role)
        {
            self.tell_changes(&before.progress, progress);
        }
        if before.map_or(self.expected_role, |before| before.progress.role) != progress.role {
            self.knowledge.news.notify_one();
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

    /// Remembers how a history of the primary grew out of another, seen on a live connection.
    pub(super) fn learn_edge(&self, edge: Edge) {
        if self.expected_role == Role::Primary {
            let mut edges = self
                .knowledge
                .edges
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            edges.learn(edge.child, edge.parent, edge.fork);
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

/// Half a millennium at most.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
