//! Programs of the workspace that a command builds in release mode and runs: the demo, the fault suite, the model.

use std::{ops::RangeInclusive, process::Command};

use crate::{
    args::{Args, unknown},
    error::Error,
    process::run,
    report::Report,
    server::Server,
    setup::Setup,
    workspace::Workspace,
};

/// Builds a program in release mode.
///
/// # Errors
///
/// A failed build.
pub(crate) fn release(workspace: &Workspace, package: &str, program: &str) -> Result<Command, Error> {
    run(&mut workspace.cargo(["build", "--release", "-p", package, "--bins"]))?;
    Ok(Command::new(workspace.target().join("release").join(program)))
}

/// What a program that runs against a server is given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) server: Server,
    /// Our options, once checked, and the rest.
    pub(crate) passed: Vec<String>,
}

impl Default for Given {
    fn default() -> Self {
        Self {
            server: Server::Redis,
            passed: Vec::new(),
        }
    }
}

impl Given {
    /// Passes the option that was read last on, with its number.
    ///
    /// # Errors
    ///
    /// A usage error if it is none in `range`.
    pub(crate) fn number(
        &mut self,
        args: &mut Args,
        option: String,
        range: RangeInclusive<u64>,
    ) -> Result<(), Error> {
        let number = args.number(&option, range)?;
        self.passed.extend([option, number.to_string()]);
        Ok(())
    }

    /// Takes an option that all such programs have: `--server`, `--json`, and what follows `--`.
    ///
    /// # Errors
    ///
    /// A usage error if it is none of these.
    pub(crate) fn common(&mut self, args: &mut Args, command: &str, argument: String) -> Result<(), Error> {
        match argument.as_str() {
            "--server" => {
                self.server = Server::parse(&args.value("--server")?)?;
                self.passed.extend([argument, self.server.name().to_owned()]);
            }
            "--json" => {
                args.flag()?;
                self.passed.push(argument);
            }
            "--" => self.passed.extend(args.remainder()),
            _ => return Err(unknown(command, &argument)),
        }
        Ok(())
    }

    /// Sets the server up, builds the program, and runs it. Standard output is the program's alone.
    ///
    /// # Errors
    ///
    /// No server, a failed build, or the program's own exit code.
    pub(crate) fn run(&self, package: &str, program: &str) -> Result<(), Error> {
        let workspace = Workspace::find()?;
        let found = Setup::new(&workspace, Report::Stderr).require(self.server)?;
        run(release(&workspace, package, program)?
            .args(&self.passed)
            .env(self.server.variable(), &found.path))
    }
}
