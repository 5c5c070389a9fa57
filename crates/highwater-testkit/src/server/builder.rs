//! What a server is started with.

use std::path::PathBuf;
use std::sync::Mutex;

use super::{Launch, Port, Server, ServerKind, Tls, TlsFiles};
use crate::{Error, Result};

/// Another process may take a port between the moment it is found free and the server's start.
const PORT_ATTEMPTS: usize = 10;

/// What a server is to be started with.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct ServerBuilder {
    kind: Option<ServerKind>,
    arguments: Vec<String>,
    directory: Option<PathBuf>,
    replica_of: Option<(String, u16)>,
    tls: Option<TlsFiles>,
    sentinel: Option<Vec<String>>,
}

impl ServerBuilder {
    /// Which server. The default is [`ServerKind::from_env`].
    pub fn kind(mut self, kind: ServerKind) -> Self {
        self.kind = Some(kind);
        self
    }

    pub(crate) fn kind_or_default(mut self, kind: Option<ServerKind>) -> Self {
        self.kind = kind;
        self
    }

    /// More configuration, as on the command line: `["--maxmemory", "10mb"]`. Comes after the defaults, so it wins.
    pub fn args<I: IntoIterator<Item = S>, S: Into<String>>(mut self, arguments: I) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Keeps the server's data in this directory, which outlives the server. The default is a temporary one, which
    /// lives as long as the [`Server`] and thus over restarts.
    pub fn data_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Starts it, and every restart of it, as a replica of this primary.
    pub fn replica_of(mut self, host: impl Into<String>, port: u16) -> Self {
        self.replica_of = Some((host.into(), port));
        self
    }

    /// Serves TLS too, on a port of its own: [`Server::tls_port`]. It asks clients for a certificate, unless
    /// [`args`](Self::args) say `--tls-auth-clients no`. Not every build can: [`ServerKind::has_tls`].
    pub fn tls(mut self, files: TlsFiles) -> Self {
        self.tls = Some(files);
        self
    }

    /// Makes it a sentinel, with these lines of configuration: `sentinel monitor mymaster 127.0.0.1 6379 2`.
    /// Restarts keep what it has learnt. Of [`args`](Self::args), nothing is used.
    pub fn sentinel<I: IntoIterator<Item = S>, S: Into<String>>(mut self, lines: I) -> Self {
        self.sentinel = Some(lines.into_iter().map(Into::into).collect());
        self
    }

    /// Starts the server, and returns when it answers.
    ///
    /// # Errors
    ///
    /// If the program is missing or does not come up; then the error has the tail of its log.
    pub fn start(self) -> Result<Server> {
        let kind = self.kind.map_or_else(ServerKind::from_env, Ok)?;
        let program = kind.binary()?;
        let scratch = tempfile::Builder::new()
            .prefix("highwater-server-")
            .tempdir()
            .map_err(|error| Error::io("can't make a temporary directory", error))?;
        let mut server = Server {
            kind,
            program,
            port: Port::reserve()?,
            directory: self.directory.unwrap_or_else(|| scratch.path().to_owned()),
            replica_of: self.replica_of,
            sentinel: self.sentinel,
            tls: match self.tls {
                None => None,
                Some(files) => Some(Tls {
                    port: Port::reserve()?,
                    files,
                }),
            },
            arguments: Mutex::new(self.arguments),
            process: Mutex::new(None),
            control: Mutex::new(None),
            scratch,
        };
        for _ in 1..PORT_ATTEMPTS {
            match server.launch() {
                Err(Launch::PortTaken) => {
                    server.port = Port::reserve()?;
                    // It names the port.
                    drop(std::fs::remove_file(server.sentinel_file()));
                    if let Some(tls) = &mut server.tls {
                        tls.port = Port::reserve()?;
                    }
                }
                other => return other.map_err(|failure| server.explain(failure)).map(|()| server),
            }
        }
        server
            .launch()
            .map_err(|failure| server.explain(failure))
            .map(|()| server)
    }
}
