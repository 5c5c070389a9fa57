//! Accepts connections while the relay does not refuse them.

use std::net::{Ipv4Addr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::connection;
use super::state::Shared;

/// The listening socket, twice: tokio's to wait on, and the same one to empty its queue at once.
struct Listener {
    queue: StdListener,
    listener: TcpListener,
}

impl Listener {
    fn new(listener: StdListener) -> std::io::Result<Self> {
        Ok(Self {
            queue: listener.try_clone()?,
            listener: TcpListener::from_std(listener)?,
        })
    }

    fn bind(port: u16) -> std::io::Result<Self> {
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        Self::new(listener)
    }

    /// Closes the connections that were made and not accepted yet.
    fn drain(&self) {
        while self.queue.accept().is_ok() {}
    }
}

/// Runs the relay until its handle says to close.
pub(super) async fn run(shared: Arc<Shared>, port: u16, listener: StdListener) {
    let mut changes = shared.changes();
    let mut listener = Listener::new(listener).ok();
    let mut generation = 0;
    loop {
        let version = *changes.borrow_and_update();
        let (closing, refuse, wanted) = shared.with(|state| (state.closing, state.refuse, state.generation));
        if closing {
            return;
        }
        if wanted > generation {
            listener.iter().for_each(Listener::drain);
            generation = wanted;
        }
        if refuse {
            listener = None;
        } else if listener.is_none() {
            listener = Listener::bind(port).ok();
        }
        if refuse || listener.is_some() {
            shared.acknowledge(version);
        }
        tokio::select! {
            accepted = accept(listener.as_ref(), refuse) => {
                if let Some(client) = accepted {
                    tokio::spawn(connection::run(client, shared.register(generation)));
                }
            }
            _ = changes.changed() => {}
        }
    }
}

/// The next connection. `None` means that it is time to look again.
async fn accept(listener: Option<&Listener>, refuse: bool) -> Option<TcpStream> {
    match listener {
        Some(listener) => match listener.listener.accept().await {
            Ok((client, _)) => Some(client),
            Err(_) => retry().await,
        },
        None if refuse => std::future::pending().await,
        None => retry().await,
    }
}

/// Out of file descriptors, or the port is not free again yet.
async fn retry() -> Option<TcpStream> {
    tokio::time::sleep(Duration::from_millis(5)).await;
    None
}
