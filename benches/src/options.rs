//! What the programs are told.

use clap::Args;
use highwater_testkit::ServerKind;

use crate::{contenders::Contender, operation::Operation, placement::Placement};

const CALLERS: [usize; 5] = [1, 8, 64, 256, 1024];

/// Options that they share.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Which server, by the name that `cargo xtask setup --help` lists
    #[arg(long, value_name = "NAME", default_value = "redis")]
    pub server: ServerKind,
    /// How many replicas; plain clients spread their callers over them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub replicas: u8,
    /// Only these operations
    #[arg(long, value_name = "OPERATION,…", value_delimiter = ',')]
    pub only: Vec<Operation>,
    /// Only these contenders, and redis-rs
    #[arg(long, value_name = "CONTENDER,…", value_delimiter = ',')]
    pub contenders: Vec<Contender>,
    /// Leave redis-rs out: for a profiler. Ratios are then to the first of the others
    #[arg(long)]
    pub alone: bool,
    /// How many callers [default: 1, 8, 64, 256, 1024; the delayed mix: 256]
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    pub callers: Vec<usize>,
    /// How many sessions each caller of a mix has
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1000))]
    pub sessions: usize,
    /// How far the replicas are held back in the delayed mix, in milliseconds
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub delay_ms: u64,
    /// How long highwater's reads wait for a replica, in milliseconds [default: as the client has it]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=10_000))]
    pub max_wait_ms: Option<u64>,
    /// How long one contender's round is, in milliseconds
    #[arg(long, value_name = "N", default_value_t = 250, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub millis: u64,
    /// Threads of the client's runtime [default: as many as it has cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub workers: Option<u8>,
    /// Print one JSON object, and nothing else, on standard output
    #[arg(long)]
    pub json: bool,
}

impl Common {
    /// The operations, in order.
    #[must_use]
    pub fn operations(&self) -> Vec<Operation> {
        chosen(&self.only)
    }

    /// The contenders, in order, redis-rs first unless it is left out.
    #[must_use]
    pub fn contenders(&self) -> Vec<Contender> {
        let mut contenders = chosen(&self.contenders);
        if self.alone {
            return contenders;
        }
        contenders.retain(|contender| *contender != Contender::RedisRs);
        contenders.insert(0, Contender::RedisRs);
        contenders
    }

    /// The numbers of callers to measure this operation with, under this placement.
    #[must_use]
    pub fn concurrencies(&self, operation: Operation, placement: Placement) -> Vec<usize> {
        if !self.callers.is_empty() {
            return self.callers.clone();
        }
        let asked = |callers: usize| match placement {
            _ if operation == Operation::DelayedMix => callers == 256,
            // On one core, more callers measure only the kernel's scheduler.
            Placement::OneCore => callers == 1,
            Placement::Unpinned | Placement::Apart => true,
        };
        CALLERS.into_iter().filter(|callers| asked(*callers)).collect()
    }
}

/// All of them if none was chosen.
fn chosen<T: clap::ValueEnum + PartialEq>(chosen: &[T]) -> Vec<T> {
    let all = T::value_variants().iter();
    all.filter(|one| chosen.is_empty() || chosen.contains(one))
        .cloned()
        .collect()
}
