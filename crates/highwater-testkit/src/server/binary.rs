//! Which server program to run, and where it is. `cargo xtask setup` puts it where this looks.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::{Error, ErrorKind, Result};

/// A server that `cargo xtask test` knows by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServerKind {
    /// `redis`: the Redis of the system, whichever release that is.
    Redis,
    /// `valkey`: Valkey.
    Valkey,
    /// `redis-6.2`: the oldest release of Redis that is supported.
    Redis62,
    /// `redis-7.4`: a later release of Redis.
    Redis74,
    /// `redis-8.2`: a recent release of Redis.
    Redis82,
}

impl ServerKind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Redis,
        Self::Valkey,
        Self::Redis62,
        Self::Redis74,
        Self::Redis82,
    ];

    /// What the environment variable `HIGHWATER_SERVER` chooses by name; Redis if it is not set.
    ///
    /// # Errors
    ///
    /// If it is set to anything but a server's name.
    pub fn from_env() -> Result<Self> {
        let Some(name) = std::env::var_os("HIGHWATER_SERVER").filter(|name| !name.is_empty()) else {
            return Ok(Self::Redis);
        };
        name.to_string_lossy().parse().map_err(|error| {
            Error::new(
                ErrorKind::Usage,
                format!("HIGHWATER_SERVER, which need not be set: {error}"),
            )
        })
    }

    /// The name by which people choose it: `redis-6.2`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Valkey => "valkey",
            Self::Redis62 => "redis-6.2",
            Self::Redis74 => "redis-7.4",
            Self::Redis82 => "redis-8.2",
        }
    }

    /// The program's name: `redis-server`, or `redis-server-6.2` of a certain release.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Redis => "redis-server",
            Self::Valkey => "valkey-server",
            Self::Redis62 => "redis-server-6.2",
            Self::Redis74 => "redis-server-7.4",
            Self::Redis82 => "redis-server-8.2",
        }
    }

    /// The environment variable that names its binary.
    fn variable(self) -> &'static str {
        match self {
            Self::Redis => "HIGHWATER_REDIS_SERVER",
            Self::Valkey => "HIGHWATER_VALKEY_SERVER",
            Self::Redis62 => "HIGHWATER_REDIS_6_2_SERVER",
            Self::Redis74 => "HIGHWATER_REDIS_7_4_SERVER",
            Self::Redis82 => "HIGHWATER_REDIS_8_2_SERVER",
        }
    }

    /// The release of this machine's build: major and minor number, (7, 0) of 7.0.15.
    ///
    /// # Errors
    ///
    /// If there is no build, or if it does not say.
    pub fn release(self) -> Result<(u32, u32)> {
        let output = std::process::Command::new(self.binary()?)
            .arg("--version")
            .stdin(std::process::Stdio::null())
            .output()
            .map_err(|error| Error::io(format!("can't run {}", self.program()), error))?;
        let said = String::from_utf8_lossy(&output.stdout);
        // `Redis server v=7.0.15 sha=00000000:0 …`
        let numbers = || {
            let version = said.split_whitespace().find_map(|word| word.strip_prefix("v="))?;
            let mut numbers = version.split('.').map(str::parse);
            Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
        };
        numbers().ok_or_else(|| {
            let message = format!("{} does not say which version it is:\n{said}", self.program());
            Error::new(ErrorKind::Start, message)
        })
    }

    /// The arguments with which a server allows the command DEBUG: before Redis 7 it did so by itself, and
    /// ends at once when it is told to.
    ///
    /// # Errors
    ///
    /// As for [`release`](Self::release).
    pub fn debug_arguments(self) -> Result<Vec<&'static str>> {
        Ok(if self.release()? < (7, 0) {
            Vec::new()
        } else {
            vec!["--enable-debug-command", "yes"]
        })
    }

    /// Whether this machine's build of it can serve TLS.
    ///
    /// # Errors
    ///
    /// If there is no build, or if it says neither.
    pub fn has_tls(self) -> Result<bool> {
        // Without certificates it ends at once, and its log says what it missed first.
        let output = std::process::Command::new(self.binary()?)
            .args([
                "--port",
                "0",
                "--tls-port",
                "1",
                "--daemonize",
                "no",
                "--save",
                "",
            ])
            .stdin(std::process::Stdio::null())
            .output()
            .map_err(|error| Error::io(format!("can't run {}", self.program()), error))?;
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        if said.contains("No tls-cert-file configured") {
            Ok(true)
        } else if said.contains("Missing implement of connection type tls") || said.contains("Bad directive")
        {
            Ok(false)
        } else {
            Err(Error::new(
                ErrorKind::Start,
                format!(
                    "{} does not say whether it can serve TLS:\n{said}",
                    self.program()
                ),
            ))
        }
    }

    /// The server's binary: the path in its variable (`HIGHWATER_REDIS_SERVER`, `HIGHWATER_VALKEY_SERVER`,
    /// `HIGHWATER_REDIS_6_2_SERVER`, …), else the one in `servers/bin` of the workspace's target directory
    /// (`CARGO_TARGET_DIR` if set), else the one on `PATH`.
    ///
    /// # Errors
    ///
    /// If there is none in any of these places.
    pub fn binary(self) -> Result<PathBuf> {
        let (variable, program) = (self.variable(), self.program());
        if let Some(path) = std::env::var_os(variable).filter(|path| !path.is_empty()) {
            let path = PathBuf::from(path);
            return if path.is_file() {
                Ok(path)
            } else {
                Err(missing(format!(
                    "{variable} names {}, which is no file: correct or unset it",
                    path.display()
                )))
            };
        }
        let installed = target_directory().join("servers").join("bin").join(program);
        if installed.is_file() {
            return Ok(installed);
        }
        std::env::var_os("PATH")
            .iter()
            .flat_map(std::env::split_paths)
            .map(|directory| directory.join(program))
            .find(|path| path.is_file())
            .ok_or_else(|| {
                missing(format!(
                    "no {program} found: run `cargo xtask setup --server {}`, or set {variable} to its path \
                     (looked at {} and on PATH)",
                    self.name(),
                    installed.display()
                ))
            })
    }
}

impl FromStr for ServerKind {
    type Err = Error;

    /// Reads a server's [`name`](Self::name).
    fn from_str(name: &str) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|kind| kind.name() == name);
        known.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            let message = format!("there is no server {name:?}: choose one of {names}");
            Error::new(ErrorKind::Usage, message)
        })
    }
}

fn target_directory() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    match std::env::var_os("CARGO_TARGET_DIR").filter(|path| !path.is_empty()) {
        Some(directory) => workspace.join(directory),
        None => workspace.join("target"),
    }
}

fn missing(message: String) -> Error {
    Error::new(ErrorKind::MissingServer, message)
}
