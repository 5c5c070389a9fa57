//! A scripted peer: what a real server would rarely do, on demand.
//!
//! It listens on loopback, introduces itself as a server does, and from then on puts on the wire what its script says:
//! replies, pushes, errors, halves of them, or the end of the connection. It is for properties of the driver of
//! connections, which no server can be made to meet: *that* servers behave in a certain way, it shows nothing of.
//!
//! ```
//! use highwater_testkit::{Peer, Play, Request, Script};
//!
//! /// Says its name, in pieces.
//! struct Parrot;
//!
//! impl Script for Parrot {
//!     fn info(&mut self) -> String {
//!         highwater_testkit::primary_info("8371445ab47aefbc94b3e4bbbd7db4ca1d2c0b1c", 100)
//!     }
//!
//!     fn answer(&mut self, _: usize, request: &Request) -> Vec<Play> {
//!         match request.name().as_str() {
//!             "INFO" => vec![Play::bulk(&self.info())],
//!             _ => vec![Play::bytes("+par"), Play::Breath(1), Play::bytes("rot\r\n")],
//!         }
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> highwater_testkit::Result<()> {
//! let peer = Peer::start(Parrot).await?;
//! println!("listening at {}", peer.url());
//! # Ok(())
//! # }
//! ```

mod connection;
mod greeting;
mod request;

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};

pub use self::{
    greeting::{primary_info, replica_info},
    request::Request,
};
use crate::{Error, Result, lock};

/// What a [`Peer`] says. One script serves all connections of a peer.
pub trait Script: Send + 'static {
    /// What `INFO replication` says while a connection introduces itself.
    fn info(&mut self) -> String;

    /// What a request is answered with, once the connection has been introduced: from the second
    /// `INFO replication` on. What remains of an introduction after that (`COMMAND`) is answered honestly.
    fn answer(&mut self, connection: usize, request: &Request) -> Vec<Play>;

    /// What a request of an introduction is answered with, where not honestly.
    fn greet(&mut self, connection: usize, request: &Request) -> Option<Vec<Play>> {
        let _ = (connection, request);
        None
    }

    /// A connection has ended, by whichever side.
    fn ended(&mut self, connection: usize) {
        let _ = connection;
    }

    /// False: it knows no `HELLO`, so that RESP2 is spoken.
    fn speaks_resp3(&self) -> bool {
        true
    }
}

/// One thing that a peer does on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Play {
    /// Writes bytes.
    Bytes(Vec<u8>),
    /// Lets the other tasks have so many turns, so that what was written is read by itself and more requests come in.
    Breath(u32),
    /// Ends the connection after what was written.
    End,
    /// Ends the connection by a reset, which can overtake what was written.
    Reset,
}

impl Play {
    /// Writes bytes.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Bytes(bytes.into())
    }

    /// Writes a bulk string.
    #[must_use]
    pub fn bulk(text: &str) -> Self {
        Self::Bytes(format!("${}\r\n{text}\r\n", text.len()).into_bytes())
    }

    /// Writes an error.
    #[must_use]
    pub fn error(text: &str) -> Self {
        Self::Bytes(format!("-{text}\r\n").into_bytes())
    }
}

/// A listening peer. Dropped, it is gone with all of its connections.
pub struct Peer<S> {
    address: SocketAddr,
    shared: Arc<Shared<S>>,
    task: JoinHandle<()>,
}

struct Shared<S> {
    script: Mutex<S>,
    accepted: AtomicUsize,
    introduced: AtomicUsize,
}

impl<S: Script> Peer<S> {
    /// Listens on a port of loopback; the peer lives on the runtime that this is called on.
    ///
    /// # Errors
    ///
    /// When there is no port to be had.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing.
    pub async fn start(script: S) -> Result<Self> {
        let failed = |error| Error::io("a scripted peer can't listen", error);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared {
            script: Mutex::new(script),
            accepted: AtomicUsize::new(0),
            introduced: AtomicUsize::new(0),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            task,
        })
    }

    /// Where it listens, as a client takes it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// How many connections have been accepted so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// How many of them have been introduced.
    #[must_use]
    pub fn introduced(&self) -> usize {
        self.shared.introduced.load(Ordering::Relaxed)
    }

    /// Looks at the script, or changes it.
    pub fn script<T>(&self, look: impl FnOnce(&mut S) -> T) -> T {
        look(&mut lock(&self.shared.script))
    }
}

impl<S> Drop for Peer<S> {
    fn drop(&mut self) {
        // The connections are the task's.
        self.task.abort();
    }
}

impl<S> fmt::Debug for Peer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

async fn accept<S: Script>(listener: TcpListener, shared: Arc<Shared<S>>) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let number = shared.accepted.fetch_add(1, Ordering::Relaxed);
        connections.spawn(connection::serve(socket, number, Arc::clone(&shared)));
        // What has ended is forgotten.
        while connections.try_join_next().is_some() {}
    }
}
