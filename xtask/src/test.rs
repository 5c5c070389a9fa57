//! `cargo xtask test`: every test, against real servers.

use crate::{
    args::{Args, unknown},
    error::Error,
    process::{run, shown},
    report::Report,
    server::{Found, Selection, Server},
    setup::Setup,
    workspace::Workspace,
};

const HELP: &str = "\
Run all tests against real servers

Usage: cargo xtask test [OPTIONS] [-- ARGUMENTS OF CARGO TEST]

Options:
  --server redis|valkey|all  Which server to test against [default: all, or redis where there is
                             no Valkey to be had]
  -h, --help                 Print this help

With `all`, the whole workspace is tested against Redis, and then the integration tests and the
testkit's once more against Valkey. What follows `--` goes to each `cargo test`; package selections
(-p) among it replace the ones above.
";

/// The packages whose tests depend on which server they run against.
const SERVER_TESTS: [&str; 4] = ["-p", "highwater-tests", "-p", "highwater-testkit"];

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
    /// `None`: all servers that can be had.
    selection: Option<Selection>,
    /// Further arguments of `cargo test`.
    passed: Vec<String>,
}

/// `None` stands for help.
fn parse(mut args: Args) -> Result<Option<Options>, Error> {
    let mut options = Options::default();
    while let Some(argument) = args.next() {
        match argument.as_str() {
            "--server" => options.selection = Some(Selection::parse(&args.value("--server")?)?),
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
    let found = match options.selection {
        Some(Selection::Only(server)) => vec![setup.require(server)?],
        Some(Selection::All) => {
            vec![setup.require(Server::Redis)?, setup.require(Server::Valkey)?]
        }
        None => {
            let redis = setup.require(Server::Redis)?;
            [Some(redis), setup.attempt(Server::Valkey)?]
                .into_iter()
                .flatten()
                .collect()
        }
    };
    // Integration tests start the example services as processes of their own.
    run(&mut workspace.cargo(["build", "-p", "highwater-examples", "--bins"]))?;
    for (round, server) in found.iter().enumerate() {
        let mut command = workspace.cargo(["test"]);
        command.args(arguments(round, &options.passed));
        command.env("HIGHWATER_SERVER", server.server.name());
        // The tests use the very servers that were checked, whatever they would find themselves.
        for known in &found {
            command.env(known.server.variable(), &known.path);
        }
        println!("{}, against {}", shown(&command), server.version);
        run(&mut command)?;
    }
    println!("{}", summary(&found));
    Ok(())
}

/// The arguments of one round's `cargo test`: all packages first, then those that see the server.
fn arguments(round: usize, passed: &[String]) -> Vec<String> {
    // Arguments after a second `--` belong to the test binaries.
    let selects = |argument: &String| argument == "--package" || argument.starts_with("-p");
    let selected = passed
        .iter()
        .take_while(|argument| *argument != "--")
        .any(selects);
    let packages: &[&str] = match round {
        _ if selected => &[],
        0 => &["--workspace"],
        _ => &SERVER_TESTS,
    };
    packages
        .iter()
        .map(ToString::to_string)
        .chain(passed.iter().cloned())
        .collect()
}

fn summary(found: &[Found]) -> String {
    let versions: Vec<_> = found.iter().map(|found| found.version.to_string()).collect();
    format!("tested against {}", versions.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(values: &[&str]) -> Vec<String> {
        values.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_first_round_tests_the_workspace_and_the_second_what_sees_the_server() {
        assert_eq!(arguments(0, &[]), ["--workspace"]);
        assert_eq!(arguments(1, &[]), SERVER_TESTS);
        let passed = strings(&["failover", "--", "--nocapture"]);
        assert_eq!(
            arguments(0, &passed),
            ["--workspace", "failover", "--", "--nocapture"]
        );
    }

    #[test]
    fn package_selections_replace_ours() {
        for selection in [
            &["-p", "highwater-core"][..],
            &["-phighwater"],
            &["--package", "x"],
        ] {
            let passed = strings(selection);
            assert_eq!(arguments(0, &passed), passed);
            assert_eq!(arguments(1, &passed), passed);
        }
        let passed = strings(&["--", "-p"]);
        assert_eq!(arguments(0, &passed), ["--workspace", "--", "-p"]);
    }

    #[test]
    fn arguments_after_the_dashes_are_for_cargo() {
        let options = parse(Args::of(&["--server", "all", "--", "--server", "x"]))
            .unwrap()
            .unwrap();
        assert_eq!(options.selection, Some(Selection::All));
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
