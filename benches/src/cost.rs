//! What the processes used of the processors.

use std::{fs, time::Duration};

use highwater_testkit::{Server, Topology};
use rustix::time::{ClockId, clock_gettime};

/// Processor time since each process began.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    /// This process, without the relays between the servers, which run in it.
    pub client: Duration,
    /// The primary.
    pub primary: Duration,
    /// All replicas.
    pub replicas: Duration,
}

impl Used {
    /// Up to now.
    #[must_use]
    pub fn now(topology: &Topology) -> Self {
        Self {
            client: process().saturating_sub(relays()),
            primary: server(topology.primary()),
            replicas: topology.replicas().map(server).sum(),
        }
    }

    /// Since then.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            client: self.client.saturating_sub(earlier.client),
            primary: self.primary.saturating_sub(earlier.primary),
            replicas: self.replicas.saturating_sub(earlier.replicas),
        }
    }
}

fn process() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).expect("a clock that goes forward")
}

/// Of the relays' threads. Only Linux says; elsewhere they count as the client.
fn relays() -> Duration {
    let Ok(threads) = fs::read_dir("/proc/self/task") else {
        return Duration::ZERO;
    };
    let used = |thread: fs::DirEntry| {
        let name = fs::read_to_string(thread.path().join("comm")).ok()?;
        if !name.starts_with("relay-") {
            return None;
        }
        // Nanoseconds on a core, nanoseconds in wait for one, time slices.
        let line = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(threads.flatten().filter_map(used).sum())
}

fn server(server: &Server) -> Duration {
    let reply = server.command(&["INFO", "cpu"]).expect("INFO cpu");
    let text = reply.text().expect("a text");
    let field = |name: &str| {
        text.lines()
            .find_map(|line| {
                line.strip_prefix(name)?
                    .strip_prefix(':')?
                    .trim_end()
                    .parse()
                    .ok()
            })
            .map(Duration::from_secs_f64)
            .expect("a server says what it used")
    };
    field("used_cpu_sys") + field("used_cpu_user")
}
