//! Real Redis and Valkey topologies, replication faults and a history checker for `highwater`.
//!
//! Nothing here is a mock, but for one scripted [`Peer`], which tests the driver of connections where no server can be
//! brought to. A [`Server`] is a running `redis-server` or `valkey-server` process, a [`Topology`] is a
//! primary with replicas that replicate through a [`Relay`] each, and a relay can delay, slow, pause, cut, refuse or
//! black-hole the replication stream. A [`Workload`] records what sessions saw, a [`Monitor`] records how far the
//! replicas were meanwhile, and [`check`] says which guarantees were broken and how many reads were at risk at all;
//! [`LevelCheck`] does so for one consistency level.
//!
//! ```no_run
//! use std::time::Duration;
//! use highwater_testkit::Topology;
//!
//! # fn main() -> highwater_testkit::Result<()> {
//! let topology = Topology::builder().replicas(2).start()?;
//! topology.relay(0).pause(); // replica 0 stays where it is, its connection stays up
//! topology.primary().command(&["SET", "greeting", "hello"])?;
//! let mark = topology.primary().mark()?;
//! topology.wait_applied(1, mark, Duration::from_secs(5))?;
//! assert!(!topology.replica(0).info_replication()?.covers(mark));
//! topology.relay(0).resume();
//! topology.wait_applied(0, mark, Duration::from_secs(5))?;
//! # Ok(())
//! # }
//! ```

mod checker;
mod control;
mod error;
mod history;
mod info;
mod mark;
mod monitor;
mod peer;
mod relay;
mod samples;
mod sentinels;
mod server;
mod sweep;
mod topology;
mod wait;
mod workload;

pub use checker::{Level, LevelCheck, Report, RouteCounts, Violation, ViolationKind, check};
pub use control::{Control, Reply};
pub use error::{Error, ErrorKind, Result};
pub use history::{History, Kind, Operation, Outcome, Recorder, Route};
pub use info::{InfoReplication, Role};
pub use mark::{Mark, ReplicationId};
pub use monitor::{Monitor, MonitorBuilder};
pub use peer::{Peer, Play, Request, Script, primary_info, replica_info};
pub use relay::{Direction, Directions, Impairment, PerDirection, Relay, RelayHandle, RelayStats};
pub use samples::{Sample, Samples};
pub use sentinels::{Sentinels, SentinelsBuilder};
pub use server::{Server, ServerBuilder, ServerKind, TlsFiles};
pub use sweep::{Side, sweep};
pub use topology::{Topology, TopologyBuilder};
pub use wait::{wait_until, wait_until_async};
pub use workload::{Functions, ReadReply, Subject, Workload};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also when another thread panicked meanwhile: a failed test must still be able to stop its servers.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
