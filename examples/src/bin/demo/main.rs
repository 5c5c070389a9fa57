//! What highwater is for, seen from outside: one shop, four ways to read its carts.
//!
//! Starts a primary and two replicas whose replication is held back, then for each strategy in turn a
//! real service process, and drives the same sessions through its HTTP API. Counts how often a user
//! saw a cart older than their own last change, and how many reads were at risk of that at all.
//!
//! With `--failover`, how a failover looks to the users of a client: see [`failover`].

mod failover;
mod http;
mod outcome;
mod report;
mod service;
mod workload;

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use highwater_examples::exit_code;
use highwater_testkit::{ServerKind, Topology};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::block_in_place,
};

use self::{
    outcome::Outcome,
    service::{Service, Strategy},
    workload::Workload,
};

type Error = Box<dyn std::error::Error + Send + Sync>;

const REPLICAS: usize = 2;
const IN_SYNC: Duration = Duration::from_secs(30);

/// Compare four ways to read from a primary with replicas that lag
#[derive(Debug, Parser)]
struct Args {
    /// Show a failover instead: the primary is killed under load, and sentinels name another one
    #[arg(long, conflicts_with_all = ["replication_delay_ms", "reads_per_write"])]
    failover: bool,
    /// How long to run each strategy, in seconds [default: 8]; with --failover, how much to show before the kill and
    /// after the first write that works again [default: 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: Option<u64>,
    /// How far the replicas are held back, in milliseconds
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(..=10_000))]
    replication_delay_ms: u64,
    /// How often each user looks at their cart after a change of it
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    reads_per_write: u16,
    /// Which server to run against, by the name that `cargo xtask setup --help` lists
    #[arg(long, value_name = "NAME", default_value = "redis")]
    server: ServerKind,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit_code("demo", run(Args::parse()).await)
}

async fn run(args: Args) -> Result<(), Error> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let work = async {
        if args.failover {
            let around = Duration::from_secs(args.seconds.unwrap_or(2));
            failover::show(args.server, around, args.json).await
        } else {
            compare(&args).await
        }
    };
    // Dropping the work stops its servers and services.
    tokio::select! {
        done = work => done,
        _ = interrupt.recv() => Err("interrupted".into()),
        _ = terminate.recv() => Err("terminated".into()),
    }
}

async fn compare(args: &Args) -> Result<(), Error> {
    let kind = args.server;
    let seconds = args.seconds.unwrap_or(8);
    let workload = Workload::new(Duration::from_secs(seconds), args.reads_per_write.into());
    let bar = progress_bar(&workload)?;
    bar.set_message("starting the servers");
    let topology = block_in_place(|| {
        Topology::builder()
            .kind(kind)
            .replicas(REPLICAS)
            .delay(Duration::from_millis(args.replication_delay_ms))
            .start()
    })?;
    let mut outcomes = Vec::new();
    for strategy in Strategy::ALL {
        outcomes.push(measure(&topology, strategy, &workload, &bar).await?);
    }
    bar.finish_and_clear();
    drop(topology);

    let parameters = report::Parameters::new(kind, args.replication_delay_ms, seconds, &workload);
    if args.json {
        report::json(&parameters, &outcomes)?;
    } else {
        report::table(&parameters, &outcomes)?;
    }
    // That replica-first shows stale reads is what it is here for.
    match outcomes
        .iter()
        .find(|outcome| outcome.name != Strategy::ReplicaFirst.name() && outcome.stale_reads > 0)
    {
        Some(outcome) => Err(format!("{} must not show a stale read", outcome.name).into()),
        None => Ok(()),
    }
}

async fn measure(
    topology: &Topology,
    strategy: Strategy,
    workload: &Workload,
    bar: &ProgressBar,
) -> Result<Outcome, Error> {
    bar.set_position(0);
    bar.set_message(strategy.name());
    block_in_place(|| {
        topology.primary().command(&["FLUSHALL"])?;
        topology.wait_in_sync(IN_SYNC)
    })?;
    let service = Service::start(strategy, topology).await?;
    let outcome = workload.run(strategy, topology, service.address(), bar).await?;
    service.stop().await?;
    Ok(outcome)
}

/// Hidden when standard error is no terminal.
fn progress_bar(workload: &Workload) -> Result<ProgressBar, Error> {
    let style = ProgressStyle::with_template("{spinner} {msg:20} {bar:40} {percent:>3} %")?;
    let bar = ProgressBar::new(u64::try_from(workload.length().as_millis())?).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(100));
    Ok(bar)
}
