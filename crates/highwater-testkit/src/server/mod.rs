//! One running `redis-server` or `valkey-server` process on a free loopback port.

mod binary;
mod builder;
mod ports;
mod supervisor;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub use self::binary::ServerKind;
pub use self::builder::ServerBuilder;
pub(crate) use self::ports::Port;
use self::supervisor::Supervisor;
use crate::{Control, Error, ErrorKind, InfoReplication, Mark, Reply, Result, lock};

const START_DEADLINE: Duration = Duration::from_secs(20);
const LOG_TAIL_LINES: usize = 20;

/// Why a process did not become a server that answers.
enum Launch {
    PortTaken,
    Ended,
    Silent,
    Other(Error),
}

/// The files of a server that serves TLS, all PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The server's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The certificate authority that clients' certificates must be of.
    pub authority: PathBuf,
}

#[derive(Debug)]
struct Tls {
    port: Port,
    files: TlsFiles,
}

/// One running server process, killed when dropped and also when this process dies.
///
/// Every method takes `&self`, so that a test can break a server while others use it.
#[derive(Debug)]
pub struct Server {
    kind: ServerKind,
    program: PathBuf,
    port: Port,
    directory: PathBuf,
    replica_of: Option<(String, u16)>,
    /// A sentinel's own lines of configuration.
    sentinel: Option<Vec<String>>,
    tls: Option<Tls>,
    arguments: Mutex<Vec<String>>,
    control: Mutex<Option<Control>>,
    // The process goes before the directory that it writes to: fields are dropped in this order.
    process: Mutex<Option<Supervisor>>,
    scratch: TempDir,
}

impl Server {
    /// A builder with the defaults: no persistence, loopback only, full syncs without delay.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// Starts a server with the defaults.
    ///
    /// # Errors
    ///
    /// As for [`ServerBuilder::start`].
    pub fn start() -> Result<Self> {
        Self::builder().start()
    }

    /// Which server it is.
    #[must_use]
    pub fn kind(&self) -> ServerKind {
        self.kind
    }

    /// The port it listens on at 127.0.0.1. Restarts keep it.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The port at 127.0.0.1 on which it serves TLS, if it does. Restarts keep it.
    #[must_use]
    pub fn tls_port(&self) -> Option<u16> {
        self.tls.as_ref().map(|tls| tls.port.number())
    }

