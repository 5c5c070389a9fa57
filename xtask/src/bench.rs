//! `cargo xtask bench`: builds the comparison with other clients and runs it.

use crate::{
    args::Args,
    error::Error,
    program::{Given, Profile},
};

const HELP: &str = "\
Compare highwater with other clients, with the naive way, and with what a socket can carry

Usage: cargo xtask bench [OPTIONS] [-- OPTIONS OF THE BENCH]

Options:
  --quick               Few and short rounds, unpinned, with 1, 64 and 1024 callers
  --only A,B            Only these operations: get, set, mix, pipeline, hgetall, get4k, set4k, delayed-mix
  --contenders A,B      Only these, and redis-rs: redis-rs-nodelay, redis-rs-manager, fred, naive, primary-only,
                        highwater, highwater-monotonic, highwater-free, raw, server-benchmark
  --callers N,M         How many callers [default: 1,8,64,256,1024]
  --rounds N            Rounds of each contender, 1 to 1000 [default: 9]
  --millis N            How long each is, in milliseconds, 1 to 60000 [default: 250]
  --pinned              Only pinned: one caller on the servers' own core; client and servers on different cores
  --unpinned            Only unpinned [default: both]
  --no-allocations      Don't count allocations
  --memory              Instead: bytes of a connection, of a request in flight, of a cached entry
  --soak N              Instead: 64 callers for N minutes, with memory and tasks every 10 seconds
  --server NAME         Which server: redis, valkey, redis-6.2, redis-7.4, redis-8.2 [default: redis]
  --json                Print the result as one JSON object, and nothing else, on standard output
  -h, --help            Print this help

Prints throughput, its ratio to redis-rs, latencies, processor time of client and servers, and allocations.
What follows `--` goes to the bench as it is; `-- --help` lists the rest. Nothing else should run meanwhile.
";

/// Runs the command.
///
/// # Errors
///
/// Arguments that make no sense, no server, a failed build, or the bench's own exit code.
pub(crate) fn main(args: Args) -> Result<(), Error> {
    match parse(args)? {
        Some(given) => {
            let program = if given.passed.iter().any(|option| option == "--memory") {
                "allocations"
            } else {
                "side-by-side"
            };
            given.run_built(Profile::Bench, "highwater-benches", program)
        }
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
            "--quick" | "--pinned" | "--unpinned" | "--no-allocations" | "--memory" => {
                args.flag()?;
                given.passed.push(argument);
            }
            "--only" | "--contenders" | "--callers" => {
                let list = args.value(&argument)?;
                given.passed.extend([argument, list]);
            }
            "--rounds" => given.number(&mut args, argument, 1..=1000)?,
            "--millis" => given.number(&mut args, argument, 1..=60_000)?,
            "--soak" => given.number(&mut args, argument, 1..=10_000)?,
            "--help" | "-h" => return Ok(None),
            _ => given.common(&mut args, "bench", argument)?,
        }
    }
    Ok(Some(given))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checked_options_and_the_rest_reach_the_bench() {
        let arguments = [
            "--quick",
            "--only",
            "get,set",
            "--contenders",
            "fred",
            "--callers",
            "1,8",
            "--rounds",
            "2",
            "--millis",
            "50",
            "--pinned",
            "--no-allocations",
            "--soak",
            "30",
            "--server",
            "valkey",
            "--json",
        ];
        let given = parse(Args::of(&[&arguments[..], &["--", "--replicas=2"]].concat()))
            .unwrap()
            .unwrap();
        assert_eq!(given.passed, [&arguments[..], &["--replicas=2"]].concat());
    }

    #[test]
    fn bad_arguments_are_usage_errors() {
        for arguments in [
            &["--quick=1"][..],
            &["--only"],
            &["--rounds", "0"],
            &["--millis", "soon"],
            &["--soak", "0"],
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
