//! `cargo xtask test`: every test, against real servers.

use crate::{
    args::{Args, unknown},
    error::Error,
    metadata::packages,
    process::{run, shown},
    report::Report,
    server::{Found, Selection},
    setup::Setup,
    workspace::Workspace,
};

const HELP: &str = "\
Run all tests against real servers

Usage: cargo xtask test [OPTIONS] [-- ARGUMENTS OF CARGO TEST]

Options:
  --server NAME  Which server to test against: redis, valkey, redis-6.2, redis-7.4, redis-8.2, or
                 all of them; can be given several times [default: redis, and valkey where it is
                 to be had]
  --long         Also run the tests that need more than servers: a real browser (Chromium on the
                 path, or at HIGHWATER_CHROMIUM)
  -h, --help     Print this help

The whole workspace is tested against the first server, and what depends on the server then once
against each other: the integration tests of highwater-tests and highwater-testkit, and a short run of
highwater-faults. What follows `--` goes to each `cargo test`; a selection of packages or targets among it (-p, --test, --lib, …) replaces
that choice. A test leaves out, and says so, what a server lacks. `cargo xtask setup --help` tells
about the servers.
";

/// The packages whose tests depend on which server they run against.
const SERVER_TESTS: [&str; 3] = ["highwater-tests", "highwater-testkit", "highwater-faults"];

/// Runs the command.
///
/// # Errors
///
/// Arguments that make no sense, a missing server, or a test that fails.
pub(crate) fn main(args: Args) -> Result<(), Error> {
    match parse(args)? {
        Some(options) => test(&Workspace::find()?, &options),
        None => {
            print!("{HELP}");
            Ok(())
        }
    }
}

/// What to test.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) selection: Selection,
    /// Also those that are ignored by default.
    pub(crate) long: bool,
    /// Further arguments of `cargo test`.
    pub(crate) passed: Vec<String>,
}

/// `None` stands for help.
fn parse(mut args: Args) -> Result<Option<Options>, Error> {
    let mut options = Options::default();
    while let Some(argument) = args.next() {
        match argument.as_str() {
            "--server" => options.selection.add(&args.value("--server")?)?,
            "--long" => {
                args.flag()?;
                options.long = true;
            }
            "--" => options.passed = args.remainder(),
            "--help" | "-h" => return Ok(None),
            _ => return Err(unknown("test", &argument)),
        }
    }
    Ok(Some(options))
}

/// Sets up, builds and tests.
///
/// # Errors
///
/// A missing server, or a test that fails.
pub(crate) fn test(workspace: &Workspace, options: &Options) -> Result<(), Error> {
    let outcome = try_test(workspace, options);
    println!(
        "cargo xtask test: {}",
        if outcome.is_ok() { "passed" } else { "FAILED" }
    );
    outcome
}

fn try_test(workspace: &Workspace, options: &Options) -> Result<(), Error> {
    let mut setup = Setup::new(workspace, Report::Stdout);
    let found = setup.provide_all(&options.selection)?;
    let chosen = Chosen::among(&options.passed);
    // Integration tests start the example services as processes of their own. Built together with all
    // else, they share its dependencies: a choice of packages is a choice of features, too.
    run(&mut if chosen == Chosen::default() {
        workspace.cargo(["build", "--workspace", "--bins", "--tests"])
    } else {
        workspace.cargo(["build", "-p", "highwater-examples", "--bins"])
    })?;
    let server_tests = if found.len() > 1 && chosen == Chosen::default() {
        server_tests(workspace)?
    } else {
        Vec::new()
    };
    for (round, server) in found.iter().enumerate() {
        let mut command = workspace.cargo(["test"]);
        if !chosen.packages {
            // The same packages, and thus features, in each round: nothing is built anew.
            command.arg("--workspace");
        }
        if round > 0 {
            command.args(server_tests.iter().flat_map(|test| ["--test", test]));
        }
        command.args(&options.passed);
        command.env("HIGHWATER_SERVER", server.server.name());
        // Tests that need the examples' binaries need not build them.
        command.env("HIGHWATER_BUILT", workspace.target().join("debug"));
        // The tests use the very servers that were checked, whatever they would find themselves.
        for known in &found {
            command.env(known.server.variable(), &known.path);
        }
        println!("{}, against {}", shown(&command), server.version);
        run(&mut command)?;
        if options.long {
            let mut command = workspace.cargo(["test", "-p", "highwater-tests", "--", "--ignored"]);
            command.env("HIGHWATER_SERVER", server.server.name());
            command.env(server.server.variable(), &server.path);
            println!("{}, against {}", shown(&command), server.version);
            run(&mut command)?;
        }
    }
    println!("{}", summary(&found));
    Ok(())
}

