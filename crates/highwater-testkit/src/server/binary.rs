//! Which server program to run, and where it is. `cargo xtask setup` puts it where this looks.

use std::path::{Path, PathBuf};

use crate::{Error, ErrorKind, Result};

/// Redis or Valkey.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServerKind {
    /// `redis-server`
    Redis,
    /// `valkey-server`
    Valkey,
}

impl ServerKind {
    /// What the environment variable `HIGHWATER_SERVER` chooses, `redis` or `valkey`; Redis if it is not set.
    ///
    /// # Errors
    ///
    /// If it is set to anything else.
    pub fn from_env() -> Result<Self> {
        match std::env::var("HIGHWATER_SERVER").as_deref() {
            Err(_) | Ok("" | "redis") => Ok(Self::Redis),
            Ok("valkey") => Ok(Self::Valkey),
            Ok(other) => Err(Error::new(
                ErrorKind::Usage,
                format!("HIGHWATER_SERVER is {other:?}: set it to redis or valkey, or not at all"),
            )),
        }
    }

    /// The program's name.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Redis => "redis-server",
            Self::Valkey => "valkey-server",
        }
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

    /// The server's binary: the path in `HIGHWATER_REDIS_SERVER` or `HIGHWATER_VALKEY_SERVER`, else the one in
    /// `servers/bin` of the workspace's target directory (`CARGO_TARGET_DIR` if set), else the one on `PATH`.
    ///
    /// # Errors
    ///
    /// If there is none in any of these places.
    pub fn binary(self) -> Result<PathBuf> {
        let variable = match self {
            Self::Redis => "HIGHWATER_REDIS_SERVER",
            Self::Valkey => "HIGHWATER_VALKEY_SERVER",
        };
        let program = self.program();
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
                    "no {program} found: run `cargo xtask setup`, or set {variable} to its path \
                     (looked at {} and on PATH)",
                    installed.display()
                ))
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
