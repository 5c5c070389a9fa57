//! `cargo xtask chart`: measures what replication delay does, and draws it.

use crate::{args::Args, error::Error, program::Given};

const HELP: &str = "\
Chart what replication delay does to four ways of reading: docs/chart.svg, from docs/chart.json

Usage: cargo xtask chart [OPTIONS]

Options:
  --seconds N     How long to run each strategy at each point, 1 to 3600 [default: 6; then it takes
                  ten minutes]
  --quick         A second each, with two delays and two shares of writes: to see that it works
  --from FILE     Draw again what was measured before: docs/chart.json
  --out DIR       Where chart.json and chart.svg go [default: docs]
  --server NAME   Which server to run against: redis, valkey, redis-6.2, redis-7.4, redis-8.2
                  [default: redis]
  --json          Print the data on standard output, too
  -h, --help      Print this help

Runs the demo for each delay and each share of writes. Nothing else should run meanwhile.
";

/// Runs the command.
///
/// # Errors
///
/// Arguments that make no sense, no server, a failed build, a stale read of ours, or no place to write to.
pub(crate) fn main(args: Args) -> Result<(), Error> {
    match parse(args)? {
        Some(given) => given.run("highwater-examples", "chart"),
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
            "--seconds" => given.number(&mut args, argument, 1..=3600)?,
            "--quick" => {
                args.flag()?;
                given.passed.push(argument);
            }
            "--from" | "--out" => {
                let place = args.value(&argument)?;
                given.passed.extend([argument, place]);
            }
            "--help" | "-h" => return Ok(None),
            _ => given.common(&mut args, "chart", argument)?,
        }
    }
    Ok(Some(given))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checked_options_reach_the_chart() {
        let arguments = [
            "--seconds",
            "2",
            "--quick",
            "--out",
            "target",
            "--server",
            "valkey",
            "--json",
        ];
        let given = parse(Args::of(&arguments)).unwrap().unwrap();
        assert_eq!(given.passed, arguments);
        let from = parse(Args::of(&["--from=docs/chart.json"])).unwrap().unwrap();
        assert_eq!(from.passed, ["--from", "docs/chart.json"]);
    }

    #[test]
    fn bad_arguments_are_usage_errors() {
        for arguments in [
            &["--seconds", "0"][..],
            &["--quick=1"],
            &["--from"],
            &["--server", "all"],
            &["5"],
        ] {
            assert!(
                matches!(parse(Args::of(arguments)), Err(Error::Usage(_))),
                "{arguments:?}"
            );
        }
    }
}
