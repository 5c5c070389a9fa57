//! Programs of the workspace that a command builds in release mode and runs: the demo, the benches, the fault suite, the model.

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

/// How a program is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// As people build services.
    Release,
    /// As benches are built: optimised across crates, which takes a while.
    Bench,
}

/// Builds a package's programs in release mode.
///
/// # Errors
///
/// A failed build.
pub(crate) fn release(workspace: &Workspace, package: &str, program: &str) -> Result<Command, Error> {
    build(workspace, Profile::Release, package, program)
}

fn build(workspace: &Workspace, profile: Profile, package: &str, program: &str) -> Result<Command, Error> {
    let name = match profile {
        Profile::Release => "release",
        Profile::Bench => "bench",
    };
    run(&mut workspace.cargo(["build", "--profile", name, "-p", package, "--bins"]))?;
    // The bench profile has no directory of its own.
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
        self.run_built(Profile::Release, package, program)
    }

    /// The same, built in another way.
    ///
    /// # Errors
    ///
    /// As for [`run`](Self::run).
    pub(crate) fn run_built(&self, profile: Profile, package: &str, program: &str) -> Result<(), Error> {
        let workspace = Workspace::find()?;
        let found = Setup::new(&workspace, Report::Stderr).require(self.server)?;
        run(build(&workspace, profile, package, program)?
            .args(&self.passed)
            .env(self.server.variable(), &found.path))
    }
}