/// What arguments of `cargo test` choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Chosen {
    packages: bool,
    targets: bool,
}

impl Chosen {
    fn among(passed: &[String]) -> Self {
        const TARGETS: [&str; 10] = [
            "--lib",
            "--bin",
            "--bins",
            "--example",
            "--examples",
            "--test",
            "--tests",
            "--bench",
            "--benches",
            "--doc",
        ];
        let mut chosen = Self::default();
        // Arguments after a second `--` belong to the test binaries.
        for argument in passed.iter().take_while(|argument| *argument != "--") {
            let option = argument.split('=').next().unwrap_or_default();
            chosen.packages |= option == "--package" || option.starts_with("-p");
            chosen.targets |= TARGETS.contains(&option);
        }
        chosen
    }
}

/// The integration tests that depend on which server they run against.
fn server_tests(workspace: &Workspace) -> Result<Vec<String>, Error> {
    let tests: Vec<_> = packages(workspace)?
        .into_iter()
        .filter(|package| package.member && SERVER_TESTS.contains(&package.name.as_str()))
        .flat_map(|package| package.tests)
        .collect();
    if tests.is_empty() {
        return Err(Error::Failed(String::from(
            "there are no tests that depend on the server",
        )));
    }
    Ok(tests)
}

fn summary(found: &[Found]) -> String {
    let versions: Vec<_> = found.iter().map(|found| found.version.to_string()).collect();
    format!("tested against {}", versions.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Server;

    fn strings(values: &[&str]) -> Vec<String> {
        values.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn choices_of_packages_and_targets_are_seen() {
        let chosen = |passed: &[&str]| {
            let Chosen { packages, targets } = Chosen::among(&strings(passed));
            (packages, targets)
        };
        for packages in [&["-p", "highwater-core"][..], &["-phighwater"], &["--package=x"]] {
            assert_eq!(chosen(packages), (true, false), "{packages:?}");
        }
        assert_eq!(chosen(&["failover", "--test", "chaos"]), (false, true));
        assert_eq!(chosen(&["--doc", "-p", "highwater"]), (true, true));
        for none in [&[][..], &["failover"], &["--release"], &["--", "-p", "--test"]] {
            assert_eq!(chosen(none), (false, false), "{none:?}");
        }
    }

    #[test]
    fn what_depends_on_the_server_is_found() {
        let tests = server_tests(&Workspace::find().unwrap()).unwrap();
        for test in ["guarantee", "chaos", "commands", "topology"] {
            assert!(tests.iter().any(|known| known == test), "{test}");
        }
    }

    #[test]
    fn arguments_after_the_dashes_are_for_cargo() {
        let options = parse(Args::of(&["--server", "all", "--", "--server", "x"]))
            .unwrap()
            .unwrap();
        assert_eq!(options.selection.servers(), Server::ALL);
        assert_eq!(options.passed, ["--server", "x"]);
    }

    #[test]
    fn bad_arguments_are_usage_errors() {
        for arguments in [&["--server", "keydb"][..], &["failover"], &["--nocapture"]] {
            assert!(
                matches!(parse(Args::of(arguments)), Err(Error::Usage(_))),
                "{arguments:?}"
            );
        }
    }
}
