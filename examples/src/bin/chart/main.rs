//! What replication delay does to four ways of reading: runs the demo for each delay and each share of writes, keeps what
//! it says, and draws it.
//!
//! `cargo xtask chart` builds and runs it, and writes `docs/chart.json` and `docs/chart.svg`.

mod data;
mod draw;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use clap::Parser;
use highwater_examples::exit_code;
use highwater_testkit::ServerKind;

use self::data::{Chart, Point};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// In milliseconds.
const DELAYS: [u64; 6] = [0, 1, 5, 20, 100, 500];
/// In percent of all operations, with the reads to one write.
const WRITES: [(u64, u64); 3] = [(1, 99), (10, 9), (50, 1)];

/// Chart what replication delay does to four ways of reading
#[derive(Debug, Parser)]
struct Args {
    /// How long to run each strategy at each point, in seconds
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// One second a strategy, with two delays and two shares of writes: to see that it works
    #[arg(long)]
    quick: bool,
    /// Draw again what was measured before, from this file
    #[arg(long, value_name = "FILE", conflicts_with = "quick")]
    from: Option<PathBuf>,
    /// Where `chart.json` and `chart.svg` go
    #[arg(long, value_name = "DIRECTORY", default_value = "docs")]
    out: PathBuf,
    /// Which server to run against, by the name that `cargo xtask setup --help` lists
    #[arg(long, value_name = "NAME", default_value = "redis")]
    server: ServerKind,
    /// Print the data on standard output, too
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    exit_code("chart", run(&Args::parse()))
}

fn run(args: &Args) -> Result<(), Error> {
    let chart = match &args.from {
        Some(file) => serde_json::from_str(&fs::read_to_string(file)?)
            .map_err(|error| format!("{} has no data of a chart: {error}", file.display()))?,
        None => measure(args)?,
    };
    fs::create_dir_all(&args.out)?;
    let json = serde_json::to_string_pretty(&chart)? + "\n";
    let picture = args.out.join("chart.svg");
    draw::draw(&chart, &picture)?;
    if args.from.is_none() {
        fs::write(args.out.join("chart.json"), &json)?;
    }
    if args.json {
        print!("{json}");
    }
    eprintln!("drawn: {}", picture.display());
    Ok(())
}

fn measure(args: &Args) -> Result<Chart, Error> {
    let demo = std::env::current_exe()?.with_file_name("demo");
    if !demo.is_file() {
        let build = "cargo build --release -p highwater-examples --bins";
        return Err(format!("{} is missing: run `{build}`", demo.display()).into());
    }
    let (delays, writes, seconds) = if args.quick {
        (vec![0, 20], vec![WRITES[1], WRITES[2]], 1)
    } else {
        (DELAYS.to_vec(), WRITES.to_vec(), args.seconds)
    };
    let mut points = Vec::new();
    let all = writes.len() * delays.len();
    for (write_percent, reads_per_write) in writes {
        for delay in &delays {
            eprintln!(
                "{} of {all}: {write_percent} % writes, replicas {delay} ms behind",
                points.len() + 1
            );
            points.push(point(
                &demo,
                args.server,
                write_percent,
                reads_per_write,
                *delay,
                seconds,
            )?);
        }
    }
    let version = Command::new(args.server.binary()?).arg("--version").output()?;
    Ok(Chart {
        command: command(args),
        server: String::from_utf8_lossy(&version.stdout).trim().to_owned(),
        cores: std::thread::available_parallelism()?.get(),
        seconds,
        points,
    })
}

/// What makes the same chart again.
fn command(args: &Args) -> String {
    let mut command = String::from("cargo xtask chart");
    if args.quick {
        command += " --quick";
    } else if args.seconds != 6 {
        command += &format!(" --seconds {}", args.seconds);
    }
    if args.server != ServerKind::Redis {
        command += &format!(" --server {}", args.server.name());
    }
    command
}

fn point(
    demo: &Path,
    server: ServerKind,
    write_percent: u64,
    reads_per_write: u64,
    delay: u64,
    seconds: u64,
) -> Result<Point, Error> {
    let output = Command::new(demo)
        .args(["--json", "--server", server.name()])
        .args(["--seconds", &seconds.to_string()])
        .args(["--replication-delay-ms", &delay.to_string()])
        .args(["--reads-per-write", &reads_per_write.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    // It has said why.
    if !output.status.success() {
        return Err(format!("the demo ended with {}", output.status).into());
    }
    Point::read(write_percent, &output.stdout)
}
