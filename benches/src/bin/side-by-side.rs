//! highwater beside other ways to do the same, on real servers: `cargo xtask bench`.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a bench that can't go on must stop"
)]

use std::{
    io::{self, Write},
    process::{Command, Stdio},
    time::Duration,
};

use clap::Parser;
use highwater_benches::{
    operation::Operation,
    options::Common,
    placement::{Cores, Placement, Who},
    report::{Case, Machine, Report, legend, table},
    soak::Sample,
    stage::Stage,
};
use serde_json::Value;
use tokio::runtime::Runtime;

/// Compare highwater with other clients, with the naive way, and with what a socket can carry
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// Few and short rounds, with 1, 64 and 1024 callers: to see that it works
    #[arg(long)]
    quick: bool,
    /// Rounds of each contender [default: 9]
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Only pinned: one caller on the servers' own core, and client and servers on different cores
    #[arg(long, conflicts_with = "unpinned")]
    pinned: bool,
    /// Only unpinned
    #[arg(long)]
    unpinned: bool,
    /// Only with this pinning
    #[arg(long, value_name = "PINNING", conflicts_with_all = ["pinned", "unpinned"])]
    pin: Option<Placement>,
    /// Leave the pass out that counts allocations
    #[arg(long)]
    no_allocations: bool,
    /// Instead: 64 callers for so many minutes, with memory and tasks every 10 seconds
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    soak: Option<u64>,
}

impl Args {
    fn placements(&self) -> Vec<Placement> {
        match self.pin {
            Some(placement) => vec![placement],
            None if self.pinned => vec![Placement::OneCore, Placement::Apart],
            None if self.unpinned || self.quick || !cfg!(target_os = "linux") => vec![Placement::Unpinned],
            None => vec![Placement::OneCore, Placement::Unpinned, Placement::Apart],
        }
    }

    fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 3 } else { 9 }).max(1)
    }
}

fn main() {
    let mut args = Args::parse();
    if args.quick {
        args.common.millis = args.common.millis.min(60);
        if args.common.callers.is_empty() {
            args.common.callers = vec![1, 64, 1024];
        }
    }
    if let Some(minutes) = args.soak {
        soak(&args.common, minutes);
        return;
    }
    let allocations = if args.no_allocations {
        Vec::new()
    } else {
        allocations(&args.common)
    };
    if !args.common.json {
        println!("{}", legend(&args.common, args.rounds()));
    }
    let (machine, cores) = (Machine::this(), Cores::find());
    let mut cases = Vec::new();
    for placement in args.placements() {
        cores.take(placement, Who::Servers);
        let topology = Stage::servers(args.common.server, args.common.replicas.into());
        cores.take(placement, Who::Client);
        let workers = args
            .common
            .workers
            .map_or(cores.of_client(placement), usize::from);
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers)
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(async {
                let mut stage =
                    Stage::new(topology, args.common.max_wait_ms.map(Duration::from_millis)).await;
                for operation in args.common.operations() {
                    for concurrency in args.common.concurrencies(operation, placement) {
                        let mut compared =
                            compare(&mut stage, placement, operation, concurrency, &args).await;
                        for case in &mut compared {
                            add_allocations(case, &allocations);
                        }
                        show(&args.common, &table(&compared));
                        cases.extend(compared);
                    }
                }
                if !args.common.json {
                    println!("\nhighwater's reads by route and reason:");
                    for count in stage.clients().highwater().status().reads {
                        println!("  {} {}: {}", count.route, count.reason, count.count);
                    }
                }
            });
        cores.take(Placement::Unpinned, Who::Client);
    }
    if args.common.json {
        let report = Report {
            arguments: std::env::args().skip(1).collect(),
            machine,
            server: version(&args.common),
            replicas: args.common.replicas,
            rounds: args.rounds(),
            round_ms: args.common.millis,
            sessions: args.common.sessions,
            delay_ms: args.common.delay_ms,
            cases,
        };
        serde_json::to_writer_pretty(io::stdout().lock(), &report).expect("JSON");
        println!();
    }
}

