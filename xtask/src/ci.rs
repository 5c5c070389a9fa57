//! `cargo xtask ci`: every check that a change must pass.

use std::{
    env,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    args::{Args, unknown},
    error::Error,
    metadata::{Package, combinations, packages},
    msrv,
    process::{capture, run, shown},
    server::{Selection, Server},
    test,
    workspace::Workspace,
};

const HELP: &str = "\
Run every check that a change must pass

Usage: cargo xtask ci [OPTIONS]

Options:
  --quick     Leave out the tests
  --long      The long form: also the tests that need more than servers (`cargo xtask test --help`)
  -h, --help  Print this help

The steps: hygiene, formatting, clippy, documentation, combinations of features, the oldest supported
Rust, and `cargo xtask test --server redis --server valkey`. The first failure ends the run.
";

/// Runs the command.
///
/// # Errors
///
/// Arguments that make no sense, or the first check that fails.
pub(crate) fn main(args: Args) -> Result<(), Error> {
    let Some(options) = parse(args)? else {
        print!("{HELP}");
        return Ok(());
    };
    let mut ci = Ci {
        workspace: Workspace::find()?,
        times: Vec::new(),
    };
    let outcome = ci.run(&options);
    ci.summary(outcome.is_ok());
    outcome
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    quick: bool,
    long: bool,
}

/// `None` stands for help.
fn parse(mut args: Args) -> Result<Option<Options>, Error> {
    let mut options = Options::default();
    while let Some(argument) = args.next() {
        match argument.as_str() {
            "--quick" => {
                args.flag()?;
                options.quick = true;
            }
            "--long" => {
                args.flag()?;
                options.long = true;
            }
            "--help" | "-h" => return Ok(None),
            _ => return Err(unknown("ci", &argument)),
        }
    }
    Ok(Some(options))
}

#[derive(Debug)]
struct Ci {
    workspace: Workspace,
    times: Vec<(&'static str, Duration)>,
}

impl Ci {
    fn run(&mut self, options: &Options) -> Result<(), Error> {
        self.step("hygiene", hygiene)?;
        self.step("format", |workspace| {
            show_and_run(&mut workspace.cargo(["fmt", "--all", "--check"]))
        })?;
        self.step("clippy", |workspace| {
            let mut command = workspace.cargo(["clippy", "--workspace", "--all-targets", "--all-features"]);
            show_and_run(command.args(DENY_WARNINGS))
        })?;
        self.step("documentation", |workspace| {
            let mut command = workspace.cargo(["doc", "--workspace", "--no-deps", "--all-features"]);
            show_and_run(command.env("RUSTDOCFLAGS", "-D warnings"))
        })?;
        let mut known = Vec::new();
        self.step("features", |workspace| {
            known = packages(workspace)?;
            known
                .iter()
                .filter(|package| package.member && package.publish)
                .try_for_each(|package| each_combination(workspace, package))
        })?;
        self.step("oldest Rust", |workspace| msrv::check(workspace, &known))?;
        if options.quick {
            println!("tests: left out (--quick)");
            return Ok(());
        }
        self.step("test", |workspace| {
            let options = test::Options {
                selection: Selection::from(&SERVERS[..]),
                long: options.long,
                passed: Vec::new(),
            };
            test::test(workspace, &options)
        })
    }

    fn step(
        &mut self,
        name: &'static str,
        work: impl FnOnce(&Workspace) -> Result<(), Error>,
    ) -> Result<(), Error> {
        println!("\n== {name}");
        let start = Instant::now();
        let outcome = work(&self.workspace);
        let time = start.elapsed();
        self.times.push((name, time));
        let verdict = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("== {name}: {verdict} ({:.1} s)", time.as_secs_f64());
        outcome
    }

    fn summary(&self, passed: bool) {
        println!();
        for (name, time) in &self.times {
            println!("{name:<14} {:>7.1} s", time.as_secs_f64());
        }
        match self.times.last() {
            Some((name, _)) if !passed => println!("cargo xtask ci: FAILED at {name}"),
            _ => println!("cargo xtask ci: passed"),
        }
    }
}

/// What no change may break. The others are for releases, and for changes that have to do with them.
const SERVERS: [Server; 2] = [Server::Redis, Server::Valkey];

const DENY_WARNINGS: [&str; 3] = ["--", "-D", "warnings"];

fn show_and_run(command: &mut Command) -> Result<(), Error> {
    println!("{}", shown(command));
    run(command)
}

/// Checks that a package builds without warnings whatever features a user picks.
fn each_combination(workspace: &Workspace, package: &Package) -> Result<(), Error> {
    for features in combinations(&package.features) {
        let mut command = workspace.cargo(["clippy", "--quiet", "-p"]);
        command.args([&package.name, "--no-default-features"]);
        if !features.is_empty() {
            command.args(["--features", &features.join(",")]);
        }
        show_and_run(command.args(DENY_WARNINGS))?;
    }
    Ok(())
}

/// Checks that no file names a place on somebody's machine.
fn hygiene(workspace: &Workspace) -> Result<(), Error> {
    let in_work_tree = ["rev-parse", "--is-inside-work-tree"];
    if let Err(error) = capture(git(workspace.root()).args(in_work_tree)) {
        println!("not looked for machine paths: {error}");
        return Ok(());
    }
    let mut command = git(workspace.root());
    command.args(["grep", "--untracked", "-n", "-I", "-E"]);
    for pattern in machine_paths(workspace.root(), env::var_os("HOME").as_deref().map(Path::new)) {
        command.args(["-e", &pattern]);
    }
    // Code 1 is "nothing found"; a code above it is an error of git's own.
    match run(&mut command) {
        Err(Error::Exit(1)) => Ok(()),
        Err(error) => Err(error),
        Ok(()) => Err(Error::Failed(String::from("these lines name paths of a machine"))),
    }
}

fn git(directory: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(directory);
    command
}

/// Regular expressions for homes in general, and for this machine's home and clone.
fn machine_paths(root: &Path, home: Option<&Path>) -> Vec<String> {
    // In the middle of a longer path it is no place on a machine, but a part of a URL, say.
    const START: &str = "(^|[^[:alnum:]_.~-])";
    let mut patterns = vec![format!("{START}/(root|work|home/[a-z]+|Users/[A-Za-z]+)/")];
    for place in [Some(root), home].into_iter().flatten() {
        // A clone at the root of the file system, or a home there, says nothing.
        if place.components().count() > 2 {
            patterns.push(format!("{START}{}/", escaped(&place.to_string_lossy())));
        }
    }
    patterns
}

fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        if r"\.[]{}()*+?^$|".contains(letter) {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        for (arguments, quick, long) in [
            (&[][..], false, false),
            (&["--quick"], true, false),
            (&["--long"], false, true),
        ] {
            let options = Options { quick, long };
            assert_eq!(parse(Args::of(arguments)).unwrap(), Some(options));
        }
        assert_eq!(parse(Args::of(&["-h"])).unwrap(), None);
        for arguments in [&["quick"][..], &["--quick=1"], &["--server", "redis"]] {
            assert!(
                matches!(parse(Args::of(arguments)), Err(Error::Usage(_))),
                "{arguments:?}"
            );
        }
    }

    #[test]
    fn paths_are_matched_literally() {
        let patterns = machine_paths(Path::new("/srv/a.b"), Some(Path::new("/")));
        assert_eq!(patterns.len(), 2);
        assert!(patterns[1].ends_with(r"/srv/a\.b/"), "{patterns:?}");
    }
}
