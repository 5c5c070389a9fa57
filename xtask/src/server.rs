//! The servers that highwater is tested against, and where their binaries are looked for.
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

/// A server by the name that `--server` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// The system's Redis, whichever release that is.
    Redis,
    Valkey,
    /// The oldest release of Redis that is supported.
    Redis62,
    Redis74,
    Redis82,
}

impl Server {
    pub(crate) const ALL: [Self; 5] = [
        Self::Redis,
        Self::Valkey,
        Self::Redis62,
        Self::Redis74,
        Self::Redis82,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Valkey => "valkey",
            Self::Redis62 => "redis-6.2",
            Self::Redis74 => "redis-7.4",
            Self::Redis82 => "redis-8.2",
        }
    }

    /// The name under which its binary is looked for.
    pub(crate) fn binary(self) -> &'static str {
        match self {
            Self::Redis => "redis-server",
            Self::Valkey => "valkey-server",
            Self::Redis62 => "redis-server-6.2",
            Self::Redis74 => "redis-server-7.4",
            Self::Redis82 => "redis-server-8.2",
        }
    }

    /// The name that its binary has where it comes from.
    pub(crate) fn shipped_as(self) -> &'static str {
        match self {
            Self::Valkey => "valkey-server",
            _ => "redis-server",
        }
    }

    /// The program that is the same file as the server under another name: it looks at the name that
    /// it is called by. Debian ships it apart from the service.
    /// Servers that have one are in package managers under one name in one release.
    pub(crate) fn twin(self) -> Option<&'static str> {
        match self {
            Self::Redis => Some("redis-check-rdb"),
            Self::Valkey => Some("valkey-check-rdb"),
            _ => None,
        }
    }

    /// The variable that names the binary to use.
    pub(crate) fn variable(self) -> &'static str {
        match self {
            Self::Redis => "HIGHWATER_REDIS_SERVER",
            Self::Valkey => "HIGHWATER_VALKEY_SERVER",
            Self::Redis62 => "HIGHWATER_REDIS_6_2_SERVER",
            Self::Redis74 => "HIGHWATER_REDIS_7_4_SERVER",
            Self::Redis82 => "HIGHWATER_REDIS_8_2_SERVER",
        }
    }

    /// What its version begins with: of some systems, the program redis-server is a Valkey.
    fn wanted(self) -> &'static str {
        match self {
            Self::Redis => "Redis ",
            Self::Valkey => "Valkey ",
            Self::Redis62 => "Redis 6.2.",
            Self::Redis74 => "Redis 7.4.",
            Self::Redis82 => "Redis 8.2.",
        }
    }

    pub(crate) fn parse(name: &str) -> Result<Self, Error> {
        let known = Self::ALL.into_iter().find(|server| server.name() == name);
        known.ok_or_else(|| Error::Usage(format!("--server takes {}, not `{name}`", one_of(&[]))))
    }
}

/// The servers' names, and more, as a choice.
fn one_of(more: &[&'static str]) -> String {
    let names: Vec<_> = Server::ALL
        .map(Server::name)
        .into_iter()
        .chain(more.iter().copied())
        .collect();
    match names.split_last() {
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// The values of an option `--server` that can be given several times, and can also be `all`. Each server
/// is in it once, in the order in which they were named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selection(Vec<Server>);

impl Selection {
    /// Adds one value of the option.
    ///
    /// # Errors
    ///
    /// A usage error if it is neither a server's name nor `all`.
    pub(crate) fn add(&mut self, name: &str) -> Result<(), Error> {
        let named =
            match name {
                "all" => Server::ALL.to_vec(),
                _ => vec![Server::parse(name).map_err(|_| {
                    Error::Usage(format!("--server takes {}, not `{name}`", one_of(&["all"])))
                })?],
            };
        for server in named {
            if !self.0.contains(&server) {
                self.0.push(server);
            }
        }
        Ok(())
    }

    /// What was named; nothing, if the option was not given.
    pub(crate) fn servers(&self) -> &[Server] {
        &self.0
    }
}

impl From<&[Server]> for Selection {
    fn from(servers: &[Server]) -> Self {
        Self(servers.to_vec())
    }
}

/// Which step of the lookup order found a binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Variable,
    Workspace,
    Path,
}

/// A server binary that answers `--version` as the server that it is to be.
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
        match version(server, &path, None) {
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
                    "{name} is {path}, which does not run as this server: {error}; correct or unset it"
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

/// Asks a binary for its version, started with these libraries.
///
/// # Errors
///
/// It does not start, it does not answer as a server does, or it is another server.
pub(crate) fn version(server: Server, binary: &Path, libraries: Option<&Path>) -> Result<Version, String> {
    let mut command = Command::new(binary);
    if let Some(libraries) = libraries {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    accept(server, &capture(command.arg("--version"))?)
}

/// Reads what a binary said to `--version`.
fn accept(server: Server, answer: &str) -> Result<Version, String> {
    let version = Version::parse(answer).ok_or_else(|| {
        format!(
            "`--version` answered {:?}",
            answer.lines().next().unwrap_or_default()
        )
    })?;
    if version.to_string().starts_with(server.wanted()) {
        Ok(version)
    } else {
        Err(format!("it is {version}, which is not {}", server.name()))
    }
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
        let mut selection = Selection::default();
        for name in ["valkey", "redis-6.2", "valkey"] {
            selection.add(name).unwrap();
        }
        assert_eq!(selection.servers(), [Server::Valkey, Server::Redis62]);
        selection.add("all").unwrap();
        assert_eq!(selection.servers().len(), Server::ALL.len());
        assert_eq!(selection.servers().first(), Some(&Server::Valkey));
        assert!(
            matches!(selection.add("keydb"), Err(Error::Usage(text)) if text.ends_with("redis-8.2 or all, not `keydb`"))
        );
        assert!(
            matches!(Server::parse("all"), Err(Error::Usage(text)) if text.ends_with("or redis-8.2, not `all`"))
        );
    }

    #[test]
    fn each_server_has_names_of_its_own() {
        for server in Server::ALL {
            assert_eq!(Server::parse(server.name()).unwrap(), server);
            for other in Server::ALL.into_iter().filter(|other| *other != server) {
                assert_ne!(server.binary(), other.binary());
                assert_ne!(server.variable(), other.variable());
            }
        }
    }

    #[test]
    fn another_servers_binary_is_refused() {
        let old = "Redis server v=6.2.14 sha=0";
        assert_eq!(accept(Server::Redis62, old).unwrap().to_string(), "Redis 6.2.14");
        assert!(accept(Server::Redis, old).is_ok(), "any release will do");
        for wrong in [
            "Redis server v=6.20.1",
            "Redis server v=7.0.15",
            "Valkey server v=6.2.1",
        ] {
            let refusal = accept(Server::Redis62, wrong).unwrap_err();
            assert!(refusal.contains("is not redis-6.2"), "{refusal}");
        }
        let valkey = "Valkey server v=9.1.2";
        assert!(accept(Server::Valkey, valkey).is_ok());
        assert!(accept(Server::Redis, valkey).is_err(), "a Valkey is no Redis");
        assert!(accept(Server::Redis, "7.0.15").is_err());
    }
}
