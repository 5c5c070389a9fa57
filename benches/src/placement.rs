//! On which cores the client and the servers run.
//!
//! Threads and processes inherit the affinity of the thread that starts them. So the servers are started under
//! theirs, and then this thread takes the client's, before it makes its runtime.

use clap::ValueEnum;
use serde::Serialize;

/// On which cores the client and the servers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// Wherever the kernel puts them.
    Unpinned,
    /// Client and servers together on one core.
    OneCore,
    /// The client on one core, the servers on all others.
    Apart,
}

impl Placement {
    /// As it is called in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unpinned => "unpinned",
            Self::OneCore => "all on one core",
            Self::Apart => "client and servers on different cores",
        }
    }
}

/// The cores that this process may use.
#[derive(Clone, Debug)]
pub struct Cores(Vec<usize>);

/// Who is to run next.
#[derive(Clone, Copy, Debug)]
pub enum Who {
    /// The measuring process.
    Client,
    /// The servers, which are about to be started.
    Servers,
}

impl Cores {
    /// How many the client has.
    #[must_use]
    pub fn of_client(&self, placement: Placement) -> usize {
        self.choose(placement, Who::Client).len()
    }

    fn choose(&self, placement: Placement, who: Who) -> &[usize] {
        let (first, others) = self.0.split_at(1.min(self.0.len()));
        match (placement, who) {
            (Placement::Unpinned, _) => &self.0,
            (Placement::OneCore, _) | (Placement::Apart, Who::Client) => first,
            // On a machine with one core there are no others.
            (Placement::Apart, Who::Servers) if others.is_empty() => first,
            (Placement::Apart, Who::Servers) => others,
        }
    }
}

#[cfg(target_os = "linux")]
mod system {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    use super::{Cores, Placement, Who};

    impl Cores {
        /// Those of this thread.
        #[must_use]
        pub fn find() -> Self {
            let allowed = sched_getaffinity(None).expect("the cores of this process");
            Self(
                (0..CpuSet::MAX_CPU)
                    .filter(|core| allowed.is_set(*core))
                    .collect(),
            )
        }

        /// Moves this thread, and all that it starts from now on.
        pub fn take(&self, placement: Placement, who: Who) {
            let mut set = CpuSet::new();
            for core in self.choose(placement, who) {
                set.set(*core);
            }
            sched_setaffinity(None, &set).expect("these cores are ours");
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::{Cores, Placement, Who};

    impl Cores {
        /// As many as there are.
        #[must_use]
        pub fn find() -> Self {
            Self((0..std::thread::available_parallelism().map_or(1, usize::from)).collect())
        }

        /// Only Linux can.
        pub fn take(&self, placement: Placement, _: Who) {
            assert_eq!(
                placement,
                Placement::Unpinned,
                "pinning needs Linux: use --unpinned"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_and_servers_share_or_don_t() {
        let two = Cores(vec![2, 5]);
        assert_eq!(two.choose(Placement::Unpinned, Who::Client), [2, 5]);
        assert_eq!(two.choose(Placement::OneCore, Who::Servers), [2]);
        assert_eq!(two.choose(Placement::Apart, Who::Client), [2]);
        assert_eq!(two.choose(Placement::Apart, Who::Servers), [5]);
        let one = Cores(vec![3]);
        assert_eq!(one.choose(Placement::Apart, Who::Servers), [3]);
    }
}
