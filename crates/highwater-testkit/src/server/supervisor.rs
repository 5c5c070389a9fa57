//! A process that dies with us, however we die.
//!
//! Destructors don't run when a test process is killed, and asking the kernel for a signal on the parent's death takes
//! unsafe code. So a few lines of `sh` stand between: they start the server, then read from a pipe whose other end only
//! this process holds. The pipe's end means that we are gone or done, and the server is killed, stopped or not.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::{Error, ErrorKind, Result, wait_until};

/// `$1` is the log, `$2` a scratch directory that goes when this process could not remove it itself, the rest is the
/// command. A line on the pipe before its end means an orderly stop. `wait` before the end, so that the supervisor's
/// own end says that the server is gone.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
log=$1 scratch=$2
shift 2
"$@" </dev/null >>"$log" 2>&1 &
server=$!
echo "$server"
exec >/dev/null 2>&1
if read -r line; then orderly=yes; else orderly=; fi
kill -9 "$server"
wait "$server"
[ -n "$orderly" ] || rm -rf "${scratch:?}"
"#;

/// A running server and the shell that watches over it.
#[derive(Debug)]
pub(super) struct Supervisor {
    shell: Child,
    lifeline: Option<ChildStdin>,
    server: Pid,
}

impl Supervisor {
    /// Starts `program`, with its output appended to `log`. `scratch` is removed if this process dies.
    pub(super) fn start(program: &Path, arguments: &[OsString], log: &Path, scratch: &Path) -> Result<Self> {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "highwater-testkit-supervisor"])
            .args([log, scratch, program])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // A signal to the terminal's process group must not end the supervisor before its server.
            .process_group(0)
            .spawn()
            .map_err(|error| Error::io("can't start sh to supervise a server", error))?;
        let lifeline = shell.stdin.take();
        let mut line = String::new();
        if let Some(output) = shell.stdout.take() {
            BufReader::new(output)
                .read_line(&mut line)
                .map_err(|error| Error::io("can't read from the server's supervisor", error))?;
        }
        match line.trim().parse().ok().and_then(Pid::from_raw) {
            Some(server) => Ok(Self {
                shell,
                lifeline,
                server,
            }),
            None => {
                drop(lifeline);
                drop(shell.wait());
                Err(Error::new(
                    ErrorKind::Start,
                    "the server's supervisor started nothing",
                ))
            }
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.server.as_raw_nonzero().get().unsigned_abs()
    }

    /// Stops the process where it is, and returns once all its threads stand still.
    pub(super) fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        wait_until(Duration::from_secs(5), "the server process is stopped", || {
            self.states()
                .is_none_or(|states| states.iter().all(|state| matches!(state, 'T' | 't' | 'Z' | 'X')))
        })
    }

    pub(super) fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Whether the process has ended by itself. Only known where there is a `/proc`; elsewhere false.
    pub(super) fn has_ended(&self) -> bool {
        self.states()
            .is_some_and(|states| states.iter().all(|state| matches!(state, 'Z' | 'X')))
    }

    /// The state letters of all threads, none of them if the process is gone. `None` where there is no `/proc`.
    fn states(&self) -> Option<Vec<char>> {
        if !Path::new("/proc/self/stat").exists() {
            return None;
        }
        let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", self.pid())) else {
            return Some(Vec::new());
        };
        let state = |thread: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).ok()?;
            // The program's name comes in parentheses and may hold anything.
            stat.rsplit_once(") ")?.1.chars().next()
        };
        Some(threads.flatten().filter_map(state).collect())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        rustix::process::kill_process(self.server, signal).map_err(|error| {
            Error::io(
                format!("can't signal server process {}", self.pid()),
                error.into(),
            )
        })
    }
}

/// Kills the server and returns when it is gone.
impl Drop for Supervisor {
    fn drop(&mut self) {
        if let Some(mut lifeline) = self.lifeline.take() {
            // A failure means that the shell is gone already.
            drop(lifeline.write_all(b"stop\n"));
        }
        drop(self.shell.wait());
    }
}
