//! The controls of a relay.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use super::hold::Point;
use super::state::{Direction, Directions, Fragment, Impairment, RelayStats, Shared};

/// Controls a [`Relay`](super::Relay). Cheap to clone; does nothing once the relay is gone.
///
/// Delay, jitter, pause and rate apply to the ways set by [`impair`](Self::impair): by default only from the target to
/// the client, which on a replication link is from the primary to the replica.
#[derive(Debug, Clone)]
pub struct RelayHandle {
    shared: Arc<Shared>,
    port: u16,
}

impl RelayHandle {
    pub(super) fn new(shared: Arc<Shared>, port: u16) -> Self {
        Self { shared, port }
    }

    pub(super) fn close(&self) {
        self.shared.change(|state| state.closing = true);
    }

    /// The port it listens on at 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:PORT`
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// `redis://127.0.0.1:PORT`, for a client that is to go through this relay.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Where new connections go to.
    #[must_use]
    pub fn target(&self) -> SocketAddr {
        self.shared.with(|state| state.target)
    }

    /// Sends new connections elsewhere. Live ones stay: [`cut`](Self::cut) them to move them.
    pub fn set_target(&self, target: SocketAddr) {
        self.shared.change(|state| state.target = target);
    }

    /// Chooses the ways that delay, jitter, pause and rate apply to.
    pub fn impair(&self, directions: Directions) {
        self.shared.change(|state| state.directions = directions);
    }

    /// Passes each chunk on this long after it was received, in order. Throughput is kept, up to a buffer of
    /// 16 MiB a connection. Applies to what is already waiting, too.
    pub fn set_delay(&self, delay: Duration) {
        self.set_jitter(delay, delay);
    }

    /// Delays each chunk by a random time between `min` and `max`, in order.
    pub fn set_jitter(&self, min: Duration, max: Duration) {
        self.shared.change(|state| state.delay = (min, max.max(min)));
    }

    /// Stops passing bytes on and keeps connections open. Nothing is lost.
    pub fn pause(&self) {
        self.shared.change(|state| state.paused = true);
    }

    /// Ends a [`pause`](Self::pause).
    pub fn resume(&self) {
        self.shared.change(|state| state.paused = false);
    }

    /// Passes on at most so many bytes a second on each connection; `None` is without limit, and so is 0.
    pub fn set_rate(&self, bytes_per_second: Option<u64>) {
        self.shared
            .change(|state| state.rate = bytes_per_second.and_then(NonZeroU64::new));
    }

    /// Closes the connections that are live. New ones are accepted. Returns when they are closed.
    pub fn cut(&self) {
        self.shared.change_and_settle(|state| state.generation += 1);
    }

    /// With `true`: closes the connections that are live, and refuses new ones, as if nothing listened here.
    /// With `false`: listens again. Returns when that is done.
    pub fn refuse(&self, refuse: bool) {
        self.shared.change_and_settle(|state| {
            state.refuse = refuse;
            state.generation += u64::from(refuse);
        });
    }

    /// With `true`: swallows every byte and every close, both ways; connections stay open. With `false`: passes bytes
    /// on again, and closes the connections that have lost some, as their streams have holes.
    pub fn black_hole(&self, black_hole: bool) {
        self.shared
            .change_and_settle(|state| state.black_hole = black_hole);
    }

    /// Passes bytes on in pieces of at most `max_bytes`, with a gap after each, both ways.
    pub fn fragment(&self, max_bytes: usize, gap: Duration) {
        self.shared.change(|state| {
            state.fragment = Some(Fragment {
                max_bytes: max_bytes.max(1),
                gap,
            });
        });
    }

    /// Ends [`fragment`](Self::fragment).
    pub fn defragment(&self) {
        self.shared.change(|state| state.fragment = None);
    }

    /// On each connection lets `bytes` more bytes through to the target and holds all the rest until
    /// [`release`](Self::release).
    pub fn hold_after(&self, bytes: usize) {
        self.hold(Direction::ToTarget, Point::Bytes(bytes));
    }

    /// As [`hold_after`](Self::hold_after), on the way to the client.
    pub fn hold_replies_after(&self, bytes: usize) {
        self.hold(Direction::ToClient, Point::Bytes(bytes));
    }

    /// On each connection, once the bytes of `pattern` have gone through to the target, holds all that follows them
    /// until [`release`](Self::release). The pattern counts only if all of it passes after this call.
    pub fn hold_when(&self, pattern: impl Into<Vec<u8>>) {
        self.hold(Direction::ToTarget, Point::Pattern(pattern.into().into()));
    }

    /// As [`hold_when`](Self::hold_when), on the way to the client.
    pub fn hold_replies_when(&self, pattern: impl Into<Vec<u8>>) {
        self.hold(Direction::ToClient, Point::Pattern(pattern.into().into()));
    }

    /// Whether a connection has reached the place where it is held: the pattern or the last byte allowed has passed.
    #[must_use]
    pub fn held(&self) -> bool {
        self.shared
            .with(|state| state.hold.to_client.held() || state.hold.to_target.held())
    }

    /// Polls until a connection [is held](Self::held), without blocking the runtime.
    ///
    /// # Errors
    ///
    /// A timeout, if none is in time.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: it only looks.
    pub async fn wait_held(&self, within: Duration) -> crate::Result<()> {
        crate::wait_until_async(within, "a relayed connection is held", || self.held()).await
    }

    /// Ends all holds, and lets everything through that waited. A place is not held a second time.
    pub fn release(&self) {
        self.shared.change(|state| {
            state.hold.to_client.set(None);
            state.hold.to_target.set(None);
        });
    }

    /// Back to passing everything on at once: ends every fault, also a hold. Delays become zero.
    pub fn heal(&self) {
        self.shared.change_and_settle(|state| {
            state.delay = (Duration::ZERO, Duration::ZERO);
            state.paused = false;
            state.rate = None;
            state.fragment = None;
            state.hold.to_client.set(None);
            state.hold.to_target.set(None);
            state.black_hole = false;
            state.refuse = false;
            state.clear_rules();
        });
    }

    /// On the way to the client, does this besides to those connections whose clients have sent `pattern` within their
    /// first kilobyte, or will: so a replica's link can be told from all else that goes through the relay of its
    /// primary. Takes the place of what was done to those of the same pattern before. [`heal`](Self::heal) ends it.
    pub fn impair_those(&self, pattern: impl Into<Vec<u8>>, impairment: Impairment) {
        let pattern = pattern.into();
        self.shared.change(|state| state.set_rule(pattern, impairment));
    }

    /// Closes the live connections whose clients have sent `pattern` within their first kilobyte. Returns when they
    /// are closed.
    pub fn cut_those(&self, pattern: impl AsRef<[u8]>) {
        self.shared
            .change_and_settle(|state| state.doom(pattern.as_ref()));
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> RelayStats {
        self.shared.with(|state| RelayStats {
            live: state.connections.len(),
            ..state.stats
        })
    }

    fn hold(&self, direction: Direction, point: Point) {
        self.shared
            .change(|state| state.hold.of_mut(direction).set(Some(point)));
    }
}