fn runtime(common: &Common, cores: &Cores, placement: Placement) -> Runtime {
    let workers = common.workers.map_or(cores.of_client(placement), usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .expect("a runtime")
}

fn soak(common: &Common, minutes: u64) {
    let topology = Stage::servers(common.server, common.replicas.into());
    let tell = |sample: &Sample| {
        let Sample {
            seconds,
            resident_kib,
            tasks,
            operations,
        } = sample;
        let line =
            format!("{seconds:>7} s {resident_kib:>9} KiB {tasks:>5} tasks {operations:>10} operations");
        show(common, &(line + "\n"));
    };
    let runtime = runtime(common, &Cores::find(), Placement::Unpinned);
    let soak = runtime.block_on(highwater_benches::soak::soak(&topology, minutes, tell));
    if common.json {
        println!("{}", serde_json::json!(soak));
    } else {
        let verdict = |flat| if flat { "flat" } else { "NOT flat" };
        println!(
            "memory is {}, tasks are {}",
            verdict(soak.memory_is_flat),
            verdict(soak.tasks_are_flat)
        );
    }
}

/// In each round every contender runs once, and each begins one round after the other.
async fn compare(
    stage: &mut Stage,
    placement: Placement,
    operation: Operation,
    concurrency: usize,
    args: &Args,
) -> Vec<Case> {
    let contenders = stage.contenders(operation, &args.common.contenders());
    let mut measured = vec![Vec::new(); contenders.len()];
    stage.prepare(operation, concurrency, &args.common).await;
    for round in 0..=args.rounds() {
        for turn in 0..contenders.len() {
            let place = (round + turn) % contenders.len();
            let (Some(contender), Some(rounds)) = (contenders.get(place), measured.get_mut(place)) else {
                continue;
            };
            let one = stage
                .round(*contender, operation, concurrency, &args.common)
                .await;
            // The first round warms up.
            if round > 0 {
                rounds.push(one);
            }
        }
    }
    // redis-rs is the first, if it takes part.
    let base = measured.first().cloned().unwrap_or_default();
    contenders
        .iter()
        .zip(&measured)
        .map(|(contender, rounds)| Case::new((placement, operation, concurrency, *contender), rounds, &base))
        .collect()
}

/// Goes to the reader: with `--json`, standard output is for the object alone.
fn show(common: &Common, text: &str) {
    let shown = if common.json {
        write!(io::stderr(), "{text}")
    } else {
        write!(io::stdout(), "{text}")
    };
    shown.expect("an output");
}

/// Runs the program that counts them, which is built beside this one.
fn allocations(common: &Common) -> Vec<Value> {
    let path = std::env::current_exe()
        .expect("this program")
        .with_file_name("allocations");
    if !path.is_file() {
        eprintln!("allocations are not counted: {} is not built", path.display());
        return Vec::new();
    }
    let list = |names: Vec<&str>| names.join(",");
    let mut command = Command::new(path);
    command
        .args(["--json", "--server", common.server.name()])
        .args(["--replicas", &common.replicas.to_string()])
        .args(["--sessions", &common.sessions.to_string()])
        .args([
            "--only",
            &list(common.operations().iter().map(|one| one.name()).collect()),
        ])
        .args([
            "--contenders",
            &list(common.contenders().iter().map(|one| one.name()).collect()),
        ])
        .stderr(Stdio::inherit());
    if !common.callers.is_empty() {
        let callers: Vec<String> = common.callers.iter().map(usize::to_string).collect();
        command.args(["--callers", &callers.join(",")]);
    }
    let output = command.output().expect("the program that counts allocations");
    assert!(
        output.status.success(),
        "the program that counts allocations failed"
    );
    serde_json::from_slice(&output.stdout).expect("its counts")
}

fn add_allocations(case: &mut Case, allocations: &[Value]) {
    let of_this = |one: &&Value| {
        one["operation"] == case.operation.name()
            && one["contender"] == case.contender.name()
            && one["concurrency"] == case.concurrency
    };
    if let Some(one) = allocations.iter().find(of_this) {
        case.allocations = one["allocations"].as_f64();
        case.allocated_bytes = one["bytes"].as_f64();
    }
}

fn version(common: &Common) -> String {
    let binary = common.server.binary().expect("the server's binary");
    let output = Command::new(binary)
        .arg("--version")
        .output()
        .expect("its version");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
