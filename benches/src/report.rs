//! What the comparison prints.

use std::fs;

use serde::Serialize;

use crate::{
    contenders::Contender, measure::median, operation::Operation, options::Common, placement::Placement,
    stage::Measured,
};

/// All of it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The arguments that it was made with.
    pub arguments: Vec<String>,
    /// Where.
    pub machine: Machine,
    /// The server, as `--version` says.
    pub server: String,
    /// How many replicas.
    pub replicas: u8,
    /// Rounds of each contender.
    pub rounds: usize,
    /// How long each was, in milliseconds.
    pub round_ms: u64,
    /// Sessions of each caller in a mix.
    pub sessions: usize,
    /// How far replicas were held back in the delayed mix, in milliseconds.
    pub delay_ms: u64,
    /// What was measured.
    pub cases: Vec<Case>,
}

/// The machine.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// Processors that this program may use.
    pub cores: usize,
    /// What they are, where the kernel says so.
    pub processor: Option<String>,
    /// The operating system.
    pub system: String,
}

impl Machine {
    /// This one.
    #[must_use]
    pub fn this() -> Self {
        let information = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = information
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map(|(_, name)| name.to_owned());
        let name = rustix::system::uname();
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor,
            system: [name.sysname(), name.release(), name.machine()]
                .map(|part| part.to_string_lossy().into_owned())
                .join(" "),
        }
    }
}

/// One contender at one operation with so many callers. Medians of its rounds.
#[derive(Debug, Serialize)]
pub struct Case {
    /// On which cores.
    pub pinning: Placement,
    /// What was done.
    pub operation: Operation,
    /// By how many callers.
    pub concurrency: usize,
    /// In which way.
    pub contender: Contender,
    /// How often.
    pub ops_per_second: f64,
    /// That, divided by redis-rs's figure of the same round.
    pub ratio: f64,
    /// The least and the largest of these ratios.
    pub ratio_range: [f64; 2],
    /// Median latency, in microseconds.
    pub p50_us: f64,
    /// The latency that 1 % exceed, in microseconds.
    pub p99_us: f64,
    /// The latency that 0.1 % exceed, in microseconds.
    pub p999_us: Option<f64>,
    /// Processor time of the client an operation, in microseconds.
    pub client_cpu_us: Option<f64>,
    /// Processor time of all servers an operation, in microseconds.
    pub server_cpu_us: f64,
    /// Of that, the primary's.
    pub primary_cpu_us: f64,
    /// Allocations of the client an operation.
    pub allocations: Option<f64>,
    /// Bytes that it allocated an operation.
    pub allocated_bytes: Option<f64>,
    /// The share of reads and writes together that were stale reads; in a mix only.
    pub stale_share: Option<f64>,
}

impl Case {
    /// From its rounds, and those of redis-rs.
    #[must_use]
    pub fn new(
        key: (Placement, Operation, usize, Contender),
        rounds: &[Measured],
        base: &[Measured],
    ) -> Self {
        let (pinning, operation, concurrency, contender) = key;
        let of = |what: fn(&Measured) -> f64| median(rounds.iter().map(what).collect());
        let perhaps = |what: fn(&Measured) -> Option<f64>| {
            let all: Option<Vec<f64>> = rounds.iter().map(what).collect();
            all.map(median)
        };
        let ratios: Vec<f64> = rounds
            .iter()
            .zip(base)
            .map(|(measured, base)| measured.round.per_second / base.round.per_second)
            .collect();
        let stale: u64 = rounds.iter().map(|measured| measured.round.stale).sum();
        let all: u64 = rounds.iter().map(|measured| measured.round.operations).sum();
        Self {
            pinning,
            operation,
            concurrency,
            contender,
            ops_per_second: of(|measured| measured.round.per_second),
            ratio_range: [
                ratios.iter().copied().fold(f64::INFINITY, f64::min),
                ratios.iter().copied().fold(0.0, f64::max),
            ],
            ratio: median(ratios),
            p50_us: of(|measured| measured.round.p50),
            p99_us: of(|measured| measured.round.p99),
            p999_us: perhaps(|measured| measured.round.p999),
            client_cpu_us: perhaps(|measured| measured.client_cpu),
            server_cpu_us: of(|measured| measured.server_cpu),
            primary_cpu_us: of(|measured| measured.primary_cpu),
            allocations: None,
            allocated_bytes: None,
            stale_share: operation.is_mix().then(|| stale as f64 / all.max(1) as f64),
        }
    }
}

/// What the columns are.
#[must_use]
pub fn legend(common: &Common, rounds: usize) -> String {
    format!(
        "{}, {} replica(s); medians of {rounds} interleaved rounds of {} ms; ratio to redis-rs of the same round (least-largest)\n\
         cpu: microseconds an operation of client / all servers / the primary alone; allocs: of the client, an operation",
        common.server.name(),
        common.replicas,
        common.millis
    )
}

/// The lines of one comparison.
#[must_use]
pub fn table(cases: &[Case]) -> String {
    let Some(first) = cases.first() else {
        return String::new();
    };
    let mut text = format!(
        "\n{:<42} {:>9} {:>5} {:>11} {:>8} {:>8} {:>8}  {:>19} {:>6}\n",
        format!(
            "{}, {} caller(s), {}",
            first.operation.name(),
            first.concurrency,
            first.pinning.name()
        ),
        "ops/s",
        "ratio",
        "range",
        "p50 µs",
        "p99 µs",
        "p99.9",
        "cpu µs c/s/p",
        "allocs"
    );
    for case in cases {
        let perhaps = |number: Option<f64>, digits: usize| {
            number.map_or_else(|| String::from("-"), |number| format!("{number:.digits$}"))
        };
        let stale = match case.stale_share {
            Some(share) if share > 0.0 => format!("  {:.2} % stale", 100.0 * share),
            _ => String::new(),
        };
        let cpu = format!(
            "{} / {:.2} / {:.2}",
            perhaps(case.client_cpu_us, 2),
            case.server_cpu_us,
            case.primary_cpu_us
        );
        text += &format!(
            "  {:<40} {:>9.0} {:>5.2} {:>11} {:>8.1} {:>8.1} {:>8}  {cpu:>19} {:>6}{stale}\n",
            case.contender.name(),
            case.ops_per_second,
            case.ratio,
            format!("{:.2}-{:.2}", case.ratio_range[0], case.ratio_range[1]),
            case.p50_us,
            case.p99_us,
            perhaps(case.p999_us, 1),
            perhaps(case.allocations, 1),
        );
    }
    text
}
