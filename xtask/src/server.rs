//! The two servers that highwater is tested against, and where their binaries are looked for.
//!
//! The order is a contract with highwater-testkit: the environment variable, then
//! `<target directory>/servers/bin`, then `PATH`.

use std::{
    env,
    ffi::OsStr,
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    error::Error,
    process::{capture, find_in, is_executable},
    workspace::Workspace,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    Redis,
    Valkey,
}

impl Server {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Valkey => "valkey",
        }
    }

    pub(crate) fn binary(self) -> &'static str {
        match self {
            Self::Redis => "redis-server",
            Self::Valkey => "valkey-server",
        }
    }

    /// The program that is the same file as the server under another name: it looks at the name that
    /// it is called by. Debian ships it apart from the service.
    pub(crate) fn twin(self) -> &'static str {
        match self {
            Self::Redis => "redis-check-rdb",
            Self::Valkey => "valkey-check-rdb",
        }
    }

    /// The variable that names the binary to use.
    pub(crate) fn variable(self) -> &'static str {
        match self {
            Self::Redis => "HIGHWATER_REDIS_SERVER",
            Self::Valkey => "HIGHWATER_VALKEY_SERVER",
        }
    }

    pub(crate) fn parse(name: &str) -> Result<Self, Error> {
        match name {
            "redis" => Ok(Self::Redis),
            "valkey" => Ok(Self::Valkey),
            _ => Err(Error::Usage(format!(
                "--server takes redis or valkey, not `{name}`"
            ))),
        }
    }
}

/// The value of an option `--server` that can also be `all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    Only(Server),
    All,
}

impl Selection {
    pub(crate) fn parse(name: &str) -> Result<Self, Error> {
        match name {
            "all" => Ok(Self::All),
            _ => Server::parse(name)
                .map(Self::Only)
                .map_err(|_| Error::Usage(format!("--server takes redis, valkey or all, not `{name}`"))),
        }
    }
}

/// Which step of the lookup order found a binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Variable,
    Workspace,
    Path,
}

/// A server binary that answers `--version`.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) server: Server,
    pub(crate) path: PathBuf,
    pub(crate) origin: Origin,
    pub(crate) version: Version,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = match self.origin {
            Origin::Variable => self.server.variable(),
            Origin::Workspace => "installed by setup",
            Origin::Path => "from PATH",
        };
        write!(
            f,
            "{}: {} at {} ({origin})",
            self.server.binary(),
            self.version,
            self.path.display()
        )
    }
}

/// What `--version` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    product: String,
    number: String,
}

impl Version {
    /// Reads a line such as `Redis server v=7.0.15 sha=00000000:0 …`.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let product = words.next()?.to_owned();
        let number = words.find_map(|word| word.strip_prefix("v="))?.to_owned();
        Some(Self { product, number })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.product, self.number)
    }
}

/// Finds a server that runs.
///
/// # Errors
///
/// The environment variable names something that is not a working server. Passing over it would test
/// another server than the user asked for.
pub(crate) fn find(server: Server, workspace: &Workspace) -> Result<Option<Found>, Error> {
    let variable = env::var_os(server.variable());
    let path = env::var_os("PATH").unwrap_or_default();
    for (origin, path) in candidates(server, variable.as_deref(), &workspace.server_binaries(), &path) {
        match version(&path) {
            Ok(version) => {
                return Ok(Some(Found {
                    server,
                    path,
                    origin,
                    version,
                }));
            }
            Err(error) if origin == Origin::Variable => {
                let name = server.variable();
                let path = path.display();
                return Err(Error::Failed(format!(
                    "{name} is {path}, which does not run as a server: {error}; correct or unset it"
                )));
            }
            // Not a server that works: the next step, or an installation, replaces it.
            Err(_) => {}
        }
    }
    Ok(None)
}

/// The files to try, in the order of the contract. The variable's is not checked: it must be right.
fn candidates(
    server: Server,
    variable: Option<&OsStr>,
    binaries: &Path,
    path: &OsStr,
) -> Vec<(Origin, PathBuf)> {
    if let Some(file) = variable.filter(|value| !value.is_empty()) {
        // Test binaries run in other directories. A bare name is left to `PATH`.
        let file = Path::new(file);
        let absolute = if file.components().count() > 1 {
            std::path::absolute(file).ok()
        } else {
            None
        };
        return vec![(Origin::Variable, absolute.unwrap_or_else(|| file.to_path_buf()))];
    }
    let own = Some(binaries.join(server.binary())).filter(|file| is_executable(file));
    let own = own.map(|file| (Origin::Workspace, file));
    let installed = find_in(path, server.binary()).map(|file| (Origin::Path, file));
    own.into_iter().chain(installed).collect()
}

/// Asks a binary for its version.
///
/// # Errors
///
/// It does not start, or it does not answer as a server does.
pub(crate) fn version(binary: &Path) -> Result<Version, String> {
    let answer = capture(Command::new(binary).arg("--version"))?;
    Version::parse(&answer).ok_or_else(|| {
        format!(
            "`--version` answered {:?}",
            answer.lines().next().unwrap_or_default()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    /// A directory of the test's own, emptied first.
    fn scratch(name: &str) -> PathBuf {
        let directory = env::temp_dir().join(format!("highwater-xtask-{}-{name}", std::process::id()));
        drop(fs::remove_dir_all(&directory));
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    fn executable(file: &Path) {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "").unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn the_lookup_order_is_variable_then_workspace_then_path() {
        let scratch = scratch("order");
        let (own, installed) = (scratch.join("own"), scratch.join("installed"));
        let path = installed.as_os_str();
        let found = |variable: Option<&str>| candidates(Server::Valkey, variable.map(OsStr::new), &own, path);
        assert_eq!(found(None), []);
        executable(&installed.join("valkey-server"));
        assert_eq!(found(None), [(Origin::Path, installed.join("valkey-server"))]);
        executable(&own.join("valkey-server"));
        assert_eq!(
            found(Some("")),
            [
                (Origin::Workspace, own.join("valkey-server")),
                (Origin::Path, installed.join("valkey-server")),
            ]
        );
        assert_eq!(
            found(Some("/my/own")),
            [(Origin::Variable, PathBuf::from("/my/own"))]
        );
        fs::remove_dir_all(scratch).unwrap();
    }

    #[test]
    fn files_that_cannot_be_executed_are_passed_over() {
        let scratch = scratch("mode");
        fs::write(scratch.join("redis-server"), "").unwrap();
        assert_eq!(candidates(Server::Redis, None, &scratch, scratch.as_os_str()), []);
        fs::remove_dir_all(scratch).unwrap();
    }

    #[test]
    fn versions_are_read_from_the_first_line() {
        let version = Version::parse("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0");
        assert_eq!(version.unwrap().to_string(), "Redis 7.0.15");
        assert_eq!(
            Version::parse("Valkey server v=9.1.2").unwrap().to_string(),
            "Valkey 9.1.2"
        );
        assert_eq!(Version::parse("hello world"), None);
        assert_eq!(Version::parse(""), None);
    }

    #[test]
    fn selections_are_named() {
        assert_eq!(Selection::parse("all").unwrap(), Selection::All);
        assert_eq!(
            Selection::parse("valkey").unwrap(),
            Selection::Only(Server::Valkey)
        );
        assert!(matches!(Selection::parse("keydb"), Err(Error::Usage(text)) if text.contains("all")));
        assert!(matches!(Server::parse("all"), Err(Error::Usage(_))));
    }
}
