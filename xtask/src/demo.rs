//! `cargo xtask demo`: builds the demo and runs it.

use crate::{args::Args, error::Error, program::Given};

const HELP: &str = "\
Build the demo in release mode and run it against real servers

Usage: cargo xtask demo [OPTIONS] [-- OPTIONS OF THE DEMO]

Options:
  --failover                Show a failover instead: the primary is killed under load, and sentinels
                            name another one
  --seconds N               How long to run each part of the demo, 1 to 3600
  --replication-delay-ms N  How far the replicas are held back, in milliseconds,
                            0 to 10000 [default: 50]
  --reads-per-write N       How often each user looks at their cart after a change of it,
                            1 to 1000 [default: 20]
  --server NAME             Which server to run against: redis, valkey, redis-6.2, redis-7.4,
                            redis-8.2 [default: redis]
  --json                    Print the result as one JSON object, and nothing else, on standard output
  -h, --help                Print this help

What follows `--` goes to the demo as it is. The demo's exit code is passed on.
";

/// Runs the command.
///
/// # Errors
///
/// Arguments that make no sense, no server, a failed build, or the demo's own exit code.
pub(crate) fn main(args: Args) -> Result<(), Error> {
    match parse(args)? {
        Some(given) => given.run("highwater-examples", "demo"),
        None => {
            print!("{HELP}");
            Ok(())
        }
    }
}

/// `None` stands for help.
fn parse(mut args: Args) -> Result<Option<Given>, Error> {
    let mut given = Given::default();
    while let Some(argument) = args.next() {
        match argument.as_str() {
            "--failover" => {
                args.flag()?;
                given.passed.push(argument);
            }
            "--seconds" => given.number(&mut args, argument, 1..=3600)?,
            "--reads-per-write" => given.number(&mut args, argument, 1..=1000)?,
            "--replication-delay-ms" => given.number(&mut args, argument, 0..=10_000)?,
            "--help" | "-h" => return Ok(None),
            _ => given.common(&mut args, "demo", argument)?,
        }
    }
    Ok(Some(given))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Server;

    fn passed(arguments: &[&str]) -> Vec<String> {
        parse(Args::of(arguments)).unwrap().unwrap().passed
    }

    #[test]
    fn checked_options_and_the_rest_reach_the_demo() {
        assert!(passed(&[]).is_empty());
        assert_eq!(
            passed(&[
                "--seconds=5",
                "--json",
                "--replication-delay-ms",
                "0",
                "--",
                "--x=1",
                "-h"
            ]),
            [
                "--seconds",
                "5",
                "--json",
                "--replication-delay-ms",
                "0",
                "--x=1",
                "-h"
            ]
        );
    }

    #[test]
    fn a_failover_goes_with_the_other_options() {
        assert_eq!(
            passed(&["--failover", "--seconds=2"]),
            ["--failover", "--seconds", "2"]
        );
    }

    #[test]
    fn the_server_is_set_up_and_passed_on() {
        let options = parse(Args::of(&["--server", "valkey"])).unwrap().unwrap();
        assert_eq!(options.server, Server::Valkey);
        assert_eq!(options.passed, ["--server", "valkey"]);
    }

    #[test]
    fn bad_arguments_are_usage_errors() {
        for arguments in [
            &["--seconds", "0"][..],
            &["--seconds", "soon"],
            &["--replication-delay-ms", "-1"],
            &["--replication-delay-ms"],
            &["--reads-per-write", "0"],
            &["--server", "all"],
            &["--json=1"],
            &["--failover=1"],
            &["--fast"],
            &["5"],
        ] {
            assert!(
                matches!(parse(Args::of(arguments)), Err(Error::Usage(_))),
                "{arguments:?}"
            );
        }
    }
}
