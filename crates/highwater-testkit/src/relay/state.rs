//! What a relay is told to do, and what it has done: the one state that handle and connections share.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::hold::Hold;
use crate::lock;

/// How long a control waits for the relay's thread. It never takes more than microseconds on a healthy machine.
const ACKNOWLEDGE: Duration = Duration::from_secs(5);

/// One way through a relay. Its client is whoever connects to it; its target is where it connects to.
///
/// A replica connects to its primary: on the link between them, the replica is the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the target to the client: replication stream, replies.
    ToClient,
    /// From the client to the target: acknowledgements of replication, requests.
    ToTarget,
}

/// The ways that delay, jitter, pause and rate apply to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Directions {
    /// From the target to the client only, so that a replica's heartbeat is not touched. The default.
    #[default]
    ToClient,
    /// From the client to the target only.
    ToTarget,
    /// Both ways.
    Both,
}

impl Directions {
    pub(super) fn includes(self, direction: Direction) -> bool {
        match self {
            Self::Both => true,
            Self::ToClient => direction == Direction::ToClient,
            Self::ToTarget => direction == Direction::ToTarget,
        }
    }
}

/// What a relay has done so far, over all its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RelayStats {
    /// Connections that were accepted, ever.
    pub accepted: u64,
    /// Connections that are live.
    pub live: usize,
    /// Bytes from the target, and from the client.
    pub received: PerDirection<u64>,
    /// Bytes passed on to the client, and to the target.
    pub forwarded: PerDirection<u64>,
    /// Bytes swallowed on their way to the client, and to the target.
    pub discarded: PerDirection<u64>,
}

/// A value for each way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PerDirection<T> {
    /// From the target to the client.
    pub to_client: T,
    /// From the client to the target.
    pub to_target: T,
}

impl<T> PerDirection<T> {
    /// The value for one way.
    pub fn of(&self, direction: Direction) -> &T {
        match direction {
            Direction::ToClient => &self.to_client,
            Direction::ToTarget => &self.to_target,
        }
    }

    pub(super) fn of_mut(&mut self, direction: Direction) -> &mut T {
        match direction {
            Direction::ToClient => &mut self.to_client,
            Direction::ToTarget => &mut self.to_target,
        }
    }
}

/// Pieces of at most so many bytes, with a gap after each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fragment {
    pub(super) max_bytes: usize,
    pub(super) gap: Duration,
}

/// What is done to some of a relay's connections, on the way to the client, besides what is done to all of them.
///
/// See [`RelayHandle::impair_those`](super::RelayHandle::impair_those).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Impairment {
    /// Each chunk is passed on a random time between these after it was received, in order.
    pub delay: (Duration, Duration),
    /// Nothing is passed on, and nothing lost.
    pub paused: bool,
    /// At most so many bytes a second are passed on; `None` is without limit, and so is 0.
    pub bytes_per_second: Option<u64>,
}

/// Which connections are meant: those that have sent this within their first [`OPENING`] bytes.
#[derive(Debug)]
struct Rule {
    pattern: Vec<u8>,
    impairment: Impairment,
}

/// How much of what a connection sends first is looked through.
const OPENING: usize = 1024;

#[derive(Debug)]
pub(super) struct State {
    pub(super) target: SocketAddr,
    pub(super) directions: Directions,
    pub(super) delay: (Duration, Duration),
    pub(super) paused: bool,
    pub(super) rate: Option<NonZeroU64>,
    pub(super) fragment: Option<Fragment>,
    pub(super) hold: PerDirection<Hold>,
    pub(super) black_hole: bool,
    pub(super) refuse: bool,
    pub(super) closing: bool,
    /// Connections of an older generation are to close.
    pub(super) generation: u64,
    pub(super) connections: HashMap<u64, ConnectionState>,
    rules: Vec<Rule>,
    pub(super) stats: RelayStats,
    /// Counts changes to all of the above but the last two.
    version: u64,
    /// The version that the accept loop has acted on.
    acknowledged: u64,
}

#[derive(Debug)]
pub(super) struct ConnectionState {
    generation: u64,
    /// Bytes are missing in it: it must not go on once bytes pass again.
    pub(super) lost_bytes: bool,
    /// The first bytes that its client has sent.
    opening: Vec<u8>,
    /// The rules that it falls under, by their places.
    rules: Vec<usize>,
    /// It is to close, whatever becomes of the others.
    doomed: bool,
}

impl ConnectionState {
    fn find_rules(&mut self, rules: &[Rule]) {
        let sent = |pattern: &[u8]| {
            self.opening
                .windows(pattern.len().max(1))
                .any(|bytes| bytes == pattern)
        };
        self.rules = (0..)
            .zip(rules)
            .filter(|(_, rule)| sent(&rule.pattern))
            .map(|(place, _)| place)
            .collect();
    }
}

