//! A TCP relay with faults, for the link between a primary and a replica, or between a client and a server.
//!
//! A relay runs on a thread of its own with its own runtime, so it keeps its timing whatever the test's runtime does.
//! It is controlled through a [`RelayHandle`]. Controls act on live connections at once: when a call returns, what it
//! forbids has stopped. Buffers are bounded, and a relay that holds back for long pushes back on the sender.
//!
//! Timers have a resolution of a millisecond.

mod connection;
mod handle;
mod hold;
mod listener;
mod pump;
mod state;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

pub use self::handle::RelayHandle;
use self::state::Shared;
pub use self::state::{Direction, Directions, Impairment, PerDirection, RelayStats};
use crate::server::Port;
use crate::{Error, Result};

/// A TCP relay from a loopback port to a target. Dropping it closes everything.
///
/// It dereferences to its [`RelayHandle`], which has the controls.
#[derive(Debug)]
pub struct Relay {
    handle: RelayHandle,
    thread: Option<JoinHandle<()>>,
    _port: Port,
}

impl Relay {
    /// Starts a relay to `target`, which need not listen yet.
    ///
    /// # Errors
    ///
    /// If there is no free port or no thread.
    pub fn start(target: SocketAddr) -> Result<Self> {
        let failed = |error| Error::io("can't start a relay", error);
        let (port, listener) = Port::listen()?;
        listener.set_nonblocking(true).map_err(failed)?;
        let shared = Arc::new(Shared::new(target));
        let handle = RelayHandle::new(Arc::clone(&shared), port.number());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let number = port.number();
        let thread = std::thread::Builder::new()
            .name(format!("relay-{number}"))
            .spawn(move || runtime.block_on(listener::run(shared, number, listener)))
            .map_err(failed)?;
        Ok(Self {
            handle,
            thread: Some(thread),
            _port: port,
        })
    }

    /// A cheap handle to control it from anywhere.
    #[must_use]
    pub fn handle(&self) -> RelayHandle {
        self.handle.clone()
    }
}

impl std::ops::Deref for Relay {
    type Target = RelayHandle;

    fn deref(&self) -> &RelayHandle {
        &self.handle
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
