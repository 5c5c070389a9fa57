//! The service process under test. It ends when this process does, however that ends.

use std::{net::SocketAddr, process::Stdio, time::Duration};

use highwater_testkit::Topology;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::Error;

const START: Duration = Duration::from_secs(20);
/// Longer than a service takes to drain.
const STOP: Duration = Duration::from_secs(15);

/// How a shop reads its carts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strategy {
    PrimaryOnly,
    ReplicaFirst,
    Highwater,
    HighwaterCache,
}

/// Room for all carts of the demo, many times over.
const CACHE_MIB: &str = "64";

impl Strategy {
    pub(crate) const ALL: [Self; 4] = [
        Self::PrimaryOnly,
        Self::ReplicaFirst,
        Self::Highwater,
        Self::HighwaterCache,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PrimaryOnly => "primary-only",
            Self::ReplicaFirst => "replica-first",
            Self::Highwater => "highwater",
            Self::HighwaterCache => "highwater+cache",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::PrimaryOnly | Self::ReplicaFirst => "plain-cart",
            Self::Highwater | Self::HighwaterCache => "axum-cart",
        }
    }
}

/// A running service, killed when dropped.
#[derive(Debug)]
pub(crate) struct Service {
    program: &'static str,
    child: Child,
    address: SocketAddr,
}

impl Service {
    /// Starts it, from the directory that this program is in, and returns when it listens.
    pub(crate) async fn start(strategy: Strategy, topology: &Topology) -> Result<Self, Error> {
        let program = strategy.program();
        let path = std::env::current_exe()?.with_file_name(program);
        if !path.is_file() {
            let build = "cargo build --release -p highwater-examples --bins";
            return Err(format!("{} is missing: run `{build}`", path.display()).into());
        }
        let mut command = Command::new(path);
        command
            .args(["--listen", "127.0.0.1:0", "--exit-with-stdin"])
            .args(["--primary", &topology.primary().url()]);
        for replica in topology.replicas() {
            command.args(["--replica", &replica.url()]);
        }
        // Signed tokens cost what they cost; the key is a file only until the service has read it.
        let mut key = tempfile::NamedTempFile::new()?;
        if program == "axum-cart" {
            let mut secret = [0; 32];
            getrandom::fill(&mut secret)?;
            std::io::Write::write_all(&mut key, &secret)?;
            command.arg("--token-key-file").arg(key.path());
            if strategy == Strategy::HighwaterCache {
                command.args(["--cache-mib", CACHE_MIB]);
            }
        } else {
            command.args(["--strategy", strategy.name()]);
        }
        let mut child = command
            // Its end tells the service to stop, also when this process is killed.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A ctrl-c in the terminal is for the demo, which then stops the service.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().ok_or("the service has no output")?;
        let mut line = String::new();
        timeout(START, BufReader::new(stdout).read_line(&mut line))
            .await
            .map_err(|_| format!("{program} does not say that it listens"))??;
        let address = line
            .trim_end()
            .strip_prefix("listening on http://")
            .ok_or_else(|| format!("{program} did not start: see what it says above"))?
            .parse()?;
        Ok(Self {
            program,
            child,
            address,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets it drain, and returns when it is gone.
    pub(crate) async fn stop(mut self) -> Result<(), Error> {
        let program = self.program;
        drop(self.child.stdin.take());
        let status = timeout(STOP, self.child.wait())
            .await
            .map_err(|_| format!("{program} does not stop"))??;
        if status.success() {
            Ok(())
        } else {
            Err(format!("{program} ended with {status}").into())
        }
    }
}
