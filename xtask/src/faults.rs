//! `cargo xtask faults`: builds the fault suite and runs it.

use crate::{args::Args, error::Error, program::Given};

const HELP: &str = "\
Break real servers at random, and see that no session is shown less than it was promised

Usage: cargo xtask faults [OPTIONS] [-- OPTIONS OF THE SUITE]

Options:
  --minutes N               For how long, 1 to 10000 [default: 2]
  --server NAME             Which server to break: redis, valkey, redis-6.2, redis-7.4, redis-8.2
                            [default: redis]
  --seed N                  The seed of the first round; the next round has the next seed
                            [default: a random one, which is printed]
  --rounds N                So many rounds, instead of a time
  --topology WHICH          What is broken: fixed (nodes with given roles) or sentinel (nodes that
                            sentinels watch, and real failovers) [default: fixed]
  --cache WHICH             Which processes have a near cache: on, off, mixed [default: mixed]
  --schedule FILE           Play the schedule in this file, once; a failed round prints its own
  --json                    Print the report as one JSON object, and nothing else, on standard output
  -h, --help                Print this help

What follows `--` goes to the suite as it is; `-- --help` lists the rest. Its exit code is passed on.
";

/// Runs the command.
///
/// # Errors
///
/// Arguments that make no sense, no server, a failed build, or the suite's own exit code.
pub(crate) fn main(args: Args) -> Result<(), Error> {
    match parse(args)? {
        Some(given) => given.run("highwater-faults", "highwater-faults"),
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
            "--minutes" => given.number(&mut args, argument, 1..=10_000)?,
            "--seed" => given.number(&mut args, argument, 0..=u64::MAX)?,
            "--rounds" => given.number(&mut args, argument, 1..=u64::MAX)?,
            // Which of them there are, the suite knows.
            "--schedule" | "--cache" | "--topology" => {
                let value = args.value(&argument)?;
                given.passed.extend([argument, value]);
            }
            "--help" | "-h" => return Ok(None),
            _ => given.common(&mut args, "faults", argument)?,
        }
    }
    Ok(Some(given))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Server;

    #[test]
    fn checked_options_and_the_rest_reach_the_suite() {
        let arguments = [
            "--minutes=5",
            "--json",
            "--seed",
            "0",
            "--rounds",
            "2",
            "--schedule",
            "f",
            "--cache",
            "on",
            "--topology=sentinel",
        ];
        let options = parse(Args::of(&[&arguments[..], &["--", "--print"]].concat()))
            .unwrap()
            .unwrap();
        assert_eq!(options.server, Server::Redis);
        assert_eq!(
            options.passed,
            [
                "--minutes",
                "5",
                "--json",
                "--seed",
                "0",
                "--rounds",
                "2",
                "--schedule",
                "f",
                "--cache",
                "on",
                "--topology",
                "sentinel",
                "--print"
            ]
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
            &["--minutes", "0"][..],
            &["--seed", "-1"],
            &["--rounds", "0"],
            &["--schedule"],
            &["--topology"],
            &["--server", "all"],
            &["--json=1"],
            &["5"],
        ] {
            assert!(
                matches!(parse(Args::of(arguments)), Err(Error::Usage(_))),
                "{arguments:?}"
            );
        }
    }
}
