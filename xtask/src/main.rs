//! The commands that a contributor needs: set-up, demo, faults, tests and the checks of CI.
//!
//! It depends on nothing but the standard library, so that the first command on a fresh machine
//! starts after one short compilation.

mod args;
mod bench;
mod chart;
mod ci;
mod demo;
mod error;
mod faults;
mod json;
mod metadata;
mod model;
mod msrv;
mod packages;
mod process;
mod program;
mod report;
mod server;
mod setup;
mod test;
mod wheel;
mod workspace;

use std::process::ExitCode;

use crate::{args::Args, error::Error};

const HELP: &str = "\
Commands of the highwater workspace

Usage: cargo xtask <COMMAND> [OPTIONS]

Commands:
  setup   Find the Redis and Valkey servers, and install what is missing
  demo    Build the demo and run it against real servers
  bench   Compare highwater with other clients, side by side
  chart   Draw what replication delay does to four ways of reading
  faults  Break real servers at random, and judge what sessions were shown
  test    Run all tests against real servers
  model   Check the model of the rules, and show how each broken rule is refuted
  ci      Run every check that a change must pass
  help    Print this help

`cargo xtask <COMMAND> --help` describes a command's options.
";

fn main() -> ExitCode {
    match Args::from_env().and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(message) = error.message() {
                eprintln!("error: {message}");
            }
            error.exit_code()
        }
    }
}

fn run(mut args: Args) -> Result<(), Error> {
    let Some(command) = args.next() else {
        return Err(Error::Usage(format!("which command?\n\n{HELP}")));
    };
    match command.as_str() {
        "setup" => setup::main(args),
        "demo" => demo::main(args),
        "bench" => bench::main(args),
        "chart" => chart::main(args),
        "faults" => faults::main(args),
        "test" => test::main(args),
        "model" => model::main(args),
        "ci" => ci::main(args),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(Error::Usage(format!("there is no command `{other}`\n\n{HELP}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_unknown_command_is_a_usage_error() {
        for arguments in [&[][..], &["launch"], &["--server"]] {
            let error = run(Args::of(arguments)).unwrap_err();
            assert!(matches!(error, Error::Usage(_)), "{arguments:?}: {error:?}");
        }
    }

    #[test]
    fn every_command_refuses_what_it_does_not_know() {
        for command in ["setup", "demo", "bench", "chart", "faults", "test", "model", "ci"] {
            let error = run(Args::of(&[command, "--frobnicate"])).unwrap_err();
            assert!(matches!(&error, Error::Usage(text) if text.contains("--frobnicate")));
        }
    }
}
