//! `cargo xtask model`: builds the model checker and runs it.

use crate::{
    args::{Args, unknown},
    error::Error,
    process::run,
    program::release,
    workspace::Workspace,
};

const HELP: &str = "\
Check the model of the rules, and show how each broken rule is refuted

Usage: cargo xtask model [OPTIONS]

Options:
  --deep           Larger budgets and bounds: minutes, and gigabytes
  --only SCENARIO  Only this one; can be repeated
  --threads N      How many threads, 1 to 64 [default: 2]
  -h, --help       Print this help

Prints states, depth and time of each scenario, and the counterexample of each broken rule.
";

/// Runs the command.
///
/// # Errors
///
/// Arguments that make no sense, a failed build, or a rule that does not hold.
pub(crate) fn main(args: Args) -> Result<(), Error> {
    let Some(passed) = parse(args)? else {
        print!("{HELP}");
        return Ok(());
    };
    let workspace = Workspace::find()?;
    run(release(&workspace, "highwater-model", "highwater-model")?.args(passed))
}

/// What the checker is given; `None` stands for help.
fn parse(mut args: Args) -> Result<Option<Vec<String>>, Error> {
    let mut passed = Vec::new();
    while let Some(argument) = args.next() {
        match argument.as_str() {
            "--deep" => {
                args.flag()?;
                passed.push(argument);
            }
            "--only" => {
                let name = args.value("--only")?;
                passed.extend([argument, name]);
            }
            "--threads" => {
                let number = args.number("--threads", 1..=64)?;
                passed.extend([argument, number.to_string()]);
            }
            "--help" | "-h" => return Ok(None),
            _ => return Err(unknown("model", &argument)),
        }
    }
    Ok(Some(passed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checked_options_are_passed_on() {
        let arguments = ["--deep", "--only", "cache", "--threads", "4"];
        assert_eq!(parse(Args::of(&arguments)).unwrap().unwrap(), arguments);
    }

    #[test]
    fn bad_arguments_are_usage_errors() {
        for arguments in [&["--deep=1"][..], &["--only"], &["--threads", "0"], &["cache"]] {
            assert!(
                matches!(parse(Args::of(arguments)), Err(Error::Usage(_))),
                "{arguments:?}"
            );
        }
    }
}