    /// `redis://127.0.0.1:PORT`
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port())
    }

    /// `127.0.0.1:PORT`
    #[must_use]
    pub fn addr(&self) -> std::net::SocketAddr {
        (std::net::Ipv4Addr::LOCALHOST, self.port()).into()
    }

    /// The server's process ID, or `None` after [`kill`](Self::kill).
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        lock(&self.process).as_ref().map(Supervisor::pid)
    }

    /// Where it keeps its data.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.directory
    }

    /// The last lines of the server's log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = std::fs::read(self.log_file()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines
            .get(lines.len().saturating_sub(LOG_TAIL_LINES)..)
            .unwrap_or_default()
            .join("\n")
    }

    /// Freezes the process (SIGSTOP): connections stay open and nothing answers. Returns when it stands still.
    ///
    /// # Errors
    ///
    /// If it is not running.
    pub fn pause(&self) -> Result<()> {
        self.with_process(Supervisor::pause)
    }

    /// Lets a frozen process go on (SIGCONT).
    ///
    /// # Errors
    ///
    /// If it is not running.
    pub fn resume(&self) -> Result<()> {
        self.with_process(Supervisor::resume)
    }

    /// Kills the process (SIGKILL) and returns when it is gone. Nothing happens if it is not running.
    pub fn kill(&self) {
        // Not under the lock, and without a look at the control connection, which another thread may wait on.
        let process = lock(&self.process).take();
        drop(process);
    }

    /// Shuts the server down in order, saving its data and replication position to the data directory, and returns
    /// when it is gone. A [`restart`](Self::restart) after this keeps the data and the numbering of offsets.
    ///
    /// # Errors
    ///
    /// If it refuses to, or is still running after a few seconds.
    pub fn shutdown_with_save(&self) -> Result<()> {
        match self.command(&["SHUTDOWN", "SAVE"]) {
            // It leaves without a word.
            Err(error) if error.kind() == ErrorKind::Io => {}
            Err(error) => return Err(error),
            Ok(reply) => {
                return Err(Error::new(
                    ErrorKind::Protocol,
                    format!("SHUTDOWN was answered {reply:?}"),
                ));
            }
        }
        crate::wait_until(Duration::from_secs(10), "the server has shut down", || {
            Control::connect(self.port()).is_err()
                || lock(&self.process).as_ref().is_none_or(Supervisor::has_ended)
        })?;
        self.kill();
        Ok(())
    }

    /// Kills the process if it is running, and starts it again: same port, same data directory, same arguments.
    /// It is again the replica that its builder made it, whatever REPLICAOF it was sent since.
    ///
    /// # Errors
    ///
    /// If it does not come up; then the error has the tail of its log.
    pub fn restart(&self) -> Result<()> {
        self.kill();
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            match self.launch() {
                Err(Launch::PortTaken) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                other => return other.map_err(|failure| self.explain(failure)),
            }
        }
    }

    /// As [`restart`](Self::restart), with other extra arguments from now on.
    ///
    /// # Errors
    ///
    /// If it does not come up; then the error has the tail of its log.
    pub fn restart_with<I: IntoIterator<Item = S>, S: Into<String>>(&self, arguments: I) -> Result<()> {
        *lock(&self.arguments) = arguments.into_iter().map(Into::into).collect();
        self.restart()
    }

    /// A connection of its own for test control.
    ///
    /// # Errors
    ///
    /// If the server does not accept one.
    pub fn connect(&self) -> Result<Control> {
        Control::connect(self.port())
    }

    /// Sends one command over a control connection that is kept, and returns the reply.
    ///
    /// # Errors
    ///
    /// If the server can't be reached, takes too long, or answers with an error: [`Error::reply`] has its text.
    pub fn command<A: AsRef<[u8]>>(&self, arguments: &[A]) -> Result<Reply> {
        self.with_control(|control| control.command(arguments))
    }

    /// Whether it has a command of this name: older releases lack some that a test may want.
    ///
    /// # Errors
    ///
    /// As for [`command`](Self::command).
    pub fn knows(&self, command: &str) -> Result<bool> {
        let known = self.command(&["COMMAND", "INFO", command])?;
        Ok(known
            .array()
            .is_some_and(|known| known.iter().any(|one| *one != Reply::Nil)))
    }

    /// `INFO replication`, parsed.
    ///
    /// # Errors
    ///
    /// As for [`command`](Self::command).
    pub fn info_replication(&self) -> Result<InfoReplication> {
        self.with_control(Control::info_replication)
    }

    /// Where this server is now: its history and the offset that it has applied. On a primary that is at or past
    /// every write that was acknowledged before.
    ///
    /// # Errors
    ///
    /// As for [`command`](Self::command).
    pub fn mark(&self) -> Result<Mark> {
        self.info_replication().map(|info| info.mark())
    }

    /// Makes it a replica of another server, until told otherwise or restarted.
    ///
    /// # Errors
    ///
    /// As for [`command`](Self::command).
    pub fn replicaof(&self, host: &str, port: u16) -> Result<()> {
        self.command(&["REPLICAOF", host, &port.to_string()]).map(drop)
    }

    /// Makes it a primary, until told otherwise or restarted.
    ///
    /// # Errors
    ///
    /// As for [`command`](Self::command).
    pub fn replicaof_no_one(&self) -> Result<()> {
        self.command(&["REPLICAOF", "NO", "ONE"]).map(drop)
    }

    /// Polls `INFO replication` until `condition` holds for it. A server that does not answer is asked again.
    ///
    /// # Errors
    ///
    /// A timeout that names `what` and shows the last INFO, if it does not hold in time.
    pub fn wait_for(
        &self,
        within: Duration,
        what: &str,
        mut condition: impl FnMut(&InfoReplication) -> bool,
    ) -> Result<()> {
        let mut last = None;
        crate::wait_until(within, what, || {
            let info = self.info_replication();
            let holds = info.as_ref().is_ok_and(&mut condition);
            last = Some(info);
            holds
        })
        .map_err(|error| Error::new(error.kind(), format!("{error}; port {}: {last:?}", self.port())))
    }

    fn with_control<T>(&self, run: impl FnOnce(&mut Control) -> Result<T>) -> Result<T> {
        let mut slot = lock(&self.control);
        let mut control = match slot.take().filter(Control::is_usable) {
            Some(control) => control,
            None => self.connect()?,
        };
        let result = run(&mut control);
        // After anything but a reply the connection may be in the middle of one.
        if result
            .as_ref()
            .err()
            .is_none_or(|error| error.kind() == ErrorKind::Reply)
        {
            *slot = Some(control);
        }
        result
    }

    fn with_process<T>(&self, run: impl FnOnce(&Supervisor) -> Result<T>) -> Result<T> {
        match lock(&self.process).as_ref() {
            Some(process) => run(process),
            None => Err(Error::new(
                ErrorKind::Usage,
                "the server is not running: restart() it first",
            )),
        }
    }

    fn log_file(&self) -> PathBuf {
        self.scratch.path().join("server.log")
    }

    fn launch(&self) -> Result<(), Launch> {
        let log_before = std::fs::metadata(self.log_file()).map_or(0, |log| log.len());
        self.configure_sentinel().map_err(Launch::Other)?;
        let process = Supervisor::start(
            &self.program,
            &self.command_line(),
            &self.log_file(),
            self.scratch.path(),
        )
        .map_err(Launch::Other)?;
        let deadline = Instant::now() + START_DEADLINE;
        while Instant::now() < deadline {
            if self.is_answered_by(process.pid()) {
                *lock(&self.process) = Some(process);
                return Ok(());
            }
            if self.port_was_taken(log_before) {
                return Err(Launch::PortTaken);
            }
            if process.has_ended() {
                // Once more: it may have written why between the two looks.
                let taken = self.port_was_taken(log_before);
                return Err(if taken { Launch::PortTaken } else { Launch::Ended });
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Err(Launch::Silent)
    }

    /// Whether the port is answered, by this process and not by another that was faster, and the data is loaded.
    fn is_answered_by(&self, pid: u32) -> bool {
        let Ok(mut control) = Control::connect_with(self.port(), Duration::from_secs(1)) else {
            return false;
        };
        let Ok(info) = control.command(&["INFO", "server"]) else {
            return false;
        };
        let ours = format!("process_id:{pid}");
        info.text()
            .is_some_and(|text| text.lines().any(|line| line.trim_end() == ours))
            && control.command(&["PING"]).is_ok()
    }

    fn port_was_taken(&self, log_before: u64) -> bool {
        let log = std::fs::read(self.log_file()).unwrap_or_default();
        let skip = usize::try_from(log_before).unwrap_or(usize::MAX);
        let log = String::from_utf8_lossy(log.get(skip..).unwrap_or_default());
        log.contains("Address already in use")
    }

    fn sentinel_file(&self) -> PathBuf {
        self.directory.join("sentinel.conf")
    }

    /// Writes the file that a sentinel keeps what it learns in, if there is none yet.
    fn configure_sentinel(&self) -> Result<()> {
        let file = self.sentinel_file();
        let Some(lines) = self.sentinel.as_ref().filter(|_| !file.exists()) else {
            return Ok(());
        };
        let mut text = format!(
            "port {}\nbind 127.0.0.1\nprotected-mode no\ndaemonize no\ndir \"{}\"\n",
            self.port(),
            self.directory.display()
        );
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        std::fs::write(&file, text)
            .map_err(|error| Error::io("can't write a sentinel's configuration", error))
    }

    fn command_line(&self) -> Vec<OsString> {
        if self.sentinel.is_some() {
            return vec![self.sentinel_file().into(), "--sentinel".into()];
        }
        let port = self.port().to_string();
        let mut line: Vec<OsString> = [
            "--port",
            &port,
            "--bind",
            "127.0.0.1",
            "--protected-mode",
            "no",
            "--daemonize",
            "no",
            "--save",
            "",
            "--appendonly",
            "no",
            "--repl-diskless-sync-delay",
            "0",
            "--dir",
        ]
        .map(OsString::from)
        .into();
        line.push(self.directory.clone().into());
        if let Some((host, port)) = &self.replica_of {
            line.extend(["--replicaof".into(), host.into(), port.to_string().into()]);
        }
        if let Some(Tls { port, files }) = &self.tls {
            line.extend(["--tls-port".into(), port.number().to_string().into()]);
            for (option, file) in [
                ("--tls-cert-file", &files.certificate),
                ("--tls-key-file", &files.key),
                ("--tls-ca-cert-file", &files.authority),
            ] {
                line.extend([option.into(), file.into()]);
            }
        }
        line.extend(lock(&self.arguments).iter().map(OsString::from));
        line
    }

    fn explain(&self, failure: Launch) -> Error {
        let what = match failure {
            Launch::PortTaken => format!(
                "port {} stays taken by another process: stop that one",
                self.port()
            ),
            Launch::Ended => "it ended at once: correct what its log names".to_owned(),
            Launch::Silent => format!("no answer within {START_DEADLINE:?}: see its log"),
            Launch::Other(error) => return error,
        };
        let program = self.program.display();
        Error::new(
            ErrorKind::Start,
            format!("{program} did not start, {what}\n{}", self.log_tail()),
        )
    }
}