impl State {
    pub(super) fn must_close(&self, connection: u64) -> bool {
        self.connections.get(&connection).is_none_or(|connection| {
            connection.generation < self.generation
                || connection.doomed
                || (connection.lost_bytes && !self.black_hole)
        })
    }

    /// The client of a connection has sent this.
    pub(super) fn sent(&mut self, connection: u64, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(&connection) else {
            return;
        };
        let room = OPENING - connection.opening.len();
        if room > 0 {
            let opening = bytes.get(..room).unwrap_or(bytes);
            connection.opening.extend_from_slice(opening);
            connection.find_rules(&self.rules);
        }
    }

    /// What is done to a connection besides.
    pub(super) fn impairment(&self, connection: u64) -> Impairment {
        let rules = self
            .connections
            .get(&connection)
            .map(|connection| &connection.rules);
        let mut all = Impairment::default();
        for rule in rules
            .into_iter()
            .flatten()
            .filter_map(|place| self.rules.get(*place))
        {
            let Impairment {
                delay: (least, most),
                paused,
                bytes_per_second,
            } = rule.impairment;
            all.delay = (all.delay.0.max(least), all.delay.1.max(most));
            all.paused |= paused;
            all.bytes_per_second = all.bytes_per_second.or(bytes_per_second);
        }
        all
    }

    pub(super) fn set_rule(&mut self, pattern: Vec<u8>, impairment: Impairment) {
        match self.rules.iter_mut().find(|rule| rule.pattern == pattern) {
            Some(rule) => rule.impairment = impairment,
            None => {
                self.rules.push(Rule { pattern, impairment });
                for connection in self.connections.values_mut() {
                    connection.find_rules(&self.rules);
                }
            }
        }
    }

    pub(super) fn clear_rules(&mut self) {
        for rule in &mut self.rules {
            rule.impairment = Impairment::default();
        }
    }

    /// Connections that have sent this are to close.
    pub(super) fn doom(&mut self, pattern: &[u8]) {
        for connection in self.connections.values_mut() {
            connection.doomed |= connection
                .opening
                .windows(pattern.len().max(1))
                .any(|bytes| bytes == pattern);
        }
    }

    fn is_settled(&self) -> bool {
        self.closing
            || self.acknowledged == self.version
                && !self
                    .connections
                    .keys()
                    .any(|connection| self.must_close(*connection))
    }
}

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    version: watch::Sender<u64>,
    settled: Condvar,
}

impl Shared {
    pub(super) fn new(target: SocketAddr) -> Self {
        let state = State {
            target,
            directions: Directions::default(),
            delay: (Duration::ZERO, Duration::ZERO),
            paused: false,
            rate: None,
            fragment: None,
            hold: PerDirection::default(),
            black_hole: false,
            refuse: false,
            closing: false,
            generation: 0,
            connections: HashMap::new(),
            rules: Vec::new(),
            stats: RelayStats::default(),
            version: 0,
            acknowledged: 0,
        };
        Self {
            state: Mutex::new(state),
            version: watch::Sender::new(0),
            settled: Condvar::new(),
        }
    }

    /// Looks at the state, or counts in it. Bytes are forwarded within this too, so that a change happens either
    /// before or after a piece, never beside it.
    pub(super) fn with<T>(&self, run: impl FnOnce(&mut State) -> T) -> T {
        run(&mut lock(&self.state))
    }

    /// Changes what the relay does. Connections see it before they forward anything more.
    pub(super) fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = lock(&self.state);
        change(&mut state);
        state.version += 1;
        self.version.send_replace(state.version);
    }

    /// Changes what the relay does, and waits until the connections that must close have closed.
    pub(super) fn change_and_settle(&self, change: impl FnOnce(&mut State)) {
        self.change(change);
        let state = lock(&self.state);
        let waited = self
            .settled
            .wait_timeout_while(state, ACKNOWLEDGE, |state| !state.is_settled());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// The accept loop has acted on this version.
    pub(super) fn acknowledge(&self, version: u64) {
        self.with(|state| state.acknowledged = version);
        self.settled.notify_all();
    }

    /// Counts a connection in, until the registration is dropped. A cut that the accept loop has not acted on yet
    /// applies to it: `generation` is the last one it has.
    pub(super) fn register(self: &Arc<Self>, generation: u64) -> Registration {
        let connection = self.with(|state| {
            state.stats.accepted += 1;
            let connection = ConnectionState {
                generation,
                lost_bytes: false,
                opening: Vec::new(),
                rules: Vec::new(),
                doomed: false,
            };
            state.connections.insert(state.stats.accepted, connection);
            state.stats.accepted
        });
        Registration {
            shared: Arc::clone(self),
            connection,
        }
    }
}

/// A live connection's place in the state.
#[derive(Debug)]
pub(super) struct Registration {
    pub(super) shared: Arc<Shared>,
    pub(super) connection: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.shared
            .with(|state| state.connections.remove(&self.connection));
        self.shared.settled.notify_all();
    }
}
