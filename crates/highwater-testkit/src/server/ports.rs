//! Free loopback ports.
//!
//! They are taken from below the range in which the kernel picks ports for outgoing connections. Otherwise, while a
//! server is down, one of the many connections to it could be given its port: the restart would fail, or worse, a
//! connection to a port nobody listens on can connect to itself.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{LazyLock, Mutex};

use crate::{Error, ErrorKind, Result, lock};

/// Leaves room for the cluster bus at 10,000 more, still below the usual ephemeral range from 32,768.
const RANGE: std::ops::Range<u16> = 10_000..22_000;
const ATTEMPTS: usize = 1_000;

/// Ports in use by this process's servers and relays, also while these are down.
static RESERVED: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// A port that is this process's until dropped.
#[derive(Debug)]
pub(crate) struct Port(u16);

impl Port {
    /// Reserves a port that nobody listens on at this moment, and returns a listener on it too.
    pub(crate) fn listen() -> Result<(Self, TcpListener)> {
        for _ in 0..ATTEMPTS {
            let number = fastrand::u16(RANGE);
            if !lock(&RESERVED).insert(number) {
                continue;
            }
            let port = Self(number);
            if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, number)) {
                return Ok((port, listener));
            }
        }
        Err(Error::new(
            ErrorKind::Start,
            format!("no free port on 127.0.0.1 in {RANGE:?}: stop what listens there"),
        ))
    }

    /// Reserves a port that nobody listens on at this moment. Another process may still be faster.
    pub(crate) fn reserve() -> Result<Self> {
        Self::listen().map(|(port, _)| port)
    }

    pub(crate) fn number(&self) -> u16 {
        self.0
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        lock(&RESERVED).remove(&self.0);
    }
}
