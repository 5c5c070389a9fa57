//! Random faults on real servers, against processes that pass each other tokens.
//!
//! A run is a row of rounds. Each has a [`schedule`] made from its seed, a [`stage`] of real servers with relays around
//! them, and a [`crew`] of processes with a client each; the [`conductor`] plays the schedule, and the [`verdict`] looks
//! at everything that the sessions of all processes did and saw. `cargo xtask faults` builds and runs this.

mod actor;
mod clock;
mod conductor;
mod crew;
mod operation;
mod report;
mod round;
mod schedule;
mod stage;
mod story;
mod verdict;
mod wire;

use std::{
    fs,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Parser, Subcommand};
use highwater_testkit::ServerKind;
use indicatif::{ProgressBar, ProgressStyle};

use self::{
    report::Report,
    round::Options,
    schedule::{Caches, Schedule, Topology},
    wire::Without,
};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Break real servers at random, and see that no session is shown less than it was promised
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// For how long; the round that has begun is finished
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: u64,
    /// What is broken: nodes with given roles, or nodes that sentinels watch
    #[arg(long, value_enum, value_name = "WHICH", default_value_t)]
    topology: Topology,
    /// Which server to run against, by the name that `cargo xtask setup --help` lists
    #[arg(long, value_name = "NAME", default_value = "redis")]
    server: ServerKind,
    /// The seed of the first round; the next one has the next seed [default: a random one]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// So many rounds, instead of a time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rounds: Option<u64>,
    /// How long the schedule of a round is, in milliseconds
    #[arg(long, value_name = "N", default_value_t = 8000, value_parser = clap::value_parser!(u32).range(1000..=600_000))]
    round_ms: u32,
    /// The mean pause of a session between two operations, in microseconds
    #[arg(long, value_name = "N", default_value_t = 2000)]
    think_us: u64,
    /// Which processes have a near cache; those of a schedule in a file are as it says
    #[arg(long, value_enum, value_name = "WHICH", default_value_t)]
    cache: Caches,
    /// Play the schedule in this file, once
    #[arg(long, value_name = "FILE")]
    schedule: Option<PathBuf>,
    /// Only print the schedules
    #[arg(long)]
    print: bool,
    /// Print the report as one JSON object, and nothing else, on standard output
    #[arg(long)]
    json: bool,
    /// Switch the clients' check of proofs off, to see that violations are found
    #[arg(long)]
    without_proof_checks: bool,
    /// Have the clients' caches apply invalidations late, to see that violations are found
    #[arg(long)]
    late_invalidations: bool,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// One of the processes; started by the program itself
    #[command(hide = true)]
    Actor,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match args.role {
        Some(Role::Actor) => act(),
        None => run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("highwater-faults: {error}");
            ExitCode::FAILURE
        }
    }
}

fn act() -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(actor::main());
    // A read of standard input may be under way for ever.
    runtime.shutdown_background();
    outcome
}

fn run(args: &Args) -> Result<(), Error> {
    let file = args.schedule.as_ref().map(fs::read_to_string).transpose()?;
    let file = file.map(|text| text.parse::<Schedule>()).transpose()?;
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000_000));
    let options = Options {
        server: args.server,
        without: Without {
            proof_checks: args.without_proof_checks,
            timely_invalidations: args.late_invalidations,
        },
        think: Duration::from_micros(args.think_us),
    };
    let start = Instant::now();
    let length = Duration::from_secs(args.minutes * 60);
    let rounds = if file.is_some() { Some(1) } else { args.rounds };
    let mut report = Report::new(options.server, seed, args.cache);
    for number in 0.. {
        let over = match rounds {
            Some(rounds) => number >= rounds,
            None => start.elapsed() >= length,
        };
        if over {
            break;
        }
        let schedule = match &file {
            Some(schedule) => schedule.clone(),
            None => {
                let seed = seed.wrapping_add(number);
                Schedule::generate(args.topology, seed, args.round_ms, args.cache)
            }
        };
        if args.print {
            println!("{schedule}");
            continue;
        }
        let done = match rounds {
            Some(rounds) => format!("round {} of {rounds}", number + 1),
            None => format!(
                "round {}, {} of {} s",
                number + 1,
                start.elapsed().as_secs(),
                length.as_secs()
            ),
        };
        let bar = progress_bar(&schedule, &done)?;
        let outcome = round::run(&schedule, options, |passed| {
            bar.set_position(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX));
        })
        .map_err(|error| format!("{error}\nThe schedule was:\n{schedule}"))?;
        bar.finish_and_clear();
        report.add(&schedule, &outcome);
    }
    if args.print {
        return Ok(());
    }
    report.print(args.json, start.elapsed())?;
    report.verdict()
}

/// Hidden when standard error is no terminal.
fn progress_bar(schedule: &Schedule, done: &str) -> Result<ProgressBar, Error> {
    let style = ProgressStyle::with_template("{spinner} {msg:48} {bar:30} {percent:>3} %")?;
    let bar = ProgressBar::new(schedule.length.into()).with_style(style);
    bar.set_message(format!("{done}: seed {}, {}", schedule.seed, schedule.family));
    bar.enable_steady_tick(Duration::from_millis(100));
    Ok(bar)
}
